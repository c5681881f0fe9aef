"""Every model: exact batches, answers for every slice, one pass over the backbone, evidence in rank order, weights
that come back.
"""

import numpy as np
import pytest
import torch
from conftest import SLICE_MODELS, tiny

from covid_workbench.evaluation.inference import predict_slices
from covid_workbench.files import load_tensors, save_tensors
from covid_workbench.models.aggregators import build_aggregator
from covid_workbench.models.backbones import CLASSIFIERS, build_backbone
from covid_workbench.models.classifier import build_classifier
from covid_workbench.models.oneshot import MODELS
from covid_workbench.models.rois import RANKINGS, choose_rois, rank_rois
from covid_workbench.models.zoo import create_model

SMALL = dict(
    cut="layer2",
    levels=1,
    fpn_channels=16,
    mask_layers=1,
    mask_channels=0,
    anchor_sizes=(8, 16, 32),
    anchor_ratios=(0.5, 1, 2),
    proposals_before_nms=60,
    proposals=30,
    rpn_foreground_iou=0.5,
    roi_foreground_iou=0.5,
    rpn_samples=32,
    roi_samples=16,
    roi_batch=6,
    hidden_size=12,
)
REGIONAL = [model for model in SLICE_MODELS if model not in ("mask-rcnn", "classifier")]
SEEDS = [11, 22, 33]


def model_of(name, **settings):
    torch.manual_seed(0)
    return create_model(name, "resnet18", object_classes=2, **SMALL | settings)


def close(ours, theirs, tolerance=1e-4):
    torch.testing.assert_close(
        ours,
        theirs,
        rtol=tolerance,
        atol=tolerance * float(max(theirs.detach().abs().max(), 1)) if theirs.numel() else tolerance,
    )


def gradients(model):
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("protocol", ["default", "released"])
@pytest.mark.parametrize("name", SLICE_MODELS)
def test_a_batch_is_its_slices(name, protocol, slices):
    "Logits, evidence and detections of three slices at once are those of the three one by one."
    images = slices[0]
    model = model_of(name, protocol=protocol).eval()
    with torch.no_grad():
        together, alone = model(images), [model(image[None]) for image in images]
    if name != "classifier":
        for number, single in enumerate(alone):
            for key, value in single.detections[0].items():
                close(together.detections[number][key], value)
    if name != "mask-rcnn":
        for part in ("logits", "attention", "branch_logits"):
            close(getattr(together.evidence, part), torch.cat([getattr(single.evidence, part) for single in alone]))
    if name in REGIONAL:
        for part in ("boxes", "scores", "labels", "regions", "deltas"):
            close(
                getattr(together.evidence.rois, part),
                torch.cat([getattr(single.evidence.rois, part) for single in alone]),
            )


@pytest.mark.parametrize("name", SLICE_MODELS)
def test_a_batch_has_the_mean_gradient_of_its_slices(name, slices):
    "In training, too. Both losses are means over images, so the batch's gradient is the mean of the singles'."
    images, targets, labels = slices
    images = torch.cat(
        [images[:2], images[:1].flip(-1)]
    )  # gradients through the normalisation of a black slice are rounding noise
    model = model_of(name, **{"statistics": "image"}).train()

    def loss(chosen):
        total = 0
        if name != "classifier":
            total = sum(
                model.segmentation_losses(
                    images[chosen], [targets[i] for i in chosen], [SEEDS[i] for i in chosen]
                ).values()
            )
        if name != "mask-rcnn":
            total = total + model.classification_loss(images[chosen], labels[chosen])[0]
        return total

    loss([0, 1, 2]).backward()
    together = gradients(model)
    alone = []
    for number in range(3):
        model.zero_grad()
        loss([number]).backward()
        alone.append(gradients(model))
    assert together
    for key, value in together.items():
        close(
            value,
            sum(single.get(key, torch.zeros_like(value)) for single in alone) / 3,
            1e-4 if name != "classifier" else 1e-3,
        )


@pytest.mark.parametrize("name", [name for name in SLICE_MODELS if name != "mask-rcnn"])
def test_permuting_slices_permutes_answers(name, slices):
    model, order = model_of(name).eval(), torch.tensor([1, 0, 2])
    with torch.no_grad():
        close(model(slices[0][order]).evidence.logits, model(slices[0]).evidence.logits[order])


