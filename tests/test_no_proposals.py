"""A slice without a proposal is answered: no lesions, and the whole slice in place of its regions.

In every model, batch and training, and whatever is asked of it.
"""

import itertools
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import tiny
from test_models import REGIONAL, SEEDS, close, gradients, model_of

from covid_workbench.data.dataset import collate
from covid_workbench.errors import InputError
from covid_workbench.evaluation.answers import class_frame
from covid_workbench.evaluation.baselines import box_features
from covid_workbench.evaluation.evaluate import evaluate
from covid_workbench.evaluation.inference import predict_slices
from covid_workbench.evaluation.whatif import OFF_MODES, Question, ReadSlice, answer, effects, orders
from covid_workbench.files import load_tensors, save_tensors
from covid_workbench.models import detector
from covid_workbench.models.detector import DetectorSettings, Proposals, best_detections, best_proposals
from covid_workbench.models.rois import RANKINGS, choose_rois, rank_rois
from covid_workbench.runs.region_cache import cached_regions
from covid_workbench.runs.run import Run
from covid_workbench.training.train import train

MARK = 7.0  # the first pixel of a slice whose boxes all leave the picture
SUBSETS = [(0,), (1,), (0, 2), (0, 1, 2)]
PARTS = ("boxes", "scores", "labels", "regions", "deltas")


@pytest.fixture(scope="module")
def small():
    "Three images of 64 x 64, their targets (one without lesions) and labels."
    torch.manual_seed(1)
    masks = torch.zeros(2, 64, 64, dtype=torch.uint8)
    masks[0, 10:34, 8:36], masks[1, 36:54, 38:60] = 1, 1
    boxes = torch.tensor([[8.0, 10, 36, 34], [38, 36, 60, 54]])
    both = {"boxes": boxes, "labels": torch.tensor([1, 2]), "masks": masks}
    none, one = ({name: value[part] for name, value in both.items()} for part in (slice(0), slice(1, 2)))
    return torch.randn(3, 3, 64, 64), [both, none, one], torch.tensor([0, 1, 2])


def own_model(name, **settings):
    "A model of few channels that reads four regions."
    return blind(model_of(name, **dict(fpn_channels=8, roi_batch=4, refine_steps=1) | settings))


def blind(model):
    "The model, which pushes every box of a marked slice out of the picture."

    def note(module, inputs):
        module.marked = inputs[0][:, 0, 0, 0] == MARK

    def push(module, inputs, output):
        objectness, deltas = output
        return objectness, [level + 100.0 * model.detector.backbone.marked[:, None, None, None] for level in deltas]

    model.detector.backbone.register_forward_pre_hook(note)
    model.detector.rpn.head.register_forward_hook(push)
    return model


def marked(images, chosen):
    "The images, the `chosen` of them without proposals."
    images = images.clone()
    images[:, 0, 0, 0] = 0
    images[list(chosen), 0, 0, 0] = MARK
    return images


OTHERS = [
    (name, *other) for name in ("lstm2", "ct-mask-net", "mask-rcnn") for other in (("default", 5), ("released", 1))
]


@pytest.mark.parametrize(
    ("name", "protocol", "levels"), [*((name, "default", 1) for name in (*REGIONAL, "mask-rcnn")), *OTHERS]
)
@torch.no_grad()
def test_a_batch_with_such_slices_is_its_slices(name, protocol, levels, small):
    "Whichever slices of a batch have no proposal: each answer is that of the slice alone."
    model = own_model(name, protocol=protocol, levels=levels, anchor_spread="every").eval()
    alone = [[model(marked(small[0], chosen)[[item]]) for item in range(3)] for chosen in ([], [0, 1, 2])]
    for chosen in SUBSETS:
        together = model(marked(small[0], chosen))
        for item in range(3):
            single = alone[item in chosen][item]
            for key, value in single.detections[0].items():
                close(together.detections[item][key], value)
            if item in chosen and protocol == "default":  # the released code keeps detections of no size
                assert [len(value) for value in together.detections[item].values()] == [0] * 4
            if name == "mask-rcnn":
                continue
            close(together.evidence.logits[item], single.evidence.logits[0])
            for part in PARTS:
                close(getattr(together.evidence.rois, part)[item], getattr(single.evidence.rois, part)[0])
            if item in chosen:
                rois = together.evidence.rois
                assert rois.boxes[item].tolist() == [[0, 0, 64, 64]] * 4 and not rois.scores[item].any()
                assert not rois.labels[item].any() and not rois.regions[item].any() and not rois.deltas[item].any()


