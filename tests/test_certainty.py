"""Intervals over patients: draws equal sets really repeated; coverage as the table says; differences; seeds."""

import dataclasses
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm, t
from sklearn.metrics import roc_auc_score

from covid_workbench.average_precision import THRESHOLDS, average_precision
from covid_workbench.errors import InputError
from covid_workbench.evaluation.ap_certainty import AP_NAMES, drawn_ap, lesion_draws
from covid_workbench.evaluation.certainty import (
    Drawn,
    certainty_words,
    class_draws,
    coverage_table,
    simulated,
)
from covid_workbench.evaluation.classification import FIXED_WEIGHTS, classification_scores
from covid_workbench.evaluation.found_lesions import LESIONS, FoundLesions, ap_of, save_found
from covid_workbench.evaluation.over_patients import Draws, expanded_levels, roc_auc, share_interval
from covid_workbench.evaluation.paired import paired, swap_test
from covid_workbench.evaluation.run_certainty import Answered, answered_by, answered_of, certainty
from covid_workbench.evaluation.seeds import over_seeds, paired_over_seeds, two_level
from covid_workbench.runs.run import Run

sys.path.append(str(Path(__file__).parent / "heavy"))

import coverage as simulation

CLASSES = ("Normal", "CP", "COVID-19")


def lesions(chance: np.random.Generator, slices: int = 12, patients: int = 5, *, ties: bool = False) -> FoundLesions:
    """Slices of two classes with overlaps of any size; scores of a few values, so that slices share them.

    Within a slice no two scores are the same, unless there are `ties`.
    """
    count, targets = chance.integers(0, 6, slices), chance.integers(0, 4, slices)
    values = np.arange(1, 9) / 10
    scores = [-np.sort(-chance.choice(values, own, replace=ties)) for own in count]
    of, of_target = np.arange(slices).repeat(count), np.arange(slices).repeat(targets)
    labels, target_labels = chance.integers(1, 3, len(of)), chance.integers(1, 3, len(of_target))
    same = (of[:, None] == of_target) & (labels[:, None] == target_labels)
    pair = np.argwhere(same & (chance.random(same.shape) < 0.8))
    return FoundLesions(
        slices=np.array([f"s{at:02d}" for at in range(slices)]),
        patients=np.array([f"P{at % patients}" for at in range(slices)]),
        sizes=np.full((slices, 2), 64),
        names=np.array(["GGO", "consolidation"]),
        slice=of,
        label=labels,
        score=np.concatenate([*scores, np.zeros(0)]),
        area=np.full(len(of), 9),
        target_slice=of_target,
        target_label=target_labels,
        target_area=np.full(len(of_target), 9),
        pair=pair.reshape(-1, 2),
        iou=chance.uniform(0.3, 1, len(pair)),
        pixels=np.zeros((slices, 3), int),
    )


def repeated(found: FoundLesions, times: np.ndarray) -> FoundLesions:
    "The set in which slice s really stands `times[s]` times, its copies beside it."
    parts, first = [], [0, 0]
    for own in np.arange(len(found)).repeat(times):
        rows, targets = np.flatnonzero(found.slice == own), np.flatnonzero(found.target_slice == own)
        pairs = np.isin(found.pair[:, 0], rows)
        shift = [first[0] - rows[0] if len(rows) else 0, first[1] - targets[0] if len(targets) else 0]
        parts.append((own, rows, targets, found.pair[pairs] + shift, found.iou[pairs]))
        first = [first[0] + len(rows), first[1] + len(targets)]
    owners, rows, targets, pairs, ious = zip(*parts)
    rows, targets, owners = np.concatenate(rows), np.concatenate(targets), np.array(owners)
    copies = np.arange(len(owners))
    return dataclasses.replace(
        found,
        slices=np.array([f"s{at:03d}" for at in copies]),
        patients=found.patients[owners],
        sizes=found.sizes[owners],
        pixels=found.pixels[owners],
        slice=copies.repeat([len(part[1]) for part in parts]),
        target_slice=copies.repeat([len(part[2]) for part in parts]),
        **{name: getattr(found, name)[rows] for name in ("label", "score", "area")},
        **{name: getattr(found, name)[targets] for name in ("target_label", "target_area")},
        pair=np.concatenate(pairs),
        iou=np.concatenate(ious),
    )


