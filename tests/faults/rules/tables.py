"""slices.csv and patients.csv: damaged, of other encodings, with values that mean nothing or name other files."""

from random import Random

import pandas as pd

from ..base import Try, fine, rule, said, short
from ..material import World, predict_try, train_words
from ..values import TEXT_FILE, damage, rewrite


def table_of(world: World) -> pd.DataFrame:
    return pd.read_csv(world.data / "slices.csv", dtype=str, keep_default_na=False)


def save(world: World, table: pd.DataFrame) -> None:
    (world.data / "slices.csv").write_bytes(table.to_csv(index=False).encode("utf-8", "surrogatepass"))


def use(chance: Random, world: World, names: list, what: str, **more: object) -> Try:
    "Train on the data, or predict them."
    if chance.random() < 0.75:
        one = Try(train_words(world, aggregator_epochs=0.3, detector_epochs=0.3), names, input=what, **more)
    else:
        world.run  # noqa: B018
        one = predict_try(world, world.data, names=names, input=f"{what} (predict)", **more)
    return one


@rule(3)
def damaged(chance: Random, world: World) -> Try:
    "slices.csv damaged in any way that a file can be; a shorter table is another table."
    path = world.data / "slices.csv"
    what = damage(chance, path, TEXT_FILE)
    shorter = fine if "cut to" in what and "cut to 0 " not in what and "cut to 1 " not in what else None
    deleted = fine if what.endswith("deleted") else None  # then the layout of the folder speaks
    return use(chance, world, ["slices.csv", str(world.data), "split", "class", "slice"], what, fine=shorter or deleted)


@rule(2)
def encodings(chance: Random, world: World) -> Try:
    "Other encodings, separators and quotes; those of a spreadsheet."
    path = world.data / "slices.csv"
    text = path.read_text()
    kind = chance.choice(
        ["utf-8-sig", "utf-16", "utf-32", "semicolon", "tabs", "crlf", "cr", "quotes", "open quote", "blank lines"]
    )
    content = {
        "semicolon": text.replace(",", ";"),
        "tabs": text.replace(",", "\t"),
        "crlf": text.replace("\n", "\r\n"),
        "cr": text.replace("\n", "\r"),
        "quotes": "\n".join(",".join(f'"{word}"' for word in line.split(",")) for line in text.splitlines()),
        "open quote": text.replace("P0003", '"P0003', 1),
        "blank lines": text.replace("\n", "\n\n"),
    }.get(kind, text)
    rewrite(path, content.encode(kind if kind.startswith("utf") else "utf-8"))
    harmless = fine if kind in ("utf-8-sig", "crlf", "cr", "quotes", "blank lines") else None
    return use(chance, world, ["slices.csv"], f"slices.csv: {kind}", fine=harmless)


CELLS = {  # column -> values that mean nothing there
    "id": ["", " ", "a" * 10_000, "x\x00y", "../../mine", "/etc/passwd", "CON", "é💥", "a/b", "..", ".", "two\nlines"],
    "patient": ["", " ", "p" * 10_000, "\x00", "two\nlines"],
    "index": ["first", "1.5", "inf", "9" * 400, "1e3", "-1", "nan", "１２"],
    "image": ["", "nowhere.png", "../../canary.png", ".", "/dev/zero", "/etc/passwd", "\x00", "x" * 5000, "é.png"],
    "mask": ["nowhere.png", "../../canary.png", ".", "/dev/zero", "/etc/passwd", "\x00", "x" * 5000],
    "mask_values": [
        "1=2",
        "1:2:3",
        "256:1",
        "1:256",
        "-1:2",
        "1:-1",
        "1:9",
        "a:b",
        "1.5:2",
        "1:2 1:3",
        "9" * 400 + ":1",
        ":",
    ],
    "transpose": ["maybe", "2", "yes", "nan", "True ", "0.5", "-1"],
    "split": ["training", "Test", " ", "train ", "0", "nan"],
    "label": ["Covid", "normal", " ", "CP ", "2", "nan", "é", "x" * 5000],
    "scan": ["", "s" * 10_000, "\x00"],
    "source": ["s" * 10_000, "\x00", "a/b"],
    "person": ["p" * 10_000, " "],
}
REFUSED = {
    "id": {"", " ", "x\x00y"},
    "patient": {"\x00"},  # a blank one is unknown, which is said
    "index": {"first", "1.5", "inf", "9" * 400, "nan"},
    "image": "all",
    "mask": "all",
    "mask_values": "all",
    "transpose": {"maybe", "2", "nan", "0.5", "-1"},
    "split": {"training", "Test", "0", "nan"},
    "label": {"Covid", "normal", "2", "nan", "é", "x" * 5000},
    "scan": {"\x00"},
    "source": {"\x00"},
    "person": set(),
}


