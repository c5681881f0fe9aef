"""Who is tested: every source is split on its own, a test holds every class, patients never cross unsaid, and scores
stand beside baselines.
"""

import json
import shutil
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from conftest import as_older, assignments, tiny
from PIL import Image
from torch import nn

from covid_workbench.data.dataset import SliceDataset
from covid_workbench.data.description import CLASS_NAMES, GROUND_GLASS, OBJECT_CLASSES
from covid_workbench.data.phantom import PhantomSettings, write_phantom
from covid_workbench.data.slices import SliceTable
from covid_workbench.data.sources import open_source
from covid_workbench.data.splits import crossing_notes, split_by_patient
from covid_workbench.errors import InputError
from covid_workbench.evaluation import inference
from covid_workbench.evaluation.baselines import simple_baselines
from covid_workbench.evaluation.detection import CocoScorer, Detections
from covid_workbench.evaluation.evaluate import evaluate
from covid_workbench.reports.run_report import notes_html
from covid_workbench.runs.datasets import ExperimentData, prepare_data
from covid_workbench.runs.lineage import same_patients, start_notes
from covid_workbench.runs.run import Run
from covid_workbench.training.train import train


def rows(source, patients=18, labels=CLASS_NAMES, **columns) -> pd.DataFrame:
    "Two slices a patient, who is of each class in turn."
    return pd.DataFrame(
        [
            dict(
                id=f"{source}_{number}_{index}",
                patient=f"P{number}",
                image=f"{number}_{index}.png",
                label=labels[number % len(labels)],
                source=source,
            )
            | columns
            for number in range(patients)
            for index in range(2)
        ]
    )


def table(*frames, root=".") -> SliceTable:
    return SliceTable(pd.concat(frames).reset_index(drop=True), root, "mine.csv")


def of_source(found: SliceTable, source: str) -> pd.DataFrame:
    return found.frame[found.frame["source"] == source].reset_index(drop=True)


@pytest.fixture(scope="module")
def cncb(tmp_path_factory):
    """A phantom in CNCB-NCOV's layout, unknown as such: class folders and lesion folders of the same patients under
    other names.
    """
    folder = tmp_path_factory.mktemp("data") / "cncb"
    write_phantom(folder, 36, seed=1000, settings=PhantomSettings(size=64, slices=2), progress=False)
    for name in ("slices.csv", "phantom.json"):
        (folder / name).unlink()
    return folder


def who_is_who(folder) -> pd.DataFrame:
    "The patients.csv of `cncb`, whose lesion_S1000P0001 is its CP_S1000P0001."
    found = open_source(folder).frame[["source", "patient"]].drop_duplicates()
    return found.assign(person=found["patient"].str.split("_").str[1])


# -- every source on its own


def test_a_source_with_its_own_split_leaves_the_others_theirs():
    alone = split_by_patient(table(rows("CNCB")))
    own = rows("semiseg", 12, ("COVID-19",)).assign(split=["train"] * 12 + ["validation"] * 4 + ["test"] * 8)
    both = split_by_patient(table(rows("CNCB"), own))
    assert of_source(both, "CNCB").equals(of_source(alone, "CNCB"))
    assert of_source(both, "semiseg")["split"].tolist() == own["split"].tolist()
    for split in ("train", "validation", "test"):
        assert set(both.split(split).frame["label"]) == set(CLASS_NAMES)


def test_one_class_in_a_small_source_is_no_obstacle_where_another_has_it():
    found = split_by_patient(
        table(rows("CNCB"), rows("small", 2, ("COVID-19",)), rows("masks", 2, ("",), mask="m.png"))
    )
    assert set(of_source(found, "small")["split"]) == set(of_source(found, "masks")["split"]) == {"train"}
    with pytest.raises(
        InputError, match="mine.csv: 2 patients of class 'COVID-19' are too few for a split of source small"
    ):
        split_by_patient(table(rows("CNCB", labels=("Normal", "CP")), rows("small", 2, ("COVID-19",))))


