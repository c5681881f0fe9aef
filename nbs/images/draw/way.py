"""The way of the data, with what a small trained model makes of one slice at each stop"""

import numpy as np

from covid_workbench.data.colours import GREEN as LESION
from covid_workbench.data.description import CLASS_NAMES
from covid_workbench.data.phantom import PhantomSettings, phantom_patient, phantom_slice
from covid_workbench.data.slices import Slice
from covid_workbench.reports.svg import YELLOW, place_labels, tag
from draw.design import (
    BLUE,
    GREEN,
    INK,
    LABEL,
    MARGIN,
    ORANGE,
    PALE,
    SOFT,
    TINT,
    arrow,
    card,
    framed,
    rectangles,
    slice_image,
    words,
)
from draw.slices import FIRST, body_rows
from draw.trained import numbers

STEP, SIDE, HIGH = 222, 178, 135  # from one stop to the next; width and height of a stop
UPPER, LOWER = 70, 274  # tops of the two rows


def trained_slice() -> Slice:
    "The slice that the numbers in `trained.json` belong to, as the model saw it."
    patient, _, index = numbers()["way"]["slice"].split("_")
    run = numbers()["settings"]
    settings = PhantomSettings(
        size=run["phantom_size"], slices=run["phantom_slices"], difficulty=run["phantom_difficulty"]
    )
    return phantom_slice(phantom_patient(int(patient[1:]), 0, settings), int(index), settings)


def _left(number: int) -> float:
    return MARGIN + STEP * number


def _upper(number: int, name: str, told: str, *parts: str) -> str:
    "A stop of the upper row, with its name above it."
    middle = _left(number) + SIDE / 2
    return (
        words(middle, 38, name, LABEL, font_weight=700)
        + words(middle, 58, told, fill=SOFT)
        + framed(_left(number), UPPER, SIDE, HIGH, *parts)
    )


def _lower(number: int, name: str, told: str, *parts: str) -> str:
    "A stop of the lower row, with its name below it."
    middle = _left(number) + SIDE / 2
    return (
        framed(_left(number), LOWER, SIDE, HIGH, *parts)
        + words(middle, LOWER + HIGH + 24, name, LABEL, font_weight=700)
        + words(middle, LOWER + HIGH + 44, told, fill=SOFT)
    )


def _ground(colour: str = PALE) -> str:
    return tag("rect", width=SIDE, height=HIGH, fill=colour)


def _maps() -> str:
    "Feature maps, each half as large as the one before, and the one of the pyramid."
    sizes, parts = (112, 84, 58, 36), []
    for number, size in enumerate(sizes):
        parts.append(
            tag("rect", x=20.0 + 30 * number, y=(HIGH - size) / 2, width=18, height=size, rx=3, fill="#9CC7EA")
        )
    last = tag("rect", x=144.0, y=(HIGH - 58) / 2, width=18, height=58, rx=3, fill=BLUE)
    return _ground() + "".join(parts) + last


def _shifted(boxes: list, size: int) -> np.ndarray:
    "Boxes (n, 4) in the rows that are shown."
    return np.array(boxes) - np.array([0, 1, 0, 1]) * round(FIRST * size)


def _found(size: int, scale: float) -> str:
    "The masks of the detections, in the rows that are shown."
    shift = f"translate(0 {-round(FIRST * size) * scale:.2f}) scale({scale:.4f})"
    style = dict(fill=LESION, fill_opacity=0.45, stroke=LESION, stroke_width=1.2)
    masks = "".join(tag("path", d=path, **style) for path in numbers()["way"]["lesions"])
    return tag("g", masks, transform=shift)


def _ranked(size: int, scale: float) -> str:
    "The ranked regions, numbered at their top-left corners."
    boxes = _shifted(numbers()["way"]["boxes"], size)
    labels = [
        tag("rect", x=float(x), y=float(y), width=13, height=14, rx=3, fill=YELLOW, stroke=INK, stroke_width=0.8)
        + words(x + 6.5, y + 11.5, str(rank), 12, font_weight=700)
        for rank, (x, y, _) in enumerate(place_labels(boxes * scale, [13] * len(boxes), 14, (SIDE, HIGH)), start=1)
    ]
    return rectangles(boxes, scale, YELLOW, 1.3) + "".join(labels)


