"""Figures of classes beside scikit-learn; rules of the levels; calibration, temperature and prevalence by hand."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as judge

from covid_workbench.errors import InputError
from covid_workbench.evaluation.calibration import (
    calibration_figures,
    calibration_of,
    calibration_scores,
    fitted_temperature,
    reliability,
    warmed,
)
from covid_workbench.evaluation.class_figures import (
    AREAS,
    Cases,
    class_cases,
    class_scores,
    class_scores_of,
    drawn_area,
    weighted_precision_area,
)
from covid_workbench.evaluation.classification import share_interval
from covid_workbench.evaluation.over_patients import Draws
from covid_workbench.evaluation.prevalence import Thresholds, prevalence_scores, threshold_figures
from covid_workbench.runs.run import Run

NAMES = ("Normal", "CAP", "COVID-19")


def some_cases(count: int = 200, classes: tuple[str, ...] = NAMES, split: str = "test", **changes) -> Cases:
    "Random cases, five of a patient, with ties among probabilities."
    chance = np.random.default_rng(count)
    truth = chance.integers(0, len(classes), count)
    shares = np.round(chance.dirichlet(np.ones(len(classes)), count) + 0.4 * np.eye(len(classes))[truth], 2)
    shares /= shares.sum(1, keepdims=True)
    ids, patients = (np.array([f"{at // width:04d}" for at in range(count)]) for width in (1, 5))
    fields = dict(split=split, level="slices", classes=classes, normal="Normal", ids=ids, patients=patients)
    return Cases(**fields | {"truth": truth, "shares": shares} | changes)


@pytest.mark.parametrize("classes", [NAMES, ("Normal", "COVID-19")])
def test_figures_are_those_of_scikit_learn(classes):
    cases = some_cases(classes=classes)
    scores, pair = class_scores(cases), (cases.truth, cases.answers)
    truth = [cases.truth == at for at in cases.asked]
    expected = {
        "accuracy": judge.accuracy_score(*pair),
        "weighted_F1": judge.f1_score(*pair, average="weighted"),
        "macro_F1": judge.f1_score(*pair, average="macro"),
        "balanced_accuracy": judge.balanced_accuracy_score(*pair),
        "MCC": judge.matthews_corrcoef(*pair),
        "kappa": judge.cohen_kappa_score(*pair),
        "AUC": np.mean([judge.roc_auc_score(own, cases.shares[:, at]) for at, own in zip(cases.asked, truth)]),
        "average_precision": np.mean(
            [judge.average_precision_score(own, cases.shares[:, at]) for at, own in zip(cases.asked, truth)]
        ),
    }
    found = {name: own[0] for name, own in scores["overall"].items()}
    assert found == pytest.approx(expected, abs=1e-9) and found["MCC"] < 0.95
    assert list(scores["classes"]) == [classes[at] for at in cases.asked]
    for at, own in zip(cases.asked, truth):
        row = scores["classes"][classes[at]]
        assert row["specificity"][0] == pytest.approx(judge.recall_score(~own, cases.answers != at), abs=1e-9)
        assert row["sensitivity"][0] == pytest.approx(judge.recall_score(own, cases.answers == at), abs=1e-9)
        assert row["cases"] == own.sum()
    for low, value, high in ((own[1], own[0], own[2]) for own in scores["overall"].values()):
        assert low < value < high


@pytest.mark.parametrize("area", AREAS)
def test_an_area_of_a_draw_is_that_of_the_drawn_cases(area):
    cases = some_cases(60)
    draws = Draws.of(cases.patients, 7)
    drawn = drawn_area(AREAS[area], cases.truth == 1, cases.shares[:, 1], draws, at_once=3)[1]
    measure = {"AUC": judge.roc_auc_score, "average_precision": judge.average_precision_score}[area]
    again = [np.repeat(np.arange(60), times) for times in draws.weights]
    assert drawn == pytest.approx([measure(cases.truth[own] == 1, cases.shares[own, 1]) for own in again], abs=1e-9)


def test_levels_follow_their_rules():
    "P2 has normal slices beside ill ones, P3 two ill labels in one scan, one slice has no label, one no patient."
    labels = {
        "a1": "Normal",
        "b1": "Normal",
        "b2": "CAP",
        "b3": "",
        "c1": "CAP",
        "c2": "COVID-19",
        "c3": "CAP",
        "d1": "CAP",
    }
    patients = {"a": "P1", "b": "P2", "c": "P3", "d": ""}
    scans = dict.fromkeys(labels, "1") | {"c3": "2"}
    rows = pd.DataFrame({"id": list(labels), "label": list(labels.values()), "split": "test"})
    shares = np.random.default_rng(0).dirichlet(np.ones(3), len(rows))
    rows[[f"p_{name}" for name in NAMES]] = shares
    about = pd.DataFrame(
        {"patient": [patients[name[0]] for name in labels], "scan": list(scans.values())}, index=list(labels)
    )
    found = class_cases(rows, about, NAMES, "Normal")
    assert len(found["slices"]) == 7 and found["slices"].left_out == 1
    assert found["scans"].ids.tolist() == ["P1/1", "P2/1", "P3/2"] and found["scans"].left_out == 1
    assert found["scans"].truth.tolist() == [0, 1, 1]
    assert found["scans"].shares[1] == pytest.approx(shares[1:4].mean(0))  # the slice without a label takes part
    assert found["patients"].ids.tolist() == ["P1", "P2"] and found["patients"].left_out == 1
    assert class_scores(found["slices"])["overall"]["accuracy"][1:] == [None, None]  # a patient is unknown
    assert class_scores(found["scans"])["overall"]["accuracy"][1] is not None


@pytest.mark.parametrize("value", ["", "nan", "inf", "-0.1", "1.2", "much"])
def test_a_probability_that_is_none_is_refused_with_its_slice(value):
    rows = pd.DataFrame({"id": ["s1", "s2"], "label": "CAP", "split": "test"} | {f"p_{name}": "0.3" for name in NAMES})
    rows.loc[1, "p_CAP"] = value
    about = pd.DataFrame({"patient": ["P1", "P2"], "scan": "1"}, index=["s1", "s2"])
    with pytest.raises(InputError, match="slice s2: the probability of CAP"):
        class_cases(rows, about, NAMES, "Normal")
    with pytest.raises(InputError, match="does not hold slice s2"):
        class_cases(rows, about.iloc[:1], NAMES, "Normal")
    with pytest.raises(InputError, match="column 'p_CAP' is missing"):
        class_cases(rows.drop(columns="p_CAP"), about, NAMES, "Normal")


def test_one_class_only_has_an_accuracy_and_no_area():
    scores = class_scores(some_cases(20, truth=np.ones(20, int)))
    assert scores["overall"]["AUC"] == scores["overall"]["average_precision"] == [None, None, None]
    assert scores["overall"]["MCC"] == [None, None, None] and scores["overall"]["accuracy"][0] > 0
    assert scores["classes"]["Normal"]["sensitivity"] == [None, None, None]
    assert fitted_temperature(some_cases(20, split="validation", truth=np.ones(20, int))) is None


def test_one_patient_has_no_interval_and_no_cases_no_figure():
    alone = class_scores(some_cases(20, patients=np.array(["P1"] * 20)))
    assert alone["overall"]["AUC"][0] > 0 and alone["overall"]["AUC"][1:] == [None, None] and alone["patients"] == 1
    none = some_cases(0)
    assert (
        class_scores(none)["overall"]["accuracy"] == class_scores(none)["classes"]["CAP"]["AUC"] == [None, None, None]
    )
    assert calibration_figures(none)["ECE"] == [None, None, None] and calibration_figures(none)["table"] == []
    assert prevalence_scores(none)["CAP"]["0.1"]["PPV"] == [None, None, None]
    assert weighted_precision_area(np.zeros(0, bool), np.zeros(0), np.ones((2, 0))).shape == (2,)


def test_calibration_counted_by_hand():
    "Two bins of four: sure 0.6 and right in one, sure 0.9 and right in three."
    shares = np.array([[0.6, 0.4]] * 4 + [[0.9, 0.1]] * 4)
    truth = np.array([0, 1, 1, 1, 0, 0, 0, 1])
    cases = some_cases(8, NAMES[:2], shares=shares, truth=truth, patients=np.array(list("aabbccdd")))
    table = reliability(cases, 2)
    assert table["cases"].tolist() == [4, 4] and table["right"].tolist() == [0.25, 0.75]
    assert table["sure"].tolist() == pytest.approx([0.6, 0.9])
    found = calibration_figures(cases, bins=2)
    assert found["ECE"][0] == pytest.approx(0.5 * 0.35 + 0.5 * 0.15)
    brier = ((1 - shares[np.arange(8), truth]) ** 2).mean() * 2  # of two classes both are off by the same
    assert found["Brier"][0] == pytest.approx(brier)
    parts = found["parts"]
    # every answer lies at the mean of its bin here, so that the parts make up the score of the answer
    assert parts["reliability"] - parts["resolution"] + parts["uncertainty"] == pytest.approx(brier / 2)
    assert found["log_loss"][0] == pytest.approx(judge.log_loss(truth, shares))


def test_ece_of_a_draw_is_that_of_the_drawn_cases_in_the_same_bins():
    cases = some_cases(50)
    draws = Draws.of(cases.patients, 200)
    number = pd.qcut(cases.shares.max(1), 10, labels=False, duplicates="drop")
    errors = []
    for times in draws.weights:
        rows = pd.DataFrame({"bin": number, "off": times * (cases.shares.max(1) - (cases.answers == cases.truth))})
        errors.append(rows.groupby("bin")["off"].sum().abs().sum() / times.sum())
    value, *ends = calibration_figures(cases, 200)["ECE"]
    patients = draws.patients()
    wanted = share_interval(value, np.sqrt(patients / (patients - 1)) * np.std(errors, ddof=1), patients)
    assert ends == pytest.approx(wanted)


def test_a_temperature_comes_from_validation_alone():
    validation = some_cases(400, split="validation")
    once = fitted_temperature(validation)
    twice = fitted_temperature(warmed(validation, 0.5))
    assert twice == pytest.approx(2 * once, rel=1e-3)  # logits twice as large need twice the temperature
    roots = np.sqrt(validation.shares)
    assert warmed(validation, 2.0).shares == pytest.approx(roots / roots.sum(1, keepdims=True), abs=2e-3)
    for factor in (0.9, 1.1):
        assert judge.log_loss(validation.truth, warmed(validation, once).shares) < judge.log_loss(
            validation.truth, warmed(validation, factor * once).shares
        )
    for split in ("test", "train"):
        with pytest.raises(InputError, match="fitted on the validation split"):
            fitted_temperature(some_cases(split=split))
    scores = calibration_scores(None, some_cases())
    assert scores["temperature"] is None and "after" not in scores
    assert calibration_scores(validation, some_cases())["fitted_on"] == 400


def test_predictive_values_at_a_prevalence():
    cases = some_cases(200, ("Normal", "COVID-19"))
    share, found = (cases.truth == 1).mean(), {}
    found = prevalence_scores(cases, (share, 0.01))["COVID-19"]
    own, rare = found[f"{share:g}"], found["0.01"]
    assert own["PPV"][0] == pytest.approx(judge.precision_score(cases.truth, cases.answers), abs=1e-9)
    assert own["NPV"][0] == pytest.approx(judge.precision_score(1 - cases.truth, 1 - cases.answers), abs=1e-9)
    assert rare["PPV"][2] < own["PPV"][1] and rare["NPV"][1] > own["NPV"][2]


def test_thresholds_are_those_at_which_an_answer_changes():
    cases = some_cases(80)
    truth, scores = cases.truth == 2, cases.shares[:, 2]
    points = Thresholds.of(truth, scores)
    false, hits, at = judge.roc_curve(truth, scores, drop_intermediate=False)
    assert points.at.tolist() == at[1:].tolist()
    assert (points.hits / points.ill).tolist() == pytest.approx(hits[1:]) and points.false[-1] == points.healthy
    assert (points.false / points.healthy).tolist() == pytest.approx(false[1:])
    for threshold in (0.0, 0.31, scores[3], 1.0):
        called = scores >= threshold
        assert points.counts(threshold) == ((called & truth).sum(), (called & ~truth).sum())
        own = threshold_figures(points, threshold)
        assert own["sensitivity"] == pytest.approx(called[truth].mean())
        assert own["PPV"] == (pytest.approx(truth[called].mean()) if called.any() else None)
    thin = points.thinned(9)
    assert len(thin.at) == 9 and thin.at[[0, -1]].tolist() == points.at[[0, -1]].tolist()
    none = threshold_figures(Thresholds.of(np.zeros(3, bool), np.ones(3)), 0.5)
    assert none["sensitivity"] is None and none["specificity"] == 0


def test_a_run_is_read_at_all_levels(finished):
    scores = class_scores_of(finished)
    assert list(scores) == ["slices", "scans", "patients"]
    held = finished.metrics["test"]["classification"]
    assert scores["slices"]["overall"]["accuracy"][0] == pytest.approx(held["accuracy"])
    assert [scores["slices"][name] for name in ("cases", "left_out", "patients")] == [4, 2, 3]
    assert [scores["scans"][name] for name in ("cases", "left_out")] == [3, 0]  # a labelled slice speaks for its scan
    calibration = calibration_of(finished)
    assert calibration["slices"]["at_bound"] and calibration["slices"]["fitted_on"] > 0  # a model that learned nothing
    assert calibration["scans"]["before"]["Brier"][0] > 0
    json.dumps([scores, calibration], allow_nan=False)


def test_a_damaged_prediction_of_a_run_is_named(finished, tmp_path):
    folder = shutil.copytree(finished.folder, tmp_path / "run")
    rows = pd.read_csv(folder / "predictions.csv", keep_default_na=False)
    at = rows.index[rows["split"] == "test"][1]
    rows["p_CP"] = rows["p_CP"].astype(object).where(rows.index != at, "nan")
    rows.to_csv(folder / "predictions.csv", index=False)
    with pytest.raises(InputError, match=f"slice {rows['id'][at]}: the probability of CP is 'nan'"):
        class_scores_of(Run.open(folder))
