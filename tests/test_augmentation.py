"""Pictures, masks and boxes move together; draws depend on seeds alone; what is off or not for training stays as it
is.
"""

import math
import shutil
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import contents, results, tiny
from PIL import Image

from covid_workbench.data.augmentation import Augmentation, AugmentedSlices, Change
from covid_workbench.data.dataset import SliceDataset, collate
from covid_workbench.data.description import OBJECT_CLASSES
from covid_workbench.data.slices import SliceTable
from covid_workbench.data.splits import split_by_patient
from covid_workbench.evaluation.evaluate import evaluate
from covid_workbench.runs.datasets import ExperimentData
from covid_workbench.runs.experiment import Experiment
from covid_workbench.runs.load import build_model
from covid_workbench.runs.run import Run
from covid_workbench.runs.seeds import rows_of_steps, seed_for
from covid_workbench.training.stages import stages_of
from covid_workbench.training.train import train
from covid_workbench.training.warm_start import region_batches

SIZE = 96
ALL = dict(flips=True, scale=0.3, rotation=20.0, brightness=0.2, contrast=0.3)
CPU = torch.device("cpu")


def marked(*places, side=10):
    "A dark picture with a bright square at each of `places` (left, top), and the squares as targets."
    pixels, masks = np.full((SIZE, SIZE), 20, np.uint8), torch.zeros(len(places), SIZE, SIZE, dtype=torch.uint8)
    for mask, (left, top) in zip(masks, places):
        pixels[top : top + side, left : left + side] = 220
        mask[top : top + side, left : left + side] = 1
    boxes = torch.tensor([[left, top, left + side, top + side] for left, top in places], dtype=torch.float32)
    return pixels, dict(boxes=boxes, labels=torch.arange(1, len(places) + 1), masks=masks)


def centre(weights) -> tuple[float, float]:
    "Centre of mass (x, y), in pixels from the left upper corner of the picture."
    y, x = np.indices(np.shape(weights)) + 0.5
    weights = np.asarray(weights, float)
    return (x * weights).sum() / weights.sum(), (y * weights).sum() / weights.sum()


def tight(masks: torch.Tensor) -> list[list[float]]:
    found = [np.nonzero(mask.numpy()) for mask in masks]
    return [[x.min(), y.min(), x.max() + 1, y.max() + 1] for y, x in found]


