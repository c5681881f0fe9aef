"""Settings of models: each has bounds, and those that make no network, or none that a machine holds, are refused."""

import dataclasses

import pytest
import torch

from covid_workbench.errors import InputError
from covid_workbench.models import sizes
from covid_workbench.models.cards import CARDS
from covid_workbench.models.detector import DetectorSettings
from covid_workbench.models.oneshot import MODELS, OneShotSettings
from covid_workbench.models.zoo import KINDS, OBJECT_COUNTS, build, create_model
from covid_workbench.runs.experiment import PRESETS, Experiment
from covid_workbench.settings import fill

TINY = dict(
    fpn_channels=4,
    anchor_sizes=(8,),
    anchor_ratios=(1,),
    head_width=4,
    mask_layers=1,
    mask_channels=0,
    proposals_before_nms=9,
    proposals=9,
    rpn_samples=8,
    roi_samples=4,
    roi_batch=2,
    hidden_size=2,
    classifier_width=2,
    refine_steps=1,
)


@pytest.mark.parametrize("kind", KINDS.values())
def test_every_number_has_bounds_and_every_list_a_length(kind):
    for field in dataclasses.fields(kind):
        if field.metadata["options"] or field.type not in (int, float, tuple[float, ...]):
            continue
        assert field.metadata["low"] is not None and field.metadata["high"] is not None, field.name
        single = field.type in (int, float)
        for wrong in (field.metadata["low"] - 1, field.metadata["high"] * 2 + 1, 10**400, float("nan"), [[1]]):
            with pytest.raises(InputError, match=field.name):
                fill(kind, {field.name: wrong if single else (wrong,)})
        if not single:
            for wrong in ((), (4,) * 33):
                with pytest.raises(InputError, match=field.name):
                    fill(kind, {field.name: wrong})


@pytest.mark.parametrize("model", CARDS)
def test_no_card_and_no_preset_is_refused(model):
    for preset in PRESETS:
        for protocol in ("paper", "released", "default"):
            experiment = Experiment.make(preset, protocol=protocol, model=model)
            sizes.check_memory(experiment.detector, experiment.one_shot, 512, batch=8, available=16 * 2**30)


def network(model, **settings):
    values = TINY | settings | {"model": model}
    groups = [
        fill(
            kind, {name: value for name, value in values.items() if name in {f.name for f in dataclasses.fields(kind)}}
        )
        for kind in KINDS.values()
    ]
    torch.manual_seed(0)
    return groups, build(groups[0], groups[1], 1, *groups[2:])


@pytest.mark.parametrize(
    ("model", "settings", "smallest", "refused"),
    [
        ("lstm2", dict(cut="layer4"), 64, (32, 40, 66)),
        ("lstm2", dict(cut="layer3"), 32, (33,)),
        ("ct-mask-net", dict(cut="layer2", levels=4), 64, (32, 45, 65)),
        ("classifier", dict(cut="layer2"), 33, (32,)),
        ("classifier", dict(backbone="densenet121"), 61, (32, 48, 60)),
        ("classifier", dict(backbone="vgg16"), 32, ()),
    ],
)
def test_pictures_that_are_too_small(model, settings, smallest, refused):
    "The smallest picture that is let through trains; smaller ones are refused, in an experiment, too."
    groups, made = network(model, **settings)
    sizes.check_sizes(*groups[:2], smallest)
    made.train().classification_loss(torch.randn(1, 3, smallest, smallest), torch.tensor([0]))[0].backward()
    for image_size in refused:
        with pytest.raises(InputError, match=f"image_size={image_size}: too small"):
            sizes.check_sizes(*groups[:2], image_size)
    if refused and model != "classifier":
        with pytest.raises(InputError, match="too small for the stride"):
            Experiment.make("smoke", model=model, image_size=refused[0], **settings)


