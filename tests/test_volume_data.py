"""Volumes of a table: axial order, lungs of real and made-up chests, stacks on disk, changes in training; and words."""

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import tiny
from PIL import Image
from torch.utils.data import DataLoader
from volumes_kit import dicom_plane, write_dicom, write_nifti

from covid_workbench.data import slice_cache as slice_cache_module
from covid_workbench.data.dataset import SliceDataset
from covid_workbench.data.description import OBJECT_CLASSES
from covid_workbench.data.lungs import dice
from covid_workbench.data.slices import COLUMNS, SliceTable
from covid_workbench.data.sources import open_sources
from covid_workbench.errors import InputError
from covid_workbench.evaluation.volumes import predict_volumes
from covid_workbench.models.volume_settings import VolumeSettings
from covid_workbench.runs.datasets import ExperimentData, dataset_of
from covid_workbench.runs.load import load_model
from covid_workbench.runs.volume_data import check_volumes, lung_notes, volume_dataset, volumes_in
from covid_workbench.training.train import train
from covid_workbench.volumes import dataset as dataset_module
from covid_workbench.volumes import stack_cache as cache_module
from covid_workbench.volumes.dataset import VolumeDataset, read_stack
from covid_workbench.volumes.lung_rule import find_lungs, hull_lungs
from covid_workbench.volumes.stack_cache import StackCache
from covid_workbench.volumes.volume_augmentation import VolumeAugmentation, VolumeChange
from covid_workbench.volumes.volume_rows import plane_distance, volume_notes, volumes_of

# ---------------------------------------------------------------- a chest of ellipses


def chest(depth: int = 8, size: int = 96, turn: float = 0.0, lungs: str = "both", step: int = 0):
    "HU (D, S, S) of a body on a table, and its lungs: turned by degrees within the plane, moved by `step` pixels."
    rows, columns = (np.indices((size, size)) + 0.5) / size * 2 - 1
    angle = np.deg2rad(turn)
    across = np.cos(angle) * columns + np.sin(angle) * rows - 2 * step / size
    down = np.cos(angle) * rows - np.sin(angle) * columns
    hu, truth = np.full((depth, size, size), -1000.0), np.zeros((depth, size, size), bool)
    body = (down / 0.6) ** 2 + (across / 0.85) ** 2 < 1
    for at, plane in enumerate(hu):
        plane[body] = 40
        plane[(abs(down - 0.68) < 0.03) & (abs(across) < 0.8)] = 100  # the table, a gap behind the back
        swollen = 0.75 + 0.25 * np.sin(np.pi * (at + 0.5) / depth)
        for side, middle in (("right", -0.42), ("left", 0.42)):
            inside = (down / (0.42 * swollen)) ** 2 + ((across - middle) / (0.27 * swollen)) ** 2 < 1
            if lungs in ("both", side):
                plane[inside], truth[at] = -850, truth[at] | inside
        plane[(down + 0.25) ** 2 + across**2 < 0.05**2] = -900  # the windpipe
        if at == depth // 2 and lungs == "both":
            plane[(abs(down + 0.25) < 0.03) & (abs(across) < 0.4)] = -900  # which opens into both lungs
    return hu, truth


def windpipe(truth: np.ndarray) -> tuple[int, int]:
    return round(truth.shape[1] * 0.375), truth.shape[2] // 2


@pytest.mark.parametrize("size", [64, 96, 200])
def test_the_hull_holds_both_lungs_and_neither_windpipe_nor_table_nor_what_lies_around(size):
    hu, truth = chest(size=size)
    found = hull_lungs(hu)
    assert found.why == "" and dice(found.mask, truth) > 0.87 and (found.mask & truth).sum() > 0.99 * truth.sum()
    row, column = windpipe(truth)
    assert not found.mask[[0, 1, 2, 6, 7], row, column].any() and not found.mask[:, round(0.85 * size) :].any()


