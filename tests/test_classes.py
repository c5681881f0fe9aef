"""Classes belong to the data: four lung diseases and five kinds of lesion, from the command line to every page."""

import json
import re
import shutil
from types import SimpleNamespace

import nbformat
import numpy as np
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from PIL import Image
from studies_kit import write_study

import covid_workbench as cw
from covid_workbench.api import experiment_of as cw_experiment_of
from covid_workbench.cli import main
from covid_workbench.data.colours import ON_SLICE, class_colours, lesion_looks, object_colours
from covid_workbench.data.description import STANDARD, ObjectClasses, description_of
from covid_workbench.data.sources import open_source
from covid_workbench.data.splits import split_by_patient
from covid_workbench.data.targets import lesion_targets
from covid_workbench.errors import InputError
from covid_workbench.evaluation.detection import CocoScorer, Detections, lesion_figures
from covid_workbench.reports.run_report import score_table, telling_slices
from covid_workbench.runs.datasets import ExperimentData, prepare_data
from covid_workbench.runs.experiment import Experiment, settings_hash
from covid_workbench.runs.run import Run
from covid_workbench.studies.folder import CellStatus, StudyFolder
from covid_workbench.studies.keys import cell_key
from covid_workbench.studies.shipped import find_study
from covid_workbench.studies.study import Study
from covid_workbench.studies.tables import fill_table
from covid_workbench.training.train import detector_run, train
from covid_workbench.widgets.asking import AttentionView, first_slice
from covid_workbench.widgets.confusion import confusion_of
from covid_workbench.widgets.content import truth_outlines
from covid_workbench.widgets.explorer import open_view
from covid_workbench.widgets.lesions import LesionBrowser

DISEASES = ("healthy", "tuberculosis", "lung abscess", "silicosis")
KINDS = {1: "lung", 2: "cavity", 3: "nodule", 5: "effusion", 7: "fibrosis", 9: "scar"}  # five lesions, with gaps
DATASET = {
    "name": "Four diseases",
    "classes": list(DISEASES),
    "normal": "healthy",
    "mask_values": {str(value): name for value, name in KINDS.items()},
    "organs": ["lung"],
    "objects": {"nested": {"opacity": ["cavity", "nodule", "effusion", "fibrosis", "scar"], "nodule": ["nodule"]}},
    "colours": {"cavity": "#00AA55", "silicosis": "#886600"},
}
LESIONS = tuple(name for name in KINDS.values() if name != "lung")
# names of the papers' data: no page on other data says them
PAPERS = re.compile(r"\b(COVID-19|CP|Normal|GGO|consolidation)\b")
SMALL = dict(
    image_size=64,
    anchor_sizes="6,12",
    proposals_before_nms=30,
    proposals=15,
    rpn_samples=32,
    roi_samples=8,
    fpn_channels=8,
    hidden_size=8,
    validate_every=100,
    threads=1,
    min_lesion_area=2,
)


def write_diseases(folder, dataset=DATASET, patients=5, classes=DISEASES, values=KINDS, slices=1, source="clinic"):
    "A data set on disk: `patients` of each class with `slices` tiny pictures and masks."
    random, rows = np.random.default_rng(0), []
    (folder / "pictures").mkdir(parents=True)
    for number, label in enumerate(label for label in classes for _ in range(patients)):
        for index in range(slices):
            mask = np.zeros((64, 64), np.uint8)
            mask[6:58, 6:58] = min(values)
            kinds = [value for value in values if value != min(values)]
            for at, value in enumerate(kinds[: max(1, classes.index(label) + 2)] if label != classes[0] else ()):
                mask[12 + 8 * at : 18 + 8 * at, 10 + 3 * at : 22 + 3 * at] = value
            pixels = (40 + 12 * mask + random.integers(0, 20, mask.shape)).astype(np.uint8)
            name = f"p{number:02d}_{index}"
            Image.fromarray(pixels).save(folder / "pictures" / f"{name}.png")
            Image.fromarray(mask).save(folder / "pictures" / f"{name}_mask.png")
            files = dict(image=f"pictures/{name}.png", mask=f"pictures/{name}_mask.png")
            rows.append(dict(id=name, patient=f"p{number:02d}", index=index, label=label, source=source) | files)
    pd.DataFrame(rows).to_csv(folder / "slices.csv", index=False)
    if dataset is not None:
        (folder / "dataset.json").write_text(json.dumps(dataset))
    return folder


