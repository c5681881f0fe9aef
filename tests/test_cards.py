"""Each paper's values, pinned: one by one from the specification of papers and released code, not from the cards
themselves.
"""

import json

import pytest
import torch
import torchvision
from conftest import SLICE_MODELS, tiny

from covid_workbench.models.cards import CARDS
from covid_workbench.models.norm import PerImageBatchNorm2d
from covid_workbench.models.protocol import PROTOCOLS, Protocol, protocol_of
from covid_workbench.models.zoo import create_model
from covid_workbench.runs.datasets import ExperimentData, prepare_data
from covid_workbench.runs.experiment import Experiment, settings_of_paper
from covid_workbench.runs.load import build_model
from covid_workbench.training.stages import stages_of, trained_part
from covid_workbench.training.tasks import classification_task, segmentation_task
from covid_workbench.training.train import weight_notes

LSTM = dict(
    cut="layer4",
    levels=1,
    objects="lung+lesions",
    roi_batch=16,
    roi_nms=0.25,
    ranking="distance",
    refine_steps=1,
    hidden_size=256,
    epochs=10,
    proposals_before_nms=400,
    proposals=200,
    test_proposals=0,
    roi_positive=0.5,
    normalise="image",
    regime="two-phase",
    classification_batch=1,
    rpn_foreground_iou=0.7,
    rpn_background_iou=0.3,
    roi_foreground_iou=0.75,
    roi_background_iou=0.5,
    rpn_samples=256,
    roi_samples=256,
    rpn_positive=0.75,
)
EXPECTED = {  # preset paper
    "attention": LSTM,
    "lstm1": LSTM,
    "lstm2": LSTM,
    "affinity": dict(
        backbone="resnet18",
        cut="layer3",
        objects="merged",
        roi_batch=8,
        roi_nms=0.25,
        ranking="score",
        refine_steps=3,
        hidden_size=64,
        epochs=100,
        proposals_before_nms=400,
        proposals=200,
        score_threshold=0.05,
        detections=100,
        normalise="imagenet",
    ),
    "single-shot": dict(
        backbone="resnet18",
        cut="layer3",
        objects="merged",
        roi_batch=128,
        roi_nms=0.75,
        ranking="score",
        hidden_size=512,
        epochs=50,
        proposals_before_nms=2000,
        proposals=1000,
        test_proposals_before_nms=0,
        score_threshold=0.75,
        detections=128,
        normalise="imagenet",
        mask_channels=128,
    ),
    "ct-mask-net": dict(
        backbone="resnet50",
        levels=5,
        objects="lesions",
        roi_batch=256,
        roi_nms=0.75,
        hidden_size=1024,
        epochs=50,
        detector_epochs=50,
        regime="two-stage",
        update="heads+bn",
        roi_positive=0.75,
        rpn_positive=0.75,
        roi_samples=1024,
        rpn_samples=1024,
        proposals=2000,
        test_proposals=1000,
        test_proposals_before_nms=1000,
        classification_batch=8,
        normalise="imagenet",
        image_loss="categorical",
    ),
    "mask-rcnn": dict(
        backbone="resnet50",
        levels=5,
        head_width=1024,
        mask_layers=4,
        anchor_sizes=(32, 64, 128, 256, 512),
        anchor_spread="one",
        roi_samples=512,
        roi_positive=0.25,
        rpn_nms=0.7,
        normalise="imagenet",
    ),
    "classifier": dict(epochs=10, regime="two-phase", statistics="running"),
    "resnext-plus": dict(
        classes=("Normal", "COVID-19"),
        backbone="resnext50_32x4d",
        cut="layer4",
        image_size=224,
        volume_slices=50,
        lung_mask="hull",
        lung_fusion=True,
        map_attention=True,
        slice_attention=True,
        volume_statistics="volume",
        hidden_size=512,
        classifier_width=1024,
        classification_batch=1,
        epochs=40,
        schedule="cyclic",
        learning_rate=1e-4,
        weight_decay=0,
        balanced=True,
    ),
}
RELEASED = {  # where the code does something else
    "lstm2": dict(
        statistics="image",
        region_statistics="same",
        classification_mode="training",
        sampling="replacement",
        region_weights="lower",
    ),
    "affinity": dict(statistics="running", region_statistics="image", normalise="image", refinement="shared"),
    "single-shot": dict(
        statistics="running",
        region_statistics="running",
        classification_mode="evaluation",
        sampling="mixed",
        region_weights="best",
    ),
    "ct-mask-net": dict(
        statistics="running",
        levels=4,
        roi_samples=256,
        rpn_samples=256,
        trained_norms="but shortcuts",
        sampling="passes",
        image_loss="binary",
    ),
}


