"""How long 61,782 slices take, as many as COVIDx-CT trains on: `python tests/heavy/bench_survey.py`.

The slices are hard links to those of a phantom. Each is told apart by its frame, so that none is known from another.
"""

import argparse
import os
import resource
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from covid_workbench.data import audit_files, audit_masks, audit_twins  # noqa: F401
from covid_workbench.data.findings import RULES, Audited
from covid_workbench.data.phantom import PhantomSettings, write_phantom
from covid_workbench.data.slices import SliceTable
from covid_workbench.data.splits import crossing_notes, split_by_patient
from covid_workbench.data.survey import SURVEY, survey


@contextmanager
def timed(what: str):
    wall, cpu = time.perf_counter(), sum(os.times()[:4])
    yield
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{what:34}{time.perf_counter() - wall:9.1f} s{sum(os.times()[:4]) - cpu:9.1f} s of CPU, peak {peak:.1f} GiB",
        flush=True,
    )


def linked(folder: Path, slices: int, size: int, workers: int) -> Path:
    "A table of hard links to the slices of 24 phantom patients, each copy of a patient a patient of its own."
    settings = PhantomSettings(size=size, slices=20)
    table = write_phantom(folder / "phantom", 24, settings=settings, workers=workers, progress=False)
    parts = []
    for copy in range(-(-slices // len(table))):
        part = table.assign(id=f"c{copy}-" + table["id"], patient=f"c{copy}-" + table["patient"], frame=copy)
        for column in ("image", "mask"):
            names = [f"{copy}/{name}" for name in table[column]]
            for name, old in zip(names, table[column]):
                (folder / "phantom" / name).parent.mkdir(parents=True, exist_ok=True)
                os.link(folder / "phantom" / old, folder / "phantom" / name)
            part[column] = names
        parts.append(part)
    path = folder / "phantom" / "linked.csv"
    pd.concat(parts).head(slices).to_csv(path, index=False)
    return path


def main(slices: int, size: int, workers: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with timed("phantom and links"):
            path = linked(folder, slices, size, workers)
        with timed(f"a table of {slices:,} rows"):
            table = SliceTable.from_csv(path)
        with timed("split and notes"):
            table = split_by_patient(table)
            crossing_notes(table)
        objects = table.description.objects["merged"]
        for what in ("survey", "survey, the second time"):
            with timed(what):
                facts = survey(table, folder / SURVEY, objects=objects, workers=workers, progress=False)
        print(f"store: {(folder / SURVEY).stat().st_size / 2**20:.0f} MiB")
        for own, rule in RULES.items():
            with timed(f"rule {own}"):
                list(rule(Audited(table, facts)))


if __name__ == "__main__":
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--slices", type=int, default=61_782)
    words.add_argument("--size", type=int, default=512)
    words.add_argument("--workers", type=int, default=0)
    given = words.parse_args()
    main(given.slices, given.size, given.workers)
