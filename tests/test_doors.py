"""Doors that say what happens: whose patients these are, which word is unknown, how long it takes, where it goes on."""

import argparse
import dataclasses
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
from conftest import tiny

from covid_workbench import cli, locks
from covid_workbench.arguments import OneSentenceParser
from covid_workbench.data.phantom import PhantomSettings, phantom_patient, write_phantom
from covid_workbench.data.slices import SliceTable
from covid_workbench.data.sources import open_sources
from covid_workbench.data.splits import split_by_patient
from covid_workbench.errors import InputError
from covid_workbench.evaluation import explanation, scored_parts
from covid_workbench.evaluation.evaluate import evaluate
from covid_workbench.evaluation.external import PART, evaluate_on
from covid_workbench.reports.run_report import telling_slices
from covid_workbench.runs.external import EXTERNAL, external_answers, seen_before, seen_words
from covid_workbench.runs.run import Run
from covid_workbench.runs.selections import Selection, save_selection
from covid_workbench.training.train import train

# -- other phantoms are other people


def others(folder, patients: int = 9, seed: int = 7, **settings) -> SliceTable:
    "The slices of a phantom of other people."
    write_phantom(folder, patients, seed=seed, settings=PhantomSettings(size=64, **settings), progress=False)
    return SliceTable.from_csv(folder / "slices.csv")


def test_patients_of_another_phantom_have_other_names_and_the_same_places_in_a_split(tmp_path):
    names = [[phantom_patient(number, seed).id for number in (0, 12)] for seed in (0, 7, 71)]
    assert names == [["P0000", "P0012"], ["S7P0000", "S7P0012"], ["S71P0000", "S71P0012"]]
    table = others(tmp_path / "b", 15, slices=2)
    bare = table.with_rows(table.frame.replace({"patient": "^S7", "id": "^S7"}, "", regex=True))
    assert set(bare.frame["patient"]) == {f"P{number:04d}" for number in range(15)}
    for seed in range(4):  # as before they had names of their own
        own, before = (split_by_patient(one, seed=seed).frame["split"] for one in (table, bare))
        assert own.tolist() == before.tolist()


def test_a_run_has_not_seen_the_people_of_another_phantom(finished, tmp_path):
    seen = seen_before(finished, others(tmp_path / "b", slices=2), progress=False)
    assert seen["named"] == 9 and not any(seen["patients"].values())
    words = seen_words(seen)
    assert words[0] == "None of 9 patients has the name of a patient who trained the run or chose its weights."
    assert not any("may have seen" in said or "flatter" in said for said in words)


# -- words


@pytest.mark.parametrize(
    "words, says",
    [
        ("train r --prest smoke", "covid-workbench train: --prest is unknown, did you mean '--preset'?"),
        ("predict r a.png --otu o", "covid-workbench predict: --otu is unknown, did you mean '--out'?"),
        ("evaluate r --divice=cpu", "covid-workbench evaluate: --divice is unknown, did you mean '--device'?"),
        ("predict r --out o \udcff", "covid-workbench predict: argument files: '\\udcff' is not a name in UTF-8"),
        ("predict r --out o a.png -x", "covid-workbench predict: 'a.png -x' is more than it can use"),
        ("models --bogus", "covid-workbench models: --bogus is unknown"),
        ("data check a --jsno", "covid-workbench data check: --jsno is unknown, did you mean '--json'?"),
        ("train r s --preset smoke", "covid-workbench train: 's' is more than it can use"),
        ("trian r", "covid-workbench: argument command: 'trian' is unknown, did you mean 'train'?"),
        ("data chek a", "covid-workbench data: argument action: 'chek' is unknown, did you mean 'check'?"),
        (
            "explain r --split tset",
            "covid-workbench explain: argument --split: 'tset' is unknown, did you mean 'test'?",
        ),
        ("data export a --out b --to coco --bits 9", "argument --bits: '9' is unknown, choose one of: 8, 16"),
    ],
)
def test_an_unknown_word_is_refused_by_its_command_with_the_nearest(command, words, says):
    code, out, error = command(*words.split())
    assert code == 2 and not out and error.count("\n") == 0
    prog = error.partition(": ")[0]
    assert says in error and error.endswith(f"; see {prog} --help")


