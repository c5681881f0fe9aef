"""The demo's comparisons: what the baselines see, the plain backbone's time, the summary of several demos."""

import itertools
import json
import types

import numpy as np
import pytest
import torch
from conftest import tiny
from test_models import model_of

from covid_workbench import demo
from covid_workbench.data.dataset import collate
from covid_workbench.errors import InputError
from covid_workbench.evaluation.baselines import box_features
from covid_workbench.evaluation.classification import logistic_regression
from covid_workbench.runs.datasets import ExperimentData, prepare_data
from covid_workbench.runs.load import build_model, load_model
from covid_workbench.training.stages import stages_of


def test_boxes_and_scores_are_those_of_the_ranked_regions(finished):
    "Slot by slot what the model itself ranks: score, corners as shares of the picture, lesion class."
    data, model = (
        ExperimentData(finished.experiment, finished.table).dataset("test", labelled=True),
        load_model(finished),
    )
    seen = box_features(model, data, batch=3)
    with torch.no_grad():
        rois = model(collate([data[row] for row in range(len(data))])["image"], detections=False).evidence.rois
    seen = seen.unflatten(1, (rois.boxes.shape[1], -1))
    assert seen.shape == (len(data), 4, 1 + 4 + 1)  # lesions are merged: one class
    torch.testing.assert_close(seen[..., 0], rois.scores, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(seen[..., 1:5] * data.image_size, rois.boxes, rtol=1e-4, atol=1e-2)
    assert seen[..., 5].equal((rois.labels > 0).float())


def test_a_slice_without_regions_has_no_lesion_class():
    model = model_of("lstm1", roi_batch=4)
    whole = types.SimpleNamespace(
        scores=torch.zeros(1, 4),
        boxes=torch.tensor([[[0.0, 0, 100, 50]]]).expand(1, 4, 4),
        labels=torch.tensor([[0, 1, 2, 2]]),
    )
    model.rank = lambda candidates: whole

    class One:
        image_size = 100

        def __len__(self):
            return 1

        def __getitem__(self, row):
            return dict(
                id="a",
                image=torch.randn(3, 100, 100),
                boxes=torch.zeros(0, 4),
                labels=torch.zeros(0, dtype=torch.long),
                masks=torch.zeros(0, 100, 100, dtype=torch.uint8),
                image_label=0,
                size=(100, 100),
            )

    seen = box_features(model, One()).view(4, -1)
    assert seen[:, 1:5].tolist() == [[0, 0, 1, 0.5]] * 4 and seen[:, 5:].tolist() == [[0, 0], [1, 0], [0, 1], [0, 1]]


def test_logistic_regression_is_the_penalised_optimum():
    """The same answers as plain gradient descent on the same loss; a heavy penalty leaves the commonest class; the
    scale of a feature is no matter.
    """
    draw = np.random.default_rng(0)
    points, labels = torch.from_numpy(draw.normal(size=(60, 4))), torch.from_numpy(draw.integers(0, 3, 60))
    points[:, 0] += labels
    x, weight, bias = (
        (points - points.mean(0)) / points.std(0, correction=0),
        torch.zeros(4, 3, dtype=torch.float64),
        torch.zeros(3, dtype=torch.float64),
    )
    for _ in range(3000):
        wrong = ((x @ weight + bias).softmax(1) - torch.nn.functional.one_hot(labels, 3)) / 60
        weight, bias = weight - 0.5 * (x.T @ wrong + 0.1 * weight), bias - 0.5 * wrong.sum(0)
    predicted = logistic_regression(points, labels, points, 0.1)
    np.testing.assert_array_equal(predicted, (x @ weight + bias).argmax(1))
    np.testing.assert_array_equal(
        predicted,
        logistic_regression(points * torch.tensor([1, 1e3, 1, 1]), labels, points * torch.tensor([1, 1e3, 1, 1]), 0.1),
    )
    assert set(logistic_regression(points, labels, points, 1e6)) == {int(labels.bincount().argmax())}


def test_the_plain_backbone_gets_its_time_by_whole_steps(tmp_path, monkeypatch):
    """By a clock that ticks once a reading: a step takes one tick, a look at the validation patients another one; the
    optimiser's step and the device count.
    """
    experiment = tiny(model="classifier", epochs=4, classification_batch=4, validate_every=2)
    parts = ExperimentData(experiment, prepare_data(experiment.data, tmp_path, progress=False))
    slices, steps, stepped = len(parts.dataset("train", labelled=True)), [], torch.optim.AdamW.step
    monkeypatch.setattr(demo.time, "monotonic", itertools.count().__next__)
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self, *words: steps.append(1) or stepped(self, *words))
    looks = -(-2 * slices // 4)  # steps from one look to the next
    expected = 100 / (1 + 1 / looks) * 4 / -(-4 * slices // 4)
    assert demo.epochs_in(100, experiment, parts) == pytest.approx(expected, abs=0.01) and len(steps) == 6
    assert demo.epochs_in(0.1, experiment, parts) == 1
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="no GPU"):
            demo.epochs_in(100, tiny(model="classifier", device="cuda"), parts)


def test_the_time_of_the_plain_backbone_is_that_of_a_machine_as_busy_as_it_was(tmp_path, monkeypatch):
    "A detector whose steps took half as long in training as now: half the seconds of now were counted then."
    experiment = tiny(model="classifier", epochs=4, classification_batch=4, validate_every=2)
    parts = ExperimentData(experiment, prepare_data(experiment.data, tmp_path, progress=False))
    found = tiny(model="mask-rcnn", detector_epochs=4, validate_every=2)
    [stage] = stages_of(build_model(found), ExperimentData(found, parts.table), torch.device("cpu"))
    monkeypatch.setattr(demo, "load_model", lambda run, device: build_model(run.experiment))
    monkeypatch.setattr(demo.time, "monotonic", itertools.count().__next__)
    alone, ticks = demo.epochs_in(100, experiment, parts), stage.steps * (1 + 1 / stage.validate_every)
    for share, factor in ((1, 1), (0.5, 2)):
        detector = types.SimpleNamespace(experiment=found, training_seconds=share * ticks)
        assert demo.epochs_in(100, experiment, parts, detector) == pytest.approx(factor * alone, abs=0.01)


def test_demos_are_summarised(tmp_path):
    "One AP for the detector that all share; demos from when it stood in every row still open."
    for seed in range(3):
        row = {
            "model": "LSTM-2",
            "weighted F1": 0.8 + seed / 100,
            "sensitivity Normal": 0.9,
            "sensitivity CP": 0.8,
            "sensitivity COVID-19": 0.7,
        }
        found = {"seed": seed, "rows": [row], "detector": {"AP@0.5": 0.5, "AP@0.75": 0.2, "AP@[.5:.95]": None}}
        if seed == 2:
            found = {"seed": seed, "rows": [row | {"AP@0.5": 0.4, "AP@0.75": 0.2, "AP@[.5:.95]": 0.25}]}
        (tmp_path / str(seed)).mkdir()
        (tmp_path / str(seed) / "results.json").write_text(json.dumps(found))
    new = demo.summarise([tmp_path / "0", tmp_path / "1"])
    assert new.loc["LSTM-2", "weighted F1"] == "0.805 ± 0.007 (0.800-0.810)" and new.loc["LSTM-2", "AP@0.5"] == ""
    assert (
        new.loc["shared detector", "AP@0.5"] == "0.500 ± 0.000 (0.500-0.500)"
        and new.loc["shared detector", "weighted F1"] == ""
    )
    assert demo.summarise([tmp_path / "2"]).loc["LSTM-2", "AP@0.5"].startswith("0.400")


def test_rows_of_earlier_demos_are_those_of_today(tmp_path):
    "Earlier versions wrote the names of the baselines in lower case."
    for seed, name in enumerate(("plain backbone", "Plain backbone")):
        (tmp_path / str(seed)).mkdir()
        (tmp_path / str(seed) / "results.json").write_text(json.dumps({"rows": [{"model": name, "weighted F1": 0.5}]}))
    assert list(demo.summarise([tmp_path / "0", tmp_path / "1"]).index) == ["Plain backbone"]