@rule(9)
def cell(chance: Random, world: World) -> Try:
    "One cell of the table with a value that means nothing there, or names something else."
    table, column = table_of(world), chance.choice(sorted(CELLS))
    value, row = chance.choice(CELLS[column]), chance.randrange(len(table))
    if column not in table:
        table[column] = ""
    if column == "mask_values":
        row = int(table.index[table["mask"] != ""][0])
    table.loc[row, column] = value
    save(world, table)
    refused = REFUSED[column] == "all" or value in REFUSED[column]
    what = f"slices.csv: {column} of slice {row + 1} is {short(value, 60)}"
    names = [
        "slices.csv",
        column,
        table.loc[row, "id"][:20] or "''",
        str(table.loc[row, "image"])[:40],
        "split",
        "class",
    ]
    one = use(chance, world, names, what, fine=None if refused else fine)
    if column in ("mask", "mask_values", "split") and one.words[0] == "predict":  # prediction reads no truth
        one.fine = fine
    return one


@rule(3)
def twins(chance: Random, world: World) -> Try:
    "Patients that differ by a blank or by case are said; ids that do, or that are the same, are told apart or refused."
    table, kind = table_of(world), chance.choice(["blank", "case", "same id", "case id", "blank id"])
    patient = table["patient"].iloc[0]
    rows = table.index[table["patient"] == patient]
    if kind == "blank":
        table.loc[rows[0], "patient"] = patient + " "
    elif kind == "case":
        table.loc[rows[0], "patient"] = patient.lower()
    elif kind == "same id":
        table.loc[1, "id"] = table.loc[0, "id"]
    else:
        table.loc[1, "id"] = table.loc[0, "id"] + " " if kind == "blank id" else table.loc[0, "id"].lower()
    save(world, table)
    check = {"blank": said(patient, "blank", "patient"), "case": said(patient.lower(), "case"), "same id": None}.get(
        kind, fine
    )
    one = use(chance, world, ["slices.csv", table.loc[1, "id"], patient], f"twins: {kind}", fine=check)
    if one.words[0] == "predict" and kind in ("blank", "case"):
        one.fine = fine
    return one


@rule(3)
def foreign_files(chance: Random, world: World) -> Try:
    "Ids that climb out of the folder of results: nothing beside it is written."
    table = table_of(world)
    victim = chance.choice(
        ["../../canary", f"{world.scratch}/canary", "../../world/data/slices", "../lesions.coco", "a/../../../canary"]
    )
    table.loc[0, "id"] = victim
    if chance.random() < 0.3:
        table.loc[1, "id"] = victim.upper()
    save(world, table)
    world.run  # noqa: B018
    return predict_try(world, world.data, names=[victim, "slices.csv"], fine=_all_pictured, input=f"an id {victim}")


def _all_pictured(outcome) -> str:
    "Each slice has an entry and a picture of its own."
    import json

    slices = json.loads((outcome.scratch / "out" / "predictions.json").read_text())["slices"]
    pictures = list((outcome.scratch / "out" / "overlays").rglob("*.png"))
    return "" if len(pictures) == len(slices) else f"{len(slices)} slices, {len(pictures)} pictures"


@rule(3)
def columns(chance: Random, world: World) -> Try:
    "Columns that are missing, unknown, or there twice; rows that are too long or too short."
    table, path = table_of(world), world.data / "slices.csv"
    kind = chance.choice(
        ["missing", "unknown", "twice", "long row", "short row", "no header", "header only", "blank name", "order"]
    )
    column = chance.choice(["id", "patient", "image"])
    if kind == "missing":
        save(world, table.drop(columns=column))
    elif kind == "unknown":
        save(world, table.rename(columns={"label": chance.choice(["Label", "labels", "x" * 3000, "é", " label"])}))
    elif kind == "order":
        save(world, table[list(reversed(table.columns))])
    else:
        lines = path.read_text().splitlines()
        if kind == "twice":
            lines = [f"{line},{word}" for line, word in zip(lines, [column, *["x"] * len(lines)])]
        elif kind == "long row":
            lines[3] += ",1,2,3,4,5"
        elif kind == "short row":
            lines[3] = lines[3].split(",")[0]
        elif kind == "blank name":
            lines[0] = lines[0].replace("label", "")
        lines = lines[:1] if kind == "header only" else lines[1:] if kind == "no header" else lines
        path.write_text("\n".join(lines) + "\n")
    harmless = fine if kind == "order" else None
    return use(
        chance, world, ["slices.csv", column, "label", "slice P0"], f"slices.csv: {kind} ({column})", fine=harmless
    )


