"""JSON files of settings and studies: damaged, nested, of wrong types, with unknown names, or with too many cells."""

import json
import os
from pathlib import Path
from random import Random

from ..base import Try, fine, rule
from ..material import SETTINGS, STUDY, World
from ..values import JSON_FILE, JSONS, damage, dotted, dump, retyped

CONFIG = {"preset": "smoke"} | {
    name: list(value) if isinstance(value, tuple) else value for name, value in SETTINGS.items()
}
GROUPED = {"preset": "smoke", "training": {"seed": 0, "epochs": 0.1, "threads": 1}, "data": {"image_size": 64}}


def _plain(content: dict) -> dict:
    return json.loads(json.dumps(content, default=list))


def train_config(world: World, config: Path, **more: object) -> Try:
    words = ["train", world.out / "run", "--config", config, "--data", world.data]
    return Try(words, **{"begun": world.out / "run" / "experiment.json"} | more)


def dry(world: World, study: Path, **more: object) -> Try:
    "The cells of a study file are made and counted; none is started."
    return Try(["ablate", study, "--out", world.out, "--dry-run", "--no-estimate"], changes=(), **more)


@rule(3)
def damaged(chance: Random, world: World) -> Try:
    "A file of settings, or of a study, that is no JSON object any more, or no file."
    path = world.scratch / chance.choice(["config.json", "study.json"])
    train = path.name == "config.json"
    dump(path, _plain(CONFIG if train else STUDY))
    what = damage(chance, path, JSON_FILE)
    harmless = fine if train and "empty object" in what else None  # no settings: those of the preset paper
    one = train_config(world, path) if train else dry(world, path)
    one.names, one.input, one.fine = [path.name], what, harmless
    return one


@rule(4)
def retyped_config(chance: Random, world: World) -> Try:
    "Values of other types in a file of settings: refused, unless they say the same in other words."
    path = world.scratch / "config.json"
    dump(path, _plain(chance.choice([CONFIG, GROUPED])))
    way, what = retyped(chance, path)
    return train_config(world, path, names=[str(way[0]), str(way[-1]), path.name], input=what, fine=fine)


@rule(5)
def retyped_study(chance: Random, world: World) -> Try:
    "Values of other types in the file of a study."
    path = world.scratch / "study.json"
    dump(path, _plain(chance.choice([STUDY, GRIDS])))
    way, what = retyped(chance, path)
    return dry(world, path, names=[str(way[0]), str(way[-1]), "study.json", "study"], input=what, fine=fine)


GRIDS = {
    "name": "grids",
    "question": "?",
    "grids": [
        {
            "axes": {"model": ["lstm1", "lstm2"], "seed": [0, 1]},
            "settings": {"hidden_size": 8},
            "skip": [{"seed": "1"}],
        },
        {"axes": {"classes": {"two": {"classes": "Normal,CP"}}}, "after": {"model": "lstm2"}, "target": False},
    ],
    "tables": [
        {"title": "T", "rows": ["model"], "figures": ["weighted F1"], "where": {"seed": "0"}, "printed": {"lstm1": "x"}}
    ],
    "sizes": {"smoke": {"epochs": 1}},
    "settings": {"backbone": "resnet18"},
}


@rule(2)
def unknown(chance: Random, world: World) -> Try:
    "Names that are unknown or misspelt, at any depth: never ignored."
    study = chance.random() < 0.7
    path = world.scratch / ("study.json" if study else "config.json")
    content = _plain(GRIDS if study else CONFIG)
    if study:
        ways = [("qestion",), ("grids", 0, "axis"), ("grids", 0, "settings", "bakbone"), ("tables", 0, "colour")]
        ways += [
            ("sizes", "smokee"),
            ("sizes", "smoke", "epoch"),
            ("settings", "hidden"),
            ("grids", 0, "axes", "modle"),
        ]
        ways += [("tables", 0, "where", "sed"), ("target", "x")]
    else:
        ways = [("bakbone",), ("trainig",), ("training",), ("recrod",), ("é" * 50,)]
    way = chance.choice(ways)
    value = [1] if way[-1] in ("axis", "modle") else {"epochs": 1} if way[-1] in ("smokee", "trainig") else {"zz": 1}
    put_new(content, way, value if way != ("training",) else {"sed": 1})
    dump(path, content)
    one = dry(world, path) if study else train_config(world, path)
    one.names, one.input = [str(way[-1]), "sed", "zz"], f"{path.name}: {dotted(way)} is no name"
    return one