def test_what_is_known_is_read_as_before():
    args = cli.parser().parse_args(["predict", "r", "--ou", "o"])
    assert args.out == "o" and args.files == []  # a word that is cut short
    for words in ("r a.png b.png --out o", "r a.png --out o b.png", "r --out o a.png b.png"):
        assert cli.parser().parse_args(["predict", *words.split()]).files == ["a.png", "b.png"]
    args = cli.parser().parse_args(["predict", "--out", "o", "--", "r", "--odd-name.png"])
    assert args.files == ["--odd-name.png"]
    parser = OneSentenceParser(prog="try")
    parser.add_argument("--number", type=int, choices=(-1, 2))
    assert parser.parse_args(["--number", "-1"]) == argparse.Namespace(number=-1)


def test_columns_are_refused_by_their_name(phantom):
    with pytest.raises(InputError, match=r"columns \(--map\): '-1e400' is not of the form COLUMN=NAME"):
        open_sources([str(phantom)], columns=("-1e400",))


# -- ids are text


def test_patient_007_stays_007(scored):
    path = scored.folder / "predictions.csv"
    rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    rows["id"], rows["patient"] = [f"{number:04d}" for number in range(len(rows))], "007"
    rows.to_csv(path, index=False)
    found = scored.predictions
    assert set(found["patient"]) == {"007"} and found["id"].tolist() == rows["id"].tolist()
    told = telling_slices(scored)
    assert told and set(told) <= set(rows["id"])


# -- locks that people see


def test_a_lock_that_was_taken_away_in_between_is_made_anew(tmp_path, monkeypatch):
    path, real, taken = tmp_path / ".lock", locks.lock_descriptor, []

    def late(descriptor, **options):
        if not taken:  # whoever held it ends now, between our opening and our locking
            taken.append(path.unlink())
        return real(descriptor, **options)

    monkeypatch.setattr(locks, "lock_descriptor", late)
    with locks.exclusive(path, wait=0, tidy=True):
        assert taken and locks.is_held(path)
        with pytest.raises(InputError, match="another process"), locks.exclusive(path, wait=0, tidy=True):
            pass
        assert locks.is_held(path)
    assert not path.exists()


def test_a_saved_selection_leaves_nothing_but_itself(tmp_path):
    save_selection(tmp_path, Selection("hard", ("P1",)))
    with pytest.raises(InputError, match="already"):
        save_selection(tmp_path, Selection("hard", ("P2",)))
    assert [path.name for path in (tmp_path / "selections").iterdir()] == ["hard.json"]


# -- explain says how long it takes


def test_explain_says_how_many_and_measures_how_long(finished, tmp_path, command, monkeypatch):
    heard, out, asked, held, real = [], tmp_path / "out", [], [], explanation.explain_slice

    def noted(read, piece, *args, **more):
        "The first slice is explained, the others are said to be like it."
        asked.append(piece.id)
        held.append(held[0] if held else real(read, piece, *args, **more))
        regions = [one | {"id": piece.id} for one in held[0].regions]
        return dataclasses.replace(held[0], row=held[0].row | {"id": piece.id}, regions=regions)

    monkeypatch.setattr(explanation, "explain_slice", noted)
    ids = finished.table.split("validation").frame["id"].tolist()
    assert len(ids) > 5
    options = dict(modes=("zeroed",), out=out, repeats=20, progress=False)
    explanation.explain_run(finished, "validation", told=lambda *said: heard.append(said), **options)
    assert asked == explanation.spread_first(ids) and explanation.explained_of(out).rows["id"].tolist() == ids
    assert heard[0] == (len(ids), 0, None) and heard[1][:2] == (len(ids), 5) and heard[1][2] > 0 and len(heard) == 2
    words = ("explain", finished.folder, "--split", "validation", "--mode", "zeroed", "--draws", 20, "--out")
    code, said, error = command(*words, tmp_path / "more")
    assert code == 0, error
    assert said.startswith(f"{len(ids)} slices of the validation split to explain\n")
    assert f"seconds a slice, measured: the {len(ids) - 5} that are left take about" in said


