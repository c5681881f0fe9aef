"""A mistake gives one sentence that names file and field, exit code 2 (1 for storage), and leaves earlier results as
they were.
"""

import json
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from conftest import assignments, contents, shell, tiny
from PIL import Image

from covid_workbench.runs.run import Run
from covid_workbench.training.train import train


def smoke(tmp_path, folder):
    "Words of a short training on the slices of a folder."
    return "train", tmp_path / "run", "--data", folder, "--preset", "smoke"


def refused(command, *words, code=2, says=()):
    "The command fails with this exit code and one sentence on stderr that has all of these words."
    exit_code, out, err = command(*words)
    assert exit_code == code, (exit_code, out, err)
    assert len(err.splitlines()) == 1 and err.startswith("covid-workbench"), err
    for word in says:
        assert str(word) in err, (word, err)
    return err


@pytest.mark.parametrize(
    "setting, says",
    [
        ("bakbone=resnet18", ("bakbone", "backbone")),
        ("backbone=resnet81", ("backbone", "resnet81", "resnet18")),
        ("model=lstm3", ("model", "lstm3", "lstm2")),
        ("roi_batch=1", ("roi_batch", "1", "from 2 to")),
        ("roi_batch=4.5", ("roi_batch", "4.5", "whole number")),
        ("learning_rate=fast", ("learning_rate", "fast", "number")),
        ("flips=perhaps", ("flips", "perhaps", "true or false")),
        ("anchor_sizes=2,many", ("anchor_sizes", "many")),
        ("anchor_sizes=0.5", ("anchor_sizes", "0.5", "from 1 to")),
        ("rpn_background_iou=0.9", ("rpn_background_iou=0.9", "rpn_foreground_iou")),
        ("protocol=papers", ("protocol", "papers", "paper")),
        ("classes=Normal,Covid", ("classes", "Covid", "COVID-19")),
        ("classes=Normal", ("classes", "two")),
        ("regime=fine-tune", ("regime=fine-tune", "start_from")),
        ("device=tpu", ("device", "tpu", "cpu")),
        ("backbone", ("backbone", "key=value")),
    ],
)
def test_wrong_settings(command, tmp_path, setting, says):
    refused(command, "train", tmp_path / "run", "--preset", "smoke", "--set", setting, says=says)
    assert not list(tmp_path.iterdir())


def test_wrong_preset_and_config(command, tmp_path):
    refused(command, "train", tmp_path / "run", "--preset", "tiny", says=("preset", "tiny", "smoke"))
    refused(command, "train", tmp_path / "run", "--config", tmp_path / "none.json", says=("none.json", "no such file"))
    broken = tmp_path / "broken.json"
    broken.write_text('{"backbone": "resnet18",\n "roi_batch" 4}')
    refused(command, "train", tmp_path / "run", "--config", broken, says=("broken.json", "line 2"))
    broken.write_text('{"preset": "smoke", "bakbone": "resnet18"}')
    refused(command, "train", tmp_path / "run", "--config", broken, says=("bakbone", "backbone"))
    broken.write_text("[1, 2]")
    refused(command, "train", tmp_path / "run", "--config", broken, says=("broken.json", "object"))
    assert not (tmp_path / "run").exists()


@pytest.fixture
def data(phantom, tmp_path):
    "A copy of the phantom that may be damaged, its table, and a way to save the table again."
    folder = tmp_path / "data"
    shutil.copytree(phantom, folder)
    table = pd.read_csv(folder / "slices.csv", dtype=str, keep_default_na=False)
    return folder, table, lambda: table.to_csv(folder / "slices.csv", index=False)


def test_missing_and_strange_folders(command, tmp_path):
    refused(command, "train", tmp_path / "run", "--preset", "smoke", "--data", tmp_path / "nowhere", says=("nowhere",))
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange" / "notes.txt").write_text("hello")
    refused(
        command,
        "train",
        tmp_path / "run",
        "--preset",
        "smoke",
        "--data",
        tmp_path / "strange",
        says=("strange", "no slices found"),
    )
    assert not (tmp_path / "run").exists()


