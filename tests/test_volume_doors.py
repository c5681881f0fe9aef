"What people read of volumes: sentences, tables, pictures, and what the commands write."

import json
import re

import numpy as np
import pandas as pd
import pytest
from conftest import tiny
from PIL import Image

import covid_workbench as cw
from covid_workbench.data.phantom import PhantomSettings, write_phantom
from covid_workbench.data.slices import SliceTable
from covid_workbench.errors import InputError
from covid_workbench.evaluation.evaluate import evaluate
from covid_workbench.evaluation.volume_comparison import ComparedRun, VolumeComparison, compare_runs
from covid_workbench.evaluation.volume_question import Question, question_of, truth_of, volumes_for_all
from covid_workbench.evaluation.volumes import VolumePrediction
from covid_workbench.reports import volume_comparison
from covid_workbench.reports.run_report import html_table
from covid_workbench.reports.volume_comparison import comparison_sections, wrong_volumes
from covid_workbench.reports.volume_picture import LEFT, WIDTH, volume_picture
from covid_workbench.reports.volume_report import slice_sentence, volume_counts
from covid_workbench.runs.run import Run
from covid_workbench.training.train import train
from covid_workbench.volumes.dataset import VolumeStack
from covid_workbench.volumes.volume_rows import VolumeRows, volumes_of
from covid_workbench.words import counted

TWO = ("Normal", "COVID-19")


# Pictures


def stack_of(count: int, why: str = "") -> VolumeStack:
    lungs = np.zeros((count, 32, 32), bool)
    lungs[:, 8:24, 6:26] = True
    return VolumeStack(np.full((count, 32, 32), 90, np.uint8), lungs, np.full(count, np.nan), why)


def answer_of(places, name: str = "P", logits=(0.0, 1.0)) -> VolumePrediction:
    weights = np.random.default_rng(0).dirichlet(np.ones(len(places)))
    return VolumePrediction(name, TWO, np.array(logits), np.asarray(places), weights)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 350])
def test_curve_and_band_stay_between_the_ends_of_the_axis(count):
    places = np.unique(np.linspace(0, count - 1, 50).round().astype(int))
    svg = volume_picture(stack_of(count), answer_of(places), np.arange(count) % 2.0).svg
    dots = [float(x) for x in re.findall(r'<circle cx="([\d.]+)"', svg)]
    assert len(dots) == len(places) and LEFT < min(dots) and max(dots) < WIDTH
    band = [tuple(map(float, own)) for own in re.findall(r'<rect x="([-\d.]+)" y="42" width="([\d.]+)"', svg)]
    assert len(band) == count and min(x for x, _ in band) >= LEFT and max(x + wide for x, wide in band) <= WIDTH
    centres = [x + wide / 2 for x, wide in band]  # a dot stands below the piece of its slice
    np.testing.assert_allclose(dots, [centres[place] for place in places], atol=0.2)


def test_words_below_a_picture_are_broken_into_lines_and_none_is_lost():
    why = "the mask covers little of the body on many of the slices " * 4
    svg = volume_picture(stack_of(5, why.strip()), answer_of(range(5))).svg
    height = float(re.search(r'height="(\d+)"', svg)[1])
    lines = re.findall(r'<text[^>]* y="([\d.]+)"[^>]*>([^<]*)</text>', svg)
    said = [(float(y), words) for y, words in lines if "mask" in words and "outlined" not in words or "body" in words]
    assert len(said) > 1 and all(len(words) <= 110 for _, words in said) and max(y for y, _ in said) < height
    assert " ".join(words for _, words in said) == f"Lung mask: {why.strip()}"
    told = volume_picture(stack_of(5, why), answer_of(range(5)), words=["It shows air."]).svg
    assert "It shows air." in told and "covers little" not in told


