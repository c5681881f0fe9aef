"""Run folders: files damaged, fields of other types or missing, tables cut, newer formats; what each command says."""

import json
from random import Random

from ..base import Try, either, fine, rule, said
from ..material import World, evaluate_try, predict_try, settings
from ..values import JSON_FILE, TEXT_FILE, damage, dump, removed, retyped

FILES = {  # what a run holds -> how it can be damaged
    "experiment.json": JSON_FILE,
    "slices.csv": TEXT_FILE,
    "metrics.json": JSON_FILE,
    "predictions.csv": TEXT_FILE,
    "history.csv": TEXT_FILE,
    "cost.json": JSON_FILE,
    "warm_start.json": JSON_FILE,
    "log.txt": TEXT_FILE,
    ".lock": TEXT_FILE,
}
ALL = ("world/run", "world/shared", "out")  # commands on a run under attack may mend it


def use(
    chance: Random, world: World, names: list, what: str, commands: str = "evaluate predict resume from lab"
) -> Try:
    "A command on the run of the world, whose result is that of the untouched one, or which is refused."
    command = chance.choice(commands.split())
    if command == "evaluate":
        one = evaluate_try(world, fine=world.same("evaluate"))
        one.changes = ALL
    elif command == "predict":
        one = predict_try(world, world.picture, fine=world.same("predict-one"))
    elif command == "resume":
        words = [
            "train",
            world.run,
            "--preset",
            "smoke",
            "--data",
            world.data,
            "--resume",
            "--set",
            *settings(model="attention"),
        ]
        one = Try(words, fine=fine, changes=ALL)
    elif command == "from":
        words = [
            "train",
            world.out / "run",
            "--from",
            world.run,
            "--data",
            world.data,
            "--set",
            "classes=Normal,COVID-19",
            "epochs=0.1",
        ]
        one = Try(words, fine=fine)
    else:
        from .options import _no_server

        one = Try(["lab", world.run, "--folder", world.out, "--no-browser"], fine=fine, before=_no_server)
    one.names, one.input = [*names, str(world.run)], f"{command}: {what}"
    return one


@rule(5)
def damaged(chance: Random, world: World) -> Try:
    "A file of the run damaged; those that a command does not need do not stop it."
    name = chance.choice([*FILES, "experiment.json", "slices.csv"])
    what = damage(chance, world.run / name, FILES[name])
    return use(chance, world, [name], what)


@rule(6)
def retyped_experiment(chance: Random, world: World) -> Try:
    "A setting or a fact of the record of another type."
    path = world.run / "experiment.json"
    way, what = retyped(chance, path)
    return use(chance, world, ["experiment.json", str(way[-1])], what, "evaluate predict evaluate")


@rule(4)
def removed_field(chance: Random, world: World) -> Try:
    "A field that is missing is not filled in from elsewhere."
    path = world.run / "experiment.json"
    way, what = removed(chance, path)
    return use(chance, world, ["experiment.json", str(way[-1])], what, "evaluate predict evaluate")


@rule(4)
def retyped_other(chance: Random, world: World) -> Try:
    "Scores, costs or the way to the detector, with values of other types."
    name = chance.choice(["metrics.json", "cost.json", "warm_start.json"])
    way, what = retyped(chance, world.run / name)
    return use(chance, world, [name, str(way[-1])], what)


@rule(3)
def cut_table(chance: Random, world: World) -> Try:
    "slices.csv of the run cut or edited: never scores on what is left."
    path = world.run / "slices.csv"
    lines = path.read_text().splitlines()
    kind = chance.choice(["bytes", "lines", "row out", "label", "split", "image", "column"])
    if kind == "bytes":
        content = path.read_text()
        path.write_text(content[: chance.randrange(100, len(content) - 1)])
    elif kind == "lines":
        path.write_text("\n".join(lines[: chance.randrange(1, len(lines) - 1)]) + "\n")
    elif kind == "row out":
        del lines[chance.randrange(1, len(lines))]
        path.write_text("\n".join(lines) + "\n")
    elif kind == "label":
        path.write_text(path.read_text().replace("COVID-19", "CP", 3))
    elif kind == "split":
        path.write_text(path.read_text().replace(",train,", ",test,", 4))
    elif kind == "image":
        path.write_text(path.read_text().replace(lines[1].split(",")[4], lines[5].split(",")[4], 1))
    else:
        path.write_text("\n".join(line.rpartition(",")[0] for line in lines) + "\n")
    what = f"slices.csv of the run: {kind}"
    one = use(chance, world, ["slices.csv", "changed", "data"], what, "evaluate evaluate resume")
    if one.words[0] == "train":
        one.fine = fine  # a complete run is left alone
    return one