def test_a_turned_body_a_moved_one_and_one_that_the_picture_cuts():
    for change in (dict(turn=20), dict(turn=-20), dict(step=7)):
        hu, truth = chest(**change)
        found = hull_lungs(hu)
        assert found.why == "" and dice(found.mask, truth) > 0.85, change
    hu, truth = (array[:, :, 16:-16] for array in chest())  # both lungs reach the rim
    assert dice(hull_lungs(hu).mask, truth) > 0.85


def test_corners_of_a_narrow_picture_and_a_gap_closed_by_the_table_are_no_lung():
    hu, truth = chest(size=120)
    hu, truth = (array[:, 30:-30, 18:-18] for array in (hu, truth))  # air is left in the four corners alone
    assert (hu[:, 0, 0] < -900).all() and not hull_lungs(hu, has_hu=False).mask[:, :4, :4].any()
    hu, truth = chest(size=256)
    rows, columns = np.indices((256, 256)) / 128 - 1
    for side in (-0.5, 0.5):
        hu[:, (abs(columns - side) < 0.005) & (rows > 0.4) & (rows < 0.7)] = 100  # legs of the table reach the back
    found = hull_lungs(hu, has_hu=False)
    assert found.why == "" and dice(found.mask, truth) > 0.87 and not found.mask[:, 205:].any()


def test_gas_in_the_belly_is_no_lung_where_it_is_as_thin_as_air():
    hu, truth = chest(depth=12)
    hu[:3, truth[0]] = 40  # a belly below the lungs, with a stomach
    truth[:3] = False
    hu[:4, 40:58, 60:74] = -1000
    bubble = np.zeros_like(truth)
    bubble[:3, 42:56, 62:72] = True
    assert not (hull_lungs(hu).mask & bubble).any()
    assert (hull_lungs(hu, has_hu=False).mask & bubble).any()  # grey values do not tell


def test_what_touches_in_the_middle_is_cut_and_dense_lesions_at_the_wall_are_inside():
    hu, truth = chest()
    hu[:, 48:50, 30:66] = -850  # both lungs are one piece
    hu[:, 44:60, 14:18] = 20  # a consolidation at the outer wall
    found = hull_lungs(hu)
    assert found.why == "" and dice(found.mask, truth) > 0.85 and found.mask[4, 50, 16]
    assert not found.mask[5, 30:40, 47].any()


def test_lungs_that_are_not_there_are_said_in_words():
    assert hull_lungs(np.full((3, 64, 64), -1000.0)).why == "no body in it, all is air"
    assert hull_lungs(np.full((3, 64, 64), 40.0)).why.startswith("no lungs found")
    assert "100% on the left of the picture" in hull_lungs(chest(lungs="right")[0]).why
    hu = np.full((2, 96, 96), -1000.0)
    hu[:, 10:80, 10:80] = 40
    hu[:, 30:35, 20:24] = -850
    assert hull_lungs(hu).why.startswith("hardly any lung")


# ---------------------------------------------------------------- tables of pictures


def pictures(place, hu: np.ndarray, masks: np.ndarray | None = None, patient: str = "P", **columns) -> list[dict]:
    "Rows of a table of pictures in the lung window, and of masks, (D, S, S)."
    place.mkdir(exist_ok=True)
    rows = []
    for at, plane in enumerate(hu):
        grey = np.uint8(np.clip((plane + 1350) / 1500, 0, 1) * 255)
        Image.fromarray(grey).save(place / f"{patient}_{at}.png")
        row = dict(id=f"{patient}_{at}", patient=patient, index=at, image=f"{patient}_{at}.png", label="COVID-19")
        if masks is not None:
            Image.fromarray(masks[at].astype(np.uint8)).save(place / f"{patient}_{at}_mask.png")
            row["mask"] = f"{patient}_{at}_mask.png"
        rows.append(row | columns)
    return rows


def table_of(rows: list[dict], folder, **changes) -> SliceTable:
    return SliceTable(pd.DataFrame(rows).assign(**changes), folder, "a table")