def put_new(content: dict, way: tuple, value: object) -> None:
    for name in way[:-1]:
        content = content[name] if isinstance(name, int) or name in content else content.setdefault(name, {})
    content[way[-1]] = value


@rule(2)
def figures(chance: Random, world: World) -> Try:
    "A table of figures, axes or papers that are none."
    content, field = _plain(STUDY), chance.choice(["figures", "rows", "published", "where", "printed"])
    wrong = {
        "figures": ["weigthed F1"],
        "rows": ["modle"],
        "published": ["no-paper", "IX"],
        "where": {"modle": "lstm1"},
        "printed": {"lstm9": "x"},
    }[field]
    content["tables"][0][field] = wrong
    dump(world.scratch / "study.json", content)
    harmless = fine if field == "printed" else None
    names = ["weigthed F1", "modle", "no-paper", "printed"]
    return dry(world, world.scratch / "study.json", names=names, fine=harmless, input=f"tables.0.{field} is {wrong}")


@rule(2)
def huge(chance: Random, world: World) -> Try:
    "Grids beyond counting: said before they are made."
    content = _plain(STUDY)
    kind = chance.choice(["product", "seeds", "many", "labels"])
    if kind == "product":
        content["axes"] = {name: list(range(1000)) for name in ("seed", "split_seed", "warmup")}
    elif kind == "seeds":
        content["axes"] = {"seed": list(range(300_000))}
    elif kind == "many":
        content["axes"] |= {name: [0, 1] for name in ("seed", "split_seed", "warmup", "gradient_clip", "weight_decay")}
        content["axes"] |= {
            name: [1, 2, 3, 4, 5, 6, 7, 8, 9] for name in ("roi_samples", "epochs", "levels", "mask_layers")
        }
        content["axes"] |= {"hidden_size": list(range(8, 300))}
    else:
        content["axes"] = {"x": {"l" * 50_000: {"seed": 1}}}
    dump(world.scratch / "study.json", content)
    names = ["cells", "study.json", "seed", "axis", "study", "cell"]
    return dry(
        world,
        world.scratch / "study.json",
        names=names,
        input=f"a grid: {kind}",
        fine=fine if kind == "labels" else None,
    )


@rule(2)
def axes(chance: Random, world: World) -> Try:
    "Axes and cells that cannot be: no values, twice the same, a value of a wrong kind, a circle."
    content = _plain(GRIDS)
    grid = content["grids"][0]
    case = chance.randrange(10)
    if case == 0:
        grid["axes"] = {}
    elif case == 1:
        grid["axes"]["seed"] = chance.choice([[], {}, "abc", 5, None, {"a": 5}])
    elif case == 2:
        grid["axes"]["seed"] = [0, 0]
    elif case == 3:
        grid["axes"]["seed"] = [chance.choice(JSONS)]
    elif case == 4:
        grid["after"] = {"model": "lstm2"}
    elif case == 5:
        content["grids"][1]["after"] = {"model": chance.choice(["nothing", ["lstm1", "lstm2"], 5, {}])}
    elif case == 6:
        grid["skip"] = [chance.choice([{"model": ["lstm1", "lstm2"]}, {"x": 1}, 5, "model", [], None])]
    elif case == 7:
        content["name"] = chance.choice(["", "../x", "a/b", "é💥", "n" * 300, "\x00"])
    elif case == 8:
        content["notebook"] = chance.choice(["", "nowhere", "/dev/null", str(world.canary), "../x.ipynb", "a" * 5000])
    else:
        grid["settings"] = {
            "protocol": "x",
            "start_from": "/nowhere",
            "source": chance.choice(["/nowhere", "", "phantom"]),
        }
    dump(world.scratch / "study.json", content)
    harmless = fine if case in (0, 1, 2, 3, 5, 6, 7, 8) else None  # some of these say what is allowed
    names = ["study", "grid", "axis", "cell", "setting", "notebook"]
    return dry(
        world,
        world.scratch / "study.json",
        names=names,
        fine=harmless,
        input=f"case {case}: {json.dumps(content)[:150]}",
    )


@rule(1)
def strange_place(chance: Random, world: World) -> Try:
    "A file of settings that is somewhere strange."
    place = chance.choice(
        ["/dev/zero", "/dev/null", "/proc/self/mem", "/proc/self/environ", "/dev/stdin", str(world.scratch), ""]
    )
    study = chance.random() < 0.5
    if study:
        one = dry(world, place or Path("."))
    else:
        one = train_config(world, place)
        one.words[3] = place
    one.names = [place, os.fspath(place), "preset", "study", "'.'"]
    one.input = f"{'study' if study else 'config'} {place!r}"
    return one
