"""The phantom as whole scans: what goes on from plane to plane, both forms on disk, lesions as large as real ones."""

import json

import numpy as np
import pytest
from lesion_measures import measured, phantom_masks, real_masks
from scipy.ndimage import label as connected

from covid_workbench.data.anatomy import lung_depth, random_body
from covid_workbench.data.chest import chest_tubes, draw_chest
from covid_workbench.data.description import GROUND_GLASS, LUNG
from covid_workbench.data.phantom import (
    PhantomSettings,
    phantom_hu,
    phantom_patient,
    phantom_slice,
    phantom_volume,
    slice_height,
    write_phantom,
)
from covid_workbench.data.slices import SliceTable
from covid_workbench.data.sources import open_sources
from covid_workbench.data.volumes import as_hu
from covid_workbench.errors import InputError
from covid_workbench.runs.datasets import phantom_folder, prepare_data
from covid_workbench.runs.experiment import Experiment, telling_settings
from covid_workbench.shapes import Plane
from covid_workbench.tubes import draw_tubes
from covid_workbench.volumes.volume_rows import volumes_of

SCANS = PhantomSettings(size=96, slices=6, form="volumes")
PICTURES = PhantomSettings(size=96, slices=6)


def lung_planes(number: int, size: int, low: float, high: float, step: float) -> list[Plane]:
    "Planes through the chest of a patient, `step` mm apart between two shares of its height."
    height = random_body((0, 4, number)).height
    return [Plane(size, 340.0, z) for z in np.arange(low * height, high * height, step)]


def test_slices_are_planes_of_the_volume():
    patient = phantom_patient(3)
    volume, masks = phantom_volume(patient, PICTURES)
    for index in range(6):
        hu, mask = phantom_hu(patient, index, PICTURES)
        assert np.array_equal(volume.hu[index], as_hu(hu)) and np.array_equal(masks[index], mask)
        assert np.array_equal(phantom_slice(patient, index, PICTURES).mask, masks[index])


def test_the_volume_lies_where_the_patient_lies():
    patient = phantom_patient(2)
    volume, masks = phantom_volume(patient, PICTURES)
    plane = Plane(96, patient.field_of_view, slice_height(patient, 4, PICTURES), patient.shift)
    at = volume.affine @ (4, 20, 70, 1)  # (plane, row, column)
    assert np.allclose(at[:3], (plane.x[0, 70], plane.y[20, 0], -plane.z), atol=1e-3)
    assert np.allclose(np.linalg.norm(volume.affine[:3, :3], axis=0), volume.spacing)
    heights = [slice_height(patient, index, PICTURES) for index in range(6)]
    assert np.allclose(np.diff(heights), -volume.spacing[0])  # even, and feet first
    assert (masks[-1] > 0).sum() < (masks[3] > 0).sum()  # the apex is the smallest


def test_vessels_go_on_from_plane_to_plane():
    body = random_body((0, 4, 1))
    planes = lung_planes(1, 200, 0.3, 0.5, 1.0)
    stack = np.stack([draw_tubes(chest_tubes(body).vessels, plane, 1.0, 0.8) for plane in planes]) > 0.25
    inside = np.stack([lung_depth(body, plane.x, plane.y, plane.z) > -25 for plane in planes])
    found, _ = connected(stack & inside, np.ones((3, 3, 3)))
    sizes = np.bincount(found.ravel())[1:]
    assert sizes.max() > 0.45 * sizes.sum()  # a trunk with what it feeds, in a piece of the chest
    assert sizes[sizes < 30].sum() < 0.05 * sizes.sum()  # no crumbs: nothing hangs in the air


def test_all_airways_are_reached_from_the_trachea():
    body = random_body((0, 4, 5))
    planes = lung_planes(5, 160, 0.05, 0.75, 1.5)
    stack = np.stack([draw_tubes(chest_tubes(body).airways, plane, 1.5, 0.8) for plane in planes]) > 0.2
    found, _ = connected(stack, np.ones((3, 3, 3)))
    sizes = np.bincount(found.ravel())
    trachea = found[0].max()
    assert trachea > 0 and sizes[trachea] > 0.9 * sizes[1:].sum()


def test_airways_have_walls_and_bones_have_marrow():
    body = random_body((0, 4, 4))
    chest = draw_chest(body, Plane(512, 340.0, 0.33 * body.height), 1.0, 0.7)
    airway = chest.airway > 0.9
    assert np.median(chest.hu[airway]) < -900
    x, y = (
        np.searchsorted(chest_plane(body).x[0], body.turn),
        np.searchsorted(chest_plane(body).y[:, 0], 66 * body.depth),
    )
    bone = chest.around[y - 30 : y + 1, x]
    assert bone.max() > 450 and 100 < chest.around[y, x] < 420  # the shell of a vertebra, and what is in it


def chest_plane(body) -> Plane:
    return Plane(512, 340.0, 0.33 * body.height)


def test_lesions_go_on_from_plane_to_plane():
    patient, settings = phantom_patient(2), PhantomSettings(size=96, slices=100)  # 2 mm apart
    masks = np.stack([phantom_hu(patient, index, settings)[1] for index in range(30, 54)]) >= GROUND_GLASS
    assert masks.any((1, 2)).sum() > 12
    found, count = connected(masks, np.ones((3, 3, 3)))
    deep = [np.ptp(np.flatnonzero((found == own).any((1, 2)))) + 1 for own in range(1, count + 1)]
    sizes = np.bincount(found.ravel())[1:]
    assert np.average(deep, weights=sizes) > 6  # planes


