"""The detector does for a batch what torchvision does image by image, in few operators and with one wait."""

import pytest
import torch
from torch.nn import functional as F
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import maskrcnn_inference, maskrcnn_loss
from torchvision.ops import MultiScaleRoIAlign, nms

from covid_workbench.models import sampling
from covid_workbench.models.detector import (
    DetectorSettings,
    FoundLesions,
    Proposals,
    balanced_sample,
    build_detector,
    refined_boxes,
)
from covid_workbench.models.rois import choose_rois
from covid_workbench.models.sampling import PyramidRoIAlign, as_rois, nms_by_class, nms_padded, nms_rounds
from covid_workbench.speed.counting import count
from covid_workbench.speed.pretend import PretendDevice, pretend

SIZE = (64, 64)


def close(ours, theirs, tolerance=1e-5):
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


def detector_of(levels=1, **settings):
    torch.manual_seed(0)
    made = build_detector(
        DetectorSettings(
            cut="layer4" if levels > 1 else "layer2",
            levels=levels,
            fpn_channels=8,
            anchor_sizes=(8, 16, 32),
            anchor_ratios=(0.5, 1, 2),
            **dict(proposals_before_nms=60, proposals=30, detections=12, rpn_samples=32, roi_samples=24) | settings,
        ),
        classes=2,
    )
    with torch.no_grad():  # random weights call everything background
        made.roi_heads.box_predictor.cls_score.bias += torch.tensor([0, 0.3, 0.1])
        made.rpn.head.cls_logits.weight *= 20
    return made.eval()


@pytest.fixture
def images():
    return torch.randn(3, 3, *SIZE, generator=torch.Generator().manual_seed(1))


def lesions(number, seed):
    draw = torch.Generator().manual_seed(seed)
    corners = (torch.rand(number, 2, generator=draw) * 30).round()
    boxes = torch.cat([corners, corners + 8 + (torch.rand(number, 2, generator=draw) * 20).round()], 1)
    masks = torch.zeros(number, *SIZE, dtype=torch.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes.int().tolist()):
        mask[top : bottom - 3, left:right] = 1
    return {"boxes": boxes, "labels": torch.randint(1, 3, (number,), generator=draw), "masks": masks}


def crowd(number, draw, whole):
    "Boxes around a few centres; on a grid of whole pixels many overlaps are equal."
    centres = torch.rand(6, 4, generator=draw) * 40
    boxes = centres[torch.randint(6, (number,), generator=draw)] + torch.randn(number, 4, generator=draw) * 6
    boxes = torch.cat([torch.minimum(boxes[:, :2], boxes[:, 2:]), torch.maximum(boxes[:, :2], boxes[:, 2:])], 1)
    return (boxes / 4).round() * 4 if whole else boxes


@pytest.mark.parametrize("whole", [True, False])
def test_nms_of_many_groups_is_torchvisions(whole):
    draw = torch.Generator().manual_seed(2)
    for number in (0, 1, 20, 80):
        for threshold in (0.0, 0.25, 0.3, 0.5, 0.7):
            boxes = torch.stack([crowd(number, draw, whole) for _ in range(4)])
            valid = torch.rand(4, number, generator=draw) < torch.tensor([1, 0.9, 0.3, 0.0])[:, None]
            falling = -torch.arange(number).float()
            for group, own, keep in zip(boxes, valid, nms_padded(boxes, valid, threshold)):
                index = torch.nonzero(own).flatten()
                expected = index[nms(group[index], falling[index], threshold)]
                assert torch.nonzero(keep).flatten().equal(expected.sort().values), (number, threshold)


def test_a_flag_says_whether_suppression_is_final(monkeypatch):
    steps = torch.arange(60.0)[:, None] * 4
    chain = torch.cat([steps, steps * 0, steps + 10, steps * 0 + 10], 1)  # each box overlaps the next one only
    boxes, valid = torch.stack([chain, chain * 9]), torch.ones(2, 60, dtype=torch.bool)
    boxes[1, :, 2:] -= 80
    assert nms_rounds(boxes, valid, 0.3)[1].tolist() == [False, True]
    assert nms_padded(boxes, valid, 0.3).tolist() == [[True, False] * 30, [True] * 60]
    _, settled = nms_by_class(
        boxes[:, :, None], -torch.arange(60.0).expand(2, 60)[..., None], valid[..., None], 0.3, False
    )
    assert settled.tolist() == [False, True]
    usual = nms_rounds(boxes, valid, 0.3, rounds=80)
    for pairs in (1000, 10):  # group by group, then box by box
        monkeypatch.setattr(sampling, "CPU_PAIRS", pairs)
        keep, settled = nms_rounds(boxes, valid, 0.3, rounds=80)
        assert keep.equal(usual[0]) and settled.all()


