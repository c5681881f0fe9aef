"""Several folders as one table, subsets, unknown patients: what is taken, told apart, counted and said."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import assignments, tiny
from PIL import Image

from covid_workbench.data.agreement import Said, described_together
from covid_workbench.data.description import DataDescription, ObjectClasses, write_description
from covid_workbench.data.sources import describe_sources, open_sources
from covid_workbench.errors import InputError
from covid_workbench.evaluation.evaluate import evaluate
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
    assert sum("6 of 12 slices left out, which have no label" in note for note in table.notes) == 1
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
    assert same.patients.nunique() == 3 and any("3 patients have one source and name" in note for note in same.notes)
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


def test_a_phantom_beside_a_folder(tmp_path, command):
    two = a_set(tmp_path / "two", 18, masks=False)
    words = ("--data", "lesions=phantom", "--data", two, "--set", *assignments(model="mask-rcnn", detector_epochs=0.1))
    code, out, err = command("train", tmp_path / "run", "--preset", "smoke", *words)
    assert code == 0, err
    assert set(Run.open(tmp_path / "run").table.frame["source"]) == {"phantom", "two"}
