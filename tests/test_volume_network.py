"""ResNext+: its equations in plain loops, what must not change an answer (padding, neighbours, chunks, maps computed
again), what must (order, gaps), weights from elsewhere, sizes.
"""

import copy

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from covid_workbench.errors import InputError
from covid_workbench.files import load_tensors, save_tensors
from covid_workbench.models import slice_trunk
from covid_workbench.models.detector import DetectorSettings
from covid_workbench.models.execution import Execution
from covid_workbench.models.oneshot import VOLUME_MODEL, OneShotSettings
from covid_workbench.models.sizes import check_memory, check_sizes, estimated_memory, weight_counts
from covid_workbench.models.slice_trunk import TRUNKS, build_slice_trunk, register_trunk
from covid_workbench.models.volume_network import ResNextPlus
from covid_workbench.models.zoo import create_model

VARIANTS = {
    "full": {},
    "N-SCA": dict(map_attention=False),
    "N-SLA": dict(slice_attention=False),
    "N-MSCA": dict(lung_fusion=False, map_attention=False),
}
SIDE, COUNTS = 20, (5, 1, 3)


def model_of(seed=0, backbone="resnet18", **settings):
    torch.manual_seed(seed)
    small = dict(cut="layer2", hidden_size=6, classifier_width=7)
    return create_model(VOLUME_MODEL, backbone, **small | settings).double()


@pytest.fixture(scope="module")
def volumes():
    "Slices (3, 5, 3, S, S), lung masks and which of them are slices: 5, 1 and 3; padding is no number; labels."
    torch.manual_seed(1)
    slices = torch.randn(3, 5, 3, SIDE, SIDE, dtype=torch.double)
    lungs = torch.rand(3, 5, SIDE, SIDE) > 0.5
    valid = torch.arange(5) < torch.tensor(COUNTS)[:, None]
    slices[~valid] = torch.nan
    return slices, lungs, valid, torch.tensor([0, 1, 1])


def alone(volumes, number):
    "A volume as a batch of its own, without padding."
    slices, lungs, valid, labels = (part[number : number + 1] for part in volumes)
    count = COUNTS[number]
    return slices[:, :count], lungs[:, :count], valid[:, :count], labels


def gradients(model):
    return {name: weight.grad.clone() for name, weight in model.named_parameters()}


def same(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10)


# ------------------------------------------------------------------------------------------------------- equations
def test_channel_attention_is_its_equation():
    torch.manual_seed(0)
    part, maps = slice_trunk.ChannelAttention(32, 2), torch.randn(2, 32, 3, 4)
    assert part.down.weight.shape == (16, 32) and part.down.bias is None and part.up.bias is None
    for maps_of, found in zip(maps, part(maps)):
        flat, w0, w1 = maps_of.flatten(1), part.down.weight, part.up.weight
        both = [w1 @ torch.relu(w0 @ pooled) for pooled in (flat.mean(1), flat.max(1).values)]
        torch.testing.assert_close(found, torch.sigmoid(both[0] + both[1])[:, None, None] * maps_of)


def test_spatial_attention_is_its_equation():
    torch.manual_seed(0)
    part, maps = slice_trunk.SpatialAttention(), torch.randn(2, 5, 6, 7)
    weight, bias = part.conv.weight[0], part.conv.bias[0]
    assert weight.shape == (2, 9, 9)
    pooled = F.pad(torch.stack([maps[1].mean(0), maps[1].max(0).values]), (4, 4, 4, 4))
    for y, x in ((0, 0), (3, 2), (5, 6)):
        share = torch.sigmoid((weight * pooled[:, y : y + 9, x : x + 9]).sum() + bias)
        torch.testing.assert_close(part(maps)[1, :, y, x], share * maps[1, :, y, x])


def test_the_first_maps_are_a_sum_and_attention_comes_once():
    "The order: both convolutions, attention over channels, over places, normalisation."
    trunk = model_of().trunk
    slices, lungs = torch.randn(2, 3, SIDE, SIDE).double(), torch.rand(2, SIDE, SIDE) > 0.5
    assert trunk.lungs.weight.shape == (64, 1, 7, 7) and trunk.lungs.stride == trunk.conv1.stride == (2, 2)
    total = trunk.conv1(slices) + trunk.lungs(lungs[:, None].double())
    same(trunk.fused(slices, lungs), trunk.attention[1](trunk.attention[0](total)))
    kinds = [slice_trunk.ChannelAttention, slice_trunk.SpatialAttention]
    assert [type(part) for part in trunk.attention] == kinds and trunk.attention[0].down.out_features == 4
    assert [sum(isinstance(part, kind) for part in trunk.modules()) for kind in kinds] == [1, 1]
    plain = model_of(**VARIANTS["N-MSCA"]).trunk
    assert plain.lungs is plain.attention is None and plain.fused(slices, lungs).equal(plain.conv1(slices))


