"""Volumes answered by runs of slices and of volumes: rules, files, lesions in ml, words, and both in one table."""

import dataclasses
import json

import nibabel
import numpy as np
import pandas as pd
import pytest
from conftest import tiny
from PIL import Image
from volumes_kit import write_dicom, write_nifti

import covid_workbench as cw
from covid_workbench.data.volumes import Volume
from covid_workbench.errors import InputError
from covid_workbench.evaluation import volume_comparison, volume_question
from covid_workbench.evaluation.evaluate import evaluate
from covid_workbench.evaluation.inference import Prediction
from covid_workbench.evaluation.volume_answers import KEPT, among, is_flat, keep_rule, rule_of, shares_of
from covid_workbench.evaluation.volume_comparison import compare_runs
from covid_workbench.evaluation.volume_inputs import join_slices
from covid_workbench.evaluation.volume_question import question_of, seen_by
from covid_workbench.evaluation.volume_rules import RULES, VolumeRule, rule_named, rules_tried, telling
from covid_workbench.training.train import train
from covid_workbench.volumes.volume_rows import VolumeRows, volumes_of
from covid_workbench.words import counted

TWO = ("Normal", "COVID-19")
PHANTOM = dict(phantom_patients=18, phantom_slices=4, phantom_form="pictures")


class Runs(dict):
    "Runs on one phantom, each trained when it is asked for: two of two classes, and attention, which knows three."

    def __init__(self, folder):
        self.folder = folder

    def __missing__(self, name: str) -> cw.OpenRun:
        few = {"detector_epochs": 0.3} if name == "attention" else {"epochs": 0.3, "classes": TWO}
        run = train(tiny(model=name, **PHANTOM, **few), self.folder / name, progress=False)
        return self.setdefault(name, cw.open_run(run.folder))


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Runs:
    return Runs(tmp_path_factory.mktemp("bridge"))


@pytest.fixture(scope="module")
def chest(runs) -> Volume:
    "A scan of 12 planes out of two patients of the phantom, in HU."
    pieces = [runs["attention"].table.read(row) for row in range(12)]
    hu = np.stack([-1350 + piece.pixels.astype(np.float32) * 1500 / 255 for piece in pieces])
    return Volume(hu.clip(-1024).round().astype(np.int16), (2.0, 0.7, 0.8), name="chest")


@pytest.fixture
def nifti(chest, tmp_path):
    return write_nifti(tmp_path / "in" / "chest.nii.gz", chest.hu)


# Rules


def random_shares(seed: int, slices: int = 9, classes: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(classes), slices)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_a_rule_knows_no_order_of_slices_and_its_weights_say_what_counted(rule):
    for seed in range(5):
        shares = random_shares(seed, classes=3)
        answer, weights = rule.read(shares, 0)
        turned, order = np.random.default_rng(seed).permutation(len(shares)), None
        np.testing.assert_allclose(rule.answer(shares[turned], 0), answer, atol=1e-12)
        assert np.isclose(answer.sum(), 1) and np.isclose(weights.sum(), 1) and (weights >= 0).all()
        if rule.kind != "votes":
            np.testing.assert_allclose(weights @ shares, answer, atol=1e-5)
            order = np.argsort(-telling(shares, 0))
            assert (np.diff(weights[order]) <= 1e-12).all()  # the more telling, the more it counts
        same = np.tile(shares[:1], (7, 1))
        assert rule.answer(same, 0).argmax() == rule.answer(same[:1], 0).argmax()


def test_rules_beside_plain_loops():
    shares = random_shares(3, slices=10)
    best = sorted(range(10), key=lambda at: shares[at, 0])[:3]
    np.testing.assert_allclose(VolumeRule("top", 0.3).answer(shares, 0), shares[best].mean(0), atol=1e-5)
    odds = (1 - shares[:, 0]) / shares[:, 0]
    np.testing.assert_allclose(VolumeRule("attention", 1).answer(shares, 0), odds @ shares / odds.sum(), atol=1e-5)
    np.testing.assert_allclose(VolumeRule("attention", 2).read(shares, 0)[1], odds**0.5 / (odds**0.5).sum(), atol=1e-5)


def test_votes_are_positive_above_their_share():
    for positive in range(11):
        shares = np.array([[0.2, 0.8]] * positive + [[0.9, 0.1]] * (10 - positive))
        for share in (0.05, 0.25, 0.55):
            answer, weights = VolumeRule("votes", share).read(shares, 0)
            assert (answer[1] > answer[0]) == (positive / 10 > share)
            assert ((weights > 0) == (shares.argmax(1) == answer.argmax())).all()


