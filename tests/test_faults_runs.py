"""Run folders as somebody left them: edited, cut, of other data, of another machine. One sentence names file and field,
and nothing is scored or overwritten.
"""

import json
import math
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import as_older, contents, tiny
from PIL import Image

from covid_workbench.data.slices import SliceTable
from covid_workbench.errors import InputError, WorkbenchError
from covid_workbench.evaluation.evaluate import evaluate
from covid_workbench.files import load_tensors, save_tensors
from covid_workbench.runs.datasets import ExperimentData
from covid_workbench.runs.lineage import earlier_runs
from covid_workbench.runs.load import adopt_weights, build_model, choose_device, load_model
from covid_workbench.runs.region_cache import cached_regions
from covid_workbench.runs.run import Run, note_cost, run_logger
from covid_workbench.training.loop import run_stages
from covid_workbench.training.stages import stages_of
from covid_workbench.training.train import train


@pytest.fixture
def copy(finished, tmp_path) -> Run:
    "A copy of a finished run that may be damaged, its detector beside it."
    for path in (finished.folder.parent / "shared").iterdir():
        if path.name.startswith("detector-"):
            shutil.copytree(path, tmp_path / "shared" / path.name)
    return Run.open(shutil.copytree(finished.folder, tmp_path / "copy"))


def edit(path, change) -> None:
    "Change the content of a JSON file."
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def one_sentence(error: Exception, *words) -> None:
    assert "\n" not in str(error) and "Traceback" not in str(error)
    for word in words:
        assert str(word) in str(error), (word, str(error))


# ---- files of a run


READERS = {
    "experiment.json": lambda folder: Run.open(folder).table,
    "slices.csv": lambda folder: Run.open(folder).table,
    "history.csv": lambda folder: Run.open(folder).history,
    "metrics.json": lambda folder: Run.open(folder).metrics,
    "predictions.csv": lambda folder: Run.open(folder).predictions,
    "warm_start.json": lambda folder: Run.open(folder).detector,
    "diverged.json": lambda folder: Run.open(folder).diverged,
    "weights.safetensors": lambda folder: load_model(Run.open(folder)),
}
DAMAGES = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3]),
    "empty": lambda path: path.write_bytes(b""),
    "binary": lambda path: path.write_bytes(bytes(range(256)) * 9),
    "folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_named(copy, name, damage):
    path = copy.folder / name
    if name == "diverged.json":
        path.write_text(json.dumps(dict(stage="a", step=1, steps=2, what="b", learning_rate=1, setting="c")))
    DAMAGES[damage](path)
    if (name, damage) == ("predictions.csv", "cut"):  # a table that ends early is a table; nothing else is known of it
        return
    with pytest.raises(WorkbenchError) as caught:
        READERS[name](copy.folder)
    one_sentence(caught.value, copy.folder if (name, damage) == ("weights.safetensors", "folder") else path.name)


@pytest.mark.parametrize(
    "name, change, says",
    [
        ("experiment.json", lambda content: content.pop("record"), "record"),
        ("experiment.json", lambda content: content["record"].pop("data_root"), "record.data_root"),
        ("experiment.json", lambda content: content["record"].update(data=5), "record.data"),
        ("experiment.json", lambda content: content.update(format=99), "newer"),
        ("experiment.json", lambda content: content.update(training=[1]), "training"),
        ("experiment.json", lambda content: content["training"].update(epochs="many"), "epochs"),
        ("experiment.json", lambda content: content["one_shot"].pop("roi_batch"), "roi_batch"),
        ("metrics.json", lambda content: content["test"]["classification"].update(weighted_f1="good"), "weighted_f1"),
        ("warm_start.json", lambda content: content.update(detector=7), "detector"),
        ("warm_start.json", lambda content: content.update(detector="."), "detector"),
        ("warm_start.json", lambda content: content.update(detector="../nowhere"), "detector"),
    ],
)
def test_a_wrong_field_is_named(copy, name, change, says):
    edit(copy.folder / name, change)
    with pytest.raises(InputError) as caught:
        READERS[name](copy.folder)
    one_sentence(caught.value, name, says)


