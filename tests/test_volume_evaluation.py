"Volumes and their slices scored: known values, other libraries, invariants; the files and the picture of a run."

import itertools
import json
import re
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import tiny
from sklearn.metrics import precision_recall_fscore_support, roc_auc_score
from test_scoring_speed import in_processes

from covid_workbench.data.dataset import SliceDataset
from covid_workbench.data.description import OBJECT_CLASSES
from covid_workbench.data.phantom import PhantomSettings, write_phantom
from covid_workbench.data.slices import SliceTable
from covid_workbench.errors import InputError
from covid_workbench.evaluation.evaluate import _source_notes, evaluate
from covid_workbench.evaluation.inference import NotFiniteError
from covid_workbench.evaluation.over_patients import (
    DECISIONS,
    Draws,
    binary_figures,
    decision_figures,
    drawn_mean,
    one_against_rest,
    roc_auc,
    weighted_auc,
)
from covid_workbench.evaluation.slice_answers import (
    SLICE_RULES,
    slice_answers_of,
    slice_rows,
    slice_scores,
    slice_truth,
)
from covid_workbench.evaluation.volume_baselines import (
    _geometry,
    _histogram,
    source_notes,
    volume_baselines,
)
from covid_workbench.evaluation.volumes import VolumePrediction, predict_volumes, score_volumes, scored_volumes
from covid_workbench.models.volume_network import VolumeEvidence
from covid_workbench.models.volume_settings import VolumeSettings
from covid_workbench.reports.run_report import attention_gallery, detection_gallery, score_table
from covid_workbench.reports.volume_picture import volume_picture
from covid_workbench.reports.volume_report import (
    slice_sentence,
    slice_table,
    volume_gallery,
    volume_table,
    write_volume_report,
)
from covid_workbench.runs.datasets import ExperimentData
from covid_workbench.runs.run import Run
from covid_workbench.schemas import check_content
from covid_workbench.training.train import train
from covid_workbench.volumes.dataset import VolumeDataset, VolumeStack
from covid_workbench.volumes.volume_rows import VolumeRows

CLASSES = ("Normal", "COVID-19")
VOLUMES = dict(model="resnext-plus", phantom_slices=5, phantom_patients=15, phantom_size=64, image_size=32)


# -- figures


@pytest.mark.parametrize("seed", range(5))
def test_figures_are_those_of_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    truth, scores = rng.random(40) < 0.4, rng.integers(0, 6, 40) / 5  # with ties
    found = binary_figures(truth, scores > 0.5, Draws.of(["one"] * 40), scores)
    precision, recall, f1, _ = precision_recall_fscore_support(truth, scores > 0.5, average="binary")
    expected = {"precision": precision, "sensitivity": recall, "F1": f1, "AUC": roc_auc_score(truth, scores)}
    assert {name: found[name][0] for name in expected} == pytest.approx(expected)
    assert found["specificity"][0] == pytest.approx((~truth & (scores <= 0.5)).sum() / (~truth).sum())
    times = rng.integers(0, 4, (3, 40))
    areas = [roc_auc_score(truth, scores, sample_weight=row) for row in times]
    assert weighted_auc(truth, scores, times) == pytest.approx(areas)
    assert all(own[1:] == [None, None] for own in found.values())  # of one patient


def test_what_is_not_defined_is_nothing_and_no_zero():
    found = binary_figures([True, False], [False, False], Draws.of(["a", "b"]), [0.1, 0.2])
    assert found["precision"] == [None, None, None] and found["sensitivity"][0] == 0 == found["AUC"][0]
    assert np.isnan(roc_auc([True, True], [1, 2])) and np.isnan(roc_auc([], []))
    assert np.isnan(decision_figures([0, 0, 0, 0])["accuracy"])
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_intervals_come_from_patients():
    "Thirty cases of each of 20 patients, all of a patient right or wrong: as wide as 20 cases, not as 600."
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(20), 30)
    truth, right = patients % 2 == 0, np.repeat(rng.random(20) < 0.75, 30)
    yes, scores = np.where(right, truth, ~truth), np.where(right, truth, ~truth) + rng.random(600) / 9
    wide, narrow = (binary_figures(truth, yes, Draws.of(who), scores) for who in (patients, np.arange(600)))
    for name in (*DECISIONS, "AUC"):
        low, high = wide[name][1:]
        assert low < wide[name][0] < high and high - low > 3 * (narrow[name][2] - narrow[name][1])
    shuffled = rng.permutation(600)
    again = binary_figures(truth[shuffled], yes[shuffled], Draws.of(patients[shuffled]), scores[shuffled])
    assert all(again[name] == pytest.approx(wide[name]) for name in wide)
    unknown = binary_figures(truth, yes, Draws.of(["", *map(str, patients[1:])]), scores)
    assert all(own[1:] == [None, None] for own in unknown.values())
    values, draws = rng.random(4), Draws.of(list("aabb"), 400)
    assert drawn_mean(values, draws)[1:] == pytest.approx(
        [values[:2].mean(), values[2:].mean()][:: 1 if values[:2].mean() < values[2:].mean() else -1]
    )


