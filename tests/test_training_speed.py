"""Training as fast as it can be with the same numbers: slices read ahead, batches in parts, one wait a step, a fused
optimiser, no gradient that nobody takes, memory that stays where it is.
"""

import dataclasses
import itertools
import os
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import contents, tiny
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from covid_workbench.data.dataset import SliceDataset
from covid_workbench.data.slices import SliceTable
from covid_workbench.data.splits import split_by_patient
from covid_workbench.errors import InputError, StorageError
from covid_workbench.evaluation.inference import ScoredSlices
from covid_workbench.files import load_tensors
from covid_workbench.models import sampling
from covid_workbench.prefetch import read_ahead
from covid_workbench.runs.datasets import ExperimentData
from covid_workbench.runs.load import build_model
from covid_workbench.runs.run import DivergedError, Run
from covid_workbench.runs.seeds import each_step, rows_of_steps
from covid_workbench.training import loop, stages, tasks
from covid_workbench.training.distributed import by_parts
from covid_workbench.training.loop import Stage, run_stages
from covid_workbench.training.train import check_room, train

sys.path.append(str(Path(__file__).parent / "heavy"))

import memory_flat

CPU = torch.device("cpu")
CHANGED = dict(flips=True, scale=0.2, rotation=10, brightness=0.2, contrast=0.3)


@pytest.fixture(scope="module")
def table(phantom) -> SliceTable:
    return split_by_patient(SliceTable.from_csv(phantom / "slices.csv"))


def parts_of(table: SliceTable, **settings) -> ExperimentData:
    usual = dict(model="lstm2", regime="two-phase", epochs=1, segmentation_batch=4, classification_batch=4)
    return ExperimentData(tiny(**usual | settings), table)