@pytest.mark.parametrize("name", REGIONAL)
def test_slices_without_candidates_still_get_an_answer(name, slices):
    """One proposal, then proposals of no size: regions repeat, or the whole slice stands in; gradients are finite and
    neighbours keep their answers.
    """
    images = torch.cat([slices[0][:2], slices[0][:1].flip(-1)])
    model = model_of(name).train()
    usual, features = model(images).evidence, model.detector.features(images)
    first, second, third = model.detector.propose(images, features)
    flat = torch.cat([second[:, :2], second[:, :2]], 1)  # which the box head cannot grow
    for few, regions_left in ((second[:1], 2), (flat, 1)):
        candidates = model.candidates(images, features, [first, few, third])
        rois = model.rank(candidates)
        regions = model.read(candidates, rois)
        assert 1 <= len(rois.regions[1].unique()) <= regions_left
        answer = model.answer(regions)
        model.zero_grad()
        answer.logits.sum().backward(retain_graph=True)
        assert answer.logits.isfinite().all() and all(
            gradient.isfinite().all() for gradient in gradients(model).values()
        )
        close(answer.logits[[0, 2]], usual.logits[[0, 2]])
    assert (
        rois.labels[1].tolist() == [0] * 6
        and rois.boxes[1, 0].tolist() == [0, 0, 100, 100]
        and (rois.scores[1] == 0).all()
    )


def test_candidates_may_come_in_any_order():
    torch.manual_seed(0)
    corners = torch.rand(20, 2) * 60
    boxes = torch.cat([corners, corners + 5 + torch.rand(20, 2) * 30], 1)[:, None].expand(-1, 3, -1)
    logits, deltas, order = torch.randn(20, 3), torch.randn(20, 3, 4), torch.randperm(20)
    first = rank_rois(choose_rois(logits, boxes, deltas, [20], (100, 100), beta=6))
    again = rank_rois(choose_rois(logits[order], boxes[order], deltas[order], [20], (100, 100), beta=6))
    for part in ("boxes", "scores", "labels", "regions", "deltas"):
        assert getattr(first, part).equal(getattr(again, part))


@pytest.mark.parametrize("name", ["attention", "lstm1", "lstm2", "mean-pool", "max-pool", "gated-attention"])
def test_regions_stand_in_order_of_distance_and_weights_sum_to_one(name, slices):
    with torch.no_grad():
        evidence = model_of(name).eval()(slices[0]).evidence
    boxes = evidence.rois.boxes.numpy()
    distance = np.sqrt(boxes[..., 0] ** 2 + boxes[..., 1] ** 2)
    assert (np.diff(distance, axis=1) >= -1e-4).all()
    assert evidence.attention.shape == (3, 2 if name == "lstm2" else 1, 6) and (evidence.attention >= 0).all()
    close(evidence.attention.sum(-1), torch.ones(evidence.attention.shape[:2]))


@pytest.mark.parametrize("name", REGIONAL)
def test_one_pass_over_the_backbone(name, slices):
    model, passes = model_of(name).eval(), []
    model.detector.backbone.register_forward_hook(lambda *_: passes.append(1))
    with torch.no_grad():
        output = model(slices[0])
    assert len(passes) == 1 and output.detections is not None and output.evidence.rois is not None


@pytest.mark.parametrize("name", SLICE_MODELS)
def test_saved_weights_give_the_same_answers(name, slices, tmp_path):
    model = model_of(name, protocol="released").eval()
    save_tensors(tmp_path / "weights.safetensors", model.state_dict())
    torch.manual_seed(5)
    other = create_model(name, "resnet18", object_classes=2, **SMALL, protocol="released").eval()
    other.load_state_dict(load_tensors(tmp_path / "weights.safetensors")[0])
    with torch.no_grad():
        ours, theirs = model(slices[0]), other(slices[0])
    if name == "mask-rcnn":
        assert all(a["scores"].equal(b["scores"]) for a, b in zip(ours.detections, theirs.detections))
    else:
        assert ours.evidence.logits.equal(theirs.evidence.logits)


@pytest.mark.parametrize("name", [name for name in SLICE_MODELS if name != "classifier"])
def test_learns_tiny_data(name, slices):
    """Twenty steps on three slices with both losses, then forty with the regions held still: each loss falls well
    below where it began.
    """
    images, targets, labels = slices
    model = model_of(name).train()
    optimizer, history = torch.optim.AdamW(model.parameters(), 2e-3), []
    for step in range(20 if name == "mask-rcnn" else 60):
        if step == 20:
            model.detector.requires_grad_(
                False
            )  # regions that move from step to step make thirty steps a matter of luck
        losses = {"segmentation": sum(model.segmentation_losses(images, targets, SEEDS).values())} if step < 20 else {}
        if name != "mask-rcnn":
            losses["classification"] = model.classification_loss(images, labels)[0]
        optimizer.zero_grad()
        sum(losses.values()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10)
        optimizer.step()
        for task, loss in losses.items():
            history.append((task, float(loss.detach())))
    for task in {task for task, _ in history}:
        values = [value for name, value in history if name == task]
        assert min(values[-5:]) < 0.75 * values[0], (task, values)


