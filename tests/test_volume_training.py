"""Training on volumes: what a step is, that it can be killed, shared out, begun elsewhere, and what it refuses."""

import json
import math
import shutil

import pandas as pd
import pytest
import torch
from conftest import assignments, contents, tiny
from test_training import torchrun

from covid_workbench.data.slices import SliceTable
from covid_workbench.errors import InputError
from covid_workbench.files import load_tensors
from covid_workbench.runs.datasets import ExperimentData, prepare_data
from covid_workbench.runs.experiment import Experiment, TrainingSettings
from covid_workbench.runs.load import build_model, load_model
from covid_workbench.runs.run import DivergedError, Run
from covid_workbench.runs.volume_data import volume_dataset
from covid_workbench.training import loop, volume_stage
from covid_workbench.training.train import memory_words, slices_at_once, train

VOLUMES = dict(model="resnext-plus", phantom_form="pictures", phantom_slices=4, volume_slices=3, threads=1)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    "The phantom that all of these runs train on."
    return tmp_path_factory.mktemp("volumes") / "shared"


@pytest.fixture(scope="module")
def table(shared) -> SliceTable:
    return prepare_data(tiny(**VOLUMES).data, shared, progress=False)


@pytest.fixture(scope="module")
def trained(shared, tmp_path_factory):
    "A complete volume run."
    folder = tmp_path_factory.mktemp("trained") / "run"
    return train(tiny(**VOLUMES, epochs=1), folder, shared=shared, progress=False)


def weights(run: Run) -> bytes:
    return (run.folder / "weights.safetensors").read_bytes()


def test_a_cyclic_rate_goes_up_and_down_between_a_tenth_and_the_rate():
    settings = TrainingSettings(schedule="cyclic", cycle_epochs=2.0)
    rates = [loop.learning_rate_at(step, 1000, 1e-4, settings, 10) for step in range(60)]  # cycles of 20 steps
    assert rates[0] == pytest.approx(1e-5) and rates[10] == pytest.approx(1e-4) and rates[5] == pytest.approx(5.5e-5)
    assert all(a < b for a, b in zip(rates[:10], rates[1:11])) and all(a > b for a, b in zip(rates[10:20], rates[11:]))
    assert rates[20:40] == rates[:20] and min(rates) == rates[40]
    short = TrainingSettings(schedule="cyclic", cycle_epochs=0.01)
    assert {round(loop.learning_rate_at(step, 9, 1.0, short, 10), 6) for step in range(9)} == {0.1, 1.0}


def test_the_length_of_a_cycle_counts_in_volumes(trained):
    data = ExperimentData(trained.experiment, trained.table)
    stage = volume_stage.volume_stage(build_model(trained.experiment), data, torch.device("cpu"))
    volumes = len(stage_volumes(trained))
    assert stage.epoch_steps == stage.steps == volumes and len(trained.history) == volumes
    old = json.loads((trained.folder / "experiment.json").read_text())
    assert old["training"].pop("cycle_epochs") == 4.0  # of a run from before the setting
    assert Experiment.make("paper", model="resnext-plus").training.schedule == "cyclic"


def stage_volumes(run: Run) -> set[str]:
    "Patients whose volumes were trained on."
    frame = run.table.frame
    return set(frame["patient"][(frame["split"] == "train") & frame["label"].isin(run.experiment.one_shot.classes)])


def test_a_step_of_several_volumes_is_the_mean_of_each_alone(table, shared):
    "Volumes of four, three and one slice; the padding of the batch never reaches the network."
    frame = table.frame
    mine = frame.index[(frame["split"] == "train") & frame["patient"].isin(("P0003", "P0007"))]
    short = table.where(~frame.index.isin(mine[frame.loc[mine, "index"] > 0]))
    experiment = tiny(**VOLUMES | dict(volume_slices=4), classification_batch=8, volume_statistics="volume")
    data = ExperimentData(experiment, short, shared=shared)
    model = build_model(experiment).train()
    task = volume_stage.volume_task(model, data, torch.device("cpu"))
    keys = next(task.keys(range(1)))
    batch = task.read(keys)
    assert len(set(batch["valid"].sum(1).tolist())) > 1

    def gradients(losses) -> list[torch.Tensor]:
        model.zero_grad()
        loop.backward(iter(losses))
        return [own.grad.clone() for own in model.parameters()]

    stage = volume_stage.volume_stage(model, data, torch.device("cpu"))
    whole = gradients(next(stage.losses(batch, 0)))
    alone = gradients((1 / len(keys), task.losses(task.read([key]), 0)) for key in keys)
    torch.testing.assert_close(whole, alone, rtol=0, atol=0)


