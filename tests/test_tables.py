"""Several folders as one table, subsets, unknown patients: what is taken, told apart, counted and said."""

import json
import shutil
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from conftest import tiny
from PIL import Image

import covid_workbench as cw
from covid_workbench.api import data_settings, experiment_of
from covid_workbench.data import planes
from covid_workbench.data.agreement import Said, described_together
from covid_workbench.data.description import DataDescription, ObjectClasses, objects_of, write_description
from covid_workbench.data.slices import SliceTable
from covid_workbench.data.sources import describe_sources, open_sources
from covid_workbench.data.splits import split_by_patient
from covid_workbench.data.subsets import subset
from covid_workbench.data.unknown import keep_together, likeness_hash
from covid_workbench.errors import InputError
from covid_workbench.evaluation.evaluate import evaluate
from covid_workbench.reports.run_report import score_table
from covid_workbench.runs.datasets import check_slices, prepare_data
from covid_workbench.runs.experiment import DataSettings
from covid_workbench.runs.run import Run
from covid_workbench.training.train import train

LABELS = ("Normal", "CP", "COVID-19")


def a_set(
    folder: Path,
    patients: int = 6,
    *,
    slices: int = 2,
    masks=True,
    labels=LABELS,
    source="",
    value=2,
    held=None,
    **columns,
) -> Path:
    "A folder with a `slices.csv`: for each patient some noisy pictures, each with a lesion of the mask value `value`."
    folder.mkdir(parents=True)
    rows, random = [], np.random.default_rng(sum(map(ord, folder.name)))
    for patient in range(patients):
        for number in range(slices):
            name = f"{patient:02d}_{number:02d}"
            Image.fromarray(random.integers(0, 256, (64, 64), dtype=np.uint8)).save(folder / f"{name}.png")
            row = dict(id=name, patient=f"p{patient}", index=number, image=f"{name}.png", source=source)
            if masks:
                mask = np.zeros((64, 64), np.uint8)
                mask[10:40, 10 + 2 * number : 40] = value
                Image.fromarray(mask).save(folder / f"{name}_mask.png")
                row["mask"] = f"{name}_mask.png"
            rows.append(row | {"label": labels[patient % len(labels)] if labels else ""} | columns)
    pd.DataFrame(rows).to_csv(folder / "slices.csv", index=False)
    if held:
        write_description(held, folder)
    return folder


def refused(call, *words: str) -> str:
    "The sentence with which `call` is refused; it holds these words and is one line."
    with pytest.raises(InputError) as caught:
        call()
    sentence = str(caught.value)
    for word in words:
        assert word in sentence, sentence
    assert "\n" not in sentence
    return sentence


# several folders


def test_folders_are_joined_by_what_is_taken_from_each(tmp_path):
    one, two = a_set(tmp_path / "one"), a_set(tmp_path / "two", labels=("CP", ""), source="clinic")
    table = open_sources([f"lesions={one}", f"labels={two}"])
    first, second = (table.frame[table.frame["folder"] == folder] for folder in (0, 1))
    assert len(first) == 12 and (first["mask"] != "").all() and (first["label"] == "").all()
    assert len(second) == 6 and (second["mask"] == "").all() and (second["label"] == "CP").all()
    assert set(first["source"]) == {"one"} and set(second["source"]) == {"clinic"}
    assert sum("6 of 12 slices left out, without a label" in note for note in table.notes) == 1
    slices = [table.read(row) for row in range(len(table))]
    assert (
        slices[0].mask.max() == 2 and slices[0].label is None and slices[-1].mask is None and slices[-1].label == "CP"
    )
    assert np.array_equal(slices[-1].pixels, np.asarray(Image.open(two / "04_01.png")))  # read from its own folder
    bare = a_set(tmp_path / "bare", masks=False)
    refused(lambda: open_sources([f"lesions={bare}", str(one)]), "bare", "none of its 12 slices has a lesion mask")


