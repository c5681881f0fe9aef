"""Every model trains from the command line with only its name changed; protocols and recipes do what they say."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import SLICE_MODELS, assignments, shell, tiny

from covid_workbench.data.phantom import PhantomSettings, write_phantom
from covid_workbench.errors import InputError
from covid_workbench.evaluation.evaluate import evaluate
from covid_workbench.evaluation.inference import predict_slices
from covid_workbench.files import load_tensors
from covid_workbench.models.protocol import Protocol
from covid_workbench.reports.run_report import attention_gallery, detection_gallery, figure_html, learning_curves
from covid_workbench.runs.datasets import ExperimentData, prepare_data
from covid_workbench.runs.experiment import Experiment
from covid_workbench.runs.load import build_model, load_model
from covid_workbench.runs.run import Run
from covid_workbench.studies.orders import ORDERS, evaluate_orders
from covid_workbench.studies.results import figures_of
from covid_workbench.training.stages import stages_of
from covid_workbench.training.train import train


@pytest.mark.parametrize("model", SLICE_MODELS)
def test_trains_by_its_name_and_comes_back(command, tmp_path, model):
    settings = assignments(
        model=model,
        detector_epochs=24,
        detector_learning_rate=2e-3,
        aggregator_epochs=50,
        aggregator_learning_rate=3e-3,
        flips="false",
        weight_decay=0,
        **({"epochs": 8, "learning_rate": 1e-3} if model == "classifier" else {}),
        **({"epochs": 24, "learning_rate": 1e-3, "update": "full"} if model == "ct-mask-net" else {}),
    )
    code, _, err = command("train", tmp_path / "run", "--preset", "smoke", "--set", *settings)
    assert code == 0, err
    run = Run.open(tmp_path / "run")
    for history in [run.history] + ([run.detector.history] if run.detector else []):
        for stage, part in history.groupby("stage"):
            losses = part[[name for name in part if name.startswith("loss")]].dropna(axis=1, how="all").sum(axis=1)
            quarter = max(2, len(losses) // 4)
            assert losses.tail(quarter).mean() < 0.9 * losses.head(quarter // 2).mean(), (stage, losses.tolist())
    code, out, err = command("evaluate", run.folder, "--json")
    assert code == 0, err
    scores = json.loads(out)["test"]
    assert (scores["classification"] is None) == (model == "mask-rcnn") and (scores["detection"] is None) == (
        model == "classifier"
    )
    data = ExperimentData(run.experiment, run.table).dataset("test")
    one, other = ([prediction.logits for prediction in predict_slices(load_model(run), data)] for _ in range(2))
    if model != "mask-rcnn":
        np.testing.assert_array_equal(one, other)
    pieces = attention_gallery(run, inline=True) + detection_gallery(run, inline=True)
    pieces += figure_html(learning_curves(run))  # what one_run.ipynb shows of it
    assert (
        ("<svg" in pieces) == (model != "classifier")
        and ('width="-' not in pieces)
        and ("no attention weights" in pieces) == (model in ("single-shot", "ct-mask-net", "mask-rcnn", "classifier"))
    )


@pytest.mark.parametrize("update", ["heads", "heads+bn", "full"])
def test_the_second_stage_trains_what_it_says(tmp_path, update):
    """COVID-CT-Mask-Net: module S alone, with every normalisation, or all; running statistics stand still unless all
    is trained.
    """
    experiment = tiny(model="ct-mask-net", update=update, detector_epochs=0.1)
    model = build_model(experiment)
    stage = stages_of(
        model, ExperimentData(experiment, prepare_data(experiment.data, tmp_path, progress=False)), torch.device("cpu")
    )[1]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    for module in stage.frozen:
        module.eval()
    optimizer = torch.optim.SGD(stage.parameters, 1.0)
    for terms in stage.losses(next(iter(stage.batches(range(1)))), 0):
        optimizer.zero_grad()
        sum(value for value in terms.values() if value.requires_grad).backward()
        optimizer.step()
    moved = {name for name, value in model.state_dict().items() if not value.equal(before[name])}
    assert {name for name in before if name.startswith("image_head.")} <= moved
    rest = {name for name in moved if not name.startswith("image_head.")}
    statistics = {name for name in rest if name.endswith(("running_mean", "running_var", "num_batches_tracked"))}
    if update == "heads":
        assert not rest
    elif update == "heads+bn":
        assert (
            rest
            and not statistics
            and all(before[name].ndim == 1 for name in rest)
            and any("downsample" in name for name in rest)
        )
    else:
        assert (
            statistics
            and "detector.backbone.body.conv1.weight" in rest
            and any(name.startswith("detector.roi_heads.box_head") for name in rest)
        )


@pytest.mark.parametrize("model", ["mask-rcnn", "lstm2", "ct-mask-net"])
def test_segmentation_trains_the_backbone(tmp_path, model):
    "By default; a detector on a backbone of random weights learns next to nothing."
    experiment = tiny(model=model)
    network = build_model(experiment)
    stage = stages_of(
        network,
        ExperimentData(experiment, prepare_data(experiment.data, tmp_path, progress=False)),
        torch.device("cpu"),
    )[0]
    first = network.detector.backbone.body.conv1.weight
    assert any(parameter is first for parameter in stage.parameters) and not stage.frozen


def test_fine_tuning_keeps_the_weights_and_replaces_the_last_layer(command, finished, tmp_path):
    code, _, err = command(
        "train",
        tmp_path / "two",
        "--from",
        finished.folder,
        "--set",
        "classes=Normal,COVID-19",
        "epochs=0.1",
        "learning_rate=1e-7",
    )
    assert code == 0, err
    run = Run.open(tmp_path / "two")
    old, new = (load_tensors(one.folder / "weights.safetensors")[0] for one in (finished, run))
    other = {name for name in old if old[name].shape != new[name].shape}
    assert other == {"image_head.aggregator.classifier.4.weight", "image_head.aggregator.classifier.4.bias"}
    for name in set(old) - other:
        if old[name].is_floating_point() and "running" not in name:
            torch.testing.assert_close(old[name], new[name], rtol=1e-3, atol=1e-4)
    metrics = evaluate(run, progress=False)["test"]["classification"]
    assert metrics["class_names"] == ["Normal", "COVID-19"] and run.experiment.training.regime == "fine-tune"
    code, _, err = command("train", tmp_path / "misfit", "--from", finished.folder, "--set", "fpn_channels=12")
    assert code == 2 and "do not fit" in err and not (tmp_path / "misfit").exists()


def test_a_model_is_tested_elsewhere_as_it_is(command, finished, tmp_path):
    "No step, and the logits of the classes that the second source has: three-class logits, restricted."
    words = (
        "train",
        tmp_path / "there",
        "--from",
        finished.folder,
        "--set",
        "classes=COVID-19,Normal",
        "epochs=0",
        "keep_classes=true",
        "phantom_scanners=4,5,6",
        "relabel=CP=Normal",
    )
    code, _, err = command(*words)
    assert code == 0, err
    run = Run.open(tmp_path / "there")
    assert (
        set(run.table.frame["label"]) - {""} == {"Normal", "COVID-19"}
        and not len(run.history)
        and learning_curves(run).layout.title.text.startswith("Nothing was trained")
    )
    here, there = load_model(finished), load_model(run)
    data = ExperimentData(run.experiment, run.table).dataset("test")
    for source, target in zip(predict_slices(here, data), predict_slices(there, data)):
        assert target.logits == pytest.approx(source.logits[[2, 0]], abs=1e-5)
    assert evaluate(run, progress=False)["test"]["classification"]["class_names"] == ["COVID-19", "Normal"]
    code, _, err = command(
        "train",
        tmp_path / "more",
        "--from",
        run.folder,
        "--set",
        "classes=Normal,CP",
        "relabel=",
        "epochs=0",
        "keep_classes=true",
    )
    assert code == 2 and "knows COVID-19, Normal, not CP" in err and not (tmp_path / "more").exists()
    code, _, err = command(
        "train",
        tmp_path / "turned",
        "--from",
        run.folder,
        "--set",
        "classes=Normal,COVID-19",
        "epochs=0",
        "keep_classes=true",
    )
    assert code == 2 and "in the order COVID-19, Normal" in err and not (tmp_path / "turned").exists()


def test_sources_of_their_own(tmp_path):
    "Scanners are disjoint, labels are read as told, and patients keep the split they had."
    plain, other = (tiny(phantom_scanners=scanners).data for scanners in ((1, 2, 3), (4, 5, 6)))
    tables = [
        prepare_data(data, tmp_path, progress=False)
        for data in (tiny().data, plain, other, tiny(relabel=("CP=Normal",)).data)
    ]
    assert len({table.fingerprint() for table in tables}) == 4 and len(list(tmp_path.glob("phantom-*"))) == 3
    usual, relabelled = (table.frame.set_index("id") for table in (tables[0], tables[3]))
    assert (
        (usual["split"] == relabelled["split"]).all()
        and (relabelled["label"] == usual["label"].replace("CP", "Normal")).all()
        and (usual["label"] == "CP").any()
    )
    for wrong, says in (
        (dict(relabel=("CP",)), "'CP' is not of the form"),
        (dict(relabel=("CP=Norml",)), "did you mean 'Normal'"),
        (dict(phantom_scanners=(7,)), "from 1 to 6"),
    ):
        with pytest.raises(InputError, match=says):
            tiny(**wrong)


def test_the_same_weights_in_other_orders(finished, tmp_path):
    copy = Run(shutil.copytree(finished.folder, tmp_path / "copy"), finished.experiment)
    before = finished.metrics["test"]
    found = evaluate_orders(copy, random=3, progress=False)
    assert (
        found["named"]["distance"] == pytest.approx(before["classification"]["weighted_f1"])
        and found["slices"] == before["classification"]["n"] > 0
    )
    assert copy.metrics["test"] == before | {"orders": found} and len(found["random"]) == 3
    assert evaluate_orders(copy, random=3, progress=False) == found
    columns = figures_of(copy.metrics)
    assert [columns[name] for name in ORDERS[-3:]] == pytest.approx(
        [np.mean(found["random"]), min(found["random"]), max(found["random"])]
    )
    assert not set(ORDERS) & set(figures_of(finished.metrics))
    (copy.folder / "metrics.json").unlink()
    with pytest.raises(InputError, match="score the run first"):
        evaluate_orders(copy)


def test_protocols_differ_where_they_say(tmp_path):
    released = Protocol.released().settings()
    assert (
        Experiment.make("paper").protocol == Protocol.paper("lstm2")
        and Experiment.make("small").protocol == Protocol.default()
    )
    assert Experiment.make("small", protocol="released").protocol.settings() == released
    assert Protocol.released("single-shot").region_weights == "best"
    run = train(
        tiny(model="lstm1", protocol="released", regime="two-phase", epochs=0.3), tmp_path / "run", progress=False
    )
    metrics = evaluate(run, progress=False)
    assert (
        set(metrics["test"]["detection"]["reference"]) == {"ap50", "ap75", "map50_95", "ceiling_ap50"}
        and metrics["test"]["detection"]["reference"]["ceiling_ap50"] == 1
    )
    classes = metrics["test"]["classification"]["classes"]
    assert [one["weight"] for one in classes.values()] == [0.45, 0.35, 0.20]
    assert {"regions.copies.up.weight", "regions.convolution.weight"} <= set(
        load_tensors(run.folder / "weights.safetensors")[0]
    )


def test_two_data_sets_one_model(command, tmp_path):
    "One shot from two sources: patients with masks and no labels, patients with labels and no masks."
    write_phantom(tmp_path / "data", 24, settings=PhantomSettings(size=64, slices=2), progress=False)
    table = pd.read_csv(tmp_path / "data" / "slices.csv", dtype=str, keep_default_na=False)
    number = table["patient"].str[1:].astype(int) % 5
    table.loc[number < 1, ["label", "source"]] = "", "lesions"
    table.loc[number >= 1, ["mask", "source"]] = "", "classes"
    table.to_csv(tmp_path / "data" / "slices.csv", index=False)
    code, _, err = command(
        "train",
        tmp_path / "run",
        "--data",
        tmp_path / "data",
        "--preset",
        "smoke",
        "--set",
        *assignments(model="lstm1", regime="two-phase", epochs=0.5),
    )
    assert code == 0, err
    run = Run.open(tmp_path / "run")
    metrics = evaluate(run, progress=False)["test"]
    frame = run.table.split("test").frame
    assert metrics["classification"]["n"] == (frame["label"] != "").sum() > 0 and metrics["slices"] == len(frame)
    assert {"loss_rpn_class", "loss_image"} <= set(run.history)


OWN_MODEL = """
import torch
from torch import nn
from covid_workbench.models.aggregators import Evidence
from covid_workbench.models.zoo import register_model