def words(**settings):
    return [f"{name}={value}" for name, value in (SMALL | settings).items()]


@pytest.fixture(scope="module")
def diseases(tmp_path_factory):
    return write_diseases(tmp_path_factory.mktemp("data") / "diseases")


@pytest.fixture(scope="module")
def run(diseases, tmp_path_factory):
    "A run on the diseases, trained and scored by the command line, in objects that are not nested."
    folder = tmp_path_factory.mktemp("runs") / "own"
    train_it = ["train", str(folder), "--preset", "smoke", "--data", str(diseases), "--set"]
    assert main([*train_it, *words(model="attention", objects="lung+lesions")]) == 0
    assert main(["evaluate", str(folder)]) == 0
    return Run.open(folder)


def test_the_data_name_classes_and_objects(run):
    "Nothing but --data says them; the record keeps what the data set says."
    experiment = run.experiment
    assert experiment.one_shot.classes == DISEASES
    assert experiment.objects == ObjectClasses(tuple(KINDS.values()), tuple((value,) for value in KINDS))
    assert run.description == description_of(DATASET) and run.table.description == run.description
    alone = json.loads((run.folder / "experiment.json").read_text())
    assert not PAPERS.search(json.dumps({name: alone[name] for name in ("data", "one_shot", "record")}))
    detector = run.detector
    assert detector.experiment.one_shot.classes == DISEASES and detector.description == run.description


def test_scores_have_the_names_of_the_data(run):
    metrics = run.metrics
    for split in ("validation", "test"):
        assert list(metrics[split]["classification"]["classes"]) == list(DISEASES)
        assert set(metrics[split]["detection"]) == {*KINDS.values(), "headline", "merged"}
        assert metrics[split]["detection"]["headline"]["rule"] == ", ".join(LESIONS) + " (mean)"
    rows = run.predictions
    assert {f"p_{name}" for name in DISEASES} < set(rows) and set(rows["label"]) == set(DISEASES)
    table = score_table({"own": metrics} | metrics["baselines"])
    assert [name for name in table if name.startswith("sensitivity")] == [f"sensitivity {name}" for name in DISEASES]
    for name in ("metrics.json", "predictions.csv", "slices.csv"):
        assert not PAPERS.search((run.folder / name).read_text())


def test_galleries_and_answers_of_a_run(run, diseases, tmp_path):
    "Every class is among the slices that a report shows; truth and answers are drawn in the colours of the data."
    from covid_workbench.reports.run_report import attention_gallery, detection_gallery

    frame = run.table.frame.set_index("id")
    assert set(frame["label"][telling_slices(run)]) == set(DISEASES)
    pages = attention_gallery(run, inline=True) + detection_gallery(run, score=0.0, inline=True)
    assert not PAPERS.search(pages) and "true cavity" in pages and "#00AA55" in pages and "true scar" in pages
    few = pd.read_csv(diseases / "slices.csv")[18:]
    few.assign(image=str(diseases) + "/" + few["image"], mask="").to_csv(tmp_path / "slices.csv", index=False)
    shutil.copy(diseases / "dataset.json", tmp_path)
    assert main(["predict", str(run.folder), str(tmp_path), "--out", str(tmp_path / "answers"), "--score", "0"]) == 0
    answers = json.loads((tmp_path / "answers" / "predictions.json").read_text())["slices"]
    assert len(answers) == 2 and set(answers[0]["probabilities"]) == set(DISEASES)
    found = {lesion["class"] for entry in answers for lesion in entry["lesions"]}
    assert found <= set(KINDS.values())
    coco = json.loads((tmp_path / "answers" / "lesions.coco.json").read_text())
    assert [category["name"] for category in coco["categories"]] == list(KINDS.values())