def test_ids_and_unknown_patients_of_two_folders_are_told_apart(tmp_path):
    one, two = a_set(tmp_path / "x" / "set"), a_set(tmp_path / "y" / "set", 7)
    table = open_sources([str(one), str(two)])
    assert table.frame["id"].is_unique and {"set 1/00_00", "set 2/00_00", "06_01"} <= set(table.frame["id"])
    assert any("same ids" in note and "set 1/00_00" in note for note in table.notes)
    assert set(table.frame["source"]) == {"set 1", "set 2"} and table.patients.nunique() == 13  # no source: own people
    both = [a_set(tmp_path / name, 3, source="clinic") for name in ("a", "b")]
    same = open_sources(list(map(str, both)))
    assert same.patients.nunique() == 3 and any("3 patients with one source and name" in note for note in same.notes)
    unknown = [a_set(tmp_path / name, 3, source="clinic", patient_unknown=True) for name in ("c", "d")]
    apart = open_sources(list(map(str, unknown)))
    assert apart.patients.nunique() == 6 and not any("one source and name" in note for note in apart.notes)


def test_a_folder_named_twice_is_refused(tmp_path, monkeypatch):
    one = a_set(tmp_path / "one")
    (tmp_path / "link").symlink_to(one)
    monkeypatch.chdir(one)
    for other in (str(one), f"labels={one}", str(one / "slices.csv"), str(tmp_path / "link"), "."):
        refused(lambda other=other: open_sources([str(one), other]), "the same as", "every folder once")
    csv = one / "half.csv"
    pd.read_csv(one / "slices.csv").head(4).assign(id=list("abcd")).to_csv(csv, index=False)
    table = open_sources([str(one), str(csv)])  # two tables of one folder are two tables
    assert len(table) == 16 and any("4 pictures" in note and "two rows" in note for note in table.notes)


def test_formats_are_one_for_all_or_one_for_each(tmp_path):
    one, two = a_set(tmp_path / "one"), a_set(tmp_path / "two")
    sentence = refused(lambda: open_sources([str(one), str(two)], "a,b,c"), "3 formats for 2 data folders")
    assert "one for all" in sentence
    refused(lambda: open_sources([str(one), f"lesion={two}"]), "'lesion' is unknown", "lesions")
    refused(lambda: open_sources([str(one), "labels="]), "names no folder")


CAVITIES = DataDescription(
    classes=("Normal", "tuberculosis"),
    mask_names={0: "background", 1: "GGO", 2: "cavity"},
    organs=(),
    objects={"holes": ObjectClasses(("cavity",), ((2,),))},
    colours={"cavity": "#112233"},
    name="TB",
)


def test_descriptions_are_joined_by_name(tmp_path):
    one = a_set(tmp_path / "one", labels=("CP",))
    two = a_set(tmp_path / "two", labels=("tuberculosis",), value=1, held=CAVITIES)
    folders = [str(one), str(two)]
    table = open_sources(folders)
    held = table.description
    assert held.classes == ("CP", "Normal", "tuberculosis")  # of the papers' classes those that occur
    assert held.mask_names == {0: "background", 1: "lung", 2: "GGO", 3: "consolidation", 4: "cavity"}
    assert str(held.objects["holes"]) == "cavity=4" and held.colours == {"cavity": "#112233"} and held.name == "TB"
    assert describe_sources(folders) == held
    assert set(table.read(len(table) - 1).mask.ravel()) == {0, 2} == set(table.read(0).mask.ravel())
    Image.fromarray(np.full((64, 64), 3, np.uint8)).save(two / "05_01_mask.png")  # no value of this folder
    refused(lambda: table.read(len(table) - 1), "holds the value 3")


def test_what_a_role_leaves_out_has_no_say(tmp_path):
    one, two = a_set(tmp_path / "one"), a_set(tmp_path / "two", labels=("tuberculosis",), value=1, held=CAVITIES)
    folders = [f"lesions={two}", f"labels={one}"]
    held = open_sources(folders).description
    assert held.classes == LABELS and held.mask_names == CAVITIES.mask_names and held == describe_sources(folders)