def test_rows_without_a_split_take_that_of_their_patient():
    frame = rows("CNCB")
    frame.loc[(frame["patient"] == "P4") & (frame.index % 2 == 0), "split"] = "test"
    frame.loc[(frame["patient"] == "P5") & (frame.index % 2 == 1), "split"] = "train"
    for seed in range(4):
        found = split_by_patient(table(frame.fillna({"split": ""})), seed=seed).frame
        assert set(found["split"][found["patient"] == "P4"]) == {"test"} and set(
            found["split"][found["patient"] == "P5"]
        ) == {"train"}


def test_persons_are_split_together_and_shares_stay():
    classes, masks = rows("classes", 30), rows("masks", 30, ("",), mask="m.png")
    classes["person"], masks["person"] = (
        classes["patient"],
        "P" + ((masks["patient"].str[1:].astype(int) * 7 + 3) % 30).astype(str),
    )
    found = split_by_patient(table(classes, masks))
    assert found.patients.nunique() == 30 and found.frame.groupby("person")["split"].nunique().max() == 1
    for source in ("classes", "masks"):
        counts = of_source(found, source).drop_duplicates("patient")["split"].value_counts()
        assert counts["test"] == 6 and counts["validation"] == 6
    assert not crossing_notes(found)


def test_a_source_counts_the_patients_it_shares():
    "Half of a second source's patients are known from the first: the rest fill up what its parts still lack."
    first, second = rows("first", 30), rows("second", 30)
    for frame in (first, second):
        frame["person"] = frame["patient"].where(frame["patient"].str[1:].astype(int) < 15, "")
    for seed in range(3):
        found = split_by_patient(table(first, second), seed=seed)
        for source in ("first", "second"):
            counts = of_source(found, source).drop_duplicates("patient")["split"].value_counts()
            assert counts.to_dict() == {"train": 18, "test": 6, "validation": 6}


# -- a class that a split lacks


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_split_without_a_class_stops_before_a_folder_is_made(command, tmp_path, phantom, split):
    frame = split_by_patient(SliceTable.from_csv(phantom / "slices.csv")).frame
    frame.loc[(frame["split"] == split) & (frame["label"] == "Normal"), "label"] = ""
    frame.assign(
        image=[str(phantom / name) for name in frame["image"]], mask=[str(phantom / name) for name in frame["mask"]]
    ).to_csv(tmp_path / "slices.csv", index=False)
    words = ("train", tmp_path / "run", "--data", tmp_path, "--preset", "smoke", "--set")
    code, _, err = command(*words, *assignments(model="lstm2"))
    assert code == 2 and len(err.splitlines()) == 1 and not (tmp_path / "run").exists()
    for say in (
        f"the {split} split has no slice of class Normal",
        "source phantom has",
        "model=lstm2",
        "slices.csv",
        "classes=CP,COVID-19",
    ):
        assert say in err
    assert "mask-rcnn" not in err
    if split == "test":  # what the message says is possible
        assert (
            command(
                *words, *assignments(model="lstm2", classes="CP,COVID-19", detector_epochs=0.1, aggregator_epochs=0.1)
            )[0]
            == 0
        )
        assert (
            command("train", tmp_path / "masks", *words[2:], *assignments(model="mask-rcnn", detector_epochs=0.1))[0]
            == 0
        )


# -- what stands beside a score


def test_baselines_and_notes_are_printed_beside_a_score(command, finished):
    code, out, _ = command("evaluate", finished.folder)
    assert code == 0 and "majority class" in out and "grey histogram" in out and "Note:" not in out
    parts, metrics = ExperimentData(finished.experiment, finished.table), finished.metrics
    assert metrics["baselines"] == json.loads(json.dumps(simple_baselines(parts))) and metrics["notes"] == []
    for split in ("validation", "test"):
        labels = parts.dataset(split, labelled=True).table.frame["label"]
        for one in metrics["baselines"].values():
            assert one[split]["classification"]["n"] == len(labels)
        trained = list(finished.table.split("train").frame["label"])
        commonest = max(CLASS_NAMES, key=trained.count)
        assert metrics["baselines"]["majority class"][split]["classification"]["classes"][commonest][
            "predicted"
        ] == len(labels)