@pytest.mark.parametrize("parts", [1, 2])
def test_volumes_that_are_normalised_together_go_through_together(table, shared, monkeypatch, parts):
    "Those of a step, or with accumulation those of a part of it; the memory of a step counts them."
    settings = VOLUMES | dict(volume_slices=4), dict(classification_batch=4, volume_statistics="batch")
    experiment = tiny(**settings[0], **settings[1], accumulation=parts)
    data, model = ExperimentData(experiment, table, shared=shared), build_model(experiment).train()
    task = volume_stage.volume_task(model, data, torch.device("cpu"))
    sizes, once = [], type(model).vectors
    monkeypatch.setattr(type(model), "vectors", lambda own, *x: sizes.append(len(x[0])) or once(own, *x))
    stage = volume_stage.volume_stage(model, data, torch.device("cpu"))
    terms = next(stage.losses(task.read(next(task.keys(range(1)))), 0))
    loop.backward(iter([(1.0, terms)]) if parts == 1 else terms)
    assert sizes == [4 // parts] * parts and slices_at_once(experiment) == 16 // parts
    assert f"{4 // parts} volumes together of up to 4 slices" in memory_words(experiment)


def test_training_may_draw_fewer_slices_than_are_read_afterwards(table, shared):
    experiment = tiny(**VOLUMES | dict(volume_slices=4), training_slices=2, epochs=1)
    volumes = volume_dataset(ExperimentData(experiment, table, shared=shared), "train", labelled=True)
    assert len(volumes.sample(0)["places"]) == 4
    drawn = {tuple(volumes.sample(0, seed)["places"].tolist()) for seed in range(40)}
    assert {len(places) for places in drawn} == {2} and len(drawn) == 6
    assert "up to 2 slices" in memory_words(experiment)


def killed_after(steps: int, monkeypatch) -> None:
    "Make the loop die as soon as it has written its checkpoint of step `steps`."
    write = loop._write_checkpoint

    def write_and_die(progress):
        write(progress)
        if progress.step >= steps:
            raise RuntimeError("killed")

    monkeypatch.setattr(loop, "_write_checkpoint", write_and_die)


@pytest.mark.parametrize(
    "more",
    [dict(volume_statistics="running"), dict(volume_statistics="batch"), dict(slice_attention=False, workers=1)],
)
def test_a_killed_run_ends_in_the_same_weights(tmp_path, shared, monkeypatch, more):
    steps = dict(classification_batch=2, balanced=True, schedule="cyclic", cycle_epochs=0.5, epochs=2)
    experiment = tiny(**VOLUMES | steps | more, checkpoint_minutes=0, validate_every=0.5)
    whole = train(experiment, tmp_path / "whole", shared=shared, progress=False)
    for at in (1, 3):
        with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="killed"):
            killed_after(at, patch)
            train(experiment, tmp_path / "run", shared=shared, resume=True, progress=False)
    again = train(experiment, tmp_path / "run", shared=shared, resume=True, progress=False)
    assert len(whole.history) > 4 and weights(again) == weights(whole)
    ours, theirs = (run.history.drop(columns="seconds") for run in (again, whole))
    pd.testing.assert_frame_equal(ours, theirs)
    if "workers" in more:
        plain = train(experiment.replace(workers=0), tmp_path / "plain", shared=shared, progress=False)
        assert weights(plain) == weights(whole)