def test_what_nobody_asks_of_the_slices_is_not_drawn():
    stack, answer = stack_of(9), answer_of(range(9), "a" * 300)
    assert "known" not in volume_picture(stack, answer).svg and "lesion" not in volume_picture(stack, answer).svg
    assert "what the slices show is not known" in volume_picture(stack, answer, np.full(9, np.nan)).svg
    svg = volume_picture(stack, answer).svg
    assert "COVID-19 0.73" in svg and "a" * 60 not in svg
    bare = VolumeStack(stack.pixels, np.zeros_like(stack.lungs), stack.lesion)
    assert "outlined" in volume_picture(stack, answer).svg and "outlined" not in volume_picture(bare, answer).svg


# Sentences and tables


def test_of_how_many_volumes_the_figures_are():
    held = {"volumes": 6, "patients": 5, "slices": 72, "slices_read": 60, "classification": {"n": 6}}
    assert volume_counts(held, "test") == "6 volumes of 5 patients in the test split; 60 of their 72 slices were read."
    some = volume_counts(held | {"classification": {"n": 4}, "patients_unknown": 1}, "validation")
    assert "The figures are of 4 volumes" in some and "1 volume does not say of whom" in some and "validation" in some
    assert "of 0 volumes" in volume_counts(held | {"classification": None}, "test")


def test_the_sentence_of_slices_says_of_unknown_ones_only_where_there_are_some():
    found = {"slices": 40, "with_lesion": 15, "unknown": 0, "volumes": 2, "auc_within": [0.25, 0.1, 0.5]}
    found |= {"auc_pooled": [0.5, None, None], "auc_with_volume": [None, None, None]}
    said = slice_sentence({"test": {"slice_answers": found}})
    assert "40 slices" in said and "0.250 (0.10–0.50)" in said and "unknown" not in said and "(2)" in said
    assert "3 more are unknown" in slice_sentence({"test": {"slice_answers": found | {"unknown": 3}}})


def test_what_is_bold_in_a_table():
    frame = pd.DataFrame({"run": ["a", "b"], "AUC": [0.7, None], "F1": [0.4, 0.5], "loss": [2.0, 1.0]})
    frame = frame.assign(slices=[12, 9])
    page = html_table(frame, plain=["loss"])
    assert page.count('class="best"') == 1 and '<td class="best">0.500</td>' in page
    assert "<td>12</td>" in page and "<td>2.000</td>" in page
    assert 'class="best">2.000' in html_table(frame)


# Comparisons


def compared(count: int) -> VolumeComparison:
    "Two made-up runs on the volumes of a phantom: the first is always right, the second calls all normal."
    volumes = [VolumeRows(f"V{at}", f"P{at}", TWO[at % 2], "test", "made up", (at,)) for at in range(count)]
    right = [answer_of([0], own.name, (1.0, 0) if own.label == "Normal" else (0, 1.0)) for own in volumes]
    normal = [answer_of([0], own.name, (1.0, 0)) for own in volumes]
    tried = pd.DataFrame({"rule": ["mean", "votes:0.5"], "words": ["a", "b"], "weighted_f1": [0.5, 0.4]})
    tried = tried.assign(accuracy=[0.5, 0.4], log_loss=[0.6, 6.9])
    metrics = {"volumes": count, "slices_read": 25 * count, "classification": {"accuracy": 1.0, "weighted_f1": 1.0}}
    runs = [ComparedRun("first", "lstm2", "mean", right, metrics, pd.DataFrame(), None, tried)]
    runs += [ComparedRun("second", "resnext-plus", "", normal, metrics, pd.DataFrame())]
    table = type("Table", (), {"name": "made up"})()
    return VolumeComparison(Question(table, TWO, volumes), runs, {}, ["a note"])


