"""What a detector found, kept in a run: the AP of the scorer, whole over processes and files; words for damage."""

import dataclasses
import json

import numpy as np
import pytest

from covid_workbench.data.description import OBJECT_CLASSES, STANDARD
from covid_workbench.errors import InputError
from covid_workbench.evaluation.detection import CocoScorer, Detections
from covid_workbench.evaluation.found_lesions import FIELDS, LESIONS, ap_of, found_lesions, load_found, save_found


def blobs(chance: np.random.Generator, count: int, size: int = 48, longest: int = 19) -> np.ndarray:
    "Rectangles (count, size, size) bool with sides of 5 to `longest` pixels."
    masks = np.zeros((count, size, size), bool)
    for mask in masks:
        top, left = chance.integers(0, size - 6, 2)
        mask[top : top + chance.integers(5, longest + 1), left : left + chance.integers(5, longest + 1)] = True
    return masks


@pytest.fixture(scope="module", params=["merged", "lesions", "lung+lesions"])
def scorer(request) -> CocoScorer:
    "Thirty slices with detections near their truth and far from it; ties among the scores; some have nothing."
    chance, scorer = np.random.default_rng(3), CocoScorer(OBJECT_CLASSES[request.param], min_area=4)
    classes = len(OBJECT_CLASSES[request.param])
    for number in range(30):
        truth = blobs(chance, chance.integers(0, 4))
        mask = np.zeros((48, 48), np.uint8)
        for own in truth:
            mask[own] = chance.choice(STANDARD.lesions)
        near = np.roll(truth, chance.integers(-3, 4), axis=2)
        masks = np.concatenate([near, blobs(chance, chance.integers(0, 5))])
        scores = chance.choice([0.2, 0.5, 0.7, 0.9], len(masks))
        labels = chance.integers(1, classes + 1, len(masks))
        scorer.add(f"s{number:02d}", Detections(np.zeros((len(masks), 4)), labels, scores, masks), mask)
    return scorer


def test_ap_is_that_of_the_scorer(scorer):
    scores, found = scorer.score(), found_lesions(scorer, {})
    for label, name in enumerate(found["classes"].names, start=1):
        own = ap_of(found["classes"], label)
        if scores[name]["ap50"] is None:  # of lungs there is none
            assert name == "lung" and np.isnan(own).all()
            continue
        assert own[[0, 5]] == pytest.approx([scores[name]["ap50"], scores[name]["ap75"]], abs=1e-9)
        assert own.mean() == pytest.approx(scores[name]["map50_95"], abs=1e-9)
    assert ap_of(found["merged"], 1).mean() == pytest.approx(scores["merged"]["map50_95"], abs=1e-9)
    assert 0.05 < scores["merged"]["map50_95"] < 0.95


def test_areas_and_pixels_are_those_of_the_masks(scorer):
    for merged, found in enumerate(found_lesions(scorer, {"s03": "P3"}).values()):
        for at, (name, size, reading) in enumerate(scorer.readings(bool(merged))):
            truth, masks = reading.masks.masks, reading.predicted.masks.masks
            order = np.argsort(-reading.predicted.scores, kind="stable")
            assert found.slices[at] == name and tuple(found.sizes[at]) == size
            assert found.area[found.slice == at].tolist() == masks.sum((1, 2))[order].tolist()
            assert found.target_area[found.target_slice == at].tolist() == truth.sum((1, 2)).tolist()
            sure = masks[reading.predicted.scores >= 0.5].any(0) if len(masks) else np.zeros(size, bool)
            own = truth.any(0) if len(truth) else np.zeros(size, bool)
            assert found.pixels[at].tolist() == [own.sum(), sure.sum(), (own & sure).sum()]
        assert found.patients.tolist() == ["P3" if name == "s03" else "" for name in found.slices]


def test_slices_of_other_processes_give_the_same(scorer):
    "They come as COCO's codes instead of runs."
    other = CocoScorer(scorer.objects, scorer.min_area)
    other.take(json.loads(json.dumps(scorer.kept())))
    for one, two in zip(found_lesions(scorer, {}).values(), found_lesions(other, {}).values()):
        for field in FIELDS:
            np.testing.assert_array_equal(getattr(one, field), getattr(two, field), err_msg=field)


def test_files_give_back_what_was_kept(scorer, tmp_path):
    found, nothing = found_lesions(scorer, {"s00": "P0"}), found_lesions(CocoScorer(scorer.objects), {})
    assert nothing == {} and load_found(tmp_path) is None
    save_found(tmp_path, {"test": found, "validation": nothing})
    assert load_found(tmp_path, "validation") is None
    for reading, own in found.items():
        held = load_found(tmp_path, "test", reading)
        assert all(np.array_equal(getattr(own, name), getattr(held, name)) for name in FIELDS)
    save_found(tmp_path, {"test": {"classes": found["classes"]}})  # as classes that do not hold all lesions
    assert load_found(tmp_path).names.tolist() == found["classes"].names.tolist()
    save_found(tmp_path, {"test": {}})
    assert not (tmp_path / LESIONS).exists()


def test_slices_without_anything_have_figures(tmp_path):
    scorer = CocoScorer(OBJECT_CLASSES["merged"])
    scorer.add("empty", Detections(np.zeros((0, 4)), [], [], np.zeros((0, 9, 9), bool)), np.zeros((9, 9), np.uint8))
    found = found_lesions(scorer, {})["merged"]
    assert len(found) == 1 and np.isnan(ap_of(found, 1)).all() and found.pixels.tolist() == [[0, 0, 0]]
    save_found(tmp_path, {"test": {"merged": found}})
    assert len(load_found(tmp_path)) == 1


DAMAGE = {
    "score": lambda own: own.score[:-1],
    "label": lambda own: own.label + 7,
    "pair": lambda own: own.pair + 10**6,
    "slice": lambda own: own.slice.astype(float),
    "iou": lambda own: own.iou * np.nan,
    "pixels": lambda own: own.pixels[:, :2],
}


@pytest.mark.parametrize("field", DAMAGE)
def test_fields_that_do_not_fit_are_refused(scorer, tmp_path, field):
    own = found_lesions(scorer, {})["classes"]
    save_found(tmp_path, {"test": {"classes": dataclasses.replace(own, **{field: DAMAGE[field](own)})}})
    with pytest.raises(InputError, match="evaluate the run again"):
        load_found(tmp_path, "test", "classes")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no archive", None])
def test_a_damaged_file_is_named(scorer, tmp_path, content):
    save_found(tmp_path, {"test": found_lesions(scorer, {})})
    path = tmp_path / LESIONS
    path.write_bytes(path.read_bytes()[:-200] if content is None else content)
    with pytest.raises(InputError, match=f"{LESIONS}: damaged"):
        load_found(tmp_path)


def test_a_run_keeps_what_its_evaluation_found(finished):
    for split in ("validation", "test"):
        found, part = load_found(finished.folder, split), finished.table.split(split)
        with_mask = part.frame["mask"] != ""
        assert found.slices.tolist() == sorted(part.frame["id"][with_mask])
        assert dict(zip(found.slices, found.patients)) == dict(
            zip(part.frame["id"][with_mask], part.patients[with_mask])
        )
        ap = finished.metrics[split]["detection"]["merged"]["map50_95"]
        assert ap_of(found, 1).mean() == pytest.approx(ap, abs=1e-9)
        assert len(found.score) == finished.metrics[split]["detection"]["merged"]["n_predictions"]
