"""Study folders: manifest, states, cells, scores and runs damaged; the other cells are shown as they are."""

import json
import shutil
from pathlib import Path
from random import Random

from ..base import Check, Outcome, Try, fine, rule, short
from ..material import RESULTS, World
from ..values import JSON_FILE, TEXT_FILE, damage, dump, removed, retyped

OWN = ("world/study", "out")


def cells(world: World) -> list[Path]:
    "The folders of the cells: two finished, one failed, one queued."
    manifest = json.loads((world.study / "manifest.json").read_text())
    return [world.study / entry["folder"] for entry in manifest["cells"]]


def use(chance: Random, world: World, names: list, what: str, cell: str = "") -> Try:
    "status or report; all cells but the damaged one are as they were."
    command = chance.choice(["status", "report"])
    words = [command, world.study, *(["--no-notebook"] if command == "report" else [])]
    check = others_as_they_were(world, command, cell)
    return Try(words, [*names, "manifest.json", str(world.study)], check, OWN, input=f"{command}: {what}")


def others_as_they_were(world: World, command: str, cell: str) -> Check:
    "Exit 0 is right where each cell but the damaged one (empty: all) is shown as without damage."
    wanted = world.same(command)  # computes the reference
    reference = world.material.results[command]

    def check(outcome: Outcome) -> str:
        if not cell:
            return wanted(outcome)
        try:
            found = RESULTS[command](outcome)
        except OSError as error:
            return f"the report cannot be read: {error}"
        for name, row in reference.items():
            now = found.get(name)
            if not (_honest(now, row) if name.rpartition("/")[2] == cell else now == row):
                return f"{name}: {short(now)} instead of {short(row)}"
        return ""

    return check


def _honest(now: object, row: object) -> bool:
    "Whether a damaged cell is shown as such, or left out, or with nothing but the figures that it had."
    if isinstance(now, dict):
        figures = {name: value for name, value in now.items() if not name.endswith("(seeds)")}  # but how many there are
        return all(row.get(name, value) == value for name, value in figures.items())
    return now is None or now == row or "damaged" in str(now)


MANIFEST = dict(JSON_FILE)


@rule(4)
def manifest(chance: Random, world: World) -> Try:
    "The manifest damaged, or a field of it missing or of another type."
    path = world.study / "manifest.json"
    kind = chance.choice(["file", "type", "type", "type", "missing", "missing"])
    if kind == "file":
        what, names = damage(chance, path, MANIFEST), ["manifest.json"]
    else:
        way, what = (retyped if kind == "type" else removed)(chance, path)
        names = [str(way[-1]), *map(str, way[:2])]
    one = use(chance, world, names, what)
    if kind != "file":  # what stands in the settings or the record of a cell may change what is shown of it
        one.fine = fine
    return one


@rule(4)
def state(chance: Random, world: World) -> Try:
    "state.json of a finished cell damaged, or with fields missing or of other types."
    return _of_cell(chance, world, "state.json", chance.choice([0, 0, 2]))


@rule(4)
def scores(chance: Random, world: World) -> Try:
    "metrics.json, cost.json, history.csv of a finished cell."
    return _of_cell(
        chance, world, chance.choice(["run/metrics.json", "run/metrics.json", "run/cost.json", "run/history.csv"]), 0
    )


@rule(2)
def cell_files(chance: Random, world: World) -> Try:
    "cell.json, experiment.json, failure.json."
    name, number = chance.choice(
        [("cell.json", 0), ("run/experiment.json", 0), ("failure.json", 2), ("run/slices.csv", 0)]
    )
    return _of_cell(chance, world, name, number)


def _of_cell(chance: Random, world: World, name: str, number: int) -> Try:
    folder = cells(world)[number]
    path, label = folder / name, folder.name.rpartition("-")[0]
    kind = chance.choice(["file", "type", "type", "missing"])
    if kind == "file" or path.suffix != ".json":
        what = damage(chance, path, JSON_FILE if path.suffix == ".json" else TEXT_FILE)
    elif kind == "type":
        _, what = retyped(chance, path)
    else:
        _, what = removed(chance, path)
    return use(chance, world, [name, path.name, folder.name, label], f"{label}: {what}", label)


