"""The slices of the phantom that the pictures show, and a sheet of them with their masks"""

from functools import cache

import numpy as np

from covid_workbench.data.colours import GREEN, PINK
from covid_workbench.data.description import CONSOLIDATION, GROUND_GLASS, LUNG
from covid_workbench.data.phantom import PhantomSettings, phantom_patient, phantom_slice
from covid_workbench.data.slices import Slice
from covid_workbench.reports.svg import DARK, outline, tag
from draw.design import MARGIN, SOFT, WIDTH, card, framed, key_entry, slice_image, words

NORMAL, PNEUMONIA, COVID, SPREAD = (7, 3), (9, 3), (8, 3), (5, 4)  # patient and slice of the default phantom
FIRST, LAST = 0.14, 0.9  # of the rows of a slice: above and below is air
MASK_COLOURS = {LUNG: "#4A525C", GROUND_GLASS: GREEN, CONSOLIDATION: PINK}


@cache
def phantom(which: tuple[int, int], size: int = 512) -> Slice:
    "One slice of the default phantom, drawn at this size."
    patient, index = which
    settings = PhantomSettings(size=size)
    return phantom_slice(phantom_patient(patient, 0, settings), index, settings)


def body_rows(pixels: np.ndarray) -> np.ndarray:
    "The rows of a slice or mask (H, W) in which the body is."
    return pixels[round(FIRST * len(pixels)) : round(LAST * len(pixels))]


def mask_layers(mask: np.ndarray, scale: float) -> str:
    "A mask (H, W) as filled outlines: lung, ground glass, consolidation."
    layers = [(mask >= LUNG, LUNG), (mask >= GROUND_GLASS, GROUND_GLASS), (mask == CONSOLIDATION, CONSOLIDATION)]
    return "".join(
        tag("path", d=outline(part, scale), fill=MASK_COLOURS[value], fill_rule="evenodd")
        for part, value in layers
        if part.any()
    )


def _column(number: int, which: tuple[int, int], size: int = 252) -> str:
    "A slice and below it its mask."
    piece = phantom(which, size)
    pixels, mask = body_rows(piece.pixels), body_rows(piece.mask)
    width = (WIDTH - 2 * MARGIN - 2 * 16) / 3
    height, left = width * len(pixels) / size, MARGIN + number * (width + 16)
    dark = tag("rect", width=float(width), height=float(height), fill=DARK)
    return (
        words(left + width / 2, 42, piece.label, 19, font_weight=700)
        + framed(left, 58, width, height, slice_image(pixels, width))
        + framed(left, 58 + height + 12, width, height, dark, mask_layers(mask, width / size))
    )


def draw_phantom() -> str:
    "A normal slice, one with pneumonia and one with COVID-19, above their masks."
    names = ("lung", "ground-glass opacity", "consolidation")
    keys = [
        key_entry(x, 516, name, MASK_COLOURS[value], SOFT)
        for x, name, value in zip((MARGIN, MARGIN + 100, MARGIN + 316), names, MASK_COLOURS)
    ]
    return card(
        *(_column(number, which) for number, which in enumerate((NORMAL, PNEUMONIA, SPREAD))),
        *keys,
        height=538,
        spoken="Three synthetic slices, normal, common pneumonia and COVID-19, above the masks of lung and lesions",
    )