def test_contradictions_are_said_with_both_sides(tmp_path):
    lung = CAVITIES.replace(mask_names={0: "background", 1: "lung", 2: "cavity"}, organs=())
    whole = lung.replace(organs=(1,))
    words = refused(
        lambda: described_together([Said("A", lung), Said("B", whole)]), "'lung' is an organ in B (value 1)"
    )
    assert "a lesion in A (value 1)" in words
    other = CAVITIES.replace(classes=("healthy", "tuberculosis"), normal="healthy")
    refused(lambda: described_together([Said("A", CAVITIES), Said("B", other)]), "'Normal' in A", "'healthy' in B")
    holes = CAVITIES.replace(objects={"holes": ObjectClasses(("cavity",), ((1, 2),))})
    refused(lambda: described_together([Said("A", CAVITIES), Said("B", holes)]), "holes", "cavity=2 in A", "cavity=1+2")
    narrow, wide = CAVITIES.replace(window=(-900.0, 300.0)), CAVITIES.replace(window=(-1000.0, 400.0))
    refused(lambda: described_together([Said("A", narrow), Said("B", wide)]), "window is", "--window")
    assert described_together([Said("A", narrow), Said("B", wide)], (-1.0, 1.0))[0].window == (-1.0, 1.0)


# two folders in a run


@pytest.fixture(scope="module")
def joined(tmp_path_factory):
    "A complete run on two folders, evaluated: lesions of one, classes of the other."
    where = tmp_path_factory.mktemp("joined")
    one, two = a_set(where / "data" / "one", 8), a_set(where / "data" / "two", 18)
    experiment = tiny(model="mask-rcnn", source=f"lesions={one}", also=(str(two),), detector_epochs=0.2)
    run = train(experiment, where / "run", progress=False)
    return run, evaluate(run, progress=False)


def test_a_run_on_two_folders_is_recorded_scored_and_resumed(joined):
    run, metrics = joined
    assert len(run.table.roots) == 2 and set(run.table.frame["source"]) == {"one", "two"}
    assert metrics["test"]["slices"] == (run.table.frame["split"] == "test").sum()
    assert any("same ids" in note for note in metrics["notes"])
    again = train(run.experiment, run.folder, resume=True, progress=False)
    assert again.complete and again.record["data"] == run.record["data"]


def test_a_run_moves_with_its_two_folders(joined, tmp_path):
    run, metrics = joined
    for name in ("data", "run"):
        shutil.copytree(run.folder.parent / name, tmp_path / name)
    moved, hidden = Run.open(tmp_path / "run"), run.folder.parent / "hidden"
    (run.folder.parent / "data").rename(hidden)
    try:
        assert [root.resolve() for root in moved.table.roots] == [tmp_path / "data" / name for name in ("one", "two")]
        assert evaluate(moved, progress=False)["test"]["detection"] == metrics["test"]["detection"]
        (tmp_path / "data" / "two" / "17_01.png").unlink()
        refused(moved.scored_table, "no file", "two/17_01.png")
        shutil.rmtree(tmp_path / "data" / "two")
        assert moved.shown_table().roots[1].name == "two"  # for somebody who will say where it is now
        refused(moved.scored_table, "no file")
    finally:
        hidden.rename(run.folder.parent / "data")


def test_the_fingerprint_does_not_know_where_folders_lie(tmp_path):
    one, two = a_set(tmp_path / "here" / "one"), a_set(tmp_path / "here" / "two")
    before = open_sources([str(one), str(two)]).fingerprint()
    shutil.move(tmp_path / "here", tmp_path / "there")
    there = [str(tmp_path / "there" / name) for name in ("one", "two")]
    assert open_sources(there).fingerprint() == before != open_sources(there[::-1]).fingerprint()
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(tmp_path / "there" / "two" / "00_00.png")
    assert open_sources(there).fingerprint() != before


def test_a_phantom_beside_a_folder(tmp_path):
    two = a_set(tmp_path / "two", 18, masks=False)
    experiment = tiny(model="mask-rcnn", source="lesions=phantom", also=(str(two),))
    table = prepare_data(experiment.data, tmp_path / "shared", progress=False)
    assert set(table.frame["source"]) == {"phantom", "two"} and set(table.frame["split"]) == {
        "train",
        "validation",
        "test",
    }
    assert (table.frame.groupby("source")["label"].nunique() == [1, 3]).all()
    assert {table.read(row).pixels.shape for row in (0, len(table) - 1)} == {(64, 64)}


# words of the command line


