"""Small things that many tests share: a phantom on disk, a trained run, the shell."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from covid_workbench.cli import main
from covid_workbench.data.phantom import PhantomSettings, write_phantom
from covid_workbench.evaluation.evaluate import evaluate
from covid_workbench.models.oneshot import MODELS, VOLUME_MODEL
from covid_workbench.runs.experiment import Experiment
from covid_workbench.runs.run import Run
from covid_workbench.runs.test_uses import TEST_USES
from covid_workbench.training.train import train

SHARED = Path(__file__).parents[2] / "shared"  # research material beside a checkout; tests that need it skip without it
# with a worker on each core (make test), more threads would only wait for each other
THREADS = 1 if "PYTEST_XDIST_WORKER" in os.environ else 2
TINY = dict(
    phantom_patients=15,
    phantom_slices=2,
    phantom_size=64,
    image_size=64,
    anchor_sizes=(6, 12),
    proposals_before_nms=30,
    proposals=15,
    rpn_samples=32,
    roi_samples=8,
    fpn_channels=8,
    hidden_size=8,
    validate_every=100,
    threads=THREADS,
)
SLICE_MODELS = [model for model in MODELS if model != VOLUME_MODEL]  # those that read each slice by itself


collect_ignore = [] if importlib.util.find_spec("playwright") else ["browser"]  # make test-browser


def pytest_configure(config):
    torch.set_num_threads(THREADS)
    os.environ.setdefault("OMP_NUM_THREADS", str(THREADS))  # for programs that tests start


def tiny(**settings) -> Experiment:
    "An experiment of a few seconds."
    return Experiment.make("smoke", **TINY | settings)


def assignments(**settings) -> list[str]:
    "Settings as words for --set."
    return [
        f"{name}={','.join(map(str, value)) if isinstance(value, tuple) else value}"
        for name, value in (TINY | settings).items()
    ]


@pytest.fixture
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip(f"research material is not there ({SHARED})")
    return SHARED


@pytest.fixture(scope="session")
def phantom(tmp_path_factory) -> Path:
    "A phantom of 15 patients on disk, to read; copy it before changing it."
    folder = tmp_path_factory.mktemp("data") / "phantom"
    write_phantom(folder, 15, settings=PhantomSettings(size=64, slices=2))
    return folder


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    "A complete, evaluated warm-start run (attention)."
    run = train(tiny(model="attention"), tmp_path_factory.mktemp("runs") / "attention", progress=False)
    evaluate(run, progress=False)
    return run


@pytest.fixture
def scored(finished, tmp_path) -> Run:
    "A copy of the finished run to write into, at whose test split nobody has looked yet."
    folder = tmp_path / "run"
    folder.mkdir()
    for path in finished.folder.iterdir():
        if path.is_file() and path.name != TEST_USES:
            shutil.copy(path, folder / path.name)
    detector = (finished.folder / json.loads((folder / "warm_start.json").read_text())["detector"]).resolve()
    (folder / "warm_start.json").write_text(json.dumps({"detector": os.path.relpath(detector, folder)}))
    return Run.open(folder)


@pytest.fixture
def command(capsys):
    "Run `covid-workbench` in this process: (exit code, stdout, stderr without progress bars)."

    def run(*words) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            code = main([str(word) for word in words])
        except SystemExit as stop:  # argparse
            code = stop.code
        captured = capsys.readouterr()
        return (
            code,
            captured.out,
            "\n".join(line for line in captured.err.splitlines() if "covid-workbench" in line or "error" in line),
        )

    return run


def shell(*words, **options) -> subprocess.CompletedProcess:
    "Run `covid-workbench` as a program of its own."
    return subprocess.run(
        [str(Path(sys.executable).parent / "covid-workbench"), *map(str, words)],
        capture_output=True,
        text=True,
        timeout=300,
        **options,
    )


def as_older(run: Path, *settings: str) -> None:
    "Make the run in a folder one from before the hashes in its record, without some `settings` that came later."
    content = json.loads((run / "experiment.json").read_text())
    content.pop("format")
    for name in ("settings_sha256", "slices_sha256"):
        content["record"].pop(name)
    for group in content.values():
        for name in settings:
            isinstance(group, dict) and group.pop(name, None)
    (run / "experiment.json").write_text(json.dumps(content))


def contents(folder: Path) -> dict[str, bytes]:
    "Relative name -> content of every file under a folder."
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()
    }


def results(shared: Path) -> dict[str, bytes]:
    "The same for a folder `shared`, without what grows as files come to rest: their hashes, decoded slices and stacks."
    held, kept = contents(shared).items(), ("slices/", "volumes/")
    return {name: content for name, content in held if name != "hashes.json" and not name.startswith(kept)}


@pytest.fixture(scope="session")
def slices():
    "Three network images of an awkward size (one black), their targets (one without lesions) and labels."
    torch.manual_seed(1)
    images = torch.randn(3, 3, 100, 100)
    images[2] = 0
    mask = torch.zeros(2, 100, 100, dtype=torch.uint8)
    mask[0, 20:44, 10:40], mask[1, 50:70, 60:84] = 1, 1
    both = {
        "boxes": torch.tensor([[10.0, 20, 40, 44], [60, 50, 84, 70]]),
        "labels": torch.tensor([1, 2]),
        "masks": mask,
    }
    one = {name: value[1:] for name, value in both.items()}
    none = {name: value[:0] for name, value in both.items()}
    return images, [both, none, one], torch.tensor([0, 1, 2])