@pytest.mark.parametrize(
    "change",
    [
        Change(mirrored=True),
        Change(zoom=1.5),
        Change(zoom=0.6),
        Change(degrees=30),
        Change(degrees=-75),
        Change(contrast=1.2, shift=-0.1),
        Change(True, 1.3, 20, 0.8, 0.1),
    ],
    ids=str,
)
def test_picture_mask_and_box_move_together(change):
    pixels, targets = marked((60, 26), side=11)
    picture, moved = change.picture(pixels), change.objects(**targets)
    x, y = 65.5, 31.5  # where the centre of the square has to be
    x = SIZE - x if change.mirrored else x
    turn, across, down = math.radians(change.degrees), (x - SIZE / 2) * change.zoom, (y - SIZE / 2) * change.zoom
    expected = (
        SIZE / 2 + across * math.cos(turn) - down * math.sin(turn),
        SIZE / 2 + across * math.sin(turn) + down * math.cos(turn),
    )
    bright = picture > (int(picture.max()) + int(picture[SIZE // 2, SIZE // 2])) / 2
    assert picture.dtype == np.uint8 and picture.shape == pixels.shape
    assert centre(bright) == pytest.approx(expected, abs=0.35) and centre(moved["masks"][0]) == pytest.approx(
        expected, abs=0.35
    )
    assert (bright & moved["masks"][0].bool().numpy()).sum() > 0.85 * (bright | moved["masks"][0].bool().numpy()).sum()
    assert bright.sum() == pytest.approx(121 * change.zoom**2, rel=0.1)
    assert (
        moved["boxes"].tolist() == tight(moved["masks"])
        and moved["boxes"].dtype == torch.float32
        and moved["labels"].tolist() == [1]
    )


def test_two_mirrorings_are_none():
    pixels, targets = marked((5, 60), (70, 8))
    targets["boxes"] += torch.tensor([0.25, 0, 0.5, 0])  # scaled boxes lie between the pixels
    change = Change(mirrored=True)
    assert (change.picture(change.picture(pixels)) == pixels).all() and (change.picture(pixels) != pixels).any()
    back = change.objects(**change.objects(**targets))
    assert all(back[name].equal(targets[name]) for name in targets)
    assert not change.objects(**targets)["masks"].equal(targets["masks"])


def test_objects_that_leave_the_picture_are_dropped_whole():
    _, targets = marked((2, 2), (45, 45), (0, 80))
    moved = Change(zoom=2).objects(**targets)
    assert (
        moved["labels"].tolist() == [2]
        and moved["masks"].shape == (1, SIZE, SIZE)
        and moved["boxes"].tolist() == tight(moved["masks"])
    )
    none = Change(zoom=2).objects(**{name: value[:0] for name, value in targets.items()})
    assert none["boxes"].shape == (0, 4) and none["masks"].shape == (0, SIZE, SIZE) and len(none["labels"]) == 0


def test_what_comes_in_from_outside_is_dark_and_no_lesion():
    pixels = np.full((SIZE, SIZE), 200, np.uint8)
    targets = dict(boxes=torch.tensor([[0.0, 0, SIZE, SIZE]]), labels=torch.ones(1), masks=torch.ones(1, SIZE, SIZE))
    small = Change(zoom=0.5)
    assert (small.picture(pixels)[:20] == 0).all() and (small.picture(pixels)[30:60, 30:60] == 200).all()
    assert small.objects(**targets)["boxes"].tolist() == [[24, 24, 72, 72]]


def test_grey_values_follow_the_formula_and_stay_in_range():
    pixels = np.array([[0, 100], [140, 240]], np.uint8)  # mean 120
    assert Change(contrast=1.5).picture(pixels).tolist() == [[0, 90], [150, 255]]
    assert Change(contrast=0.5).picture(pixels).tolist() == [[60, 110], [130, 180]]
    assert Change(shift=0.2).picture(pixels).tolist() == [[51, 151], [191, 255]]
    assert Change(contrast=0.5, shift=-0.4).picture(pixels).tolist() == [[0, 8], [28, 78]]


def test_draws_depend_on_the_seed_and_keep_their_limits():
    augmentation = Augmentation(**ALL)
    draws = [augmentation.draw(seed) for seed in range(400)]
    assert draws == [augmentation.draw(seed) for seed in range(400)] and len(set(draws)) == 400
    for name, middle, limit in (("zoom", 1, 0.3), ("degrees", 0, 20), ("contrast", 1, 0.3), ("shift", 0, 0.2)):
        found = np.array([getattr(change, name) for change in draws]) - middle
        assert (
            np.abs(found).max() <= limit
            and found.min() < -0.9 * limit
            and found.max() > 0.9 * limit
            and abs(found.mean()) < 0.1 * limit
        )
    assert 150 < sum(change.mirrored for change in draws) < 250
    alone = [Augmentation(rotation=20.0).draw(seed) for seed in range(400)]
    assert [change.degrees for change in alone] == [change.degrees for change in draws] and not any(
        change.mirrored for change in alone
    )


@pytest.fixture(scope="module")
def squares(tmp_path_factory) -> SliceTable:
    "24 patients: pictures that are bright exactly where their masks have lesions, 12 Normal, 6 CP, 6 COVID-19."
    root, rows = tmp_path_factory.mktemp("squares"), []
    for number in range(24):
        random = np.random.default_rng(number)
        pixels, targets = marked(*random.integers(10, 72, (2, 2)).tolist(), side=14)
        Image.fromarray(pixels).save(root / f"{number}.png")
        Image.fromarray(targets["masks"].max(0).values.numpy() * 2).save(root / f"{number}_mask.png")
        rows.append(
            dict(
                id=number,
                patient=number,
                image=f"{number}.png",
                mask=f"{number}_mask.png",
                label=("Normal", "Normal", "CP", "COVID-19")[number % 4],
            )
        )
    return split_by_patient(SliceTable(pd.DataFrame(rows), root, "squares"), 0.15, 0.15)


def parts_of(table: SliceTable, **settings) -> ExperimentData:
    return ExperimentData(
        tiny(
            model="lstm1", regime="two-phase", image_size=SIZE, segmentation_batch=4, classification_batch=4, **settings
        ),
        table,
    )


def batches_of(parts: ExperimentData, steps: range) -> list[tuple[dict, dict]]:
    "(segmentation batch, classification batch) of each step, their pictures as a network reads them."
    [stage] = stages_of(build_model(parts.experiment), parts, CPU)
    images = parts.dataset("train").images
    return [
        tuple(
            {"image": images(batch, CPU)} | {name: batch[name] for name in batch if name != "pixels"} for batch in step
        )
        for step in stage.batches(steps)
    ]


def same(one, other) -> bool:
    if isinstance(one, torch.Tensor):
        return one.equal(other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    return len(one) == len(other) and all(map(same, one, other)) if isinstance(one, (list, tuple)) else one == other


@pytest.mark.parametrize("normalise", ["image", "imagenet"])
def test_samples_agree_with_their_pictures(squares, normalise):
    dataset = SliceDataset(squares, image_size=SIZE, objects=OBJECT_CLASSES["merged"], min_area=20, normalise=normalise)
    changed = AugmentedSlices(dataset, Augmentation(**ALL))
    for seed in range(40):
        sample = changed[seed % len(dataset), seed]
        grey = sample["image"][0]
        bright, lesion = grey > (grey.min() + 3 * grey.max()) / 4, sample["masks"].any(0).bool()
        assert (bright & lesion).sum() > 0.8 * (bright | lesion).sum()
        assert sample["boxes"].tolist() == tight(sample["masks"]) and len(sample["labels"]) == len(sample["boxes"]) > 0
        assert sample["image"].shape == (3, SIZE, SIZE) and sample["image"].dtype == torch.float32


def test_slices_without_a_mask_change_too(squares):
    table = SliceTable(squares.frame.assign(mask=""), squares.root)
    dataset = SliceDataset(table, image_size=SIZE, objects=OBJECT_CLASSES["merged"], min_area=20)
    sample = AugmentedSlices(dataset, Augmentation(rotation=90.0))[0, 1]
    assert sample["masks"] is None and sample["boxes"] is None and not sample["image"].equal(dataset[0]["image"])


def test_off_means_the_slices_as_they_are(squares):
    paper = Experiment.make("paper").training
    assert not Augmentation.of(paper) and not paper.balanced
    parts = parts_of(squares)
    dataset, found = parts.dataset("train"), batches_of(parts, range(4))
    for task, batches in zip(("segmentation", "classification"), zip(*found)):
        rows = rows_of_steps(range(len(dataset)), 4, range(4), 0, task)
        assert all(same(batch, collate([dataset[row] for row in some])) for batch, some in zip(batches, rows))


def test_flips_reach_both_tasks(squares):
    parts = parts_of(squares, flips=True)
    plain = {sample["id"]: sample["image"] for sample in parts.dataset("train")}
    for task in zip(*batches_of(parts, range(6))):
        kinds = Counter()
        for batch in task:
            for name, image in zip(batch["id"], batch["image"]):
                mirrored = torch.allclose(image, plain[name].flip(-1), atol=1e-5)
                assert mirrored or image.equal(plain[name])
                kinds[mirrored] += 1
        assert min(kinds[True], kinds[False]) > 5


def test_batches_depend_on_seed_and_step_alone(squares):
    """What makes a resumed run end in the same weights: the steps after a kill, and one process's share of them, come
    out as in the whole run.
    """
    parts = parts_of(squares, **ALL, balanced=True)
    whole = batches_of(parts, range(6))
    assert same(batches_of(parts, range(3, 6)), whole[3:])
    assert not same(batches_of(parts_of(squares, **ALL, balanced=True, seed=1), range(1)), whole[:1])
    augmentation, dataset = Augmentation(**ALL), parts.dataset("train")
    seeds = [
        seed_for(0, "augment", task, step, number)
        for task in ("segmentation", "classification")
        for step in range(6)
        for number in range(4)
    ]
    assert len({augmentation.draw(seed) for seed in seeds}) == len(seeds)
    rows = rows_of_steps(range(len(dataset)), 4, range(6), 0, "segmentation")
    singles = [AugmentedSlices(dataset, augmentation)[row, seed] for row, seed in zip(rows[2], seeds[8:12])]
    assert same(whole[2][0], collate(singles))


@pytest.mark.parametrize("number", [0, 1])
def test_processes_share_the_batches_of_one(squares, monkeypatch, number):
    parts = parts_of(squares, **ALL, balanced=True)
    whole = batches_of(parts, range(2))
    monkeypatch.setattr("covid_workbench.ranks.rank", lambda: number)
    for module in ("ranks", "training.distributed"):
        monkeypatch.setattr(f"covid_workbench.{module}.world_size", lambda: 2)
    for mine, all_of_them in zip(batches_of(parts, range(2)), whole):
        for batch, task in zip(mine, all_of_them):
            assert same(batch, {name: value[number::2] for name, value in task.items()})


def test_only_training_slices_are_augmented(squares, finished, tmp_path, monkeypatch):
    def refuse(self, key):
        raise AssertionError("augmented")

    parts = parts_of(squares, **ALL)
    [stage] = stages_of(build_model(parts.experiment), parts, CPU)
    scores = stage.validate()
    monkeypatch.setattr(AugmentedSlices, "__getitem__", refuse)
    assert stage.validate() == scores
    evaluate(Run.open(shutil.copytree(finished.folder, tmp_path / "run")), progress=False)
    with pytest.raises(AssertionError, match="augmented"):
        next(stage.batches(range(1)))


def test_losses_stand_a_batch_whose_lesions_all_left():
    experiment = tiny(model="lstm1", regime="two-phase")
    model, (_, targets) = build_model(experiment), marked((2, 2))
    gone = Change(zoom=3).objects(**targets)
    assert len(gone["boxes"]) == 0
    terms = model.segmentation_losses(torch.rand(1, 3, SIZE, SIZE), [gone], [0])
    assert all(torch.isfinite(value) for value in terms.values())
    sum(terms.values()).backward()


CLASSES = ["Normal"] * 12 + ["CP"] * 5 + ["COVID-19"] * 3


def test_balanced_passes_hold_every_class_equally_often():
    rows, class_of = range(100, 120), dict(zip(range(100, 120), CLASSES))
    drawn = sum(rows_of_steps(rows, 4, range(30), 0, "classification", classes=CLASSES), [])
    for start in range(0, 120, 3):  # each round has each class once
        assert {class_of[row] for row in drawn[start : start + 3]} == set(CLASSES)
    for name, number in Counter(CLASSES).items():  # and each class goes through all its rows before one comes again
        own = [row for row in drawn if class_of[row] == name]
        assert all(len(set(own[start : start + number])) == number for start in range(0, len(own) - number + 1, number))
        assert len({tuple(own[start : start + number]) for start in range(0, 3 * number, number)}) > 1, (
            "each pass has an order of its own"
        )
    places = {tuple(class_of[row] for row in drawn[start : start + 3]) for start in range(0, 120, 3)}
    assert len(places) > 3, "with as many slices a step as classes, a place in the batch must not belong to one class"
    assert drawn[40:48] == sum(rows_of_steps(rows, 4, range(10, 12), 0, "classification", classes=CLASSES), [])
    assert drawn != sum(rows_of_steps(rows, 4, range(30), 1, "classification", classes=CLASSES), [])


def test_balanced_drawing_with_replacement_gives_equal_chances():
    drawn = sum(rows_of_steps(range(20), 10, range(300), 0, "classification", replacement=True, classes=CLASSES), [])
    for number in Counter(CLASSES[row] for row in drawn).values():
        assert 900 < number < 1100
    plain = Counter(
        CLASSES[row] for row in sum(rows_of_steps(range(20), 10, range(300), 0, "classification", replacement=True), [])
    )
    assert 1650 < plain["Normal"] < 1950


def test_balanced_reaches_classification_steps_and_cached_regions(squares):
    for balanced in (False, True):
        parts = parts_of(squares, balanced=balanced)
        table = parts.dataset("train", labelled=True).table.frame
        steps = range(3 * len(table))
        cached = Counter(table["label"].iloc[row] for rows in region_batches(parts, steps) for row in rows)
        steps = range(6)
        seen = Counter(int(label) for _, batch in batches_of(parts, steps) for label in batch["image_label"])
        assert (len(set(cached.values())) == 1) == balanced and (set(seen.values()) == {8}) == balanced


def test_a_warm_start_says_that_its_aggregator_has_no_augmentation(tmp_path, finished):
    run = train(
        tiny(model="attention", flips=True, rotation=5.0, aggregator_epochs=1), tmp_path / "run", progress=False
    )
    [line] = [line for line in (run.folder / "log.txt").read_text().splitlines() if "augmentation" in line]
    assert "flips=True, rotation=5.0" in line and "regions were read once" in line
    assert run.detector.experiment.training.rotation == 5 and run.detector.folder.name != finished.detector.folder.name
    assert "augmentation" not in (finished.folder / "log.txt").read_text()


def test_balancing_needs_no_other_detector(tmp_path, finished):
    shared = finished.folder.parent / "shared"
    before = results(shared)
    run = train(finished.experiment.replace(balanced=True), tmp_path / "balanced", shared=shared, progress=False)
    assert results(shared) == before and run.detector.folder.name == finished.detector.folder.name
    assert contents(run.folder)["weights.safetensors"] != contents(finished.folder)["weights.safetensors"]
