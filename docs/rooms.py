"""The rooms of the package in the order of the way of the data, and the notebooks in the order of the site."""

import json
import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Room:
    "A room of the package: notebooks whose three-digit number lies in `first` to `last` explain and export it."

    name: str
    title: str
    first: int
    last: int
    sentence: str


# fmt: off
ROOMS = (
    Room("base", "Base", 0, 39, "Errors that people can act on, atomic files, settings, progress bars and locks."),
    Room("data", "Data", 40, 99, "Slices, volumes, patients, lesions: from data sets on disk or drawn as a phantom."),
    Room("models", "Models", 100, 149, "Backbones, the lesion detector, its regions, and aggregators that read them."),
    Room("volumes", "Volumes", 150, 199, "Whole scans: their slices, lung masks, enhancement; what a network reads."),
    Room("runs", "Runs", 200, 299, "An experiment, the folder that its run leaves, and the model read back from it."),
    Room("evaluation", "Evaluation", 300, 399, "Scores of lesions and classes, published figures, what-if questions."),
    Room("training", "Training", 400, 499, "The resumable loop, what one step does, and from experiment to run."),
    Room("reports", "Reports", 500, 599, "Pictures of slices and regions, and pages that open offline."),
    Room("studies", "Studies", 600, 699, "Grids of runs that can be killed and resumed, with tables at the end."),
    Room("parity", "Parity", 700, 749, "Our layers and networks beside the numbers that the released code computes."),
    Room("speed", "Speed", 750, 799, "Slices a second beside a plain path of the same weights; operators and waits."),
    Room("widgets", "Widgets", 800, 899, "The explorers for JupyterLab, and the parts they are made of."),
    Room("doors", "Doors", 900, 999, "Ways in: the demo, the command line and JupyterLab."),
)
# fmt: on

FOLDERS = {  # folders of notebooks without numbers, in the order of the site
    "guides": ("Guides", "Short ways from a question to an answer."),
    "explore": ("Explore", "Notebooks to open in JupyterLab on runs of your own."),
    "studies": (
        "Run with parameters",
        "Notebooks for papermill, executed here with the parameters in their first code cell.",
    ),
}


def room_of(path: Path) -> Room | None:
    "The room of a notebook, by its number; None for a notebook without one."
    number = re.match(r"(\d{3})_", path.name)
    if not number:
        return None
    return next(room for room in ROOMS if room.first <= int(number[1]) <= room.last)


def title_of(path: Path) -> tuple[str, str]:
    "Title and subtitle of a notebook: its first heading and the quote below it."
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    title = re.search(r"^# (.+)$", text, re.MULTILINE)
    subtitle = re.search(r"^> (.+)$", text, re.MULTILINE)
    return (title[1] if title else path.stem), (subtitle[1] if subtitle else "")


def room_notebooks(nbs: Path, name: str) -> list[Path]:
    "The numbered notebooks of a room, in their order."
    found = [path for path in sorted(nbs.glob("*.ipynb")) if room_of(path)]
    return [path for path in found if room_of(path).name == name]


def folder_notebooks(nbs: Path, folder: str) -> list[Path]:
    "The notebooks of a folder as the index page mentions them, the others behind, by name."
    index = (nbs / "index.ipynb").read_text(encoding="utf-8")

    def mention(path: Path) -> tuple[float, str]:
        found = re.search(rf"(`|{folder}/){re.escape(path.stem)}(`|\.ipynb)", index)
        return (found.start() if found else float("inf")), path.stem

    return sorted((nbs / folder).glob("*.ipynb"), key=mention)


def folders_of(nbs: Path) -> list[str]:
    "Folders with notebooks: the known ones first, then any other, by name."
    there = sorted({path.parent.name for path in nbs.glob("*/*.ipynb")})
    return [name for name in FOLDERS if name in there] + [name for name in there if name not in FOLDERS]