def test_the_page_says_which_volumes_a_run_gets_wrong():
    found = compared(5)
    wrong = wrong_volumes(found)
    assert list(wrong["volume"]) == ["V1", "V3"] and set(wrong["first"]) == {"COVID-19 0.73 ✓"}
    assert set(wrong["second"]) == {"Normal 0.73 ✗"}
    sections = dict(comparison_sections(found))
    assert list(sections) == ["Figures", "Rules on validation volumes: first", "Volumes that a run gets wrong"]
    assert "<td>25</td>" in sections["Figures"] and "a note" in sections["Figures"]
    rules = sections["Rules on validation volumes: first"]
    assert 'class="best">6.900' not in rules and 'class="best">0.500' in rules and "weighted_f1" not in rules


def test_a_long_list_of_wrong_volumes_is_cut_and_says_so(monkeypatch):
    monkeypatch.setattr(volume_comparison, "MOST_WRONG", 3)
    page = dict(comparison_sections(compared(12)))["Volumes that a run gets wrong"]
    assert page.count("<tr>") == 1 + 3 and "And 3 more" in page


# The question


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> SliceTable:
    folder = tmp_path_factory.mktemp("asked") / "phantom"
    write_phantom(folder, 9, settings=PhantomSettings(size=64, slices=3), progress=False)
    return SliceTable.from_csv(folder / "slices.csv")


class Untrained(Run):
    "A run that was never trained."

    table = None

    def scored_table(self):
        return self.table


def untrained(table: SliceTable, name: str, splits: dict[str, str], **settings) -> Run:
    "A run whose patients have these splits (else train)."
    run = Untrained(table.roots[0] / name, tiny(**settings))
    own = [splits.get(patient, "train") for patient in table.frame["patient"]]
    run.table = table.with_rows(table.frame.assign(split=own))
    return run


def test_the_truth_of_slices_is_their_mask_and_a_normal_volume_has_no_lesion(table):
    volumes = volumes_of(table)
    for own, truth in ((own, truth_of(table, volumes)[own.name]) for own in volumes):
        masks = [np.isin(table.read(row).mask, table.description.lesions).any() for row in own.rows]
        assert truth.tolist() == [float(mask) for mask in masks] and (own.label != "Normal" or not truth.any())
    bare = table.with_rows(table.frame.assign(mask="", label="COVID-19"))
    assert all(np.isnan(own).all() for own in truth_of(bare, volumes_of(bare)).values())


def test_volumes_of_a_question_and_the_words_on_it(table):
    patients = sorted(set(table.frame["patient"]))
    first = untrained(table, "one", dict.fromkeys(patients[-6:], "test"), model="resnext-plus", classes=TWO)
    second = untrained(table, "two", dict.fromkeys(patients[-4:], "test"), model="classifier")
    asked = [own for own in volumes_of(first.table) if own.split == "test" and own.label in TWO]
    shared = [own.name for own in asked if own.name.split("/")[0] in patients[-4:]]
    question, notes = question_of([first, second])
    assert [own.name for own in question.volumes] == shared and 0 < len(shared) < len(asked)
    assert (
        f"{counted(len(asked) - len(shared), 'volume is', 'volumes are')} left out" in notes[0]
        and "two also knows CP" in notes[1]
    )
    assert question.most is None and question.places(question.volumes[0]).tolist() == [0, 1, 2]
    everything, left = volumes_for_all(table, "", TWO, {asked[0].patient})
    assert left == 1 and asked[0].name not in [own.name for own in everything]
    with pytest.raises(InputError, match="no test volume labelled"):
        question_of([untrained(table, "none", {}, model="classifier")])
    with pytest.raises(InputError, match="slices=some"):
        question_of([first], "some")


def test_a_rule_for_runs_that_join_no_slices_is_refused(table):
    patients = sorted(set(table.frame["patient"]))
    run = untrained(table, "whole", dict.fromkeys(patients[-6:], "test"), model="resnext-plus", classes=TWO)
    with pytest.raises(InputError, match="leave the rule out"):
        compare_runs([run], rule="mean", progress=False)


