"""Pretrained weights: read from a file by name and shape, kept by hash, and never asked for by a run that has
weights.
"""

import dataclasses
import json
import shutil
import urllib.error

import pytest
import safetensors.torch
import torch
import torchvision
from conftest import as_older, assignments, tiny
from test_bad_input import refused

from covid_workbench.errors import InputError
from covid_workbench.evaluation.evaluate import evaluate
from covid_workbench.files import load_tensors
from covid_workbench.models import weights as weight_files
from covid_workbench.models.backbones import build_backbone
from covid_workbench.models.classifier import build_classifier
from covid_workbench.models.weights import pretrained_file, read_weights, sha256_of
from covid_workbench.runs.experiment import Experiment
from covid_workbench.runs.load import build_model, load_model
from covid_workbench.runs.run import Run
from covid_workbench.training.train import needs_pretrained, train


@pytest.fixture(scope="module")
def stages():
    "The tensors of a resnet18 up to layer2, which is where the tests cut."
    torch.manual_seed(7)
    return {
        name: value
        for name, value in torchvision.models.resnet18().state_dict().items()
        if name.startswith(("conv1", "bn1", "layer1", "layer2"))
    }


@pytest.fixture
def weights(stages, tmp_path):
    """A weight file in the making: `weights(changes)` writes `stages` with changes (None: left out) and returns its
    path.
    """

    def write(changes=None, name="mine.safetensors"):
        safetensors.torch.save_file(
            {key: value for key, value in (stages | (changes or {})).items() if value is not None}, tmp_path / name
        )
        return tmp_path / name

    return write


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"layer1.0.conv2.weight": None}, ("there is no layer1.0.conv2.weight (64, 64, 3, 3)",)),
        (
            {"layer2.0.conv1.weight": torch.zeros(128, 64, 1, 1)},
            ("layer2.0.conv1.weight is (128, 64, 1, 1)", "(128, 64, 3, 3)"),
        ),
        (
            {"layer1.2.conv1.weight": torch.zeros(64, 64, 3, 3)},
            ("layer1.2.conv1.weight (64, 64, 3, 3) is no tensor of resnet18",),
        ),  # as in a resnet34
    ],
)
@pytest.mark.parametrize("model", ["lstm1", "mask-rcnn"])
def test_weights_that_do_not_fit(command, tmp_path, weights, changes, says, model):
    "Refused before there is a folder, also where a warm start would read them only for its detector."
    path = weights(changes)
    refused(
        command,
        "train",
        tmp_path / "run",
        "--preset",
        "smoke",
        "--set",
        *assignments(model=model, pretrained=path),
        says=(path, "backbone=resnet18", *says),
    )
    assert not (tmp_path / "run").exists() and not list(tmp_path.glob("shared/detector*"))


def test_files_that_are_no_weights(command, tmp_path):
    words = ("train", tmp_path / "run", "--preset", "smoke", "--set")
    refused(
        command, *words, *assignments(pretrained=tmp_path / "none.pth"), says=("pretrained", "none.pth", "no such file")
    )
    torch.save(torch.nn.Linear(2, 2), tmp_path / "network.pth")
    refused(
        command,
        *words,
        *assignments(pretrained=tmp_path / "network.pth"),
        says=("network.pth", "not a file of weights alone", "Linear"),
    )
    (tmp_path / "half.safetensors").write_bytes(b"\x10\0\0\0")
    refused(
        command, *words, *assignments(pretrained=tmp_path / "half.safetensors"), says=("half.safetensors", "damaged")
    )


def test_imagenet_without_a_network(command, tmp_path, monkeypatch):
    def no_network(*words, **options):
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    refused(
        command,
        "train",
        tmp_path / "run",
        "--preset",
        "smoke",
        "--set",
        *assignments(pretrained="imagenet"),
        says=("resnet18", "no route", "pretrained=PATH"),
    )