def test_two_classes_are_one_question_and_three_are_three():
    draws, chances = Draws.of(["a", "b", "c"]), np.array([[0.9, 0.1, 0], [0.2, 0.7, 0.1], [0.3, 0.3, 0.4]])
    names = ("Normal", "CP", "COVID-19")
    three = one_against_rest(names, chances, draws, names, "Normal")
    assert list(three) == list(names) and all(own["AUC"][0] == 1 for own in three.values())
    assert list(one_against_rest(["COVID-19"] * 3, chances[:, :2], draws, CLASSES, "Normal")) == ["COVID-19"]
    turned = one_against_rest(["COVID-19"] * 3, chances[:, :2], draws, CLASSES[::-1], "Normal")
    assert list(turned) == ["COVID-19"] and turned["COVID-19"]["sensitivity"][0] == pytest.approx(2 / 3)


# -- slices


def test_the_truth_of_a_slice():
    nobody = np.full(3, np.nan)

    def truth(labels, lesion, label):
        return [None if np.isnan(value) else int(value) for value in slice_truth(labels, lesion, label, "Normal")]

    assert truth(["CP", "Normal", ""], nobody, "CP") == [1, 0, None]
    assert truth(["CP"] * 3, nobody, "CP") == [None] * 3  # the label of the scan
    assert truth(["Normal", "", "Normal"], nobody, "Normal") == [0, 0, 0]
    assert truth([""] * 3, nobody, "") == [None] * 3
    assert truth(["CP"] * 3, np.array([0.0, 1e-6, np.nan]), "CP") == [0, 1, None]  # a mask says more than a label


def test_equal_attention_is_a_yes_for_no_slice():
    for count in (1, 3, 7, 50):
        even = np.full(count, np.float32(1) / np.float32(count))
        assert not any(rule(even.astype(float)).any() for rule in SLICE_RULES.values())
    peak = np.array([0.1, 0.1, 0.1, 0.7])
    assert all(rule(peak).tolist() == [False, False, False, True] for rule in SLICE_RULES.values())
    assert SLICE_RULES["above_mean"](np.linspace(1, 8, 8) / 36).sum() == 4
    assert SLICE_RULES["top_quarter"](np.linspace(1, 8, 8) / 36).sum() == 2


def invented(looks_right=True, normal_answer=False):
    "Slices of two ill volumes of 8 and 4 slices and a normal one; attention is on the lesions, or away from them."
    rows, about = [], {}
    for number, (count, lesions) in enumerate([(8, (2, 3)), (4, (0,)), (6, ())]):
        truth = np.isin(np.arange(count), lesions).astype(float)
        weights = np.where(truth == looks_right, 3.0, 1.0) if len(lesions) else np.arange(1.0, count + 1)
        name = f"V{number}"
        rows += slice_rows(
            name, [f"{name}-{n}" for n in range(count)], np.arange(count), weights / weights.sum(), truth
        )
        ill = bool(lesions) or normal_answer
        about[name] = {"patient": f"P{number}", "ill": 0.9 if ill else 0.1, "answer": ill}
    return pd.DataFrame(rows), pd.DataFrame.from_dict(about, orient="index")