@pytest.mark.parametrize("backbone", ["resnet18", "densenet121"])
def test_classifiers_learn(backbone, slices):
    torch.manual_seed(0)
    model = build_classifier(backbone, statistics="image").train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
    start = float(model.classification_loss(slices[0], slices[2])[0].detach())
    for _ in range(12):
        loss = model.classification_loss(slices[0], slices[2])[0]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.8 * start


@pytest.mark.parametrize("backbone", CLASSIFIERS)
def test_classifier_backbones_have_the_asked_classes(backbone):
    with torch.device("meta"):
        assert build_classifier(backbone, 2)(torch.randn(1, 3, 64, 64)).evidence.logits.shape == (1, 2)


def test_four_pyramid_levels(slices):
    torch.manual_seed(0)
    model = create_model("ct-mask-net", "resnet50", **SMALL | dict(levels=4)).eval()
    with torch.no_grad():
        together, alone = model(slices[0][:2]), [model(image[None]) for image in slices[0][:2]]
    close(together.evidence.logits, torch.cat([one.evidence.logits for one in alone]))


def test_the_fifth_level_is_every_second_cell_of_the_fourth(slices):
    maps = build_backbone("resnet18", levels=5, channels=8)(slices[0][:2])
    assert list(maps) == ["0", "1", "2", "3", "pool"] and [tuple(one.shape[-2:]) for one in maps.values()] == [
        (25, 25),
        (13, 13),
        (7, 7),
        (4, 4),
        (2, 2),
    ]
    assert maps["pool"].equal(maps["3"][..., ::2, ::2])


def test_poolings_follow_their_equations():
    """On regions of which one stands in two slots: mean over slots, maximum by channel, and (7), (9) of Ilse et al.
    one region at a time.
    """
    torch.manual_seed(0)
    x = torch.randn(2, 4, 6)
    x[:, 3] = x[:, 1]
    mean, highest, gated = (
        build_aggregator(name, channels=6, beta=4, hidden_size=5)
        for name in ("mean-pool", "max-pool", "gated-attention")
    )
    close(mean(x).logits, mean.classifier((x[:, 0] + 2 * x[:, 1] + x[:, 2]) / 4))
    assert mean(x).attention.equal(torch.full((2, 1, 4), 0.25))
    close(
        highest(x).logits, highest.classifier(torch.stack([x[:, :, channel].max(1).values for channel in range(6)], 1))
    )
    wins = torch.stack([(x[0, :3].argmax(0) == region).float().mean() for region in range(3)])
    close(highest(x).attention[0, 0], torch.stack([wins[0], wins[1] / 2, wins[2], wins[1] / 2]))
    assert highest(torch.zeros(1, 4, 6)).attention.equal(torch.full((1, 1, 4), 0.25))
    score = [
        torch.exp(
            gated.score.weight[0] @ (torch.tanh(gated.value.weight @ row) * torch.sigmoid(gated.gate.weight @ row))
        )
        for row in x[0]
    ]
    weights = torch.stack(score) / sum(score)
    close(gated(x).attention[0, 0], weights)
    close(gated(x).logits[0], gated.classifier(sum(weight * row for weight, row in zip(weights, x[0]))))


@pytest.mark.parametrize("name", ["mean-pool", "max-pool", "gated-attention"])
def test_poolings_read_a_set(name, slices):
    with torch.no_grad():
        close(
            model_of(name, ranking="score").eval()(slices[0]).evidence.logits,
            model_of(name).eval()(slices[0]).evidence.logits,
        )


def test_predictions_do_not_depend_on_the_batch(finished, phantom):
    from covid_workbench.runs.datasets import ExperimentData
    from covid_workbench.runs.load import load_model

    model, data = load_model(finished), ExperimentData(finished.experiment, finished.table).dataset("test")
    answers = [[prediction.logits for prediction in predict_slices(model, data, batch=batch)] for batch in (1, 3, 8)]
    for other in answers[1:]:
        np.testing.assert_allclose(answers[0], other, rtol=1e-4, atol=1e-4)


def test_tiny_experiments_name_their_model():
    for name in MODELS:
        assert tiny(model=name).one_shot.model == name


@pytest.mark.parametrize("ranking", RANKINGS)
def test_every_ranking_is_one_of_the_same_regions(ranking, slices):
    "Another order of the same regions, and the same one for a slice whatever else is in the batch."
    usual, other = model_of("lstm1").eval(), model_of("lstm1", ranking=ranking).eval()
    with torch.no_grad():
        together, alone = other(slices[0]).evidence.rois, [other(image[None]).evidence.rois for image in slices[0]]
        ours = usual(slices[0]).evidence.rois
    close(together.boxes, torch.cat([one.boxes for one in alone]))
    close(together.boxes.flatten(1).sort().values, ours.boxes.flatten(1).sort().values)
    assert ranking == "distance" or not together.boxes.equal(ours.boxes)