@pytest.mark.parametrize("sliced", [True, False])
def test_the_answer_is_its_equations(volumes, sliced):
    "States of both directions, attention, their weighted sum, two layers: one slice after the other."
    model, (slices, lungs, valid, _) = model_of(slice_attention=sliced).eval(), alone(volumes, 0)
    vectors = model.vectors(slices, lungs, valid)
    answer = model.read(vectors, valid)
    states = model.lstm(vectors)[0][0]  # (5, 12)
    weights = torch.full((5,), 0.2).double()
    if sliced:
        inner, outer = model.attention.inner, model.attention.outer
        scores = torch.stack([outer.weight[0] @ torch.tanh(inner.weight @ f + inner.bias) for f in states])
        weights = torch.exp(scores) / torch.exp(scores).sum()
        same(answer.attention[0], weights)
    else:
        assert answer.attention is None
    same(answer.states[0], states)
    same(answer.logits[0], model.head(sum(weight * f for weight, f in zip(weights, states))))
    assert [type(part) for part in model.head] == [nn.Linear, nn.ReLU, nn.Linear]


def test_the_lstm_starts_as_the_paper_says():
    torch.manual_seed(0)
    lstm = create_model(VOLUME_MODEL, "resnet18", cut="layer2", hidden_size=128).lstm
    values = torch.cat([value.detach().flatten() for name, value in lstm.named_parameters() if "weight" in name])
    assert abs(values.var().item() - 0.01) < 2e-4 and abs(values.mean().item()) < 1e-3
    assert all((value == 0).all() for name, value in lstm.named_parameters() if "bias" in name)


