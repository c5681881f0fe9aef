"""Another way of computing is the same network: names, answers, operators of a batch, no gradient that nobody uses."""

import pytest
import torch
from test_models import close, model_of
from torch.nn import functional as F

from covid_workbench.errors import InputError
from covid_workbench.models.execution import Execution, parts_of_fixed_shape
from covid_workbench.models.norm import PerImageBatchNorm2d
from covid_workbench.models.rois import fill_randomly, slots_from_draw
from covid_workbench.speed.counting import count


@torch.no_grad()
def test_channels_last_and_bf16_keep_names_and_answers(slices):
    model = model_of("lstm2").eval()
    usual, names = model(slices[0]).evidence, list(model.state_dict())
    Execution(channels_last=True).applied(model)
    assert list(model.state_dict()) == names
    close(model(slices[0]).evidence.logits, usual.logits)
    with Execution(precision="bf16").autocast(torch.device("cpu")):
        fast = model(slices[0])
    assert fast.evidence.logits.dtype == fast.detections.boxes.dtype == fast.evidence.rois.scores.dtype == torch.float32
    close(fast.evidence.probabilities, usual.probabilities, 0.05)


def test_compiled_parts_are_those_of_fixed_shape(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: name)  # nothing is compiled here
    model, classifier = model_of("lstm2"), model_of("classifier")
    assert parts_of_fixed_shape(model) == [model.detector.backbone, model.detector.rpn.head]
    assert parts_of_fixed_shape(classifier) == [classifier.network]
    names = list(model.state_dict())
    Execution(compile="parts").applied(model)
    assert list(model.state_dict()) == names and model.detector.backbone._compiled_call_impl is not None


@pytest.mark.parametrize("name", ["lstm2", "ct-mask-net"])
@torch.no_grad()
def test_operators_of_a_batch(name):
    model = model_of(name).eval()
    one, many = (count(lambda images=torch.randn(size, 3, 64, 64): model(images)).operators for size in (1, 16))
    assert many <= 1.2 * one, (one, many)


@torch.no_grad()
def test_tied_heads_run_once_and_masks_where_asked_for(slices):
    model, passes = model_of("lstm2", score_threshold=0.0).eval(), []
    model.detector.roi_heads.box_head.register_forward_hook(lambda *_: passes.append(1))
    usual, some = model(slices[0]), model(slices[0], masks=[True, False, True])
    assert len(passes) == 2
    assert [len(own["masks"]) for own in some.detections] == [
        len(own["masks"]) * kept for own, kept in zip(usual.detections, (1, 0, 1))
    ]
    close(some.detections[2]["masks"], usual.detections[2]["masks"])


def test_a_pass_that_is_not_final_is_done_again(slices, monkeypatch):
    model, asked = model_of("lstm2").eval(), []
    whole = type(model)._answers

    def unsettled(self, *args, exact):
        asked.append(exact)
        output, settled = whole(self, *args, exact=exact)
        return output, settled and exact

    with torch.no_grad():
        usual = model(slices[0]).evidence.logits
        monkeypatch.setattr(type(model), "_answers", unsettled)
        assert model(slices[0]).evidence.logits.equal(usual) and asked == [False, True]


def test_the_image_loss_computes_no_gradient_of_tied_heads(slices):
    model = model_of("lstm2").train()
    model.classification_loss(slices[0], slices[2])[0].backward()
    held = [*model.detector.roi_heads.parameters(), *model.detector.rpn.parameters()]
    assert all(weight.grad is None for weight in held)
    assert any(weight.grad is not None for weight in model.detector.backbone.parameters())


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_statistics_of_each_image_are_those_of_batch_normalisation(rows, order):
    torch.manual_seed(0)
    layer = PerImageBatchNorm2d(4, rows_per_image=rows).double()
    x = (torch.randn(2 * rows, 4, 5, 6, dtype=torch.double) * 3 + 7).contiguous(memory_format=order).requires_grad_()
    goal, alone = torch.randn_like(x), [torch.nn.BatchNorm2d(4).double() for _ in range(2)]
    plain = torch.cat([norm(part) for norm, part in zip(alone, x.split(rows))])
    ours = layer(x)
    torch.testing.assert_close(ours, plain)
    for mine, theirs in zip(*(torch.autograd.grad((y * goal).sum(), x) for y in (ours, plain))):
        torch.testing.assert_close(mine, theirs)
    for name in ("running_mean", "running_var"):
        torch.testing.assert_close(getattr(layer, name), sum(getattr(norm, name) for norm in alone) / 2)


@pytest.mark.parametrize("beta", [2, 3, 6])
def test_random_filling_of_a_batch_is_that_of_its_slices(beta):
    counts, seeds = torch.arange(beta + 1), [7 * number % 5 for number in range(beta + 1)]
    draws = [torch.randperm(beta - 2, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    rows = [slots_from_draw(int(number), beta, draw) for number, draw in zip(counts, draws)]
    assert fill_randomly(counts, beta, seeds).equal(torch.stack(rows))


@torch.no_grad()
def test_large_pictures_are_read_one_by_one(slices, monkeypatch):
    "The answers are those of a batch; the backbone and the box head run once a slice."
    model, passes = model_of("lstm2").eval(), []
    usual = model(slices[0])
    monkeypatch.setattr("covid_workbench.models.detector.LARGE", 32)
    for part in (model.detector.backbone, model.detector.roi_heads.box_head):
        part.register_forward_hook(lambda *_: passes.append(1))
    alone = model(slices[0])
    assert len(passes) == 6
    close(alone.evidence.logits, usual.evidence.logits)
    for own, one in zip(alone.detections, usual.detections):
        close(own["boxes"], one["boxes"])


def test_compiling_without_a_compiler_is_refused(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(InputError, match="compile=parts needs a C.. compiler"):
        Execution(compile="parts").applied(model_of("lstm2"))


@torch.no_grad()
def test_the_random_convolution_is_merged_with_what_comes_before_it():
    "Also at the border, where it sees padding and no bias of the up-convolution."
    model = model_of("lstm2", protocol="released")
    heads, features = model.detector.roi_heads, torch.randn(3, 16, 14, 14)
    heads.mask_predictor.conv5_mask.bias.uniform_(-1, 1)
    model.regions.renew(heads)
    assert model.regions.convolution is not None and model.regions.copies is not None
    usual = F.pixel_unshuffle(model.regions.enlarge(heads, features), 2)
    torch.testing.assert_close(model.regions.squares(heads, features), usual, rtol=1e-4, atol=1e-5)
