"""Figures of lesions beside pycocotools, beside the released rule, and beside what can be counted by hand."""

import contextlib
import dataclasses
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from test_found_lesions import blobs

from covid_workbench.data.description import OBJECT_CLASSES, STANDARD
from covid_workbench.data.targets import lesion_targets
from covid_workbench.evaluation.detection import CocoScorer, Detections
from covid_workbench.evaluation.found_lesions import FoundLesions, found_lesions, save_found
from covid_workbench.evaluation.lesion_figures import (
    RATES,
    Froc,
    clear_figures,
    froc_figures,
    mask_figures,
    matches_at,
    panoptic_figures,
    pretended_lesions,
)
from covid_workbench.evaluation.lesion_scores import (
    NOT_KEPT,
    SIZES,
    Part,
    lesion_scores,
    lesion_scores_of,
    part_figures,
    released_figures,
    thirds_of,
)
from covid_workbench.evaluation.over_patients import Draws
from covid_workbench.evaluation.reference import reference_average_precision


@pytest.fixture(scope="module")
def scored():
    "Forty slices, predictions near their truth and far from it, some of equal score; also as the released rule takes."
    chance, scorer, released = np.random.default_rng(5), CocoScorer(OBJECT_CLASSES["lesions"], min_area=4), []
    for number in range(40):
        truth = blobs(chance, chance.integers(0, 4), 160, 120)
        mask = np.zeros((160, 160), np.uint8)
        for own in truth:
            mask[own] = chance.choice(STANDARD.lesions)
        near = np.roll(truth, chance.integers(-4, 5), axis=2)
        masks = np.concatenate([near, blobs(chance, chance.integers(0, 4), 160, 120)])
        scores, labels = chance.choice([0.2, 0.5, 0.7, 0.9], len(masks)), chance.integers(1, 3, len(masks))
        found = Detections(np.zeros((len(masks), 4)), labels, scores, masks)
        scorer.add(f"s{number:02d}", found, mask)
        targets = lesion_targets(mask, OBJECT_CLASSES["lesions"], 4)
        released.append((found, targets.runs, targets.labels))
    return scorer, released


def judged(scorer: CocoScorer, merged: bool, label: int, bounds: tuple[int, int]) -> np.ndarray:
    "AP at each IoU by pycocotools, of the lesions of a class with an area within bounds; NaN without one."
    with contextlib.redirect_stdout(io.StringIO()):
        truth, results = scorer.coco_json(merged)
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        judge = COCOeval(coco, coco.loadRes(results), "segm")
        judge.params.areaRng, judge.params.areaRngLbl = [list(bounds)], ["part"]
        judge.params.catIds = [label]
        judge.evaluate()
        judge.accumulate()
    ap = judge.eval["precision"][:, :, 0, 0, -1].mean(1)
    return np.where(ap < 0, np.nan, ap)


@pytest.mark.parametrize("reading", ["classes", "merged"])
def test_ap_by_size_is_that_of_pycocotools(scored, reading):
    found, told = found_lesions(scored[0], {})[reading], 0
    for label in range(1, len(found.names) + 1):
        for bounds in (*SIZES.values(), *thirds_of(found, label).values()):
            own = Part(found, label, *bounds).ap(np.ones((1, len(found))))[0]
            judge = judged(scored[0], reading == "merged", label, bounds)
            assert own == pytest.approx(judge, abs=1e-9, nan_ok=True)
            told += 0.02 < judge.mean() < 0.98
    assert told >= 5


def test_ap_of_a_draw_is_that_of_the_drawn_slices(scored):
    "Weights stand for slices that are there several times, or not at all; no two scores of the set are equal."
    found = found_lesions(scored[0], {})["merged"]
    found = dataclasses.replace(found, score=found.score - 1e-6 * np.arange(len(found.score)))
    times = np.random.default_rng(0).integers(0, 3, len(found))
    slices = np.repeat(np.arange(len(found)), times)
    again = repeated(found, slices)
    for bounds in SIZES.values():
        own = Part(found, 1, *bounds).ap(times[None])[0]
        really = Part(again, 1, *bounds).ap(np.ones((1, len(again))))[0]
        assert own == pytest.approx(really, abs=1e-9, nan_ok=True)
    rates = Froc(found, 1).at_rates(times[None].astype(float))
    assert rates == pytest.approx(Froc(again, 1).at_rates(np.ones((1, len(again)))), abs=1e-12)