COPY = """
import pathlib, shutil
pathlib.Path(folder).mkdir(exist_ok=True)
for name in ("metrics.json", "history.csv", "cost.json"):
    shutil.copy(pathlib.Path({run!r}) / name, folder)
"""


def test_a_study_of_two_cells_and_its_report(diseases, run, tmp_path):
    "Columns of the classes are those of the data, named one by one or all by one word."
    table = {"title": "Slices", "rows": ["model"], "figures": ["sensitivity", "precision silicosis", "AP@0.5"]}
    content = {"name": "own", "axes": {"model": ["attention", "lstm2"]}, "settings": SMALL, "tables": [table]}
    cells = [new_code_cell('preset, settings, folder, shared = "", {}, "", ""', metadata={"tags": ["parameters"]})]
    cells[0].source = 'preset = ""\nsettings = {}\nfolder = ""\nshared = ""'
    kernel = {"kernelspec": {"name": "python3", "display_name": "python3", "language": "python"}}
    cells.append(new_code_cell(COPY.format(run=str(run.folder))))
    nbformat.write(new_notebook(cells=cells, metadata=kernel), tmp_path / "copy.ipynb")
    study = write_study(tmp_path, content | {"notebook": str(tmp_path / "copy.ipynb")})
    out = tmp_path / "out"
    words = ["--data", str(diseases), "--workers", "2", "--no-estimate", "--no-notebook"]
    assert main(["ablate", str(study), "--out", str(out), *words]) == 0
    page = re.sub("<script.*?</script>", "", (out / "report" / "report.html").read_text(), flags=re.DOTALL)
    assert not PAPERS.search(page) and "2 of 2 cells finished" in page
    for name in DISEASES:
        assert f"<th>sensitivity {name}</th>" in page
    assert {f"sensitivity {name}" for name in DISEASES} < set(pd.read_csv(out / "report" / "results.csv"))
    assert Study.from_dict(content).cells(data=str(diseases))[0].experiment().one_shot.classes == DISEASES
    wrong = content | {"tables": [table | {"figures": ["precision silicose"]}]}
    with pytest.raises(
        InputError, match="no figure is called 'precision silicose', did you mean 'precision silicosis'"
    ):
        Study.from_dict(wrong).cells(data=str(diseases))


def test_a_study_of_the_papers_on_other_data(diseases):
    "Columns of classes that no cell has give way to those of the data."
    cells = find_study("affinity").cells("smoke", data=str(diseases))
    on_disk = [CellStatus(cell, "", diseases, {"status": "queued"}) for cell in cells]
    folder = StudyFolder(diseases, find_study("affinity"), {}, tuple(on_disk))
    filled = fill_table(folder, find_study("affinity").tables[0])
    assert filled.columns == (*(f"sensitivity {name}" for name in DISEASES), "weighted F1")
    assert fill_table(folder, find_study("affinity").tables[1]).rules[0] == "lesions merged"