@pytest.mark.parametrize("levels", [1, 5])
@torch.no_grad()
def test_proposals_are_those_of_torchvisions_filter(levels, images):
    detector = detector_of(levels)
    rpn = detector.rpn
    features = detector.features(images)
    ours, anchors, objectness, deltas = detector._rpn_outputs(images, features)
    maps = list(features.values())
    counts = [level[0].numel() for level in rpn.head(maps)[0]]
    anchors = rpn.anchor_generator(ImageList(images, [SIZE] * 3), maps)
    decoded = rpn.box_coder.decode(deltas.flatten(0, 1), anchors).view(3, -1, 4).double()
    rpn.eval()
    theirs, _ = rpn.filter_proposals(decoded, objectness.double().flatten(), [SIZE] * 3, counts)
    assert all(len(own) for own in theirs) and ours.counts == [len(own) for own in theirs]
    for own, other in zip(ours, theirs):
        close(own, other.float())
    assert ours.boxes.shape == (3, 30, 4) and not ours.boxes[~ours.valid].any()
    for own, image in zip(ours, images):
        close(own, detector.propose(image[None], detector.features(image[None]))[0], 1e-3)


@torch.no_grad()
def test_detections_are_those_of_torchvisions_heads(images):
    "Boxes, scores, labels, and the mask of the class found, of the masks of all; slices without a proposal, too."
    detector = detector_of()
    heads, features = detector.roi_heads, detector.features(images)
    few = list(detector.propose(images, features))
    few[1], few[2] = few[1][:0], few[2][:7]
    proposals = Proposals.of(few)
    found = detector.detect(images, features, proposals)
    pooled = heads.box_head(heads.box_roi_pool(features, few, [SIZE] * 3))
    theirs = heads.postprocess_detections(*heads.box_predictor(pooled), few, [SIZE] * 3)
    logits = heads.mask_predictor(heads.mask_head(heads.mask_roi_pool(features, theirs[0], [SIZE] * 3)))
    masks = maskrcnn_inference(logits, theirs[2])
    assert found.counts == [len(own) for own in theirs[0]] and found.counts[0] == 12 and found.counts[1] == 0
    for own, boxes, scores, labels, mask in zip(found, *theirs, masks):
        close(own["boxes"], boxes), close(own["scores"], scores), close(own["masks"], mask[:, 0])
        assert own["labels"].equal(labels)
    some = detector.detect(images, features, proposals, masks=[False, True, True])
    assert [len(own["masks"]) for own in some] == [0, 0, len(some[2]["boxes"])] and len(some[2]["boxes"])
    close(some[-1]["masks"], found[2]["masks"])
    assert [own["masks"].shape for own in detector.detect(images, features, proposals, masks=False)] == [
        (0, 28, 28)
    ] * 3


def test_found_lesions_leave_the_device_in_one_copy():
    found = FoundLesions(
        boxes=torch.rand(2, 3, 4),
        labels=torch.tensor([[1, 2, 0], [2, 0, 0]]),
        scores=torch.rand(2, 3),
        valid=torch.tensor([[True, True, False], [True, False, False]]),
        masks=torch.rand(1, 28, 28),
        counts=[2, 1],
        masked=[False, True],
    )
    names = ("boxes", "labels", "scores", "valid", "masks")
    there, here = (
        FoundLesions(**{name: pretend(getattr(found, name)) for name in names}, counts=[2, 1], masked=[0, 1]),
        [],
    )
    assert count(lambda: here.append(there.cpu())).waits == 1
    for name in names:
        assert getattr(here[0], name).equal(getattr(found, name)) and here[0][1]["masks"].shape == (1, 28, 28)
    with pytest.raises(IndexError):
        found[2]


