"""How fast the explorer opens and answers, and what a thousand slices cost: make bench-explorer.

Prints figures of this machine; compare them as ratios within one run.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))
from conftest import tiny

from covid_workbench.data.slices import SliceTable
from covid_workbench.evaluation.evaluate import evaluate
from covid_workbench.evaluation.whatif import Question, ReadSlice, answer
from covid_workbench.runs.experiment import Experiment
from covid_workbench.training.train import train
from covid_workbench.widgets.explorer import AttentionExplorer


def seconds(work, times: int) -> list[float]:
    found = []
    for number in range(times):
        started = time.monotonic()
        work(number)
        found.append(time.monotonic() - started)
    return found


def speed(folder: Path) -> None:
    "ResNet18 at 512x512, the papers' β and hidden size; weights do not matter for the time."
    settings = dict(
        image_size=512,
        phantom_size=512,
        phantom_patients=15,
        phantom_slices=2,
        model="lstm2",
        backbone="resnet18",
        threads=0,
        regime="warm-start",
        epochs=0.05,
        detector_epochs=0.05,
        aggregator_epochs=1,
    )
    paper = Experiment.make("paper", model="lstm2", backbone="resnet18").flat()
    run = train(
        Experiment.make(
            "smoke",
            **settings | {name: paper[name] for name in ("roi_batch", "hidden_size", "fpn_channels", "mask_channels")},
        ),
        folder / "paper",
        progress=False,
    )
    opening = seconds(lambda _: AttentionExplorer(run), 3)
    explorer = AttentionExplorer(run)
    pane, orders = explorer.panes[0], ("reversed", "score", "raster", "hilbert", "random")
    image, read = explorer.data[0][0]["image"], pane.read
    reading = statistics.median(seconds(lambda _: ReadSlice(pane.model, image), 5))
    asking = statistics.median(
        seconds(lambda number: answer(read, Question(off=(number,), off_mode="refilled")), 8)
        + seconds(lambda number: answer(read, Question(orders[number], off=(9,))), 5)
    )
    print(
        f"ResNet18, 512x512, β {read.beta}: opening a run {min(opening):.2f} s "
        f"(evaluation, effects and orders of its first slice included); "
        f"reading a slice {1000 * reading:.0f} ms, a what-if {1000 * asking:.0f} ms, ratio {asking / reading:.2f}"
    )


def memory(folder: Path) -> None:
    "A thousand slices one after another, small ones so that it ends today; growth is per slice, not per pixel."
    run = train(tiny(model="lstm2"), folder / "tiny", progress=False)
    evaluate(run, progress=False)
    frame = run.table.frame
    table = SliceTable(
        pd.concat(
            [
                frame.assign(id=frame["id"] + f"-{copy}", patient=frame["patient"] + f"-{copy}")
                for copy in range(-(-1000 // len(frame)))
            ]
        )
        .head(1000)
        .reset_index(drop=True),
        run.table.root,
    )
    explorer, process = AttentionExplorer(run, table), psutil.Process()
    for number, slice_id in enumerate(table.frame["id"]):
        explorer.browser.slice = slice_id
        if number in (100, 550, 999):
            print(f"after {number + 1} slices {process.memory_info().rss / 1e6:.0f} MB")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        speed(Path(made))
        memory(Path(made))
