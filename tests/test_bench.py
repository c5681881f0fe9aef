"""The plain path answers and learns as the fast one; what is counted; what a pretend device refuses; what is said."""

import json

import numpy as np
import pytest
import torch
from test_models import gradients, model_of

from covid_workbench.models.protocol import protocol_of
from covid_workbench.speed import suite
from covid_workbench.speed.counting import count
from covid_workbench.speed.evaluation import counted
from covid_workbench.speed.figures import Figure
from covid_workbench.speed.plain import PlainModel, differences, plain_slots
from covid_workbench.speed.plain_training import (
    drop_region_gradients,
    follow,
    plain_classification_loss,
    plain_losses,
)
from covid_workbench.speed.pretend import PRETEND, MixedDevices, PretendDevice, pretend
from covid_workbench.speed.timing import Timings, interleaved

LIKE_PLAIN = (
    *(("lstm2", "default"), ("lstm2", "released"), ("lstm2", "paper"), ("affinity", "released")),
    *(
        ("single-shot", "released"),
        ("ct-mask-net", "released"),
        ("mask-rcnn", "default"),
        ("gated-attention", "default"),
    ),
)


def pair_of(name, protocol, **settings):
    "A model with random weights and the plain path of the same weights."
    model = model_of(name, protocol=protocol, **settings)
    return model, PlainModel(model, protocol_of(protocol, name))


def assert_close(ours: dict, theirs: dict, tolerance: float) -> None:
    """Each equal up to `tolerance` of its own largest value, or a millionth of the largest of all, which is rounding
    where the exact value is zero; what one of them lacks must be zero in the other.
    """
    largest = max(float(value.detach().abs().max()) for value in theirs.values())
    for name in {*ours, *theirs}:
        value, other = (of.get(name, torch.zeros(())).detach() for of in (ours, theirs))
        own = float(other.abs().max())
        assert float((value - other).abs().max()) <= max(tolerance * own, 1e-6 * largest), name


@pytest.fixture(scope="module")
def slices():
    "Two network images, the lesions of the first, two labels."
    torch.manual_seed(1)
    mask = torch.zeros(2, 64, 64, dtype=torch.uint8)
    mask[0, 20:44, 10:40], mask[1, 46:60, 44:62] = 1, 1
    target = {
        "boxes": torch.tensor([[10.0, 20, 40, 44], [44, 46, 62, 60]]),
        "labels": torch.tensor([1, 2]),
        "masks": mask,
    }
    return torch.randn(2, 3, 64, 64), target, torch.tensor([0, 2])


@pytest.mark.parametrize("name, protocol", LIKE_PLAIN)
def test_a_batch_has_the_answers_of_the_plain_path(name, protocol, slices):
    "Lesions with their masks, logits, attention and regions."
    model, plain = pair_of(name, protocol)
    with torch.no_grad():
        output = model.eval()(slices[0])
        answers = [plain.phase("evaluation")(image) for image in slices[0]]
    apart = differences(output, answers)
    assert {"lesion masks", "lesion boxes"} <= set(apart) and ("logits" in apart) == (name != "mask-rcnn")
    # nine passes of refinement with random weights enlarge rounding
    assert max(apart.values()) < (1e-3 if name == "affinity" else 1e-4), apart


def test_on_a_pyramid_the_answers_are_those_of_the_plain_path_too(slices):
    model, plain = pair_of("lstm2", "default", levels=5)
    with torch.no_grad():
        apart = differences(model.eval()(slices[0]), [plain.phase("evaluation")(image) for image in slices[0]])
    assert max(apart.values()) < 1e-4, apart


@pytest.mark.parametrize(
    "name, protocol",
    [("lstm2", "default"), ("lstm2", "released"), ("single-shot", "paper"), ("ct-mask-net", "released")],
)
def test_a_training_step_has_the_losses_and_gradients_of_the_plain_one(name, protocol, slices):
    "Both phases, the copying of heads between them, and running statistics afterwards."
    images, target, labels = slices
    model, plain = pair_of(name, protocol)
    terms = model.train().segmentation_losses(images[:1], [target], [7])
    theirs = plain_losses(plain, images[0], target, 7)
    assert_close(terms, theirs, 1e-4)
    model.regions.follow(model.detector.roi_heads, sum(terms.values()).detach())
    follow(plain, float(sum(theirs.values()).detach()))
    sum(terms.values()).backward()
    sum(theirs.values()).backward()
    assert_close(gradients(model), gradients(plain), 1e-3)
    model.zero_grad()
    plain.zero_grad()
    model.classification_loss(images[:1], labels[:1], [3])[0].backward()
    plain_classification_loss(plain, images[0], labels[:1], 3).backward()
    drop_region_gradients(plain)
    assert_close(gradients(model), gradients(plain), 1e-3)
    running = {key: value for key, value in plain.named_buffers() if "running" in key}
    assert_close({key: value for key, value in model.named_buffers() if key in running}, running, 1e-4)


def test_the_difference_of_an_answer_is_seen(slices):
    "Another weight, and a detection more: neither passes for equal."
    model, plain = pair_of("lstm2", "default", detections=5)
    with torch.no_grad():
        plain.phase("evaluation")
        answers = [plain(image) for image in slices[0]]
        next(model.image_head.aggregator.parameters()).mul_(2)
        assert differences(model.eval()(slices[0]), answers)["logits"] > 1e-3
        plain.detector.roi_heads.detections_per_img = 4
        apart = differences(model(slices[0]), [plain(image) for image in slices[0]])
    assert apart["lesion boxes"] == np.inf