def test_a_map_has_the_scale_of_its_stride():
    "What is let through is read at the network's own stride, which is taken from sizes that round up."
    for cut, stride in (("layer2", 8), ("layer3", 16), ("layer4", 32)):
        for image_size in range(32, 200):
            try:
                sizes.check_picture(DetectorSettings(cut=cut), OneShotSettings(), image_size)
            except InputError:
                continue
            cells = -(-image_size // stride)
            assert 2.0 ** round(torch.tensor(cells / image_size).log2().item()) == 1 / stride, (cut, image_size)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (dict(levels=4, anchor_spread="one", anchor_sizes=(2, 4)), "anchor_spread=one"),
        (dict(mask_channels=1), "mask_channels=1"),
        (dict(rpn_foreground_iou=0.2, rpn_background_iou=0.3), "rpn_foreground_iou"),
        (dict(proposals=50, proposals_before_nms=20), "proposals_before_nms"),
    ],
)
def test_what_makes_no_network(settings, words):
    for make in (lambda: Experiment.make("smoke", **settings), lambda: create_model("lstm2", "resnet18", **settings)):
        with pytest.raises(InputError, match=words):
            make()


def test_rounding_that_leaves_no_anchor_makes_no_infinite_loss():
    "Anchors that rounding makes empty overlap nothing; where no other meets a lesion either, they are none."
    _, made = network("mask-rcnn", anchor_sizes=(1,), rounded_anchors=True)
    target = dict(
        boxes=torch.tensor([[3.0, 3, 9, 9]]), labels=torch.tensor([1]), masks=torch.ones(1, 64, 64, dtype=torch.uint8)
    )
    losses = made.train().segmentation_losses(torch.randn(1, 3, 64, 64), [target], [0])
    assert all(loss.isfinite() for loss in losses.values())


@pytest.mark.parametrize("model", [model for model in MODELS if model != "classifier"])
def test_weights_are_about_as_many_as_counted(model):
    "Also where one setting is far from the usual; what a model of one's own adds is not known."
    wide = dict(fpn_channels=96, cut="layer2")
    for settings in (wide, dict(head_width=700, hidden_size=300), wide | dict(mask_channels=300, roi_batch=40)):
        with torch.device("meta"):
            groups, made = network(model, **settings)
        own = sum(weight.numel() for weight in made.parameters())
        assert 0.9 < sum(sizes.weight_counts(*groups[:2], 1).values()) / own < 1.1


def test_memory_is_estimated_before_it_is_taken(monkeypatch):
    def estimate(size=512, batch=1, **settings):
        own = {
            kind: {n: v for n, v in settings.items() if n in vars(kind())}
            for kind in (DetectorSettings, OneShotSettings)
        }
        return sizes.estimated_memory(*(fill(kind, values) for kind, values in own.items()), size, batch)

    usual = estimate()
    assert 0.2e9 < usual < 4e9
    assert estimate(batch=64) > 10 * usual and estimate(size=4096) > 10 * usual
    assert estimate(roi_batch=4096) > 5 * usual and estimate(fpn_channels=4096) > 5 * usual
    monkeypatch.setattr(sizes, "machine_memory", lambda: 2**20)
    with pytest.raises(InputError, match="memory.*most is for"):
        create_model("lstm2", "resnet18")
    with pytest.raises(InputError, match="most is for image_size=4096"):
        sizes.check_memory(DetectorSettings(), OneShotSettings(), 4096, 4)


@pytest.mark.parametrize("objects", [0, -1, 10**9, 1.5, "two", [1], float("nan")])
def test_kinds_of_lesion(objects):
    with pytest.raises(InputError, match="object_classes"):
        create_model("lstm2", "resnet18", object_classes=objects)
    assert set(OBJECT_COUNTS.values()) == {1, 2, 3}


@pytest.mark.parametrize(
    "given",
    [
        dict(model=None),
        dict(model=["lstm2"]),
        dict(model="lstm2", backbone=3),
        dict(model="lstm2", protocol=7),
        dict(model="lstm2", protocol="papier"),
        dict(model="lstm2", classes=()),
        dict(model="lstm2", anchor_sizes=4, roi_batch=[1]),
        dict(model="lstm2", backbone="vgg16"),
    ],
)
def test_values_of_another_kind(given):
    with pytest.raises(InputError):
        create_model(given.pop("model"), **given)


def test_a_step_beyond_memory_is_refused_before_anything_is_made(command, tmp_path):
    large = ("--preset", "smoke", "--set", "image_size=4096", "classification_batch=4096")
    code, _, error = command("train", tmp_path / "run", *large)
    assert code == 2 and "GB of memory" in error and "4096" in error and not list(tmp_path.iterdir())