def test_fields_that_came_later_are_no_obstacle(copy):
    for name in ("metrics.json", "warm_start.json", "cost.json"):
        edit(copy.folder / name, lambda content: content.update(tomorrow={"device": "x", "threads": 1}))
    edit(copy.folder / "experiment.json", lambda content: content["record"].update(tomorrow=1))
    run = Run.open(copy.folder)
    assert run.metrics["tomorrow"] and run.detector and evaluate(run, splits=["test"], progress=False)


def test_detectors_in_a_circle(copy):
    "Two runs that name each other as their detector."
    detector = copy.detector.folder
    (detector / "warm_start.json").write_text(json.dumps({"detector": "../../copy"}))
    with pytest.raises(InputError, match="warm_start.json: field 'detector'"):
        print(copy.training_seconds)


def test_a_damaged_history_of_the_detector_is_named(copy):
    (copy.detector.folder / "history.csv").write_text("stage,step,seconds\na,1,soon\n")
    with pytest.raises(InputError, match="history.csv: column 'seconds', row 1"):
        print(copy.training_seconds)


def test_runs_that_start_from_each_other(copy, tmp_path):
    other = shutil.copytree(copy.folder, tmp_path / "other")
    for one, another in ((copy.folder, other), (other, copy.folder)):
        settings = dict(regime="fine-tune", start_from=str(another))
        edit(one / "experiment.json", lambda content, settings=settings: content["training"].update(settings))
    experiment = copy.experiment.replace(regime="fine-tune", start_from=str(copy.folder))
    with pytest.raises(InputError, match="start_from=.* leads back"):
        list(earlier_runs(experiment))


def test_a_log_or_cost_that_cannot_be_written_stops_no_run(copy, tmp_path):
    for name in ("log.txt", "cost.json"):
        (copy.folder / name).unlink()
    (copy.folder / "log.txt").mkdir()
    run_logger(copy.folder).info("nobody reads this")
    (copy.folder / "cost.json").write_text('{"training": ')
    note_cost(copy, "evaluation", torch.device("cpu"), seconds=1)
    assert json.loads((copy.folder / "cost.json").read_text())["evaluation"]["seconds"] == 1


# ---- settings that were edited


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda content: content["one_shot"].update(ranking="score"), "edited"),
        (lambda content: content["one_shot"].update(classes=["COVID-19", "CP", "Normal"]), "edited"),
        (lambda content: content["data"].pop("min_lesion_area"), "min_lesion_area"),
    ],
)
def test_settings_that_were_edited_are_not_scored(command, copy, finished, change, says):
    edit(copy.folder / "experiment.json", change)
    before = contents(copy.folder)
    code, _, err = command("evaluate", copy.folder)
    assert code == 2 and len(err.splitlines()) == 1 and "experiment.json" in err and says in err, err
    with pytest.raises(InputError, match="experiment.json"):
        train(finished.experiment, copy.folder, resume=True, progress=False)
    with pytest.raises(InputError, match="experiment.json"):
        adopt_weights(build_model(finished.experiment), Run.open(copy.folder))
    assert contents(copy.folder) == before


def test_a_device_may_be_edited_and_older_runs_have_no_hash(copy):
    edit(copy.folder / "experiment.json", lambda content: content["training"].update(device="cpu"))
    load_model(Run.open(copy.folder))
    as_older(copy.folder, "allow_crossing")
    run = Run.open(copy.folder)
    assert run.experiment.data.allow_crossing is False and load_model(run) and len(run.table)


# ---- data that changed under a run