def test_slice_scores_of_attention_on_lesions_and_away_from_them():
    scores = slice_scores(*invented())
    assert (scores["slices"], scores["with_lesion"], scores["volumes"]) == (18, 3, 2)
    assert scores["auc_within"][0] == 1 and scores["auc_with_volume"][0] == 1
    assert 0.5 < scores["auc_pooled"][0] <= 1
    within, with_volume = scores["rules"]["above_mean"].values()
    assert within["F1"][0] == 1 and with_volume["F1"][0] == 1
    fooled = slice_scores(*invented(normal_answer=True))
    assert fooled["rules"]["above_mean"]["with_volume"]["specificity"][0] < 1  # slices of the normal volume count
    assert fooled["rules"]["above_mean"]["within"]["specificity"][0] == 1
    rows, about = invented()
    one = slice_scores(rows[rows["volume"] != "V1"], about.drop("V1"))  # both kinds of slices in one patient alone
    assert one["rules"]["above_mean"]["within"]["F1"] == [1.0, None, None] == one["auc_within"]
    assert None not in scores["auc_pooled"] and one["auc_pooled"][1:] == [None, None]  # lesions in one patient alone
    assert slice_scores(*invented(looks_right=False))["auc_within"][0] == 0


def test_the_lung_in_a_slice_is_judged_as_attention_is():
    "Attention on the lesions beside lungs that are largest elsewhere; runs from before have no such column."
    rows, about = invented()
    rows["lungs"] = rows["truth"].map({0.0: 0.4, 1.0: 0.2})
    scores = slice_scores(rows, about)
    assert scores["auc_lungs"][:2] == [0, 0] and scores["auc_within"][0] == 1
    assert scores["auc_lungs"][2] > 0.9  # two patients of one kind prove little
    assert slice_scores(rows.assign(lungs=0.1), about)["auc_lungs"][0] == 0.5
    assert "auc_lungs" not in slice_scores(rows.drop(columns="lungs"), about)


def test_unknown_slices_do_not_count_and_none_known_is_no_score():
    rows, about = invented()
    more = rows[rows["volume"] == "V0"].assign(volume="V9", truth=None)
    both = slice_scores(pd.concat([rows, more]), pd.concat([about, about.loc[["V0"]].set_axis(["V9"])]))
    alone = slice_scores(rows, about)
    assert both == alone | {"unknown": 8}
    assert slice_scores(more, about.loc[["V0"]].set_axis(["V9"])) is None
    assert slice_scores(rows, about.iloc[2:])["auc_within"] == [None, None, None]  # of a normal volume alone


# -- a model that is known


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    "Seven phantom volumes of six slices, of which five are read."
    folder = tmp_path_factory.mktemp("volumes")
    write_phantom(folder, 7, settings=PhantomSettings(size=64, slices=6), progress=False)
    table = SliceTable.from_csv(folder / "slices.csv")
    held = SliceDataset(table, image_size=32, objects=OBJECT_CLASSES["lesions"], min_area=4, classes=CLASSES)
    return VolumeDataset(held, VolumeSettings(volume_slices=5))


class Told(torch.nn.Module):
    "Knows the lesions: a volume is as ill as its slices have them, and attention lies on them."

    def __init__(self, dataset: VolumeDataset, attends: bool = True):
        super().__init__()
        self.weight, self.attends = torch.nn.Parameter(torch.ones(1)), attends
        self.lesion = {}
        for item in range(len(dataset)):
            sample, stack = dataset.sample(item), dataset.stack(item)
            self.lesion[self.key(sample["pixels"])] = torch.from_numpy(stack.lesion[sample["places"]] > 0).float()
        self.asked = []

    @staticmethod
    def key(pixels: torch.Tensor) -> bytes:
        return (pixels.float() - pixels.float().mean()).sign().numpy().tobytes()

    def forward(self, slices, lungs, valid):
        assert not self.training
        self.asked.append(len(slices))
        by_count = [self.lesion[own] for own in self.names]
        found = torch.nn.utils.rnn.pad_sequence(by_count, batch_first=True)
        weights = torch.exp(found).masked_fill(~valid, 0)
        logits = torch.stack([torch.zeros(len(found)), found.sum(1) - 0.5], 1) * self.weight
        return VolumeEvidence(logits, weights / weights.sum(1, keepdim=True) if self.attends else None, slices)


@pytest.fixture
def told(volumes, monkeypatch):
    "Makes such a model, which is told which volumes a batch holds."

    def make(**parts) -> Told:
        model, images = Told(volumes, **parts), volumes.images

        def noted(batch, device=None):
            model.names = [model.key(own[there]) for own, there in zip(batch["pixels"], batch["valid"])]
            return images(batch, device)

        monkeypatch.setattr(volumes, "images", noted)
        return model

    return make