def test_baselines_know_the_classes_of_the_model(finished):
    two = simple_baselines(
        ExperimentData(finished.experiment.replace(classes=("COVID-19", "Normal")), finished.table), ["test"]
    )
    for one in two.values():
        assert one["test"]["classification"]["class_names"] == ["COVID-19", "Normal"] and set(one) == {"regime", "test"}


def test_an_interval_resamples_the_patients_that_are_counted(finished):
    "The same numbers in three hospitals are three times as many patients."
    held = finished.table.where(finished.table.frame["label"] != "").split("test")
    frames = [held.frame.assign(id=f"{name}_" + held.frame["id"], source=name) for name in ("a", "b", "c")]
    data = ExperimentData(finished.experiment, finished.table).dataset_of(table(*frames, root=held.root))
    model, wanted = nn.Identity(), held.patients.nunique() * 3
    answers = [
        inference.Prediction(name, CLASS_NAMES, None, np.array([0.0, 1.0, 2.0]), None, None, None, None)
        for name in data.table.frame["id"]
    ]
    with (
        mock.patch.object(inference, "predict_slices", return_value=answers),
        mock.patch.object(inference, "patient_bootstrap", return_value=(0.0, 1.0)) as drawn,
    ):
        metrics = inference.score_slices(model, data, bootstrap=10).metrics
    assert metrics["patients"] == len(set(drawn.call_args.args[2])) == wanted


# -- areas


def test_the_same_lesions_count_at_every_stored_size(tmp_path):
    mask = np.zeros((60, 90), np.uint8)
    mask[5:15, 5:15], mask[30:36, 40:46] = GROUND_GLASS, GROUND_GLASS  # 100 and 36 px
    counts = []
    for times in (1, 2, 5):
        large = mask.repeat(times, 0).repeat(times, 1)
        for name, pixels in (("image", large * 50), ("mask", large)):
            Image.fromarray(pixels).save(tmp_path / f"{name}{times}.png")
        one = SliceTable(
            pd.DataFrame([dict(id="a", patient="P", image=f"image{times}.png", mask=f"mask{times}.png")]), tmp_path
        )
        for area in (21, 22, 59, 60):  # of 64x64: 36 px are 27.3, 100 px are 75.9
            data = SliceDataset(one, image_size=64, objects=OBJECT_CLASSES["merged"], min_area=area + 6)
            scorer = CocoScorer(data.objects, data.min_area, data.image_size)
            nothing = Detections(np.zeros((0, 4)), [], [], np.zeros((0, *large.shape)))
            scorer.add("a", nothing, large)
            assert scorer.score()["merged"]["n_truth"] == len(data[0]["boxes"]) == len(data.lesions(data.slice(0)))
            counts.append((area, len(data[0]["boxes"])))
    assert counts == [(21, 2), (22, 1), (59, 1), (60, 1)] * 3


def test_real_slices_hold_as_many_lesions_at_630_as_at_150(shared, tmp_path):
    counts = {}
    for side in (630, 150):
        for kind, how in (("Imgs", Image.Resampling.BILINEAR), ("GT", Image.Resampling.NEAREST)):
            folder = tmp_path / str(side) / "TestingSet" / "MultiClassInfection-Test" / kind
            folder.mkdir(parents=True)
            for path in sorted(
                (shared / "data" / "covid-semiseg" / "TestingSet" / "MultiClassInfection-Test" / kind).iterdir()
            )[:12]:
                Image.open(path).resize((side, side), how).save(folder / path.name)
        data = SliceDataset(
            open_source(tmp_path / str(side)), image_size=512, objects=OBJECT_CLASSES["lesions"], min_area=100
        )
        counts[side] = sum(len(data[row]["boxes"]) for row in range(len(data)))
    assert counts[630] > 50 and abs(counts[150] / counts[630] - 1) < 0.1  # what is left comes from resizing itself


# -- patients who cross


