"""The phantom: deterministic, honest labels, fair scanners, not trivially solvable, whole on disk."""

import json
from collections import Counter, defaultdict

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.optimize import minimize
from scipy.special import log_softmax

from covid_workbench.data.description import CLASS_NAMES, CONSOLIDATION, GROUND_GLASS, LUNG
from covid_workbench.data.phantom import (
    SCANNERS,
    VISIBLE,
    PhantomSettings,
    phantom_hu,
    phantom_patient,
    phantom_slice,
    phantom_slices,
    write_phantom,
)
from covid_workbench.errors import InputError

SMALL = PhantomSettings(size=96, slices=4)


def files(folder):
    "Relative name -> content of every file under a folder."
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_slice_depends_on_seed_patient_index_and_settings_only():
    forward = [
        (piece.id, piece.label, piece.pixels.tobytes(), piece.mask.tobytes())
        for piece in phantom_slices(3, SMALL, seed=4)
    ]
    backward = [
        phantom_slice(phantom_patient(number, 4, SMALL), index, SMALL) for number in (2, 1, 0) for index in (3, 2, 1, 0)
    ]
    assert forward == [
        (piece.id, piece.label, piece.pixels.tobytes(), piece.mask.tobytes()) for piece in reversed(backward)
    ]
    assert next(phantom_slices(1, SMALL, seed=4, first=2)).pixels.tobytes() == forward[8][2]
    assert next(phantom_slices(1, SMALL, seed=5)).pixels.tobytes() != forward[0][2]


def test_workers_write_the_same_files(tmp_path):
    one = write_phantom(tmp_path / "one", 4, seed=1, settings=SMALL)
    two = write_phantom(tmp_path / "two", 4, seed=1, settings=SMALL, workers=2)
    pd.testing.assert_frame_equal(one, two)
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_labels_agree_with_masks():
    seen = Counter()
    for piece in phantom_slices(24, PhantomSettings(size=96, slices=6)):
        truth = phantom_patient(int(piece.patient[1:])).label
        share = np.mean(piece.mask >= GROUND_GLASS)
        assert piece.mask.max() <= CONSOLIDATION and piece.pixels.dtype == piece.mask.dtype == np.uint8
        if truth == "Normal":
            assert piece.label == "Normal" and share == 0
        else:
            assert piece.label == (truth if share >= VISIBLE else None)
        seen[truth, piece.label] += 1
    assert all(seen[name, name] >= 10 for name in CLASS_NAMES)
    assert seen["CP", None] and seen["COVID-19", None]


def test_what_the_mask_says_is_what_the_picture_shows():
    settings = PhantomSettings(size=192)
    gaps = []
    for number in range(12):
        patient = phantom_patient(number, settings=settings)
        hu, mask = phantom_hu(patient, 4, settings)
        if np.mean(mask >= GROUND_GLASS) > VISIBLE:
            lung = np.median(hu[mask == LUNG])
            gaps += [
                np.median(hu[mask == value]) - lung
                for value in (GROUND_GLASS, CONSOLIDATION)
                if np.mean(mask == value) > VISIBLE
            ]
    assert len(gaps) >= 6 and min(gaps) > 100  # HU denser than the lung around


def test_classes_are_balanced_and_scanners_never_follow_them():
    patients = [phantom_patient(number, seed=2) for number in range(36)]
    assert Counter(patient.label for patient in patients) == dict.fromkeys(CLASS_NAMES, 12)
    assert all({patients[first + step].label for step in range(3)} == set(CLASS_NAMES) for first in range(0, 36, 3))
    assert Counter((patient.label, patient.scanner.name) for patient in patients) == {
        (name, scanner.name): 2 for name in CLASS_NAMES for scanner in SCANNERS
    }
    many = pd.DataFrame(
        [(p.label, p.field_of_view, p.noise, p.body.lung, p.body.fat) for p in map(phantom_patient, range(180))],
        columns=["label", "field", "noise", "lung", "fat"],
    )
    means, spread = many.groupby("label").mean(), many.drop(columns="label").std()
    assert ((means.max() - means.min()) / spread < 0.5).all()


def test_a_tied_scanner_gives_the_class_away():
    by_scanner = defaultdict(set)
    for number in range(36):
        patient = phantom_patient(number, settings=PhantomSettings(tie_scanner=True))
        by_scanner[patient.scanner.name].add(patient.label)
    assert all(len(labels) == 1 for labels in by_scanner.values())


def test_the_same_anatomy_at_192_and_512():
    for number, index in ((0, 2), (1, 4), (2, 5)):
        small, large = (
            phantom_slice(phantom_patient(number), index, PhantomSettings(size=size)) for size in (192, 512)
        )
        lungs = np.mean(small.mask > 0), np.mean(large.mask > 0)
        assert abs(lungs[0] / lungs[1] - 1) < 0.15
        lesions = np.mean(small.mask >= GROUND_GLASS), np.mean(large.mask >= GROUND_GLASS)
        assert abs(lesions[0] - lesions[1]) < 0.003