def same(one, other) -> bool:
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and one.equal(other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    return len(one) == len(other) and all(map(same, one, other)) if isinstance(one, (list, tuple)) else one == other


# ---------------------------------------------------------------------------------------------- slices, read ahead
def test_batches_are_the_same_with_any_number_of_workers(table):
    found = []
    for workers in (0, 1, 3):
        parts = parts_of(table, **CHANGED, balanced=True, workers=workers)
        [stage] = stages.stages_of(build_model(parts.experiment), parts, CPU)
        found.append(list(stage.batches(range(5, 9))))
    assert same(found[0], found[1]) and same(found[0], found[2]) and len(found[0]) == 4
    assert not same(found[0][0], found[0][1])


def test_what_is_wrong_with_a_slice_is_said_as_without_workers(table, tmp_path):
    bad = table.frame.copy()
    (tmp_path / "bad.png").write_bytes(b"no picture")
    bad["image"] = str(tmp_path / "bad.png")
    said = []
    for workers in (0, 2):
        parts = parts_of(table.with_rows(bad), model="classifier", workers=workers)
        [stage] = stages.stages_of(build_model(parts.experiment), parts, CPU)
        with pytest.raises(InputError) as caught:
            next(stage.batches(range(2)))
        said.append(str(caught.value))
    assert said[0] == said[1] and "bad.png" in said[0] and "\n" not in said[0]


def test_a_worker_that_dies_is_one_sentence():
    with pytest.raises(StorageError, match="workers=0"):
        list(read_ahead(lambda key: os._exit(1) if key == 2 else key, range(4), workers=2))


def test_no_number_of_ours_depends_on_the_workers():
    "The global generator of torch is left alone."
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    list(read_ahead(lambda key: key, range(2), workers=1))
    assert torch.rand(2).equal(expected)


@pytest.mark.parametrize("how", [{}, {"replacement": True}, {"classes": ["a", "b", "b", "b", "b", "b"]}])
def test_rows_are_drawn_step_by_step_and_none_is_held(how):
    rows = [3, 4, 5, 6, 7, 8]
    late = range(10**9, 10**14)  # as a list they would fill any memory
    drawn = list(itertools.islice(each_step(rows, 2, late, 0, "x", **how), 4))
    assert drawn == rows_of_steps(rows, 2, range(10**9, 10**9 + 4), 0, "x", **how)
    assert drawn[2:] == rows_of_steps(rows, 2, range(10**9 + 2, 10**9 + 4), 0, "x", **how)  # a resumed run's


# ------------------------------------------------------------------------------------------------ a batch in parts
@pytest.fixture
def double(monkeypatch):
    "Models, images and boxes in double precision."
    plain = {name: getattr(sampling, name) for name in ("roi_align", "roi_align_separable")}
    images, targets, build = SliceDataset.images, tasks.lesion_targets_of, build_model

    def pool(name: str):
        def pooled(features, boxes, *more):
            boxes = [own.to(features.dtype) for own in boxes] if isinstance(boxes, list) else boxes.to(features.dtype)
            return plain[name](features, boxes, *more)

        return pooled

    def wide(batch, device):
        return [own | {"boxes": own["boxes"].double()} for own in targets(batch, device)]

    def widened(model):  # boxes and scores are single precision in any model
        model.image_head.register_forward_pre_hook(lambda head, inputs: tuple(value.double() for value in inputs))
        return model

    for name in plain:
        monkeypatch.setattr(sampling, name, pool(name))
    monkeypatch.setattr(SliceDataset, "images", lambda self, batch, device=None: images(self, batch, device).double())
    monkeypatch.setattr(tasks, "lesion_targets_of", wide)
    monkeypatch.setitem(globals(), "build_model", lambda experiment: widened(build(experiment).double()))


def gradients(data: ExperimentData, parts: int) -> list[dict[str, torch.Tensor]]:
    "Gradients and running statistics after each task's losses, and the losses."
    model, found = build_model(data.experiment.replace(accumulation=parts)), []
    data = dataclasses.replace(data, experiment=data.experiment.replace(accumulation=parts))
    [stage] = stages.stages_of(model, data, CPU)
    model.train()
    for own in stage.losses(next(stage.batches(range(1))), 0):
        model.zero_grad()
        own = iter([(1.0, own)]) if isinstance(own, dict) else by_parts(model, own)
        terms = loop.backward(own)
        named = {f"gradient {name}": value.grad for name, value in model.named_parameters() if value.grad is not None}
        found.append(named | {name: value.clone() for name, value in model.named_buffers()} | terms)
    return found


@pytest.mark.parametrize(
    "settings",
    [dict(), dict(protocol="released", model="lstm1"), dict(model="ct-mask-net", segmentation_empty=1, **CHANGED)],
    ids=["lstm2", "released", "ct-mask-net"],
)
def test_parts_of_a_batch_add_up_to_the_whole(table, settings, double):
    """Losses, gradients and running statistics, also of uneven parts; copies of the heads follow the loss of the whole.

    In double precision: single slices and batches are rounded differently, which is up to 1e-3 of a gradient.
    """
    data = parts_of(table, **settings)
    whole = gradients(data, 1)
    for parts in (3, 100):
        for one, other in zip(whole, gradients(data, parts), strict=True):
            assert one.keys() == other.keys()
            own = [name for name in one if name.startswith("gradient")]
            assert length(one[name] - other[name] for name in own) < 1e-6 * length(one[name] for name in own)
            for name in one.keys() - {*own}:
                torch.testing.assert_close(other[name], one[name], rtol=1e-6, atol=1e-6)


def length(tensors) -> float:
    "Of many tensors as one vector."
    return float(torch.cat([tensor.double().flatten() for tensor in tensors]).norm())


def test_parts_need_the_memory_of_a_part(monkeypatch):
    asked = []
    monkeypatch.setattr("covid_workbench.training.train.check_memory", lambda *words: asked.append(words[3]))
    for parts in (1, 3):
        check_room(tiny(segmentation_batch=6, segmentation_empty=1, accumulation=parts), CPU)
    assert asked == [7, 3]


# ----------------------------------------------------------------------------------------------- one wait in a step
class Waits(TorchDispatchMode):
    "Operators that make the host wait for numbers of a device."

    names = ("_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "nms")

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        name = function._schema.name.split("::")[1]
        if name in self.names:
            self.found.append(name)
        return function(*arguments, **named or {})


class Layer(nn.Module):
    "A convolution with running statistics behind it, two losses a task, two tasks a step."

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 1))

    def stage(self, steps: int, raise_at: int = -1) -> Stage:
        def batches(steps):
            return (torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(step)) for step in steps)

        def losses(batch, step):
            for _ in range(2):
                y = self.layers(batch)
                yield {"loss_a": y.square().mean(), "loss_b": (y - 1).abs().mean(), "share": y.detach().mean()}
            if step == raise_at:
                raise KeyboardInterrupt

        def validate():
            return {"score": 0.0}

        return Stage("layer", steps, 0.01, list(self.parameters()), batches, losses, validate, validate_every=steps)


