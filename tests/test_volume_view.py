"""What the volume explorer shows of a scan's files: HU under any window, the patient the same way up however the file
lies, letters where the files say them, words where they do not."""

import re

import numpy as np
import pandas as pd
import pytest
from conftest import tiny
from volumes_kit import scan, write_dicom, write_metaimage, write_nifti

from covid_workbench.data.metaimage import open_metaimage
from covid_workbench.data.nifti import open_nifti
from covid_workbench.data.scans import scan_table
from covid_workbench.data.slices import SliceTable
from covid_workbench.data.windows import WINDOWS, apply_window
from covid_workbench.errors import InputError
from covid_workbench.runs.run import Run
from covid_workbench.training.train import train
from covid_workbench.volumes.volume_rows import volumes_of
from covid_workbench.widgets.content import AS_MODEL
from covid_workbench.widgets.volume_asking import notes_on_volume, open_volume_view
from covid_workbench.widgets.volume_explorer import VolumeExplorer
from covid_workbench.widgets.volume_parts import volume_traits
from covid_workbench.widgets.volume_reader import directions_of, square_hu

HU = scan(4, 64, 64)
WHOLE = "APRLFH"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    "A run that reads slices of 64x64, so that a scan of that size is shown as stored."
    small = dict(model="resnext-plus", phantom_slices=4, volume_slices=4, backbone="resnet18", cut="layer2")
    return train(tiny(**small, phantom_form="pictures"), tmp_path_factory.mktemp("runs") / "volumes", progress=False)


def shown(run: Run, table: SliceTable):
    "The first volume of a table, opened."
    view = open_volume_view(run, table)
    view.show(next(iter(view.number_of)))
    assert not view.error
    return view


def test_the_page_has_the_hu_of_the_file(run, tmp_path):
    view = shown(run, scan_table(write_nifti(tmp_path / "scan.nii", HU)))
    traits = volume_traits(view.open)
    assert (np.frombuffer(traits["hu"], "<i2").reshape(4, 64, 64) == HU).all()
    assert traits["hu_presets"] == {AS_MODEL: [-1350, 150]} | {name: list(ends) for name, ends in WINDOWS.items()}
    assert (np.frombuffer(traits["volume"], np.uint8).reshape(4, 64, 64) == apply_window(HU)).all()
    assert not any("do not say" in note for note in notes_on_volume(view))


def test_hu_are_made_as_large_as_the_slices():
    hu = np.repeat(np.repeat(np.array([[-1000, 40], [40, 1200]], np.int16), 40, 0), 40, 1)
    small = square_hu(hu, 20)
    assert small.shape == (20, 20) and small.dtype == np.int16
    assert (small[:8, :8] == -1000).all() and (small[12:, 12:] == 1200).all()  # in HU, however dark or bright
    assert square_hu(hu, 80) is hu


def test_a_page_with_hu_has_smaller_slices_sooner(run, tmp_path, monkeypatch):
    from covid_workbench.widgets import volume_parts

    opened = shown(run, scan_table(write_nifti(tmp_path / "scan.nii", HU))).open
    monkeypatch.setattr(volume_parts.shown_side, "__defaults__", (3, 2 * HU.size))
    traits = volume_traits(opened)
    assert traits["dims"] == [4, 32, 32] and len(traits["hu"]) == 2 * len(traits["volume"]) == 2 * 4 * 32 * 32
    assert (np.frombuffer(traits["hu"], "<i2").reshape(4, 32, 32)[1] == square_hu(HU[1], 32)).all()


@pytest.mark.parametrize(
    "orientation",
    [(1, 0, 0, 0, 1, 0), (-1, 0, 0, 0, -1, 0), (0, 1, 0, -1, 0, 0), (0, -1, 0, 1, 0, 0)],
    ids=["supine", "prone", "on the left side", "on the right side"],
)
def test_a_patient_lies_the_same_way_on_the_page_however_in_the_scanner(run, tmp_path, orientation):
    rows, columns = np.array(orientation[:3]), np.array(orientation[3:])
    turned = HU if abs(rows[0]) else HU.transpose(0, 2, 1)  # columns of the file run along x, or along y
    for axis, step in ((2, rows), (1, columns)):
        turned = np.flip(turned, axis) if step.sum() < 0 else turned
    write_dicom(tmp_path, np.ascontiguousarray(turned), ImageOrientationPatient=list(orientation))
    opened = shown(run, scan_table(tmp_path)).open
    assert (opened.hu == HU).all() and (opened.stack.pixels == apply_window(HU)).all()
    assert opened.directions == WHOLE


@pytest.mark.parametrize("flip", ["", "x", "yz", "xyz"])
def test_so_it_does_however_a_volume_file_is_stored(run, tmp_path, flip):
    opened = shown(run, scan_table(write_nifti(tmp_path / "scan.nii", HU, flip=flip))).open
    assert (opened.hu == HU).all() and opened.directions == WHOLE


