"""Real volumes through the whole path: MedSeg 2 (five scans without HU and positions) and three of COVID-CT-MD."""

import numpy as np
import pandas as pd
from conftest import tiny
from PIL import Image

from covid_workbench.data.series import read_series
from covid_workbench.data.slices import SliceTable
from covid_workbench.data.sources import open_sources
from covid_workbench.evaluation.evaluate import evaluate
from covid_workbench.reports.volume_files import write_volume_answers
from covid_workbench.runs.volume_data import label_notes
from covid_workbench.training.train import train
from covid_workbench.volumes.lung_rule import find_lungs, hull_lungs
from covid_workbench.volumes.volume_rows import ENDS, volume_notes, volumes_of

LUNG, GLASS, TISSUE = -850.0, -480.0, 40.0


def real(shared, name: str) -> SliceTable:
    return open_sources([str(shared / "data" / name)])


def one_volume(table: SliceTable, name: str) -> list:
    "The slices of a volume from its first to its last."
    (volume,) = (own for own in volumes_of(table) if own.name == name)
    return [table.read(row) for row in volume.rows]


def as_large(mask: np.ndarray, shape) -> np.ndarray:
    return np.stack([np.asarray(Image.fromarray(np.uint8(255) * own).resize(shape[::-1])) > 127 for own in mask])


# ---------------------------------------------------------------- which end is the head


def test_a_scan_without_positions_says_that_its_head_end_is_not_known(shared):
    sample, medseg = real(shared, "covid-ct-md-sample"), real(shared, "medseg2-volumes")
    assert not volume_notes(volumes_of(sample)) and ENDS not in volumes_of(sample)[0].notes
    found = volumes_of(medseg)
    assert all(ENDS in own.notes for own in found)
    assert "in 5 of 5 nothing says which end is the head" in " ".join(volume_notes(found))


def test_pictures_beside_scans_that_know_their_head_end_are_told_of(shared, tmp_path):
    "Pictures alone are in the order of index, as the notebook says."
    for at in range(3):
        Image.fromarray(np.uint8([[at, 9]])).save(tmp_path / f"{at}.png")
    sample = real(shared, "covid-ct-md-sample")
    rows = [{"id": f"q{at}", "patient": "Q", "scan": "1", "index": at, "image": f"{at}.png"} for at in range(3)]
    usual = sample.frame.iloc[:3].assign(label="", split="", mask="", folder=1, source="own")
    added = usual.assign(**{name: [row[name] for row in rows] for name in rows[0]})
    both = SliceTable(pd.concat([sample.frame, added], ignore_index=True), [sample.root, tmp_path], "both")
    (sentence,) = volume_notes(volumes_of(both))
    assert "in 1 of 4 nothing says which end is the head" in sentence and "Q/1" in sentence
    assert not volume_notes(volumes_of(both.where(both.frame["patient"] == "Q")))


# ---------------------------------------------------------------- lungs


def test_ground_glass_at_the_base_of_a_lung_is_kept_and_the_liver_is_not():
    "A crescent is not drawn a hull around, which would hold the liver; that must not cost what is ill in it."
    rows, columns = np.indices((128, 128))
    hu = np.full((128, 128), -1000.0)
    hu[((rows - 64) / 54) ** 2 + ((columns - 64) / 62) ** 2 < 1] = TISSUE
    away = np.hypot(rows - 64, columns - 38)
    hu[(away >= 18) & (away < 30) & (columns < 48)] = LUNG  # around the liver
    hu[np.hypot(rows - 64, columns - 96) < 20] = LUNG
    glass = (away >= 18) & (away < 30) & (abs(rows - 64) < 12) & (columns < 48)
    hu[glass] = GLASS
    found, liver = hull_lungs(hu[None]).mask[0], away < 14
    assert (found & glass).sum() > 0.9 * glass.sum() and not (found & liver).any()


def test_the_dense_base_of_a_real_lung_is_found(shared):
    "Slices 30 to 37 of the first scan of MedSeg 2; what is denser still in 38 to 44 is lost, as the notebook says."
    table = real(shared, "medseg2-volumes")
    pieces = one_volume(table, "medseg2_1/1")
    truth, found = find_lungs(pieces, "given").mask, find_lungs(pieces).mask
    found = as_large(found, truth.shape[1:])
    share = (found & truth)[30:38].sum() / truth[30:38].sum()
    assert share > 0.75, share


# ---------------------------------------------------------------- labels


def test_volumes_that_are_none_of_the_classes_of_a_run_are_counted():
    (sentence,) = label_notes(["CP", "Normal", "", "CP"], ("Normal", "COVID-19"))
    assert "3 of 4 volumes with none of the classes of the run (Normal, COVID-19)" in sentence
    assert sentence.endswith(": 2 CP, 1 without a label.")


# ---------------------------------------------------------------- distances of planes without positions


def test_planes_without_positions_that_are_numbered_in_steps_are_as_far_apart(shared):
    "Millilitres rest on it: every 12th plane of 1 mm does not stand for 1 mm."
    scans = read_series(shared / "data" / "medseg2-volumes" / "OpenSourceDCMs")
    assert [own.spacing[0] for own in scans] == [6, 36, 12, 36, 36]
    said = " ".join(scans[2].notes)
    assert "planes of 1 mm are numbered in steps of 12: 12 mm from one to the next are assumed" in said
    assert "number 44 is followed by 57, where 6 is the usual step" in " ".join(scans[4].notes)
    assert "numbered" not in " ".join(scans[0].notes)


# ---------------------------------------------------------------- the whole path


def test_real_scans_are_trained_on_scored_and_answered(shared, tmp_path):
    "Every 12th slice of two scans, the same in all splits: whether they go through is asked, not what is learned."
    sample = real(shared, "covid-ct-md-sample")
    frame = sample.frame[sample.frame["patient"].isin(["P002", "cap002", "normal002"])].iloc[::12]
    label = frame["patient"].map({"P002": "COVID-19", "cap002": "CP", "normal002": "Normal"})
    parts = []
    for split in ("train", "validation", "test"):
        own = {name: frame[name] + f"-{split}" for name in ("id", "patient")}
        parts.append(frame.assign(split=split, label=label, **own))
    table = SliceTable(pd.concat(parts, ignore_index=True), [sample.root], "real", sample.description)
    choices = dict(classes="Normal,COVID-19", image_size=64, volume_slices=4, epochs=1)
    run = train(tiny(model="resnext-plus", **choices), tmp_path / "run", table=table, progress=False)
    assert any("Labels: 3 of 9 volumes with none of the classes" in note and "3 CP" in note for note in run.notes)
    scores = evaluate(run, progress=False)["test"]
    assert scores["volumes"] == 3 and scores["classification"]["n"] == 2
    folder = shared / "data" / "medseg2-volumes" / "OpenSourceDCMs" / "DCM5"
    (entry,) = write_volume_answers(run, [folder], tmp_path / "answers").volumes
    said = " ".join(entry["notes"])
    assert entry["slices"] == 8 and entry["read"] == 4 and "nothing says which end is the head" in said
    assert "short of a scan" in said and "lung mask" not in said
