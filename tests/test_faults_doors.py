"""What the doors do with words, folders and surroundings that cannot be used: one sentence, an exit code, nothing lost.

Commands, answers as files, parity, the demo, the explorers and the pages that they save.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import time
import types
import xml.etree.ElementTree as tree
from pathlib import Path

import ipywidgets as W
import numpy as np
import pandas as pd
import pytest
from conftest import contents
from PIL import Image
from test_bad_input import refused

import covid_workbench as cw
from covid_workbench.ending import end, one_line
from covid_workbench.errors import InputError, StorageError
from covid_workbench.evaluation.inference import Prediction
from covid_workbench.headless import isolated_python
from covid_workbench.lab import explorer_notebooks, lab_command, run_lab
from covid_workbench.reports import answer_files
from covid_workbench.reports.svg import tag, text
from covid_workbench.runs.run import Run
from covid_workbench.schemas import FORMAT
from covid_workbench.widgets.confusion import confusion_of
from covid_workbench.widgets.explorer import AttentionExplorer, several_runs
from covid_workbench.widgets.parts import VerdictPanel
from covid_workbench.widgets.run_folders import find_runs
from covid_workbench.widgets.runs import RunExplorer
from covid_workbench.widgets.saved import page_of

SCRIPT = "<!--<script>"  # inside a script element, this hides its end


@pytest.mark.parametrize(
    "words, says",
    [
        ("predict r p --out o --batch 0", ("--batch", "0", "from 1")),
        ("predict r p --out o --batch -1", ("--batch", "-1")),
        ("predict r p --out o --score nan", ("--score", "nan", "from 0 to 1")),
        ("predict r p --out o --score 7", ("--score", "7")),
        ("predict r p --out o --device tpu", ("--device", "tpu", "cuda")),
        ("predict r p --out o --device cuda:7", ("cuda:7", "CUDA_VISIBLE_DEVICES")),
        ("predict r p --out ", ("--out", "empty")),
        ("evaluate r --device mps", ("--device", "mps")),
        ("evaluate r --device ", ("--device",)),
        ("train r --data ", ("--data", "empty")),
        ("train r --preset ", ("--preset", "empty")),
        ("train ", ("run", "empty")),
        ("settings --backbone ", ("--backbone", "empty")),
        ("phantom p --workers 0", ("--workers", "from 1")),
        ("phantom p --workers 1000000000", ("--workers", "to 256")),
        ("phantom p --patients 1000000000", ("--patients",)),
        ("phantom p --difficulty nan", ("--difficulty", "nan")),
        (f"phantom p --seed {2**53 + 1}", ("--seed", str(2**53 + 1))),
        (f"demo --seed {'9' * 5000}", ("--seed", "5,000 characters")),
        ("lab --port 70000", ("--port", "70000", "65535")),
        ("lab --port -1", ("--port", "-1")),
        ("lab --port www", ("--port", "www")),
        ("parity ", ("folder", "empty")),
        ("evaluate \udcff", ("UTF-8", r"\udcff")),
        ("evaluat r", ("'evaluat' is unknown", "did you mean 'evaluate'")),
    ],
)
def test_words_that_cannot_be_meant(command, tmp_path, monkeypatch, words, says):
    "They are known before any work, and nothing is made."
    monkeypatch.chdir(tmp_path)
    refused(command, *words.split(" "), says=says)
    assert not list(tmp_path.iterdir())


def test_words_that_contradict_each_other(command, finished, tmp_path, monkeypatch):
    "None of them is ignored in silence."
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.json").write_text('{"preset": "smoke"}')
    run = finished.folder
    for words, says in (
        (("--preset", "small", "--config", "c.json"), ("--preset small", "smoke")),
        (("--preset", "small", "--config", run / "experiment.json"), ("--preset small", "--config")),
        (("--preset", "small", "--from", run), ("--preset small", "--from")),
        (("--config", "c.json", "--from", run), ("--config", "--from")),
        (("--data", "here", "--set", "source=there"), ("source=here", "source=there")),
        (("--from", run, "--set", "start_from=there"), ("start_from=there",)),
        (("--allow-crossing", "--set", "allow_crossing=false"), ("--allow-crossing", "allow_crossing=false")),
        (("--set", "cls=1"), ("cls", "unknown")),
        (("--config", "c.json", "--set", "path=1"), ("path", "unknown")),
    ):
        refused(command, "train", "r", *words, says=says)
    for name, value in dict(seed=5, split_seed=5, phantom_seed=5, source="here", model="lstm2", start_from="r").items():
        refused(command, "demo", "--out", "d", "--set", f"{name}={value}", says=(name, "not for the demo"))
    refused(command, "demo", "--summarise", run, "--seed", "1", says=("--seed", "--summarise"))
    assert [path.name for path in tmp_path.iterdir()] == ["c.json"]
    assert command("train", "r", "--config", "c.json", "--preset", "smoke", "--set", "model=no")[0] == 2  # they agree


def test_the_front_door_ignores_nothing(finished, phantom, tmp_path):
    for options, says in (
        (dict(model="lstm2", data=""), "empty"),
        (dict(model="lstm2", data=phantom, source="there"), "source"),
        (dict(model=finished.experiment, data=None, preset="small"), "preset=small"),
    ):
        with pytest.raises(InputError, match=says):
            cw.train(folder=tmp_path / "r", progress=False, **options)
    run = cw.open_run(finished.folder)
    for options in (dict(batch=0), dict(batch=-1), dict(score=float("nan"))):
        with pytest.raises(InputError, match="batch"):
            run.predict(np.zeros((64, 64)), **options)
    assert not list(tmp_path.iterdir())


# Answers as files


@pytest.fixture
def pictures(phantom, tmp_path):
    "A table of six pictures with hostile ids, the fifth picture cut off; returns its path."
    frame = pd.read_csv(phantom / "slices.csv", dtype=str, keep_default_na=False).head(6)
    frame["id"] = ["../../../mine", "A", "a", "x" * 200, "broken", "con"]
    frame["image"] = [f"{number}.png" for number in range(6)]
    (tmp_path / "data").mkdir()
    for name in frame["image"]:
        Image.fromarray(np.full((64, 64), 90, np.uint8)).save(tmp_path / "data" / name)
    cut = tmp_path / "data" / "4.png"
    cut.write_bytes(cut.read_bytes()[:50])
    frame.drop(columns=["mask", "split"], errors="ignore").to_csv(tmp_path / "data" / "six.csv", index=False)
    return tmp_path / "data" / "six.csv"


def test_ids_are_names_and_no_paths(command, finished, pictures, tmp_path):
    "Every overlay lies in its folder, under a name of its own, and one broken picture costs no other its answer."
    out = tmp_path / "deep" / "er" / "out"
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "mine.png").write_bytes(b"keep me")
    before = contents(tmp_path)
    code, said, err = command("predict", finished.folder, pictures, "--out", out, "--score", "0")
    assert code == 1 and "5 of 6 slices" in said and "1 of 6" in err and "broken" in err and len(err.splitlines()) == 1
    after = contents(tmp_path)
    assert {name: after[name] for name in before} == before
    assert all(name.startswith("deep/er/out/") for name in set(after) - set(before))
    told = json.loads((out / "predictions.json").read_text())
    assert [entry["id"] for entry in told["slices"]] == ["../../../mine", "A", "a", "x" * 200, "con"]
    assert told["broken"][0]["id"] == "broken" and "4.png" in told["broken"][0]["why"]
    overlays = [entry["overlay"] for entry in told["slices"]]
    assert len({name.lower() for name in overlays}) == 5 and overlays[1] == "overlays/A.png"
    assert sorted(overlays) == sorted(f"overlays/{path.name}" for path in (out / "overlays").iterdir())


def test_pictures_that_are_all_broken(command, finished, tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_text("no picture")
    words = ("predict", finished.folder, tmp_path / "a.png", tmp_path / "b.png", "--out", tmp_path / "out")
    refused(command, *words, says=("a.png",))
    assert not (tmp_path / "out").exists()


def test_answers_are_whole_or_not_there(command, finished, phantom, tmp_path, monkeypatch):
    "A disk that is full in the middle leaves no `predictions.json`, and what is there is not written over."
    words = ("predict", finished.folder, phantom / "slices.csv", "--score", "0")
    drawn = []

    def draw(*given, **_):
        drawn.append(given)
        if len(drawn) == 3:
            raise StorageError("writing failed: disk full")

    monkeypatch.setattr(answer_files, "overlay_png", draw)
    refused(command, *words, "--out", tmp_path / "out", code=1, says=("disk full",))
    assert not (tmp_path / "out" / "predictions.json").exists()
    (tmp_path / "file").write_text("keep me")
    for out, says in (("out", "already holds"), ("file", "is a file")):
        refused(command, *words, "--out", tmp_path / out, says=(out, says))
    assert (tmp_path / "file").read_text() == "keep me"


def test_an_answer_that_is_no_number_is_none():
    nan = np.array([0.0, np.nan])
    with pytest.raises(InputError, match="slice a: .* logits"):
        answer_files.answer_entry(Prediction("a", ("Normal", "CP"), None, nan, None, None, None, None), "a.png", ())


# Parity


def test_what_was_not_compared_does_not_agree(command, tmp_path):
    boxes = np.array([[30.0, 40, 60, 60], [3, 4, 20, 20]], np.float32)
    np.savez(tmp_path / "a.npz", boxes=boxes, order=np.array([1, 0]))
    assert command("parity", tmp_path)[0] == 0
    np.savez(tmp_path / "b.npz", boxen=boxes)
    refused(command, "parity", tmp_path, says=("b.npz", "no known fixture", "order by distance"))
    np.savez(tmp_path / "b.npz", **{"mask/a": np.zeros((4, 4), np.uint8)})  # targets of no slice
    refused(command, "parity", tmp_path, says=("b.npz", "without any array"))


@pytest.mark.parametrize("kind", ["list", "shapes", "pipe"])
def test_fixtures_that_are_none(command, tmp_path, kind):
    path = tmp_path / "a.npz"
    if kind == "list":
        (tmp_path / "a.json").write_text('{"params_updated_by_seg_step": 7}')
    elif kind == "shapes":
        np.savez(path, boxes=np.zeros(3), order=np.array([[1, 0]]))
    else:
        os.mkfifo(path)
    refused(command, "parity", tmp_path, says=(tmp_path / "a",))


class Payload:
    "What runs when it is unpickled."

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_fixtures_are_not_unpickled(command, tmp_path):
    np.savez(tmp_path / "a.npz", boxes=np.array([Payload(tmp_path / "ran"), None], object), order=np.array([1]))
    refused(command, "parity", tmp_path, says=("a.npz", "damaged"))
    assert not (tmp_path / "ran").exists()


# JupyterLab


def test_lab_names_a_broken_notebook(finished, tmp_path):
    for content in (
        "{",
        "[]",
        '{"cells": 3}',
        '{"cells": [{"metadata": {}}]}',
        '{"cells": [{"metadata": 1, "source": ""}]}',
    ):
        (tmp_path / "attention.ipynb").write_text(content)
        with pytest.raises(InputError, match="attention.ipynb is not a notebook"):
            explorer_notebooks(tmp_path, [finished.folder])
        assert (tmp_path / "attention.ipynb").read_text() == content
    with pytest.raises(InputError, match="is a file"):
        explorer_notebooks(tmp_path / "attention.ipynb")


def test_lab_as_root_says_the_way_out(command, finished, tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr("covid_workbench.lab.run_lab", lambda words: started.append(words) or 3)
    words = ("lab", finished.folder, "--folder", tmp_path / "explore")
    refused(command, *words, code=1, says=("root", "--allow-root"))
    assert not list(tmp_path.iterdir()) and not started
    assert command(*words, "--allow-root")[0] == 3  # JupyterLab's own exit code
    assert "--allow-root" in started[0] and "--allow-root" not in lab_command("a.ipynb")


def test_lab_ends_with_its_command(tmp_path):
    "SIGTERM to the command ends the child, whose exit code is passed on."
    assert run_lab([*isolated_python(), "-c", "raise SystemExit(7)"]) == 7
    child = f"import pathlib, os, time; pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid()))"
    child += "; time.sleep(60)"
    code = f"import sys; from covid_workbench.lab import run_lab; sys.exit(run_lab([sys.executable, '-c', {child!r}]))"
    process = subprocess.Popen([*isolated_python(), "-c", code])
    for _ in range(600):
        if (tmp_path / "pid").exists() and (tmp_path / "pid").read_text():
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


# How a command ends


def fail(error: BaseException):
    def work() -> None:
        raise error

    return work


def test_one_sentence_whatever_happened(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    said: list[str] = []
    for error, code in (
        (InputError("two\nlines \x1b[31m"), 2),
        (StorageError("full"), 1),
        (KeyboardInterrupt(), 130),
        (RecursionError("deep"), 1),
        (MemoryError(), 1),
        (UnicodeEncodeError("ascii", "ü", 0, 1, "no"), 1),
        (OSError(28, "No space left on device"), 1),
        (TypeError("a\nb"), 1),
    ):
        assert end(fail(error), said.append) == code
    assert len(said) == 8 and all(line.isprintable() and len(line) < 500 for line in said)
    assert said[0] == r"two lines \x1b[31m" and "memory" in said[4]
    logs = sorted(tmp_path.glob("covid-workbench-error-*.log"))
    assert len(logs) == 4 and all("Traceback" in path.read_text() for path in logs)
    assert any(str(path) in said[7] for path in logs)
    monkeypatch.setenv("COVID_WORKBENCH_DEBUG", "1")
    with pytest.raises(TypeError):
        end(fail(TypeError("a")), said.append)
    assert one_line("x" * 9999).endswith("(9,999 characters)")


PRINTS = "import sys; from covid_workbench.ending import end, open_streams; open_streams(); sys.exit(end("
SAYS = ", lambda line: print(line, file=sys.stderr)))"


def python(code: str, redirect: str = "", **options) -> subprocess.CompletedProcess:
    "Python in a shell of its own, where streams are redirected; the exit code is that of Python."
    words = [*isolated_python(), "-c", code]
    script = f'"$@" {redirect}; exit ${{PIPESTATUS[0]}}'
    return subprocess.run(["bash", "-c", script, "-", *words], capture_output=True, text=True, timeout=60, **options)


def test_streams_that_are_closed_full_or_not_read(tmp_path):
    many = PRINTS + "lambda: print('x' * 100, *range(100000), sep='\\n') or print('x' * 100000)" + SAYS
    done = python(many, "| head -1")
    assert (done.returncode, done.stderr) == (1, "") and done.stdout == "x" * 100 + "\n"
    done = python(many, "> /dev/full")
    assert done.returncode == 1 and "No space left" in done.stderr and len(done.stderr.splitlines()) == 1
    # what is printed into a closed stdout does not end up in the first file that is opened
    closed = f"open({str(tmp_path / 'a')!r}, 'w'), print('x'), __import__('os').write(1, b'y')"
    done = python(PRINTS + f"lambda: ({closed}) and 0" + SAYS, ">&- 2>&- <&-")
    assert done.returncode == 0 and (tmp_path / "a").read_bytes() == b""
    done = python(PRINTS + "lambda: print('β')" + SAYS, env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0 and done.stdout == "\\u03b2\n"


def test_a_working_folder_that_is_gone(tmp_path):
    (tmp_path / "gone").mkdir()
    code = "import os, sys; os.rmdir('../gone'); from covid_workbench.cli import main; sys.exit(main(['models']))"
    done = python(code, cwd=tmp_path / "gone")
    assert done.returncode == 1 and "is gone" in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr


def test_a_user_without_a_home(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("COVID_WORKBENCH_CACHE", raising=False)
    monkeypatch.setattr(Path, "home", classmethod(lambda cls: fail(RuntimeError("no home"))()))
    with pytest.raises(InputError, match="COVID_WORKBENCH_CACHE"):
        cw.phantom(1, size=64, slices=1, progress=False)


# Pages and pictures that hold what others wrote


def test_a_saved_page_holds_any_text():
    "Nothing in a trait ends the script element that it is in, and what JSON or UTF-8 lacks does not stop the page."
    part = VerdictPanel(note=f"{SCRIPT}</script><b> \udcff", truth=SCRIPT, before={"logits": [float("nan"), 1.0]})
    page = W.VBox([part, W.HTML("fine")])
    page.links = []
    text = page_of(page, f"{SCRIPT}\udcff")
    text.encode()
    told = re.search(r'<script type="application/json" id="told">(.*?)</script>', text, re.S)[1]
    assert "<" not in told
    traits = json.loads(told, parse_constant=fail(ValueError("NaN")))["parts"][0]["traits"]
    assert traits["note"].startswith(f"{SCRIPT}</script><b>") and traits["before"]["logits"] == [None, 1.0]
    assert SCRIPT not in text.replace(told, "")


def test_names_of_models_are_text_in_the_explorer():
    names = ("verdict", "canvas", "panel", "affinity", "agreement", "orders", "inspector")
    pane = types.SimpleNamespace(**{name: W.Box() for name in names})
    made = several_runs(W.Box(), [pane, pane], [f"{SCRIPT}<b>", "two"], W.Box())
    columns = made[0].children[1].children
    assert SCRIPT not in columns[0].children[0].value and "two" in columns[1].children[0].value


def test_a_picture_holds_any_text():
    drawn = tag("svg", text(0, 0, "a\x00\x1b<b>\udcff"), role="\x07&")
    node = tree.fromstring(drawn)
    assert node[0].text == "a��<b>�" and node.get("role") == "�&"


# Explorers on damaged runs


@pytest.fixture
def pair(finished, tmp_path):
    "A folder of two runs, of which `one` may be damaged."
    for name in ("one", "two"):
        shutil.copytree(finished.folder, tmp_path / "runs" / name)
    return tmp_path / "runs"


def edit(path: Path, *names, value) -> None:
    content = json.loads(path.read_text())
    inner = content
    for name in names[:-1]:
        inner = inner[name]
    inner[names[-1]] = value
    path.write_text(json.dumps(content))


def pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


DAMAGES = {
    "month 13": lambda run: (run / "log.txt").write_text("2026-13-01 00:00:00,1 aggregator: steps 0 to 9\n"),
    "many digits": lambda run: (run / "log.txt").write_text(f"2026-12-01 00:00:00,1 a: steps 0 to {'9' * 5000}\n"),
    "a score without end": lambda run: edit(run / "metrics.json", "test", "classification", "weighted_f1", value=1e999),
    "an interval of nothing": lambda run: edit(
        run / "metrics.json", "test", "classification", "f1_interval", value=[None, None]
    ),
    "deep metrics": lambda run: (run / "metrics.json").write_text("[" * 200_000),
    "a detector of no kind": lambda run: (run / "warm_start.json").write_text('{"detector": {}}'),
    "its own detector": lambda run: (run / "warm_start.json").write_text('{"detector": "."}'),
    "pipes": lambda run: [pipe(run / name) for name in ("history.csv", "log.txt", "predictions.csv", ".lock")],
    "endless steps": lambda run: (run / "history.csv").write_text("stage,step,seconds,loss_image\na,1e400,nan,1e400\n"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_runs_that_are_damaged_stand_beside_the_others(pair, damage):
    "The other run is shown, and the damaged one with what is left of it, or with the reason why it is not."
    DAMAGES[damage](pair / "one")
    explorer = RunExplorer(pair, live=False, on_open=lambda run, ids: None)
    keys = list(explorer.snapshot.runs)
    assert str(pair / "two") in keys
    assert len(keys) == 2 or [name for name, _ in explorer.snapshot.skipped] == ["one"]
    for key in keys:
        explorer.table.selected = key
        explorer.card.cell = [0, 0]
    for x in ("x_epoch", "x_minutes"):
        explorer.bar.x = x
    shown = {name: getattr(part, name) for part in (explorer.bar, explorer.card, explorer.table) for name in part.keys}
    json.dumps(shown, allow_nan=False, default=str)
    assert explorer.svg.startswith("<svg")
    explorer.close()


def test_looking_at_runs_imports_nothing(pair, tmp_path):
    (pair / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    (pair / "manifest.json").write_text(json.dumps({"models": str(pair / "mine.py"), "cells": []}))
    found, skipped = find_runs(pair)
    assert not (tmp_path / "ran").exists() and len(found) == 2 and skipped


@pytest.mark.parametrize(
    "content, says",
    [
        ("id,patient\na,b\n", "'label' is missing"),
        ("id,patient,label\na,b,CP\na,b,CP\n", "occurs twice"),
        ("id,patient,label,predicted,p_Normal,p_CP,p_COVID-19\na,b,CP,Covid,0,0,1\n", "classes"),
        ("id,patient,label,predicted,p_Normal,p_CP,p_COVID-19\na,b,CP,CP,0,seven,1\n", "probability"),
        ("\0\0", "predictions.csv"),
    ],
)
def test_predictions_that_are_none(pair, content, says):
    (pair / "one" / "predictions.csv").write_text(content)
    with pytest.raises(InputError, match=says):
        AttentionExplorer(pair / "one")


def test_a_matrix_with_a_hole_is_none(pair):
    (pair / "one" / "predictions.csv").unlink()
    assert confusion_of(Run.open(pair / "one")).rows is None
    edit(pair / "one" / "metrics.json", "test", "classification", "confusion", value=[[1], []])
    assert "no predictions" in confusion_of(Run.open(pair / "one"))


def test_pictures_that_changed_are_said_in_the_pane(pair):
    path = pair / "one" / "predictions.csv"
    frame = pd.read_csv(path, keep_default_na=False)
    explorer = AttentionExplorer(pair / "one")
    own = explorer.browser.slice
    assert explorer.panes[0].verdict.note == ""
    chances = [name for name in frame if name.startswith("p_")]
    frame[chances] = 1 - frame[chances]
    frame.to_csv(path, index=False)
    explorer = AttentionExplorer(pair / "one", slice=own)
    assert "has changed since" in explorer.panes[0].verdict.note and explorer.panes[0].verdict.answer


# The demo


@pytest.mark.parametrize(
    "content, says",
    [
        ('{"preset": "small"}', "'settings' is missing"),
        (json.dumps({"preset": "small", "settings": {}, "format": FORMAT + 1}), "newer version"),
    ],
)
def test_a_folder_of_another_demo(command, tmp_path, content, says):
    (tmp_path / "demo.json").write_text(content)
    refused(command, "demo", "--out", tmp_path, says=(says,))
    assert contents(tmp_path) == {"demo.json": content.encode()}


def test_summaries_of_what_is_no_demo(command, tmp_path):
    def made(name: str, results, settings=None) -> Path:
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(json.dumps(results))
        if settings is not None:
            about = {"preset": "small", "settings": settings}
            (tmp_path / name / "demo.json").write_text(json.dumps(about))
        return tmp_path / name

    rows = [{"model": "LSTM-2", "weighted F1": 0.8, "sensitivity CP": None}]
    right, seed = (made(f"right{n}", {"seed": n, "rows": rows}, {"seed": n, "image_size": 96}) for n in range(2))
    other = made("other", {"seed": 2, "rows": rows}, {"seed": 2, "image_size": 64})
    assert "0.800 ± 0.000" in command("demo", "--summarise", right, seed)[1]
    assert "nan" not in command("demo", "--summarise", right)[1]
    for folders, says in (
        ((right, right), "twice"),
        ((right, other), "other settings"),
        ((tmp_path,), "no finished demo"),
        ((made("a", {"rows": 3}),), "'rows'"),
        ((made("b", {"rows": [{"model": "LSTM-2", "weighted F1": "many"}]}),), "weighted F1"),
        ((made("c", {"rows": [{"weighted F1": 0.5}]}),), "model"),
        ((made("d", {"rows": []}),), "no rows"),
    ):
        refused(command, "demo", "--summarise", *folders, says=(says,))


def test_help_is_read_without_torch():
    code = "import sys; from covid_workbench.cli import parser; parser(); assert 'torch' not in sys.modules"
    assert subprocess.run([*isolated_python(), "-c", code]).returncode == 0