# Commands


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> cw.OpenRun:
    "A complete, evaluated run of volumes."
    few = dict(phantom_patients=15, phantom_slices=4, epochs=0.3, classes=TWO)
    made = train(tiny(model="resnext-plus", **few), tmp_path_factory.mktemp("runs") / "volumes", progress=False)
    evaluate(made, progress=False)
    return cw.open_run(made.folder)


def write_pictures(run: cw.OpenRun, folder, count: int):
    folder.mkdir()
    for at in range(count):
        Image.fromarray(run.table.read(at).pixels).save(folder / f"{at:02}.png")
    return folder


def test_evaluate_says_how_slices_were_answered(run, command):
    code, said, errors = command("evaluate", run.folder)
    assert code == 0 and f"Slices: {slice_sentence(run.metrics)}" in said.splitlines(), errors
    assert "Slices:" not in command("evaluate", run.folder, "--json")[1]


def test_predict_draws_each_volume_with_what_must_be_known_of_it(run, command, tmp_path):
    folders = [write_pictures(run, tmp_path / name, count) for name, count in (("long", 11), ("short", 3))]
    (tmp_path / "long" / "05.png").write_bytes(b"no picture")
    out = tmp_path / "out"
    code, said, errors = command("predict", run.folder, *folders, "--out", out, "--skip-broken")
    assert code == 0 and str(out / "pictures") in said, errors
    told = {own["volume"]: own for own in json.loads((out / "predictions.json").read_text())["volumes"]}
    assert len(told) == 2 and len(list((out / "pictures").iterdir())) == 2
    for name, own in told.items():
        svg = (out / own["picture"]).read_text()
        words = re.sub(r"\s+", " ", " ".join(re.findall(r"<text[^>]*>([^<]*)</text>", svg)))
        assert f"{own['class']} {own['probabilities'][own['class']]:.2f}" in words
        assert own["notes"] and all(note in words for note in own["notes"]), name
        assert "Research software" in words and svg.count("<circle") == own["read"]
        strongest = own["most_attended"][0]["place"]
        assert f"slice {strongest}" in words
    assert "1 of its 11 slices could not be read" in " ".join(next(iter(told.values()))["notes"])
    assert command("predict", run.folder, folders[1], "--out", out)[0] == 2
    left = tmp_path / "left"
    (left / "pictures").mkdir(parents=True)
    code, _, errors = command("predict", run.folder, folders[1], "--out", left)
    assert code == 2 and "pictures" in errors


def test_a_network_without_slice_attention_has_no_pictures(run, command, tmp_path, monkeypatch):
    predict = VolumePrediction.__init__

    def without(self, id, classes, logits, places, attention):
        predict(self, id, classes, logits, places, None)

    monkeypatch.setattr(VolumePrediction, "__init__", without)
    folder, out = write_pictures(run, tmp_path / "in", 4), tmp_path / "out"
    code, said, errors = command("predict", run.folder, folder, "--out", out)
    assert code == 0 and "pictures" not in said.split("Note:")[0] and not (out / "pictures").exists(), errors
    assert "picture" not in json.loads((out / "predictions.json").read_text())["volumes"][0]


def test_volumes_refuses_what_its_runs_cannot_answer(run, command, tmp_path):
    for words, says in (
        (("--rule", "mean"), "leave the rule out"),
        (("--rule", "median"), "median"),
        (("--draws", "-1"), "--draws"),
        ((run.folder,), "two runs are called"),
    ):
        code, _, errors = command("volumes", run.folder, *words, "--out", tmp_path / "out")
        assert code == 2 and says in errors and not (tmp_path / "out").exists(), errors
    code, said, errors = command("volumes", run.folder, "--slices", "read", "--draws", "5", "--json")
    figures = json.loads(said)
    assert code == 0 and figures["runs"][0]["by"].startswith("slice attention"), errors
    held = run.metrics["test"]
    assert figures["runs"][0]["metrics"]["volumes"] == held["classification"]["n"]