def test_a_perfect_model_scores_perfectly_and_other_classes_do_not_count(volumes, told):
    scored = scored_volumes(told(), volumes, bootstrap=50)
    labels = [volume.label for volume in volumes.volumes]
    known = [label for label in labels if label in CLASSES]
    assert "CP" in labels and scored.metrics["classification"]["n"] == len(known) < len(labels)
    assert list(scored.predictions["label"]) == [label if label in CLASSES else "" for label in labels]
    figures = scored.metrics["one_against_rest"]["COVID-19"]
    assert {name: own[0] for name, own in figures.items()} == dict.fromkeys((*DECISIONS, "AUC"), 1.0)
    answers = scored.metrics["slice_answers"]
    assert answers["auc_within"][0] == answers["auc_with_volume"][0] == 1
    asked = scored.slices[scored.slices["volume"].isin(scored.predictions["id"][scored.predictions["label"] != ""])]
    assert answers["slices"] == len(asked) == 5 * len(known) and answers["with_lesion"] == asked["truth"].sum() > 0
    frame = volumes.slices.table.frame.set_index("id")
    assert (frame.loc[scored.slices["id"], "index"].to_numpy() == scored.slices["place"]).all()
    assert scored.metrics["slices_read"] == len(scored.slices) == 5 * len(labels)
    check_content({"test": json.loads(json.dumps(scored.metrics))}, "metrics", "here")


def test_batches_rows_workers_and_modes(volumes, told):
    model = told()
    model.train()
    one = list(predict_volumes(model, volumes))
    assert model.training and model.asked == [1] * 7
    three = list(predict_volumes(model, volumes, batch=3))
    assert model.asked[7:] == [3, 3, 1]
    for own, same in zip(one, three, strict=True):
        assert own.id == same.id and (own.logits == same.logits).all() and np.allclose(own.attention, same.attention)
    chosen = list(predict_volumes(model, volumes, rows=[4, 0], batch=2))
    assert [own.id for own in chosen] == [one[4].id, one[0].id]
    assert [own.id for own in predict_volumes(model, volumes, workers=1)] == [own.id for own in one]
    metrics, rows = score_volumes(model, volumes)
    assert "slice_answers" not in metrics and len(rows) == 7 and metrics["classification"]["accuracy"] == 1
    assert scored_volumes(told(attends=False), volumes).metrics["slice_answers"] is None


def test_numbers_that_are_none_are_refused_with_the_volume(volumes, told):
    model = told()
    with torch.no_grad():
        model.weight.fill_(torch.nan)
    with pytest.raises(NotFiniteError, match=re.escape(volumes.volumes[0].name)):
        next(predict_volumes(model, volumes))


def test_two_processes_score_as_one(volumes, told, tmp_path):
    "Each has half of the volumes, both have the figures and the rows of all."

    def work() -> dict:
        model = told()
        found = scored_volumes(model, volumes, bootstrap=20)
        return {"metrics": found.metrics, "rows": found.predictions.to_csv(), "slices": found.slices.to_csv()} | {
            "seen": sum(model.asked)
        }

    alone, both = work(), in_processes(2, work, tmp_path)
    assert [own["seen"] for own in both] == [4, 3]
    for own in both:
        for name in ("metrics", "rows", "slices"):
            assert own[name] == json.loads(json.dumps(alone[name])), name


# -- a run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    "A complete, evaluated run of volumes."
    made = train(tiny(**VOLUMES), tmp_path_factory.mktemp("runs") / "volumes", progress=False)
    evaluate(made, progress=False)
    return made


def test_what_evaluation_writes(run):
    metrics, rows = run.metrics, slice_answers_of(run)
    for split in ("validation", "test"):
        own = rows[rows["split"] == split]
        assert len(own) == metrics[split]["slices_read"]
        assert own.groupby("volume")["attention"].sum().to_numpy() == pytest.approx(1, abs=1e-4)
        assert set(own["volume"]) == set(run.predictions.query("split == @split")["id"])
        low, high = metrics[split]["classification"]["f1_interval"]
        assert low <= metrics[split]["classification"]["weighted_f1"] <= high
    assert set(rows["truth"].dropna()) <= {0, 1} and set(metrics["baselines"]) == {
        "majority class",
        "grey histogram",
        "slices and spacing",
    }
    assert metrics["regime"] == "volumes" and metrics["notes"] == run.notes