def slices_of(table: SliceTable, image_size: int = 64) -> SliceDataset:
    return SliceDataset(table, image_size=image_size, objects=OBJECT_CLASSES["lesions"], min_area=4)


def volumes(table: SliceTable, image_size: int = 64, cache=None, augmentation=None, **settings) -> VolumeDataset:
    made = VolumeSettings(**settings)
    return VolumeDataset(slices_of(table, image_size), made, cache=cache, augmentation=augmentation)


@pytest.mark.parametrize("depth", [1, 30, 350])
def test_volumes_of_one_slice_of_30_and_of_350(tmp_path, depth):
    hu, truth = chest(depth, 48)
    held = volumes(table_of(pictures(tmp_path, hu), tmp_path), 32)
    stack = held.stack(0)
    assert (
        stack.pixels.shape == stack.lungs.shape == (depth, 32, 32) and stack.why == "" and np.isnan(stack.lesion).all()
    )
    assert all(plane.any() for plane in stack.lungs)
    sample = held.sample(0, seed=3)
    assert len(sample["places"]) == min(depth, 50) and (torch.diff(sample["places"]) > 0).all()
    assert len(held.sample(0)["places"]) == min(depth, 50) and (depth > 50) == (
        held.sample(0, seed=4)["places"].tolist() != sample["places"].tolist()
    )


def test_an_all_air_volume_is_read_and_said(tmp_path):
    rows = pictures(tmp_path, np.full((4, 48, 48), -1000.0), patient="air") + pictures(tmp_path, chest(4, 48)[0])
    held = volumes(table_of(rows, tmp_path))
    batch = held.batch([0, 1])
    assert not batch["lungs"][0].any() and batch["lungs"][1].any()
    assert held.wrong == {"air/1": "no body in it, all is air"}
    images, _, _ = held.images(batch)
    assert torch.isfinite(images).all() and not images[0].any()
    (sentence,) = lung_notes(held.wrong, 2, "hull")
    assert "1 of 2 volumes" in sentence and "air/1: no body in it" in sentence


def test_slices_of_several_sizes_are_said(tmp_path):
    rows = pictures(tmp_path, chest(3, 48)[0]) + pictures(tmp_path, chest(2, 64)[0], patient="Q")
    for at, row in enumerate(rows):
        row |= dict(patient="P", index=at)
    stack = volumes(table_of(rows, tmp_path)).stack(0)
    assert "slices of 2 sizes (48x48, 64x64)" in stack.why and stack.lungs.any((1, 2)).all()


def test_given_lungs_are_those_of_the_masks_and_their_lack_is_said(tmp_path):
    hu, truth = chest(4, 64)
    masks = np.uint8(truth)
    masks[1, 20:30, 15:20] = 2
    held = volumes(table_of(pictures(tmp_path, hu, masks), tmp_path), lung_mask="given")
    assert np.array_equal(held.stack(0).lungs, masks > 0) and held.stack(0).why == ""
    assert held.stack(0).lesion[1] > 0 and held.stack(0).lesion[0] == 0
    rows = pictures(tmp_path, hu, masks)
    rows[2]["mask"] = ""
    some = volumes(table_of(rows, tmp_path).where(pd.Series([True] * 4)), lung_mask="given").stack(0)
    assert some.why == "no lung mask for 1 of 4 slices" and np.isnan(some.lesion[2])
    lesions = volumes(table_of(pictures(tmp_path, hu, np.where(masks > 1, masks, 0)), tmp_path), lung_mask="given")
    assert lesions.stack(0).why == "the masks that are given name no lung"


def test_a_mask_of_lungs_alone_does_not_say_that_there_is_no_lesion(tmp_path):
    hu, truth = chest(2, 64)
    rows = [row | {"lungs": row["mask"], "mask": ""} for row in pictures(tmp_path, hu, truth)]
    stack = volumes(table_of(rows, tmp_path), lung_mask="given").stack(0)
    assert np.isnan(stack.lesion).all() and np.array_equal(stack.lungs, truth)