@pytest.mark.parametrize(
    "words, said",
    [
        (("--data", "a", "--data", "a"), "the same as"),
        (("--data", "a", "--data", "b", "--set", "also=c"), "--data says also=b, and --set also=c"),
        (("--data", "a", "--set", "source=b"), "--data says source=a, and --set source=b"),
        (("--data", "lesions="), "names no folder"),
        (("--data", "a", "--data", "b", "--format", "x,y,z"), "3 formats for 2 data folders"),
        (("--data", "a", "--window", "narrow"), "narrow"),
        (("--window", "lung", "--set", "window=bone"), "--window sets window=lung, and --set says window=bone"),
        (("--data", "a", "--map", "label"), "not of the form COLUMN=NAME"),
        (("--data", "a", "--map", "lable=diagnosis"), "'lable' is no column, did you mean 'label'"),
        (("--data", "a", "--map", "id=x", "--set", "columns=id=y"), "--map says columns=id=x"),
        (("--set", "train_slices=-1"), "train_slices"),
    ],
)
def test_wrong_words_are_one_sentence(tmp_path, command, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        a_set(tmp_path / name, 1)
    code, out, err = command("train", "run", "--preset", "smoke", *words)
    assert code == 2 and said in err and err.count("\n") == 0 and not (tmp_path / "run").exists(), err


def test_data_on_the_command_line_replace_those_of_a_file(tmp_path, command):
    from covid_workbench.cli import _settings_given, parser

    one, two = a_set(tmp_path / "one, with a comma"), a_set(tmp_path / "two")
    words = ["--data", f"lesions={one}", "--data", str(two), "--window", "wide", "--map", "id=a,b"]
    given = _settings_given(parser().parse_args(["train", "run", *words]))
    assert given["source"] == f"lesions={one}" and given["also"] == (str(two),) and given["columns"] == ("id=a,b",)
    file = tmp_path / "settings.json"
    file.write_text(json.dumps({"preset": "smoke", "source": str(two), "also": [str(one)], "format": "x,y"}))
    from covid_workbench.runs.experiment import Experiment

    data = Experiment.from_json(file, **_settings_given(parser().parse_args(["train", "run", "--data", str(one)]))).data
    assert (data.source, data.also, data.format) == (str(one), (), "")


def test_several_folders_by_name(tmp_path):
    one, two = (
        a_set(tmp_path / "one"),
        a_set(tmp_path / "two", labels=("tuberculosis", "Normal"), value=1, held=CAVITIES),
    )
    table = cw.open_slices([f"lesions={one}", str(two)])
    assert len(table) == 24 and table.description.classes == ("Normal", "tuberculosis")
    experiment = experiment_of("lstm2", "smoke", data_settings(table, {}), table.description)
    assert experiment.one_shot.classes == ("Normal", "tuberculosis") and experiment.data.objects == "lesion=2+3+4"
    refused(lambda: cw.train("lstm2", [str(one), ""], tmp_path / "other"), "empty name")
    refused(lambda: cw.train("lstm2", [str(one)], tmp_path / "other", also=["b"]), "data and also both say")


def test_explorers_open_several_folders(tmp_path):
    from covid_workbench.lab import explorer_notebooks

    one, two = a_set(tmp_path / "one"), a_set(tmp_path / "two")
    made = explorer_notebooks(tmp_path / "explore", data=[f"labels={one}", two])
    text = json.loads(made[0].read_text())["cells"]
    assert any(f"data = ['labels={one}', '{two}']" in "".join(cell["source"]) for cell in text)
    refused(lambda: explorer_notebooks(tmp_path / "explore", data=[one, tmp_path / "three"]), "three is not there")


# subsets


def rows_of(*sizes: tuple[str, int, int]) -> SliceTable:
    "A table without files: (label, patients, slices of each)."
    rows = [
        dict(id=f"{label}{patient}.{at}", patient=f"{label}{patient}", image="a.png", label=label, split="train")
        for label, patients, slices in sizes
        for patient in range(patients)
        for at in range(slices)
    ]
    return SliceTable(pd.DataFrame(rows))


def test_subsets_are_even_nested_seeded_and_spread_over_patients():
    table = rows_of(("Normal", 10, 4), ("CP", 5, 1), ("COVID-19", 20, 4), ("", 3, 2))
    taken = [subset(table, "train", count, LABELS, 3) for count in range(1, 140)]
    ids = [set(own.frame["id"]) for own in taken]
    assert all(smaller <= larger for smaller, larger in zip(ids, ids[1:]))
    counts = taken[29].frame["label"].value_counts()  # 30 slices: CP has 5 alone
    assert counts.to_dict() == {"Normal": 13, "COVID-19": 12, "CP": 5, "": 6}
    few = taken[29].frame.query("label == 'COVID-19'")["patient"]
    assert few.is_unique and taken[29].frame.query("label == 'Normal'")["patient"].nunique() == 10
    assert "train_slices=30: 30 of 125 labelled slices" in taken[29].notes[0] and "CP 5" in taken[29].notes[0]
    assert len(taken[-1]) == len(table) and "there are no more" in taken[-1].notes[0]
    assert (
        set(subset(table, "train", 30, LABELS, 4).frame["id"])
        != ids[29]
        == set(subset(table, "train", 30, LABELS, 3).frame["id"])
    )
    assert subset(taken[29], "train", 30, LABELS, 3).notes == taken[29].notes  # nothing to say twice
    two = subset(table, "train", 30, ("Normal", "COVID-19"), 3).frame["label"].value_counts()
    assert two.to_dict() == {"Normal": 15, "COVID-19": 15, "": 6}


def test_a_run_has_the_subsets_that_it_asks_for(tmp_path):
    one, two = a_set(tmp_path / "one", 8), a_set(tmp_path / "two", 24, slices=4)
    settings = dict(source=f"lesions={one}", also=(str(two),), test=0.4, train_slices=9, test_slices=6)
    experiment = tiny(model="classifier", classes=("CP", "COVID-19"), epochs=0.1, **settings)
    run = train(experiment, tmp_path / "run", progress=False)
    frame = run.table.frame
    held = frame[frame["label"] != ""].groupby("split")["label"].value_counts().to_dict()
    assert held["train", "CP"] + held["train", "COVID-19"] == 9 and held["test", "CP"] == held["test", "COVID-19"] == 3
    assert ("train", "Normal") not in held and (frame["folder"] == 0).sum() == 16  # masks alone stay
    assert sum("_slices=" in note for note in run.notes) == 2
    assert train(experiment, tmp_path / "run", resume=True, progress=False).complete


# unknown patients


def scans(folder: Path, count: int, slices: int, name: str) -> Path:
    "Pictures of `count` scans in one class folder; neighbours look alike. `name` has the places `scan` and `slice`."
    folder.mkdir(parents=True)
    rows, random = [], np.random.default_rng(1)
    for scan in range(count):
        base = random.normal(128, 60, (8, 8))
        for at in range(slices):
            base = base + random.normal(0, 4, (8, 8))
            number = scan * slices + at
            file = name.format(scan=scan, slice=at, number=number)
            picture = Image.fromarray(np.clip(base, 0, 255).astype(np.uint8)).resize((64, 64), Image.Resampling.BICUBIC)
            picture.save(folder / file)
            rows.append(dict(id=f"s{number}", patient="", image=file, label=LABELS[scan % 3]))
    pd.DataFrame(rows).to_csv(folder / "slices.csv", index=False)
    return folder


def hashes_of(part):
    part = part.with_rows(part.frame.assign(mask=""))
    return [likeness_hash(part.read(row).pixels) for row in range(len(part))]


@pytest.mark.parametrize("name", ["{scan}_{slice}.png", "Covid ({number}).png"])  # numbers by scan, numbers by class
def test_scans_of_unknown_patients_stay_together(tmp_path, name):
    folder = scans(tmp_path / "set", 27, 4, name)
    table = open_sources([str(folder)])
    assert table.unknown.all() and "108 of unknown patients" in repr(table)
    together = keep_together(table, hashes_of)
    scan = np.arange(108) // 4
    assert (together.frame["patient"].groupby(scan).nunique() == 1).all() and together.patients.nunique() == 27
    split = split_by_patient(together)
    assert (split.frame["split"].groupby(scan).nunique() == 1).all()
    assert any("27 groups" in note for note in split.notes)


def test_nearly_equal_pictures_stay_together(tmp_path):
    folder = a_set(tmp_path / "set", 9, slices=1, patient_unknown=True)
    with Image.open(folder / "00_00.png") as picture:
        picture.resize((80, 80), Image.Resampling.BICUBIC).save(folder / "08_00.png")
    table = open_sources([str(folder)])
    patients = keep_together(table, hashes_of).frame["patient"]
    assert patients.iloc[0] == patients.iloc[8] and patients.nunique() == 8
    known = table.with_rows(table.frame.assign(patient_unknown=False))
    assert keep_together(known, lambda part: pytest.fail("not asked for")) is known


def test_preparing_and_checking_slices_of_unknown_patients_reads_each_file_once(tmp_path, monkeypatch):
    folder, opened = a_set(tmp_path / "set", 9, slices=1, patient_unknown=True), Counter()
    real = planes.read_plane
    monkeypatch.setattr(
        planes, "read_plane", lambda path, *more, **also: opened.update([str(path)]) or real(path, *more, **also)
    )
    data = DataSettings(source=str(folder), validation=0.2, test=0.2)
    table = prepare_data(data, tmp_path / "shared", progress=False)
    check_slices(table, tmp_path / "shared", objects=objects_of(data.objects), progress=False)
    assert len(opened) == 9 and set(opened.values()) == {1}


def test_the_hash_is_that_of_imagehash():
    import imagehash

    for seed in range(5):
        small = np.random.default_rng(seed).integers(0, 256, (12, 9), dtype=np.uint8)
        pixels = np.asarray(Image.fromarray(small).resize((90, 120), Image.Resampling.BICUBIC))
        assert likeness_hash(pixels) == str(imagehash.phash(Image.fromarray(pixels), hash_size=16))


@pytest.fixture(scope="module")
def unknown_run(tmp_path_factory):
    "A run on slices of which some name no patient, evaluated."
    where = tmp_path_factory.mktemp("unknown")
    folder = a_set(where / "set", 24)
    frame = pd.read_csv(folder / "slices.csv", keep_default_na=False)
    frame.loc[frame["patient"].isin(["p0", "p1", "p2", "p3", "p4", "p5"]), "patient"] = ""
    frame.loc[frame["id"].str.startswith(("00", "01", "02")), "split"] = "test"
    frame.fillna("").to_csv(folder / "slices.csv", index=False)
    run = train(tiny(model="classifier", source=str(folder), epochs=0.1), where / "study" / "run", progress=False)
    return run, evaluate(run, progress=False)


def test_no_interval_over_unknown_patients(unknown_run, command):
    run, metrics = unknown_run
    said = "Patients unknown: 12 of 48 slices name no patient"
    test = metrics["test"]
    assert test["patients_unknown"] == 6 and test["classification"]["f1_interval"] == [None, None]
    assert metrics["baselines"]["majority class"]["test"]["classification"]["f1_interval"] == [None, None]
    assert any(note.startswith(said) for note in metrics["notes"]) and any(note.startswith(said) for note in run.notes)
    assert any(note.startswith(said) for note in run.table.notes)
    known = metrics["validation"]  # every patient there is known
    if "patients_unknown" not in known:
        assert None not in known["classification"]["f1_interval"]
    assert list(score_table({"run": metrics})["95 % of F1"]) == ["–"]
    code, out, err = command("evaluate", run.folder)
    assert code == 0 and f"Note: {said}" in out and "–" in out


def test_the_run_view_and_study_tables_say_why_there_is_no_interval(unknown_run):
    from covid_workbench.studies.tables import Figure, _notes_on_patients
    from covid_workbench.widgets.run_view import _figure_rows
    from covid_workbench.widgets.snapshot import take_snapshot

    run, metrics = unknown_run
    snapshot = take_snapshot(run.folder)
    rows = _figure_rows(next(iter(snapshot.figures.values())), "two-phase")
    assert rows[0][0] == "weighted F1" and rows[0][2] == "patients unknown (6 slices), so no interval"
    cell = SimpleNamespace(status="finished", metrics=metrics)
    filled = SimpleNamespace(rows=[SimpleNamespace(cells=[cell])])
    assert "up to 6 test slices" in next(_notes_on_patients(filled))
    assert Figure(mean=0.5, interval=tuple(metrics["test"]["classification"]["f1_interval"]), n=1).spread == "–"