def test_the_rule_is_the_best_on_validation_volumes():
    normal, ill = [0.9, 0.1], [0.1, 0.9]
    healthy, sick = [np.tile(normal, (20, 1))] * 3, [np.array([ill] * 2 + [normal] * 18)] * 3
    tried = rules_tried([*healthy, *sick], ["Normal"] * 3 + ["COVID-19"] * 3, TWO, 0).set_index("rule")
    assert tried.index[0] == "top:0.1" and tried["weighted_f1"].iloc[0] == 1
    assert tried["accuracy"]["mean"] == 0.5 and sorted(tried.index) == sorted(map(str, RULES))
    noisy = [np.array([ill] + [normal] * 19)] * 3  # one wrong slice of a healthy scan
    tried = rules_tried([*noisy, *[np.tile(ill, (20, 1))] * 3], ["Normal"] * 3 + ["COVID-19"] * 3, TWO, 0)
    accuracy = tried.set_index("rule")["accuracy"]
    assert accuracy[tried["rule"][0]] == accuracy["mean"] == 1 and accuracy["top:0"] == 0.5
    assert tried["log_loss"][0] == tried["log_loss"][tried["accuracy"] == 1].min()


@pytest.mark.parametrize(
    "word", ["mode", "top", "top:", "top:2", "mean:0", "votes:0", "attention:nan", "top:0.5:1", ""]
)
def test_words_that_are_no_rule(word):
    with pytest.raises(InputError, match="rule"):
        rule_named(word)


# One-shot runs on a volume


def test_predict_answers_a_volume_by_its_slices_with_lesions_in_ml(runs, nifti, command, tmp_path):
    run, out = runs["attention"], tmp_path / "o"
    code, said, errors = command("predict", run.folder, nifti, "--out", out, "--score", "0.02", "--rule", "top:0.5")
    assert code == 0 and "volume chest/chest:" in said and "top:0.5" in said and "ml" in said, errors
    told = json.loads((out / "predictions.json").read_text())
    (volume,) = told["volumes"]
    names = run.experiment.one_shot.classes
    shares = np.array([[own["probabilities"][name] for name in names] for own in told["slices"]])
    best = np.argsort(shares[:, 0], kind="stable")[:6]
    np.testing.assert_allclose([volume["probabilities"][name] for name in names], shares[best].mean(0), atol=2e-5)
    assert volume["class"] == names[shares[best].mean(0).argmax()] and volume["rule"] == "top:0.5"
    assert {own["id"] for own in volume["most_attended"]} <= {told["slices"][at]["id"] for at in best}
    masks = np.asanyarray(nibabel.load(out / "scans" / f"{volume['scan']}.seg.nii.gz").dataobj)
    assert (masks > 0).any()
    for value, name in told["scans"][0]["mask_values"].items():
        by_hand = (masks == int(value)).sum() * 2.0 * 0.7 * 0.8 / 1000
        assert volume["lesion_ml"][name] == pytest.approx(by_hand, abs=6e-4)


def test_python_says_the_same_as_the_files_and_memory_the_same_as_a_file(runs, nifti, chest, command, tmp_path):
    run = runs["attention"]
    asked = dict(score=0.02, rule="attention:1")
    by_file, in_memory = (run.predict(own, **asked).volumes for own in (nifti, chest))
    assert len(by_file) == len(in_memory) == 1
    np.testing.assert_allclose(by_file[0].logits, in_memory[0].logits, atol=1e-4)
    lesions = [own.lesions.drop(columns=["volume", "centre_mm"]) for own in (by_file, in_memory)]
    assert len(lesions[0]) and lesions[0]["volume_ml"].sum() == pytest.approx(lesions[1]["volume_ml"].sum(), rel=0.02)
    assert by_file.slices["place"].tolist() == list(range(12)) and by_file.classes["rule"][0] == "attention:1"
    assert by_file.slices["attention"].sum() == pytest.approx(1, abs=1e-5)
    command("predict", run.folder, nifti, "--out", tmp_path / "o", "--score", "0.02", "--rule", "attention:1")
    (told,) = json.loads((tmp_path / "o" / "predictions.json").read_text())["volumes"]
    assert told["probabilities"]["Normal"] == pytest.approx(by_file.classes["p_Normal"][0], abs=1e-5)


