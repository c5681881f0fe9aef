"Slices are compared many at a time: what is found in one does not depend on its neighbours, nor on how many there are."

import gc
import weakref

import numpy as np
import pytest

from covid_workbench.data.description import OBJECT_CLASSES
from covid_workbench.evaluation import detection
from covid_workbench.evaluation.detection import CocoScorer, Detections, joined_lesions
from covid_workbench.run_lengths import MaskRuns
from covid_workbench.side_by_side import back_in_slices, linked, side_by_side, tables_of


def squares(rng, count, side):
    "Masks of squares on a grid, some empty: many touch, overlap, are equal, or reach the edge of the slice."
    masks = np.zeros((count, side, side), bool)
    for mask in masks:
        x, y, w, h = *rng.integers(0, side // 6, 2) * 6, *rng.integers(1, 4, 2) * 6
        mask[y : y + h, x : x + w] = rng.random() < 0.95
    return masks


def a_set(seed, classes):
    "Slices of two sizes, with ties of scores, sizes and classes, crowds, empty slices and objects at all edges."
    rng = np.random.default_rng(seed)
    for number in range(14):
        side = 60 if number % 3 else 48
        truth = np.zeros((side, side), np.uint8)
        for value, mask in zip(rng.integers(1, 4, 8), squares(rng, rng.integers(0, 8), side)):
            truth[mask] = value
        masks = squares(rng, 130 if number == 3 else rng.integers(0, 18), side)
        labels, scores = rng.integers(1, classes + 1, len(masks)), rng.integers(1, 9, len(masks)) / 9
        yield f"S{number:02d}", Detections(np.zeros((len(masks), 4)), labels, scores, masks), truth


@pytest.mark.parametrize("objects", ["lesions", "merged", "lung+lesions"])
@pytest.mark.parametrize("seed", range(3))
def test_slices_together_are_those_alone(objects, seed, monkeypatch):
    "Labels, masks, scores, overlaps and the order of them all, by class and as joined lesions."
    slices, kept = list(a_set(seed, len(OBJECT_CLASSES[objects]))), []
    for together in (-1, 2000, 1_000_000):
        monkeypatch.setattr(detection, "TOGETHER", together)
        scorer = CocoScorer(OBJECT_CLASSES[objects], 4)
        for number, own in enumerate(slices, start=1):
            scorer.add(*own)
            assert len(scorer) == number and (together > 0 or not scorer._waiting)
        kept.append([dict(scorer.kept()), scorer.score()])
    for found, figures in kept[1:]:
        assert [name for name, own in found.items() if own != kept[0][0][name]] == [] and len(found) == 14
        assert figures == kept[0][1]
    assert kept[0][1]["merged"]["n_predictions"] > kept[0][1]["merged"]["n_truth"] > 20


@pytest.mark.parametrize("seed", range(4))
def test_parts_are_joined_by_the_rule(seed):
    "Word for word as the rule says it, over pictures."
    for _, found, _ in a_set(seed, 2):
        order = sorted(
            range(len(found)),
            key=lambda n: (-found.scores[n], -found.areas[n], found.labels[n], found.codes[n]["counts"], n),
        )
        for label in (1, 2):
            order = [n for n in order if n not in [m for m in order if found.labels[m] == label][100:]]
        free, lesions = dict.fromkeys(order), []
        while free:
            start = next(iter(free))
            group, barred = [start], set()
            while True:
                free = {n: None for n in free if n not in group}
                barred |= {n for n in free if duplicates(found, n, group[-1])}
                drawn = [n for n in free if n not in barred and found.scores[n] >= 2 / 3 * found.scores[start]]
                drawn = [n for n in drawn if any(touch_as_others(found, n, part) for part in group)]
                if not drawn:
                    break
                group.append(drawn[0])
            lesions.append((found.scores[start], found.masks[group].any(0)))
        joined = joined_lesions(found, (1, 2))
        assert joined.scores.tolist() == [score for score, _ in lesions]
        assert all((own == mask).all() for own, (_, mask) in zip(joined.masks, lesions, strict=True))


def duplicates(found, one, other):
    "Whether two parts are of one class and share more than half of the smaller."
    both = (found.masks[one] & found.masks[other]).sum()
    return found.labels[one] == found.labels[other] and both > min(found.areas[[one, other]]) / 2


def touch_as_others(found, one, other):
    "Whether two parts are of different classes and a pixel of the one is within one of the other."
    if found.labels[one] == found.labels[other]:
        return False
    wide = np.pad(found.masks[one], 1)
    rows, columns = found.size
    near = [wide[y : y + rows, x : x + columns] for y in range(3) for x in range(3)]
    return bool((np.logical_or.reduce(near) & found.masks[other]).any())


@pytest.mark.parametrize("seed", range(10))
def test_nothing_touches_across_slices(seed):
    "Pairs, what they share and whether they touch, in a long picture and slice by slice; and back again."
    rng = np.random.default_rng(seed)
    chance, height, width = rng.choice([0.05, 0.5, 1.0]), *rng.integers(1, 9, 2)
    masks = [rng.random((rng.integers(0, 5), height, width)) < chance for _ in range(5)]
    alone = [MaskRuns.of(own) for own in masks]
    row, counts = side_by_side(alone), np.array([len(own) for own in masks])
    mine, theirs = row.near(row, 1)
    shared = tables_of(row.shared_in(row, mine, theirs), mine, theirs, counts, counts)
    touching = tables_of(row.touching_in(row, mine, theirs), mine, theirs, counts, counts)
    for own, both, near in zip(alone, shared, touching):
        assert both.tolist() == own.shared(own).tolist() and near.astype(bool).tolist() == own.touching(own).tolist()
    assert [own.coco() for own in back_in_slices(row, counts)] == [own.coco() for own in alone]
    assert [own.size for own in back_in_slices(row, counts)] == [(height, width)] * 5


def test_chains_hang_together():
    "However long, in whatever order their pairs come."
    rng = np.random.default_rng(0)
    chain = rng.permutation(np.stack([np.arange(39), np.arange(1, 40)], 1))
    assert linked(42, *chain.T).tolist() == [0] * 40 + [40, 41]


def test_slices_that_wait_hold_no_pictures():
    scorer, truth = CocoScorer(OBJECT_CLASSES["merged"], 4), np.zeros((64, 64), np.uint8)
    masks = np.zeros((3, 64, 64), bool)
    masks[:, 4:9, 5:20] = True
    picture = weakref.ref(masks)
    scorer.add("S", Detections(np.zeros((3, 4)), np.ones(3), np.arange(3) / 3, masks), truth)
    del masks
    gc.collect()
    assert scorer._waiting and picture() is None and scorer.score()["headline"]["n_predictions"] == 3