@pytest.mark.parametrize("prefix", ["", "module.", "backbone.body.", "detector.backbone.body."])
def test_state_dicts_and_checkpoints(stages, tmp_path, prefix):
    """The last layers, other stages, and the heads of a detection checkpoint are left out; frozen normalisation counts
    no batches.
    """
    tensors = {prefix + name: value for name, value in stages.items() if not name.endswith("num_batches_tracked")}
    rest = {
        f"{prefix}layer3.0.conv1.weight": torch.ones(1),
        f"{prefix}fc.weight": torch.ones(1000, 512),
        "rpn.head.cls_logits.weight": torch.ones(3),
    }
    safetensors.torch.save_file(tensors | rest, tmp_path / "all.safetensors")
    backbone = build_backbone("resnet18", cut="layer2", pretrained=str(tmp_path / "all.safetensors"))
    held = backbone.state_dict()
    assert all(held[f"body.{name[len(prefix) :]}"].equal(value) for name, value in tensors.items())


def test_the_last_layer_is_taken_where_it_fits(tmp_path):
    source = torchvision.models.resnet18(num_classes=3).state_dict()
    safetensors.torch.save_file(source, tmp_path / "three.safetensors")
    three, two = (
        build_classifier("resnet18", classes, pretrained=str(tmp_path / "three.safetensors")).network.state_dict()
        for classes in (3, 2)
    )
    assert all(three[name].equal(value) for name, value in source.items())
    assert two["fc.weight"].shape == (2, 512) and two["layer4.1.conv2.weight"].equal(source["layer4.1.conv2.weight"])


def test_densenet_files_with_their_old_names(tmp_path):
    source = torchvision.models.densenet121().state_dict()
    old = {
        name.replace("norm1.", "norm.1.")
        .replace("norm2.", "norm.2.")
        .replace("conv1.", "conv.1.")
        .replace("conv2.", "conv.2.")
        if "denselayer" in name
        else name: value
        for name, value in source.items()
    }
    assert set(old) != set(source)
    safetensors.torch.save_file(old, tmp_path / "dense.safetensors")
    held = build_classifier("densenet121", pretrained=str(tmp_path / "dense.safetensors")).network.state_dict()
    assert all(held[name].equal(value) for name, value in source.items() if not name.startswith("classifier"))


def test_a_run_needs_the_file_once(weights, stages, tmp_path):
    """The hash is in the records of detector and run; afterwards the file may go: loading, another warm start and
    fine-tuning do without.
    """
    path, shared = weights(), tmp_path / "shared"
    short = dict(pretrained=str(path), detector_epochs=0.3, aggregator_epochs=0.3)
    run = train(tiny(model="lstm1", **short), tmp_path / "one", shared=shared, progress=False)
    assert run.record["pretrained_sha256"] == run.detector.record["pretrained_sha256"] == sha256_of(path)
    begun = build_model(run.detector.experiment, pretrained=True).state_dict()
    assert all(begun[f"detector.backbone.body.{name}"].equal(value) for name, value in stages.items())
    random = build_model(
        dataclasses.replace(
            run.detector.experiment, detector=dataclasses.replace(run.detector.experiment.detector, pretrained="")
        )
    )
    assert all(
        value.equal(begun[name]) for name, value in random.state_dict().items() if "backbone.body" not in name
    )  # the seed's weights elsewhere
    trained = load_tensors(run.detector.folder / "weights.safetensors")[0]["detector.backbone.body.conv1.weight"]
    assert (
        (trained - stages["conv1.weight"]).abs().max()
        < 0.02
        < (trained - random.state_dict()["detector.backbone.body.conv1.weight"]).abs().max()
    )
    path.unlink()
    load_model(run)
    assert evaluate(run, progress=False)["test"]["classification"]
    again = train(tiny(model="mean-pool", **short), tmp_path / "two", shared=shared, progress=False)
    assert (
        again.detector.folder.samefile(run.detector.folder)
        and again.record["pretrained_sha256"] == run.record["pretrained_sha256"]
    )
    tuned = train(
        run.experiment.replace(regime="fine-tune", start_from=str(run.folder), epochs=0.1),
        tmp_path / "three",
        shared=shared,
        progress=False,
    )
    assert tuned.complete
    weights({"conv1.weight": stages["conv1.weight"] + 1})
    with pytest.raises(InputError, match="changed since"):
        train(tiny(model="max-pool", **short), tmp_path / "four", shared=shared, progress=False)


