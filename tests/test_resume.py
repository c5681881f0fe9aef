"""A killed run continues and ends in the same weights, bit for bit; a run that is complete is left alone."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from conftest import assignments, contents, results, tiny

from covid_workbench.training.train import train

STEPS = dict(checkpoint_minutes=0, validate_every=2, classification_batch=2, segmentation_batch=2)
REGIMES = {
    "two-phase": dict(model="lstm2", regime="two-phase", epochs=1.5, optimizer="adam", schedule="constant"),
    "released": dict(model="lstm1", regime="two-phase", epochs=1.5, protocol="released"),
    "warm-start": dict(model="attention", detector_epochs=2, aggregator_epochs=3, epochs=0.5),
    "two-stage": dict(
        model="ct-mask-net",
        detector_epochs=2,
        epochs=1,
        update="full",
        flips=True,
        scale=0.2,
        rotation=10,
        brightness=0.2,
        contrast=0.3,
        balanced=True,
    ),
    "volumes": dict(
        model="resnext-plus",
        phantom_slices=4,
        volume_slices=3,
        epochs=8,
        schedule="cyclic",
        cycle_epochs=1.5,
        balanced=True,
        volume_statistics="running",
    ),
}


def start(folder: Path, resume: bool, **settings) -> subprocess.Popen:
    words = [
        str(Path(sys.executable).parent / "covid-workbench"),
        "train",
        str(folder),
        "--preset",
        "smoke",
        "--set",
        *assignments(**settings),
    ]
    return subprocess.Popen(words + ["--resume"] * resume, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def newest_checkpoint(folder: Path) -> float:
    "When a checkpoint of the run, or of the warm-start detector beside it, was last written."
    return max((path.stat().st_mtime for path in folder.parent.rglob("checkpoint.safetensors")), default=0.0)


@pytest.mark.parametrize("regime", REGIMES)
def test_killed_runs_end_in_the_same_weights(tmp_path, regime):
    settings = STEPS | REGIMES[regime]
    whole = train(tiny(**settings), tmp_path / "whole" / "run", progress=False)
    seed = int.from_bytes(os.urandom(4), "big")
    print("kills drawn with seed", seed)  # shown when the test fails
    chance, folder, kills = random.Random(seed), tmp_path / "killed" / "run", 0
    folder.parent.mkdir()
    for _ in range(30):
        process, seen = start(folder, resume=folder.exists(), **settings), newest_checkpoint(folder)
        checkpoints = chance.randint(1, 6)
        while process.poll() is None and kills < 3 and checkpoints:
            if newest_checkpoint(folder) != seen:
                seen, checkpoints = newest_checkpoint(folder), checkpoints - 1
            time.sleep(0.002)
        if process.poll() is None and kills < 3:
            time.sleep(chance.random() * 0.05)  # anywhere between two checkpoints, or in the middle of writing one
            process.send_signal(signal.SIGKILL)
            kills += 1
        _, error = process.communicate()
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, error[-2000:]
    assert kills >= 2, "the run was over before it could be killed"
    assert contents(folder)["weights.safetensors"] == contents(whole.folder)["weights.safetensors"]
    ours, theirs = (pd.read_csv(path / "history.csv").drop(columns="seconds") for path in (folder, whole.folder))
    pd.testing.assert_frame_equal(ours, theirs)


def test_ctrl_c_leaves_a_checkpoint(tmp_path):
    settings = STEPS | REGIMES["two-phase"] | {"checkpoint_minutes": 60, "epochs": 6}  # long enough to be still at it
    whole = train(tiny(**settings), tmp_path / "whole" / "run", progress=False)
    folder = tmp_path / "stopped" / "run"
    process = start(folder, False, **settings)
    while process.poll() is None and not (folder / "log.txt").exists():
        time.sleep(0.005)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate()
    assert process.returncode == 130 and "--resume" in error and "Traceback" not in error, error[-3000:]
    assert (folder / "checkpoint.safetensors").exists()
    again = start(folder, True, **settings)
    assert again.wait() == 0
    assert contents(folder)["weights.safetensors"] == contents(whole.folder)["weights.safetensors"]


def test_a_complete_run_is_left_alone(finished):
    before = contents(finished.folder)
    train(finished.experiment, finished.folder, resume=True, progress=False)
    assert contents(finished.folder) == before


def test_seeds(tmp_path):
    runs = [
        train(tiny(model="mask-rcnn", seed=seed), tmp_path / name, progress=False)
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    weights = [(run.folder / "weights.safetensors").read_bytes() for run in runs]
    assert weights[0] == weights[1] != weights[2]


def test_warm_starts_share_detector_and_regions(finished, tmp_path):
    shared = finished.folder.parent / "shared"
    before = results(shared)
    train(finished.experiment.replace(model="lstm1"), tmp_path / "lstm1", shared=shared, progress=False)
    assert results(shared) == before
    other = train(
        finished.experiment.replace(model="lstm1", roi_samples=12), tmp_path / "other", shared=shared, progress=False
    )
    assert other.detector.folder != finished.detector.folder
    new = set(results(shared)) - set(before)
    assert new and all(name.startswith(("detector-", "regions-")) for name in new)
    assert {name: content for name, content in results(shared).items() if name in before} == before


def test_a_folder_whose_making_was_killed_is_no_obstacle(tmp_path, finished):
    """Killed between slices.csv and experiment.json: the next attempt starts there; a folder with anything else is
    refused.
    """
    from covid_workbench.errors import InputError

    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("slices.csv", "experiment.json.part4711", ".lock"):
        (folder / name).write_text("")
    run = train(finished.experiment, folder, shared=finished.folder.parent / "shared", progress=False)
    assert contents(folder)["weights.safetensors"] == contents(finished.folder)["weights.safetensors"] and run.complete
    assert not list(folder.glob("*.part*"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("x")
    with pytest.raises(InputError, match="is not a run"):
        train(finished.experiment, tmp_path / "other", shared=finished.folder.parent / "shared", progress=False)
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["thesis.tex"]
