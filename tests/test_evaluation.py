"Detection and classification scores: known values, invariants, and agreement with naive versions written here."

import json

import numpy as np
import pytest
from pycocotools import mask as rle_tools
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from covid_workbench.data.description import CLASS_NAMES, OBJECT_CLASSES, ObjectClasses
from covid_workbench.data.phantom import PhantomSettings, phantom_slices
from covid_workbench.data.sources import open_source
from covid_workbench.data.targets import lesion_targets
from covid_workbench.errors import InputError
from covid_workbench.evaluation.classification import (
    class_numbers,
    classification_scores,
    confusion_figure,
    grey_histogram_baseline,
    grey_histograms,
    histogram_of_predictions,
    majority_baseline,
    patient_bootstrap,
    share_interval,
)
from covid_workbench.evaluation.detection import (
    CocoScorer,
    Detections,
    ap_columns,
    detections_to_coco,
    encode_masks,
    greedy_matches,
    joined_lesions,
    joined_truth,
    lesion_figures,
    mask_iou,
)
from covid_workbench.evaluation.reference import reference_average_precision
from covid_workbench.reports.run_report import html_table, score_table

SIZE = (64, 80)
FIGURES = ("ap50", "ap75", "map50_95", "ar100")


def rectangles(*rows):
    "Detections from (label, score, x1, y1, x2, y2)."
    masks = np.zeros((len(rows), *SIZE), bool)
    for mask, (_, _, x1, y1, x2, y2) in zip(masks, rows):
        mask[y1:y2, x1:x2] = True
    return Detections(
        np.array([row[2:] for row in rows], float).reshape(-1, 4),
        np.array([row[0] for row in rows], int),
        np.array([row[1] for row in rows], float),
        masks,
    )


def painted(*rows):
    "A truth mask from (value, x1, y1, x2, y2)."
    mask = np.zeros(SIZE, np.uint8)
    for value, x1, y1, x2, y2 in rows:
        mask[y1:y2, x1:x2] = value
    return mask


def scored(slices, objects="lesions", min_area=20):
    scorer = CocoScorer(OBJECT_CLASSES[objects], min_area)
    for name, (found, mask) in slices.items():
        scorer.add(name, found, mask)
    return scorer