class Mean(nn.Module):
    branches = ("mean",)
    def __init__(self, *, channels, classes, **sizes):
        super().__init__()
        self.classifier = nn.Linear(channels, classes)
    def forward(self, x):
        logits = self.classifier(x.mean(1))
        return Evidence(logits, torch.full((len(x), 1, x.shape[1]), 1 / x.shape[1]), logits[:, None])

register_model("plain-mean", Mean, description="the mean of all regions")
"""


def test_a_model_of_ones_own_trains_by_its_name(tmp_path):
    (tmp_path / "own.py").write_text(OWN_MODEL)
    environment = os.environ | {"COVID_WORKBENCH_MODELS": str(tmp_path / "own.py")}
    words = ("train", tmp_path / "run", "--preset", "smoke", "--set", *assignments(model="plain-mean"))
    done = shell(*words, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(shell("evaluate", tmp_path / "run", "--json", env=environment).stdout)["test"]["classification"]
    without = shell("train", tmp_path / "other", *words[2:])
    assert without.returncode == 2 and "plain-mean" in without.stderr
    (tmp_path / "own.py").write_text("1 / 0")
    broken = shell(*words, env=environment)
    assert (
        broken.returncode == 2
        and "own.py" in broken.stderr
        and "ZeroDivisionError" in broken.stderr
        and "Traceback" not in broken.stderr
    )


def torchrun(*words) -> subprocess.CompletedProcess:
    "A command in two processes of one thread."
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.run(
        [*launch, "-m", "covid_workbench.cli", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


@pytest.mark.parametrize(
    "regime, rounding", [("two-phase", 1e-3), ("warm-start", 0.04)]
)  # without the average of gradients: 0.02 and 0.16
def test_two_processes_take_the_steps_of_one(tmp_path, regime, rounding):
    "torchrun with two processes and batches of four: the same losses and weights as one process, but for rounding."
    steps = dict(
        model="lstm2",
        regime=regime,
        segmentation_batch=4,
        classification_batch=4,
        flips=True,
        threads=1,
        **(
            dict(epochs=0.5, rotation=10, balanced=True)
            if regime == "two-phase"
            else dict(detector_epochs=1, aggregator_epochs=1, epochs=0)
        ),
    )
    one = train(tiny(**steps), tmp_path / "one" / "run", progress=False)
    done = torchrun("train", tmp_path / "two" / "run", "--preset", "smoke", "--set", *assignments(**steps))
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("weights in") == 1
    two = Run.open(tmp_path / "two" / "run")
    pd.testing.assert_frame_equal(
        one.history.drop(columns="seconds"), two.history.drop(columns="seconds"), rtol=1e-3, atol=1e-4
    )
    start = build_model(one.experiment).state_dict()
    ours, theirs = (load_tensors(run.folder / "weights.safetensors")[0] for run in (one, two))

    def length(of):  # of everything that training moves, as one vector
        return float(
            torch.cat([of(name).double().flatten() for name, value in ours.items() if value.is_floating_point()]).norm()
        )

    # one by one they cannot be compared: Adam takes a whole step where a gradient is mere rounding
    assert length(lambda name: theirs[name] - ours[name]) < rounding * length(lambda name: ours[name] - start[name])


def test_uneven_shares_are_refused(tmp_path):
    uneven = assignments(model="mask-rcnn", segmentation_batch=3)
    done = torchrun("train", tmp_path / "run", "--preset", "smoke", "--set", *uneven)
    assert done.returncode != 0 and "cannot be divided evenly among 2 processes" in done.stderr