def test_explorers_show_the_names_and_colours_of_the_data(run):
    view = AttentionView([run], run.table.split("test"))
    first = first_slice(view.slices.table.frame, description=view.slices.table.description)
    view.open_slice(first)
    opened = view.runs[0].open
    assert opened.own["classes"] == list(DISEASES) and opened.slice.label == "silicosis"
    assert view.runs[0].colours == DATASET["colours"]
    assert {region["name"] for region in opened.regions} <= {*KINDS.values(), "whole slice"}
    drawn = truth_outlines(opened.slice.mask, opened.slice.description)
    assert [one["name"] for one in drawn] == list(LESIONS) and drawn[0]["colour"] == "#00AA55"
    assert len({(one["colour"], one["dash"]) for one in drawn}) == 5
    confusion = confusion_of(run)
    assert confusion.classes == DISEASES and sum(map(sum, confusion.counts)) == len(run.table.split("test"))

    browser = LesionBrowser(run)
    assert browser.readings == [["merged", "lesion (merged)"], ["classes", ", ".join(LESIONS)]]
    assert browser.organs == "lung" and "healthy" not in dict(browser.volumes)[browser.volume]
    entry = browser.reader.read_slice(first)
    assert {one["name"] for one in entry["readings"]["classes"]["truth"]} == set(LESIONS)
    assert len(entry["readings"]["merged"]["truth"]) <= 5 and entry["lungs"]["truth"]
    assert not PAPERS.search(json.dumps([browser.readings, browser.volumes, drawn, opened.own]))


def test_nested_objects_are_scored_as_they_are(diseases):
    "Perfect answers of nested classes reach the ceiling in every class, and merged, which counts each lesion once."
    table = open_source(diseases)
    held, objects = table.description, table.description.objects["nested"]
    scorer = CocoScorer(objects, 2, None, held)
    assert scorer.merges
    for row in range(10, 20):
        piece = table.read(row)
        truth = lesion_targets(piece.mask, objects, 2)
        scorer.add(piece.id, Detections(truth.boxes, truth.labels, np.ones(len(truth)), truth.masks), piece.mask)
    scores = scorer.score()
    assert [scores[name]["ap50"] for name in ("opacity", "nodule", "merged", "headline")] == [1, 1, 1, 1]
    assert scores["opacity"]["n_truth"] == scores["merged"]["n_truth"] and scores["nodule"]["n_truth"] == 10
    with pytest.raises(InputError, match="holds the value 4, known are 0 background, 1 lung, 2 cavity"):
        nothing = Detections(np.zeros((0, 4)), [], [], np.zeros((0, 8, 8)))
        scorer.add("new", nothing, np.full((8, 8), 4, np.uint8))


def test_no_normal_class_two_classes_and_a_value_above_three(tmp_path):
    content = {
        "classes": ["left", "right"],
        "mask_values": {"7": "haematoma", "200": "air"},
        "organs": [],
        "colours": {},
    }
    folder = write_diseases(tmp_path / "data", content, 6, ("left", "right"), {7: "haematoma", 200: "air"})
    experiment = Experiment.make("smoke", source=str(folder), model="attention", **SMALL)
    assert experiment.one_shot.classes == ("left", "right") and str(experiment.objects) == "lesion=7+200"
    run = train(experiment, tmp_path / "run", progress=False)
    metrics = cw.open_run(run.folder).evaluate(progress=False)
    assert metrics["test"]["detection"]["merged"]["n_truth"] == metrics["test"]["detection"]["headline"]["n_truth"] > 0
    assert run.description.severity == ("", "left", "right") and run.description.normal == ""
    browser = LesionBrowser(run)
    assert browser.organs == "" and browser.reader.entries(browser.volume)[0]["read"]
    view = AttentionView([run], run.table.split("test"))
    assert first_slice(view.slices.table.frame, description=run.description)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (dict(classes="healthy,silicose"), "'silicose' is unknown, did you mean 'silicosis'"),
        (dict(classes="Normal,CP"), "'Normal' is unknown, choose one of: healthy"),
        (dict(objects="nestled"), "'nestled' is none of the data set, did you mean 'nested'"),
        (dict(objects="GGO"), "'GGO' is none of the data set"),
        (dict(objects="hole=4"), "hole is mask value 4, which the data set does not have"),
        (dict(objects="merged=2"), "cannot be called 'merged', the name of a figure"),
        (dict(f1_weights="fixed"), "f1_weights=fixed holds for the papers' data alone; use f1_weights=test"),
        (dict(labels_by="rank"), "labels_by=rank holds for the papers' data alone"),
    ],
)
def test_names_that_the_data_do_not_have(diseases, settings, said):
    with pytest.raises(InputError, match=said):
        Experiment.make("smoke", source=str(diseases), **settings)