def test_two_processes_take_the_steps_of_one(tmp_path, shared):
    steps = VOLUMES | dict(classification_batch=2, epochs=0.5, volume_statistics="running")
    one = train(tiny(**steps), tmp_path / "one", shared=shared, progress=False)
    shutil.copytree(shared, tmp_path / "shared")
    done = torchrun("train", tmp_path / "two", "--preset", "smoke", "--set", *assignments(**steps))
    assert done.returncode == 0 and done.stdout.count("weights in") == 1, done.stderr[-3000:]
    assert done.stdout.count("GB of memory") == 1
    two = Run.open(tmp_path / "two")
    ours, theirs = (run.history.drop(columns="seconds") for run in (one, two))
    pd.testing.assert_frame_equal(ours, theirs, rtol=1e-3, atol=1e-4)
    start, tensors = build_model(one.experiment).state_dict(), [load_tensors(run.folder / "weights.safetensors")[0]
                                                                for run in (one, two)]  # fmt: skip

    def length(of) -> float:
        names = [name for name, value in start.items() if value.is_floating_point()]
        return float(torch.cat([of(name).double().flatten() for name in names]).norm())

    moved = length(lambda name: tensors[0][name] - start[name])
    assert length(lambda name: tensors[1][name] - tensors[0][name]) < 0.02 * moved


def test_a_batch_that_cannot_be_shared_is_counted_in_volumes(table, monkeypatch):
    data = ExperimentData(tiny(**VOLUMES, classification_batch=3), table)
    task = volume_stage.volume_task(build_model(data.experiment), data, torch.device("cpu"))
    monkeypatch.setattr("covid_workbench.training.distributed.world_size", lambda: 2)
    with pytest.raises(InputError, match="a batch of 3 volumes cannot be divided evenly among 2 processes"):
        next(task.keys(range(1)))


def test_fine_tuning_starts_from_the_weights_of_a_volume_run(trained, shared, tmp_path):
    start = dict(VOLUMES, regime="fine-tune", start_from=str(trained.folder), epochs=0)
    same = train(tiny(**start, keep_classes=True), tmp_path / "same", shared=shared, progress=False)
    assert load_model(same).state_dict().keys() == load_model(trained).state_dict().keys()
    for ours, theirs in zip(load_model(same).state_dict().values(), load_model(trained).state_dict().values()):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    three = tiny(**start, classes=("Normal", "CP", "COVID-19"))
    other = load_model(train(three, tmp_path / "three", shared=shared, progress=False)).state_dict()
    changed = [name for name, value in load_model(trained).state_dict().items() if value.shape != other[name].shape]
    assert changed == ["head.2.weight", "head.2.bias"]
    slicewise = tiny(model="classifier", regime="fine-tune", start_from=str(trained.folder))
    with pytest.raises(InputError, match="a run of model=resnext-plus"):
        train(slicewise, tmp_path / "slicewise", shared=shared, progress=False)