@rule(2)
def splits(chance: Random, world: World) -> Try:
    "Splits that lack a class or a lesion, or that a patient crosses."
    table, kind = (
        table_of(world),
        chance.choice(["all train", "all test", "crossing", "one class", "no label", "no mask"]),
    )
    if kind in ("all train", "all test"):
        table["split"] = kind.split()[1]
    elif kind == "crossing":
        table["split"] = [chance.choice(["train", "validation", "test"]) for _ in range(len(table))]
    elif kind == "one class":
        table["label"] = "CP"
    elif kind == "no label":
        table["label"] = ""
    else:
        table["mask"] = ""
    save(world, table)
    names = ["slices.csv", "split", "class", "lesion", "label", "patient"]
    one = use(chance, world, names, f"slices.csv: {kind}")
    one.fine = fine if one.words[0] == "predict" else None
    return one


@rule(4)
def patients(chance: Random, world: World) -> Try:
    "patients.csv: damaged, of other people, contradictory."
    table, path = table_of(world), world.data / "patients.csv"
    people = sorted(set(zip(table["source"], table["patient"])))
    rows = ["source,patient,person", *(f"{source},{patient},person{n}" for n, (source, patient) in enumerate(people))]
    kind = chance.choice(
        [
            "good",
            "file",
            "missing column",
            "unknown source",
            "no person",
            "contradiction",
            "nobody",
            "nul",
            "pipe",
            "long",
        ]
    )
    if kind == "missing column":
        rows = [row.rpartition(",")[0] for row in rows]
    elif kind == "unknown source":
        rows[2] = "elsewhere," + rows[2].partition(",")[2]
    elif kind == "no person":
        rows[2] = rows[2].rpartition(",")[0] + ","
    elif kind == "contradiction":
        rows.append(rows[1].rpartition(",")[0] + ",somebody")
    elif kind == "nobody":
        rows = [rows[0], *(row.replace("P0", "Q0") for row in rows[1:])]
    elif kind == "nul":
        rows[2] = rows[2].replace("person", "\x00")
    elif kind == "long":
        rows[2] += "n" * 10_000
    path.write_text("\n".join(rows) + "\n")
    what = f"patients.csv: {kind}"
    if kind in ("file", "pipe"):
        what = damage(chance, path, TEXT_FILE if kind == "file" else {"pipe": TEXT_FILE["pipe"]})
    shorter = kind == "file" and any(word in what for word in ("cut to", "deleted", "header"))
    return use(
        chance, world, ["patients.csv", "person"], what, fine=fine if kind in ("good", "long") or shorter else None
    )


@rule(1)
def layouts(chance: Random, world: World) -> Try:
    "Folders in a known layout with names that are none."
    (world.data / "slices.csv").unlink()
    kind = chance.choice(
        ["lesion without mask", "long name", "strange name", "folder as picture", "empty folder", "two of a name"]
    )
    picture = next(iter(sorted((world.data / "image").rglob("*.jpg"))))
    if kind == "lesion without mask":
        (world.data / "mask" / picture.parent.name / f"{picture.stem}.png").unlink()
    elif kind == "empty folder":
        import shutil

        for path in world.data.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    else:
        name = {
            "long name": "n" * 240,
            "strange name": "é\u202e\n",
            "folder as picture": "f",
            "two of a name": world.picture.stem,
        }[kind]
        target = world.picture.parent / f"{name}{'.PNG' if kind == 'two of a name' else '.png'}"
        if kind == "folder as picture":
            target.mkdir()
        else:
            target.write_bytes(world.picture.read_bytes())
    harmless = fine if kind in ("long name", "strange name", "folder as picture", "two of a name") else None
    return use(chance, world, ["mask", str(world.data), "no slices"], f"layout: {kind}", fine=harmless)
