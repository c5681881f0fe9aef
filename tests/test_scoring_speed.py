"Scores without pictures: run lengths, masks within boxes, COCO's figures, and several processes at one score."

import io
import json
import multiprocessing
import socket
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools import mask as rle_tools
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scipy import ndimage
from torch import nn

from covid_workbench.average_precision import matched
from covid_workbench.data.dataset import SliceDataset
from covid_workbench.data.description import OBJECT_CLASSES
from covid_workbench.data.phantom import PhantomSettings, write_phantom
from covid_workbench.data.slices import SliceTable
from covid_workbench.data.targets import lesion_targets
from covid_workbench.errors import InputError
from covid_workbench.evaluation import detection
from covid_workbench.evaluation.detection import CocoScorer, Detections, joined_truth, runs_in_boxes
from covid_workbench.evaluation.inference import NotFiniteError, predict_slices, score_slices
from covid_workbench.models.oneshot import OneShotOutput
from covid_workbench.models.protocol import Protocol
from covid_workbench.models.sampling import paste_masks
from covid_workbench.ranks import process_group, rank
from covid_workbench.run_lengths import MaskRuns
from covid_workbench.side_by_side import back_in_slices


@pytest.mark.parametrize("seed", range(40))
def test_run_lengths_are_the_masks_and_those_of_pycocotools(seed):
    rng = np.random.default_rng(seed)
    masks = rng.random((rng.integers(1, 6), *rng.integers(1, 40, 2))) < rng.choice([0, 0.05, 0.5, 0.95, 1])
    runs, theirs = MaskRuns.of(masks), rle_tools.encode(np.asfortranarray(np.moveaxis(masks, 0, -1), np.uint8))
    assert [own["counts"] for own in runs.coco()] == [own["counts"].decode() for own in theirs]
    assert (runs.masks == masks).all() and runs.areas.tolist() == masks.sum((1, 2)).tolist()
    wide = [ndimage.binary_dilation(mask, np.ones((3, 3))) for mask in masks]
    assert (runs.dilated().masks == wide).all()
    some = rng.integers(0, len(masks), 4)
    assert (runs.take(some).masks == masks[some]).all()
    assert (runs.joined([some.tolist(), [0]]).masks == [masks[some].any(0), masks[0]]).all()
    assert runs.first_pixels().tolist() == [
        int(np.flatnonzero(mask.ravel())[0]) if mask.any() else mask.size for mask in masks
    ]
    assert len(MaskRuns.of(masks[:0])) == 0 and MaskRuns.of(masks[:0]).coco() == []


@pytest.mark.parametrize("seed", range(40))
def test_what_masks_share_is_what_pycocotools_and_their_pixels_say(seed):
    rng = np.random.default_rng(seed)
    size = rng.integers(1, 30, 2)
    one, other = (
        rng.random((rng.integers(1, 6), *size)) < rng.choice([0, 0.02, 0.1, 0.5, 0.95, 1], size=1) for _ in range(2)
    )
    if seed % 2:  # blobs, which seldom meet
        one, other = (
            np.array([ndimage.binary_erosion(mask, np.ones((3, 3))) for mask in masks]) for masks in (one, other)
        )
    mine, theirs = MaskRuns.of(one), MaskRuns.of(other)
    shared = (one[:, None] & other).sum((2, 3))
    assert mine.shared(theirs).tolist() == shared.tolist()
    assert mine.shared(mine).tolist() == (one[:, None] & one).sum((2, 3)).tolist()
    judged = np.asarray(rle_tools.iou(mine.coco(), theirs.coco(), [0] * len(other)))
    assert (mine.iou(theirs) == judged).all()
    wide = np.array([ndimage.binary_dilation(mask, np.ones((3, 3))) for mask in one])
    assert mine.touching(theirs).tolist() == (wide[:, None] & other).any((2, 3)).tolist()
    assert mine.touching(mine).tolist() == (wide[:, None] & one).any((2, 3)).tolist()
    assert mine.small().coco() == mine.coco() and (mine.small().masks == one).all()
    boxes = [
        [*np.argwhere(mask).min(0)[::-1], *np.argwhere(mask).max(0)[::-1] + 1] if mask.any() else [0] * 4
        for mask in one
    ]
    assert (mine.boxes[:, [0, 2]] == np.array(boxes)[:, [0, 2]]).all()
    assert (mine.boxes[:, 1] <= np.array(boxes)[:, 1]).all() and (mine.boxes[:, 3] >= np.array(boxes)[:, 3]).all()