def test_who_reads_pretrained_weights(weights, tmp_path):
    """A run that starts, or was stopped before its first checkpoint; none that has weights of its own or takes those
    of another.
    """
    path = str(weights())
    assert needs_pretrained(tiny(model="mask-rcnn", pretrained=path), tmp_path / "run") and not needs_pretrained(
        tiny(model="mask-rcnn"), tmp_path / "run"
    )
    assert not needs_pretrained(tiny(model="lstm1", pretrained=path), tmp_path / "run")  # its detector does
    assert not needs_pretrained(
        tiny(model="lstm1", pretrained=path, regime="fine-tune", start_from="other"), tmp_path / "run"
    )
    for name in ("weights", "checkpoint"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.safetensors").touch()
        assert not needs_pretrained(tiny(model="mask-rcnn", pretrained=path), tmp_path / name)


@pytest.mark.parametrize("written, means", [(False, ""), (True, "imagenet")])
def test_runs_from_when_it_was_a_switch(command, finished, tmp_path, monkeypatch, written, means):
    "They open, and load their weights without asking anybody for others."
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *words, **options: pytest.fail("asked the network"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    shutil.copytree(finished.folder, tmp_path / "old")
    as_older(tmp_path / "old")
    content = json.loads((tmp_path / "old" / "experiment.json").read_text())
    content["detector"]["pretrained"] = written
    (tmp_path / "old" / "experiment.json").write_text(json.dumps(content))
    run = Run.open(tmp_path / "old")
    assert run.experiment.detector.pretrained == means
    load_model(run)
    assert Experiment.make("smoke", pretrained=str(written).lower()).detector.pretrained == means


@pytest.fixture
def pickled(tmp_path):
    torch.save({"weight": torch.ones(2, 3)}, tmp_path / "weights.pth")
    return tmp_path / "weights.pth"


def test_the_reader_of_a_pickle_imports_nothing_from_the_working_folder(pickled, tmp_path, monkeypatch):
    for name in ("torch.py", "json.py"):
        (tmp_path / name).write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    monkeypatch.chdir(tmp_path)
    assert read_weights("weights.pth")["weight"].equal(torch.ones(2, 3))
    assert not (tmp_path / "ran").exists()


def test_the_reader_of_a_pickle_has_limits(pickled, tmp_path, monkeypatch):
    "A few bytes that describe a tensor of a terabyte; a file that takes too long."
    torch.save({"weight": torch.zeros(1).expand(2**38)}, tmp_path / "bomb.pth")
    with pytest.raises(InputError, match=r"bomb.pth.*1,099,511,627,776 bytes, many times the file"):
        read_weights(tmp_path / "bomb.pth")
    monkeypatch.setattr(weight_files, "PATIENCE", 0.01)
    with pytest.raises(InputError, match="not opened within 0.01 seconds"):
        read_weights(pickled)


def test_weights_that_are_no_numbers_are_refused(weights):
    with pytest.raises(InputError, match=r"mine.safetensors: tensor layer2.0.bn1.bias holds 128 of 128"):
        build_backbone(
            "resnet18",
            cut="layer2",
            channels=8,
            pretrained=str(weights({"layer2.0.bn1.bias": torch.full((128,), torch.nan)})),
        )


@pytest.mark.parametrize("name", ["~nobody-of-that-name/weights.pth", "x" * 5000, "a\0b", ".", ""])
def test_names_that_are_no_files(name):
    with pytest.raises(InputError, match="no such file"):
        pretrained_file(name, "resnet18")
    with pytest.raises(InputError, match="no such file"):
        read_weights(name)
