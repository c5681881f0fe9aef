"""What commands say before they work: own models, presets, estimates."""

import os
import sys

import pytest

import covid_workbench as cw
from covid_workbench import cli
from covid_workbench.models import zoo
from covid_workbench.models.aggregators import AGGREGATORS
from covid_workbench.models.cards import CARDS
from covid_workbench.models.oneshot import MODELS
from covid_workbench.runs.experiment import Experiment
from covid_workbench.runs.run import RunRecord
from covid_workbench.studies import estimate, timing
from covid_workbench.studies.study import read_study

OWN = """
import covid_workbench as cw
from covid_workbench.models.aggregators import AGGREGATORS
cw.register_model("of-a-file", AGGREGATORS["attention"], description="of a file")
"""
CELL = 'cw.register_model("of-a-cell", lambda *, number={number}, **sizes: None, description="number {number}")'


@pytest.fixture
def own_models(monkeypatch):
    "Own models, forgotten after the test."
    tables = AGGREGATORS, CARDS, zoo._imported, zoo._registered
    held, names = [dict(table) for table in tables], list(MODELS)
    yield monkeypatch
    for table, before in zip(tables, held):
        table.clear()
        table.update(before)
    MODELS[:] = names


def run_cell(number: int, module: str = "__main__") -> None:
    exec(compile(CELL.format(number=number), f"<cell {number}>", "exec"), {"__name__": module, "cw": cw})


def test_own_models_are_listed(own_models, command, tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    own_models.setattr(zoo, "count_parameters", lambda *_: 1_000_000)
    code, out, error = command("models", "--models", tmp_path / "own.py")
    assert code == 0 and "of-a-file" in out and "of a file" in out, error
    code, _, error = command("models", "--models", tmp_path / "gone.py")
    assert code == 2 and "gone.py: no such file" in error


def test_a_cell_that_runs_again_replaces_its_model(own_models):
    run_cell(1)
    run_cell(2)
    assert AGGREGATORS["of-a-cell"].__kwdefaults__["number"] == 2
    assert CARDS["of-a-cell"].description == "number 2" and MODELS.count("of-a-cell") == 1
    for place in (lambda: run_cell(3, "another"), lambda: cw.register_model("lstm2", lambda **sizes: None)):
        with pytest.raises(cw.InputError, match="is there already"):
            place()
    assert AGGREGATORS["of-a-cell"].__kwdefaults__["number"] == 2


def test_a_run_says_that_its_own_model_is_another_one_now(own_models, tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    recorded = [{"file": "/elsewhere/own.py", "sha256": "ab" * 32, "models": ["of-a-file"]}]
    own_models.setattr(RunRecord, "record", property(lambda self: {"notes": ["Odd."], "models": recorded}))
    assert RunRecord(tmp_path, None).notes == ["Odd."]
    own_models.setenv("COVID_WORKBENCH_MODELS", str(tmp_path / "own.py"))
    odd, note = RunRecord(tmp_path, None).notes
    assert "/elsewhere/own.py (sha256 abababababab)" in note and str(tmp_path / "own.py") in note
    recorded[0]["sha256"] = zoo.record_of_models()[0]["sha256"]
    assert RunRecord(tmp_path, None).notes == ["Odd."]


def test_a_trunk_nobody_imported_names_its_file(own_models):
    recorded = [{"file": "/elsewhere/own.py", "sha256": "ab" * 32, "models": ["a-trunk"]}]
    with pytest.raises(cw.InputError, match="a-trunk.*give --models /elsewhere/own.py"):
        zoo.require_model("a-trunk", recorded)
    zoo.require_model("", recorded)


def test_classes_by_number_or_by_name():
    for asked, names in (
        (dict(num_classes=2), ("class 1", "class 2")),
        (dict(classes=2), ("class 1", "class 2")),
        (dict(num_classes=("A", "B")), ("A", "B")),
        (dict(num_classes=2, classes=("A", "B")), ("A", "B")),
        (dict(classes="A,B"), ("A", "B")),
    ):
        assert cw.create_model("attention", "resnet18", fpn_channels=8, **asked).settings.classes == names
    for wrong in (dict(num_classes=True), dict(num_classes=2.5), dict(num_classes=2, classes=3)):
        with pytest.raises(cw.InputError):
            cw.create_model("attention", "resnet18", **wrong)


def test_train_asks_for_a_preset_and_says_what_it_begins(command, monkeypatch, tmp_path):
    code, _, error = command("train", tmp_path / "run")
    assert code == 2 and all(f"--preset {name}" in error for name in ("smoke", "small", "paper"))
    steps = dict(segmentation=2.0, classification=3.0, head=0.1, answer=0.5, memory=1.0)
    monkeypatch.setattr(estimate, "time_steps", lambda experiment: steps)

    def begin(*_, **__):
        raise cw.InputError("it begins")

    monkeypatch.setattr("covid_workbench.api.train", begin)
    code, out, error = command("train", tmp_path / "run", "--preset", "smoke", "--set", "image_size=64")
    assert code == 2 and "it begins" in error
    assert "preset smoke, lstm2 on resnet18, slices of 64x64 pixels" in out and "on this machine" in out
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "notes.txt").touch()
    code, out, error = command("train", tmp_path / "taken", "--preset", "smoke")
    assert code == 2 and "is not a run" in error and not out


def test_a_run_goes_on_without_a_preset(monkeypatch, tmp_path):
    experiment = Experiment.make("smoke", image_size=64)
    (tmp_path / "experiment.json").touch()
    opened = type("Opened", (), {"experiment": experiment})
    monkeypatch.setattr("covid_workbench.runs.run.Run.open", lambda folder: opened)
    assert cli._experiment(cli.parser().parse_args(["train", str(tmp_path), "--resume"])) == experiment


STUDY = '{"name": "s", "axes": {"model": ["attention"]}, "settings": {"image_size": 64}}'


def test_what_is_cheap_to_check_comes_before_the_estimate(command, monkeypatch, tmp_path):
    def work(*_, **__):
        raise AssertionError("the estimate began")

    monkeypatch.setattr(estimate, "estimate_cells", work)
    (tmp_path / "study.json").write_text(STUDY)
    words = ("ablate", tmp_path / "study.json", "--dry-run", "--out")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "notes.txt").touch()
    code, _, error = command(*words, tmp_path / "taken")
    assert code == 2 and "is not a study" in error
    monkeypatch.setitem(sys.modules, "papermill", None)
    code, _, error = command(*words, tmp_path / "new")
    assert code == 2 and "[notebook]" in error and not (tmp_path / "new").exists()


