"""All pictures by name, and how they are written"""

from pathlib import Path

from covid_workbench.files import write_atomic
from draw.aggregators import draw_aggregators
from draw.regions import draw_anchors, draw_ranking
from draw.results import draw_attention, draw_precision_recall
from draw.rooms import draw_rooms
from draw.slices import draw_phantom
from draw.training import draw_two_phase
from draw.way import draw_way

FOLDER = Path(__file__).parents[1]
PICTURES = {
    "way-of-the-data": draw_way,
    "phantom": draw_phantom,
    "anchors": draw_anchors,
    "ranking": draw_ranking,
    "aggregators": draw_aggregators,
    "attention": draw_attention,
    "precision-recall": draw_precision_recall,
    "two-phase": draw_two_phase,
    "rooms": draw_rooms,
}


def write_pictures(folder: Path = FOLDER) -> None:
    "Draw every picture into a folder."
    for name, draw in PICTURES.items():
        write_atomic(folder / f"{name}.svg", draw() + "\n")