def random_slices(seed, n=6, lungs=False):
    "Slices with up to four lesions in a grid of cells and detections that are the lesions moved a little, or noise."
    rng = np.random.default_rng(seed)
    slices = {}
    for number in range(n):
        truth, found = [(1, 0, 0, 80, 64)] if lungs else [], []
        for cell in rng.permutation(12)[: rng.integers(0, 5)]:
            x, y = 20 * (cell % 4) + 2, 20 * (cell // 4) + 2
            truth.append((int(rng.integers(2, 4)), x, y, x + 14, y + 12))
        for value, x1, y1, x2, y2 in truth:
            for _ in range(rng.integers(0, 3)):
                dx, dy = rng.integers(-2, 6, 2)
                label = value - 1 if rng.random() < 0.8 else int(rng.integers(1, 3))
                found.append(
                    (
                        max(label, 1),
                        float(rng.random()),
                        max(x1 + dx, 0),
                        max(y1 + dy, 0),
                        min(x2 + dx, 80),
                        min(y2 + dy, 64),
                    )
                )
        for _ in range(rng.integers(0, 3)):
            x, y = rng.integers(0, 60), rng.integers(0, 44)
            found.append((int(rng.integers(1, 3)), float(rng.random()), x, y, x + 10, y + 10))
        slices[f"S{number}"] = (rectangles(*found), painted(*truth))
    return slices


def naive_ap(slices, values, labels, threshold):
    "COCO AP and recall written from the definition, for objects of the mask `values` and detections with `labels`."
    from skimage.measure import label as components

    rows, n_truth = [], 0
    for found, mask in slices.values():
        numbered = components(np.isin(mask, values), connectivity=2)
        truth = np.array([numbered == k for k in range(1, numbered.max() + 1)], bool).reshape(-1, *SIZE)
        n_truth += len(truth)
        chosen = np.isin(found.labels, labels)
        hits = greedy_matches(mask_iou(found.masks[chosen], truth), found.scores[chosen], threshold) >= 0
        rows += list(zip(found.scores[chosen], hits))
    rows.sort(key=lambda row: -row[0])
    hit = np.cumsum([row[1] for row in rows])
    precision, recall = hit / np.arange(1, len(rows) + 1), hit / n_truth
    points = [max(precision[recall >= r - 1e-12], default=0) for r in np.linspace(0, 1, 101)]
    return np.mean(points), recall[-1] if len(rows) else 0


@pytest.mark.parametrize("seed", range(6))
def test_judge_agrees_with_the_definition(seed):
    slices = random_slices(seed)
    scores = scored(slices).score()
    thresholds = np.linspace(0.5, 0.95, 10)
    both = []
    for name, values, labels in (("GGO", (2,), (1,)), ("consolidation", (3,), (2,))):
        ap, recall = np.transpose([naive_ap(slices, values, labels, t) for t in thresholds])
        both.append((ap[0], ap[5], ap.mean(), recall.mean()))
        assert [scores[name][figure] for figure in FIGURES] == pytest.approx(both[-1], abs=1e-8), name
    assert [scores["headline"][figure] for figure in FIGURES] == pytest.approx(np.mean(both, axis=0), abs=1e-8)
    whole = {name: (joined_lesions(found, (1, 2)), mask) for name, (found, mask) in slices.items()}
    ap, recall = np.transpose([naive_ap(whole, (2, 3), (1,), t) for t in thresholds])
    assert [scores["merged"][figure] for figure in FIGURES] == pytest.approx(
        (ap[0], ap[5], ap.mean(), recall.mean()), abs=1e-8
    )


def test_known_values():
    mask = painted((2, 5, 5, 25, 25), (3, 50, 30, 70, 50))
    first, second, false = (1, 0.9, 5, 5, 25, 25), (2, 0.8, 50, 30, 70, 50), (1, 0.95, 40, 2, 50, 12)

    def figures(*rows):
        return [scored({"a": (rectangles(*rows), mask)}).score()["merged"][figure] for figure in FIGURES]

    assert figures(first, second) == [1, 1, 1, 1]
    assert figures(first, second, false) == pytest.approx([2 / 3, 2 / 3, 2 / 3, 1])
    assert figures(first) == pytest.approx([51 / 101] * 3 + [0.5])
    assert figures((1, 0.9, 10, 5, 30, 25), (2, 0.8, 55, 30, 75, 50)) == pytest.approx(
        [1, 0, 0.3, 0.3]
    )  # IoU 15 / 25 = 0.6
    assert figures(first, (1, 0.85, 5, 5, 25, 24)) == pytest.approx(
        [51 / 101] * 3 + [0.5]
    )  # the second finds nothing new
    assert figures() == [0, 0, 0, 0]


def test_order_of_slices_and_of_detections_changes_nothing():
    slices = random_slices(3)
    backwards = {}
    for name in reversed(slices):
        found, mask = slices[name]
        turned = np.arange(len(found))[::-1]
        backwards[name] = (
            Detections(found.boxes[turned], found.labels[turned], found.scores[turned], found.masks[turned]),
            mask,
        )
    assert scored(slices).score() == scored(backwards).score()
    assert scored(slices).coco_json()[0] == scored(backwards).coco_json()[0]


def test_slices_without_lesions_take_part():
    good = (rectangles((1, 0.5, 5, 5, 25, 25)), painted((2, 5, 5, 25, 25)))
    empty = (rectangles((1, 0.9, 5, 5, 25, 25)), painted())
    assert scored({"a": good}).score()["merged"]["ap50"] == 1
    assert scored({"a": good, "b": empty}).score()["merged"]["ap50"] == 0.5
    assert scored({"a": good, "b": (rectangles(), painted())}).score()["merged"]["ap50"] == 1


def test_nothing_to_find_is_none_and_counts_stay():
    scores = scored(
        {"a": (rectangles((2, 0.9, 5, 5, 25, 25)), painted((2, 5, 5, 8, 8)))}
    ).score()  # 9 px, under min_area
    nothing = dict.fromkeys((*FIGURES, "ceiling_ap50"))
    assert scores["merged"] == {"rule": "lesions merged"} | nothing | {"n_truth": 0, "n_predictions": 1}
    assert scores["headline"] == {"rule": "GGO, consolidation (mean)"} | nothing | {"n_truth": 0, "n_predictions": 1}
    assert scores["GGO"]["n_predictions"] == 0 and scores["consolidation"]["n_predictions"] == 1
    assert scored({}).score()["merged"]["ap50"] is None
    assert json.loads(json.dumps(scores)) == scores


def test_lungs_never_touch_the_headline():
    plain = random_slices(1)
    with_lungs = {}
    for name, (found, mask) in plain.items():
        lung = rectangles((1, 0.99, 0, 0, 40, 64), (1, 0.98, 40, 0, 80, 64))
        both = Detections(
            np.concatenate([lung.boxes, found.boxes]),
            np.concatenate([lung.labels, found.labels + 1]),
            np.concatenate([lung.scores, found.scores]),
            np.concatenate([lung.masks, found.masks]),
        )
        with_lungs[name] = (both, np.where(mask == 0, 1, mask).astype(np.uint8))
    scores = scored(with_lungs, "lung+lesions").score()
    for name in ("headline", "merged", "GGO"):
        assert scores[name] == scored(plain).score()[name]
    only_lungs = {"a": (rectangles((1, 0.9, 0, 0, 40, 64)), painted((1, 0, 0, 40, 64)))}
    assert scored(only_lungs, "lung+lesions").score()["lung"]["ap50"] == 1
    empty = scored(only_lungs, "lung+lesions").score()
    assert all(
        empty[name]["ap50"] is None and empty[name]["n_truth"] == empty[name]["n_predictions"] == 0
        for name in ("headline", "merged")
    )


def test_merged_class_is_the_headline_and_a_mixed_patch_is_one_object():
    mask = painted((2, 5, 5, 25, 25), (3, 25, 5, 35, 25))
    scores = scored({"a": (rectangles((1, 0.9, 5, 5, 35, 25)), mask)}, "merged").score()
    assert {"rule": "lesions merged"} | scores["lesion"] == scores["headline"] == scores["merged"]
    assert scores["headline"]["ap50"] == 1 and scores["headline"]["n_truth"] == 1
    assert scored({"a": (rectangles(), mask)}).score()["GGO"]["n_truth"] == 1


def test_label_is_the_meaning_not_the_rank():
    only_consolidation = painted((3, 5, 5, 25, 25))
    scores = scored({"a": (rectangles((2, 0.9, 5, 5, 25, 25)), only_consolidation)}).score()
    assert scores["consolidation"]["ap50"] == 1 and scores["GGO"]["ap50"] is None
    swapped = ObjectClasses(("consolidation", "GGO"), ((3,), (2,)))
    scorer = CocoScorer(swapped, 20)
    scorer.add("a", rectangles((1, 0.9, 5, 5, 25, 25)), only_consolidation)
    assert scorer.score()["consolidation"]["ap50"] == 1 and scorer.score()["GGO"]["n_predictions"] == 0


def test_at_most_100_detections_of_a_class_in_a_slice():
    crowd = [(1, 0.9, 60, 50, 66, 56)] * 100 + [(1, 0.1, 5, 5, 25, 25)]
    scores = scored({"a": (rectangles(*crowd), painted((2, 5, 5, 25, 25)))}).score()
    assert scores["merged"]["n_predictions"] == 100 and scores["merged"]["ap50"] == 0
    assert scored({"a": (rectangles(*crowd[1:]), painted((2, 5, 5, 25, 25)))}).score()["merged"][
        "ap50"
    ] == pytest.approx(0.01)


# -- parts of one lesion


def parts_of(*rows):
    found = joined_lesions(rectangles(*rows), (1, 2))
    return sorted((round(score, 3), int(mask.sum())) for score, mask in zip(found.scores, found.masks))


@pytest.mark.parametrize(
    "expected, rows",
    [
        ([(0.9, 200)], [(1, 0.9, 5, 5, 15, 15), (2, 0.7, 15, 5, 25, 15)]),
        ([(0.9, 200)], [(1, 0.9, 5, 5, 15, 15), (2, 0.7, 15, 15, 25, 25)]),  # by a corner
        ([(0.9, 100)], [(1, 0.9, 5, 5, 15, 15), (2, 0.9, 8, 8, 12, 12)]),  # a core
        ([(0.7, 100), (0.9, 100)], [(1, 0.9, 5, 5, 15, 15), (2, 0.7, 16, 5, 26, 15)]),  # a gap
        ([(0.7, 100), (0.9, 100)], [(1, 0.9, 5, 5, 15, 15), (1, 0.7, 15, 5, 25, 15)]),  # one class
        ([(0.5, 100), (0.9, 100)], [(1, 0.9, 5, 5, 15, 15), (2, 0.5, 15, 5, 25, 15)]),  # too weak beside the other
        (
            [(0.9, 300)],
            [(1, 0.9, 5, 5, 15, 15), (2, 0.7, 15, 5, 25, 15), (1, 0.61, 25, 5, 35, 15)],
        ),  # a chain, against the surest
        ([(0.5, 100), (0.9, 200)], [(1, 0.9, 5, 5, 15, 15), (2, 0.7, 15, 5, 25, 15), (1, 0.5, 25, 5, 35, 15)]),
        (
            [(0.8, 90), (0.9, 200)],
            [(1, 0.9, 5, 5, 15, 15), (2, 0.9, 15, 5, 25, 15), (1, 0.8, 6, 5, 15, 15)],
        ),  # a part twice
    ],
)
def test_parts_are_joined_by_the_rule(expected, rows):
    assert parts_of(*rows) == expected


@pytest.mark.parametrize("seed", range(4))
def test_joining_depends_on_the_detections_alone(seed):
    rng, found = np.random.default_rng(seed), []
    for _ in range(40):
        x, y = rng.integers(0, 50, 2)
        found.append(
            (int(rng.integers(1, 3)), float(rng.choice([0.3, 0.5, 0.8])), x, y, x + 9, y + 9)
        )  # with ties in score and size
    one, other = (
        joined_lesions(rectangles(*rows), (1, 2)) for rows in (found, [found[number] for number in rng.permutation(40)])
    )
    same = [{(score, mask.tobytes()) for score, mask in zip(found.scores, found.masks)} for found in (one, other)]
    assert same[0] == same[1]
    assert 1 < len(one) == len(other) < 40


def as_detections(mask, objects, area, scores=lambda n: np.ones(n)):
    truth = lesion_targets(mask, OBJECT_CLASSES[objects], area)
    return Detections(truth.boxes, truth.labels, scores(len(truth)), truth.masks)


def real_slices(shared):
    table = open_source(shared / "data" / "covid-semiseg").split("test")
    return [(table.read(row), 100) for row in range(0, len(table), 4)]


def phantom_masks(shared):
    return [(one, 4) for one in phantom_slices(12, PhantomSettings(size=96, slices=3))]


@pytest.mark.parametrize("objects", OBJECT_CLASSES)
@pytest.mark.parametrize("source", [phantom_masks, real_slices])
def test_the_truth_as_detections_scores_one(source, objects, request):
    "What a perfect detector finds gets 1 in every reading, by both rules, whatever its scores from 2/3 to 1."
    slices = source(request.getfixturevalue("shared") if source is real_slices else None)
    scorer, rng, released = CocoScorer(OBJECT_CLASSES[objects], 1), np.random.default_rng(0), []
    for found, area in slices:
        scorer.min_area = area
        answer = as_detections(found.mask, objects, area, lambda n: rng.uniform(2 / 3, 1, n))
        scorer.add(found.id, answer, found.mask)
        released.append((answer, answer.masks, answer.labels))
    scores = scorer.score()
    readings = [name for name in ("headline", "merged") if name in scores]
    assert readings == (["headline"] if objects == "GGO" else ["headline", "merged"])
    for name in readings:
        assert scores[name]["ap50"] == scores[name]["map50_95"] == scores[name]["ceiling_ap50"] == 1, name
        assert scores[name]["n_truth"] == scores[name]["n_predictions"] > 10
    assert reference_average_precision(released).mean() == 1
    if objects == "lesions":  # the truth itself is that of the joined mask
        touching = [
            len(joined_truth(lesion_targets(found.mask, OBJECT_CLASSES["lesions"], area), (1, 2)))
            for found, area in slices
        ]
        assert scores["merged"]["n_truth"] == sum(touching) < scores["headline"]["n_truth"]


def test_a_ceiling_is_not_the_figure():
    mask = painted((2, 5, 5, 25, 25), (3, 25, 5, 35, 25), (2, 50, 40, 70, 60))
    scores = scored({"a": (rectangles((1, 0.9, 5, 5, 25, 25)), mask)}).score()
    assert (
        scores["headline"]["ceiling_ap50"]
        == scores["merged"]["ceiling_ap50"]
        == scores["GGO"]["ceiling_ap50"]
        == 1
        > scores["headline"]["ap50"]
        > 0
    )
    crowd = [
        (2, 2 * x, 2 * y, 2 * x + 1, 2 * y + 1) for x in range(40) for y in range(3)
    ]  # more lesions than the judge takes
    assert scored({"a": (rectangles(), painted(*crowd))}, min_area=0).score()["headline"][
        "ceiling_ap50"
    ] == pytest.approx(84 / 101)


def noisy_answers(slices, false, rng):
    "True parts, a little moved and surer, and a crowd of weak ellipses of both classes on the lungs."
    for found, area in slices:
        true = as_detections(found.mask, "lesions", area, lambda n: rng.uniform(0.7, 1, n))
        inside, (height, width), masks = (
            np.argwhere(found.mask > 0),
            found.mask.shape,
            [np.roll(mask, rng.integers(-1, 2, 2), (0, 1)) for mask in true.masks],
        )
        rows, columns = np.mgrid[:height, :width]
        for _ in range(false):
            (y, x), (h, w) = inside[rng.integers(len(inside))], rng.uniform(0.03, 0.12, 2) * height
            masks.append(((rows - y) / h) ** 2 + ((columns - x) / w) ** 2 < 1)
        labels, scores = (
            np.append(true.labels, rng.integers(1, 3, false)),
            np.append(true.scores, rng.uniform(0.02, 0.3, false)),
        )
        yield (
            found,
            area,
            Detections(np.zeros((len(masks), 4)), labels, scores, np.array(masks, bool).reshape(-1, height, width)),
        )


@pytest.mark.parametrize("false", [0, 60])
def test_a_crowd_of_weak_detections_does_no_harm(false):
    "Joining takes nothing from a noisy detector, however many false detections touch its true ones."
    scorer, parts = (CocoScorer(OBJECT_CLASSES[name], 4) for name in ("lesions", "merged"))
    for found, _, answer in noisy_answers(phantom_masks(None), false, np.random.default_rng(3)):
        scorer.add(found.id, answer, found.mask)
        parts.add(found.id, Detections(answer.boxes, np.ones(len(answer)), answer.scores, answer.masks), found.mask)
    joined, before = (one.score()["merged"]["ap50"] for one in (scorer, parts))
    assert joined > before + 0.1


def test_metrics_of_before_are_read():
    row = {"ap75": 0.2, "map50_95": 0.3, "ar100": 0.4, "n_truth": 5, "n_predictions": 6}
    apart = {
        "lung": row | {"ap50": 0.9},
        "GGO": row | {"ap50": 0.5},
        "consolidation": row | {"ap50": 0.1},
        "lesions": row | {"ap50": 0.25},
    }
    assert ap_columns(apart) == {
        "AP of": "GGO, consolidation (mean)",
        "AP@0.5": 0.3,
        "AP@0.75": 0.2,
        "AP@[.5:.95]": 0.3,
    }
    merged = {
        "lesion": row | {"ap50": 0.5},
        "lesions": row | {"ap50": 0.5},
        "reference": {"ap50": 0.7, "ap75": 0.5, "map50_95": 0.4},
    }
    assert ap_columns(merged) == {
        "AP of": "lesions merged",
        "AP@0.5": 0.5,
        "AP@0.75": 0.2,
        "AP@[.5:.95]": 0.3,
        "AP@0.5 merged": 0.5,
        "AP@0.5 (released rule)": 0.7,
        "AP@[.5:.95] (released rule)": 0.4,
    }
    assert lesion_figures(None) == {"headline": {}, "merged": {}, "reference": {}}
    now = scored(random_slices(1)).score()
    for known in (now, {name: now[name] for name in ("GGO", "consolidation")}):
        assert lesion_figures(known)["headline"] == now["headline"]


def test_no_best_across_different_things():
    both, slices = random_slices(1), random_slices(2)
    glass = {
        name: (
            Detections(*(getattr(found, field)[found.labels == 1] for field in ("boxes", "labels", "scores", "masks"))),
            mask,
        )
        for name, (found, mask) in slices.items()
    }
    scores = {objects: scored(one, objects).score() for objects, one in (("lesions", both), ("GGO", glass))}
    table = score_table(
        {objects: {"test": {"classification": None, "detection": one}} for objects, one in scores.items()}
    )
    assert list(table["AP of"]) == ["GGO, consolidation (mean)", "GGO"] and table["AP@0.5"].nunique() == 2
    assert table["AP@0.5 merged"].notna().tolist() == [True, False]
    assert "best" not in html_table(table) and 'class="best"' in html_table(table.assign(**{"AP of": "GGO"}))


def test_files_work_with_pycocotools_from_outside(tmp_path, capsys):
    scorer = scored(random_slices(2))
    truth, results = scorer.coco_json()
    capsys.readouterr()
    scores = scorer.score()
    assert capsys.readouterr().out == ""
    for name, content in (("truth", truth), ("results", results)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    index = COCO(str(tmp_path / "truth.json"))
    judge = COCOeval(index, index.loadRes(str(tmp_path / "results.json")), "segm")
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    assert [row["name"] for row in truth["categories"]] == ["GGO", "consolidation"]
    assert judge.stats[0] == pytest.approx(np.mean([scores[name]["map50_95"] for name in ("GGO", "consolidation")]))
    assert judge.stats[1] == pytest.approx(np.mean([scores[name]["ap50"] for name in ("GGO", "consolidation")]))


def test_predictions_as_coco_document():
    found = rectangles((2, 0.75, 5, 6, 25, 36), (1, 0.5, 40, 10, 50, 15))
    document = json.loads(
        json.dumps(detections_to_coco([("first", found), ("none", rectangles())], OBJECT_CLASSES["lesions"]))
    )
    assert [row["file_name"] for row in document["images"]] == ["first", "none"]
    assert (document["images"][0]["width"], document["images"][0]["height"]) == (80, 64)
    first, second = document["annotations"]
    assert (first["image_id"], first["category_id"], first["score"], first["bbox"], first["area"]) == (
        1,
        2,
        0.75,
        [5, 6, 20, 30],
        600,
    )
    assert isinstance(first["segmentation"]["counts"], str) and second["id"] == 2
    assert rle_tools.iou([first["segmentation"]], encode_masks(found.masks), [0, 0]).tolist() == [[1, 0]]
    assert encode_masks(np.zeros((0, 4, 5), bool)) == []


@pytest.mark.parametrize(
    "words, act",
    [
        (
            "slice a was added twice",
            lambda s: (s.add("a", rectangles(), painted()), s.add("a", rectangles(), painted())),
        ),
        (
            "detection masks 80x64 do not match the truth mask 5x4",
            lambda s: s.add("a", rectangles(), np.zeros((4, 5), np.uint8)),
        ),
        (
            "label 3, but the classes are 1 GGO, 2 consolidation",
            lambda s: s.add("a", rectangles((3, 0.5, 1, 1, 9, 9)), painted()),
        ),
        ("label 0", lambda s: s.add("a", rectangles((0, 0.5, 1, 1, 9, 9)), painted())),
        ("holds the value 255", lambda s: s.add("a", rectangles(), painted((255, 1, 1, 5, 5)))),
        ("score nan", lambda s: rectangles((1, np.nan, 1, 1, 9, 9))),
        ("do not fit together", lambda s: Detections(np.zeros((1, 4)), [1, 1], [0.5], np.zeros((1, 4, 5)))),
        ("label 7", lambda s: detections_to_coco([("a", rectangles((7, 0.5, 1, 1, 9, 9)))], OBJECT_CLASSES["lesions"])),
        ("cannot be called 'headline'", lambda s: CocoScorer(ObjectClasses(("headline",), ((2,),)))),
    ],
)
def test_wrong_detections_are_named(words, act):
    with pytest.raises(InputError, match=words):
        act(CocoScorer(OBJECT_CLASSES["lesions"]))


# ------------------------------------------------------------ classification

TRUTH = [0] * 5 + [1] * 3 + [2] * 2
CALLED = [0, 0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_three_by_three_by_hand():
    scores = classification_scores(TRUTH, CALLED)
    assert scores["confusion"] == [[4, 1, 0], [0, 2, 1], [0, 0, 2]]
    assert [row["sensitivity"] for row in scores["classes"].values()] == pytest.approx([4 / 5, 2 / 3, 1])
    assert [row["precision"] for row in scores["classes"].values()] == pytest.approx([1, 2 / 3, 2 / 3])
    assert [row["f1"] for row in scores["classes"].values()] == pytest.approx([8 / 9, 2 / 3, 4 / 5])
    assert [(row["support"], row["predicted"]) for row in scores["classes"].values()] == [(5, 4), (3, 3), (2, 3)]
    assert scores["weighted_f1"] == pytest.approx(0.5 * 8 / 9 + 0.3 * 2 / 3 + 0.2 * 4 / 5) and scores["accuracy"] == 0.8
    assert json.loads(json.dumps(scores)) == scores


def test_names_numbers_and_probabilities_say_the_same():
    names, rows = [CLASS_NAMES[k] for k in CALLED], np.eye(3)[CALLED] * 0.4 + 0.2
    assert (
        classification_scores(TRUTH, names)
        == classification_scores(TRUTH, rows)
        == classification_scores([CLASS_NAMES[k] for k in TRUTH], CALLED)
    )


@pytest.mark.parametrize("seed", range(5))
def test_perfect_permuted_and_bounded(seed):
    rng = np.random.default_rng(seed)
    truth, called = rng.integers(0, 3, 40), rng.integers(0, 3, 40)
    shuffled = rng.permutation(40)
    scores = classification_scores(truth, called)
    assert classification_scores(truth[shuffled], called[shuffled]) == scores
    assert classification_scores(truth, truth)["weighted_f1"] == classification_scores(truth, truth)["accuracy"] == 1
    assert 0 <= scores["weighted_f1"] <= 1 and sum(
        row["weight"] for row in scores["classes"].values()
    ) == pytest.approx(1)
    assert sum(map(sum, scores["confusion"])) == scores["n"] == 40


def test_weights_are_the_shares_of_this_test_set():
    scores = classification_scores([0] * 9 + [1], [0] * 10, ("healthy", "ill"))
    assert scores["weighted_f1"] == pytest.approx(0.9 * 18 / 19)


def test_undefined_quotients_are_none_and_count_as_zero():
    scores = classification_scores([1, 2, 2, 2], [1, 1, 1, 1])
    assert scores["classes"]["COVID-19"] == {
        "sensitivity": 0,
        "precision": None,
        "f1": 0,
        "support": 3,
        "predicted": 0,
        "weight": 0.75,
    }
    assert scores["classes"]["Normal"] == {
        "sensitivity": None,
        "precision": None,
        "f1": None,
        "support": 0,
        "predicted": 0,
        "weight": 0,
    }
    assert scores["weighted_f1"] == pytest.approx(0.25 * 2 / 5)
    assert classification_scores([1, 1], [1, 0])["classes"]["Normal"]["precision"] == 0


@pytest.mark.parametrize(
    "words, truth, called",
    [
        ("3 true labels but 2 predictions", [0, 1, 2], [0, 1]),
        ("truth: entry 1 is 'COVID'; did you mean 'COVID-19'", ["CP", "COVID"], [0, 1]),
        ("predictions: entry 1 is 3", [0, 1], [0, 3]),
        ("predictions: entry 0 is -1", [0, 1], [-1, 1]),
        ("truth: entry 1 is None", ["CP", None], [0, 1]),
        ("predictions: entry 0 is 0.5", [0, 1], [0.5, 1]),
        ("truth: there is not one slice", [], []),
        ("2 scores a slice for 3 classes", [0, 1], [[0.5, 0.5], [0.1, 0.9]]),
        ("row 1 holds a score that is not a number", [0, 1], [[0.5, 0.5, 0], [0.1, np.nan, 0]]),
    ],
)
def test_wrong_labels_are_named(words, truth, called):
    with pytest.raises(InputError, match=words):
        classification_scores(truth, called)


def test_bootstrap_draws_patients():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 30)
    called = np.where(rng.random(30) < 0.7, truth, (truth + 1) % 3)
    patients = [f"P{k}" for k in rng.integers(0, 9, 30)]
    low, high = patient_bootstrap(truth, called, patients)
    assert low < classification_scores(truth, called)["weighted_f1"] < high
    # copies of every slice within its patient are no new evidence; the same copies as patients of their own are
    copies = patient_bootstrap(np.tile(truth, 20), np.tile(called, 20), patients * 20)
    assert copies == pytest.approx((low, high))
    alone = patient_bootstrap(np.tile(truth, 20), np.tile(called, 20), np.arange(600))
    assert alone[1] - alone[0] < (high - low) / 2
    shuffled = rng.permutation(30)
    assert patient_bootstrap(truth[shuffled], called[shuffled], np.array(patients)[shuffled]) == (low, high)


def test_bootstrap_edges():
    assert patient_bootstrap(TRUTH, TRUTH, range(10)) == share_interval(1.0, 0.0, 10)  # no fault, and ten patients only
    assert patient_bootstrap(TRUTH, CALLED, ["P1"] * 10) == (None, None)
    assert patient_bootstrap(TRUTH, CALLED, range(10), seed=1) == patient_bootstrap(TRUTH, CALLED, range(10), seed=1)
    assert patient_bootstrap(TRUTH, CALLED, range(10), seed=1) != patient_bootstrap(TRUTH, CALLED, range(10), seed=2)
    with pytest.raises(InputError, match="10 slices but 3 patient names"):
        patient_bootstrap(TRUTH, CALLED, range(3))


def test_bootstrap_equals_the_slow_way():
    rng = np.random.default_rng(5)
    truth, called, patients = rng.integers(0, 3, 50), rng.integers(0, 3, 50), rng.integers(0, 6, 50)
    names, draws = np.unique(patients), np.random.default_rng(3).integers(6, size=(40, 6))
    slow = []
    for draw in draws:
        at = np.concatenate([np.flatnonzero(patients == names[p]) for p in draw])
        slow.append(classification_scores(truth[at], called[at])["weighted_f1"])
    f1 = classification_scores(truth, called)["weighted_f1"]
    slow = share_interval(f1, np.sqrt(6 / 5) * np.std(slow, ddof=1), 6)
    assert patient_bootstrap(truth, called, patients, repeats=40, seed=3) == pytest.approx(slow)


def test_the_interval_is_of_the_f1_with_its_weights():
    rng = np.random.default_rng(5)
    truth, patients = rng.integers(0, 3, 60), np.repeat(np.arange(12), 5)
    called = np.where(truth == 2, 2, np.where(rng.random(60) < 0.5, truth, 0))  # only the third class is found
    weights = (0.0, 0.0, 1.0)
    assert classification_scores(truth, called, weights=weights)["weighted_f1"] == 1
    assert patient_bootstrap(truth, called, patients, weights=weights) == share_interval(1.0, 0.0, 12)
    assert patient_bootstrap(truth, called, patients)[1] < 0.95


def test_majority_baseline():
    assert majority_baseline(["CP", "CP", "Normal"], ["Normal"] * 4).tolist() == [1] * 4
    assert majority_baseline([2, 1, 2, 1], [0]).tolist() == [1]


def grey_images(means, n, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % len(means)
    return [rng.normal(means[c], 25, (20 + c, 16)).clip(0, 255).astype(np.uint8) for c in labels], labels


def test_histogram_baseline_separates_greys_only():
    images, labels = grey_images((70, 110, 150), 60)
    called = grey_histogram_baseline(images[:30], labels[:30], images[30:])
    assert (called == labels[30:]).all()
    assert (
        called == grey_histogram_baseline(iter(images[:30]), [CLASS_NAMES[c] for c in labels[:30]], iter(images[30:]))
    ).all()
    mirrored = [image[:, ::-1] for image in images[30:]]
    assert (grey_histogram_baseline(images[:30], labels[:30], mirrored) == called).all()
    images, labels = grey_images((110, 110, 110), 240)
    for number, image in enumerate(images):
        images[number] = image[:20]  # same size for every class
    called = grey_histogram_baseline(images[:120], labels[:120], images[120:], l2=1)
    assert 0.1 < (called == labels[120:]).mean() < 0.6


def test_strong_penalty_gives_the_majority():
    images, labels = grey_images((70, 110, 150), 30)
    labels = np.where(labels == 2, 1, labels)
    assert (grey_histogram_baseline(images, labels, images, l2=1e6) == 1).all()


def test_histograms_are_shares():
    shares = grey_histograms([np.arange(256, dtype=np.uint8).reshape(8, 32)], bins=4)
    assert shares.tolist() == [[0.25] * 4]
    with pytest.raises(InputError, match="not one image"):
        grey_histograms([])
    with pytest.raises(InputError, match="2 training images but 1 label;"):
        grey_histogram_baseline([np.zeros((3, 3), np.uint8)] * 2, [0], [np.zeros((3, 3), np.uint8)])


def test_figures_show_the_numbers():
    scores = classification_scores(TRUTH, CALLED)
    figure = confusion_figure(scores)
    assert np.asarray(figure.data[0].z).sum(1) == pytest.approx(1)
    assert [note.text.split("</b>")[0][3:] for note in figure.layout.annotations] == [
        "4",
        "1",
        "0",
        "0",
        "2",
        "1",
        "0",
        "0",
        "2",
    ]
    assert figure.layout.yaxis.autorange == "reversed"
    bars = histogram_of_predictions(scores).data
    assert [list(bar.y) for bar in bars] == [[5, 3, 2], [4, 3, 3]]
    assert not np.isnan(np.asarray(confusion_figure(classification_scores([1], [1])).data[0].z)).any()


def test_numbers_of_labels():
    assert class_numbers(np.array([2, 0], np.uint8)).dtype == np.int64