def test_single_pictures_are_no_volume_of_a_one_shot_run(runs):
    run = runs["classifier"]
    pictures = [run.table.read(row).pixels for row in range(3)]
    answers = run.predict(pictures)
    assert len(answers) == 3 and len(answers.volumes) == 0 and list(answers.volumes.classes)[:2] == ["volume", "slices"]


# Volume-level runs


def test_a_volume_level_run_answers_with_the_attention_of_the_slices_it_read(runs, nifti, chest, command, tmp_path):
    run, out = runs["resnext-plus"], tmp_path / "o"
    code, said, errors = command("predict", run.folder, nifti, "--out", out)
    assert code == 0 and "volume chest/chest:" in said and "4 of 12 slices" in said, errors
    told = json.loads((out / "predictions.json").read_text())
    assert [own["place"] for own in told["slices"]] == [0, 4, 7, 11]
    assert sum(own["attention"] for own in told["slices"]) == pytest.approx(1, abs=1e-4)
    table = pd.read_csv(out / "slice_answers.csv")
    assert table["id"].tolist() == [own["id"] for own in told["slices"]] and "volumes" in told
    answers = run.predict(chest)
    shares = answers.classes.iloc[0]
    assert told["volumes"][0]["probabilities"]["COVID-19"] == pytest.approx(shares["p_COVID-19"], abs=1e-4)
    flipped = write_nifti(tmp_path / "in" / "other.nii.gz", chest.hu, flip="z")
    np.testing.assert_allclose(run.predict(flipped)[0].logits, run.predict(nifti)[0].logits, atol=1e-4)
    assert command("predict", run.folder, nifti, "--out", out)[0] == 2  # the folder is in use


def test_a_folder_of_pictures_is_one_volume_and_so_is_a_list_of_arrays(runs, tmp_path):
    run = runs["resnext-plus"]
    pieces = [run.table.read(row).pixels for row in range(11)]
    for at, pixels in enumerate(pieces):
        Image.fromarray(pixels).save(tmp_path / f"slice{at}.png")  # slice10 comes after slice9
    of_folder, of_arrays = run.predict(tmp_path), run.predict(pieces)
    assert len(of_folder) == len(of_arrays) == 1 and "11 pictures" in of_folder.notes[0]
    np.testing.assert_allclose(of_folder[0].logits, of_arrays[0].logits, atol=1e-5)
    assert of_folder.slices["id"].tolist() == [f"slice{at}" for at in of_folder[0].places]
    backwards = run.predict(pieces[::-1])
    assert not np.allclose(backwards[0].logits, of_arrays[0].logits, atol=1e-6)


def test_what_does_not_fit_a_volume_level_run_is_said(runs, nifti, command, tmp_path):
    run = runs["resnext-plus"]
    for words, says in ((("--rule", "mean"), "rule"), (("--dicom",), "--dicom")):
        code, _, errors = command("predict", run.folder, nifti, "--out", tmp_path / "o", *words)
        assert code == 2 and says in errors and errors.count("\n") == 0 and not (tmp_path / "o").exists()
    with pytest.raises(InputError, match="slices"):
        run.attention()
    with pytest.raises(InputError, match="H, W"):
        run.predict(np.zeros((3, 64, 64)))


# Words beside an answer


def noise(depth: int) -> np.ndarray:
    return np.random.default_rng(0).normal(-1000, 15, (depth, 64, 64)).clip(-1024).astype(np.int16)


@pytest.mark.parametrize("name", ["resnext-plus", "classifier"])
def test_volumes_that_are_too_short_or_show_air_alone(runs, name, chest):
    def words(answer) -> str:
        return (answer if name == "resnext-plus" else answer.volumes).classes["note"][0]

    run, spacing = runs[name], chest.spacing
    assert "air alone" in words(run.predict(Volume(noise(12), spacing, name="air")))
    assert "1 slice" in words(run.predict(Volume(chest.hu[:1], spacing, name="one")))
    assert "4 slices" in words(run.predict(Volume(chest.hu[:4], spacing, name="four")))
    part = Volume(np.concatenate([noise(3), chest.hu]), spacing, name="part")
    assert "no body in 3 of its 15 slices" in words(run.predict(part))
    assert "slices" not in words(run.predict(chest))
    assert not is_flat(run.table.read(0).pixels)