@pytest.mark.parametrize("name", REGIONAL)
@torch.no_grad()
def test_no_proposal_is_like_proposals_that_do_not_survive(name, small):
    model, images = own_model(name).eval(), marked(small[0], [0])
    features = model.detector.features(images[:1])
    corner = torch.tensor([[30.0, 40, 30, 40]])  # of no size
    candidates = model.candidates(images[:1], features, [corner])
    reference = model.answer(model.read(candidates, model.rank(candidates)))
    assert model(images[:1]).evidence.logits.equal(reference.logits)


@pytest.mark.parametrize("name", ["lstm2", "affinity", "single-shot", "ct-mask-net", "mask-rcnn"])
def test_training_goes_on(name, small):
    """The losses are finite, those without samples are zero, and a batch's gradient is the mean of its slices': with
    and without lesions, with and without proposals.
    """
    images, targets, labels = small
    images = torch.cat([images[:2], images[:1].flip(-1)])
    model = own_model(name, statistics="image").train()

    def loss(chosen, blinded):
        own = marked(images, blinded)[chosen]
        terms = model.segmentation_losses(own, [targets[item] for item in chosen], [SEEDS[item] for item in chosen])
        if name != "mask-rcnn":
            terms["image"] = model.classification_loss(own, labels[chosen], [SEEDS[item] for item in chosen])[0]
        assert all(value.isfinite() for value in terms.values())
        return terms

    assert [loss([1], [1])[term].item() for term in ("roi_class", "roi_box", "roi_mask")] == [0, 0, 0]  # no lesion
    assert loss([0], [0])["roi_class"].item() > 0  # the true boxes join the proposals
    for blinded in ([1], [0, 2]):
        parts = []
        for chosen in ([0, 1, 2], [0], [1], [2]):
            model.zero_grad()
            sum(loss(chosen, blinded).values()).backward()
            parts.append(gradients(model))
        for key, value in parts[0].items():
            close(value, sum(single.get(key, torch.zeros_like(value)) for single in parts[1:]) / 3)
            assert value.isfinite().all()


def test_no_sample_at_all_is_no_loss(small):
    "Anchors that are neither lesion nor background: nothing to draw, and zero instead of the mean of nothing."
    model = model_of("mask-rcnn", rpn_background_iou=0, rpn_positive=0, roi_background_iou=0, roi_positive=0)
    losses = model.segmentation_losses(small[0], small[1], SEEDS)
    assert all(value.isfinite() for value in losses.values())


@pytest.mark.parametrize(
    ("name", "protocol"), [*((name, "default") for name in REGIONAL), ("lstm2", "released"), ("affinity", "released")]
)
def test_what_may_be_asked_of_such_a_slice(name, protocol, small):
    "Every order, number of regions and way to leave out answers, or says that there is one region alone."
    model = own_model(name, protocol=protocol).eval()
    image = marked(small[0], [0])[0]
    read = ReadSlice(model, image)
    assert read.empty and len(read) == 1 and not read.masks.any()
    with torch.no_grad():
        own = model(image[None], detections=False, seeds=[0]).evidence
    assert answer(read).rois.labels.eq(0).all()
    close(answer(read).logits, own.logits)
    close(answer(read).attention, own.attention)
    for ranking in RANKINGS:
        close(answer(read, Question(ranking)).logits, own.logits)
    assert effects(read) == {} and len(orders(read, random=3)) == len(RANKINGS) + 3
    for mode in OFF_MODES:
        question = Question(off=(0,), off_mode=mode)
        if mode == "zeroed":
            assert answer(read, question).logits.isfinite().all()
            continue
        with pytest.raises(InputError, match="no region survived.*whole slice"):
            answer(read, question)
    if not read.tied:
        assert answer(read, Question(beta=3)).attention.shape[-1] == 3
        assert answer(read, Question(sequence=(0, 0))).logits.isfinite().all()


