"""A sample of `make test-faults` over all classes of input, and proof that its judge is not blind."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from faults import rules  # noqa: F401
from faults.base import RULES, Try, drawn, fine
from faults.material import Material, World
from faults.session import attempt
from faults.verdict import spoken

ROOT = Path(__file__).parents[1]


def test_a_sample_of_every_class():
    "One process, imported once; each try is a forked child of it."
    words = [sys.executable, "-P", "-m", "tests.faults", "--seed", "1", "--tries", "54", "--processes", "1"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    kinds = {one.kind for one in RULES}
    tries = re.findall(r"^(\w+) +(\d+) +\d+ +\d+ +0 ", done.stdout, re.MULTILINE)
    assert {kind for kind, _ in tries} == kinds and sum(int(number) for _, number in tries) == 54


def test_a_try_can_be_made_again():
    "Seed and number decide rule and chance, whatever was drawn before."
    rule, chance = drawn(3, 41)
    drawn(3, 40)
    again, other = drawn(3, 41)
    assert rule is again and chance.random() == other.random()
    assert {drawn(0, number)[0].name for number in range(2000)} == {one.name for one in RULES}


@pytest.fixture
def world(tmp_path):
    material = Material.__new__(Material)
    material.root, material.results = tmp_path / "material", {"status": {"attention": "finished 62 s"}}
    return World(material, tmp_path / "scratch", None)


def wrong(world, run, **more):
    "What the judge says of a command that does `run`."
    one = Try(["evaluate", "x"], **{"names": ["slices.csv"], "fine": fine} | more)
    return attempt(one, world.scratch, run)[1]


def say(text: str, code: int = 2):
    def run(words):
        print(text, file=sys.stderr)
        return code

    return run


def test_a_proper_refusal_and_a_proper_success(world):
    assert wrong(world, say("covid-workbench evaluate: slices.csv: no such file")) == []


def test_a_success(world):
    assert wrong(world, lambda words: 0) == []


def raises(words):
    raise KeyError("metadata")


def shows_a_traceback(words):
    print("Traceback (most recent call last):\nKeyError: 'x'")
    return 0


@pytest.mark.parametrize("run, says", [(raises, "KeyError: 'metadata'"), (shows_a_traceback, "KeyError: 'x'")])
def test_a_planted_traceback_is_seen(world, run, says):
    [found] = wrong(world, run)
    assert found.startswith("traceback") and says in found


def test_a_planted_hang_is_seen_and_ended(world):
    started = time.monotonic()
    assert wrong(world, lambda words: time.sleep(60), limit=0.5) == ["hang: 0.5 s"]
    assert time.monotonic() - started < 10


def test_valid_work_that_takes_long_is_no_hang_and_hostile_work_is_one(world):
    def begin(words):
        world.out.mkdir()
        time.sleep(60)

    assert wrong(world, begin, begun=world.out, patience=0.2) == []
    world.out.rmdir()
    assert wrong(world, begin, begun=world.out, patience=0.2, fine=None) == ["valid work began with a wrong input"]


@pytest.mark.parametrize("what", ["changed", "deleted", "added"])
def test_a_planted_change_of_a_foreign_file_is_seen(world, what):
    def run(words):
        if what == "changed":
            world.canary.write_text("gone")
        elif what == "deleted":
            world.canary.unlink()
        else:
            (world.scratch / "canary2.png").write_text("x")
        return 0

    assert wrong(world, run) == [f"touched: {what} canary{'2' * (what == 'added')}.png"]


def test_what_a_command_may_write_is_no_change(world):
    def run(words):
        world.out.mkdir()
        (world.out / "a.json").write_text("{}")
        return 0

    assert wrong(world, run) == []


def test_a_planted_wrong_figure_is_seen(world):
    def run(words):
        print("Study tiny\n  finished attention 61 s")
        return 0

    [found] = wrong(world, run, fine=world.same("status"))
    assert found == "wrong figure: /attention is finished 61 s, not finished 62 s"


def test_a_planted_nan_in_results_is_seen(world):
    def run(words):
        world.out.mkdir()
        (world.out / "predictions.json").write_text('{"slices": [{"class": "Normal", "p": NaN}]}')
        return 0

    assert wrong(world, run) == ["predictions.json holds no proper JSON: NaN"]


@pytest.mark.parametrize(
    "run, says",
    [
        (say("covid-workbench evaluate: something is wrong"), "names none of"),
        (say("slices.csv: bad"), "does not begin with the command"),
        (say("covid-workbench: slices.csv\nand more"), "2 lines"),
        (say("", 1), "0 lines"),
        (say("covid-workbench: slices.csv", 3), "exit 3"),
        (say("covid-workbench: slices.csv" + "x" * 2000), "a sentence of"),
        (lambda words: os.kill(os.getpid(), 9), "exit -9"),
    ],
)
def test_a_refusal_that_is_no_sentence_is_seen(world, run, says):
    [found] = wrong(world, run)
    assert says in found


def test_an_accepted_wrong_input_is_seen(world):
    [found] = wrong(world, lambda words: print("30 slices") or 0, fine=None)
    assert found == "accepted: exit 0, 30 slices"


def test_progress_bars_and_usage_are_no_sentences():
    bar = "\rchecking:   0%|     | 0/30 [00:00<?, ?slice/s]\rchecking: 100%|###| 30/30 [00:00<00:00, 1.5slice/s]\n"
    usage = "usage: covid-workbench predict [-h] --out OUT\n                               run files\n"
    assert spoken(bar + usage + "covid-workbench predict: error: --out\n") == ["covid-workbench predict: error: --out"]


BARS = (
    "training:  40%|####      | 4/10 [00:01<00:02,  2.51it/s, loss=0.3]",
    "hashing files: 7file [00:00, 71.2file/s]",
    "phantom: 0patient [00:00, ?patient/s]",
    "reading volumes: 3volume [01:02:03, 20.1s/volume]",
)


@pytest.mark.parametrize("bar", BARS)
def test_a_bar_of_progress_is_no_sentence(bar):
    assert spoken(f"\r{bar}\rcovid-workbench train: no\n") == ["covid-workbench train: no"]


@pytest.mark.parametrize("unit", ["s", "it", "step", "file"])
def test_a_sentence_on_a_path_that_looks_like_a_unit_is_one(unit):
    "Names of temporary folders are drawn by chance, and the sentence ends in brackets."
    line = f"covid-workbench evaluate: faults-l10{unit}/try-31/run: '{{'a': [1]}}' is not a number"
    assert spoken(line + "\n") == [line]
