"""The look that all pictures share: colours, cards, boxes, arrows, words, small pictures of slices"""

import base64
import io
from collections.abc import Sequence
from html import escape

import numpy as np
from PIL import Image

from covid_workbench.reports.svg import FONT, NEGATIVE, POSITIVE, tag, text

INK, SOFT, RULE, PALE, PAPER = "#1D2126", "#565E68", "#C9CED4", "#F3F4F6", "#FFFFFF"
BLUE, ORANGE, GREEN, PLUM = POSITIVE, NEGATIVE, "#00805E", "#A0438A"
TINT = {BLUE: "#E6F1FA", ORANGE: "#FCEEE2", GREEN: "#E2F4ED", PLUM: "#F8EAF4", SOFT: PALE, INK: PALE}
WIDTH, MARGIN = 900, 28
LABEL, SMALL = 16, 14  # font sizes; a picture is shown at half its width on a telephone

Point = tuple[float, float]


def card(*parts: str, height: float, spoken: str) -> str:
    "A picture of its own: dark words on a white card with a border, so that it reads on a white and on a dark page."
    back = tag("rect", x=0.5, y=0.5, width=WIDTH - 1, height=height - 1, rx=12, fill=PAPER, stroke=RULE)
    return tag(
        "svg",
        tag("title", escape(spoken)),
        back,
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {WIDTH} {height:g}",
        width=WIDTH,
        height=f"{height:g}",
        font_family=FONT,
        color=INK,
        role="img",
    )


def words(x: float, y: float, line: str, size: int = SMALL, **style) -> str:
    "A line of text, in the middle of x unless `text_anchor` says otherwise."
    return text(x, y, line, size, **{"text_anchor": "middle"} | style)


def formula(x: float, y: float, *pieces: str, size: int = SMALL, **style) -> str:
    "Words in the middle of x; pieces that begin with _ stand lower and smaller, the one after them as before."
    spans, lowered = [], False
    for piece in pieces:
        low = piece.startswith("_")
        shift = (4 if low else 0) - (4 if lowered else 0)
        own = {"font_size": round(size * 0.72)} if low else {}
        spans.append(tag("tspan", escape(piece.removeprefix("_")), dy=shift or None, **own))
        lowered = low
    attributes = {"text_anchor": "middle", "fill": "currentColor"} | style
    return tag("text", *spans, x=float(x), y=float(y), font_size=size, **attributes)


def box(x: float, y: float, width: float, height: float, *lines: str, colour: str = BLUE, dashed: bool = False) -> str:
    "A rounded box from its top-left corner: its first line bold, the others small."
    frame = tag(
        "rect",
        x=float(x),
        y=float(y),
        width=float(width),
        height=float(height),
        rx=8,
        fill=PAPER if dashed else TINT[colour],
        stroke=colour,
        stroke_width=1.5,
        stroke_dasharray="5 4" if dashed else None,
    )
    rows = [(line, LABEL if number == 0 else SMALL) for number, line in enumerate(lines)]
    top = y + height / 2 - (20 * len(rows)) / 2 + 15
    written = [
        words(x + width / 2, top + 20 * number, line, size, font_weight=600 if number == 0 else None)
        for number, (line, size) in enumerate(rows)
    ]
    return frame + "".join(written)


def key_entry(x: float, y: float, told: str, fill: str, stroke: str, dashed: bool = False) -> str:
    "A small box as it is in the picture, and what such boxes mean."
    dashes = "5 4" if dashed else None
    sample = tag(
        "rect", x=float(x), y=y - 12.0, width=22, height=14, rx=3, fill=fill, stroke=stroke, stroke_dasharray=dashes
    )
    return sample + words(x + 30, y, told, text_anchor="start")


def arrow(*points: Point, colour: str = SOFT, dashed: bool = False, head: bool = True) -> str:
    "A line through `points`, which go across or down, with rounded corners and a head at the end."
    ends = np.array(points, float)
    along = ends[-1] - ends[-2]
    along = along / np.hypot(*along)
    tip, ends[-1] = ends[-1].copy(), ends[-1] - 7 * along * head
    line = tag(
        "path",
        d=_rounded(ends),
        fill="none",
        stroke=colour,
        stroke_width=1.8,
        stroke_dasharray="5 4" if dashed else None,
    )
    if not head:
        return line
    side = 4.5 * np.array([-along[1], along[0]])
    corners = [tip, tip - 10 * along + side, tip - 10 * along - side]
    return line + tag("path", d="M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in corners) + "Z", fill=colour)


def _rounded(ends: np.ndarray, radius: float = 8) -> str:
    "SVG path of a line whose corners are rounded off."
    path = f"M{ends[0][0]:.1f} {ends[0][1]:.1f}"
    for before, corner, after in zip(ends, ends[1:], ends[2:]):
        back, on = before - corner, after - corner
        reach = min(radius, np.hypot(*back) / 2, np.hypot(*on) / 2)
        start, end = corner + reach * back / np.hypot(*back), corner + reach * on / np.hypot(*on)
        path += f"L{start[0]:.1f} {start[1]:.1f}Q{corner[0]:.1f} {corner[1]:.1f} {end[0]:.1f} {end[1]:.1f}"
    return path + f"L{ends[-1][0]:.1f} {ends[-1][1]:.1f}"


def embedded(pixels: np.ndarray, quality: int = 82) -> str:
    "Pixels (H, W) or (H, W, 3) uint8 as the data address of a JPEG, which is a quarter as long as that of a PNG."
    Image.fromarray(pixels).save(file := io.BytesIO(), "jpeg", quality=quality, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def framed(x: float, y: float, width: float, height: float, *parts: str) -> str:
    "`parts`, drawn from 0, 0 on, cut off at a frame."
    inside = tag("svg", *parts, x=float(x), y=float(y), width=float(width), height=float(height))
    edge = tag("rect", x=float(x), y=float(y), width=float(width), height=float(height), fill="none", stroke=RULE)
    return inside + edge


def slice_image(pixels: np.ndarray, width: float, name: str | None = None) -> str:
    "A slice (H, W) as an image of this width at 0, 0, which `use` can repeat by its name."
    height = width * pixels.shape[0] / pixels.shape[1]
    return tag("image", href=embedded(pixels), width=float(width), height=float(height), id=name)


def rectangles(boxes: Sequence[Sequence[float]], scale: float, colour: str, width: float = 1.5, **style) -> str:
    "The outlines of `boxes` (n, 4), in one path."
    corners = (np.asarray(boxes, float).reshape(-1, 4) * scale).round(1)
    path = "".join(f"M{a:g} {b:g}H{c:g}V{d:g}H{a:g}Z" for a, b, c, d in corners)
    return tag("path", d=path, fill="none", stroke=colour, stroke_width=float(width), **style)
