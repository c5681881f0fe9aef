"""How β regions become one answer: the four aggregators side by side"""

from covid_workbench.reports.svg import tag
from draw.design import (
    BLUE,
    INK,
    LABEL,
    MARGIN,
    ORANGE,
    PALE,
    PAPER,
    SMALL,
    SOFT,
    TINT,
    arrow,
    box,
    card,
    formula,
    key_entry,
    words,
)

PANEL, WIDE, GAP = 178, 274, 12  # widths of a panel, of the one with two branches, and between them
LAST = 732  # the lower edge of the panels


def _stage(x: float, y: float, height: float, width: float, *lines, fill: str = PALE, stroke: str = SOFT) -> str:
    "A box in the middle of x; each of its lines is a word or the pieces of a formula."
    frame = tag(
        "rect",
        x=x - width / 2,
        y=float(y),
        width=float(width),
        height=float(height),
        rx=8,
        fill=fill,
        stroke=stroke,
        stroke_width=1.5,
    )
    top = y + height / 2 - 10 * len(lines) + 15
    return frame + "".join(formula(x, top + 20 * number, *line) for number, line in enumerate(lines))


def _input(x: float) -> str:
    "X: one row a region, nearest to the origin first."
    rows = "".join(
        tag("rect", x=x - 40, y=102.0 + 9 * row, width=80, height=7, rx=2, fill=INK, fill_opacity=0.8 - 0.16 * row)
        for row in range(4)
    )
    return rows + formula(x, 92, "X  (β × C)", font_weight=600)


def _circle(x: float, y: float, sign: str) -> str:
    circle = tag("circle", cx=float(x), cy=float(y), r=12, fill=PAPER, stroke=INK, stroke_width=1.5)
    return circle + words(x, y + 6, sign, 18, font_weight=600)


def _rails(x: float, width: float, start: tuple[float, float], reach: float) -> str:
    "Left: from `start` to the weights and to the weighted sum. Right: round these two to the sum below."
    left, right = x - width / 2, x + width / 2
    return (
        arrow(start, (left - reach, start[1]), (left - reach, 412), (left, 412))
        + arrow((left - reach, 332), (left, 332))
        + arrow((x, 287), (right + reach, 287), (right + reach, 538), (x + 12, 538))
    )


def _pooling(x: float, width: float, reach: float, start, names, colour: str = BLUE, dashed: bool = False) -> str:
    "Attention as all three models have it: a query, a softmax over the rows, their weighted sum, the query added."
    query, weights, pooled = names
    linear = box(x - width / 2, 462, width, 40, dashed=dashed, colour=SOFT)
    return (
        _rails(x, width, start, reach)
        + arrow((x, 272), (x, 304))
        + arrow((x, 360), (x, 392))
        + arrow((x, 432), (x, 462))
        + arrow((x, 502), (x, 526))
        + arrow((x, 550), (x, 574))
        + _stage(x, 304, 56, width, ("softmax",), weights, fill=TINT[colour], stroke=colour)
        + _stage(x, 392, 40, width, pooled, fill=PAPER, stroke=colour)
        + linear
        + words(x, 487, "linear")
        + _circle(x, 538, "+")
        + formula(x - 9, 293, query, text_anchor="end")
    )


def _classifier(x: float, width: float) -> str:
    return _stage(x, 574, 40, width, ("classifier",))


def _logits(x: float) -> str:
    return arrow((x, 614), (x, 654)) + words(x, 673, "logits", LABEL, font_weight=600)


def _attention(x: float) -> str:
    "Equations 1 to 8."
    return (
        _input(x)
        + arrow((x, 138), (x, 164))
        + _stage(x, 164, 40, 108, ("reshape",), fill=PAPER)
        + arrow((x, 204), (x, 232))
        + _stage(x, 232, 40, 108, ("linear",))
        + _pooling(x, 108, 15, (x - 42, 120), ("u", ("X u",), ("Xᵀ a",)))
        + _classifier(x, 108)
        + _logits(x)
    )