def test_a_pixel_touches_its_eight_neighbours_alone():
    pixels = np.eye(35, dtype=bool).reshape(35, 5, 7)
    touched = MaskRuns.of(pixels[17:18]).touching(MaskRuns.of(pixels))
    assert np.flatnonzero(touched).tolist() == [9, 10, 11, 16, 17, 18, 23, 24, 25]


@pytest.mark.parametrize("size", [(50, 200), (64, 64)])
def test_masks_go_into_their_boxes_as_pasted_on_the_whole_slice(size):
    "Boxes of every size, beyond the edges, empty ones: the pixels of `paste_masks`, but where rounding decides."
    rng = np.random.default_rng(0)
    corners = rng.uniform(-30, 220, (80, 2, 2))
    corners[::7, 1] = corners[::7, 0]
    boxes = torch.from_numpy(np.concatenate([corners.min(1), corners.max(1)], 1)).float()
    masks = torch.from_numpy(rng.random((80, 28, 28))).float()
    whole = paste_masks(masks, boxes, *size).numpy()
    sure = abs(whole - 0.5) > 1e-5
    found = runs_in_boxes(masks.numpy(), boxes.numpy(), size).masks
    assert (found == (whole > 0.5))[sure].all() and found.any() and sure.mean() > 0.99


def squares(rng, count, side=60):
    "`count` masks of squares on a grid, so that many touch, overlap and are equal."
    masks = np.zeros((count, side, side), bool)
    for mask in masks:
        x, y, w, h = *rng.integers(0, 9, 2) * 6, *rng.integers(1, 4, 2) * 6
        mask[y : y + h, x : x + w] = True
    return masks


def a_set(seed, slices=12, most=15, classes=2):
    "Slices of truth masks and noisy detections, with equal scores, empty slices and more detections than count."
    rng = np.random.default_rng(seed)
    for number in range(slices):
        truth = np.zeros((60, 60), np.uint8)
        for value, mask in zip(rng.integers(2, 4, 6), squares(rng, rng.integers(0, 6))):
            truth[mask] = value
        masks = squares(rng, 130 if number == 3 else rng.integers(0, most))
        known = lesion_targets(truth, OBJECT_CLASSES["lesions"], 4)
        masks = np.concatenate([masks, known.masks[rng.random(len(known)) < 0.7]])
        labels = np.minimum(rng.integers(1, 3, len(masks)), classes)
        yield (
            f"S{number}",
            Detections(np.zeros((len(masks), 4)), labels, rng.integers(1, 9, len(masks)) / 9, masks),
            truth,
        )


def judged(truth, results):
    "pycocotools' precision (10, 101, K) and recall (10, K)."
    index, found = COCO(), COCO()
    rows = [row | {"id": number, "area": 0, "iscrowd": 0} for number, row in enumerate(results, start=1)]
    with redirect_stdout(io.StringIO()):
        for own, annotations in ((index, truth["annotations"]), (found, rows)):
            own.dataset = truth | {"annotations": annotations}
            own.createIndex()
        judge = COCOeval(index, found, "segm")
        judge.params.areaRng, judge.params.areaRngLbl, judge.params.maxDets = [[0, 1e10]], ["all"], [100]
        judge.evaluate()
        judge.accumulate()
    return judge.eval["precision"][:, :, :, 0, 0], judge.eval["recall"][:, :, 0, 0]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("objects", ["lesions", "merged"])