def test_patients_csv_keeps_the_lesion_set_and_the_classes_apart(cncb, tmp_path):
    def crossing(found):
        names = found.frame["patient"].str.split("_").str[1]
        return set(names[(found.frame["source"] == "CNCB-NCOV") & (found.frame["split"] == "test")]) & set(
            names[found.frame["split"] == "train"]
        )

    unjoined = split_by_patient(open_source(cncb))
    assert crossing(unjoined)
    [note] = crossing_notes(unjoined)
    assert "patients.csv" in note and "source CNCB-NCOV and source CNCB-NCOV lesions" in note
    shutil.copytree(cncb, tmp_path / "joined")
    who_is_who(cncb).to_csv(tmp_path / "joined" / "patients.csv", index=False)
    joined = split_by_patient(open_source(tmp_path / "joined"))
    assert not crossing(joined) and not crossing_notes(joined) and joined.patients.nunique() == 36
    joined.save(tmp_path / "slices.csv")
    assert SliceTable.from_csv(tmp_path / "slices.csv", joined.root).patients.equals(joined.patients)


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda who: who.drop(columns="person"), ("column 'person' is missing",)),
        (
            lambda who: who.assign(source=who["source"].replace("CNCB-NCOV", "CNCB")),
            ("line", "source 'CNCB'", "CNCB-NCOV"),
        ),
        (
            lambda who: who.assign(patient=who["patient"].str.replace("lesion_", "lesions_")),
            ("none of its 36 patients", "lesions_S1000P0000", "lesion_S1000P0000"),
        ),
        (lambda who: pd.concat([who, who.head(1).assign(person="X")]), ("line 74", "person X here")),
        (lambda who: who.assign(person=""), ("line 2", "no person")),
    ],
)
def test_a_wrong_patients_csv_is_named(cncb, tmp_path, change, says):
    frame = open_source(cncb).frame.drop(columns="person")
    frame.to_csv(tmp_path / "slices.csv", index=False)
    change(who_is_who(cncb)).to_csv(tmp_path / "patients.csv", index=False)
    with pytest.raises(InputError) as error:
        open_source(tmp_path)
    for say in ("patients.csv", *says):
        assert say in str(error.value)


def test_a_note_about_crossing_is_in_the_run_the_metrics_and_what_evaluate_prints(command, cncb, tmp_path):
    settings = assignments(model="lstm2", detector_epochs=0.1, aggregator_epochs=0.1)
    code, out, err = command("train", tmp_path / "run", "--data", cncb, "--preset", "smoke", "--set", *settings)
    assert code == 0 and "Note: No patients.csv" in out, err
    run = Run.open(tmp_path / "run")
    code, out, _ = command("evaluate", run.folder)
    assert code == 0 and "Note: No patients.csv" in out
    assert run.notes == run.metrics["notes"] and "lesion_slices.csv" in run.notes[0]
    own = [note for note in run.notes[1:] if not note.startswith("Audit: ")]
    assert own == crossing_notes(run.table) != []
    assert "No patients.csv" in notes_html(run.metrics["notes"])


def test_given_splits_that_cross_are_refused_or_said(command, phantom, tmp_path):
    frame = split_by_patient(SliceTable.from_csv(phantom / "slices.csv")).frame
    frame = frame.assign(
        image=[str(phantom / name) for name in frame["image"]], mask=[str(phantom / name) for name in frame["mask"]]
    )
    first = frame.index[frame["split"] == "train"][0]
    frame.loc[first, "split"] = "test"
    frame.to_csv(tmp_path / "slices.csv", index=False)
    words = (
        "train",
        tmp_path / "run",
        "--data",
        tmp_path,
        "--preset",
        "smoke",
        "--set",
        *assignments(model="mask-rcnn", detector_epochs=0.1),
    )
    code, _, err = command(*words)
    assert code == 2 and not (tmp_path / "run").exists()
    for say in (
        f"phantom/{frame.loc[first, 'patient']}",
        frame.loc[first, "id"],
        "train",
        "test",
        "--allow-crossing",
        "slices.csv",
    ):
        assert say in err
    code, out, err = command(*words, "--allow-crossing")
    assert code == 0, err
    run = Run.open(tmp_path / "run")
    assert run.experiment.data.allow_crossing and frame.loc[first, "patient"] in run.notes[0] and run.notes[0] in out
    assert evaluate(run, progress=False)["notes"] == run.notes


# -- weights remember


