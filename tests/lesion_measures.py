"""Lesions in figures, the same for real slices and for the phantom; `python tests/lesion_measures.py` prints both.

The real ones: volumes 1 to 5 of `medseg2-volumes`, the only masks on whole chests whose values tell both lesions apart.
"""

import csv
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from scipy.ndimage import distance_transform_edt
from skimage.measure import label, regionprops

from covid_workbench.data.description import CONSOLIDATION, GROUND_GLASS, LUNG
from covid_workbench.data.phantom import PhantomSettings, phantom_slices
from covid_workbench.picture_files import read_picture

SMALLEST = 10  # pixels at 512x512
KINDS = {GROUND_GLASS: "ground glass", CONSOLIDATION: "consolidation"}


def real_masks(shared: Path) -> Iterator[np.ndarray]:
    "Masks (H, W) with the values of the product, of every slice that has one; their README says how they are stored."
    folder = shared / "data" / "medseg2-volumes"
    for path in sorted((folder / "InfectionMasks").glob("[1-5]_*.png")):
        lungs = read_picture(folder / "LungMasks" / path.name)[:, ::-1] > 0
        stored = read_picture(path).T
        mask = np.where(lungs, LUNG, 0)
        mask[stored == 127], mask[stored == 255] = GROUND_GLASS, CONSOLIDATION
        yield mask


def phantom_masks(patients: int = 60, size: int = 256) -> Iterator[np.ndarray]:
    "Masks of the phantom's slices."
    return (piece.mask for piece in phantom_slices(patients, PhantomSettings(size=size)))


def _of_slice(mask: np.ndarray, value: int) -> dict[str, list[float]]:
    "The figures of a slice and of each component in it."
    found = [
        own for own in regionprops(label(mask == value, connectivity=2)) if own.area >= SMALLEST * mask.size / 512**2
    ]
    if not found:
        return {}
    lung = mask > 0
    depth, rows = distance_transform_edt(lung), np.flatnonzero(lung.any(1))
    at = [tuple(own.coords.T) for own in found]
    return {
        "components a slice": [len(found)],
        "share of the image, %": [100 * np.mean(mask == value)],
        "share of the lung, %": [100 * (mask == value).sum() / lung.sum()],
        "one component, % of the image": [100 * own.area / mask.size for own in found],
        "solidity": [own.solidity for own in found],
        "depth from the pleura": [depth[own].mean() / depth.max() for own in at],
        "height in the lungs": [(own[0].mean() - rows[0]) / np.ptp(rows) for own in at],
    }


def measured(masks: Iterable[np.ndarray]) -> dict[tuple[str, str], np.ndarray]:
    "(kind, figure) -> its values over all slices or components."
    found: dict[tuple[str, str], list[float]] = {}
    for mask in masks:
        for value, kind in KINDS.items():
            for name, values in _of_slice(mask, value).items():
                found.setdefault((kind, name), []).extend(values)
    return {key: np.array(values) for key, values in found.items()}


if __name__ == "__main__":
    both = [measured(real_masks(Path(__file__).parents[2] / "shared")), measured(phantom_masks())]
    lines = csv.writer(sys.stdout, delimiter="\t")
    lines.writerow(("", "", "real: median", "90th", "phantom: median", "90th"))
    for key in both[0]:
        lines.writerow((*key, *(f"{np.quantile(own[key], q):.2f}" for own in both for q in (0.5, 0.9))))