def test_ground_glass_keeps_vessels_and_has_a_soft_edge_and_texture():
    inside, across = [], []
    for number in range(12):
        patient, settings = phantom_patient(number), PhantomSettings(size=256)
        if patient.label == "COVID-19" and patient.scanner.thickness < 4:
            hu, mask = phantom_hu(patient, 3, settings)
            glass = mask == GROUND_GLASS
            inside += [hu[glass].std()] if glass.sum() > 200 else []
            across += [np.median(hu[glass]) - np.median(hu[mask == LUNG])] if glass.sum() > 200 else []
    assert len(inside) >= 2 and min(inside) > 60 and min(across) > 100


def test_both_forms_are_the_same_slices(tmp_path):
    for name, settings in (("scans", SCANS), ("pictures", PICTURES)):
        write_phantom(tmp_path / name, 3, seed=2, settings=settings)
    scans, pictures = (SliceTable.from_csv(tmp_path / name / "slices.csv") for name in ("scans", "pictures"))
    assert list(scans.frame["id"]) == list(pictures.frame["id"])
    for row in range(len(scans)):
        scan, picture = scans.read(row), pictures.read(row)
        patient = phantom_patient(int(picture.patient[-4:]), 2)
        circle = phantom_hu(patient, row % 6, PICTURES)[0] > -2000  # outside it a picture is black, a scan is air
        assert np.array_equal(scan.pixels[circle], picture.pixels[circle]) and np.array_equal(scan.mask, picture.mask)
        assert scan.label == picture.label and scan.hu is not None and picture.hu is None


def test_a_folder_of_scans_is_also_read_without_its_table(tmp_path):
    write_phantom(tmp_path / "own", 3, settings=SCANS)
    for name in ("slices.csv", "phantom.json", "contents.json"):
        (tmp_path / "own" / name).unlink()
    table = open_sources([str(tmp_path / "own")])
    assert len(table) == 18 and set(table.frame["label"]) == {"Normal", "CP", "COVID-19"}


def test_workers_write_the_same_scans_and_a_half_written_folder_is_completed(tmp_path):
    def files(folder):
        return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}

    write_phantom(tmp_path / "one", 3, settings=SCANS)
    write_phantom(tmp_path / "two", 3, settings=SCANS, workers=2)
    whole = files(tmp_path / "one")
    assert files(tmp_path / "two") == whole
    (tmp_path / "one" / "slices.csv").unlink()
    next((tmp_path / "one" / "mask").rglob("*.mha")).unlink()
    write_phantom(tmp_path / "one", 3, settings=SCANS)
    assert files(tmp_path / "one") == whole


def test_a_phantom_of_an_earlier_version_is_refused_in_words(tmp_path):
    write_phantom(tmp_path, 3, settings=PICTURES)
    about = json.loads((tmp_path / "phantom.json").read_text())
    (tmp_path / "phantom.json").write_text(json.dumps(about | {"format": 1}))
    with pytest.raises(InputError, match="earlier version.*delete it to have it drawn anew"):
        write_phantom(tmp_path, 3, settings=PICTURES)


def test_forms_do_not_share_a_folder_or_a_name(tmp_path):
    write_phantom(tmp_path / "own", 3, settings=PICTURES)
    with pytest.raises(InputError, match="other settings"):
        write_phantom(tmp_path / "own", 3, settings=SCANS)
    with pytest.raises(InputError, match="pictures or volumes"):
        PhantomSettings(form="dicom")


def test_an_experiment_draws_scans(tmp_path):
    plain = Experiment.make("smoke", phantom_patients=9, phantom_slices=3)
    scans = Experiment.make("smoke", phantom_patients=9, phantom_slices=3, phantom_form="volumes")
    assert phantom_folder(plain.data, tmp_path) != phantom_folder(scans.data, tmp_path)
    told = [telling_settings(vars(own.data)) for own in (plain, scans)]
    assert "phantom_form" not in told[0] and told[1]["phantom_form"] == "volumes"  # keys of earlier runs stay
    table = prepare_data(scans.data, tmp_path, progress=False)
    assert {name[-4:] for name in table.frame["image"]} == {".mha"}
    volumes = volumes_of(table)
    assert len(volumes) == 9 and all(len(own) == 3 and own.label in ("Normal", "CP", "COVID-19", "") for own in volumes)


def test_lesions_are_as_many_and_as_large_as_on_real_slices(shared):
    real, ours = measured(list(real_masks(shared))[::3]), measured(phantom_masks(21, 160))
    for kind in ("ground glass", "consolidation"):
        for figure, most in (
            ("components a slice", 2.0),
            ("share of the image, %", 2.0),
            ("one component, % of the image", 2.5),
        ):
            ratio = np.median(ours[kind, figure]) / np.median(real[kind, figure])
            assert 1 / most < ratio < most, (kind, figure, ratio)
        for figure, near in (("solidity", 0.12), ("depth from the pleura", 0.12), ("height in the lungs", 0.15)):
            assert abs(np.median(ours[kind, figure]) - np.median(real[kind, figure])) < near, (kind, figure)
