"""`make test-kill`: a study ends the same although its runner is killed at least ten times, at random moments.

Its children and kernels are killed, too.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from conftest import TINY
from studies_kit import ablate, finished_results, write_study

from covid_workbench.studies.folder import StudyFolder

STUDY = {
    "name": "kills",
    "axes": {"model": ["attention", "lstm1", "lstm2", "affinity"], "seed": [0, 1]},
    "settings": TINY | {"checkpoint_minutes": 0, "detector_epochs": 3, "aggregator_epochs": 6, "epochs": 1},
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    assert ablate(write_study(folder, STUDY), folder / "out", "--workers", 2).returncode == 0
    return folder / "out"


def finished(out: Path) -> dict[str, list[float]]:
    "Name -> when its attempts started, of every finished cell."
    return (
        {cell.name: cell.state["starts"] for cell in StudyFolder.open(out).cells if cell.status == "finished"}
        if (out / "manifest.json").exists()
        else {}
    )


def test_ten_kills(whole, tmp_path):
    seed = int(os.environ.get("KILL_SEED", random.randrange(10**6)))
    chance, out, kills, worker_kills, done_before = random.Random(seed), tmp_path / "out", 0, 0, {}
    for attempt in range(60):
        process = ablate(whole.parent / "study.json", out, "--workers", 2, *["--resume"] * attempt, start=True)
        until = time.monotonic() + chance.uniform(4, 22)
        while process.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
            if chance.random() < 0.004:  # now and then a child or a kernel alone: the runner tries that cell again
                family = psutil.Process(process.pid).children(recursive=True)
                if family:
                    chance.choice(family).kill()
                    worker_kills += 1
        if process.poll() is None and kills < 12:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.communicate()
        now = finished(out)
        for name, starts in done_before.items():  # what was finished stays as it was
            assert now[name] == starts, name
        done_before = now
        if process.returncode == 0:
            break
    print(f"seed {seed}: {kills} kills of the runner, {worker_kills} of workers, {attempt + 1} starts")
    assert kills >= 10
    assert len(now) == 8 and finished_results(out) == finished_results(whole)
    logs = "".join(path.read_text() for path in out.rglob("log.txt") if "cells" not in path.parent.parent.name)
    print(logs.count("continued"), "stages continued from a checkpoint")
    assert "continued" in logs


def test_a_killed_dask_worker_loses_nothing(whole, tmp_path):
    "The processes of a Dask cluster are killed while their cells run; Dask starts others, and the study ends the same."
    pytest.importorskip("distributed")
    process = ablate(whole.parent / "study.json", tmp_path / "out", "--workers", 2, "--executor", "dask", start=True)
    killed = 0
    while process.poll() is None and killed < 3:
        time.sleep(random.uniform(8, 15))
        if process.poll() is None:
            nannies = [
                child for child in psutil.Process(process.pid).children() if "spawn_main" in " ".join(child.cmdline())
            ]
            if nannies:
                random.choice(nannies).kill()
                killed += 1
    output, error = process.communicate()
    print(f"{killed} Dask workers killed")
    assert process.returncode == 0 and killed, error[-3000:]
    assert finished_results(tmp_path / "out") == finished_results(whole)