@pytest.mark.parametrize("beta", [-1, 10**9])
def test_a_question_has_as_many_slots_as_a_model_can_have(beta, small):
    with pytest.raises(InputError, match="β"):
        answer(ReadSlice(own_model("lstm2").eval(), small[0][0]), Question(beta=beta))


def test_one_slot_alone_cannot_be_normalised(small):
    "The released reading normalises over the slots of a slice: with one slot there is nothing to normalise."
    read = ReadSlice(own_model("lstm2", protocol="released").eval(), small[0][0])
    for question in (Question(beta=1), Question(sequence=(0,))):
        with pytest.raises(InputError, match="two slots"):
            answer(read, question)
    assert answer(ReadSlice(own_model("lstm2").eval(), small[0][0]), Question(beta=1)).logits.isfinite().all()


class Marked:
    "A data set of three slices, of which the `chosen` have no proposal."

    image_size, classes = 64, ("Normal", "CP", "COVID-19")

    def __init__(self, images, chosen):
        self.pictures = marked(images, chosen)

    def batch(self, rows, lesions=True):
        return collate([self[row] for row in rows])

    def images(self, batch, device):
        return batch["image"].to(device)

    def __len__(self):
        return 3

    def __getitem__(self, row):
        return dict(
            id=f"slice {row}",
            image=self.pictures[row],
            boxes=torch.zeros(0, 4),
            labels=torch.zeros(0, dtype=torch.long),
            masks=torch.zeros(0, 64, 64, dtype=torch.uint8),
            image_label=0,
            size=(50, 200),
        )


@pytest.mark.parametrize("name", ["lstm2", "single-shot"])
def test_caches_features_and_answers(name, small, tmp_path):
    "Warm start, boxes without a picture, and predictions take such slices alone and among others."
    model = own_model(name).eval()
    usual = Marked(small[0], [])
    for chosen in ([0, 1, 2], [0], [2]):
        data, others = Marked(small[0], chosen), [item for item in range(3) if item not in chosen]
        kept, before = (
            cached_regions(model, slices, tmp_path / f"{chosen}{number}", "key", progress=False).take(range(3))
            for number, slices in enumerate((data, usual))
        )
        close(kept[others].float(), before[others].float(), 1e-3)  # half precision
        assert kept.isfinite().all() and kept[chosen].equal(kept[chosen][:, :1].expand_as(kept[chosen]))
        seen = box_features(model, data, batch=2).view(3, 4, -1)[chosen]
        assert seen.tolist() == [[[0, 0, 0, 1, 1, 0, 0]] * 4] * len(chosen)  # score, box, no lesion class
        for item, prediction in enumerate(predict_slices(model, data, batch=2)):
            assert prediction.no_region == (item in chosen)
            assert ("the whole slice stands in" in repr(prediction)) == (item in chosen)
            if item in chosen:
                assert len(prediction.detections) == 0 and prediction.boxes.tolist() == [[0, 0, 200, 50]] * 4
        notes = class_frame(predict_slices(model, data))["note"]
        assert [bool(note) for note in notes] == [item in chosen for item in range(3)]


def test_values_that_are_no_numbers_are_no_boxes():
    "Boxes and logits of NaN or infinity are left out, and what is left of the slice is as it was."
    torch.manual_seed(0)
    corners = torch.rand(6, 2) * 50
    boxes = torch.cat([corners, corners + 5 + torch.rand(6, 2) * 40], 1)
    for wrong in (torch.nan, torch.inf, -torch.inf):
        for column in range(4):
            broken = torch.cat([boxes, boxes[:1].clone()])
            broken[6, column] = wrong
            given = torch.arange(7.0)[None], torch.zeros(1, 7, 4), broken, [7]
            found = best_proposals(*given, (100, 100), DetectorSettings())[0]
            assert len(found) and found.isfinite().all() and (found[:, 2:] > found[:, :2]).all()
        logits = torch.zeros(7, 3)
        logits[6] = wrong
        three = torch.cat([boxes, boxes[:1]])[:, None].expand(-1, 3, -1)
        every = torch.ones(1, 7, dtype=torch.bool)
        assert best_detections(logits[None], three[None], every, (100, 100), DetectorSettings())[3].any()
        rois = rank_rois(choose_rois(logits, three * wrong, torch.zeros(7, 3, 4), [7], (100, 100), beta=4))
        assert rois.boxes.isfinite().all()