@rule(2)
def settings_changed(chance: Random, world: World) -> Try:
    "Settings of the run that do not fit its weights any more."
    path = world.run / "experiment.json"
    content = json.loads(path.read_text())
    group, name, value = chance.choice(
        [
            ("one_shot", "classes", ["Normal", "CP"]),
            ("one_shot", "classes", ["COVID-19", "CP", "Normal"]),
            ("one_shot", "hidden_size", 16),
            ("one_shot", "model", "lstm2"),
            ("one_shot", "model", "mask-rcnn"),
            ("one_shot", "model", "nosuch"),
            ("one_shot", "roi_batch", 10**6),
            ("detector", "backbone", "resnet50"),
            ("detector", "fpn_channels", 16),
            ("data", "objects", "lung+lesions"),
            ("data", "image_size", 10**6),
            ("data", "source", "../../nowhere"),
            ("training", "threads", 10**9),
            ("training", "device", "cuda"),
        ]
    )
    content[group][name] = value
    dump(path, content)
    one = use(chance, world, ["experiment.json", "weights.safetensors", name], f"{name}={value}", "evaluate predict")
    unseen = name in ("source", "threads", "device", "classes") or (name == "roi_batch" and value < 99)
    if name == "classes" and value[0] == "COVID-19":  # a permutation: no file says that it was another
        one.fine = either(one.fine, said("classes"))
    elif not unseen:
        one.fine = None
    return one


@rule(2)
def newer(chance: Random, world: World) -> Try:
    "A run of a newer version is refused; one of an older version, or with more fields, is read."
    path = world.run / "experiment.json"
    content = json.loads(path.read_text())
    kind = chance.choice(["newer", "older", "more", "words"])
    if kind == "newer":
        content["format"] = chance.choice([99, 10**30])
    elif kind == "older":
        content.pop("format", None)
    elif kind == "more":
        content["later"] = {"x": 1}
        content["record"]["later"] = "x"
    else:
        content["format"] = chance.choice(["x", None, [], -1, 1.5, {}])
    dump(path, content)
    one = use(chance, world, ["format", "newer", "version"], f"format: {kind}", "evaluate predict")
    one.fine = one.fine if kind != "newer" else None
    return one


@rule(2)
def lost_parts(chance: Random, world: World) -> Try:
    "The data, the detector or the shared folder of a run gone, or something else there."
    kind = chance.choice(
        ["data", "shared", "detector weights", "data table", "data a file", "root elsewhere", "root a device"]
    )
    world.run  # noqa: B018
    picture = world.scratch / "slice.png"
    picture.write_bytes(world.picture.read_bytes())
    import shutil

    if kind in ("data", "shared"):
        shutil.rmtree(world.scratch / "world" / kind)
    elif kind == "detector weights":
        next((world.scratch / "world" / "shared").glob("detector-*/weights.safetensors")).unlink()
    elif kind == "data table":
        (world.data / "slices.csv").unlink()
    elif kind == "data a file":
        shutil.rmtree(world.scratch / "world" / "data")
        (world.scratch / "world" / "data").write_text("x")
    else:
        path = world.run / "experiment.json"
        content = json.loads(path.read_text())
        content["record"]["data_root"] = str(world.scratch) if kind == "root elsewhere" else "/dev/null"
        content["record"]["data_beside"] = chance.choice(["..", "../../..", "/", "\x00"])
        dump(path, content)
    names = ["data", "slice", "shared", "detector", str(world.run)]
    one = evaluate_try(world, names=names, fine=world.same("evaluate"), input=f"evaluate: {kind} gone or wrong")
    if chance.random() < 0.4:
        one = predict_try(world, picture, names=names, fine=fine, input=f"predict: {kind} gone or wrong")
    return one


@rule(2)
def checkpoint(chance: Random, world: World) -> Try:
    "A run that is not complete, with a checkpoint that is damaged or another's."
    import shutil

    run = world.run
    kind = chance.choice(["weights as checkpoint", "damaged", "none"])
    if kind != "none":
        shutil.copy(run / "weights.safetensors", run / "checkpoint.safetensors")
    (run / "weights.safetensors").unlink()
    if kind == "damaged":
        kind = damage(chance, run / "checkpoint.safetensors", TEXT_FILE)
    one = use(
        chance,
        world,
        ["checkpoint.safetensors", "not complete", "weights"],
        kind,
        "resume resume evaluate predict from",
    )
    one.fine = fine if one.words[0] == "train" and "--from" not in one.words else None
    return one