def test_presets_and_protocols_of_the_papers_fit_other_data(diseases):
    "What holds for the papers' data alone gives way where a preset asked for it."
    for protocol in ("paper", "released", "default"):
        experiment = Experiment.make("paper", protocol=protocol, source=str(diseases))
        assert (experiment.protocol.f1_weights, experiment.protocol.labels_by) == ("test", "value")
        assert len(experiment.objects) == 6 and experiment.one_shot.classes == DISEASES
    assert Experiment.make("paper", protocol="released").protocol.f1_weights == "fixed"


def test_relabelling_in_names_of_the_data(diseases, tmp_path):
    settings = SMALL | dict(relabel="lung abscess=tuberculosis", classes="healthy,tuberculosis")
    experiment = Experiment.make("smoke", source=str(diseases), model="attention", **settings)
    table = prepare_data(experiment.data, tmp_path)
    assert table.frame["label"].value_counts().to_dict() == {"tuberculosis": 10, "healthy": 5, "silicosis": 5}
    assert not ExperimentData(experiment, table).missing_classes()
    with pytest.raises(InputError, match="label 'lung abces' is unknown, did you mean 'lung abscess'"):
        prepare_data(experiment.replace(relabel="lung abces=tuberculosis").data, tmp_path)


def test_a_split_by_the_most_telling_class(diseases):
    "Patients with healthy and ill slices count as ill, by the data's own order; else one ill patient would be left."
    table = open_source(diseases)
    frame = table.frame
    healthy_too = frame[frame["label"] == "tuberculosis"][:4].assign(label="healthy")
    mixed = pd.concat([frame, healthy_too.assign(id="again " + healthy_too["id"])], ignore_index=True)
    split = split_by_patient(table.with_rows(mixed), 0.2, 0.2, 0).frame
    ill = split[split["label"] == "tuberculosis"].groupby("patient")["split"].first()
    assert sorted(ill) == ["test", "train", "train", "train", "validation"]


# Other data for a run


def other_data(folder, **changes):
    return write_diseases(folder, DATASET | changes, classes=changes.get("classes", DISEASES), source=folder.name)


def experiment_of(words):
    "The experiment that the words of `train` describe."
    from covid_workbench import cli

    return cli._experiment(cli.parser().parse_args(["train", "new", *words]))


def test_fine_tuning_takes_the_classes_of_the_new_data(run, tmp_path):
    three = other_data(tmp_path / "three", classes=["healthy", "pneumoconiosis", "asthma"], colours={})
    moved = experiment_of(["--from", str(run.folder), "--data", str(three)])
    assert moved.one_shot.classes == ("healthy", "pneumoconiosis", "asthma") and moved.objects == run.experiment.objects
    two = experiment_of(["--from", str(run.folder), "--data", str(three), "--set", "classes=healthy,asthma"])
    assert two.one_shot.classes == ("healthy", "asthma")
    with pytest.raises(InputError, match="'astma' is unknown, did you mean 'asthma'"):
        experiment_of(["--from", str(run.folder), "--data", str(three), "--set", "classes=healthy,astma"])
    same = write_diseases(tmp_path / "same")
    chosen = run.experiment.replace(classes=("silicosis", "healthy"))
    assert chosen.replace(before=run.description, source=str(same)).one_shot.classes == ("silicosis", "healthy")
    assert run.experiment.replace(before=run.description, source="phantom").one_shot.classes == STANDARD.classes

    tuned = train(moved.replace(epochs=0.2), tmp_path / "runs" / "tuned", progress=False)
    assert tuned.description.classes == moved.one_shot.classes
    assert list(cw.open_run(tuned.folder).evaluate(progress=False)["test"]["classification"]["classes"]) == [
        "healthy",
        "pneumoconiosis",
        "asthma",
    ]


