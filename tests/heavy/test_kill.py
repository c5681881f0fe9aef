"""`make test-kill`: a hundred kills at random moments over train, evaluate, demo and ablate; the results stay the same.

Commands run in forked children of this process, so that a kill hits their work and seldom their start. Each is given
again (with --resume where there is one) until it ends by itself; then its files are compared bit for bit with those of
an undisturbed one, without the times that they hold. KILL_SEED repeats the moments as far as the machine allows.

The demo trains its plain classifier for as long as the slowest of ours took: that number of epochs is a measurement,
so it is held at a fixed value here, in the undisturbed demo as in the killed ones.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import pandas as pd
import psutil
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from conftest import assignments, contents
from faults.base import Try
from faults.child import output_of, start_try
from faults.material import Material
from studies_kit import finished_results, write_study

SEED = int(os.environ.get("KILL_SEED", random.randrange(10**6)))
KILLS = {"train, two-phase": 25, "train, warm start": 20, "evaluate": 20, "demo": 15, "ablate": 20}
LONGER = dict(checkpoint_minutes=0, threads=1, device="cpu", classification_batch=2, segmentation_batch=2)
REGIMES = {
    "train, two-phase": dict(model="lstm2", regime="two-phase", epochs=2, optimizer="adam", schedule="constant"),
    "train, warm start": dict(model="attention", detector_epochs=3, aggregator_epochs=4, epochs=0.5),
}


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    "Modules imported once, and a complete run with its data."
    return Material(tmp_path_factory.mktemp("material"))


class Killer:
    "Starts a command again and again and kills it, or one of its children, at random moments."

    def __init__(self, what: str, scratch: Path):
        self.what, self.scratch, self.chance = what, scratch, random.Random(f"{SEED}/{what}")
        self.kills, self.victims = 0, Counter()
        for name in ("cwd", "tmp", "home"):
            (scratch / name).mkdir(parents=True, exist_ok=True)

    @property
    def enough(self) -> bool:
        return self.kills >= KILLS[self.what]

    def run(self, one: Try, moments: tuple[float, float] | None, children: float = 0.0) -> int | None:
        "Start a command; kill it in one of the `moments` (None: never). Its exit code, or None when it was killed."
        child = start_try(one, self.scratch)
        until = time.monotonic() + self.chance.uniform(*moments) if moments and not self.enough else float("inf")
        while True:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                code = os.waitstatus_to_exitcode(status)
                return None if code == -signal.SIGKILL else code
            if time.monotonic() > until:
                until = float("inf")
                self._kill(child, children)
            time.sleep(0.002)

    def _kill(self, child: int, children: float) -> None:
        "Kill the command, or with the probability `children` one of those it has started."
        victim = psutil.Process(child)
        family = victim.children(recursive=True)
        if family and self.chance.random() < children:
            victim = self.chance.choice(family)
        with contextlib.suppress(psutil.NoSuchProcess):
            name = "itself" if victim.pid == child else "a child"
            victim.kill()
            self.kills += 1
            self.victims[name] += 1

    def until_done(self, one_of, moments: tuple[float, float], children: float = 0.0) -> None:
        "Give the command again until it ends by itself."
        for attempt in range(200):
            code = self.run(one_of(attempt), moments, children)
            if code == 0:
                return
            assert code is None or children, f"exit {code}: {' '.join(output_of(self.scratch))[-3000:]}"
        raise AssertionError(f"{self.what} does not end: {' '.join(output_of(self.scratch))[-3000:]}")

    def report(self, rounds: int) -> None:
        victims = ", ".join(f"{number} of {name}" for name, number in sorted(self.victims.items()))
        print(f"\n{self.what}: {self.kills} kills ({victims}) in {rounds} rounds; KILL_SEED={SEED}")
        assert self.enough, self.kills


def same_run(folder: Path, whole: Path) -> None:
    "Weights, history without its seconds, and scores of two runs are the same."
    ours, theirs = contents(folder), contents(whole)
    assert ours["weights.safetensors"] == theirs["weights.safetensors"]
    for name in ("metrics.json", "predictions.csv"):
        assert ours.get(name) == theirs.get(name), name
    frames = (pd.read_csv(path / "history.csv").drop(columns="seconds") for path in (folder, whole))
    pd.testing.assert_frame_equal(*frames)
    assert not [name for name in ours if ".part" in name and not name.endswith(".ipynb")], sorted(ours)


def took(killer: Killer, one: Try) -> float:
    "Seconds of an undisturbed command."
    started = time.monotonic()
    code = killer.run(one, None)
    assert code == 0, " ".join(output_of(killer.scratch))[-3000:]
    return time.monotonic() - started


@pytest.mark.parametrize("what", REGIMES)
def test_train(material, tmp_path, what):
    killer, settings = Killer(what, tmp_path), assignments(**LONGER | REGIMES[what])

    def words(folder: Path, attempt: int = 0) -> Try:
        resume = ["--resume"] * (folder / "experiment.json").exists()
        data = material.root / "world" / "data"
        return Try(["train", folder, "--preset", "smoke", "--data", data, "--set", *settings, *resume])

    seconds, rounds = took(killer, words(tmp_path / "whole" / "run")), 0
    while not killer.enough:
        folder, rounds = tmp_path / f"round{rounds}" / "run", rounds + 1
        killer.until_done(lambda attempt, folder=folder: words(folder, attempt), (0.01, seconds / 2))
        same_run(folder, tmp_path / "whole" / "run")
    killer.report(rounds)


def test_evaluate(material, tmp_path):
    killer, rounds = Killer("evaluate", tmp_path), 0
    for name in ("data", "run", "shared"):
        shutil.copytree(material.root / "world" / name, tmp_path / name)
    run, scores = tmp_path / "run", ("metrics.json", "predictions.csv")
    whole = contents(run)
    seconds = took(killer, Try(["evaluate", run]))
    assert all(contents(run)[name] == whole[name] for name in scores)
    while not killer.enough:
        rounds += 1
        if killer.chance.random() < 0.5:  # the first scores of a run, or scores in the place of earlier ones
            for name in scores:
                (run / name).unlink()
        before = [name for name in scores if (run / name).exists()]
        for _ in range(3):
            if killer.run(Try(["evaluate", run]), (0.01, seconds)) is None:
                left = contents(run)
                assert all(left.get(name, whole[name]) == whole[name] for name in scores), "half a file"
                assert all(name in left for name in before), "scores lost"
        killer.until_done(lambda attempt: Try(["evaluate", run]), (9e9, 9e9))
        same_run(run, material.root / "world" / "run")
    killer.report(rounds)


def demo_files(out: Path) -> dict:
    "What a demo found, without its times."
    content = json.loads((out / "results.json").read_text())
    for row in content["rows"]:
        row.pop("seconds", None)
    return content


def test_demo(material, tmp_path):
    killer, rounds = Killer("demo", tmp_path), 0
    settings = [word for word in assignments(**LONGER) if not word.startswith("phantom_seed")]

    def hold_epochs() -> None:  # a measured time: see the docstring
        import covid_workbench.demo

        covid_workbench.demo.epochs_in = lambda *about, **more: 1.5

    def words(out: Path) -> Try:
        return Try(["demo", "--out", out, "--preset", "smoke", "--set", *settings], before=hold_epochs)

    took(killer, words(tmp_path / "whole"))
    while not killer.enough:
        out, rounds = tmp_path / f"round{rounds}", rounds + 1
        killer.until_done(lambda attempt, out=out: words(out), (0.5, 16))
        assert demo_files(out) == demo_files(tmp_path / "whole") and (out / "report.html").stat().st_size > 10_000
        for path in sorted((tmp_path / "whole").glob("*/metrics.json")):
            same_run(out / path.parent.name, path.parent)
    killer.report(rounds)


def test_ablate(material, tmp_path):
    killer, rounds = Killer("ablate", tmp_path), 0
    study = {
        "name": "kills",
        "axes": {"model": ["attention", "lstm1"], "seed": [0, 1]},
        "settings": dict(
            pair.split("=") for pair in assignments(**LONGER | dict(detector_epochs=2, aggregator_epochs=3))
        ),
    }
    path = write_study(tmp_path, study)

    def words(out: Path, attempt: int) -> Try:
        resume = ["--resume"] * (out / "manifest.json").exists()
        return Try(["ablate", path, "--out", out, "--no-estimate", "--no-notebook", "--workers", 2, *resume])

    took(killer, words(tmp_path / "whole", 0))
    while not killer.enough:
        out, rounds = tmp_path / f"round{rounds}", rounds + 1
        killer.until_done(lambda attempt, out=out: words(out, attempt), (1, 14), children=0.4)
        assert finished_results(out) == finished_results(tmp_path / "whole") and len(finished_results(out)) == 4
        for run in sorted((tmp_path / "whole" / "cells").glob("*/run")):
            same_run(out / "cells" / run.parent.name / "run", run)
    killer.report(rounds)