@pytest.mark.parametrize("model", EXPECTED)
def test_paper_means_the_paper_of_that_model(model):
    found = Experiment.make("paper", model=model).flat()
    common = dict(
        optimizer="adam",
        learning_rate=1e-5,
        detector_learning_rate=1e-5,
        weight_decay=1e-3,
        segmentation_batch=1,
        image_size=512,
        min_lesion_area=100,
        flips=False,
        rotation=0,
        scale=0,
        brightness=0,
        contrast=0,
        balanced=False,
        pretrained="",
    )
    expected = common | EXPECTED[model]
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize("model", RELEASED)
def test_released_means_the_code_of_that_model(model):
    found = Experiment.make("paper", model=model, protocol="released").flat()
    assert {name: found[name] for name in RELEASED[model]} == RELEASED[model]


def test_no_paper_asks_the_lstm_models_for_running_statistics():
    for model in ("attention", "lstm1", "lstm2"):
        assert Protocol.paper(model).statistics == "image" and Protocol.paper(model).region_statistics == "same"


@pytest.mark.parametrize("model", EXPECTED)
def test_every_value_has_a_source(model):
    kinds = ("paper", "code", "both", "torchvision", "ours", "asked for")
    for row in settings_of_paper(model):
        assert row["source"].split(":")[0] in kinds, row
    assert {name for name, value in CARDS[model].reading().items() if not value.source} == set()


def test_the_command_shows_the_values_of_the_model_asked_for(command):
    rows = {row["setting"]: row for row in json.loads(command("settings", "--model", "ct-mask-net", "--json")[1])}
    assert (
        rows["epochs"]["paper"] == 50
        and rows["levels"]["paper"] == 5
        and rows["levels"]["released"] == 4
        and rows["roi_batch"]["paper"] == 256
    )
    text = command("settings", "--model", "affinity")[1]
    assert next(line for line in text.splitlines() if line.split()[:1] == ["epochs"]).split()[1] == "100.0"
    code, _, err = command("settings", "--model", "afinity")
    assert code == 2 and "affinity" in err


def test_the_small_presets_have_a_detector_of_their_own():
    "So that all models of a warm start share one detector, whatever their papers say."
    slicewise = [model for model in EXPECTED if model in SLICE_MODELS]
    detectors = {model: Experiment.make("small", model=model).detector for model in slicewise}
    assert len(set(detectors.values())) == 1
    assert len({Experiment.make("small", model=model).data for model in slicewise}) == 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("model", ["lstm2", "affinity", "single-shot", "ct-mask-net"])
def test_a_model_by_name_normalises_as_its_protocol_says(model, protocol):
    with torch.device("meta"):
        network = create_model(model, "resnet18", protocol=protocol)
    chosen = protocol_of(protocol, model)
    layers = {
        part: {module.evaluation for module in found.modules() if isinstance(module, PerImageBatchNorm2d)}
        for part, found in (("backbone", network.detector.backbone), ("regions", network.image_head))
    }
    assert layers["backbone"] == {chosen.statistics}
    if layers["regions"]:
        assert layers["regions"] == {
            chosen.statistics if chosen.region_statistics == "same" else chosen.region_statistics
        }


SMALL = dict(
    cut="layer2",
    levels=1,
    fpn_channels=16,
    mask_layers=1,
    mask_channels=0,
    proposals_before_nms=60,
    proposals=30,
    roi_batch=6,
    hidden_size=12,
)


@pytest.mark.parametrize("mode, moves", [("training", True), ("evaluation", False)])
def test_classification_steps_may_hold_the_backbones_statistics(mode, moves):
    "Single Shot's released code; afterwards the backbone trains on, and what was frozen before stays so."
    torch.manual_seed(0)
    model = create_model("single-shot", "resnet18", **SMALL, classification_mode=mode).train()
    norm, frozen = model.detector.backbone.body.bn1, model.detector.backbone.body.layer1
    frozen.eval()
    before = norm.running_mean.clone()
    model.classification_loss(torch.randn(2, 3, 64, 64), torch.tensor([0, 2]))[0].backward()
    assert (not norm.running_mean.equal(before)) is moves
    assert norm.training and model.detector.backbone.training and not frozen.training