def run_of(folder, **settings) -> Run:
    table = SliceTable(pd.DataFrame([dict(id="a", patient="P1", image="a.png")]))
    return Run.create(folder, tiny(**settings), table, resume=True)


def test_a_step_asks_for_its_numbers_once(tmp_path, monkeypatch):
    layer, fetched = Layer(), []
    stepper = loop._Stepper(run_of(tmp_path / "run", gradient_clip=10), layer, layer.stage(9))
    batch, plain = next(layer.stage(9).batches(range(1))), torch.Tensor.tolist
    stepper.take_step(0, batch)
    monkeypatch.setattr(torch.Tensor, "tolist", lambda self: fetched.append(len(self)) or plain(self))
    with Waits() as waits:
        row = stepper.take_step(1, batch)
    assert waits.found == [] and fetched == [10]  # two tasks of three terms, a gradient norm and a check
    assert set(row) == {"learning_rate", "loss_a", "loss_b", "share"} and all(
        type(value) is float for value in row.values()
    )


def test_losses_that_are_no_numbers_are_the_news_even_if_they_break_what_comes_next(tmp_path):
    "The second task of a step meets weights of NaN before the numbers of the first are fetched."
    layer = Layer()
    start, stage = {name: value.clone() for name, value in layer.state_dict().items()}, layer.stage(3)

    def losses(batch, step):
        yield {"loss_first": layer.layers(batch).mean() * float("nan")}
        raise RuntimeError("selected index k out of range")

    with pytest.raises(DivergedError, match="loss_first is nan"):
        run_stages(run_of(tmp_path / "run"), layer, [dataclasses.replace(stage, losses=losses)], progress=False)

    layer.load_state_dict(start)

    def broken(batch, step):
        yield {"loss_first": layer.layers(batch).mean()}
        raise RuntimeError("a fault of its own")

    with pytest.raises(RuntimeError, match="of its own"):
        run_stages(run_of(tmp_path / "other"), layer, [dataclasses.replace(stage, losses=broken)], progress=False)


def test_norms_and_clipping_are_those_of_torch():
    torch.manual_seed(0)
    values = [torch.randn(3, 4), torch.randn(5), torch.randn(2, 2, 3, 3)]
    for clip in (0, 1.5, 100):
        parameters = [nn.Parameter(value.clone()) for value in values]
        for parameter, value in zip(parameters, values):
            parameter.grad = value.clone()
        own = {str(number): value.clone() for number, value in enumerate(values)}
        norms, norm = loop._clipped(own, clip)
        assert norm.allclose(nn.utils.clip_grad_norm_(parameters, clip or 1e9)) and len(norms) == 3
        for mine, parameter in zip(own.values(), parameters):
            torch.testing.assert_close(mine, parameter.grad if clip else mine)
        assert clip or all(mine.equal(value) for mine, value in zip(own.values(), values))


# ---------------------------------------------------------------------------------------------- the fused optimiser
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_the_fused_optimiser_takes_the_steps_of_the_plain_one(tmp_path, monkeypatch, order, optimizer):
    "Whatever the order in memory of weights and gradients; killed and continued it ends in the same bits."
    settings = dict(optimizer=optimizer, weight_decay=0.1, gradient_clip=0, checkpoint_minutes=0)
    network, ends = {"adam": "Adam", "adamw": "AdamW"}[optimizer], {}
    made = getattr(torch.optim, network)
    for name, stop in (("whole", -1), ("stopped", 3), ("plain", -1)):
        if name == "plain":
            monkeypatch.setattr(torch.optim, network, lambda *words, fused, **more: made(*words, foreach=False, **more))
        layer = Layer().to(memory_format=order)
        layer.layers[0].weight.register_hook(lambda gradient: gradient.contiguous() * 1)  # a layout of its own
        run = run_of(tmp_path / name, **settings)
        if stop > 0:
            with pytest.raises(KeyboardInterrupt):
                run_stages(run, layer, [layer.stage(8, raise_at=stop)], progress=False)
            tensors, note = load_tensors(run.folder / "checkpoint.safetensors")
            assert note["step"] == 3 and tensors["optimizer.0.step"].shape == ()
            layer = Layer().to(memory_format=order)
        run_stages(run, layer, [layer.stage(8)], progress=False)
        ends[name] = {key: value.clone().contiguous() for key, value in layer.state_dict().items()}
    assert same(ends["whole"], ends["stopped"])
    for key, value in ends["plain"].items():
        torch.testing.assert_close(ends["whole"][key], value, rtol=1e-4, atol=1e-5)