def test_an_estimate_has_the_threads_of_a_cell(command, monkeypatch, tmp_path):
    asked = {}

    def measured(cells, workers, threads):
        asked.update(workers=workers, threads=threads)
        return "no time"

    monkeypatch.setattr(estimate, "estimate_cells", measured)
    monkeypatch.setattr("covid_workbench.studies.runner._cores", lambda: 16)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    (tmp_path / "study.json").write_text(STUDY)
    words = ("ablate", tmp_path / "study.json", "--out", tmp_path / "out", "--no-notebook", "--workers")
    monkeypatch.setattr("covid_workbench.studies.runner.run_cells", lambda *_, **__: sys.exit(0))
    command(*words, 8)
    assert asked == {"workers": 8, "threads": 2}
    command(*words, 8, "--threads", 5)
    assert asked["threads"] == 5


def test_the_process_that_measures_has_these_threads(monkeypatch):
    def program(command, *, env, **_):
        assert env["OMP_NUM_THREADS"] == env["MKL_NUM_THREADS"] == "3" and set(os.environ) <= set(env)
        return type("Done", (), {"returncode": 0, "stdout": "[null]"})

    monkeypatch.setattr(timing.subprocess, "run", program)
    assert timing.measure([Experiment.make("smoke")], 1, 3) == [None]


def test_a_long_step_is_not_timed_twice(monkeypatch):
    import torch

    calls, now = [], iter([0.0, 9.0, 10.0, 11.0])
    monkeypatch.setattr(timing.time, "monotonic", lambda: next(now))
    assert timing._seconds_of(lambda: calls.append(1) or torch.zeros(1), grad=False) == 9 and len(calls) == 1


def test_slices_that_are_not_taken_are_not_counted(phantom):
    def counted(**more):
        return estimate._count_slices(Experiment.make("smoke", source=str(phantom), **more))

    whole, few = counted(), counted(train_slices=3, test_slices=3)
    assert few["labelled"] == 3 < whole["labelled"] and few["test"] < whole["test"]
    assert few["validation"] == whole["validation"]


def test_a_figure_that_is_misspelt_is_refused(tmp_path):
    table = '{"title": "T", "rows": ["model"], "figures": ["weighted F"]}'
    (tmp_path / "study.json").write_text(STUDY[:-1] + f', "tables": [{table}]}}')
    with pytest.raises(cw.InputError, match="no figure is called 'weighted F', did you mean 'weighted F1'"):
        read_study(tmp_path / "study.json").cells()