def truncate(path):
    path.write_bytes(path.read_bytes()[: len(path.read_bytes()) // 2])


def damage_png(folder, table):
    row = table[table["label"] != ""].iloc[0]
    truncate(folder / row["image"])
    return row["id"], row["image"], "truncated"


def damage_mask_size(folder, table):
    row = table.iloc[0]
    Image.fromarray(np.zeros((50, 64), np.uint8)).save(folder / row["mask"])
    return row["id"], row["mask"], "50", "64"


def damage_mask_value(folder, table):
    row = table.iloc[0]
    Image.fromarray(np.full((64, 64), 7, np.uint8)).save(folder / row["mask"])
    return row["id"], row["mask"], "7"


def damage_missing_image(folder, table):
    row = table.iloc[0]
    (folder / row["image"]).unlink()
    return row["id"], row["image"]


@pytest.mark.parametrize("damage", [damage_png, damage_mask_size, damage_mask_value, damage_missing_image])
def test_damaged_files_are_known_before_a_run_starts(command, tmp_path, data, damage):
    folder, table, save = data
    says = damage(folder, table)
    refused(command, *smoke(tmp_path, folder), "--set", *assignments(), says=says)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "column, value, says",
    [
        ("label", "Covid", ("label", "Covid", "COVID-19")),
        ("split", "training", ("split", "training", "train")),
        ("index", "first", ("index", "first")),
        ("mask_values", "1=2", ("mask_values", "1=2")),
        ("id", None, ("occurs twice",)),
    ],
)
def test_wrong_table(command, tmp_path, data, column, value, says):
    folder, table, save = data
    table.loc[3, column] = table.loc[2, "id"] if value is None else value
    save()
    refused(command, *smoke(tmp_path, folder), "--set", *assignments(), says=("slices.csv", table.loc[3, "id"], *says))


def test_missing_column(command, tmp_path, data):
    folder, table, _ = data
    table.drop(columns="patient").to_csv(folder / "slices.csv", index=False)
    refused(command, *smoke(tmp_path, folder), says=("slices.csv", "patient"))


def test_empty_splits(command, tmp_path, data):
    folder, table, save = data
    table["split"] = "train"
    save()
    refused(
        command,
        *smoke(tmp_path, folder),
        "--set",
        "validation=0",
        "test=0",
        says=("validation split is empty", "slices.csv"),
    )
    table["split"] = "test"
    save()
    refused(command, *smoke(tmp_path, folder), says=("train split is empty", "slices.csv"))
    assert not (tmp_path / "run").exists()


def test_nothing_to_learn(command, tmp_path, data):
    folder, table, save = data
    for name in table["mask"]:
        Image.fromarray(np.ones((64, 64), np.uint8)).save(folder / name)
    refused(command, *smoke(tmp_path, folder), "--set", *assignments(), says=("no lesion", "min_lesion_area"))
    table["mask"] = ""
    save()
    refused(command, *smoke(tmp_path, folder), "--set", *assignments(), says=("lesion mask",))
    table["label"] = "CP"
    save()
    refused(command, *smoke(tmp_path, folder), "--set", *assignments(model="classifier"), says=("CP", "two classes"))


def test_folders_that_hold_something(command, finished, tmp_path):
    before = contents(finished.folder)
    words = ("train", finished.folder, "--preset", "smoke", "--set", *assignments(model="attention"))
    refused(command, *words, says=(finished.folder, "--resume"))
    refused(command, *words, "seed=5", "--resume", says=("seed=0", "not 5"))
    assert contents(finished.folder) == before
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("keep")
    refused(
        command, "train", tmp_path / "notes", "--preset", "smoke", "--set", *assignments(), says=("notes", "not a run")
    )
    assert contents(tmp_path / "notes") == {"mine.txt": b"keep"}


def test_changed_data_do_not_continue_a_run(command, data, tmp_path):
    folder, table, _ = data
    words = (*smoke(tmp_path, folder), "--set", *assignments(model="mask-rcnn"))
    assert command(*words)[0] == 0
    (tmp_path / "run" / "weights.safetensors").unlink()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)).save(folder / table.loc[0, "image"])
    refused(command, *words, "--resume", says=("data changed",))