@pytest.mark.parametrize("name", ["resnext-plus", "classifier"])
def test_mixed_series_and_missing_slices(runs, name, chest, command, tmp_path):
    for path in write_dicom(tmp_path / "ct", chest.hu[:5], SeriesInstanceUID="1.2.99"):
        path.rename(path.with_name(f"other-{path.name}"))
    write_dicom(tmp_path / "ct", chest.hu)
    code, said, errors = command("predict", runs[name].folder, tmp_path / "ct", "--out", tmp_path / "o")
    told = json.loads((tmp_path / "o" / "predictions.json").read_text())
    assert code == 0 and sorted(own["slices"] for own in told["volumes"]) == [5, 12], errors
    gap = write_dicom(tmp_path / "gap", chest.hu)
    for path in gap[4:7]:
        path.unlink()
    code, said, errors = command("predict", runs[name].folder, tmp_path / "gap", "--out", tmp_path / "p")
    assert code == 0 and "missing" in said, said + errors


def test_a_volume_with_a_slice_that_cannot_be_read_is_answered_by_the_others(runs, command, tmp_path):
    run = runs["resnext-plus"]
    for row in range(12):
        Image.fromarray(run.table.read(row).pixels).save(tmp_path / f"{row}.png")
    (tmp_path / "5.png").write_bytes((tmp_path / "5.png").read_bytes()[:200])
    code, _, errors = command("predict", run.folder, tmp_path, "--out", tmp_path / "o")
    assert code == 1 and "1 of 5 slices" in errors
    told = json.loads((tmp_path / "o" / "predictions.json").read_text())
    assert told["broken"][0]["id"] == "5" and told["volumes"][0]["slices"] == 11
    assert "1 of its 12 slices could not be read" in " ".join(told["volumes"][0]["notes"])


# Both families


def volumes_in(run: cw.OpenRun, split: str) -> list[VolumeRows]:
    "The volumes of a split that are of the two classes; a slice of an ill patient may be normal."
    return [own for own in volumes_of(run.table) if own.split == split and own.label in TWO]


def test_runs_of_both_families_answer_for_the_same_volumes(runs):
    three = [runs[name] for name in ("resnext-plus", "classifier", "attention")]
    found = compare_runs(three, repeats=20, progress=False)
    assert found.frame["run"].tolist()[:3] == [run.folder.name for run in three]
    assert {own.metrics["volumes"] for own in found.runs} == {len(found.answers)}
    assert list(found.answers["volume"]) == [own.name for own in volumes_in(three[0], "test")]
    assert any("attention also knows CP" in note for note in found.notes)
    train = three[1].table.split("train").frame
    of_two, scans = int(train["label"].isin(TWO).sum()), len(volumes_in(three[0], "train"))
    told = [note for note in found.notes if "learned from" in note]
    assert len(told) == 3 and f"resnext-plus learned from the labels of {scans} whole scans, of {scans}" in told[0]
    assert f"classifier learned from the labels of {of_two} slices, of" in told[1] and "mask" not in told[1]
    assert f"labels of {int((train['label'] != '').sum())} slices and the lesion masks of {len(train)}, of" in told[2]
    evaluate(three[0], splits=["test"], progress=False)
    rows = three[0].predictions.set_index("id").loc[found.answers["volume"]]
    np.testing.assert_allclose(rows["p_COVID-19"], found.answers["resnext-plus: p_COVID-19"], atol=1e-5)
    lungs = three[0].metrics["test"]["slice_answers"]["auc_lungs"][0]  # what its evaluation found
    area = found.frame.set_index("run").loc["lung area of a slice"]
    assert area["slice AUC"] == pytest.approx(lungs) and np.isnan(area["accuracy"])
    scores = three[0].metrics["test"]["classification"]
    assert found.runs[0].metrics["classification"]["accuracy"] == scores["accuracy"]
    classifier = found.runs[1]
    of_slices = three[1].predict(three[1].table.split("test"))
    joined = join_slices(list(of_slices.predictions), of_slices.dataset, classifier.kept)
    by_name = {own.id: own.logits for own in joined.predictions}
    for own in classifier.answers:
        np.testing.assert_allclose(own.logits, by_name[own.id], atol=1e-4)
    assert "majority class" in found.baselines