def _branch(x: float, width: float, reach: float, colour: str = BLUE) -> str:
    "Equations 9 to 17: an LSTM over the rows, its last state as the query."
    return (
        _stage(x, 164, 40, width, ("LSTM",))
        + arrow((x, 204), (x, 232))
        + formula(x + 8, 223, "h", "_β", text_anchor="start")
        + _stage(x, 232, 40, width, ("linear",))
        + _pooling(x, width, reach, (x - width / 2, 184), ("v", ("H v",), ("Hᵀ b",)), colour, dashed=True)
        + _classifier(x, width)
    )


def _lstm1(x: float) -> str:
    return _input(x) + arrow((x, 138), (x, 164)) + _branch(x, 108, 15) + _logits(x)


def _lstm2(x: float) -> str:
    "Two branches that share X and nothing else; the answer is their difference."
    left, right = x - 67, x + 67
    return (
        _input(x)
        + arrow((x, 138), (x, 150), (left, 150), (left, 164))
        + arrow((x, 138), (x, 150), (right, 150), (right, 164))
        + _branch(left, 96, 11)
        + _branch(right, 96, 11, ORANGE)
        + words(left + 18, 140, "positive", fill=BLUE, font_weight=600, text_anchor="end")
        + words(right - 18, 140, "negative", fill=ORANGE, font_weight=600, text_anchor="start")
        + arrow((left, 614), (left, 636), (x - 12, 636))
        + arrow((right, 614), (right, 636), (x + 12, 636))
        + _circle(x, 636, "−")
        + words(x, 673, "logits", LABEL, font_weight=600)
    )


def _affinity(x: float) -> str:
    "Mixtures of the slots, then one number for each of their channels; no softmax."
    return (
        _input(x)
        + arrow((x, 138), (x, 164))
        + _stage(x, 164, 40, 108, ("Wᵀ X",))
        + arrow((x, 204), (x, 304))
        + formula(x + 10, 259, "Y  (C* × C)", text_anchor="start")
        + _stage(x, 304, 56, 108, ("Yᵀ v",))
        + arrow((x, 360), (x, 574))
        + formula(x + 10, 472, "z  (C)", text_anchor="start")
        + _classifier(x, 108)
        + _logits(x)
    )


def _panel(left: float, width: float, name: str, reads: str, weights: str, diagram: str) -> str:
    middle = left + width / 2
    back = tag("rect", x=float(left), y=16, width=width, height=LAST - 16, rx=10, fill="#F8F9FA")
    return (
        back
        + words(middle, 44, name, 19, font_weight=700)
        + words(middle, 66, reads, fill=SOFT)
        + diagram
        + words(middle, LAST - 20, weights, SMALL, fill=SOFT)
    )


def draw_aggregators() -> str:
    "Attention, LSTM-1, LSTM-2 and Affinity, stage beside stage."
    first, second, third = (MARGIN + step * (PANEL + GAP) for step in range(3))
    fourth = third + WIDE + GAP
    middle = PANEL / 2
    return card(
        _panel(first, PANEL, "Attention", "all rows at once", "a weight per region", _attention(first + middle)),
        _panel(second, PANEL, "LSTM-1", "a sequence", "a weight per state", _lstm1(second + middle)),
        _panel(third, WIDE, "LSTM-2", "two sequences", "two weights per rank", _lstm2(third + WIDE / 2)),
        _panel(fourth, PANEL, "Affinity", "slot by slot", "a weight per slot", _affinity(fourth + middle)),
        _key(),
        height=LAST + 48,
        spoken="The four aggregators from the matrix X of regions to the logits of a slice",
    )


def _key() -> str:
    "What the boxes are."
    y = LAST + 27
    return (
        key_entry(MARGIN, y, "learnt layer", PALE, SOFT)
        + key_entry(MARGIN + 160, y, "attention weights", TINT[BLUE], BLUE)
        + key_entry(MARGIN + 360, y, "weighted sum", PAPER, BLUE)
        + key_entry(MARGIN + 530, y, "in the paper, not in its released code", PAPER, SOFT, dashed=True)
    )