def test_a_grey_histogram_does_not_solve_it():
    pieces = [piece for piece in phantom_slices(90, PhantomSettings(size=192, slices=6)) if piece.label]
    classes = np.array([CLASS_NAMES.index(piece.label) for piece in pieces])
    train = np.array([int(piece.patient[1:]) < 60 for piece in pieces])
    inputs = np.stack([np.histogram(piece.pixels, 32, (0, 256))[0] / piece.pixels.size for piece in pieces])
    inputs = np.hstack([(inputs - inputs[train].mean(0)) / (inputs[train].std(0) + 1e-6), np.ones((len(inputs), 1))])
    target = np.eye(3)[classes]

    def loss(flat):
        logits = log_softmax(inputs[train] @ flat.reshape(-1, 3), axis=1)
        return -(target[train] * logits).mean() + 1e-4 * flat @ flat, (
            inputs[train].T @ (np.exp(logits) - target[train]) / target[train].size
        ).ravel() + 2e-4 * flat

    fitted = minimize(
        loss, np.zeros(inputs.shape[1] * 3), jac=True, method="L-BFGS-B", options={"maxiter": 500}
    ).x.reshape(-1, 3)
    truth, guess = classes[~train], (inputs[~train] @ fitted).argmax(1)
    f1 = sum(
        np.mean(truth == k) * 2 * np.sum((truth == k) & (guess == k)) / max(np.sum(truth == k) + np.sum(guess == k), 1)
        for k in range(3)
    )
    assert 0.35 < f1 < 0.80


def test_the_published_layout_is_whole_and_readable(tmp_path):
    table = write_phantom(tmp_path / "phantom", 3, settings=SMALL)
    assert (
        list(table.columns) == ["id", "patient", "scan", "index", "image", "mask", "label", "source"]
        and len(table) == 12
    )
    assert json.loads((tmp_path / "phantom" / "phantom.json").read_text())["settings"]["size"] == 96
    for row in table.itertuples():
        image, mask = (np.asarray(Image.open(tmp_path / "phantom" / name)) for name in (row.image, row.mask))
        piece = phantom_slice(phantom_patient(int(row.patient[1:])), row.index, SMALL)
        assert (
            np.array_equal(image, piece.pixels)
            and np.array_equal(mask, piece.mask)
            and row.label == (piece.label or "")
        )
        folder = {"Normal": "Normal", "CP": "CP", "COVID-19": "NCP"}[phantom_patient(int(row.patient[1:])).label]
        assert row.image == f"{folder}/{row.patient}/1/{row.index:04d}.png"
        copy = np.asarray(Image.open(tmp_path / "phantom" / f"image/{row.patient}/{row.index:04d}.jpg"), float)
        assert np.abs(copy - image).mean() < 6


def test_only_its_own_folder_is_touched(tmp_path):
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("precious")
    with pytest.raises(InputError, match="thesis.txt"):
        write_phantom(foreign, 3, settings=SMALL)
    assert files(foreign) == {"thesis.txt": b"precious"}
    with pytest.raises(InputError, match="is a file"):
        write_phantom(foreign / "thesis.txt", 3, settings=SMALL)
    write_phantom(tmp_path / "own", 3, settings=SMALL)
    with pytest.raises(InputError, match="other settings"):
        write_phantom(tmp_path / "own", 3, seed=1, settings=SMALL)


def test_a_half_written_folder_is_completed(tmp_path):
    write_phantom(tmp_path, 3, settings=SMALL)
    whole = files(tmp_path)
    (tmp_path / "slices.csv").unlink()
    next((tmp_path / "mask").rglob("*.png")).unlink()
    write_phantom(tmp_path, 3, settings=SMALL)
    assert files(tmp_path) == whole
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    write_phantom(tmp_path, 3, settings=SMALL)  # found, not written again
    assert stamps == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}


@pytest.mark.parametrize(
    "wrong",
    [
        dict(size=32),
        dict(size=192.5),
        dict(slices=0),
        dict(difficulty=-1),
        dict(atypical=float("nan")),
        dict(size=True),
    ],
)
def test_settings_are_checked(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        PhantomSettings(**wrong)


def test_a_slice_that_does_not_exist():
    with pytest.raises(InputError, match="slice 4 does not exist"):
        phantom_slice(phantom_patient(0), 4, SMALL)


def test_numbers_that_make_no_phantom(tmp_path):
    with pytest.raises(InputError, match="seed -1"):
        phantom_patient(0, seed=-1)
    with pytest.raises(InputError, match="at least 1"):
        write_phantom(tmp_path, 0)
    assert not list(tmp_path.iterdir())