@rule(2)
def lost(chance: Random, world: World) -> Try:
    "The run of a finished cell, its folder, or all cells gone."
    folder = cells(world)[chance.choice([0, 1, 2, 3])]
    kind = chance.choice(["run", "cell", "state", "metrics", "shared", "notebooks", "a file in place of the cell"])
    if kind == "a file in place of the cell":
        shutil.rmtree(folder)
        folder.write_text("x")
    else:
        gone = {
            "run": folder / "run",
            "cell": folder,
            "state": folder / "state.json",
            "metrics": folder / "run" / "metrics.json",
        }
        gone |= {"shared": world.study / "shared", "notebooks": world.study / "notebooks"}
        path = gone[kind]
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    return use(chance, world, [folder.name], f"{folder.name}: {kind}", folder.name.rpartition("-")[0])


@rule(2)
def newer(chance: Random, world: World) -> Try:
    "A study of a newer version is refused; of an older one, or with more fields, it is read."
    path = world.study / "manifest.json"
    content, kind = json.loads(path.read_text()), chance.choice(["newer", "older", "more"])
    if kind == "newer":
        content["format"] = 99
    elif kind == "older":
        content.pop("format", None)
    else:
        content["later"] = content["record"]["later"] = "x"
    dump(path, content)
    one = use(chance, world, ["newer", "format", "version"], f"manifest.json: {kind}")
    one.fine = None if kind == "newer" else fine if kind == "more" else one.fine
    return one


@rule(2)
def code(chance: Random, world: World) -> Try:
    "A study of somebody else names a file of models: it is not imported, and says nothing into the page unescaped."
    path = world.study / "manifest.json"
    content = json.loads(path.read_text())
    kind = chance.choice(["models", "models missing", "size", "status", "cell folder", "cell name"])
    models = world.scratch / "mine.py"
    models.write_text(f"import pathlib\npathlib.Path({str(world.canary)!r}).write_text('gone')\n")
    script = "<script>alert(1)</script>"
    if kind == "models":
        content["models"] = str(models)
    elif kind == "models missing":
        content["models"] = "/nowhere/models.py"
    elif kind == "size":
        content["size"] = script
    elif kind == "cell folder":
        content["cells"][0]["folder"] = chance.choice(["../../../canary.png", "/etc", "../..", "", "."])
    elif kind == "cell name":
        content["cells"][0]["cell"]["name"] = script
    dump(path, content)
    if kind == "status":
        where = cells(world)[0] / "state.json"
        dump(where, json.loads(where.read_text()) | {"status": script})
    names = ["manifest.json", "state.json", "models", "size", "folder", str(world.study)]
    words = ["report", world.study, "--no-notebook"] if chance.random() < 0.6 else ["status", world.study]
    return Try(words, names, _escaped, OWN, input=f"{words[0]}: {kind}")


def _escaped(outcome: Outcome) -> str:
    pages = list((outcome.scratch / "world" / "study" / "report").glob("*.html"))
    return "the page holds the script" if any("<script>alert(1)" in page.read_text() for page in pages) else ""


@rule(1)
def resumed(chance: Random, world: World) -> Try:
    "ablate --resume over a damaged study: refused, or the damaged cell is run again."
    folder = cells(world)[0]
    kind = chance.choice(["state", "manifest", "run gone", "other data", "other study"])
    shutil.copy(world.material.root / "world" / "study.json", world.scratch / "study.json")
    words = ["ablate", world.scratch / "study.json", "--out", world.study, "--resume", "--no-estimate", "--no-notebook"]
    what = kind
    if kind == "state":
        what = damage(chance, folder / "state.json", JSON_FILE)
    elif kind == "manifest":
        what = damage(chance, world.study / "manifest.json", JSON_FILE)
    elif kind == "run gone":
        shutil.rmtree(folder / "run")
    elif kind == "other data":
        words += ["--data", world.data]
    else:
        dump(world.scratch / "study.json", {"name": "other", "axes": {"seed": [7]}, "settings": {"hidden_size": 8}})
    harmless = None if kind.startswith("other") else fine
    names = ["manifest.json", "state.json", "study", str(world.study)]
    return Try(words, names, harmless, OWN, begun=folder, input=f"ablate --resume: {what}", quiet=kind == "run gone")


@rule(1)
def interval(chance: Random, world: World) -> Try:
    "Scores of a split with one labelled patient: an interval of nothing is shown as such."
    path = cells(world)[0] / "run" / "metrics.json"
    content = json.loads(path.read_text())
    value = chance.choice([None, [None, None], [], [0.1]])
    content["test"]["classification"]["f1_interval"] = value
    dump(path, content)
    label = cells(world)[0].name.rpartition("-")[0]
    one = use(chance, world, ["metrics.json", "f1_interval", label], f"f1_interval is {value}", label)
    return one