def fine_tuned(run, **settings):
    return run.experiment.replace(regime="fine-tune", start_from=str(run.folder), epochs=0.2, **settings)


def test_fine_tuning_is_not_tested_on_patients_who_trained_its_weights(command, finished, tmp_path):
    words = ("train", tmp_path / "run", "--from", finished.folder, "--set", "split_seed=1", "epochs=0.2")
    code, _, err = command(*words)
    assert code == 2 and not (tmp_path / "run").exists()
    mine = prepare_data(tiny(split_seed=1).data, tmp_path / "shared", progress=False)
    trained, held = (
        set(finished.table.split("train").frame["patient"]),
        mine.frame[mine.frame["split"].isin(["validation", "test"])],
    )
    shared = [name for name in held["patient"].unique() if name in trained]
    assert (
        f"phantom/{shared[0]}" in err
        and f"with {len(shared) - 1} more" in err
        and str(finished.folder) in err
        and "--allow-crossing" in err
    )
    code, out, err = command(*words, "--allow-crossing")
    assert code == 0 and f"{len(shared)} patient" in out and Run.open(tmp_path / "run").notes, err
    # a run that starts from this one, and is split as this one, is refused for the first one's sake
    later = fine_tuned(Run.open(tmp_path / "run"), allow_crossing=False)
    with pytest.raises(InputError, match=f"trained {finished.folder}"):
        start_notes(ExperimentData(later, prepare_data(later.data, tmp_path / "shared", progress=False)))


def test_another_phantom_has_other_patients(finished, tmp_path):
    "As in the study `transfer`: other people, drawn with another seed, or the same people at another size."

    def notes(**settings):
        experiment = fine_tuned(finished, **settings)
        return start_notes(ExperimentData(experiment, prepare_data(experiment.data, tmp_path, progress=False)))

    assert notes() == notes(phantom_seed=1000, split_seed=1) == []
    with pytest.raises(InputError, match="phantom/P"):
        notes(phantom_size=80, split_seed=1)


def test_names_without_a_source_say_nothing_alone(phantom, tmp_path):
    "Patient 3 of two folders may be anybody; the same folder, or the same files, decide."
    frame = SliceTable.from_csv(phantom / "slices.csv").frame.assign(source="")
    for folder in ("copy", "other"):
        shutil.copytree(phantom, tmp_path / folder)
    for name in frame["image"]:
        Image.fromarray(255 - np.asarray(Image.open(tmp_path / "other" / name))).save(tmp_path / "other" / name)
    own, copy, other = (SliceTable(frame, folder) for folder in (phantom, tmp_path / "copy", tmp_path / "other"))
    people = list(dict.fromkeys(own.patients))
    assert same_patients(own, own) == same_patients(own, copy) == (people, [])
    assert same_patients(own, other) == ([], people)
    named = SliceTable(frame.assign(source="CNCB-NCOV"), tmp_path / "other")
    assert same_patients(SliceTable(named.frame, phantom), named)[0] == list(dict.fromkeys(named.patients))
    assert same_patients(own, named) == ([], [])


def test_a_run_from_before_notes_opens(finished, tmp_path):
    shutil.copytree(finished.folder, tmp_path / "run")
    as_older(tmp_path / "run", "allow_crossing")
    content = json.loads((tmp_path / "run" / "experiment.json").read_text())
    del content["record"]["notes"]
    (tmp_path / "run" / "experiment.json").write_text(json.dumps(content))
    old = pd.read_csv(tmp_path / "run" / "slices.csv", dtype=str, keep_default_na=False).drop(columns="person")
    old.to_csv(tmp_path / "run" / "slices.csv", index=False)
    run = Run.open(tmp_path / "run")
    assert run.notes == [] and run.table.fingerprint() == content["record"]["data"] == finished.table.fingerprint()
    row = dict(id="a", patient="P1", image="a.png", label="CP", source="s")  # a hash from before the column person
    assert SliceTable(pd.DataFrame([row]), tmp_path).matches("daaee29d1af3c3d4")
    assert train(
        run.experiment, run.folder, resume=True, shared=finished.folder.parent / "shared", progress=False
    ).complete