def repeated(found: FoundLesions, slices: np.ndarray) -> FoundLesions:
    "The slices at these positions, one after the other, as a set of their own."
    parts, first = {}, [0, 0]
    for at, own in enumerate(slices):
        rows, targets = np.flatnonzero(found.slice == own), np.flatnonzero(found.target_slice == own)
        pairs = np.flatnonzero(found.slice[found.pair[:, 0]] == own)
        moved = found.pair[pairs]
        if len(pairs):
            moved = moved - [rows[0], targets[0]] + first
        new = {"slice": np.full(len(rows), at), "target_slice": np.full(len(targets), at), "pair": moved}
        new |= {name: getattr(found, name)[rows] for name in ("label", "score", "area")}
        new |= {name: getattr(found, name)[targets] for name in ("target_label", "target_area")}
        for name, values in (new | {"iou": found.iou[pairs]}).items():
            parts.setdefault(name, []).append(values)
        first = [first[0] + len(rows), first[1] + len(targets)]
    fields = {name: np.concatenate(values) for name, values in parts.items()}
    about = {name: getattr(found, name)[slices] for name in ("patients", "sizes", "pixels")}
    return FoundLesions(slices=np.arange(len(slices)).astype(str), names=found.names, **about, **fields)


def test_the_released_ap_is_that_of_its_rule(scored):
    scorer, slices = scored
    found = found_lesions(scorer, {name: name[:2] for name, _, _ in scorer.readings()})["classes"]
    table = reference_average_precision(slices)  # (thresholds, slices)
    figures = released_figures(found)
    for name, value in (("ap50", table[0]), ("ap75", table[5]), ("map50_95", table)):
        assert figures[name][0] == pytest.approx(value.mean(), abs=1e-9)
        assert figures[name][1] < figures[name][0] < figures[name][2]
    assert 0.05 < figures["map50_95"][0] < 0.95


def hand_made(**changes) -> FoundLesions:
    """Four slices of 10 x 10: one lesion found, one overlapped too little, one clear with a false alarm, one clear.

    Two patients. Of the first slice's two predictions one takes the target, at IoU 0.8; the other one is left over.
    """
    fields = dict(
        slices=np.array(list("abcd")),
        patients=np.array(["P1", "P1", "P2", "P2"]),
        sizes=np.full((4, 2), 10),
        names=np.array(["lesion"]),
        slice=np.array([0, 0, 1, 2]),
        label=np.ones(4, int),
        score=np.array([0.9, 0.6, 0.8, 0.7]),
        area=np.array([8, 9, 10, 4]),
        target_slice=np.array([0, 1]),
        target_label=np.ones(2, int),
        target_area=np.array([10, 20]),
        pair=np.array([[0, 0], [1, 0], [2, 1]]),
        iou=np.array([0.8, 0.6, 0.3]),
        pixels=np.array([[10, 8, 8], [20, 10, 7], [0, 4, 0], [0, 0, 0]]),
    )
    return FoundLesions(**fields | changes)


def test_figures_counted_by_hand():
    found = hand_made()
    draws = Draws.of(found.patients)
    assert matches_at(found, 1)[1].tolist() == [0, -1, -1, -1] and matches_at(found, 1, 0.1)[1].tolist() == [
        0,
        -1,
        1,
        -1,
    ]
    curve = Froc(found, 1)
    assert curve.scores.tolist() == [0.9, 0.8, 0.7, 0.6] and curve.false.tolist() == [0, 0.25, 0.5, 0.75]
    assert curve.sensitivity.tolist() == [0.5] * 4 and Froc(found, 1, 0.1).sensitivity.tolist() == [0.5, 1, 1, 1]
    lax = froc_figures(found, 1, draws, 0.1)
    assert [lax[f"{rate:g}"][0] for rate in RATES] == [1] * 7  # the second lesion comes before any false one
    late = froc_figures(hand_made(score=np.array([0.9, 0.6, 0.5, 0.7])), 1, draws, 0.1)  # after two false ones
    assert [late[f"{rate:g}"][0] for rate in RATES] == [0.5, 0.5, 1, 1, 1, 1, 1] and late["mean"][0] == 6 / 7
    clear = clear_figures(found, 1, draws)
    assert clear["slices"] == 2 and clear["false_per_slice"][0] == 0.5 and clear["with_false"][0] == 0.5
    quality = {name: own[0] for name, own in panoptic_figures(found, 1, draws).items()}
    assert quality == pytest.approx({"PQ": 0.8 / 3, "SQ": 0.8, "RQ": 1 / 3, "sensitivity": 0.5, "precision": 0.25})
    mask = {name: own[0] for name, own in mask_figures(found, draws).items() if name != "slices"}
    assert mask["dice"] == pytest.approx((16 / 18 + 14 / 30) / 2) and mask["dice_pooled"] == pytest.approx(30 / 52)
    assert mask["iou"] == pytest.approx((8 / 10 + 7 / 23) / 2) and mask["iou_pooled"] == pytest.approx(15 / 37)
    assert mask["area_bias"] == pytest.approx(-0.02) and mask["area_error"] == pytest.approx(0.04)
    x, y = [0.1, 0.2, 0, 0], [0.08, 0.1, 0.04, 0]
    assert mask["area_correlation"] == pytest.approx(np.corrcoef(x, y)[0, 1])


