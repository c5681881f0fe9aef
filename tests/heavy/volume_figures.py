"""What the small preset of ResNext+ reaches on unseen phantom patients: `python tests/heavy/volume_figures.py`.

For each seed: accuracy over volumes and the AUC of slice attention (within volumes) on the test patients, seconds of
training; beside that AUC what it was before training and that of the lung area of a slice, since lesions lie where
there is much lung. Ends with exit code 1 where a mean over the seeds misses its bar. `--set` words change the preset;
`--out` keeps the runs.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import torch

from covid_workbench.evaluation.evaluate import evaluate
from covid_workbench.evaluation.volume_figures import volume_figures
from covid_workbench.evaluation.volumes import scored_volumes
from covid_workbench.runs.datasets import ExperimentData
from covid_workbench.runs.experiment import Experiment
from covid_workbench.runs.load import build_model
from covid_workbench.runs.volume_data import volume_dataset
from covid_workbench.training.train import train

BARS = {"volume accuracy": 0.9, "slice AUC": 0.8}


def figures_of(scores: dict) -> dict[str, float]:
    "The judged figures in the metrics of a split; 0 where there is none."
    found = volume_figures(scores)
    judged = {name: found.get(name, [0.0])[0] for name in ("slice AUC", "slice AUC, lung area")}
    return {"volume accuracy": scores["classification"]["accuracy"]} | judged


def seed_figures(experiment: Experiment, folder: Path) -> dict[str, float]:
    "Train and score one run, and the network as it was before."
    shared = folder.parent / "shared"
    run = train(experiment, folder, shared=shared, resume=True)
    found = figures_of(evaluate(run)["test"]) | {"seconds": run.history["seconds"].max()}
    held = volume_dataset(ExperimentData(experiment, run.table, shared=shared), "test", labelled=True)
    before = volume_figures(scored_volumes(build_model(experiment), held).metrics)
    return found | {"slice AUC untrained": before["slice AUC"][0]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", default="", help="folder of the runs; default: one that is thrown away")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE")
    words = parser.parse_args()
    torch.set_num_threads(words.threads)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for seed in range(words.seeds):
            settings = dict(word.split("=", 1) for word in words.set) | {"seed": seed}
            experiment = Experiment.make("small", model="resnext-plus", **settings)
            rows.append(seed_figures(experiment, Path(words.out or temporary) / f"seed{seed}"))
            print(f"seed {seed}: " + ", ".join(f"{name} {value:.3f}" for name, value in rows[-1].items()), flush=True)
    means = {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
    print("mean: " + ", ".join(f"{name} {value:.3f}" for name, value in means.items()))
    missed = [f"{name} {means[name]:.3f}, bar {bar}" for name, bar in BARS.items() if means[name] < bar]
    print("missed: " + "; ".join(missed) if missed else "both bars are reached")
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