def test_regions_and_hull_agree_on_pictures_and_on_hu(tmp_path):
    hu, truth = chest(8, 128)
    write_nifti(tmp_path / "scan" / "a.nii", np.int16(hu), (8.0, 3.0, 3.0))
    for table in (table_of(pictures(tmp_path, hu), tmp_path), open_sources([str(tmp_path / "scan")])):
        pieces = [table.read(row) for row in volumes_of(table)[0].rows]
        for rule in ("hull", "regions"):
            found = find_lungs(pieces, rule, plane_distance(table, volumes_of(table)[0]))
            assert found.why == "" and dice(found.mask, truth) > 0.87, rule
    assert plane_distance(table, volumes_of(table)[0]) == pytest.approx(8.0)


# ---------------------------------------------------------------- axial order, gaps, mixed series


def order_table(index: list[int], **columns) -> SliceTable:
    ids = [f"s{at}" for at in range(len(index))]
    return table_of([dict(id=own, patient="P", index=at, image=own) for own, at in zip(ids, index)], ".", **columns)


def test_missing_slices_unknown_order_and_mixed_series_in_words():
    (whole,) = volumes_of(order_table([4, 2, 3, 1]))
    assert whole.rows == (3, 1, 2, 0) and not whole.notes
    (sentence,) = volume_notes(volumes_of(order_table([1, 2, 3, 9, 10, 15])))
    where = "index 3 is followed by 9, where 1 is the usual step, and so in 2 places"
    assert sentence == f"Volume P/1: slices are missing: {where}."
    assert "no order of slices is given" in volume_notes(volumes_of(order_table([0, 0, 0])))[0]
    with pytest.raises(InputError, match="volume P/1: slices s1 and s2 both have index 2: two series are mixed"):
        volumes_of(order_table([1, 2, 2, 3]))
    split = order_table([0, 1], split=["train", "test"])
    assert "slices are in several splits" in volume_notes(volumes_of(split))[0]
    with pytest.raises(InputError, match="its slices are labelled CP and COVID-19; a scan has one label"):
        volumes_of(order_table([0, 1], label=["CP", "COVID-19"]))


def dicom_table(folder, numbers: list[int]) -> SliceTable:
    names = sorted(path.name for path in folder.glob("*.dcm"))
    rows = [dict(id=name, patient="P", index=at, image=name) for name, at in zip(names, numbers)]
    return table_of(rows, folder)


def heights_in(table: SliceTable) -> list[float]:
    import pydicom

    (volume,) = volumes_of(table)
    files = [table.root / table.frame["image"][row] for row in volume.rows]
    return [float(pydicom.dcmread(path).ImagePositionPatient[2]) for path in files]


def test_dicom_slices_go_from_the_feet_to_the_head_however_they_are_numbered(tmp_path):
    hu = np.int16(chest(7, 48)[0])
    write_dicom(tmp_path, hu)
    first = dicom_table(tmp_path, range(7))
    place = np.argsort(np.argsort(heights_of_rows(first)))
    for numbers, note in ((place, False), (6 - place, False), (np.roll(place, 3), True)):
        table = dicom_table(tmp_path, numbers.tolist())
        assert heights_in(table) == [0, 2, 4, 6, 8, 10, 12]
        assert bool(volume_notes(volumes_of(table))) == note
    assert plane_distance(table, volumes_of(table)[0]) == pytest.approx(2.0)


def heights_of_rows(table: SliceTable) -> list[float]:
    import pydicom

    return [float(pydicom.dcmread(table.root / name).ImagePositionPatient[2]) for name in table.frame["image"]]