# -- volumes go on where they were


@pytest.fixture(scope="module")
def of_volumes(tmp_path_factory) -> Run:
    "A complete, evaluated run of volumes."
    few = dict(phantom_patients=15, phantom_slices=4, epochs=0.3, threads=1)
    made = train(tiny(model="resnext-plus", **few), tmp_path_factory.mktemp("runs") / "volumes", progress=False)
    evaluate(made, progress=False)
    return made


def test_volumes_of_its_own_test_set_have_the_figures_of_evaluate(of_volumes):
    answers = evaluate_on(of_volumes, of_volumes.table.split("test"), "again", progress=False)
    assert answers.metrics[EXTERNAL] == of_volumes.metrics["test"] and answers.metrics["regime"] == "volumes"
    for name in ("predictions", "slice_answers"):
        now, before = (pd.read_csv(folder / f"{name}.csv", dtype=str) for folder in (answers.folder, of_volumes.folder))
        before = before[before["split"] == "test"].reset_index(drop=True)
        assert len(now) and now.drop(columns="split").equals(before.drop(columns="split"))
    shutil.rmtree(answers.folder)


def test_a_killed_scoring_of_volumes_goes_on_and_ends_in_the_same_files(of_volumes, tmp_path, monkeypatch):
    elsewhere = others(tmp_path / "b", 5, slices=4, form="volumes")
    whole = evaluate_on(of_volumes, elsewhere, "whole", progress=False)
    real, asked = scored_parts.answered_volumes, []

    def killed(model, dataset, rows, **options):
        asked.append(list(rows))
        if len(asked) == 4:
            raise KeyboardInterrupt
        return real(model, dataset, rows, **options)

    monkeypatch.setattr(scored_parts, "answered_volumes", killed)
    with pytest.raises(KeyboardInterrupt):
        evaluate_on(of_volumes, elsewhere, "killed", progress=False)
    folder = of_volumes.folder / EXTERNAL / "killed"
    assert (folder / PART).exists() and [one.folder.name for one in external_answers(of_volumes)] == ["whole"]
    again = evaluate_on(of_volumes, elsewhere, "killed", progress=False)
    assert asked == [[0], [1], [2], [3], [3], [4]] and not (folder / PART).exists()
    for name in ("predictions.csv", "slice_answers.csv", "slices.csv"):
        assert (again.folder / name).read_bytes() == (whole.folder / name).read_bytes(), name
    assert again.metrics[EXTERNAL] == whole.metrics[EXTERNAL] and not (folder / ".lock").exists()


@pytest.mark.parametrize("name, holds", [("metrics.json", "field 'external'"), ("data.json", "field 'format'")])
def test_a_damaged_file_of_other_data_is_named(scored, tmp_path, name, holds):
    answers = evaluate_on(scored, others(tmp_path / "b", 3, slices=1), progress=False)
    (answers.folder / name).write_text("{}")
    with pytest.raises(InputError, match=f"{name}: {holds} is missing; score the data again"):
        answers.metrics if name == "metrics.json" else answers.about  # noqa: B018


# -- packages


def test_a_version_managers_word_that_starts_no_python_is_no_python(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "heavy"))
    import packages

    shim = tmp_path / "python3.99"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert packages.python_here("3.99") == "" == packages.python_here("3.98")
    (tmp_path / "python3.97").symlink_to(sys.executable)
    assert packages.python_here("3.97") == str(tmp_path / "python3.97")