def test_regions_of_a_batch_are_those_of_its_slices():
    "Padded, one after the other, or alone: the same regions; without a survivor the whole slice."
    draw = torch.Generator().manual_seed(4)
    counts, beta = [9, 0, 4, 25], 6
    boxes = torch.stack([crowd(38, draw, False) for _ in range(3)], 1)  # (N, K+1, 4)
    logits, deltas = torch.randn(38, 3, generator=draw), torch.randn(38, 3, 4, generator=draw)
    flat = choose_rois(logits, boxes, deltas, counts, (60, 60), beta=beta)
    rows = [part.split(counts) for part in (logits, boxes, deltas)]
    wide = [
        F.pad(torch.nn.utils.rnn.pad_sequence(part, batch_first=True), (0,) * 2 * (part[0].ndim - 1) + (0, 3))
        for part in rows
    ]
    valid = torch.arange(28) < torch.tensor(counts)[:, None]
    padded = choose_rois(*wide, valid, (60, 60), beta=beta, exact=False)
    assert (
        padded.settled.all() and flat.labels[1].tolist() == [0] * beta and flat.boxes[1, 0].tolist() == [0, 0, 60, 60]
    )
    for number, image in enumerate(zip(*rows)):
        alone = choose_rois(*image, [counts[number]], (60, 60), beta=beta)
        for name in ("boxes", "scores", "labels", "regions", "deltas"):
            assert getattr(flat, name)[number].equal(getattr(alone, name)[0])
            assert getattr(padded, name)[number].equal(getattr(alone, name)[0])


def losses_image_by_image(detector, images, targets, seeds):
    "The five losses with torchvision's matching, one image after the other."
    rpn, heads, settings, terms = detector.rpn, detector.roi_heads, detector.settings, []
    for image, target, seed in zip(images, targets, seeds):
        draw, one = torch.Generator().manual_seed(seed), image[None]
        features = detector.features(one)
        proposals, anchors, objectness, deltas = detector._rpn_outputs(one, features, training=True)
        labels, matched = (part[0] for part in rpn.assign_targets_to_anchors([anchors], [target]))
        goals = rpn.box_coder.encode([matched], [anchors])[0]
        labels = labels.where((labels < 1) | goals.isfinite().all(1), -1)
        chosen = balanced_sample(labels, settings.rpn_samples, settings.rpn_positive, draw)
        positive = chosen[labels[chosen] >= 1]
        rpn_class = F.binary_cross_entropy_with_logits(objectness[0][chosen], labels[chosen])
        rpn_box = F.l1_loss(deltas[0][positive], goals[positive], reduction="sum") / len(chosen)
        boxes = heads.add_gt_proposals(list(proposals), [target["boxes"]])
        matched, labels = (
            part[0] for part in heads.assign_targets_to_proposals(boxes, [target["boxes"]], [target["labels"]])
        )
        chosen = balanced_sample(labels, settings.roi_samples, settings.roi_positive, draw)
        boxes, matched, labels = boxes[0][chosen], matched[chosen], labels[chosen]
        logits, codes = heads.box_predictor(heads.box_head(heads.box_roi_pool(features, [boxes], [SIZE])))
        lesion = torch.nonzero(labels > 0).flatten()
        own = codes.unflatten(1, (-1, 4))[lesion, labels[lesion]]
        goals = heads.box_coder.encode([target["boxes"][matched[lesion]]], [boxes[lesion]])[0]
        roi_box = F.smooth_l1_loss(own, goals, reduction="sum") / len(labels)
        pooled = heads.mask_roi_pool(features, [boxes[lesion]], [SIZE])
        masks = heads.mask_predictor(heads.mask_head(pooled))
        mask = maskrcnn_loss(masks, [boxes[lesion]], [target["masks"]], [target["labels"]], [matched[lesion]])
        terms.append(torch.stack([rpn_class, rpn_box, F.cross_entropy(logits, labels), roi_box, mask]))
    return torch.stack(terms).mean(0)