def test_masks_of_another_meaning_are_refused(run, tmp_path):
    "Value 2 is a cavity for the run and a bulla there: scores would mean nothing."
    values = DATASET["mask_values"] | {"2": "bulla"}
    other = other_data(tmp_path / "other", mask_values=values, objects=None, colours={})
    said = f"other.slices.csv: mask value 2 is bulla there, and is cavity for {run.folder}"
    with pytest.raises(InputError, match=said):
        LesionBrowser(run, other)
    with pytest.raises(InputError, match=said):
        open_view(run, other, split="test", device="cpu")
    moved = experiment_of(["--from", str(run.folder), "--data", str(other), "--set", "epochs=0.1"])
    with pytest.raises(InputError, match=said):
        train(moved, tmp_path / "moved", progress=False)
    fewer = other_data(tmp_path / "fewer", mask_values={"1": "lung", "2": "cavity"}, objects=None, colours={})
    frame = pd.read_csv(fewer / "slices.csv")
    frame.assign(mask="").to_csv(fewer / "slices.csv", index=False)
    LesionBrowser(run, fewer)  # without masks there is nothing to mistake


# Runs and settings of before


def test_keys_of_before_stay_what_they_were(tmp_path):
    "Computed by the version before classes belonged to the data."
    notebook = tmp_path / "n.ipynb"
    notebook.write_text(json.dumps({"cells": [{"cell_type": "code", "source": ["x"]}]}))
    before = {
        ("smoke", "lstm2"): ("13ac19a96b53", "8f513ea72a34", "051b4cb25d"),
        ("paper", "lstm2"): ("4d1edac1224a", "59ddcf19f3fd", "18d07efc7c"),
        ("small", "affinity"): ("c42c27058a74", "e145026c348c", "77815b61cf"),
    }

    class Table:
        description = STANDARD

        def fingerprint(self):
            return "c-0"

    for (preset, model), (hashed, detector, cell) in before.items():
        experiment = Experiment.make(preset, model=model)
        content = json.loads(experiment.to_json())
        assert settings_hash(content)[:12] == hashed
        assert detector_run(experiment, Table(), tmp_path)[1].name == f"detector-{detector}"
        assert cell_key(experiment.flat(), notebook, "d", "p") == cell
        content["data"]["window"] = "bone"
        assert settings_hash(content)[:12] != hashed


def test_a_run_of_before_has_the_papers_classes(finished, tmp_path):
    "A record without `dataset`, as earlier versions wrote it."
    copy = tmp_path / "runs" / "old"
    shutil.copytree(finished.folder.parent, tmp_path / "runs", dirs_exist_ok=True)
    (tmp_path / "runs" / "attention").rename(copy)
    assert "dataset" not in json.loads((copy / "experiment.json").read_text())["record"]
    old = Run.open(copy)
    assert old.description == STANDARD and old.table.description == STANDARD
    assert old.experiment == finished.experiment and not old.record.get("dataset")
    assert lesion_figures({"GGO": {"ap50": 0.5, "n_truth": 1, "n_predictions": 1}})["headline"]["rule"] == "GGO"
    frame = old.table.frame
    assert first_slice(frame) == frame["id"][frame["label"] == "COVID-19"].iloc[0]
    assert list(lesion_looks().values()) == [("GGO", "#35D6A2", "5 3"), ("consolidation", "#F0A6DE", "1.5 2.5")]


# Names, colours, modules