def test_proposals_outside_of_training_have_numbers_of_their_own():
    torch.manual_seed(0)
    model = create_model(
        "lstm2",
        "resnet18",
        **SMALL | dict(proposals_before_nms=200, proposals=120, test_proposals_before_nms=50, test_proposals=20),
    )
    images = torch.randn(1, 3, 64, 64)
    for mode in (True, False):  # the classification branch reads what evaluation reads, whatever the mode
        model.train(mode)
        features = model.detector.features(images)
        assert len(model.detector.propose(images, features)[0]) <= 20
        assert len(model.detector._rpn_outputs(images, features, training=True)[0][0]) > 20


@torch.no_grad()
def test_mask_rcnn_is_torchvisions():
    "The same weights in both: the same detections, with five levels, one anchor size each."
    torch.manual_seed(0)
    theirs = torchvision.models.detection.maskrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=3, min_size=128, max_size=128
    ).eval()
    for (
        name,
        value,
    ) in theirs.state_dict().items():  # random weights call everything background; make some of it lesions
        if name.endswith("cls_score.bias"):
            value.copy_(torch.tensor([0.0, 1.0, 0.5]))
        elif name.endswith("running_var"):
            value.mul_(4)
    ours = create_model("mask-rcnn", "resnet50", protocol="released", empty_boxes=False, statistics="running").eval()
    ours.load_state_dict({f"detector.{name}": value for name, value in theirs.state_dict().items()})
    images = torch.rand(2, 3, 128, 128)
    mean, deviation = (
        torch.tensor(values)[:, None, None] for values in (theirs.transform.image_mean, theirs.transform.image_std)
    )
    found, expected = ours((images - mean) / deviation).detections, theirs(list(images))
    for one, other in zip(found, expected):
        assert len(other["scores"]) >= 20
        for name in ("boxes", "labels", "scores"):
            torch.testing.assert_close(one[name], other[name], rtol=1e-4, atol=1e-3)


def test_a_body_frozen_at_random_weights_is_said():
    experiment = Experiment.make("smoke", model="mask-rcnn", update="heads")
    assert "random weights" in weight_notes(experiment)[0]
    for fair in (
        experiment.replace(update="full"),
        experiment.replace(pretrained="weights.safetensors"),
        Experiment.make("smoke", model="ct-mask-net", update="heads"),
    ):
        assert not weight_notes(fair)


@pytest.mark.parametrize(
    "update, trained",
    [("heads", {"backbone.fpn", "rpn", "roi_heads"}), ("full", {"backbone.body", "backbone.fpn", "rpn", "roi_heads"})],
)
def test_heads_only_trains_all_but_the_body(tmp_path, update, trained):
    experiment = tiny(model="mask-rcnn", update=update)
    model = build_model(experiment)
    [stage] = stages_of(
        model, ExperimentData(experiment, prepare_data(experiment.data, tmp_path, progress=False)), torch.device("cpu")
    )
    chosen = {id(parameter) for parameter in stage.parameters}
    moved = {name.removeprefix("detector.") for name, parameter in model.named_parameters() if id(parameter) in chosen}
    assert {
        ".".join(name.split(".")[:2]) if name.startswith("backbone") else name.split(".")[0] for name in moved
    } == trained
    assert (model.detector.backbone.body.bn1 in stage.frozen) is (update == "heads")


@pytest.mark.parametrize("norms", ["all", "but shortcuts"])
def test_the_second_stage_trains_the_norms_of_its_protocol(norms):
    torch.manual_seed(0)
    model = create_model("ct-mask-net", "resnet18", **SMALL)
    chosen = {id(parameter) for parameter in trained_part(model, [model.image_head], "heads+bn", norms)[0]}
    moved = {
        name
        for name, parameter in model.named_parameters()
        if id(parameter) in chosen and not name.startswith("image_head")
    }
    assert any(".bn1." in name for name in moved) and any("downsample.1" in name for name in moved) is (norms == "all")


@pytest.mark.parametrize(
    "sampling, passes",
    [("passes", ("segmentation", "classification")), ("replacement", ()), ("mixed", ("classification",))],
)
def test_slices_are_drawn_as_the_protocol_says(tmp_path, sampling, passes):
    "In a pass every slice comes once; drawn with replacement, some come twice."
    experiment = tiny(model="lstm1", regime="two-phase", sampling=sampling)
    model, parts = (
        build_model(experiment),
        ExperimentData(experiment, prepare_data(experiment.data, tmp_path, progress=False)),
    )
    for name, task in (
        ("segmentation", segmentation_task(model, parts, torch.device("cpu"))),
        ("classification", classification_task(model, parts, torch.device("cpu"))),
    ):
        steps = task.slices // task.per_step
        seen = [slice_id for batch in task.batches(range(steps)) for slice_id in batch["id"]]
        assert (len(set(seen)) == len(seen)) is (name in passes), (name, sampling)