def test_a_hit_of_exactly_half_is_one_of_coco_and_none_of_panoptic_quality():
    found = hand_made(iou=np.array([0.5, 0.4, 0.3]))
    assert (matches_at(found, 1)[1] >= 0).sum() == 1
    assert panoptic_figures(found, 1, Draws.of(found.patients))["PQ"][0] == 0


NONE = np.zeros(0, int)
NO_TARGETS = dict(target_slice=NONE, target_label=NONE, target_area=NONE, pair=np.zeros((0, 2), int), iou=np.zeros(0))
NO_PREDICTIONS = dict(slice=NONE, label=NONE, area=NONE, score=np.zeros(0), pair=np.zeros((0, 2), int), iou=np.zeros(0))
NO_SLICES = dict(
    slices=np.zeros(0, str), patients=np.zeros(0, str), sizes=np.zeros((0, 2), int), pixels=np.zeros((0, 3), int)
)


def test_without_lesions_only_false_alarms_are_defined():
    found = hand_made(**NO_TARGETS, pixels=np.array([[0, 8, 0], [0, 10, 0], [0, 4, 0], [0, 0, 0]]))
    figures = lesion_scores(found)["classes"]["lesion"]
    assert figures["froc"]["0.5"]["mean"] == [None, None, None] and figures["thirds"] == {}
    assert figures["sizes"]["small"]["ap50"] == [None, None, None]
    assert figures["clear"]["false_per_slice"][0] == 1 and figures["panoptic"]["PQ"][0] == 0
    mask = mask_figures(found, Draws.of(found.patients))
    assert mask["dice"] == [None, None, None] and mask["area_correlation"] == [None, None, None]


def test_without_predictions_nothing_is_found():
    found = hand_made(**NO_PREDICTIONS, pixels=np.array([[10, 0, 0], [20, 0, 0], [0, 0, 0], [0, 0, 0]]))
    figures = lesion_scores(found)["classes"]["lesion"]
    assert figures["froc"]["0.5"]["mean"][0] == 0 and figures["sizes"]["small"]["ap50"][0] == 0
    assert figures["panoptic"]["precision"][0] is None and figures["panoptic"]["SQ"][0] is None
    assert figures["panoptic"]["PQ"][0] == 0 and figures["clear"]["false_per_slice"][0] == 0
    assert mask_figures(found, Draws.of(found.patients))["dice"][0] == 0
    assert released_figures(found)["ap50"][0] == 0.5  # two clear slices of four


def test_an_empty_split_has_no_figure():
    found = hand_made(**NO_TARGETS | NO_PREDICTIONS | NO_SLICES)
    figures = lesion_scores(found)["classes"]["lesion"]
    assert figures["froc"]["0.1"]["mean"] == figures["panoptic"]["PQ"] == [None, None, None]
    assert mask_figures(found, Draws.of([]))["dice_pooled"] == released_figures(found)["ap50"] == [None, None, None]


@pytest.mark.parametrize("patients", [["P1"] * 4, ["P1", "P1", "", "P2"]])
def test_a_single_or_an_unknown_patient_gives_a_value_without_an_interval(patients):
    found = hand_made(patients=np.array(patients))
    figures = lesion_scores(found)["classes"]["lesion"]
    assert figures["panoptic"]["SQ"] == pytest.approx([0.8, None, None])
    assert part_figures(found, 1, SIZES["small"], Draws.of(patients))["ap50"][1:] == [None, None]


def test_intervals_hold_the_value_and_widen_with_fewer_patients():
    few, many = (
        froc_figures(found, 1, Draws.of(found.patients))["mean"]
        for found in (pretended_lesions(6), pretended_lesions(60))
    )
    assert few[1] < few[0] < few[2] and many[1] < many[0] < many[2]
    assert many[2] - many[1] < 0.6 * (few[2] - few[1])


def test_a_run_without_what_was_found_says_so(tmp_path):
    assert lesion_scores_of(tmp_path) == {"note": NOT_KEPT}
    found = hand_made()
    save_found(tmp_path, {"test": {"classes": found, "merged": found}})
    scores = lesion_scores_of(tmp_path)
    assert list(scores) == ["released", "merged"] and scores["merged"]["patients"] == 2
    assert lesion_scores_of(tmp_path, "validation") == {"note": NOT_KEPT}