def test_two_series_in_one_place_and_planes_that_are_not_axial_are_refused(tmp_path):
    hu = np.int16(chest(3, 48)[0])
    for name, z in (("a", 0.0), ("b", 2.0), ("c", 2.0)):
        dicom_plane(hu[0], z, 1).save_as(tmp_path / f"{name}.dcm", enforce_file_format=True)
    with pytest.raises(InputError, match="slices b.dcm and c.dcm both lie at 2.0 mm: two series are mixed"):
        volumes_of(dicom_table(tmp_path, [0, 1, 2]))
    coronal = dicom_plane(hu[0], 0.0, 1, ImageOrientationPatient=[1.0, 0, 0, 0, 0, -1.0])
    coronal.save_as(tmp_path / "b.dcm", enforce_file_format=True)
    with pytest.raises(InputError, match="b.dcm is a plane that does not lie across the body"):
        volumes_of(dicom_table(tmp_path, [0, 1, 2]))


@pytest.mark.parametrize("flip", ["z", "xy", "xyz"])
def test_a_file_stored_the_other_way_round_gives_the_same_stack(tmp_path, flip):
    hu = np.int16(chest(5, 48, step=4)[0])
    hu[3:] = np.where(hu[3:] < -800, 40, hu[3:])  # feet and head differ
    write_nifti(tmp_path / "plain" / "a.nii", hu)
    write_nifti(tmp_path / "turned" / "a.nii", hu, flip=flip)
    plain, turned = (volumes(open_sources([str(tmp_path / name)])).stack(0) for name in ("plain", "turned"))
    assert np.array_equal(plain.pixels, turned.pixels) and np.array_equal(plain.lungs, turned.lungs)


# ---------------------------------------------------------------- real scans


def real(shared, name: str) -> SliceTable:
    folder = shared / "data" / name
    return open_sources([str(folder)])


def full_size(mask: np.ndarray, shape) -> np.ndarray:
    sized = [Image.fromarray(np.uint8(255) * plane).resize(shape[::-1], Image.Resampling.BILINEAR) for plane in mask]
    return np.stack([np.asarray(plane) > 127 for plane in sized])


def test_lungs_of_real_scans_beside_masks_drawn_by_hand(shared):
    "The table in the notebook; the hull holds the heart's edge and loses dense bases, so that 0.8 is much for it."
    table, found = real(shared, "medseg2-volumes"), {}
    for volume in volumes_of(table)[1:]:  # the first has 45 slices, the others 27
        pieces = [table.read(row) for row in volume.rows]
        truth = find_lungs(pieces, "given").mask
        for rule in ("hull", "regions"):
            lungs = find_lungs(pieces, rule)
            assert lungs.why == ""
            found[volume.name, rule] = dice(full_size(lungs.mask, truth.shape[1:]), truth)
    assert min(own for (_, rule), own in found.items() if rule == "hull") > 0.84
    assert min(own for (_, rule), own in found.items() if rule == "regions") > 0.92


def test_scans_of_three_classes_are_read_from_the_feet_with_lungs_on_the_right_slices(shared):
    table = real(shared, "covid-ct-md-sample")
    assert not volume_notes(volumes_of(table))
    for volume in volumes_of(table):
        assert table.frame["index"][volume.rows[0]] > table.frame["index"][volume.rows[-1]]  # numbered from the head
        some = volumes_of(table.where(table.frame.index.isin(volume.rows[::4])))[0]
        stack = read_stack(slices_of(table.where(table.frame.index.isin(volume.rows[::4]))), some, VolumeSettings())
        share = stack.lungs.mean((1, 2))
        assert stack.why == "" and share.max() > 0.2 and share[-1] < 0.02 and share.argmax() < 0.8 * len(share)


def test_a_scan_with_its_air_outside_of_the_scanner_at_2048_is_read(shared):
    table = real(shared, "lungmask-testdata")
    pieces = [table.read(row) for row in volumes_of(table)[0].rows]
    both = [find_lungs(pieces, rule).mask for rule in ("hull", "regions")]
    assert dice(*both) > 0.8