def test_slice_answers_of_another_run_are_refused_or_gone(run, tmp_path):
    other = Run(tmp_path, tiny(model="attention"))
    with pytest.raises(InputError, match="no slice_answers.csv: evaluate the run first"):
        slice_answers_of(other)
    with pytest.raises(InputError, match="is a run of slices"):
        write_volume_report(other, tmp_path / "page.html")
    plain = train(tiny(**VOLUMES, slice_attention=False, epochs=1), run.folder.with_name("plain"), progress=False)
    (plain.folder / "slice_answers.csv").write_text("of an earlier evaluation")
    metrics = evaluate(plain, splits=["test"], progress=False)
    assert metrics["test"]["slice_answers"] is None and not (plain.folder / "slice_answers.csv").exists()
    assert "mean over slices" in volume_gallery(plain) and slice_table(metrics).empty
    assert slice_sentence(metrics).startswith("Nothing is known")


def test_the_page_of_a_run(run, tmp_path):
    page = write_volume_report(run, tmp_path / "page.html").read_text()
    assert "slices and spacing" in page and "most attention" in page and "95 % intervals" in page
    table = volume_table(run.metrics, name="ours")
    assert table["model"].tolist()[:2] == ["ours", "majority class"] and "ROC-AUC" in table
    scores = score_table({"ours": run.metrics, **run.metrics["baselines"]})
    assert "slice AUC" in scores and "AP@0.5" not in scores
    assert "whole slices" in attention_gallery(run) and "no lesions" in detection_gallery(run)
    with pytest.raises(InputError, match="has no volume nowhere"):
        volume_gallery(run, ids=["nowhere"])


def test_the_picture_of_a_volume():
    rng, count = np.random.default_rng(0), 20
    lungs = np.zeros((count, 32, 32), bool)
    lungs[:, 8:24, 6:26] = True
    stack = VolumeStack(rng.integers(0, 255, (count, 32, 32), np.uint8), lungs, np.full(count, np.nan), "a <b> hole")
    attention = rng.dirichlet(np.ones(12))
    answer = VolumePrediction("P<1>", CLASSES, np.zeros(2), np.arange(0, 18)[::1][:12], attention)
    truth = np.where(np.arange(count) < 4, 1.0, np.where(np.arange(count) < 10, 0.0, np.nan))
    svg = volume_picture(stack, answer, truth).svg
    assert svg.count("<image") == 10 and "lesion in 4 of 10 slices with known truth" in svg and "1/12" in svg
    assert "P&lt;1&gt;" in svg and "a &lt;b&gt; hole" in svg and "<1>" not in svg
    shown = [int(place) for place in re.findall(r">slice (\d+)[,<]", svg)][-10:]
    order = np.argsort(-attention, kind="stable")
    assert shown == sorted(order[:5].tolist()) + sorted(order[-5:].tolist())
    one = VolumePrediction("P", CLASSES, np.zeros(2), np.array([0]), np.ones(1))
    assert volume_picture(VolumeStack(stack.pixels[:1], lungs[:1], np.zeros(1)), one).svg.count("<image") == 1
    for wrong, words in ((None, "no slice attention"), (np.ones(3) / 3, "does not fit")):
        with pytest.raises(InputError, match=words):
            volume_picture(stack, VolumePrediction("P", CLASSES, np.zeros(2), np.arange(12), wrong))
    with pytest.raises(InputError, match="does not fit a volume of 5 slices"):
        volume_picture(VolumeStack(stack.pixels[:5], lungs[:5], np.zeros(5)), answer)


# -- sources


def of_sources(*parts) -> list[VolumeRows]:
    "Volumes from (source, label, how many)."
    numbers = itertools.count()
    return [
        VolumeRows(f"V{(n := next(numbers))}", f"P{n}", label, "train", source, (0,))
        for source, label, count in parts
        for _ in range(count)
    ]


