"""What a data set of 61,782 slices, as many as COVIDx-CT trains on, takes in time and memory: `make large`.

The slices are hard links to those of a phantom: some patients are for validation, 1,000 slices for the test, the rest
for training. Each stage runs in a process of its own and says what it took: the table, its split, a survey that knows
all slices already, which slices have lesions, the first step and the first 100, the scores of 1,000 slices, and each
explorer from opening to the second slice. Nothing may take more than 8 GB of memory.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

ROWS, TEST, VALIDATION, STEPS = 61_782, 1000, 200, 100
PATIENTS, OF_A_PATIENT = 24, 20  # of the phantom; its copies are patients of their own
MOST_GB = 8.0


@contextmanager
def timed(what: str):
    "Print seconds, and the largest memory of this process so far."
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    say(what, time.perf_counter() - wall, time.process_time() - cpu)


def say(what: str, seconds: float, cpu: float) -> None:
    print(f"  {what:46}{seconds:8.1f} s{cpu:8.1f} s of CPU, peak {peak_gb():5.2f} GB", flush=True)


def peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def linked(folder: Path, rows: int, size: int, workers: int) -> None:
    "Write tables of hard links: `slices.csv` with splits, `unsplit/slices.csv` without, both of the same files."
    import pandas as pd

    from covid_workbench.data.phantom import PhantomSettings, write_phantom

    if (folder / "unsplit" / "slices.csv").is_file():
        return
    settings = PhantomSettings(size=size, slices=OF_A_PATIENT)
    table = write_phantom(folder / "phantom", PATIENTS, settings=settings, workers=workers, progress=False)
    parts = []
    for copy in range(-(-rows // len(table))):
        # told apart by the frame, which a picture does not have, so that no slice is known from another
        part = table.assign(id=f"c{copy}-" + table["id"], frame=copy)
        part["patient"] = f"c{copy}-" + part["patient"]
        for column in ("image", "mask"):
            part[column] = [f"files/{copy}/{name}" for name in table[column]]
            for name, old in zip(part[column], table[column]):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                os.link(folder / "phantom" / old, folder / name)
        parts.append(part)
    frame = pd.concat(parts, ignore_index=True).head(rows).assign(split="")
    (folder / "unsplit").mkdir()
    frame.assign(image="../" + frame["image"], mask="../" + frame["mask"]).to_csv(
        folder / "unsplit" / "slices.csv", index=False
    )
    ends = [("test", TEST), ("validation", VALIDATION)]
    frame["split"] = "train"
    for name, count in ends:
        free = frame.index[frame["split"] == "train"]
        frame.loc[free[:count], "split"] = name
    frame.to_csv(folder / "slices.csv", index=False)


def experiment(folder: Path, threads: int = 1):
    "Both tasks for `STEPS` steps on all slices, by a small model."
    import pandas as pd

    from covid_workbench.runs.experiment import Experiment

    frame = pd.read_csv(folder / "slices.csv", usecols=["label", "split"], keep_default_na=False)
    labelled = int(((frame["split"] == "train") & (frame["label"] != "")).sum())
    settings = dict(source=str(folder), model="lstm2", regime="two-phase", epochs=STEPS * 4 / labelled, device="cpu")
    return Experiment.make("smoke", **settings, validate_every=1, threads=threads)


def tables(folder: Path, threads: int) -> None:
    "What comes before a training, one by one."
    from covid_workbench.data.sources import open_source
    from covid_workbench.data.splits import crossing_notes, split_by_patient
    from covid_workbench.data.subsets import subset
    from covid_workbench.runs.datasets import ExperimentData, check_slices
    from covid_workbench.training.tasks import lesion_rows

    shared = folder / "runs" / "shared"
    for what in ("table", "table, again"):
        with timed(what):
            table = open_source(folder)
    with timed("split by patient, its notes"):
        split = split_by_patient(open_source(folder / "unsplit"))
        crossing_notes(split)
    with timed("10,000 slices of the training split"):
        subset(split, "train", 10_000, split.description.classes)
    own = experiment(folder)
    for what in ("survey", "survey, warm"):
        with timed(what):
            facts = check_slices(table, shared, progress=False, objects=own.objects)
    data = ExperimentData(own, table, facts)
    with timed("lesion rows"):
        dataset = data.dataset("train", lesions=True)
        found = lesion_rows(dataset, data.facts_of(dataset))
    print(f"  {len(found):,} of {len(dataset):,} training slices have lesions", flush=True)
    with timed("fingerprint, warm"):
        table.fingerprint(shared / "hashes.json")


def train(folder: Path, threads: int) -> None:
    "The first steps of a training whose slices are known; in which moment the first one begins."
    from torch.nn.modules.module import register_module_forward_pre_hook

    from covid_workbench.training.train import train as start

    began, cpu = time.perf_counter(), time.process_time()

    def first(*_) -> None:
        say("first step", time.perf_counter() - began, time.process_time() - cpu)
        hook.remove()

    hook = register_module_forward_pre_hook(first)
    done = len(list((folder / "runs").glob("run-*/weights.safetensors")))
    start(experiment(folder, threads), folder / "runs" / f"run-{done}", resume=True, progress=False)
    say(f"{STEPS} steps, a validation of {VALIDATION} slices", time.perf_counter() - began, time.process_time() - cpu)


def newest(folder: Path):
    from covid_workbench.runs.run import Run

    return Run.open(max((folder / "runs").glob("run-*"), key=lambda path: path.stat().st_mtime))


def evaluate(folder: Path, threads: int) -> None:
    "The scores of the test slices, and of the baselines fitted to the training slices."
    from covid_workbench.evaluation.evaluate import evaluate as score

    with timed(f"scores of {TEST:,} slices, baselines"):
        score(newest(folder), splits=("test",), progress=False)


def explorers(folder: Path, threads: int) -> None:
    "Each explorer opens, and shows another slice."
    from covid_workbench.widgets.data import DataExplorer
    from covid_workbench.widgets.explorer import AttentionExplorer
    from covid_workbench.widgets.lesions import LesionBrowser
    from covid_workbench.widgets.runs import RunExplorer

    run = newest(folder)
    for split in ("test", "train"):
        with timed(f"attention explorer, {split} slices"):
            attention = AttentionExplorer(run, split=split)
        with timed("  another slice"):
            attention.browser.slice = attention.table.frame["id"].iloc[-1]
        del attention
        with timed(f"lesion browser, {split} slices"):
            lesions = LesionBrowser(run, split=split)
        with timed("  another slice"):
            lesions.slice = lesions.reader.volumes.ids(lesions.volume)[0]
        with timed("  another patient"):
            lesions.go_to(list(lesions.reader.volumes.rows)[-1])
        del lesions
    with timed("run explorer"):
        runs = RunExplorer([run.folder])
    with timed("  its card"):
        runs.state = runs.state | {"run": next(iter(runs.comparison.snapshot.runs))}
    store = folder / "runs" / "shared" / "survey.sqlite"
    with timed("data explorer of the run"):
        data = DataExplorer(run, store=store, progress=False)
    with timed("  another page"):
        data.page = 7
    with timed("  another order"):
        data.order = "lesions"


STAGES = {"tables": tables, "train": train, "evaluate": evaluate, "explorers": explorers}


def run_stage(name: str, folder: Path, threads: int) -> None:
    "One stage in this process."
    import torch

    torch.set_num_threads(threads)
    STAGES[name](folder, threads)
    peak = peak_gb()
    if peak > MOST_GB:
        sys.exit(f"{name} took {peak:.1f} GB of memory, more than {MOST_GB:.0f}")


def main(folder: Path, given: argparse.Namespace) -> int:
    "Every stage in a process of its own; how many failed."
    with timed(f"{given.slices:,} hard links, {given.size} px"):
        linked(folder, given.slices, given.size, given.workers)
    failed = 0
    for name in given.stage or STAGES:
        print(name, flush=True)
        words = [sys.executable, __file__, "--folder", folder, "--threads", given.threads, "--here", name]
        failed += subprocess.run(list(map(str, words))).returncode != 0
    return failed


if __name__ == "__main__":
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--folder", type=Path, help="keeps the data and the runs; default: a folder that goes away")
    words.add_argument("--slices", type=int, default=ROWS)
    words.add_argument("--size", type=int, default=96, help="side of a slice in pixels")
    words.add_argument("--workers", type=int, default=1, help="processes that write the phantom")
    words.add_argument("--threads", type=int, default=1)
    words.add_argument("--stage", choices=STAGES, action="append")
    words.add_argument("--here", choices=STAGES, help=argparse.SUPPRESS)
    given = words.parse_args()
    if given.here:
        run_stage(given.here, given.folder, given.threads)
    else:
        with tempfile.TemporaryDirectory() as made:
            sys.exit(main(given.folder or Path(made), given))