@pytest.mark.parametrize("seed", range(8))
def test_ap_of_a_draw_is_that_of_the_set_really_repeated(seed):
    "Slices share scores, so the order among equal ones matters: it stays that of the slices."
    found = lesions(np.random.default_rng(seed))
    draws = Draws.of(found.patients, 12, seed)
    drawn = lesion_draws(found, draws)
    for number, times in enumerate(draws.weights):
        again, aps = repeated(found, times), []
        for label, name in enumerate(found.names, start=1):
            ap = ap_of(again, label)
            aps.append(ap)
            got = [drawn[f"{figure} {name}"].draws[number] for figure in AP_NAMES[:3]]
            assert got == pytest.approx([ap[0], ap[5], ap.mean()], abs=1e-9, nan_ok=True)
        if np.isfinite(aps).any():
            assert drawn["AP@[.5:.95]"].draws[number] == pytest.approx(np.nanmean(aps), abs=1e-9)
    values = [ap_of(found, label) for label in (1, 2)]
    assert drawn["AP@0.75 GGO"].value == pytest.approx(values[0][5], abs=1e-9)
    assert 0 < drawn["AP@0.5"].value == pytest.approx(np.mean([own[0] for own in values]), abs=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_equal_scores_within_a_slice_keep_their_order_copy_by_copy(seed):
    "A prediction that counts twice stands twice in a row; hits and misses of one score; draws without a target."
    chance = np.random.default_rng(seed)
    slices = chance.integers(0, 7, 30)
    slices.sort()
    scores = chance.choice([0.25, 0.5, 0.75], 30)
    scores = scores[np.lexsort((-scores, slices))]
    hits = chance.random((30, 1)) > THRESHOLDS * chance.choice([0.2, 1.0])
    targets = np.bincount(slices[hits[:, 0]], minlength=7) + chance.integers(0, 2, 7)
    weights = np.vstack([chance.integers(0, 4, (6, 7)), np.zeros((1, 7), int)])
    ap, recall = drawn_ap(scores, hits, slices, targets, weights)
    for times, own, reached in zip(weights, ap, recall):
        rows = np.arange(30).repeat(times[slices])
        if times @ targets:
            expected = average_precision(scores[rows], hits[rows], int(times @ targets))
            assert np.abs(own - expected[0]).max() < 1e-9 and np.abs(reached - expected[1]).max() < 1e-9
        else:
            assert np.isnan(own).all()


def test_every_recall_that_division_rounds_is_counted_as_in_one_set():
    "n of n targets hit, for many n: n / N and 0.01, 0.02, ... differ in their last digits."
    for total in range(1, 130):
        hits = np.ones((total, 10), bool)
        hits[total // 2 :: 3] = False
        scores = -np.arange(total, dtype=float)
        ap = drawn_ap(scores, hits, np.zeros(total, int), np.array([total]), np.array([[1], [3]]))[0]
        rows = np.arange(total).repeat(3)
        assert np.abs(ap[0] - average_precision(scores, hits, total)[0]).max() < 1e-9
        assert np.abs(ap[1] - average_precision(scores[rows], hits[rows], 3 * total)[0]).max() < 1e-9


def test_many_draws_at_once_are_those_of_few():
    chance = np.random.default_rng(0)
    scores, slices = -np.sort(-chance.random((600, 10))).ravel(), np.arange(600).repeat(10)
    hits = chance.random((6000, 1)) > THRESHOLDS
    weights, targets = chance.integers(0, 3, (500, 600)), np.full(600, 4)
    whole = drawn_ap(scores, hits, slices, targets, weights)[0]
    some = np.concatenate(
        [drawn_ap(scores, hits, slices, targets, weights[at : at + 1])[0] for at in (0, 332, 333, 499)]
    )
    np.testing.assert_array_equal(whole[[0, 332, 333, 499]], some)


def only(found: FoundLesions, predictions: bool = True, targets: bool = True) -> FoundLesions:
    "Without predictions, or without targets."
    none = np.zeros(0, int)
    nothing = {"pair": np.zeros((0, 2), int), "iou": np.zeros(0)}
    if not predictions:
        nothing |= dict.fromkeys(("slice", "label", "area"), none) | {"score": np.zeros(0)}
    if not targets:
        nothing |= dict.fromkeys(("target_slice", "target_label", "target_area"), none)
    return dataclasses.replace(found, **nothing)


def test_lesions_at_the_edges():
    found = lesions(np.random.default_rng(1))
    draws = Draws.of(found.patients, 50)
    nothing = lesion_draws(only(found, targets=False), draws)
    assert all(own.figure == [None, None, None] and own.patients == 0 for own in nothing.values())
    missed = lesion_draws(only(found, predictions=False), draws)["AP@0.5"]
    assert missed.figure[:2] == [0, 0] and 0.3 < missed.figure[2] < 1  # five patients without a hit
    for who in (["P0"] * len(found), ["", *found.patients[1:]]):
        alone = dataclasses.replace(found, patients=np.array(who))
        value, low, high = lesion_draws(alone, Draws.of(alone.patients))["AP@0.5"].figure
        assert value > 0 and low is high is None


def answers(seed: int = 0, patients: int = 12, slices: int = 3, margin: float = 1.0, name: str = "A") -> Answered:
    chance = np.random.default_rng(seed)
    labels = np.arange(patients).repeat(slices) % 3
    logits = margin * np.eye(3)[labels] + chance.normal(size=(len(labels), 3))
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    frame = pd.DataFrame({f"p_{own}": shares[:, at].round(6) for at, own in enumerate(CLASSES)})
    frame["id"] = [f"s{at:03d}" for at in range(len(frame))]
    frame["label"], frame["predicted"] = np.array(CLASSES)[labels], np.array(CLASSES)[logits.argmax(1)]
    of = {own: f"P{at // slices}" for at, own in enumerate(frame["id"])}
    return answered_of(frame, of, CLASSES, name=name)


@pytest.mark.parametrize("weights", [None, FIXED_WEIGHTS])
def test_figures_of_a_draw_are_those_of_the_slices_really_repeated(weights):
    own = dataclasses.replace(answers(3), weights=weights)
    drawn, draws = own.drawn(20)["classification"], Draws.of(own.patients, 20)
    for number, times in [(None, np.ones(len(own.predictions), int)), *enumerate(draws.weights)]:
        rows = own.predictions.iloc[np.arange(len(times)).repeat(times)]
        got = {name: one.value if number is None else one.draws[number] for name, one in drawn.items()}
        scores = classification_scores(rows["label"].tolist(), rows["predicted"].tolist(), CLASSES, weights)
        assert got["accuracy"] == pytest.approx(scores["accuracy"]), number
        assert got["weighted F1"] == pytest.approx(scores["weighted_f1"])
        defined = []
        for name, one in scores["classes"].items():
            assert got[f"sensitivity {name}"] == pytest.approx(
                one["sensitivity"] if one["support"] else np.nan, nan_ok=True
            )
            assert got[f"precision {name}"] == pytest.approx(
                one["precision"] if one["predicted"] else np.nan, nan_ok=True
            )
            ill = (rows["label"] == name).to_numpy()
            auc = roc_auc_score(ill, rows[f"p_{name}"]) if 0 < ill.sum() < len(ill) else np.nan
            assert got[f"AUC {name}"] == pytest.approx(auc, nan_ok=True)
            assert np.isnan(auc) or auc == pytest.approx(roc_auc(ill, rows[f"p_{name}"]))
            defined.append(auc)
        assert got["AUC"] == pytest.approx(np.nanmean(defined))


def test_levels_are_those_of_student():
    for count in (5, 12, 300):
        z = norm.ppf(expanded_levels(count)[1]) * np.sqrt((count - 1) / count)
        assert z == pytest.approx(t.ppf(0.975, count - 1), rel=1e-6)
    assert expanded_levels(10**7)[0] == pytest.approx(0.025, abs=1e-5)


def test_the_interval_of_independent_cases_is_wilson_s():
    "Of one case a patient, many of them: that of statistics books, 81 of 263 (Newcombe 1998, table I)."
    share = 81 / 263
    low, high = share_interval(share, np.sqrt(share * (1 - share) / 263), 10**6)
    assert (low, high) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    for end in share_interval(0.7, 0.1, 9):  # an end is what the value just does not contradict
        assert abs(0.7 - end) == pytest.approx(t.ppf(0.975, 8) * np.sqrt(end * (1 - end) * 0.1**2 / 0.21))


def test_patients_without_a_fault_are_no_proof():
    right = np.ones(400)
    value, low, high = Drawn(1.0, right, 10).figure
    assert value == high == 1 and low == pytest.approx(10 / (10 + t.ppf(0.975, 9) ** 2))
    assert 1 - low == pytest.approx(Drawn(0.0, 0 * right, 10).figure[2])
    same = Drawn(1.0, right, 10) - Drawn(1.0, right, 20)
    assert same.figure[0] == 0 and same.figure[2] == -same.figure[1] == pytest.approx(1 - low)
    for own in (Drawn(1.0, right[:0], 10), Drawn(1.0, right, 1)):
        assert own.figure == [1.0, None, None]
    assert Drawn(np.nan, right, 10).figure == [None, None, None]


def test_a_figure_knows_who_has_a_say():
    own = answers(patients=12)
    says = {name: one.patients for name, one in own.drawn(10)["classification"].items()}
    assert says["accuracy"] == 12 and says["sensitivity CP"] == says["AUC CP"] == 4 and says["specificity CP"] == 8
    ill = lesions(np.random.default_rng(0))
    with_target = {ill.patients[at] for at in ill.target_slice[ill.target_label == 2]}
    assert lesion_draws(ill, Draws.of(ill.patients, 5))["AP@0.5 consolidation"].patients == len(with_target)


def test_classes_at_the_edges():
    whole = answers()
    one_class = answered_of(
        whole.predictions[whole.predictions["label"] == "CP"], dict.fromkeys(whole.predictions["id"], "P1"), CLASSES
    )
    found = certainty(one_class)["classification"]
    assert (
        found["figures"]["AUC CP"]
        == found["figures"]["AUC"]
        == [None, None, None]
        == found["figures"]["sensitivity Normal"]
    )
    assert (
        found["figures"]["accuracy"][1:] == [None, None] and "one patient" in found["note"] and found["patients"] == 1
    )
    unknown = dataclasses.replace(whole, patients=np.array(["", *whole.patients[1:]]))
    found = certainty(unknown)["classification"]
    assert all(own[1:] == [None, None] for own in found["figures"].values()) and found["patients"] is None
    assert (
        found["figures"]["AUC"][0] > 0.5 and "not known" in found["note"] and set(found["coverage"].values()) == {None}
    )
    assert certainty(answered_of(whole.predictions.iloc[:0], {}, CLASSES)) == dict.fromkeys(
        ("classification", "detection", "merged")
    )
    assert certainty(answered_of(pd.DataFrame({"id": ["a"]}), {}, CLASSES))["classification"] is None
    assert json.loads(json.dumps(certainty(whole), allow_nan=False)) == certainty(whole)


@pytest.mark.parametrize("bad", [np.nan, np.inf, "", "nan"])
def test_a_probability_that_is_no_number_is_refused_with_its_slice(bad):
    own = answers()
    frame = own.predictions.astype({"p_CP": object})
    frame.loc[7, "p_CP"] = bad
    with pytest.raises(InputError, match="slice s007: a probability is not a number"):
        certainty(dataclasses.replace(own, predictions=frame))


def test_lists_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="2 labels, 2 predictions, 3 patients"):
        class_draws([0, 1], [0, 1], np.ones((2, 3)) / 3, Draws.of(list("abc")), CLASSES)


def test_the_table_of_coverage_ships():
    table = coverage_table()
    assert set(table["patients"]) == {10, 20, 50, 200} and table["repeats"].min() >= 1000
    assert {"accuracy", "weighted F1", "AUC", "sensitivity of a class", "AP@0.5", "AP@[.5:.95]"} <= set(table["figure"])
    assert (table["coverage"] > table["percentile"] - 0.02).all()
    few, many = (table[(table["figure"] == "AP@[.5:.95]") & (table["patients"] == n)].iloc[0] for n in (10, 200))
    assert few["percentile"] < 0.9 < few["coverage"] and few["width"] > 2 * many["width"]


def test_where_intervals_are_too_narrow_it_is_said(monkeypatch):
    table = coverage_table()
    low = table.assign(coverage=table["coverage"].where(table["figure"] != "accuracy", 0.852))
    monkeypatch.setattr("covid_workbench.evaluation.certainty.coverage_table", lambda: low)
    assert certainty_words("accuracy", 74).endswith("held the truth in 85 %, so it is too narrow")
    assert "narrow" not in certainty_words("weighted F1", 74)
    found = certainty(answers())["classification"]
    assert found["too_narrow"] == ["accuracy"] and found["note"].endswith("less than 90 % for accuracy: too narrow.")


def test_words_take_the_nearest_simulation_below():
    assert simulated("AUC CP", 5)["figure"] == "AUC of a class" and simulated("AUC", 5)["figure"] == "AUC"
    assert simulated("AP@0.5 GGO", 60)["figure"] == "AP@0.5" and simulated("kappa", 60) is None
    assert simulated("difference of AUC CP", 60)["figure"] == "difference of AUC"
    assert [simulated("accuracy", n)["patients"] for n in (3, 10, 49, 50, 10**6)] == [10, 10, 20, 50, 200]
    assert "74 of them; in simulations of 50 patients such" in certainty_words("accuracy", 74)
    assert "expect less" in certainty_words("accuracy", 4) and "not simulated" in certainty_words("kappa", 60)
    assert "one patient" in certainty_words("accuracy", 1) and "not known" in certainty_words("accuracy", None)


def test_a_cell_of_the_table_is_found_again():
    "Few cohorts, within what so few can say; the truth is that of a population of its own seed."
    table = coverage_table()
    cell = table[table["patients"] == 10].set_index("figure")
    repeats = 60
    for row in simulation.coverage(10, repeats, cell["truth"].to_dict(), seed=1):
        expected = cell.loc[row["figure"]]
        error = np.sqrt(max(expected["coverage"] * (1 - expected["coverage"]), 0.05) / min(repeats, row["defined"]))
        assert abs(row["coverage"] - expected["coverage"]) < 4 * error, row
        assert row["with_a_say"] == pytest.approx(expected["with_a_say"], rel=0.2)
    whole = simulation.cohort(np.random.default_rng(5), 1500)
    for name, own in simulation.figures_of(whole, 0).items():
        assert own.value == pytest.approx(cell.loc[name, "truth"], abs=0.03), name


def test_a_run_beside_itself_and_beside_a_better_one():
    one, two = answers(0, 30), answers(1, 30, margin=3, name="B")
    same = paired(one, dataclasses.replace(one, name="again"))["classification"]
    assert same["accuracy"]["difference"][0] == 0 and "no difference" in same["accuracy"]["words"]
    found = paired(one, two)["classification"]["weighted F1"]
    value, low, high = found["difference"]
    assert value == pytest.approx(found["two"] - found["one"]) and 0 < low < value < high
    assert (
        found["words"]
        == f"weighted F1: B is better by {value:.2f} ({low:.2f} to {high:.2f}), the same 30 patients drawn for both"
    )
    back = paired(two, one)["classification"]["weighted F1"]
    assert back["difference"] == pytest.approx([-value, -high, -low]) and back["words"] == found["words"]
    assert swap_test(one, two) < 0.01 and swap_test(one, one) == 1
    shuffled = dataclasses.replace(two, predictions=two.predictions[::-1], patients=two.patients[::-1])
    assert paired(one, shuffled)["classification"]["weighted F1"] == found and swap_test(one, shuffled) < 0.01
    assert json.loads(json.dumps(paired(one, two), allow_nan=False)) == paired(one, two)


def test_the_same_patients_are_drawn_for_both():
    "Every draw of the difference is the difference on the slices of those patients, of lesions as well."
    chance = np.random.default_rng(0)
    found = lesions(chance, 30, 10)
    better = dataclasses.replace(found, iou=found.iou.clip(0.9))
    one, two = (
        dataclasses.replace(answers(), name=name, found={"classes": own}) for name, own in (("A", found), ("B", better))
    )
    row = paired(one, two)["detection"]["AP@[.5:.95]"]
    draws = [own.drawn()["detection"]["AP@[.5:.95]"].draws for own in (one, two)]
    own = Drawn(row["difference"][0], draws[1] - draws[0], row["patients"], share=False)
    assert row["difference"] == pytest.approx(own.figure)
    assert row["difference"][1] > 0 and paired(one, answers())["detection"] is None


def test_what_was_not_asked_alike_is_not_compared():
    one = answers()
    for other, words in (
        (answers(patients=11), "slice s033 was answered by one alone"),
        (dataclasses.replace(one, patients=one.patients[::-1]), "slice s000 has another label or patient"),
        (dataclasses.replace(one, classes=CLASSES[::-1]), "know different classes"),
    ):
        with pytest.raises(InputError, match=words):
            paired(one, other)
    found = lesions(np.random.default_rng(0))
    least = dataclasses.replace(found, target_area=found.target_area + 1)
    pair = [dataclasses.replace(one, found={"classes": own}) for own in (found, least)]
    with pytest.raises(InputError, match="another lesions to find"):
        paired(*pair)


def test_no_interval_of_a_difference_without_patients():
    one, two = (dataclasses.replace(answers(seed), patients=np.array(["", *answers().patients[1:]])) for seed in (0, 1))
    row = paired(one, two)["classification"]["accuracy"]
    assert row["difference"][1:] == [None, None] and "not known" in row["words"]
    assert swap_test(one, two) is None


def test_two_spreads():
    chance = np.random.default_rng(0)
    patients = chance.normal(0, 0.05, 1000)
    seeds = [Drawn(value, value + patients, 30) for value in (0.5, 0.6, 0.4)]
    found = two_level(seeds)
    assert found["spread_of_seeds"] == pytest.approx(0.1) and found["spread_of_patients"] == pytest.approx(
        patients.std(ddof=1)
    )
    low, high = Drawn(0.5, 0.5 + patients, 30).figure[1:]
    arm = t.ppf(0.975, 2) * 0.1 / np.sqrt(3)
    assert found["figure"] == pytest.approx([0.5, 0.5 - np.hypot(0.5 - low, arm), 0.5 + np.hypot(high - 0.5, arm)])
    assert two_level(seeds[:1])["figure"] == two_level(seeds[:1])["over_patients"] == seeds[0].figure
    assert two_level(seeds[:1])["spread_of_seeds"] is None
    assert two_level([seeds[0]] * 3)["figure"] == pytest.approx(seeds[0].figure)  # seeds that agree


def test_intervals_over_seeds_hold_the_truth():
    "Normal patients and seeds, three of them: nominal 95 %."
    chance, held = np.random.default_rng(0), []
    for _ in range(300):
        people, seeds = chance.normal(0.5, 0.2, 20), chance.normal(0, 0.04, 3)
        mean = Draws.of(range(20), 300, 0).times @ people / 20
        _, low, high = two_level([Drawn(people.mean() + own, mean + own, 20) for own in seeds])["figure"]
        held.append(low <= 0.5 <= high)
    assert np.mean(held) > 0.9


def test_runs_of_three_seeds():
    runs = [answers(seed, 30, name=f"seed{seed}") for seed in range(3)]
    row = over_seeds(runs)["classification"]["accuracy"]
    assert row["figure"][0] == pytest.approx(np.mean(row["each"])) and row["spread_of_seeds"] == pytest.approx(
        np.std(row["each"], ddof=1)
    )
    assert row["figure"][1] < row["over_patients"][1] < row["over_patients"][2] < row["figure"][2]
    assert "the mean of 3 seeds on 30 patients" in row["words"] and "another seed by" in row["words"]
    assert "not known" in over_seeds(runs[:1])["classification"]["accuracy"]["words"]
    better = [answers(seed, 30, margin=3) for seed in range(3)]
    change = paired_over_seeds(runs, better)["classification"]["accuracy"]
    assert 0 < change["figure"][1] < change["figure"][0] == pytest.approx(np.mean(change["each"]))
    with pytest.raises(InputError, match="give as many seeds of each"):
        paired_over_seeds(runs, better[:2])
    with pytest.raises(InputError, match="no run of any seed"):
        over_seeds([])


def test_the_figures_of_a_run_are_those_of_its_metrics(finished, tmp_path):
    own, scores = answered_by(finished), finished.metrics["test"]
    found = certainty(own, 50)
    figures, classes = found["classification"]["figures"], scores["classification"]["classes"]
    assert figures["weighted F1"][0] == pytest.approx(scores["classification"]["weighted_f1"])
    assert figures["accuracy"][0] == pytest.approx(scores["classification"]["accuracy"])
    for name, row in classes.items():
        assert figures[f"sensitivity {name}"][0] == pytest.approx(row["sensitivity"])
    assert found["classification"]["patients"] == scores["patients"]
    for part, reading in (("detection", "headline"), ("merged", "merged")):
        values = [found[part]["figures"][name][0] for name in AP_NAMES]
        wanted = [scores["detection"][reading][name] for name in ("ap50", "ap75", "map50_95", "ar100")]
        assert values == pytest.approx(wanted, abs=1e-8)
    older = Run.open(shutil.copytree(finished.folder, tmp_path / "older"))
    (older.folder / LESIONS).unlink()
    assert certainty(answered_by(older), 50) == found | {"detection": None, "merged": None}
    save_found(older.folder, {"test": {"classes": lesions(np.random.default_rng(0))}})  # classes without all lesions
    found = certainty(answered_by(older), 9)
    assert list(answered_by(older).found) == ["classes"] and found["merged"] is None
    assert "AP@0.5 GGO" in found["detection"]["figures"] and "AP@0.5" not in found["detection"]["figures"]
    with pytest.raises(InputError, match="no answers for the split 'train'"):
        answered_by(finished, "train")