def test_the_figures_are_those_of_pycocotools(objects, seed, monkeypatch):
    monkeypatch.setattr("covid_workbench.average_precision.CHUNK", 5)
    scorer = CocoScorer(OBJECT_CLASSES[objects], 4)
    for name, found, truth in a_set(seed, classes=len(OBJECT_CLASSES[objects])):
        scorer.add(name, found, truth)
    figures = scorer.score()
    for merged in (False, True):
        precision, recall = judged(*scorer.coco_json(merged))
        ceiling = judged(*scorer.coco_json(merged, perfect=True))[0]
        for k, name in enumerate(["merged"] if merged else OBJECT_CLASSES[objects].names):
            ap, own = precision[:, :, k].mean(1), figures[name]
            for figure, value in zip(
                ("ap50", "ap75", "map50_95", "ar100"), (ap[0], ap[5], ap.mean(), recall[:, k].mean())
            ):
                assert own[figure] == pytest.approx(value, abs=1e-9) and 0 < value < 1
            assert own["ceiling_ap50"] == pytest.approx(ceiling[0, :, k].mean(), abs=1e-9)


def test_of_two_targets_alike_a_prediction_takes_the_last():
    "As pycocotools does: the first is left for the next prediction, which has no other."
    pairs = np.array([(0, 0, 0, 0.6), (0, 0, 1, 0.6), (0, 1, 0, 0.6)]).T
    assert matched(2, *pairs[:3].astype(int), pairs[3]).sum(1).tolist() == [3, 3]


@pytest.mark.parametrize("seed", range(6))
def test_touching_targets_join_as_in_the_mask(seed):
    "The runs of joined targets are the components of their union, in the same order."
    for _, _, mask in a_set(seed):
        truth = lesion_targets(mask, OBJECT_CLASSES["lesions"], 4)
        joined = joined_truth(truth, (1, 2))
        perfect = Detections(truth.boxes, truth.labels, np.ones(len(truth)), truth.masks)
        [own] = back_in_slices((row := detection._joined_truth(detection._Row.of([perfect]))).runs, row.counts)
        assert (own.masks == joined.masks).all()


# -- a model that says what it is told


class Told(nn.Module):
    "Finds two boxes in every slice, in each the same mask, and notes what it is asked for."

    def __init__(self):
        super().__init__()
        self.weight, self.asked, self.detector = nn.Parameter(torch.zeros(1)), [], None

    def forward(self, images, *, detections=True, evidence=True, masks=True, seeds=None):
        wanted = [masks] * len(images) if isinstance(masks, bool) else masks
        self.asked.append(wanted)
        found = [
            {
                "boxes": torch.tensor([[10.0, 12, 30, 40], [40, 20, 60, 44]]),
                "labels": torch.tensor([1, 1]),
                "scores": torch.tensor([0.9, 0.6]) * (0.5 + 0.5 * torch.sigmoid(image.mean() + image[0, 0, 0])),
                "masks": torch.ones(2 * own, 28, 28),
            }
            for image, own in zip(images, wanted)
        ]
        return OneShotOutput(found if detections else None, None)


@pytest.fixture(scope="module")
def slices(tmp_path_factory) -> SliceDataset:
    "Seven slices of a phantom, the second without a mask."
    root = tmp_path_factory.mktemp("told") / "phantom"
    write_phantom(root, patients=4, settings=PhantomSettings(size=72, slices=2))
    table = SliceTable.from_csv(root / "slices.csv")
    table = table.where(table.frame.index < 7)
    table.frame.loc[table.frame.index[1], "mask"] = ""
    return SliceDataset(table, image_size=64, objects=OBJECT_CLASSES["merged"], min_area=4)