def test_the_rule_is_never_chosen_on_what_is_scored(runs, monkeypatch):
    run, asked = runs["classifier"], []

    def watched(volumes, labels, *more):
        asked.append(labels)
        return rules_tried(volumes, labels, *more)

    monkeypatch.setattr(volume_comparison, "rules_tried", watched)
    found = compare_runs([run], repeats=0, progress=False)
    assert [sorted(labels) for labels in asked] == [sorted(own.label for own in volumes_in(run, "validation"))]
    assert not {own.patient for own in found.question.volumes} & {own.patient for own in found.question.tuning}
    assert "lung area of a slice" not in set(found.frame["run"])  # no run has looked for lungs


def test_patients_that_trained_a_run_are_left_out(runs, monkeypatch):
    run = runs["classifier"]
    test, table = volumes_in(run, "test"), run.table
    assert seen_by(run) == set(table.patients) - set(table.patients[table.frame["split"] == "test"])
    assert [own.name for own in question_of([run])[0].volumes] == [own.name for own in test]
    other = test[0].patient  # as if another run had been trained on it
    monkeypatch.setattr(volume_question, "seen_by", lambda own, *splits: seen_by(own, *splits) | {other})
    question, notes = question_of([run])
    assert [own.name for own in question.volumes] == [own.name for own in test if own.patient != other]
    assert f"{counted(len(test) - len(question.volumes), 'volume is', 'volumes are')} left out" in notes[0]


def test_the_same_slices_where_that_is_asked_for(runs, chest):
    pair = [runs["classifier"], runs["resnext-plus"]]
    model = pair[1].experiment.replace(volume_slices=3)
    pair[1] = cw.OpenRun(pair[1].folder, model)
    question, _ = question_of(pair, "read")
    assert question.most == 3 and [list(question.places(own)) for own in question.volumes[:1]] == [[0, 2, 3]]
    with pytest.raises(InputError, match="read"):
        question_of(pair[:1], "read")


def test_runs_that_cannot_be_compared(runs):
    run = runs["classifier"]
    with pytest.raises(InputError, match="two runs are called"):
        question_of([run, run])
    experiment = run.experiment
    alone = dataclasses.replace(experiment, one_shot=dataclasses.replace(experiment.one_shot, model="mask-rcnn"))
    with pytest.raises(InputError, match="lesions alone"):
        question_of([cw.OpenRun(run.folder, alone)])
    without = [Prediction("a", TWO, None, *[None] * 5)]
    with pytest.raises(InputError, match="lesions alone"):
        shares_of(without)
    with pytest.raises(InputError, match="no volume"):
        question_of([run], table=run.table.where(run.table.frame["split"] == "train"))


def test_classes_that_are_left_out_leave_their_share_to_the_rest():
    np.testing.assert_allclose(among([[0.5, 0.3, 0.2]], ("A", "B", "C"), ("C", "A")), [[2 / 7, 5 / 7]])
    with pytest.raises(InputError, match="class D"):
        among([[1.0, 0]], ("A", "B"), ("D", "A"))


def test_the_command_writes_a_report_and_keeps_the_rule_that_predict_goes_by(runs, nifti, command, tmp_path):
    run, out = runs["classifier"], tmp_path / "report"
    words = ("volumes", run.folder, runs["resnext-plus"].folder, "--draws", "20")
    code, said, errors = command(*words, "--out", out)
    assert code == 0 and "weighted F1" in said and "predict goes by it" in said, errors
    figures = json.loads((out / "comparison.json").read_text())
    assert [own["model"] for own in figures["runs"]] == ["classifier", "resnext-plus"] and figures["baselines"]
    page = (out / "comparison.html").read_text()
    assert "resnext-plus" in page and "not a medical device" in page
    assert len(pd.read_csv(out / "volumes.csv")) == len(figures["volumes"])
    kept = rule_of(run).rule
    assert str(kept) == figures["runs"][0]["tried"][0]["rule"] == json.loads((run.folder / KEPT).read_text())["rule"]
    assert run.predict(nifti).volumes.rule == str(kept)
    keep_rule(run, VolumeRule("votes", 0.3), "by hand")
    assert run.predict(nifti).volumes.rule == "votes:0.3"
    code, _, errors = command(*words, "--out", out)
    assert code == 2 and "already holds a comparison" in errors
    (run.folder / KEPT).write_text('{"rule": "none", "why": ""}')
    code, _, errors = command("predict", run.folder, nifti, "--out", tmp_path / "o")
    assert code == 2 and KEPT in errors and "rule" in errors
    (run.folder / KEPT).unlink()