def real_and_air(shared, folder) -> SliceTable:
    "Scans of two classes in each split, every 12th slice, and a volume of air among those to train on."
    table = real(shared, "covid-ct-md-sample")
    frame = table.frame[table.frame["patient"].isin(["P002", "normal002"])].iloc[::12]
    label = np.where(frame["patient"] == "P002", "COVID-19", "Normal")
    parts = []
    for split in (
        "train",
        "validation",
        "test",
    ):  # the same scans: whether they go through is asked, not what is learned
        own = {name: frame[name] + f"-{split}" for name in ("id", "patient")}
        parts.append(frame.assign(split=split, label=label, **own))
    rows = pictures(folder, np.full((3, 64, 64), -1000.0), patient="air", split="train", folder=1)
    usual = {name: value for name, value in COLUMNS.items() if value is not None}
    parts.append(pd.DataFrame([usual | row for row in rows]))
    return SliceTable(pd.concat(parts, ignore_index=True), [table.root, folder], "real", table.description)


def test_real_volumes_go_the_whole_way_and_the_run_says_which_lungs_failed(shared, tmp_path):
    table = real_and_air(shared, tmp_path / "air")
    choices = dict(classes="Normal,COVID-19", image_size=64, volume_slices=4, epochs=1)
    experiment = tiny(model="resnext-plus", **choices)
    run = train(experiment, tmp_path / "run", table=table, progress=False)
    notes = [note for note in run.notes if note.startswith("Lung masks")]
    assert (
        len(notes) == 1 and "in 1 of 7 volumes the mask looks wrong" in notes[0] and "air/1: no body in it" in notes[0]
    )
    others = real(shared, "medseg2-volumes")
    other = dataset_of(experiment, others.where(others.frame["patient"].isin(["medseg2_2", "medseg2_4"])))
    answers = list(predict_volumes(load_model(run, "cpu"), volumes_in(experiment, other, tmp_path / "shared")))
    assert answers and all(np.isfinite(own.logits).all() and own.attention.sum() > 0.99 for own in answers)


# ---------------------------------------------------------------- stacks on disk


@pytest.fixture
def settled(monkeypatch):
    "Files of a moment ago count as at rest."
    monkeypatch.setattr(slice_cache_module, "SETTLED", 0)


@pytest.fixture
def stored(settled, tmp_path):
    "A table of two volumes, and a function that opens it with a cache of its own index."
    rows = pictures(tmp_path, *chest(6, 48)) + pictures(tmp_path, chest(4, 48)[0], patient="Q")
    table = table_of([{"mask": ""} | row for row in rows], tmp_path)

    def opened(limit_gb: float = 0.1, **settings) -> VolumeDataset:
        cache_module._packed.cache_clear()
        held, made = slices_of(table, 32), VolumeSettings(**settings)
        return VolumeDataset(held, made, cache=cache_module.stack_cache(held, made, tmp_path / "stacks", limit_gb))

    return opened


def same(one, other) -> bool:
    arrays = all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("pixels", "lungs"))
    return arrays and np.array_equal(one.lesion, other.lesion, equal_nan=True) and one.why == other.why


@pytest.fixture
def made(monkeypatch):
    "Names of the volumes whose stacks were made anew."
    names, make = [], dataset_module.read_stack

    def counted(slices, volume, settings):
        names.append(volume.name)
        return make(slices, volume, settings)

    monkeypatch.setattr(dataset_module, "read_stack", counted)
    return names


def test_a_stack_is_made_once_and_again_when_file_or_setting_changes(stored, made, tmp_path):
    first = [stored().stack(item) for item in (0, 1)]
    again = [stored().stack(item) for item in (0, 1)]
    assert made == ["P/1", "Q/1"] and all(map(same, first, again))
    stored(lung_mask="regions").stack(0)
    stored(volume_slices=3).stack(0)  # changes what is read of a stack, not the stack
    assert made == ["P/1", "Q/1", "P/1"]
    Image.fromarray(np.full((48, 48), 9, np.uint8)).save(tmp_path / "P_2.png")
    changed = stored().stack(0)
    assert len(made) == 4 and (changed.pixels[2] == 9).all() and not same(changed, first[0])