@pytest.mark.parametrize("levels", [1, 5])
def test_losses_of_a_batch_are_those_of_its_images(levels, images):
    "Values and gradients, with images of no, three and one lesion, and the same draws."
    detector = detector_of(levels, rpn_foreground_iou=0.5, roi_foreground_iou=0.5)
    targets, seeds = [lesions(0, 3), lesions(3, 4), lesions(1, 5)], [7, 8, 9]
    gradients = []
    for way in (
        lambda *given: torch.stack([*detector.losses(*given).values()]),
        lambda *given: losses_image_by_image(detector, *given),
    ):
        detector.zero_grad()
        terms = way(images, targets, seeds)
        terms.sum().backward()
        gradients.append([terms.detach(), *(own.grad.clone() for own in detector.parameters() if own.grad is not None)])
    assert (gradients[0][0] > 0).all() and len(gradients[0]) == len(gradients[1]) > 20
    for ours, theirs in zip(*gradients):
        close(ours, theirs, 1e-3)


def test_losses_are_final_where_rounds_do_not_suffice(images, monkeypatch):
    detector, targets = detector_of(), [lesions(2, seed) for seed in range(3)]
    usual = detector.losses(images, targets, [1, 2, 3])
    own = sampling.nms_rounds

    def one_round(*given):
        return own(*given, rounds=1)[0], torch.zeros(len(given[0]), dtype=torch.bool)

    for module in ("sampling", "detector"):
        monkeypatch.setattr(f"covid_workbench.models.{module}.nms_rounds", one_round)
    features = detector.features(images)
    assert not detector.detect(images, features, detector.propose(images, features, exact=False), exact=False).settled
    assert detector.detect(images, features, detector.propose(images, features)).settled
    for name, value in detector.losses(images, targets, [1, 2, 3]).items():
        close(value, usual[name])


def test_pyramids_are_read_as_torchvision_reads_them():
    draw = torch.Generator().manual_seed(5)
    maps = {str(level): torch.randn(2, 3, 32 >> level, 32 >> level, generator=draw) for level in range(4)}
    corners = torch.rand(2, 60, 2, generator=draw) * 150
    boxes = torch.cat([corners, corners + torch.rand(2, 60, 2, generator=draw) ** 4 * 900], -1)
    theirs = MultiScaleRoIAlign(list(maps), 7, 2)(maps, list(boxes), [(256, 256)] * 2)
    ours = PyramidRoIAlign(list(maps), 7, 2)
    for form in (boxes, list(boxes), as_rois(boxes)):
        close(ours(maps, form, [(256, 256)] * 2), theirs)
    done = []
    assert count(lambda: done.append(ours(pretend(maps), pretend(boxes), [(256, 256)] * 2))).waits == 0
    close(done[0].cpu(), theirs)


def all_of_it(detector, images, masks):
    "Proposals, box head, detections and regions without waiting, from features that are given."
    features = detector.features(images)

    def work():
        proposals = detector.propose(images, features, exact=False)
        outputs = detector.box_outputs(features, proposals, SIZE)
        boxes = refined_boxes(detector.roi_heads, outputs[1], proposals)
        rois = choose_rois(outputs[0], boxes, outputs[1].view_as(boxes), proposals.valid, SIZE, beta=6, exact=False)
        return detector.detect(
            images, features, proposals, outputs=outputs, masks=masks, exact=False, others=[rois.settled]
        )

    return work


@torch.no_grad()
def test_sixteen_slices_take_the_operators_of_one_and_one_wait():
    detector = pretend(detector_of())
    sixteen = pretend(torch.randn(16, 3, *SIZE, generator=torch.Generator().manual_seed(6)))
    for masks in (True, False):
        ways = [all_of_it(detector, some, masks) for some in (sixteen[:1], sixteen)]
        with PretendDevice():
            ways[0]()  # the first time, anchors move to the device
        one, all_of_them = [count(way) for way in ways]
        assert all_of_them.operators <= 1.2 * one.operators, (one, all_of_them)
        assert one.waits == all_of_them.waits == 1, all_of_them


def test_a_training_step_waits_once_before_its_gradients(images):
    detector, targets = detector_of(), [lesions(number, number) for number in (0, 2, 3)]
    there, given = pretend(detector), (pretend(images), pretend(targets), [1, 2, 3])
    usual, done = detector.losses(images, targets, [1, 2, 3]), []
    with PretendDevice():
        there.losses(*given)  # the first time, anchors move to the device
    assert count(lambda: done.append(there.losses(*given))).waits == 1
    for name, value in done[0].items():
        close(value.detach().cpu(), usual[name].detach())
