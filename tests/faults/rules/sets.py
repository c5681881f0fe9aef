"""Data sets of other people: dataset.json, DICOM, NIfTI, MetaImage, archives, lists; damaged or made to harm."""

import json
import sys
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parents[2]))
import hostile

from ..base import Outcome, Try, fine, rule, short
from ..material import World, predict_try, train_words
from ..values import ANY_FILE, JSON_FILE, TEXT_FILE, damage, retyped


def unchanged_or_said(outcome: Outcome) -> str:
    "A check ends in exit 0 where the fault is worth a finding or none; its words are those of a table."
    return "" if "slice" in outcome.out else f"no table of slices: {short(outcome.out)}"


def check(folder: Path, names: list, what: str, **more: object) -> Try:
    "`data check` of a folder; its findings are on stdout."
    return Try(
        ["data", "check", folder],
        names,
        **{"fine": unchanged_or_said, "changes": (), "quiet": True, "input": what} | more,
    )


def fresh(world: World) -> Path:
    folder = world.scratch / "world" / "set"
    folder.mkdir(parents=True)
    return folder


@rule(4)
def known_ones(chance: Random, world: World) -> Try:
    "One of the inputs of `tests/hostile.py`."
    one, folder = chance.choice(hostile.HOSTILE), fresh(world)
    opened = one.make(folder) or folder
    return check(opened, [], one.name)


@rule(3)
def described(chance: Random, world: World) -> Try:
    "A dataset.json that is damaged, or whose values are of other types."
    content = {
        "name": "Lesions of two kinds",
        "classes": ["Normal", "CP", "COVID-19"],
        "normal": "Normal",
        "mask_values": {"1": "lung", "2": "GGO", "3": "consolidation"},
        "organs": ["lung"],
        "objects": {"both": {"lesion": [2, 3]}},
        "colours": {"CP": "#0072b2"},
        "window": [-1350, 150],
        "licence": "none",
    }
    path = world.data / "dataset.json"
    path.write_text(json.dumps(content))
    what = damage(chance, path, JSON_FILE) if chance.random() < 0.4 else str(retyped(chance, path)[1])
    names = ["dataset.json", "slices.csv", "classes", "split", "objects", "class", str(world.data)]
    if chance.random() < 0.6:
        return check(world.data, names, f"dataset.json: {what}")
    words = train_words(world, aggregator_epochs=0.3, detector_epochs=0.3)
    return Try(words, names, input=f"dataset.json: {what} (train)", fine=fine)


def series_in(chance: Random, folder: Path) -> Path:
    "One file of a small DICOM series."
    return chance.choice(hostile.series(folder, planes=4))


def volume_in(chance: Random, folder: Path) -> Path:
    "A small NIfTI or MetaImage file."
    if chance.random() < 0.5:
        return hostile.nifti(folder, chance.choice(["scan.nii", "scan.nii.gz"]))
    header = [
        "ObjectType = Image",
        "NDims = 3",
        "DimSize = 64 64 4",
        "ElementType = MET_SHORT",
        "ElementSpacing = 1 1 5",
    ]
    pixels = b"".join(hostile.picture(plane).astype("<i2").tobytes() for plane in range(4))
    path = folder / "scan.mha"
    path.write_bytes("\n".join([*header, "ElementDataFile = LOCAL\n"]).encode() + pixels)
    return path


@rule(4)
def volumes(chance: Random, world: World) -> Try:
    "A DICOM, NIfTI or MetaImage file that is damaged, checked or predicted."
    folder = fresh(world)
    path = (series_in if chance.random() < 0.6 else volume_in)(chance, folder)
    what = damage(chance, path, ANY_FILE)
    names = [path.name, str(folder), "series", "slice"]
    if chance.random() < 0.6:
        return check(folder, names, what)
    return predict_try(world, folder, names=names, input=f"{what} (predict)", fine=fine)


@rule(1)
def archives(chance: Random, world: World) -> Try:
    "A published archive that is damaged."
    folder = fresh(world)
    path = hostile.archive(folder)
    what = damage(chance, path, ANY_FILE)
    return check(folder, [path.name, str(folder)], what)


@rule(1)
def lists(chance: Random, world: World) -> Try:
    "A list of COVIDx-CT that is damaged."
    folder = fresh(world)
    path = folder / "train_COVIDx_CT-1.txt"
    path.write_text("".join(f"NCP_{number}_1_0001.png 2 0 0 64 64\n" for number in range(9)))
    what = damage(chance, path, TEXT_FILE)
    return check(folder, [path.name, str(folder), "NCP_"], what)


@rule(1)
def instances(chance: Random, world: World) -> Try:
    "A COCO file that is damaged, or whose values are of other types."
    folder = fresh(world)
    hostile.coco(folder)
    path = folder / "annotations.json"
    what = damage(chance, path, JSON_FILE) if chance.random() < 0.5 else str(retyped(chance, path)[1])
    return check(folder, [path.name, str(folder), "p0.png", "slice"], what)