def _rows() -> str:
    "X: one row a region."
    count = len(numbers()["way"]["boxes"])
    rows = [
        words(22, 24 + 14 * k, str(k + 1), 12, font_weight=700)
        + tag("rect", x=36, y=15.0 + 14 * k, width=124, height=10, rx=2, fill=BLUE, fill_opacity=0.9 - 0.09 * k)
        for k in range(count)
    ]
    return _ground() + "".join(rows)


def _choices() -> str:
    "The four aggregators."
    pills = [
        tag("rect", x=39, y=14.0 + 28 * k, width=100, height=23, rx=6, fill=TINT[BLUE], stroke=BLUE)
        + words(89, 30 + 28 * k, name)
        for k, name in enumerate(("Attention", "LSTM-1", "LSTM-2", "Affinity"))
    ]
    return _ground() + "".join(pills)


def _evidence() -> str:
    "Probabilities of the classes above, positive and negative attention by rank below."
    way, parts = numbers()["way"], []
    for k, (name, share) in enumerate(zip(CLASS_NAMES, way["probabilities"])):
        parts.append(words(12, 22 + 18 * k, name, 13, text_anchor="start"))
        parts.append(tag("rect", x=84, y=12.0 + 18 * k, width=1 + 80 * share, height=11, rx=1, fill=INK))
    unit = 34 / np.max(way["attention"])
    for k, (positive, negative) in enumerate(unit * np.transpose(way["attention"])):
        x = 16 + 18.5 * k
        parts.append(tag("rect", x=x, y=float(94 - positive), width=12, height=float(positive), fill=BLUE))
        parts.append(tag("rect", x=x, y=94.0, width=12, height=float(negative), fill=ORANGE))
    return _ground() + "".join(parts) + tag("path", d="M12 94H166", stroke=INK)


def _arrows() -> str:
    "Along the upper row, from the proposals down to the lower row, along the lower row."
    upper, lower, lane = UPPER + HIGH / 2, LOWER + HIGH / 2, (UPPER + HIGH + LOWER) / 2
    turn, start = _left(2) + SIDE / 2, _left(0) + SIDE / 2
    along = [
        arrow((_left(k) + SIDE + 4, y), (_left(k + 1) - 4, y), colour=colour)
        for y, colours in ((upper, (SOFT, SOFT, GREEN)), (lower, (BLUE, BLUE, BLUE)))
        for k, colour in enumerate(colours)
    ]
    down = arrow((turn, UPPER + HIGH + 4), (turn, lane), (start, lane), (start, LOWER - 4), colour=BLUE)
    told = words(
        start + 14, lane - 9, "classification branch: the same heads, not trained", fill=BLUE, text_anchor="start"
    )
    return "".join(along) + down + told


def draw_way() -> str:
    "From a slice to lesions, and from ranked regions to the class with its evidence."
    pixels = trained_slice().pixels
    size, scale = len(pixels), SIDE / len(pixels)
    picture, again = slice_image(body_rows(pixels), SIDE, "ct"), tag("use", href="#ct")
    proposals = rectangles(_shifted(numbers()["way"]["proposals"][:40], size), scale, "#63B3FF", 0.7)
    return card(
        _upper(0, "CT slice", "or a batch of them", picture),
        _upper(1, "Backbone + FPN", "feature maps", _maps()),
        _upper(2, "Proposals", "RPN", again, proposals),
        _upper(3, "Lesions", "segmentation branch", again, _found(size, scale)),
        _lower(0, "β regions", "ranked by distance", again, _ranked(size, scale)),
        _lower(1, "X  (β × C)", "a vector for each", _rows()),
        _lower(2, "Aggregator", "one of four", _choices()),
        _lower(3, "Evidence", "class and attention", _evidence()),
        _arrows(),
        height=478,
        spoken="A slice goes through backbone, proposals and segmentation; its ranked regions go to an aggregator",
    )
