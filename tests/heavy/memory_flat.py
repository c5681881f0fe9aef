"""Memory of this process over many training steps and many slices of evaluation: it has to stay where it is.

`python tests/heavy/memory_flat.py` prints the private memory every tenth of the way and ends with exit code 1 where
the second half holds more than `--most` MiB above the first; `--preset small` and more `--set` words for real sizes.
"""

import argparse
import dataclasses
import gc
import os
import sys
import tempfile
from pathlib import Path

import torch

from covid_workbench.data.slices import SliceTable
from covid_workbench.evaluation.inference import predict_slices
from covid_workbench.runs.datasets import ExperimentData, prepare_data
from covid_workbench.runs.experiment import Experiment
from covid_workbench.runs.load import build_model
from covid_workbench.runs.run import Run
from covid_workbench.training.loop import run_stages
from covid_workbench.training.stages import stages_of


def private_mib() -> float:
    "Memory of this process that no file stands for, in MiB; pages of a mapped cache are not counted."
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return int(lines["RssAnon"].split()[0]) / 1024


def live_tensors() -> tuple[int, int]:
    "How many tensors Python holds, and their bytes."
    gc.collect()
    held = [item for item in gc.get_objects() if type(item) in (torch.Tensor, torch.nn.Parameter)]
    return len(held), sum(tensor.numel() * tensor.element_size() for tensor in held)


def experiment_of(words: argparse.Namespace) -> Experiment:
    "The experiment whose steps are taken."
    changes = dict(pair.split("=", 1) for pair in words.set)
    return Experiment.make(words.preset, **{"model": "lstm2", "regime": "two-phase", "epochs": 1} | changes)


def train_steps(experiment: Experiment, folder: Path, steps: int, look) -> None:
    "Take so many two-phase steps, with a validation and a checkpoint in every tenth; `look(step)` comes after each."
    table = prepare_data(experiment.data, folder / "shared", progress=False)
    model, device = build_model(experiment), torch.device("cpu")
    [stage] = stages_of(model, ExperimentData(experiment, table), device)

    def losses(batch, step):
        yield from stage.losses(batch, step)
        look(step)

    run = Run.create(folder / "run", experiment, SliceTable(table.frame, table.root))
    own = dataclasses.replace(stage, steps=steps, losses=losses, validate_every=max(1, steps // 10))
    run_stages(run, model, [own], progress=False)


def evaluate_slices(experiment: Experiment, folder: Path, slices: int, look) -> None:
    "Predict so many slices, over and over; `look(count)` comes after each."
    table = prepare_data(experiment.data, folder / "shared", progress=False)
    model, count = build_model(experiment), 0
    dataset = ExperimentData(experiment, table).dataset("train")
    while count < slices:
        for _ in predict_slices(model, dataset):
            look(count := count + 1)


def measured(name: str, work, total: int) -> float:
    "Do `work(look)`, print the memory every tenth of `total`; returns how far the second half lies above the first."
    seen = []

    def look(number: int) -> None:
        if number % max(1, total // 10) == 0:
            seen.append(private_mib())
            print(f"{name} {number:>6}: {seen[-1]:,.0f} MiB private, {live_tensors()[0]:,} tensors", flush=True)

    work(look)
    first, second = seen[1 : len(seen) // 2 + 1], seen[len(seen) // 2 + 1 :]
    growth = max(second) - max(first)
    print(f"{name}: the second half holds {growth:+.1f} MiB beyond the first", flush=True)
    return growth


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--slices", type=int, default=2000)
    parser.add_argument("--most", type=float, default=20.0, help="MiB")
    parser.add_argument("--preset", default="smoke")
    parser.add_argument("--set", nargs="*", default=[])
    words = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    experiment = experiment_of(words)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        grown = [
            measured("training step", lambda look: train_steps(experiment, folder, words.steps, look), words.steps),
            measured(
                "evaluated slice", lambda look: evaluate_slices(experiment, folder, words.slices, look), words.slices
            ),
        ]
    return int(max(grown) > words.most)


if __name__ == "__main__":
    sys.exit(main())
