"""What a small trained model did: an attention picture, and the precision and recall of its detector"""

import numpy as np

from covid_workbench.data.description import CLASS_NAMES
from covid_workbench.reports.pictures import SlicePicture, attention_bars, slice_picture
from covid_workbench.reports.svg import tag
from draw.design import BLUE, GREEN, LABEL, MARGIN, ORANGE, RULE, SOFT, card, words
from draw.trained import numbers
from draw.way import trained_slice


def _placed(picture: SlicePicture, x: float, y: float, scale: float) -> str:
    "A picture of the package inside of another, larger by `scale`."
    inner = picture.svg.replace(' style="max-width:100%;height:auto"', "", 1)
    return tag("g", inner, transform=f"translate({x:g} {y:g}) scale({scale:g})")


def draw_attention() -> str:
    "The ranked regions of a slice, coloured by attention, beside their weights by rank."
    way, piece = numbers()["way"], trained_slice()
    boxes, attention = np.array(way["boxes"]), np.array(way["attention"])
    best = int(np.argmax(way["probabilities"]))
    title = f"{CLASS_NAMES[best]} with probability {way['probabilities'][best]:.2f}, labelled {way['label']}"
    regions = slice_picture(piece.pixels, regions=boxes, attention=attention, truth=piece.mask, width=352)
    bars = attention_bars(attention, scores=way["scores"], regions=boxes, width=296)
    return card(
        words(MARGIN, 44, title, 19, font_weight=700, text_anchor="start"),
        _placed(regions, MARGIN, 62, 1.25),
        words(502, 84, "Score and attention of each region", 16, font_weight=600, text_anchor="start"),
        _placed(bars, 502, 104, 1.25),
        words(502, 420, "LSTM-2: the answer is its positive branch", text_anchor="start", fill=SOFT),
        words(502, 442, "minus its negative one. Attention is where", text_anchor="start", fill=SOFT),
        words(502, 464, "the model looked, not why it decided.", text_anchor="start", fill=SOFT),
        height=572,
        spoken="A slice with eight ranked regions coloured by attention, and the positive and negative weights by rank",
    )


LEFT, TOP, LONG, HIGH = 96, 36, 520, 360  # of the axes


def _axes() -> str:
    "Both axes from 0 to 1, with a line at every fifth."
    parts = []
    for k in range(6):
        x, y, mark = LEFT + LONG * k / 5, TOP + HIGH - HIGH * k / 5, f"{k / 5:.1f}"
        parts += [
            tag("path", d=f"M{LEFT} {y:g}H{LEFT + LONG}M{x:g} {TOP}V{TOP + HIGH}", stroke=RULE, stroke_width=0.8),
            words(LEFT - 12, y + 5, mark, text_anchor="end"),
            words(x, TOP + HIGH + 22, mark),
        ]
    upright = tag("g", words(0, 0, "precision", LABEL), transform=f"translate(44 {TOP + HIGH / 2}) rotate(-90)")
    return "".join(parts) + upright + words(LEFT + LONG / 2, TOP + HIGH + 50, "recall", LABEL)


def _curve(precision: list[float], colour: str, dashes: str | None) -> str:
    "COCO's 101 points as a line; precision falls to 0 after the last recall that is reached."
    last = max(k for k, value in enumerate(precision) if value > 0) + 1
    points = [(LEFT + LONG * k / 100, TOP + HIGH * (1 - value)) for k, value in enumerate(precision[: last + 1])]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return tag("path", d=path, fill="none", stroke=colour, stroke_width=2.6, stroke_dasharray=dashes)


def draw_precision_recall() -> str:
    "The detector of the same run on the test patients."
    found, x = numbers()["precision_recall"], LEFT + LONG + 36
    parts = []
    for k, ((threshold, curve), colour, dashes) in enumerate(
        zip(found["curves"].items(), (GREEN, BLUE, ORANGE), ("2 4", None, "7 5"))
    ):
        y = 66 + 70 * k
        parts += [
            _curve(curve["precision"], colour, dashes),
            tag("path", d=f"M{x} {y - 6}h34", stroke=colour, stroke_width=2.6, stroke_dasharray=dashes),
            words(x + 44, y, f"IoU of {threshold} or more", LABEL, font_weight=600, text_anchor="start"),
            words(x + 44, y + 22, f"AP {curve['ap']:.2f}, mean precision", text_anchor="start", fill=SOFT),
        ]
    told = (f"{found['lesions']} lesions on {found['slices']} slices", "of patients kept for the test")
    parts += [words(x, 290 + 22 * k, line, text_anchor="start", fill=SOFT) for k, line in enumerate(told)]
    return card(
        _axes(),
        *parts,
        height=TOP + HIGH + 72,
        spoken="Precision over recall of a small detector, for lesions found at an IoU of 0.3, 0.5 and 0.75",
    )