def test_runs_that_are_none(command, tmp_path, finished):
    (tmp_path / "empty").mkdir()
    for name in ("evaluate", "predict"):
        more = (finished.folder, "--out", tmp_path / "out") if name == "predict" else ()
        refused(command, name, tmp_path / "empty", *more, says=("empty", "not a run"))
    copy = tmp_path / "copy"
    shutil.copytree(finished.folder, copy)
    truncate(copy / "weights.safetensors")
    refused(command, "evaluate", copy, says=("weights.safetensors", "damaged"))
    (copy / "weights.safetensors").unlink()
    refused(command, "evaluate", copy, says=("copy", "not complete"))
    (copy / "experiment.json").write_text("{")
    refused(command, "evaluate", copy, says=("experiment.json", "JSON"))


def test_predict_on_what_is_no_picture(command, finished, phantom, tmp_path):
    words = tmp_path / "words.png"
    words.write_text("no picture")
    refused(command, "predict", finished.folder, words, "--out", tmp_path / "out", says=("words.png",))
    refused(command, "predict", finished.folder, tmp_path / "none.png", "--out", tmp_path / "out2", says=("none.png",))


def test_a_truncated_checkpoint(command, tmp_path):
    settings = assignments(model="mask-rcnn", checkpoint_minutes=0)
    assert command("train", tmp_path / "run", "--preset", "smoke", "--set", *settings)[0] == 0
    run = Run.open(tmp_path / "run")
    shutil.copy(run.folder / "weights.safetensors", run.folder / "checkpoint.safetensors")
    truncate(run.folder / "checkpoint.safetensors")
    (run.folder / "weights.safetensors").unlink()
    refused(
        command,
        "train",
        run.folder,
        "--preset",
        "smoke",
        "--set",
        *settings,
        "--resume",
        says=("checkpoint.safetensors", "damaged"),
    )


FULL_DISK = """
import resource, signal, sys
from covid_workbench.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
sys.exit(main(sys.argv[1:]))
"""  # tables fit, weights do not


def test_a_full_disk_at_checkpoint_time(finished, tmp_path):
    """Files over a size limit fail as on a full disk.

    The checkpoint does not fit; the run before it and the history are whole, and it goes on afterwards.

    Only the run on the full disk writes a checkpoint after each step: each one is flushed to the disk, which may take
    long on a busy machine.
    """
    settings = dict(model="mask-rcnn", detector_epochs=1)
    before = contents(finished.folder)
    words = ("train", tmp_path / "run", "--preset", "smoke", "--set", *assignments(**settings))
    stopped = subprocess.run(
        [sys.executable, "-c", FULL_DISK, *map(str, words), "checkpoint_minutes=0"], capture_output=True, text=True
    )
    assert stopped.returncode == 1, stopped.stderr[-2000:]
    message = stopped.stderr.splitlines()[-1]
    assert message.startswith("covid-workbench train: writing failed"), message
    assert "checkpoint.safetensors" in message and "Traceback" not in stopped.stderr
    left = contents(tmp_path / "run")
    assert "weights.safetensors" not in left and not [name for name in left if "part" in name]
    assert json.loads(left["experiment.json"])["training"]["detector_epochs"] == 1
    assert contents(finished.folder) == before
    resumed = shell(*words, "--resume")
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    whole = train(tiny(**settings), tmp_path / "whole", shared=tmp_path / "shared", progress=False)
    assert contents(whole.folder)["weights.safetensors"] == contents(tmp_path / "run")["weights.safetensors"]


def test_as_a_program(tmp_path):
    found = shell("train", tmp_path / "run", "--preset", "smoke", "--set", "bakbone=resnet18")
    assert found.returncode == 2 and "backbone" in found.stderr and "Traceback" not in found.stderr
    assert shell("--version").returncode == 0 and shell("nonsense").returncode == 2