def test_sagittal_planes_of_a_volume_file_become_axial_ones(run, tmp_path):
    stored = np.ascontiguousarray(HU.transpose(2, 0, 1))  # (x, z, y) as planes, rows, columns
    keys = dict(TransformMatrix="0 1 0 0 0 1 1 0 0")  # columns run along y, rows along z, planes along x
    opened = shown(run, scan_table(write_metaimage(tmp_path / "scan.mha", stored, **keys))).open
    assert (opened.hu == HU).all() and opened.directions == WHOLE


def test_planes_of_dicom_that_are_not_axial_are_refused_in_words(run, tmp_path):
    paths = write_dicom(tmp_path, HU, ImageOrientationPatient=[0, 1, 0, 0, 0, -1])
    rows = dict(id=[path.stem for path in paths], patient="p1", image=[path.name for path in paths], index=range(4))
    with pytest.raises(InputError, match="does not lie across the body"):
        open_volume_view(run, SliceTable(pd.DataFrame(rows), tmp_path))


def said(run: Run, table: SliceTable) -> tuple[str, str]:
    "The letters of a volume, and what a page says is not known."
    view = shown(run, table)
    return view.open.directions, next((note for note in notes_on_volume(view) if "do not say" in note), "")


def test_what_the_files_do_not_say_is_said(run, tmp_path):
    letters, note = said(run, scan_table(write_nifti(tmp_path / "all.nii", HU)))
    assert (letters, note) == (WHOLE, "")
    write_dicom(tmp_path / "loose", HU, ImagePositionPatient=None)
    letters, note = said(run, scan_table(tmp_path / "loose"))
    assert letters == "APRL" and "which end is the head" in note and "how the patient lies" not in note
    write_dicom(tmp_path / "bare", HU, ImagePositionPatient=None, ImageOrientationPatient=None)
    letters, note = said(run, scan_table(tmp_path / "bare"))
    assert letters == "" and "how the patient lies" in note and "which end is the head" in note and "HU" not in note
    letters, note = said(run, scan_table(write_metaimage(tmp_path / "none.mha", HU, TransformMatrix=None)))
    assert letters == "" and "how the patient lies" in note
    grey = (HU.astype(int) + 1024).clip(0, 255).astype(np.int16)
    letters, note = said(run, scan_table(write_nifti(tmp_path / "grey.nii", grey)))
    assert letters == WHOLE and note == "The files do not say HU (windows are of grey values)."


def test_letters_follow_the_rows_of_a_table(tmp_path):
    table = scan_table(write_nifti(tmp_path / "scan.nii", HU))
    letters = [
        directions_of(own, volumes_of(own)[0])
        for own in (
            table,
            table.with_rows(table.frame.assign(transpose=True)),  # somebody turned the planes, and knows why
            table.with_rows(table.frame.assign(index=-table.frame["index"])),  # from the head down
        )
    ]
    assert letters == [WHOLE, "", "APRL"]


def test_volume_files_know_whether_they_are_placed(tmp_path):
    import nibabel

    path = write_nifti(tmp_path / "scan.nii", HU)
    assert open_nifti(path).placed
    image = nibabel.load(path)
    image.header["sform_code"] = image.header["qform_code"] = 0
    bare = nibabel.Nifti1Image(np.asarray(image.dataobj), None, image.header)
    nibabel.save(bare, tmp_path / "bare.nii")
    assert not open_nifti(tmp_path / "bare.nii").placed
    assert open_metaimage(write_metaimage(tmp_path / "a.mha", HU)).placed
    letters = dict(TransformMatrix=None, AnatomicalOrientation="RAI")
    assert open_metaimage(write_metaimage(tmp_path / "b.mha", HU, **letters)).placed
    assert not open_metaimage(write_metaimage(tmp_path / "c.mha", HU, TransformMatrix=None)).placed


def test_a_window_in_hu_is_part_of_the_view(run, tmp_path):
    explorer = VolumeExplorer(run, scan_table(write_nifti(tmp_path / "scan.nii", HU)))
    assert explorer.stage.directions == explorer.curve.directions == WHOLE
    plain = explorer.picture().svg
    assert ">feet   " in plain and ">head<" in plain
    explorer.stage.hu_window = list(WINDOWS["bone"])
    held = explorer.state
    assert held["hu_window"] == [-500.0, 1300.0] and explorer.picture().svg != plain
    explorer.stage.hu_window = []
    assert explorer.picture().svg == plain
    explorer.reopen(held)
    assert explorer.stage.hu_window == [-500.0, 1300.0] and explorer.state == held
    explorer.reopen({name: value for name, value in held.items() if name != "hu_window"})  # a view from before
    assert explorer.stage.hu_window == []
    with pytest.raises(InputError, match="give the low and the high end in HU"):
        explorer.reopen(held | {"hu_window": [100.0, -100.0]})


def test_a_volume_of_pictures_has_grey_windows_and_no_letters(run):
    explorer = VolumeExplorer(run)
    assert explorer.stage.hu == b"" and explorer.stage.hu_presets == {} and explorer.stage.directions == ""
    assert any(re.search("how far slices are apart.*how the patient lies.*HU", note) for note in explorer.panel.notes)
    svg = explorer.picture().svg
    assert "first slice" in svg and "feet" not in svg