def test_a_spoilt_or_full_store_is_done_without(stored, made, tmp_path):
    whole = stored().stack(0)
    pack = next((tmp_path / "stacks").glob("*.pack"))
    for content in (
        pack.read_bytes()[:-20],
        b"x" * pack.stat().st_size,
    ):  # as of a writer that was killed, or a bad disk
        pack.write_bytes(content)
        assert same(stored().stack(0), whole)
    assert made == ["P/1"] * 3
    (tmp_path / "stacks" / "000001.index").unlink()
    full = stored(limit_gb=1e-7)
    assert same(full.stack(0), whole) and same(full.stack(0), whole) and len(made) == 4  # held in memory


def test_a_file_that_changes_while_a_stack_is_made_is_not_kept(stored, made, tmp_path, monkeypatch):
    held = stored()
    make = dataset_module.read_stack

    def late(*arguments):
        found = make(*arguments)
        Image.fromarray(np.full((48, 48), 7, np.uint8)).save(tmp_path / "P_1.png")
        return found

    monkeypatch.setattr(dataset_module, "read_stack", late)
    assert not (held.stack(0).pixels[1] == 7).all() and len(held.cache.packed) == 0
    monkeypatch.setattr(dataset_module, "read_stack", make)
    assert (stored().stack(0).pixels[1] == 7).all()


def test_without_a_cache_stacks_are_held_in_memory_up_to_its_limit(tmp_path, made):
    rows = pictures(tmp_path, chest(3, 48)[0]) + pictures(tmp_path, chest(3, 48)[0], patient="Q")
    held = volumes(table_of(rows, tmp_path))
    one = held.stack(0)
    held.memory_limit = 1.5 * (one.pixels.nbytes + one.lungs.nbytes)
    for item in (0, 1, 0, 1):
        held.stack(item)
    assert made == ["P/1", "Q/1", "Q/1"]


def test_workers_read_the_same_batches(stored):
    keys, held = [(0, 5), (1, 6), (0, 7)], stored(volume_slices=3)
    here = [held[key] for key in keys]
    for own, other in zip(here, DataLoader(held, sampler=keys, batch_size=None, num_workers=1)):
        assert own["id"] == other["id"] and all(
            torch.equal(own[name], other[name]) for name in ("pixels", "lungs", "places")
        )


def test_the_key_of_a_volume_holds_all_that_a_stack_depends_on(stored):
    held = stored()
    keys = {
        StackCache(slices_of(held.slices.table, side), VolumeSettings(**settings), held.cache.packed)._key_now(volume)
        for volume in held.volumes
        for side, settings in ((32, {}), (48, {}), (32, dict(lung_mask="given")), (32, dict(enhancement="tone")))
    }
    assert len(keys) == 8 and None not in keys


# ---------------------------------------------------------------- changes in training


def test_one_change_for_all_slices_and_masks_by_its_seed():
    pixels = np.repeat(np.uint8(np.random.default_rng(1).integers(0, 256, (1, 40, 40))), 5, 0)
    masks = np.repeat(np.indices((1, 40, 40)).sum(0) % 30 < 15, 5, 0)
    drawn = [VolumeAugmentation(2.0).draw(seed) for seed in range(30)]
    assert len({(own.zoom, own.degrees, own.noise) for own in drawn}) > 20 and drawn[3] == VolumeAugmentation(2.0).draw(
        3
    )
    parts = ("zoom", "scale", "degrees", "elastic", "blur", "noise")
    for name in (*parts, "stretch"):
        used = [bool(np.any(getattr(own, name))) for own in drawn]
        assert 5 < sum(used) < 25, name
    for own in drawn:
        still = VolumeChange(**{name: getattr(own, name) for name in (*parts[:5], "stretch", "seed")})
        changed, moved = still.pictures(pixels), own.masks(masks)
        assert changed.dtype == np.uint8 and (changed == changed[0]).all() and (moved == moved[0]).all()
        assert np.array_equal(own.pictures(pixels), own.pictures(pixels))
    noise = VolumeChange(noise=8.0, seed=1).pictures(np.full((5, 40, 40), 100, np.uint8))
    assert 7 < noise.std() < 9 and (noise[0] != noise[1]).any()