def test_masks_are_asked_for_where_a_truth_is_there(slices, monkeypatch):
    "And no mask is drawn for a score, each slice's targets are found once, by whatever rules."
    model, drawn, found = Told(), [], []
    with_mask = [slices.slice(row).mask is not None for row in range(7)]
    assert sorted(with_mask) == [False] + [True] * 6
    monkeypatch.setattr("covid_workbench.run_lengths._drawn", lambda runs: drawn.append(runs))
    for module in ("data.dataset", "evaluation.detection"):
        name = f"covid_workbench.{module}.lesion_targets"
        monkeypatch.setattr(name, lambda *options: found.append(1) or lesion_targets(*options))
    scored = score_slices(model, slices, batch=4, evidence=False, protocol=Protocol(ap_rule="reference"))
    metrics, rows = scored.metrics, scored.predictions
    assert model.asked == [with_mask[:4], with_mask[4:]] and not drawn and len(found) == 6
    assert metrics["detection"]["headline"]["n_predictions"] == 12 and set(rows["lesions"]) <= {1, 2}
    without = next(predict_slices(model, slices, masks=False, evidence=False)).detections
    assert len(without) == 2 and without.take([1]).scores[0] == without.scores[1]
    with pytest.raises(InputError, match="not asked for"):
        without.masks  # noqa: B018


def test_what_a_batch_says_is_fetched_at_once(slices):
    "One transfer of the lesions of a batch, and the answers of slices that are asked for alone."
    model, fetched = Told(), []

    class Found(list):
        tensors = [torch.zeros(2)]

        def of(self, moved):
            fetched.append(len(self))
            assert len(moved) == 1
            return self

    model.register_forward_hook(lambda _, __, out: OneShotOutput(Found(out.detections), None))
    answers = list(predict_slices(model, slices, batch=3, evidence=False))
    assert fetched == [3, 3, 1]
    [third, first] = predict_slices(model, slices, rows=[2, 0], evidence=False)
    assert (third.id, first.id) == (answers[2].id, answers[0].id) != (answers[0].id, answers[2].id)
    ahead = list(predict_slices(Told(), slices, batch=3, evidence=False, workers=2))
    for one, same in zip(answers, ahead, strict=True):
        assert one.id == same.id and one.detections.codes == same.detections.codes
        assert one.detections.scores.tolist() == same.detections.scores.tolist()


# -- several processes


def in_processes(count: int, work, folder: Path) -> list[dict]:
    "`work()` in `count` processes that torchrun would have started; what each returns, as JSON."
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")

    def one(number: int) -> None:
        import os

        os.environ |= {"WORLD_SIZE": str(count), "RANK": str(number), "LOCAL_RANK": str(number)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        torch.set_num_threads(1)
        with process_group():
            found = {"rank": rank()} | work()
            (folder / f"{number}.json").write_text(json.dumps(found))

    processes = [context.Process(target=one, args=(number,)) for number in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        process.kill()
    return [json.loads((folder / f"{number}.json").read_text()) for number in range(count)]


def test_two_processes_score_as_one(slices, tmp_path):
    "Each has half of the slices, both have the figures and the rows of all."
    options = dict(batch=2, evidence=False, protocol=Protocol(ap_rule="reference"))

    def work() -> dict:
        model = Told()
        found = score_slices(model, slices, **options)
        metrics, rows = found.metrics, found.predictions
        return {"metrics": metrics, "rows": rows.to_csv(), "seen": sum(map(len, model.asked))}

    alone = work()
    assert alone["seen"] == 7 and alone["metrics"]["detection"]["reference"]["ceiling_ap50"] == 1
    both = in_processes(2, work, tmp_path)
    assert [own["rank"] for own in both] == [0, 1] and [own["seen"] for own in both] == [4, 3]
    for own in both:
        assert own["metrics"] == json.loads(json.dumps(alone["metrics"])) and own["rows"] == alone["rows"]


def test_where_one_process_fails_all_say_why(slices, tmp_path):
    class Broken(Told):
        def forward(self, images, **options):
            out = super().forward(images, **options)
            if rank() == 1:
                out.detections[0]["boxes"][0, 0] = torch.nan
            return out

    def work() -> dict:
        try:
            score_slices(Broken(), slices, evidence=False)
        except NotFiniteError as error:
            return {"error": str(error)}
        return {"error": None}

    first, second = in_processes(2, work, tmp_path)
    assert first["error"] == second["error"] and slices.slice(1).id in first["error"]
