"""Boxes on a slice: anchors of two sizes, and regions ranked by their distance from the origin"""

import torch
from torchvision.models.detection import maskrcnn_resnet50_fpn
from torchvision.models.detection.anchor_utils import AnchorGenerator

from covid_workbench.data.colours import GREEN
from covid_workbench.data.description import OBJECT_CLASSES
from covid_workbench.data.targets import lesion_targets
from covid_workbench.models.detector import DetectorSettings
from covid_workbench.models.rois import RoIBatch, rank_rois
from covid_workbench.reports.svg import YELLOW, cased_line, rectangle, tag
from draw.design import BLUE, INK, LABEL, MARGIN, SOFT, WIDTH, card, framed, rectangles, slice_image, words
from draw.slices import COVID, FIRST, LAST, SPREAD, body_rows, phantom

SIZE = 512  # of the network's picture


def lesion_boxes(which: tuple[int, int]) -> torch.Tensor:
    "Boxes (n, 4) of the true lesions of a slice."
    return torch.tensor(lesion_targets(phantom(which).mask, OBJECT_CLASSES["merged"]).boxes, dtype=torch.float32)


def _of_cell(sizes: tuple, ratios: tuple) -> torch.Tensor:
    "The anchors of one cell of the feature map, around 0, 0: (n, 4)."
    return torch.cat([AnchorGenerator((own,), (ratios,)).cell_anchors[0] for own in sizes])


def paper_anchors() -> torch.Tensor:
    "Thirty: five sizes, each in six shapes."
    return _of_cell((DetectorSettings.anchor_sizes,), DetectorSettings.anchor_ratios)


def torchvision_anchors() -> torch.Tensor:
    "Fifteen: one size a level of the pyramid, each in three shapes."
    given = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None).rpn.anchor_generator
    return _of_cell(given.sizes, given.aspect_ratios[0])


def _anchor_panel(left: float, name: str, told: str, anchors: torch.Tensor, first: bool) -> str:
    "The slice with its lesions, and the anchors around one of them."
    width = (WIDTH - 2 * MARGIN - 20) / 2
    key, colour, dashes = ("anchor", "#1E9BFF", None) if first else ("true lesion", GREEN, "6 4")
    scale, top = width / SIZE, FIRST * SIZE
    lesions = lesion_boxes(COVID) - torch.tensor([0, top, 0, top])
    x, y = ((lesions[4, axis] + lesions[4, axis + 2]) / 2 for axis in (0, 1))
    placed = anchors + torch.tensor([x, y, x, y])
    height = width * round((LAST - FIRST) * 384) / 384
    picture = slice_image(body_rows(phantom(COVID, 384).pixels), width, "slice") if first else tag("use", href="#slice")
    return (
        words(left, 42, name, 19, font_weight=700, text_anchor="start")
        + framed(
            left,
            58,
            width,
            height,
            picture,
            rectangles(lesions, scale, GREEN, 2.2, stroke_dasharray="6 4"),
            rectangles(placed, scale, "#1E9BFF", 1.4),
        )
        + words(left, 397, told, text_anchor="start")
        + tag("path", d=f"M{left + width - 118:g} 392h26", stroke=colour, stroke_width=2.2, stroke_dasharray=dashes)
        + words(left + width - 84, 397, key, text_anchor="start")
    )


def draw_anchors() -> str:
    "The anchors of the paper and those of torchvision, around the same lesion."
    paper, other = paper_anchors(), torchvision_anchors()
    right = MARGIN + (WIDTH - 2 * MARGIN + 20) / 2
    return card(
        _anchor_panel(MARGIN, "The paper", f"{len(paper)} anchors a cell, sides 2 to 32 pixels", paper, True),
        _anchor_panel(right, "torchvision", f"{len(other)} anchors, sides 32 to 512 pixels", other, False),
        height=422,
        spoken="Anchors around a lesion: the paper's are as small as the lesions, most of torchvision's far larger",
    )


def ranked_lesions() -> RoIBatch:
    "The true lesions of a slice as a batch of regions, ranked by distance."
    boxes = lesion_boxes(SPREAD)[None]
    none = torch.zeros(boxes.shape[:2])
    rois = RoIBatch(boxes, none, none.long() + 1, torch.arange(boxes.shape[1])[None], torch.zeros_like(boxes))
    return rank_rois(rois, "distance")


def _badge(x: float, y: float, rank: int) -> str:
    circle = tag("circle", cx=float(x), cy=float(y), r=13, fill=YELLOW, stroke=INK, stroke_width=1.5)
    return circle + words(x, y + 5.5, str(rank), LABEL, font_weight=700, fill=INK)


def _rays(rois: RoIBatch, scale: float) -> str:
    "From the origin to the top-left corner of each region, and the number of the region at that corner."
    corners = (rois.boxes[0] * scale).tolist()
    lines = "".join(f"M0 0L{x:.1f} {y:.1f}" for x, y, _, _ in corners)
    boxes = "".join(cased_line(rectangle(*box), GREEN, 2) for box in corners)
    badges = "".join(_badge(x, y, rank) for rank, (x, y, _, _) in enumerate(corners, start=1))
    return cased_line(lines, YELLOW, 1.2, "4 4") + boxes + badges


def _distance_rows(rois: RoIBatch, left: float, top: float) -> str:
    "Rank, distance, and the distance as a bar."
    room, rows = 210, []
    for number, distance in enumerate(rois.distances[0].tolist()):
        y = top + 46 * number
        rows += [
            _badge(left + 13, y, number + 1),
            tag("rect", x=left + 54, y=y - 10, width=room * distance / 440, height=20, rx=4, fill=BLUE),
            words(left + 62 + room * distance / 440, y + 5.5, f"{distance:.0f}", LABEL, text_anchor="start"),
        ]
    return "".join(rows)


def draw_ranking() -> str:
    "Regions numbered by the distance of their top-left corner from the origin."
    rois, width = ranked_lesions(), 500
    left, origin = MARGIN + width + 34, tag("circle", cx=0, cy=0, r=9, fill=YELLOW, stroke=INK, stroke_width=1.5)
    return card(
        framed(
            MARGIN,
            MARGIN,
            width,
            width,
            slice_image(phantom(SPREAD, 400).pixels, width),
            _rays(rois, width / SIZE),
            origin,
        ),
        words(left, 52, "rank", 15, font_weight=700, text_anchor="start"),
        words(left + 54, 52, "distance from the origin", 15, font_weight=700, text_anchor="start"),
        _distance_rows(rois, left, 88),
        words(left, 440, "The distance is that of the top-left", text_anchor="start", fill=SOFT),
        words(left, 460, "corner of a region, in pixels. An LSTM", text_anchor="start", fill=SOFT),
        words(left, 480, "reads the regions in this order.", text_anchor="start", fill=SOFT),
        height=2 * MARGIN + width,
        spoken="A slice whose seven lesions are numbered by the distance of their top-left corner from the origin",
    )
