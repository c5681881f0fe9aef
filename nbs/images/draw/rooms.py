"""The map of the package for those who change it: its rooms in the order of imports"""

from covid_workbench.reports.svg import tag
from draw.design import BLUE, GREEN, INK, LABEL, MARGIN, ORANGE, PLUM, SOFT, TINT, WIDTH, arrow, card, words

ROOMS = (  # room, first notebook, what lives there, colour of its kind
    ("base", "000", "errors, files, settings, progress, locks, shapes and tubes", SOFT),
    ("data", "040", "volumes, slices, the phantom, sources, audit, DICOM out", GREEN),
    ("models", "100", "protocol, detector, ranked regions, aggregators, networks", GREEN),
    ("volumes", "150", "whole scans: lung masks, chosen slices, enhancement", GREEN),
    ("runs", "200", "experiment, run folder, seeds, loading", BLUE),
    ("evaluation", "300", "COCO mask AP, F1, inference, what-if questions", BLUE),
    ("training", "400", "stages, loop, several processes", BLUE),
    ("reports", "500", "SVG, pictures, the report of a run", PLUM),
    ("studies", "600", "grids of runs: cells, runner, tables, report", PLUM),
    ("parity", "700", "our models beside fixtures of the released code", PLUM),
    ("speed", "750", "the plain path, counting, timing, benchmarks", PLUM),
    ("widgets", "800", "the explorers: attention, runs, lesions, data", ORANGE),
    ("doors", "900", "command line, demo, lab", ORANGE),
)
ROW, TOP, LEFT = 44, 60, 118


def _room(number: int, name: str, notebooks: str, told: str, colour: str) -> str:
    y = TOP + ROW * number
    frame = tag(
        "rect", x=LEFT, y=y, width=WIDTH - MARGIN - LEFT, height=ROW - 8, rx=7, fill=TINT[colour], stroke=colour
    )
    middle = y + (ROW - 8) / 2 + 5.5
    return (
        frame
        + words(LEFT + 18, middle, name, LABEL, font_weight=700, text_anchor="start")
        + words(LEFT + 142, middle, told, 15, text_anchor="start")
        + words(WIDTH - MARGIN - 18, middle, f"{notebooks} …", 15, text_anchor="end", fill=SOFT)
    )


def draw_rooms() -> str:
    "One row a room; imports go up."
    bottom = TOP + ROW * len(ROOMS) - 8
    return card(
        words(LEFT + 18, 40, "room", text_anchor="start", fill=SOFT),
        words(LEFT + 142, 40, "what lives there", text_anchor="start", fill=SOFT),
        words(WIDTH - MARGIN - 18, 40, "notebooks", text_anchor="end", fill=SOFT),
        *(_room(number, *room) for number, room in enumerate(ROOMS)),
        arrow((84, bottom), (84, TOP), colour=INK),
        tag(
            "g",
            words(0, 0, "imports go up, never down", 15),
            transform=f"translate(66 {(TOP + bottom) / 2}) rotate(-90)",
        ),
        height=bottom + 26,
        spoken="The thirteen rooms of the package from base to doors; a room imports only from rooms above it",
    )
