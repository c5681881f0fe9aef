"""What a training step does: the two phases of the papers, and the warm start"""

from covid_workbench.reports.svg import tag
from draw.design import BLUE, GREEN, INK, MARGIN, PAPER, SOFT, TINT, WIDTH, arrow, box, card, formula, key_entry, words


def _panel(top: float, height: float, name: str, told: str) -> str:
    back = tag("rect", x=MARGIN, y=float(top), width=WIDTH - 2 * MARGIN, height=height, rx=10, fill="#F8F9FA")
    return (
        back
        + words(MARGIN + 20, top + 34, name, 19, font_weight=700, text_anchor="start")
        + words(WIDTH - MARGIN - 20, top + 34, told, fill=SOFT, text_anchor="end")
    )


def _source(y: float, *lines: str, colour: str) -> str:
    "A slice, and what is known about it."
    picture = tag("rect", x=48, y=float(y), width=60, height=60, rx=5, fill="#20242A")
    lungs = "".join(
        tag("ellipse", cx=float(x), cy=y + 30, rx=10, ry=17, fill="#565E68", stroke="#AAB1BA") for x in (65, 91)
    )
    lesion = tag("circle", cx=94.0, cy=y + 38, r=5.5, fill={GREEN: "#35D6A2", BLUE: "none"}[colour])
    told = "".join(words(118, y + 26 + 20 * k, line, text_anchor="start") for k, line in enumerate(lines))
    return picture + lungs + lesion + told


def _backbone(x: float, y: float, width: float, height: float) -> str:
    "One box for both lanes: its upper half belongs to the green one, its lower half to the blue one."
    half = height / 2
    halves = (
        (GREEN, y, f"M{x} {y + half}V{y + 8}q0 -8 8 -8H{x + width - 8}q8 0 8 8V{y + half}Z"),
        (
            BLUE,
            y + half,
            f"M{x} {y + half}V{y + height - 8}q0 8 8 8H{x + width - 8}q8 0 8 -8V{y + half}Z",
        ),
    )
    parts = [tag("path", d=path, fill=TINT[colour], stroke=colour, stroke_width=1.5) for colour, _, path in halves]
    plate = tag("rect", x=x + 7, y=y + half - 27, width=width - 14, height=54, rx=6, fill=PAPER, stroke=INK)
    return (
        "".join(parts)
        + plate
        + words(x + width / 2, y + half - 5, "backbone + FPN", 15, font_weight=600)
        + words(x + width / 2, y + half + 15, "one set of weights")
    )


def _loss(x: float, y: float, name: str, told: str, colour: str) -> str:
    return formula(x, y, "L", name, size=19, fill=colour, font_weight=700) + words(x, y + 20, told, fill=SOFT)


def _two_phases(top: float) -> str:
    "Two slices a step, two losses; the backbone belongs to both."
    up, down = top + 96, top + 220  # the middles of the lanes
    return (
        _panel(top, 310, "Two phases", "the papers: each step looks at two slices")
        + _source(up - 30, "slice with", "lesion mask", colour=GREEN)
        + _source(down - 30, "slice with", "class label", colour=BLUE)
        + arrow((212, up), (240, up), colour=GREEN)
        + arrow((212, down), (240, down), colour=BLUE)
        + _backbone(240, up - 32, 164, 188)
        + arrow((404, up), (432, up), colour=GREEN)
        + arrow((404, down), (432, down), colour=BLUE)
        + box(432, up - 32, 338, 64, "segmentation branch", "proposals, boxes, masks", colour=GREEN)
        + box(432, down - 32, 150, 64, "β regions", "used, not trained", colour=SOFT, dashed=True)
        + arrow((582, down), (616, down), colour=BLUE)
        + box(616, down - 32, 154, 64, "image head", "aggregator", colour=BLUE)
        + arrow((505, up + 32), (505, down - 32), dashed=True)
        + words(515, (up + down) / 2 + 5, "the same heads", text_anchor="start", fill=SOFT)
        + arrow((770, up), (800, up), colour=GREEN)
        + arrow((770, down), (800, down), colour=BLUE)
        + _loss(834, up, "_SEG", "5 terms", GREEN)
        + _loss(834, down, "_CLS", "1 term", BLUE)
        + key_entry(48, top + 287, "trained by the lesion mask", TINT[GREEN], GREEN)
        + key_entry(308, top + 287, "trained by the class label", TINT[BLUE], BLUE)
        + key_entry(566, top + 287, "used, not trained", PAPER, SOFT, dashed=True)
    )


def _warm_start(top: float) -> str:
    "One detector, every slice read once, then aggregators in seconds."
    stops = (
        ("1  detector", "slices with masks", GREEN, False),
        ("2  regions", "each slice read once", SOFT, True),
        ("3  image head", "on the kept regions", BLUE, False),
        ("4  two phases", "only if wanted", SOFT, False),
    )
    parts = [_panel(top, 150, "Warm start", "ours, for small machines and ablations")]
    for number, (name, told, colour, dashed) in enumerate(stops):
        left = 48 + 208 * number
        parts.append(box(left, top + 60, 172, 64, name, told, colour=colour, dashed=dashed))
        if number:
            parts.append(arrow((left - 36, top + 92), (left, top + 92)))
    return "".join(parts)


def draw_two_phase() -> str:
    "The two-phase step above, the warm start below."
    return card(
        _two_phases(16),
        _warm_start(338),
        height=504,
        spoken="The two-phase step of the papers, and the warm start that trains detector and image head in turn",
    )
