"""Trains a small LSTM-2 model on the phantom and keeps the numbers that pictures are drawn from"""

import io
import json
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from covid_workbench.data.dataset import SliceDataset
from covid_workbench.evaluation.detection import CocoScorer
from covid_workbench.evaluation.inference import Prediction, predict_slices
from covid_workbench.models.oneshot import OneShotModel
from covid_workbench.reports.svg import outline
from covid_workbench.runs.datasets import ExperimentData
from covid_workbench.runs.experiment import Experiment
from covid_workbench.runs.load import load_model
from covid_workbench.runs.run import Run
from covid_workbench.training.train import train
from draw.trained import NUMBERS, numbers

SETTINGS = dict(
    model="lstm2",
    phantom_patients=72,
    phantom_slices=4,
    phantom_size=192,
    phantom_difficulty=0.5,
    detector_epochs=10,
    aggregator_epochs=10,
    seed=0,
    threads=1,
    device="cpu",
)
THRESHOLDS = (0.3, 0.5, 0.75)  # IoU at which a lesion counts as found
SCORE = 0.2  # of the detections that are drawn


def precision_recall(scorer: CocoScorer) -> dict:
    "Precision at COCO's 101 recalls for each of `THRESHOLDS`, its mean (AP), and the number of true lesions."
    truth, results = scorer.coco_json()
    with redirect_stdout(io.StringIO()):
        index = COCO()
        index.dataset = truth
        index.createIndex()
        judge = COCOeval(index, index.loadRes(results), "segm")
        judge.params.iouThrs = np.array(THRESHOLDS)
        judge.params.areaRng, judge.params.areaRngLbl = [[0, 1e10]], ["all"]
        judge.evaluate()
        judge.accumulate()
    precision = judge.eval["precision"][:, :, 0, 0, -1]  # (thresholds, 101)
    curves = {
        f"{threshold:g}": {"ap": round(float(row.mean()), 3), "precision": row.round(3).tolist()}
        for threshold, row in zip(THRESHOLDS, precision)
    }
    return {"lesions": len(truth["annotations"]), "slices": len(truth["images"]), "curves": curves}


def widest(predictions: list[Prediction], labels: dict[str, str | None], wanted: str) -> Prediction:
    "Of the slices with this label that the model gets right, the one on which it spreads its attention most evenly."
    right = [one for one in predictions if labels[one.id] == wanted == one.predicted]
    return min(right, key=lambda one: one.attention[0].max())


def way_of(model: OneShotModel, dataset: SliceDataset, best: Prediction) -> dict:
    "What the model makes of one slice, from proposals to probabilities, in pixels of the slice."
    row = list(dataset.table.frame["id"]).index(best.id)
    images = dataset[row]["image"][None]
    with torch.no_grad():
        proposals = model.eval().detector.propose(images, model.detector.features(images))[0]
    certain = best.detections.scores >= SCORE
    return {
        "slice": best.id,
        "label": dataset.slice(row).label,
        "proposals": proposals.double().numpy().round(1).tolist(),
        "lesions": [outline(mask, 1) for mask in best.detections.masks[certain]],
        "lesion_boxes": best.detections.boxes[certain].astype(float).round(1).tolist(),
        "probabilities": best.probabilities.astype(float).round(3).tolist(),
        "boxes": best.boxes.astype(float).round(1).tolist(),
        "scores": best.scores.astype(float).round(3).tolist(),
        "attention": best.attention.astype(float).round(4).tolist(),
    }


def train_and_keep() -> None:
    "Train, look at the test patients, write `trained.json`."
    with TemporaryDirectory() as folder:
        keep_numbers(train(Experiment.make("small", **SETTINGS), Path(folder) / "run", progress=False))


def keep_numbers(run: Run) -> None:
    "Write the numbers of a finished run to `trained.json`."
    experiment, model = run.experiment, load_model(run)
    dataset = ExperimentData(experiment, run.table).dataset("test")
    slices = [dataset.slice(row) for row in range(len(dataset))]
    predictions = list(predict_slices(model, dataset))
    scorer = CocoScorer(experiment.objects, experiment.data.min_lesion_area, experiment.data.image_size)
    for piece, prediction in zip(slices, predictions):
        scorer.add(piece.id, prediction.detections, piece.mask)
    labels = {piece.id: piece.label for piece in slices}
    found = {
        "settings": {"preset": "small", **SETTINGS},
        "way": way_of(model, dataset, widest(predictions, labels, "COVID-19")),
        "precision_recall": precision_recall(scorer),
    }
    NUMBERS.write_text(json.dumps(found) + "\n")
    numbers.cache_clear()