# ------------------------------------------------------------------------------------- what must not change an answer
@pytest.mark.parametrize("statistics", ["volume", "running", "batch"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_batch_of_volumes_is_its_volumes(volumes, variant, statistics):
    "Evaluation: logits, attention and states; padding holds what is no number, and takes no part."
    model = model_of(volume_statistics=statistics, **VARIANTS[variant]).eval()
    with torch.no_grad():
        together, singles = model(*volumes[:3]), [model(*alone(volumes, number)[:3]) for number in range(3)]
    for number, (single, count) in enumerate(zip(singles, COUNTS)):
        same(together.logits[number], single.logits[0])
        same(together.states[number, :count], single.states[0])
        assert (together.states[number, count:] == 0).all()
        if variant != "N-SLA":
            same(together.attention[number, :count], single.attention[0])
            assert (together.attention[number, count:] == 0).all()
    if variant != "N-SLA":
        same(together.attention.sum(1), torch.ones(3).double())


@pytest.mark.parametrize("statistics", ["volume", "running"])
def test_a_batch_has_the_mean_loss_and_gradient_of_its_volumes(volumes, statistics):
    "In training, too; running estimates move once, to the mean of where each volume moves them."
    model = model_of(volume_statistics=statistics).train()
    start = {name: value.clone() for name, value in model.state_dict().items()}
    loss, _ = model.volume_loss(*volumes)
    loss.backward()
    together, moved = gradients(model), {name: value.clone() for name, value in model.named_buffers()}
    losses, found, moves = [], [], []
    for number in range(3):
        model.load_state_dict(start)
        model.zero_grad()
        losses.append(model.volume_loss(*alone(volumes, number))[0])
        losses[-1].backward()
        found.append(gradients(model))
        moves.append({name: value.clone() for name, value in model.named_buffers()})
    same(loss, sum(losses) / 3)
    for name, value in together.items():
        same(value, sum(single[name] for single in found) / 3)
    assert (len(moved) > 0) is (statistics == "running")
    for name, value in moved.items():
        if value.is_floating_point():
            assert not value.equal(start[name])
            same(value, sum(own[name] for own in moves) / 3)


def test_volumes_normalised_together_are_as_with_ordinary_batch_normalisation(volumes):
    "Vectors and running estimates of `nn.BatchNorm2d` over all slices of a step, without the padding."
    model = model_of(volume_statistics="batch").train()
    (slices, lungs, valid), plain = volumes[:3], copy.deepcopy(model.trunk)
    for part in [part for part in plain.modules() if isinstance(part, slice_trunk.VolumeNorm)]:
        part.__class__ = torch.nn.BatchNorm2d
    vectors, expected = model.vectors(slices, lungs, valid)[valid], plain(slices[valid], lungs[valid])
    same(vectors, expected)
    moved = dict(plain.named_buffers())
    assert len(moved) > 0 and all(value.equal(moved[name]) for name, value in model.trunk.named_buffers())
    apart = model_of(volume_statistics="running").train().vectors(slices, lungs, valid)[valid]
    assert not torch.allclose(vectors, apart)


def test_the_loss_is_cross_entropy_of_two_classes(volumes):
    model = model_of().eval()
    loss, answer = model.volume_loss(*volumes)
    same(loss, -answer.probabilities.log()[torch.arange(3), volumes[3]].mean())
    assert answer.logits.shape == (3, 2)


@pytest.mark.parametrize("mode", [True, False])
def test_one_slice_alone(volumes, mode):
    model, parts = model_of().train(mode), alone(volumes, 1)
    loss, answer = model.volume_loss(*parts)
    loss.backward()
    assert answer.attention.tolist() == [[1.0]] and answer.states.shape == (1, 1, 12)
    assert loss.isfinite() and all(value.isfinite().all() for value in gradients(model).values())


@pytest.mark.parametrize("variant", VARIANTS)
def test_constant_slices_make_no_infinite_number(variant):
    "All air, all slices alike, no lung: normalisation has no variance to divide by."
    model, slices = model_of(**VARIANTS[variant]).train(), torch.zeros(1, 4, 3, SIDE, SIDE).double()
    valid, lungs = torch.ones(1, 4) > 0, torch.zeros(1, 4, SIDE, SIDE) > 0
    loss, answer = model.volume_loss(slices, lungs, valid, torch.tensor([1]))
    loss.backward()
    assert answer.logits.isfinite().all() and all(value.isfinite().all() for value in gradients(model).values())


@pytest.mark.parametrize("statistics", ["volume", "running", "batch"])
def test_maps_computed_again_are_the_same(volumes, statistics):
    "To the last bit: loss, gradients, and running estimates, which do not move a second time; much less is kept."
    results, kept = [], []
    for recompute in (False, True):
        model = model_of(volume_statistics=statistics, recompute=recompute).train()
        held = {}
        hooks = torch.autograd.graph.saved_tensors_hooks(
            lambda x, held=held: held.setdefault(len(held), x), lambda x: x
        )
        with hooks:
            loss, _ = model.volume_loss(*volumes)
        kept.append(sum(value.numel() for value in held.values()))
        loss.backward()
        results.append({"loss": loss.detach()} | gradients(model) | dict(model.named_buffers()))
    assert results[0].keys() == results[1].keys() and kept[1] < kept[0] / 4
    assert all(value.equal(results[1][name]) for name, value in results[0].items())


def test_chunks_change_nothing(volumes, monkeypatch):
    "With running estimates outside of training; with statistics of the volume all slices go through at once."
    passes = []
    for statistics, expected in (("running", [2, 2, 2, 2, 1]), ("volume", [5, 1, 3])):
        model = model_of(volume_statistics=statistics).eval()
        model.trunk.conv1.register_forward_pre_hook(lambda _, x: passes.append(len(x[0])))
        with torch.no_grad():
            usual = model(*volumes[:3])
            passes.clear()
            monkeypatch.setattr(slice_trunk, "CHUNK", 2)
            same(model(*volumes[:3]).logits, usual.logits)
            monkeypatch.undo()
        assert passes == expected


def test_whose_statistics_a_vector_rests_on(volumes):
    "With those of the volume a slice's vector depends on its neighbours, with running ones it does not."
    slices, lungs, valid, _ = alone(volumes, 0)
    for statistics, depends in (("volume", True), ("running", False)):
        model = model_of(volume_statistics=statistics).eval()
        whole, part = model.vectors(slices, lungs, valid), model.vectors(slices[:, :3], lungs[:, :3], valid[:, :3])
        assert (not torch.allclose(whole[:, :3], part)) is depends
        assert any("running" in name for name in model.state_dict()) is (statistics == "running")
        order = torch.tensor([3, 0, 4, 1, 2])
        same(model.vectors(slices[:, order], lungs[:, order], valid), whole[:, order])


# ---------------------------------------------------------------------------------------------------- order and gaps
@torch.no_grad()
def test_reversed_order_with_swapped_directions_is_the_same(volumes):
    "And without swapping them the order of slices matters."
    (slices, lungs, valid, _), model, other = alone(volumes, 0), model_of().eval(), model_of().eval()
    swap, back = torch.cat([torch.arange(6, 12), torch.arange(6)]), slice(None, None, None)
    weights = model.state_dict()
    for name, value in other.lstm.named_parameters():
        twin = name.removesuffix("_reverse") if name.endswith("_reverse") else f"{name}_reverse"
        value.copy_(weights[f"lstm.{twin}"])
    for layer in (other.attention.inner, other.head[0]):
        layer.weight.copy_(layer.weight[:, swap])
    usual, turned = model(slices, lungs, valid), other(slices.flip(1), lungs.flip(1), valid[back])
    same(turned.logits, usual.logits)
    same(turned.attention.flip(1), usual.attention)
    same(turned.states.flip(1)[..., swap], usual.states)
    assert not torch.allclose(model(slices.flip(1), lungs.flip(1), valid).logits, usual.logits)


@torch.no_grad()
def test_slices_switched_off_are_not_there(volumes):
    model, (slices, lungs, valid, _) = model_of().eval(), alone(volumes, 0)
    vectors = model.vectors(slices, lungs, valid)
    kept = torch.tensor([[False, True, False, True, True]])
    some, few = model.read(vectors, kept), model.read(vectors[:, kept[0]], torch.ones(1, 3) > 0)
    same(some.logits, few.logits)
    same(some.attention[kept], few.attention[0])
    same(some.states[kept], few.states[0])
    assert (some.attention[~kept] == 0).all() and (some.states[~kept] == 0).all()
    both = torch.cat([valid, torch.zeros(1, 5) > 0])
    with pytest.raises(InputError, match="volume 2 of 2: none of its slices"):
        model.read(vectors.expand(2, -1, -1), both)


# ----------------------------------------------------------------------------------------------------------- weights
@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_reach_every_weight(volumes, variant):
    model = model_of(**VARIANTS[variant]).train()
    model.volume_loss(*volumes)[0].backward()
    still = [name for name, value in model.named_parameters() if value.grad is None or not value.grad.abs().sum() > 0]
    assert still == []


@pytest.mark.parametrize("statistics", ["volume", "running"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_saved_weights_give_the_same_answers(volumes, tmp_path, variant, statistics):
    settings = VARIANTS[variant] | {"volume_statistics": statistics}
    model = model_of(**settings).train()
    model.volume_loss(*volumes)
    save_tensors(tmp_path / "weights.safetensors", model.state_dict())
    other = model_of(seed=5, **settings)
    other.load_state_dict(load_tensors(tmp_path / "weights.safetensors")[0])
    with torch.no_grad():
        assert other.eval()(*volumes[:3]).logits.equal(model.eval()(*volumes[:3]).logits)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    "A torchvision network as after a training, and files of its weights: with and without running estimates."
    torch.manual_seed(3)
    network = torchvision.models.resnet18().train()
    network(torch.randn(4, 3, 64, 64))
    folder, tensors = tmp_path_factory.mktemp("weights"), network.state_dict()
    save_tensors(folder / "whole.safetensors", tensors)
    bare = {name: value for name, value in tensors.items() if "running" not in name and "batches" not in name}
    save_tensors(folder / "bare.safetensors", bare)
    some = {name: value for name, value in tensors.items() if name != "layer1.0.bn1.running_var"}
    save_tensors(folder / "some.safetensors", some)
    return network.eval(), folder


@pytest.mark.parametrize(("file", "statistics"), [("whole", "volume"), ("whole", "running"), ("bare", "volume")])
@torch.no_grad()
def test_a_trunk_starts_from_a_file(theirs, file, statistics):
    "Without fusion and attention its vectors are those of the torchvision network."
    network, folder = copy.deepcopy(theirs[0]), theirs[1]
    trunk = build_slice_trunk(
        "resnet18",
        statistics=statistics,
        pretrained=str(folder / f"{file}.safetensors"),
        lung_fusion=False,
        map_attention=False,
    ).eval()
    slices, body = torch.randn(4, 3, 64, 64), nn.Sequential(*list(network.children())[:-1])
    expected = (body if statistics == "running" else body.train())(slices).flatten(1)
    torch.testing.assert_close(trunk(slices, torch.ones(4, 64, 64) > 0), expected, rtol=1e-4, atol=1e-5)


def test_running_estimates_of_a_file(theirs, tmp_path):
    "A file with none leaves them at 0 and 1; one that lacks some is refused; a volume run's weights fit again."
    _, folder = theirs
    parts = dict(statistics="running", lung_fusion=True, map_attention=True)
    fresh = build_slice_trunk("resnet18", pretrained=str(folder / "bare.safetensors"), **parts)
    assert (fresh.bn1.running_mean == 0).all() and (fresh.layer4[1].bn2.running_var == 1).all()
    with pytest.raises(InputError, match="layer1.0.bn1.running_var"):
        build_slice_trunk("resnet18", pretrained=str(folder / "some.safetensors"), **parts)
    model = create_model(VOLUME_MODEL, "resnet18", hidden_size=4)
    save_tensors(tmp_path / "run.safetensors", model.state_dict())
    for statistics in ("volume", "running"):
        made = create_model(
            VOLUME_MODEL, "resnet18", pretrained=str(tmp_path / "run.safetensors"), volume_statistics=statistics
        )
        assert made.trunk.conv1.weight.equal(model.trunk.conv1.weight)
        assert made.trunk.layer4[1].conv2.weight.equal(model.trunk.layer4[1].conv2.weight)
    with pytest.raises(InputError, match="running_mean"):
        create_model("lstm2", "resnet18", pretrained=str(folder / "bare.safetensors"))


class FlatTrunk(nn.Module):
    "A trunk of one's own: a mean over places and the share of lung."

    channels = 4

    def forward(self, slices, lungs):
        return torch.cat([slices.mean((2, 3)), lungs.double().mean((1, 2))[:, None]], 1)


def test_a_trunk_of_ones_own(volumes, monkeypatch):
    monkeypatch.setattr(slice_trunk, "TRUNKS", TRUNKS)
    register_trunk("flat", lambda detector, volume: FlatTrunk())
    try:
        model = model_of(slice_trunk="flat").eval()
        assert isinstance(model.trunk, FlatTrunk) and model.lstm.input_size == 4
        same(model(*volumes[:3]).logits[2], model(*alone(volumes, 2)[:3]).logits[0])
        with pytest.raises(InputError, match="there already"):
            register_trunk("flat", FlatTrunk)
        register_trunk("none", lambda detector, volume: nn.Identity())
        with pytest.raises(InputError, match="slice_trunk=none: .*channels"):
            model_of(slice_trunk="none")
    finally:
        TRUNKS.clear()
    for wrong in ("", "a b", 3):
        with pytest.raises(InputError, match="a name has letters"):
            register_trunk(wrong, FlatTrunk)
    with pytest.raises(InputError, match="'flat' is unknown.*--models"):
        model_of(slice_trunk="flat")
    plain = ResNextPlus(FlatTrunk(), hidden=3, width=4, classes=2, slice_attention=True).double()
    assert plain(*volumes[:3]).logits.shape == (3, 2)


# ------------------------------------------------------------------------------------------------- sizes and speed
def test_weights_are_as_many_as_counted_by_hand():
    "Torchvision's ResNeXt-50 without its last layer, and each part of the variants."
    trunk, lungs, maps = 25_028_904 - 2_049_000, 49 * 64, 2 * 64 * 4 + 2 * 81 + 1
    lstm, attention = 2 * 4 * 512 * (2048 + 512 + 2), 1024 * 512 + 512 + 512
    head = 1024 * 1024 + 1024 + 2 * 1024 + 2
    whole = trunk + lungs + maps + lstm + attention + head
    lacks = {"full": 0, "N-SCA": maps, "N-SLA": attention, "N-MSCA": lungs + maps}
    for variant, settings in VARIANTS.items():
        with torch.device("meta"):
            model = create_model(VOLUME_MODEL, **settings)
        assert sum(weight.numel() for weight in model.parameters()) == whole - lacks[variant], variant
    paper = DetectorSettings(backbone="resnext50_32x4d"), OneShotSettings(VOLUME_MODEL, ("A", "B"), hidden_size=512)
    assert sum(weight_counts(*paper).values()) == pytest.approx(whole - head * 7 / 8, rel=1e-3)


@pytest.mark.parametrize("backbone", ["resnet18", "resnext50_32x4d"])
def test_kept_numbers_are_about_as_estimated(backbone):
    detector = DetectorSettings(backbone=backbone, cut="layer3")
    settings = OneShotSettings(VOLUME_MODEL, classes=("A", "B"), hidden_size=1, classifier_width=1)
    trunk = build_slice_trunk(backbone, "layer3", lung_fusion=True, map_attention=True).train()
    kept, weights = {}, {weight.data_ptr() for weight in trunk.parameters()}
    hooks = torch.autograd.graph.saved_tensors_hooks(lambda x: kept.setdefault((x.data_ptr(), x.numel()), x), id)
    with hooks:
        trunk(torch.randn(1, 3, 64, 64), torch.ones(1, 64, 64) > 0)
    counted = sum(value.numel() for (at, _), value in kept.items() if at not in weights)
    alone = estimated_memory(detector, settings, 64, 0)
    assert 0.9 < (estimated_memory(detector, settings, 64, 1) - alone) / 4 / counted < 1.1


def test_the_paper_fits_its_gpu():
    paper = DetectorSettings(backbone="resnext50_32x4d"), OneShotSettings(VOLUME_MODEL, hidden_size=512)
    check_memory(*paper, 224, 50, available=24 * 2**30)
    with pytest.raises(InputError, match="fewer volume_slices or recompute=true take less"):
        check_memory(*paper, 224, 50, available=4 * 2**30)
    check_memory(*paper, 224, 50, 4 * 2**30, True)
    with pytest.raises(InputError, match="fewer volume_slices take less"):
        check_memory(*paper, 224, 50, 2**30, True)


def test_the_smallest_picture_trains():
    detector, settings = DetectorSettings(backbone="resnet18", cut="layer4"), OneShotSettings(VOLUME_MODEL)
    check_sizes(detector, settings, 33)
    with pytest.raises(InputError, match="image_size=32: too small"):
        check_sizes(detector, settings, 32)
    model = model_of(cut="layer4").train()
    one = torch.randn(1, 1, 3, 33, 33).double(), torch.ones(1, 1, 33, 33) > 0, torch.ones(1, 1) > 0
    assert model.volume_loss(*one, torch.tensor([0]))[0].isfinite()


@pytest.mark.parametrize("backbone", ["vgg16", "resnet81"])
def test_a_backbone_without_stages_is_refused(backbone):
    with pytest.raises(InputError, match=backbone):
        create_model(VOLUME_MODEL, backbone)


@torch.no_grad()
def test_another_precision_and_order_in_memory_is_the_same_network(volumes):
    slices, lungs, valid = torch.nan_to_num(volumes[0]).float(), *volumes[1:3]
    model = model_of().float().eval()
    usual, names = model(slices, lungs, valid), list(model.state_dict())
    Execution(channels_last=True).applied(model)
    assert list(model.state_dict()) == names and model.trunk.lungs.weight.is_contiguous(
        memory_format=torch.channels_last
    )
    torch.testing.assert_close(model(slices, lungs, valid).logits, usual.logits, rtol=1e-3, atol=1e-4)
    with Execution(precision="bf16").autocast(torch.device("cpu")):
        fast = model(slices, lungs, valid)
    assert fast.logits.dtype == fast.attention.dtype == fast.states.dtype == torch.float32
    torch.testing.assert_close(fast.probabilities, usual.probabilities, rtol=0.05, atol=0.02)
    torch.testing.assert_close(fast.attention.sum(1), torch.ones(3))


def test_training_in_bf16_is_finite(volumes):
    model = model_of().float().train()
    parts = torch.nan_to_num(volumes[0]).float(), *volumes[1:3]
    with Execution(precision="bf16").autocast(torch.device("cpu")):
        loss, _ = model.volume_loss(*parts, volumes[3])
    loss.backward()
    assert loss.dtype == torch.float32 and all(value.isfinite().all() for value in gradients(model).values())