def test_gradients_lie_in_memory_as_their_weights_do():
    "Else the fused optimiser would move each weight by the gradient of another."
    layer = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    gradient = torch.randn(4, 3, 3, 3)
    layer.weight.grad = gradient.clone()
    loop.lay_alike(list(layer.parameters()))
    assert layer.weight.grad.equal(gradient) and layer.weight.grad.stride() == layer.weight.stride()


# --------------------------------------------------------------------------- work that nobody asked for is not done
def test_gradients_that_nobody_takes_are_not_computed(table):
    experiment = parts_of(table, model="ct-mask-net", regime="two-stage", update="heads").experiment
    model = build_model(experiment)
    stage = stages.stages_of(model, ExperimentData(experiment, table), CPU)[1]
    run_backward = []
    model.detector.backbone.body.conv1.register_full_backward_hook(lambda *words: run_backward.append(words))
    model.train()
    with loop.gradients_for(model, stage.parameters):
        [terms] = stage.losses(next(stage.batches(range(1))), 0)
        terms["loss_image"].backward()
    with_gradient = {name for name, value in model.named_parameters() if value.grad is not None}
    assert with_gradient and all(name.startswith("image_head.") for name in with_gradient) and not run_backward
    assert all(value.requires_grad for value in model.detector.backbone.parameters())


@pytest.mark.parametrize("masks", [True, False])
def test_validation_looks_for_lesions_only_where_masks_say_which_are_right(table, masks, monkeypatch):
    frame = table.frame.copy()
    if not masks:
        frame.loc[frame["split"] == "validation", "mask"] = ""
    data, asked = parts_of(table.with_rows(frame)), []

    def score(model, dataset, **words):
        asked.append(words)
        return ScoredSlices({"classification": None, "detection": None}, None, None)

    monkeypatch.setattr(stages, "score_slices", score)
    stages.stages_of(build_model(data.experiment), data, CPU)[0].validate()
    assert asked[0]["detections"] is masks and asked[0]["evidence"] is True


# ----------------------------------------------------------------------------------------------------- whole runs
FAST = dict(workers=1, accumulation=2, precision="bf16", channels_last=True, checkpoint_minutes=0, validate_every=2)


def test_a_run_with_all_of_it_is_killed_and_ends_in_the_same_weights(table, tmp_path, monkeypatch):
    parts = parts_of(table, **FAST, **CHANGED)
    whole = train(parts.experiment, tmp_path / "whole", table=table, progress=False)
    plain, taken = loop._Stepper.take_step, []

    def step(self, number, batch):
        if len(taken) == 2:
            raise KeyboardInterrupt
        taken.append(number)
        return plain(self, number, batch)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop._Stepper, "take_step", step)
        train(parts.experiment, tmp_path / "killed", table=table, progress=False)
    held, _ = load_tensors(tmp_path / "killed" / "checkpoint.safetensors")
    assert {value.dtype for name, value in held.items() if name.startswith("model.")} == {torch.float32, torch.int64}
    again = train(parts.experiment, tmp_path / "killed", table=table, progress=False, resume=True)
    assert contents(again.folder)["weights.safetensors"] == contents(whole.folder)["weights.safetensors"]
    slow = train(
        parts.experiment.replace(workers=0, accumulation=1, precision="fp32", channels_last=False),
        tmp_path / "slow",
        table=table,
        progress=False,
    )
    losses = [run.history.filter(like="loss_") for run in (whole, slow)]
    assert (losses[0].iloc[0] - losses[1].iloc[0]).abs().max() < 0.02  # before the weights move: bfloat16 alone


def test_memory_stays_where_it_is(tmp_path):
    "The short form of tests/heavy/memory_flat.py: tensors that Python holds, not pages of the system."
    experiment = parts_of(None, checkpoint_minutes=60, segmentation_batch=1, classification_batch=1).experiment
    held = []

    def look(number: int) -> None:
        if number in (8, 16, 24, 32):
            held.append(memory_flat.live_tensors())

    memory_flat.train_steps(experiment, tmp_path, 34, look)
    assert len(held) == 4 and max(held[2:]) <= max(held[:2])
    held.clear()
    memory_flat.evaluate_slices(experiment, tmp_path, 40, look)
    assert len(held) == 4 and max(held[2:]) <= max(held[:2])