def test_a_slice_that_cannot_be_read_is_refused_or_left_out(table, shared, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(table.roots[0], data)
    (data / "phantom.json").unlink()
    (data / "contents.json").unlink()
    broken = table.frame[(table.frame["split"] == "train") & (table.frame["label"] == "COVID-19")].iloc[0]
    (data / broken["image"]).write_bytes(b"no picture")
    experiment = tiny(**VOLUMES | dict(source=str(data)), epochs=0.1)
    with pytest.raises(InputError, match=broken["image"].rsplit("/", 1)[-1]):
        train(experiment, tmp_path / "refused", progress=False)
    run = train(experiment.replace(skip_broken=True), tmp_path / "run", progress=False)
    assert run.complete and list(run.record["left_out"]) == [broken["id"]]
    assert (run.table.frame["patient"] == broken["patient"]).sum() == 3


def test_a_split_without_a_volume_of_a_class_is_refused(table, tmp_path):
    "Normal slices of ill patients make no normal volume."
    frame = table.frame
    ill = frame["patient"].isin(frame["patient"][frame["label"] == "COVID-19"])
    healthy = ~ill & (frame["label"] == "Normal") & (frame["split"] == "validation")
    lacking = table.where(~healthy)
    unlabelled = (lacking.frame["label"] == "") & (lacking.frame["split"] == "validation")
    lacking.frame.loc[unlabelled, "label"] = "Normal"
    assert ((lacking.frame["label"] == "Normal") & (lacking.frame["split"] == "validation")).any()
    with pytest.raises(InputError, match="the validation split has no volume of class Normal"):
        train(tiny(**VOLUMES), tmp_path / "run", table=lacking, progress=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "settings, says",
    [
        (dict(train_slices=10), "train_slices=10 draws single slices"),
        (dict(test_slices=4), "test_slices=4 draws single slices"),
        (dict(regime="warm-start"), "regime=warm-start needs a model with regions"),
        (dict(regime="fine-tune"), "needs start_from=RUN"),
        (dict(schedule="triangular"), "schedule"),
        (dict(cycle_epochs=0), "cycle_epochs"),
    ],
)
def test_settings_that_do_not_go_with_volumes(settings, says):
    with pytest.raises(InputError, match=says):
        tiny(**VOLUMES | settings)


def test_memory_is_said_and_checked_before_anything_is_read(tmp_path, capsys, shared):
    run = train(tiny(**VOLUMES, epochs=0.1), tmp_path / "run", shared=shared)
    words = memory_words(run.experiment)
    assert words in capsys.readouterr().out and words in (run.folder / "log.txt").read_text()
    assert "up to 3 slices of 64x64" in words
    with pytest.raises(InputError, match=r"GB of memory.*with 4,096 slices a step"):
        train(tiny(**VOLUMES | dict(volume_slices=4096, image_size=2048)), tmp_path / "huge", progress=False)
    assert not (tmp_path / "huge").exists()


def test_a_training_that_diverges_is_marked(tmp_path, shared, monkeypatch):
    experiment = tiny(**VOLUMES, epochs=1)
    forward = volume_stage.volume_scores
    monkeypatch.setattr(volume_stage, "volume_scores", lambda *of: forward(*of) | {"loss": math.nan})
    with pytest.raises(DivergedError, match="diverged at step"):
        train(experiment, tmp_path / "scores", shared=shared, progress=False)
    model = build_model(experiment)
    attend = model.head.forward
    monkeypatch.setattr(model.head, "forward", lambda states: attend(states) * math.inf)
    with pytest.raises(DivergedError, match="diverged at step 1 of .*loss_image is"):
        train(experiment, tmp_path / "run", shared=shared, model=model, progress=False)
    assert not Run.open(tmp_path / "run").complete and Run.open(tmp_path / "run").diverged["stage"] == "volumes"


def test_among_equal_f1_the_lower_loss_is_chosen(monkeypatch):
    def scores(*chances) -> dict[str, float]:
        rows = pd.DataFrame({"label": ["A", "B", ""], "p_A": [chances[0], 1 - chances[1], 0.5]})
        rows["p_B"] = 1 - rows["p_A"]
        classes = {name: {"predicted": 0.5} for name in "AB"}
        metrics = {"classification": {"weighted_f1": 1.0, "classes": classes}}
        monkeypatch.setattr(volume_stage, "score_volumes", lambda *of: (metrics, rows))
        held = type("Held", (), {"classes": ("A", "B")})
        return volume_stage.volume_scores(None, held)

    sure, unsure = scores(0.9, 0.8), scores(0.6, 0.6)
    assert sure["score"] > unsure["score"] and sure["f1"] == unsure["f1"] == 1
    assert sure["loss"] == pytest.approx(-(math.log(0.9) + math.log(0.8)) / 2) and sure["predicted_A"] == 0.5
    assert 0 < 1 - scores(0.0, 0.0)["score"] < 0.02 and math.isnan(scores(math.nan, 0.5)["loss"])


def test_a_complete_run_is_left_alone(trained, shared):
    before = contents(trained.folder)
    train(trained.experiment, trained.folder, shared=shared, resume=True, progress=False)
    assert contents(trained.folder) == before