def test_sources_with_one_class_are_said():
    (note,) = source_notes(of_sources(("a", "COVID-19", 20), ("b", "Normal", 282)), CLASSES)
    assert "a has COVID-19 alone (20 volumes)" in note and "For 302 of 302 volumes" in note
    (part,) = source_notes(of_sources(("a", "COVID-19", 1), ("b", "Normal", 2), ("b", "COVID-19", 2)), CLASSES)
    assert "For 1 of 5 volumes" in part and "b has" not in part
    for fine in (
        of_sources(("a", "COVID-19", 2), ("a", "Normal", 2)),
        of_sources(("a", "COVID-19", 2), ("b", "COVID-19", 2)),
        of_sources(("a", "COVID-19", 2), ("a", "Normal", 2), ("b", "CP", 5)),  # a class that is not asked for
    ):
        assert source_notes(fine, CLASSES) == []
    many = of_sources(*((f"s{n}", CLASSES[n % 2], 1) for n in range(9)))
    assert "and 5 more sources" in source_notes(many, CLASSES)[0]


@pytest.fixture(scope="module")
def two_sources(tmp_path_factory) -> ExperimentData:
    "All COVID-19 from a hospital whose scans have three slices, all others from an archive with six."
    folder = tmp_path_factory.mktemp("sources")
    write_phantom(folder, 24, settings=PhantomSettings(size=64, slices=6), progress=False)
    table = SliceTable.from_csv(folder / "slices.csv")
    ill = set(table.frame["patient"][table.frame["label"] == "COVID-19"])
    frame = table.frame[~(table.frame["patient"].isin(ill) & (table.frame["index"] > 2))].copy()
    frame.loc[frame["patient"].isin(ill) & (frame["label"] == ""), "label"] = "COVID-19"
    frame["source"] = ["hospital" if patient in ill else "archive" for patient in frame["patient"]]
    people = list(dict.fromkeys(frame["patient"]))
    frame["split"] = ["test" if people.index(patient) % 3 == 0 else "train" for patient in frame["patient"]]
    table = SliceTable(frame.reset_index(drop=True), folder, "two sources")
    return ExperimentData(tiny(model="resnext-plus", image_size=32, classes=CLASSES), table)


def test_what_knows_no_lung_is_right_where_label_is_source(two_sources):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = volume_baselines(two_sources, ["test"], bootstrap=30)
    accuracy = {name: own["test"]["classification"]["accuracy"] for name, own in found.items()}
    assert accuracy["source alone"] == accuracy["slices and spacing"] == 1 > accuracy["majority class"]
    figures = found["source alone"]["test"]["one_against_rest"]["COVID-19"]
    assert figures["sensitivity"] == [1.0, None, None] and "AUC" not in figures  # one patient has it
    (note,) = _source_notes(two_sources)
    assert "hospital has COVID-19 alone" in note and "archive has Normal alone" in note
    # what a survey knows is taken, and nothing is read for it
    frame = two_sources.table.frame
    facts = {own: {"greys": {"32": [1] * 32}, "width": 64, "height": 64, "spacing": 0.7} for own in frame["id"]}
    even = volume_baselines(two_sources, ["test"], facts, bootstrap=0)
    same = even["grey histogram"]["test"]["classification"]["confusion"]
    assert same == even["majority class"]["test"]["classification"]["confusion"]  # one histogram for all says nothing


def test_a_volume_is_described_by_all_slices_that_are_read(volumes):
    "Greys are those of the slices that a model reads; size and spacing are what a survey or the slices say."
    volume, ids = volumes.volumes[0], volumes.slices.table.frame["id"]
    facts = {own: {"greys": {"32": [0] * 32}, "width": 64, "height": 64, "spacing": 0.7} for own in ids}
    for place, row in enumerate(volume.rows):
        facts[ids[row]]["greys"]["32"][place] = 100 + place
    shares = _histogram(volumes, volume, facts).numpy()
    read = volumes.sample(0)["places"].tolist()
    assert len(read) == 5 < len(volume) and shares[read] == pytest.approx(1 / 5) and shares.sum() == pytest.approx(1)
    from_pictures = _histogram(volumes, volume, {}).numpy()
    assert from_pictures.sum() == pytest.approx(1) and (from_pictures > 0).sum() > 5
    assert _geometry(volumes, volume, facts)[:3] == [6, 64, 0.7]
    assert _geometry(volumes, volume, {})[:2] == [6, 64]
