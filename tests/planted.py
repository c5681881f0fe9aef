"""Data sets with faults that somebody planted, by rule and by seed, and what an audit says of them.

A fault is a function that spoils a phantom on disk and its table; `FAULTS` says which rule must find it.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from covid_workbench.data.findings import RULES, Audited
from covid_workbench.data.phantom import PhantomSettings, write_phantom
from covid_workbench.data.slices import SliceTable
from covid_workbench.data.splits import split_by_patient
from covid_workbench.data.survey import survey

for part in ("audit_files", "audit_masks", "audit_twins", "audit_sources", "audit_shortcuts", "audit"):
    if importlib.util.find_spec(f"covid_workbench.data.{part}"):
        importlib.import_module(f"covid_workbench.data.{part}")


@dataclass
class Spoilt:
    "A data set on disk that faults change: its folder, its rows, a seeded generator, rows that are spoilt already."

    folder: Path
    frame: pd.DataFrame
    random: np.random.Generator
    touched: set[int] = field(default_factory=set)

    def pick(self, condition=None, count: int = 1) -> list[int]:
        "Rows that no fault has touched."
        chosen = self.frame.index if condition is None else self.frame.index[condition]
        free = [row for row in chosen if row not in self.touched]
        rows = sorted(self.random.choice(free, min(count, len(free)), replace=False).tolist())
        self.touched |= set(rows)
        return rows

    def path(self, row: int, column: str = "image") -> Path:
        return self.folder / self.frame.loc[row, column]

    def read(self, row: int, column: str = "image") -> Image.Image:
        with Image.open(self.path(row, column)) as image:
            return image.copy()


FAULTS: dict[str, tuple[str, Callable[[Spoilt], None]]] = {}


def fault(rule: str):
    "A fault that `rule` must find."

    def register(function):
        FAULTS[function.__name__] = rule, function
        return function

    return register


# -- files


@fault("file-missing")
def missing(spoilt):
    spoilt.path(spoilt.pick()[0]).unlink()


@fault("file-truncated")
def truncated(spoilt):
    path = spoilt.path(spoilt.pick()[0])
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // int(spoilt.random.integers(2, 5))])


@fault("file-unreadable")
def unreadable(spoilt):
    spoilt.path(spoilt.pick()[0]).write_bytes(b"<html>503 Service Unavailable</html>")


@fault("file-16-bit")
def sixteen_bits(spoilt):
    for row in spoilt.pick(count=2):
        Image.fromarray(np.asarray(spoilt.read(row)).astype(np.uint16) * 16).save(spoilt.path(row))


@fault("file-alpha")
def alpha(spoilt):
    for row in spoilt.pick(count=2):
        spoilt.read(row).convert("RGBA").save(spoilt.path(row))


@fault("file-animated")
def animated(spoilt):
    row = spoilt.pick()[0]
    image = spoilt.read(row)
    image.save(spoilt.path(row), save_all=True, append_images=[image.point(lambda grey: 255 - grey)])


@fault("file-rotated")
def rotated(spoilt):
    row = spoilt.pick()[0]
    exif = Image.Exif()
    exif[274] = int(spoilt.random.integers(2, 9))
    spoilt.read(row).save(spoilt.path(row), exif=exif)


@fault("file-tiny")
def tiny(spoilt):
    row = spoilt.pick()[0]
    for column in ("image", "mask"):
        spoilt.read(row, column).resize((20, 20), Image.Resampling.NEAREST).save(spoilt.path(row, column))


@fault("names-collide")
def colliding(spoilt):
    first, second = spoilt.pick(count=2)
    spoilt.frame.loc[second, "id"] = spoilt.frame.loc[first, "id"].lower()


# -- masks


@fault("mask-missing")
def mask_missing(spoilt):
    spoilt.frame.loc[spoilt.pick(), "mask"] = ""


@fault("mask-orphan")
def orphan(spoilt):
    row = spoilt.pick(spoilt.frame["patient"].map(spoilt.frame["patient"].value_counts()) > 1)[0]
    spoilt.frame = spoilt.frame.drop(index=row)


@fault("mask-size")
def mask_size(spoilt):
    row = spoilt.pick()[0]
    mask = spoilt.read(row, "mask")
    mask.resize((mask.width - 8, mask.height), Image.Resampling.NEAREST).save(spoilt.path(row, "mask"))


@fault("mask-values")
def mask_values(spoilt):
    row = spoilt.pick()[0]
    mask = np.array(spoilt.read(row, "mask"))
    mask[:3, :3] = spoilt.random.integers(5, 255)
    Image.fromarray(mask).save(spoilt.path(row, "mask"))


@fault("mask-unreadable")
def mask_unreadable(spoilt):
    spoilt.path(spoilt.pick()[0], "mask").write_bytes(b"")


@fault("mask-turned")
def turned(spoilt):
    "The masks of one patient, mirrored, turned or transposed."
    patient = spoilt.frame.loc[spoilt.pick()[0], "patient"]
    ways = (
        Image.Transpose.FLIP_LEFT_RIGHT,
        Image.Transpose.FLIP_TOP_BOTTOM,
        Image.Transpose.TRANSPOSE,
        Image.Transpose.ROTATE_180,
    )
    way = ways[spoilt.random.integers(len(ways))]
    for row in (
        spoilt.pick(spoilt.frame["patient"] == patient, 99)
        + [row for row in spoilt.touched if row in spoilt.frame.index and spoilt.frame.loc[row, "patient"] == patient][
            :1
        ]
    ):
        spoilt.read(row, "mask").transpose(way).save(spoilt.path(row, "mask"))


@fault("mask-empty")
def emptied(spoilt):
    row = spoilt.pick(spoilt.frame["label"].isin(["CP", "COVID-19"]))[0]
    mask = np.array(spoilt.read(row, "mask"))
    Image.fromarray(np.minimum(mask, np.uint8(spoilt.random.integers(2)))).save(spoilt.path(row, "mask"))


@fault("lesions-small")
def speckled(spoilt):
    for row in spoilt.pick(count=6):
        mask = np.array(spoilt.read(row, "mask"))
        mask[::4, ::4] = 2
        Image.fromarray(mask).save(spoilt.path(row, "mask"))


@fault("class-absent")
def absent(spoilt):
    frame = spoilt.frame
    frame.loc[(frame["split"] == "test") & (frame["label"] == "CP"), "label"] = ""


# -- twins


def _two_splits(spoilt) -> tuple[int, int]:
    return spoilt.pick(spoilt.frame["split"] == "train")[0], spoilt.pick(spoilt.frame["split"] == "test")[0]


@fault("patient-in-two-splits")
def crossing(spoilt):
    row = spoilt.pick(spoilt.frame["split"] == "train")[0]
    spoilt.frame.loc[row, "split"] = "test"


@fault("scan-in-two-splits")
def crossing_scan(spoilt):
    spoilt.frame.loc[list(_two_splits(spoilt)), "scan"] = "1.2.840.113619"


@fault("same-picture")
def copied(spoilt):
    train, test = _two_splits(spoilt)
    for column in ("image", "mask"):
        spoilt.path(test, column).write_bytes(spoilt.path(train, column).read_bytes())


@fault("same-picture")
def saved_again(spoilt):
    train, test = _two_splits(spoilt)
    spoilt.read(train).save(spoilt.path(test), compress_level=1)
    spoilt.read(train, "mask").save(spoilt.path(test, "mask"))


@fault("nearly-same-picture")
def brightened(spoilt):
    train, test = _two_splits(spoilt)
    gain, shift = spoilt.random.uniform(0.75, 1.0), spoilt.random.uniform(0, 20)
    spoilt.read(train).point(lambda grey: grey * gain + shift).save(spoilt.path(test))
    spoilt.read(train, "mask").save(spoilt.path(test, "mask"))


@fault("nearly-same-picture")
def resized(spoilt):
    train, test = _two_splits(spoilt)
    image = spoilt.read(train)
    small = image.resize((int(image.width * 0.8), int(image.height * 0.8)), Image.Resampling.BILINEAR)
    small.resize(image.size, Image.Resampling.BILINEAR).save(spoilt.path(test))
    spoilt.read(train, "mask").save(spoilt.path(test, "mask"))


@fault("unknown-patients")
def unknown(spoilt):
    spoilt.frame.loc[spoilt.pick(count=3), "patient_unknown"] = True


# -- shortcuts: judged by modules that stand after these


@fault("differs-by-class")
def another_window(spoilt):
    for row in spoilt.frame.index[spoilt.frame["label"] == "COVID-19"]:
        if spoilt.path(row).is_file():
            spoilt.read(row).convert("L").point(lambda grey: 40 + grey * 0.5).save(spoilt.path(row))
    spoilt.touched |= set(spoilt.frame.index)


@fault("class-is-source")
def another_source(spoilt):
    spoilt.frame.loc[spoilt.frame["label"] == "COVID-19", "source"] = "elsewhere"


WHOLE_SET = ("another_window", "another_source")  # faults of all slices, planted alone


def clean_set(folder: Path, seed: int) -> SliceTable:
    "A small phantom; patients, size, difficulty and scanners vary with the seed."
    random = np.random.default_rng([seed, 1])
    settings = PhantomSettings(
        size=int(random.choice([64, 80, 96])), slices=int(random.integers(2, 4)), difficulty=float(random.random())
    )
    write_phantom(folder, 12, seed=seed, settings=settings, progress=False)
    table = SliceTable.from_csv(folder / "slices.csv")
    seen = table.frame[table.frame["label"] != ""].drop_duplicates(["patient", "label"])["label"].value_counts()
    if len(seen) == 3 and seen.min() > 2:
        return split_by_patient(table)
    return clean_set(folder.with_name(folder.name + "-"), seed + 100_000)  # a split needs three patients of each class


def spoil(table: SliceTable, faults: list[str], seed: int) -> SliceTable:
    "The table after faults were planted in its folder."
    spoilt = Spoilt(table.root, table.frame.copy(), np.random.default_rng([seed, 2]))
    for name in faults:
        FAULTS[name][1](spoilt)
    return SliceTable(spoilt.frame.reset_index(drop=True), table.root, table.name)


def alarms(table: SliceTable) -> set[str]:
    "The rules that find an error or have a warning."
    facts = survey(table, objects=table.description.objects["merged"], progress=False, workers=1)
    audited = Audited(table, facts, min_area=2)
    return {finding.rule for rule in RULES.values() for finding in rule(audited) if finding.level != "note"}


def known_faults() -> list[str]:
    "The faults whose rule is there."
    return [name for name, (rule, _) in FAULTS.items() if rule in RULES]


def choose(seed: int) -> list[str]:
    "Up to three faults for a set, none for every other one; in turn, so that each comes equally often."
    if seed % 2 == 0:
        return []
    random, names = np.random.default_rng([seed, 3]), known_faults()
    first = names[seed // 2 % len(names)]
    others = [name for name in names if name not in WHOLE_SET and FAULTS[name][0] != FAULTS[first][0]]
    count = 0 if first in WHOLE_SET else int(random.integers(0, 3))
    return [first, *random.choice(others, count, replace=False).tolist()]