def cut(copy):
    lines = (copy.folder / "slices.csv").read_text().splitlines(keepends=True)
    (copy.folder / "slices.csv").write_text("".join(lines[: len(lines) // 2]))


def other_label(copy):
    path = copy.folder / "slices.csv"
    path.write_text(path.read_text().replace(",CP,", ",Normal,", 1))


def older_and_cut(copy):
    "As a run from before the hash of `slices.csv`."
    edit(copy.folder / "experiment.json", lambda content: content["record"].pop("slices_sha256"))
    cut(copy)


def one_gone(copy):
    (copy.table.root / copy.table.frame["image"].iloc[2]).unlink()


def one_replaced(copy):
    "Another picture of the same size in bytes (the files are BMPs)."
    path = copy.table.root / copy.table.frame["image"].iloc[2]
    size = path.stat().st_size
    Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    assert path.stat().st_size == size


CHANGES = {
    cut: "slices.csv",
    other_label: "slices.csv",
    older_and_cut: "rows of its table",
    one_gone: "no file",
    one_replaced: "data changed",
}


@pytest.fixture(scope="module")
def on_files(phantom, tmp_path_factory) -> Run:
    "A finished run on a folder of BMPs."
    folder = tmp_path_factory.mktemp("bmps")
    shutil.copytree(phantom, folder / "data")
    frame = pd.read_csv(folder / "data" / "slices.csv", dtype=str, keep_default_na=False)
    for name in frame["image"]:
        Image.open(folder / "data" / name).save((folder / "data" / name).with_suffix(".bmp"))
    frame["image"] = frame["image"].str.replace(".png", ".bmp")
    frame.to_csv(folder / "data" / "slices.csv", index=False)
    return train(tiny(model="mask-rcnn", source=str(folder / "data")), folder / "runs" / "run", progress=False)


@pytest.mark.parametrize("change", CHANGES)
def test_other_data_are_not_scored_and_not_trained_on(on_files, tmp_path, change):
    shutil.copytree(on_files.folder.parents[1], tmp_path / "moved")  # the data move with the run
    run = Run.open(tmp_path / "moved" / "runs" / "run")
    edit(run.folder / "experiment.json", lambda content: content["record"].update(data_root=str(tmp_path / "gone")))
    assert run.table.root.resolve() == (tmp_path / "moved" / "data").resolve()
    change(run)
    with pytest.raises(InputError) as caught:
        evaluate(run, progress=False)
    one_sentence(caught.value, CHANGES[change])
    assert not (run.folder / "metrics.json").exists()
    (run.folder / "weights.safetensors").unlink()  # as if killed before its end
    with pytest.raises(InputError):
        train(run.experiment, run.folder, resume=True, progress=False, table=run.table)


# ---- weights that do not fit


def weights_with(change):
    def damage(folder):
        tensors, note = load_tensors(folder / "weights.safetensors")
        change(tensors)
        save_tensors(folder / "weights.safetensors", tensors, note)

    return damage


HEAD = "detector.roi_heads.box_predictor.cls_score.weight"


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda tensors: tensors.update({HEAD: tensors[HEAD][:-1]}), (HEAD, "(2, ", "(1, ")),
        (lambda tensors: tensors.pop(HEAD), (HEAD, "not there")),
        (lambda tensors: tensors.update({HEAD: tensors[HEAD].half()}), (HEAD, "float16", "float32")),
        (lambda tensors: tensors.update(mine=torch.ones(2)), ("mine", "there is none")),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(copy, change, says):
    weights_with(change)(copy.folder)
    with pytest.raises(InputError) as caught:
        load_model(copy)
    one_sentence(caught.value, "weights.safetensors", *says)


def test_how_many_more_do_not_fit(copy):
    weights_with(lambda tensors: [tensors.pop(name) for name in list(tensors)[:3]])(copy.folder)
    with pytest.raises(InputError, match="2 more do not fit"):
        load_model(copy)


def test_weights_to_start_from_that_do_not_fit(copy, finished):
    weights_with(lambda tensors: tensors.update({HEAD: tensors[HEAD][:-1]}))(copy.folder)
    with pytest.raises(InputError) as caught:
        adopt_weights(build_model(finished.experiment), copy)
    one_sentence(caught.value, "weights.safetensors", HEAD, "(2, ", "(1, ")


def test_a_detector_of_another_shape(copy, finished):
    weights_with(lambda tensors: tensors.update({HEAD: tensors[HEAD][:-1]}))(copy.detector.folder)
    with pytest.raises(InputError) as caught:
        train(finished.experiment.replace(model="lstm1"), copy.folder.parent / "lstm1", progress=False)
    one_sentence(caught.value, copy.detector.folder.name, HEAD.removeprefix("detector."), "(2, ")


@pytest.fixture(scope="module")
def beginning(finished):
    "A model, its stages and the checkpoint of its first step."
    experiment = tiny(model="mask-rcnn", checkpoint_minutes=60)
    model = build_model(experiment)
    stages = stages_of(model, ExperimentData(experiment, finished.table), torch.device("cpu"))
    first = next(model.parameters()).detach()
    moments = {f"optimizer.0.{name}": torch.zeros_like(first) for name in ("exp_avg", "exp_avg_sq")}
    moments["optimizer.0.step"] = torch.tensor(1.0)
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()} | moments
    return experiment, model, stages, tensors


@pytest.fixture
def started(beginning, finished, tmp_path):
    "A new run, its model, its stages, and what its checkpoint may hold."
    experiment, model, stages, tensors = beginning
    note = {"stage": "segmentation", "step": 1, "seconds": 1.0, "best_score": -math.inf}  # as older versions wrote it
    return Run.create(tmp_path / "run", experiment, finished.table), model, stages, dict(tensors), note


def all_best(tensors, note):
    "Best weights of which one has another shape."
    tensors |= {name.replace("model.", "best."): value.clone() for name, value in tensors.items()}
    tensors[f"best.{HEAD}"] = torch.ones(1)


@pytest.mark.parametrize(
    "damage, says",
    [
        (lambda tensors, note: tensors.update({f"model.{HEAD}": torch.ones(1)}), (HEAD, "(1,)")),
        (all_best, ("best.", HEAD, "(1,)")),
        (lambda tensors, note: tensors.pop(f"model.{HEAD}"), (HEAD, "not there")),
        (lambda tensors, note: tensors.update({"optimizer.0.exp_avg": torch.ones(1)}), ("optimizer.0.exp_avg", "(1,)")),
        (lambda tensors, note: tensors.update({"optimizer.999.step": torch.ones(())}), ("optimizer.999.step",)),
        (lambda tensors, note: tensors.pop("optimizer.0.exp_avg_sq"), ("optimizer.0.exp_avg",)),
        (lambda tensors, note: tensors.update({"optimizer.mine": torch.ones(1)}), ("optimizer.mine",)),
        (lambda tensors, note: note.update(stage="aggregator"), ("stage aggregator",)),
        (lambda tensors, note: note.update(step=10**6), ("step 1000000",)),
        (lambda tensors, note: note.update(step="3"), ("field 'step'",)),
        (lambda tensors, note: note.pop("seconds"), ("field 'seconds'",)),
    ],
)
def test_a_checkpoint_that_does_not_fit(started, damage, says):
    run, model, stages, tensors, note = started
    damage(tensors, note)
    save_tensors(run.folder / "checkpoint.safetensors", tensors, note)
    with pytest.raises(InputError) as caught:
        run_stages(run, model, stages, progress=False)
    one_sentence(caught.value, "checkpoint.safetensors", *says)


def test_a_checkpoint_of_an_older_version_is_continued(started):
    run, model, stages, tensors, note = started
    save_tensors(run.folder / "checkpoint.safetensors", tensors, note)
    run_stages(run, model, stages, progress=False)


@pytest.mark.parametrize("name", ["about.json", "rows.bin", "done.bin"])
@pytest.mark.parametrize("damage", [*DAMAGES, "missing"])
def test_damaged_cached_regions_are_named(finished, tmp_path, damage, name):
    """Each file of them; without a list of what is done nothing is, and they are made anew."""
    folder, model = tmp_path / "regions", load_model(finished)
    dataset = ExperimentData(finished.experiment, finished.table).dataset("validation", labelled=True)
    whole = cached_regions(model, dataset, folder, "key", progress=False).take(range(len(dataset)))
    (DAMAGES | {"missing": lambda path: path.unlink()})[damage](folder / name)

    def again():
        return cached_regions(model, dataset, folder, "key", progress=False).take(range(len(dataset)))

    if damage == "missing" and name != "rows.bin":
        assert again().equal(whole)
        return
    with pytest.raises(InputError) as caught:
        again()
    one_sentence(caught.value, folder, "delete the folder")


# ---- threads and devices


def test_a_run_goes_on_with_the_threads_that_it_began_with(tmp_path, finished, capsys):
    settings = dict(model="mask-rcnn", detector_epochs=0.2)
    here = torch.get_num_threads()
    run = train(tiny(**settings, threads=1), tmp_path / "run", table=finished.table, progress=False)
    torch.set_num_threads(here)
    (run.folder / "weights.safetensors").unlink()
    before = contents(run.folder)
    with pytest.raises(InputError, match="1 CPU thread, not 3"):
        train(tiny(**settings, threads=3), run.folder, resume=True, table=finished.table, progress=False)
    torch.set_num_threads(3)
    assert contents(run.folder) == before
    train(tiny(**settings, threads=0), run.folder, resume=True, table=finished.table)
    assert torch.get_num_threads() == 3
    torch.set_num_threads(here)
    assert json.loads((run.folder / "cost.json").read_text())["training"]["threads"] == 1
    words = "goes on with 1 CPU thread, as it began, not 3"
    assert words in capsys.readouterr().err and words in (run.folder / "log.txt").read_text()


@pytest.mark.parametrize("device", ["tpu", "cuda:7", "mps", "", "cuda:-1", "cuda:", "CPU", "cuda:" + "9" * 400])
def test_devices_that_are_not_there(device):
    with pytest.raises(InputError, match="device") as caught:
        choose_device(device)
    assert len(str(caught.value)) < 300


def test_devices_of_commands(command, finished, phantom, tmp_path):
    for words in (
        ("evaluate", finished.folder, "--device", ""),
        ("evaluate", finished.folder, "--device", "mps"),
        ("predict", finished.folder, phantom, "--out", tmp_path / "out", "--device", ""),
    ):
        code, _, err = command(*words)
        assert code == 2 and len(err.splitlines()) == 1 and "device" in err, err


def test_a_missing_gpu_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="torch sees no GPU here"):
        train(tiny(device="cuda"), tmp_path / "run", progress=False)
    assert not list(tmp_path.iterdir())


# ---- one patient


def test_a_test_split_with_one_patient_is_scored(finished, tmp_path):
    "There is no interval over one patient; every reader of the scores is told so."
    frame = finished.table.frame
    held = (frame["split"] != "test") | (frame["patient"] == frame["patient"][frame["split"] == "test"].iloc[0])
    table = SliceTable(frame[held], finished.table.root)
    experiment = finished.experiment.replace(classes=("Normal", "CP", "COVID-19"))
    run = Run.create(tmp_path / "run", experiment, table)
    shutil.copy(finished.folder / "weights.safetensors", run.folder)
    metrics = evaluate(run, splits=["test"], progress=False)
    assert metrics["test"]["patients"] == 1 and metrics["test"]["classification"]["f1_interval"] == [None, None]
    assert run.metrics == json.loads(json.dumps(metrics))