@pytest.fixture
def no_proposals(monkeypatch):
    "No slice has a proposal; with `every=N` each N-th one has its own."

    def switch(every=0):
        own, calls = best_proposals, itertools.count(1)

        def found(*given, **options):
            usual = own(*given, **options)
            kept = torch.tensor([bool(every) and next(calls) % every == 0 for _ in usual.boxes])
            return Proposals(usual.boxes * kept[:, None, None], usual.valid & kept[:, None], usual.settled)

        monkeypatch.setattr(detector, "best_proposals", found)

    return switch


@pytest.mark.parametrize(
    ("every", "settings"),
    [
        (0, dict(model="lstm2", regime="two-phase", epochs=0.3)),
        (2, dict(model="attention", regime="warm-start", detector_epochs=0.3, aggregator_epochs=0.5)),
        (2, dict(model="ct-mask-net", detector_epochs=0.3, epochs=0.3, update="full")),
        (0, dict(model="mask-rcnn", detector_epochs=0.3)),
    ],
)
def test_trains_and_is_scored(no_proposals, tmp_path, every, settings):
    no_proposals(every)
    run = train(tiny(**settings, segmentation_empty=2), tmp_path / "run", progress=False)
    assert all(value.isfinite().all() for value in load_tensors(run.folder / "weights.safetensors")[0].values())
    assert evaluate(run, splits=["test"], progress=False)["test"]["slices"] > 0


def test_weights_that_push_every_box_out_still_answer(finished, command, tmp_path):
    "The whole way: scores, predictions with their note, and a picture that says so."
    run = shutil.copytree(finished.folder, tmp_path / "run")
    tensors, note = load_tensors(run / "weights.safetensors")
    tensors["detector.rpn.head.bbox_pred.bias"].fill_(100)
    save_tensors(run / "weights.safetensors", tensors, note)
    code, _, err = command("evaluate", run)
    assert code == 0, err
    notes = pd.read_csv(run / "predictions.csv")["note"]
    assert notes.eq("no region survived; the whole slice stands in").all()
    table = Run.open(run).table
    pictures = [table.root / name for name in table.frame["image"][:2]]
    code, _, err = command("predict", run, *pictures, "--out", tmp_path / "out", "--batch", "2")
    assert code == 0, err
    for entry in json.loads((tmp_path / "out" / "predictions.json").read_text())["slices"]:
        assert entry["lesions"] == [] and entry["note"] == "no region survived; the whole slice stands in"
        assert len({tuple(region["box"]) for region in entry["regions"]}) == 1


def test_the_explorer_says_so(finished, tmp_path):
    from covid_workbench.widgets.explorer import AttentionExplorer

    run = shutil.copytree(finished.folder, tmp_path / "run")
    tensors, note = load_tensors(run / "weights.safetensors")
    tensors["detector.rpn.head.bbox_pred.bias"].fill_(100)
    save_tensors(run / "weights.safetensors", tensors, note)
    explorer = AttentionExplorer(Run.open(run))
    pane = explorer.panes[0]
    assert [region["name"] for region in pane.canvas.regions] == ["whole slice"]
    assert "the whole slice stands in" in pane.panel.note and set(pane.panel.slots) == {0}
    before = pane.verdict.answer
    for order in RANKINGS:
        pane.panel.order = order
        assert np.allclose(pane.verdict.answer["logits"], before["logits"], atol=1e-4)
    pane.panel.off = [0]
    assert "whole slice" in pane.panel.note and pane.verdict.answer == before