def test_slots_hold_every_region_once_and_in_order():
    for seed in (None, 0, 1):
        for number in range(9):
            slots = plain_slots(number, 6, seed)
            assert len(slots) == 6 and slots == sorted(slots) and set(slots) == set(range(min(max(number, 1), 6)))


def test_waits_are_counted_where_the_device_is_and_copies_in_both_directions():
    scores = pretend(torch.linspace(0, 1, 8))
    assert [
        count(way).waits for way in (lambda: scores.max().item(), lambda: scores * 2, lambda: scores[scores > 0.5])
    ] == [
        *(1, 0, 1),
    ]
    assert count(lambda: (scores * 2, torch.ones(3).sum().item())).waits == 0
    assert count(lambda: torch.ones(3).sum().item()).waits == 1
    assert count(lambda: scores.cpu()).waits_by_name == {"copy to the CPU": 1}
    assert count(lambda: torch.tensor([1.0], device=PRETEND)).waits_by_name == {"copy to the device": 1}
    assert count(lambda: torch.ones(3).to(PRETEND, non_blocking=True)).waits == 0


def test_the_pretend_device_computes_what_the_cpu_computes_and_refuses_a_mixture():
    weights = torch.nn.LSTM(3, 4, batch_first=True)
    x = torch.randn(2, 5, 3)
    with PretendDevice():
        there = pretend(weights)(pretend(x))[0]
        there.sum().backward()
        assert there.device == PRETEND
        torch.testing.assert_close(there.detach().cpu(), weights(x)[0].detach())
        with pytest.raises(MixedDevices, match="aten::add.*of the device.*of the CPU"):
            there + torch.ones(2, 5, 4)
        with pytest.raises(MixedDevices):
            torch.cat([there, torch.ones(2, 5, 4)])
        with pytest.raises(RuntimeError):
            there.detach().numpy()


@pytest.mark.parametrize("protocol", ["default", "released"])
def test_no_operator_of_evaluation_or_training_mixes_devices(protocol, slices):
    images, target, labels = slices
    model, _ = pair_of("lstm2", protocol)
    there, found = pretend(model), [pretend(target)]

    def step() -> None:
        terms = there.train().segmentation_losses(pretend(images[:1]), found, [7])
        (sum(terms.values()) + there.classification_loss(pretend(images[:1]), pretend(labels[:1]))[0]).backward()

    with torch.no_grad():
        done = count(lambda: there.eval()(pretend(images)))
    assert done.operators > 100 and count(step).operators > 500
    assert any(weight.grad is not None and weight.grad.device == PRETEND for weight in there.parameters())


def test_the_command_prints_figures_beside_their_goals_and_as_json(command, monkeypatch):
    "With parts that take no time; the parts themselves run in their notebooks."
    monkeypatch.setattr(
        suite, "PARTS", {"explain": lambda choice: [Figure("explain", "a", 1.0, "ms", 2.0), Figure("b", "c", 3)]}
    )
    code, out, _ = command("bench", "--what", "explain", "--size", 64, "--rounds", 1)
    assert code == 0 and "at least 2.00: falls short" in out and "weights are random" in out
    code, out, _ = command("bench", "--what", "explain", "--size", 64, "--json")
    content = json.loads(out)
    assert code == 0 and [row["met"] for row in content["figures"]] == [False, None]
    assert content["about"]["size"] == 64 and content["machine"]["torch"]


@pytest.mark.parametrize(
    "words, said",
    [
        (("--device", "cuda"), "finds no GPU here"),
        (("--model", "classifier"), "no regions and no plain path"),
        (("--protocol", "ours"), "give one of paper, released, default"),
        (("--model", "lstm3"), "unknown"),
        (("--batch", 0), "from 1 to 4096"),
    ],
)
def test_the_command_refuses_with_one_sentence(words, said, command, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    code, out, err = command("bench", "--size", 64, *words)
    assert code == 2 and said in err and not out and len(err.splitlines()) == 1


def test_works_take_turns_and_ratios_are_medians_over_rounds():
    turns = []
    interleaved({name: (lambda name=name: turns.append(name)) for name in "ab"}, rounds=2)
    assert turns == ["a", "b", "b", "a", "a", "b"]
    assert Timings({"slow": [2.0, 6.0, 4.0], "fast": [1.0, 2.0, 1.0]}).ratio("slow", "fast", 0.5) == 1.5


@pytest.mark.parametrize("protocol", ["default", "released"])
def test_sixteen_slices_take_hardly_more_operators_than_one_and_wait_twice_at_most(protocol):
    "On the pretend device, the whole evaluation with masks: the work is that of a batch, not of its slices."
    model, _ = pair_of("lstm2", protocol, detections=4)
    one, many = counted(model, 1, 64), counted(model, 16, 64)
    assert one.operators > 500 and many.operators <= 1.2 * one.operators, many
    assert many.waits <= 2 and one.waits <= 2, many
    assert counted(model, 16, 64, leaving=True).waits == many.waits + 1  # lesions and evidence together