def test_colours_are_those_of_the_data_or_of_the_sequence():
    held = description_of(DATASET)
    looks = lesion_looks(held)
    assert looks[2].colour == "#00AA55" and [look.colour for look in looks.values()][1:] == list(ON_SLICE[1:5])
    assert len({look.dashes for look in looks.values()}) == 5
    assert object_colours(held.objects["nested"], held)["nodule"] == looks[3].colour
    assert (
        class_colours(DISEASES, held)["silicosis"] == "#886600"
        and len(set(class_colours(DISEASES, held).values())) == 4
    )
    assert class_colours(DISEASES[2:], held)["lung abscess"] == class_colours(DISEASES, held)["lung abscess"]


def test_a_module_takes_the_names_of_the_data(diseases, tmp_path):
    data = cw.open_slices(diseases)
    sizes = {name: value for name, value in SMALL.items() if name not in ("image_size", "validate_every", "threads")}
    sizes.pop("min_lesion_area")
    small = dict(backbone="resnet18", levels=1, cut="layer2", mask_layers=1, mask_channels=0, fpn_channels=8) | sizes
    model = cw.create_model("attention", num_classes=4, object_classes=6, **small)
    experiment = cw_experiment_of(model, "smoke", {"source": str(diseases)}, data.description)
    assert experiment.one_shot.classes == DISEASES and len(experiment.objects) == 6
    named = cw.create_model("attention", object_classes=1, classes=("silicosis", "healthy"), **small)
    chosen = cw_experiment_of(named, "smoke", {"source": str(diseases)}, data.description)
    assert chosen.one_shot.classes == ("silicosis", "healthy") and str(chosen.objects).startswith("lesion=")
    with pytest.raises(InputError, match="tells 3 classes apart, and the data set has 4 .healthy"):
        cw_experiment_of(cw.create_model("attention", object_classes=1, **small), "smoke", {}, data.description)
    with pytest.raises(InputError, match="does not fit a model of 4 lesion classes"):
        other = cw.create_model("attention", num_classes=4, object_classes=4, **small)
        cw_experiment_of(other, "smoke", {"source": str(diseases)}, data.description)


def test_one_class_is_enough_for_a_detector_alone(tmp_path):
    content = {"classes": ["ill"], "mask_values": {"1": "lung", "2": "cavity"}}
    folder = write_diseases(tmp_path / "data", content, 6, ("ill",), {1: "lung", 2: "cavity"})
    detector = Experiment.make("smoke", source=str(folder), model="mask-rcnn")
    assert detector.one_shot.classes == ("ill",) and str(detector.objects) == "lesion=2"
    with pytest.raises(InputError, match="classes=ill: name at least two different classes"):
        Experiment.make("smoke", source=str(folder), model="attention")


def test_a_matrix_of_many_classes_with_names_of_any_letters():
    "Names that look like numbers or markup stay names."
    from covid_workbench.evaluation.classification import classification_scores, confusion_figure

    names = ("1", "2020-01-01", "<b>bold</b>", "A & B", "last")
    figure = confusion_figure(classification_scores(list(names), list(names), names))
    assert figure.layout.xaxis.type == figure.layout.yaxis.type == "category" and figure.layout.width > 500
    assert figure.data[0].x[2] == "&lt;b&gt;bold&lt;/b&gt;" and len(figure.layout.annotations) == 25


@pytest.mark.parametrize(("count", "shown"), [(3, 6), (5, 10), (30, 24)])
def test_a_gallery_has_two_slices_of_each_class_or_one_of_many(count, shown):
    names = [f"class {number}" for number in range(count)]
    rows = [
        {"id": f"{name} {at}", "split": "test", "label": name, "predicted": name if at else names[number - 1]}
        | {f"p_{other}": 0.5 for other in names}
        for number, name in enumerate(names)
        for at in range(3)
    ]
    experiment = SimpleNamespace(one_shot=SimpleNamespace(classes=names))
    ids = telling_slices(SimpleNamespace(predictions=pd.DataFrame(rows), experiment=experiment))
    assert len(ids) == shown and len({name.rsplit(" ", 1)[0] for name in ids}) == min(count, 24)
