"""Real files, where they are there: published layouts, real masks, real slices through a model."""

import json
from collections import Counter

import numpy as np

from covid_workbench.data.description import CONSOLIDATION, GROUND_GLASS
from covid_workbench.data.sources import open_source
from covid_workbench.evaluation.evaluate import evaluate
from covid_workbench.runs.experiment import Experiment
from covid_workbench.training.train import train


def test_covid_semiseg_opens_with_its_own_split(shared):
    table = open_source(shared / "data" / "covid-semiseg")
    assert Counter(table.frame["split"]) == {"train": 45, "validation": 5, "test": 48}
    values = Counter()
    for row in range(0, len(table), 7):
        piece = table.read(row)
        assert piece.pixels.shape == piece.mask.shape
        values.update(np.unique(piece.mask).tolist())
    assert set(values) == {0, GROUND_GLASS, CONSOLIDATION}


def test_a_model_trains_and_scores_on_real_slices(shared, tmp_path):
    experiment = Experiment.make(
        "smoke",
        model="mask-rcnn",
        source=str(shared / "data" / "covid-semiseg"),
        objects="lesions",
        detector_epochs=0.2,
    )
    metrics = evaluate(train(experiment, tmp_path / "run", progress=False), progress=False)
    assert metrics["test"]["slices"] == 48 and metrics["test"]["classification"] is None
    assert set(metrics["test"]["detection"]) == {"GGO", "consolidation", "headline", "merged"}
    assert metrics["test"]["detection"]["GGO"]["n_truth"] > 100


def test_a_folder_of_pictures_can_be_predicted(shared, finished, command, tmp_path):
    code, _, err = command(
        "predict", finished.folder, shared / "data" / "sarscov2-ctscan-sample" / "COVID", "--out", tmp_path / "out"
    )
    assert code == 0, err
    answers = json.loads((tmp_path / "out" / "predictions.json").read_text())["slices"]
    assert len(answers) == len(list((tmp_path / "out" / "overlays").glob("*.png"))) > 0
    for answer in answers:
        assert (
            abs(sum(answer["probabilities"].values()) - 1) < 1e-3
            and len(answer["regions"]) == finished.experiment.one_shot.roi_batch
        )
    assert {"images", "annotations"} <= set(json.loads((tmp_path / "out" / "lesions.coco.json").read_text()))