def test_masks_go_where_the_pictures_go():
    lungs = np.zeros((2, 64, 64), bool)
    lungs[:, 10:40, 20:30] = True
    for seed in range(20):
        change = VolumeAugmentation(2.0).draw(seed)
        moving = VolumeChange(
            zoom=change.zoom, scale=change.scale, degrees=change.degrees, elastic=change.elastic, seed=seed
        )
        assert np.array_equal(moving.pictures(np.uint8(255) * lungs) > 127, moving.masks(lungs))


def test_the_parts_of_a_change_do_what_they_say():
    dot = np.zeros((1, 65, 65), bool)
    dot[0, 10:13, 31:34] = True  # above the middle
    rows, columns = np.nonzero(VolumeChange(degrees=90).masks(dot)[0])
    assert rows.mean() == pytest.approx(32, abs=1) and columns.mean() == pytest.approx(53, abs=1)  # clockwise: right
    square = np.zeros((1, 64, 64), bool)
    square[0, 24:40, 24:40] = True
    assert VolumeChange(zoom=np.log(2)).masks(square).sum() == pytest.approx(4 * 256, rel=0.05)
    tall = VolumeChange(scale=0.5).masks(square)[0]
    assert tall.any(1).sum() < 16 < tall.any(0).sum() and tall.sum() == pytest.approx(256, rel=0.1)
    ramp = np.arange(100, 164, dtype=np.uint8)[None, None].repeat(64, 1)
    stretched = VolumeChange(stretch=(0.1, 0.1)).pictures(ramp)
    assert (stretched == 0).mean() > 0.05 and (stretched == 255).mean() > 0.05
    assert VolumeChange(blur=2.0).pictures(ramp * np.uint8([0, 1] * 32)).std() < (ramp * np.uint8([0, 1] * 32)).std()


def test_positives_alone_are_changed_in_training_alone(tmp_path):
    rows = pictures(tmp_path, chest(6, 48)[0]) + pictures(tmp_path, chest(6, 48)[0], patient="N", label="Normal")
    table = table_of(rows, tmp_path)

    def changed(which: str) -> list[bool]:
        settings = VolumeSettings(volume_augmentation="paper", volume_augmented=which, volume_strength=2.0)
        held = volumes(table, augmentation=VolumeAugmentation.of(settings, "Normal"))
        plain = volumes(table)
        assert all(torch.equal(held.sample(item)["pixels"], plain.sample(item)["pixels"]) for item in (0, 1))
        return [
            not torch.equal(held.sample(item, seed)["pixels"], plain.sample(item, seed)["pixels"])
            for item, seed in ((0, 1), (1, 1))
        ]

    assert changed("positives") == [True, False] and changed("all") == [True, True]
    assert VolumeAugmentation.of(VolumeSettings(), "Normal") is None


# ---------------------------------------------------------------- volumes of an experiment


def test_an_experiment_without_any_given_lungs_is_refused_in_words(tmp_path):
    rows = [
        row
        for at, split in enumerate(("train", "validation", "test"))
        for row in pictures(tmp_path, chest(2, 48)[0], patient=f"P{at}", split=split)
    ]
    table = table_of(rows, tmp_path)
    experiment = tiny(model="resnext-plus", lung_mask="given")
    parts = ExperimentData(experiment, table, shared=tmp_path / "shared")
    with pytest.raises(InputError, match="setting lung_mask=given, but no volume has a whole lung mask"):
        check_volumes(parts, progress=False)
    parts = ExperimentData(experiment.replace(lung_mask="hull"), table, shared=tmp_path / "shared")
    assert check_volumes(parts, progress=False) == [] and len(volume_dataset(parts, "train")) == 1
