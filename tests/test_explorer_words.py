"""What the explorers say: of links that other runs made, of buttons that fail, of answers that came later, and whether
attention agrees with effect along a volume."""

import asyncio
import json
from urllib.parse import quote

import pytest
from test_links import follow, told

from covid_workbench.data.phantom import PhantomSettings, write_phantom
from covid_workbench.data.slices import SliceTable
from covid_workbench.errors import InputError
from covid_workbench.evaluation.agreement import agreement_of
from covid_workbench.widgets.explorer import AttentionExplorer, one_run
from covid_workbench.widgets.state import ReturningView, words_of_other_runs
from covid_workbench.widgets.volume_page import FillingPage


def test_a_link_of_another_run_says_whose_view_is_shown(finished, tmp_path):
    explorer = AttentionExplorer(finished)
    said, last = told(explorer), list(explorer.rows)[-1]
    for folder, words in (
        ("elsewhere/lstm1", f"The link was made from lstm1; its view is shown of {finished.folder.name}."),
        (f"elsewhere/{finished.folder.name}", "The link was made from elsewhere"),  # the names do not tell them apart
        (str(finished.folder), ""),
    ):
        wanted = explorer.state | {"runs": [folder], "slice": last}
        follow(explorer, f"#cw={quote(json.dumps(wanted))}")
        assert said[-1] == words if not words.endswith("elsewhere") else said[-1].startswith(words)
        assert explorer.browser.slice == last
    assert words_of_other_runs(["a/x", "a/y"], ["a/y", "a/x"]).startswith("The link was made from x and y;")


def test_a_button_of_a_header_does_its_act_or_says_why_not():
    class View(ReturningView):
        def __init__(self):
            self.done, self.header = [], self

        def send(self, content):
            self.done.append(content)

        def undo(self):
            self.done.append("undo")

        def _download(self, kind):
            raise InputError(f"no {kind} here")

    view = View()
    assert view.press({"act": "undo"}) and view.done == ["undo"]
    assert view.press({"act": "save", "as": "svg"}) and view.done[1:] == [{"message": "no svg here"}]
    assert not view.press({"act": "redo"}) and not view.press({"want": ["a"]}) and len(view.done) == 2


def test_answers_from_the_background_reach_the_statistics(finished, tmp_path):
    write_phantom(tmp_path / "mine", 2, seed=5, settings=PhantomSettings(size=64, slices=2), progress=False)

    async def look():
        explorer = AttentionExplorer(finished, SliceTable.from_csv(tmp_path / "mine" / "slices.csv"))
        assert [len(run.answers) for run in explorer.all_slices.runs] == [0]
        await explorer.answered()
        return explorer

    explorer = asyncio.run(look())
    (run,) = explorer.statistics.told["runs"]
    assert sum(strip["slices"] for strip in run["strips"]) == 4 == len(explorer.rows)
    shown = explorer.statistics.told
    explorer._tell()  # nothing new
    assert explorer.statistics.told is shown


def test_the_region_looked_at_stands_below_a_short_list(finished):
    pane = AttentionExplorer(finished).panes[0]
    assert pane.run.experiment.one_shot.roi_batch <= 10
    (slices, canvas, right), cards = (box.children for box in one_run(pane.canvas, pane))
    assert right.children[0].children == (pane.verdict, pane.panel, pane.inspector) and pane.inspector not in cards


@pytest.mark.parametrize(
    ("effects", "verdict"), [([4, 3, 2, 1, 0.5, 0.2], "agrees"), ([1, 4, 0.2, 3, 0.5, 2], "chance"), ([1, 2], "few")]
)
def test_the_curve_of_a_volume_gets_the_verdict_of_the_regions(effects, verdict):
    found = agreement_of([6, 5, 4, 3, 2, 1][: len(effects)], effects)

    class Page:
        class view:
            class answers:
                effects, agreement, orders = {}, found, {}

            fill_effects, fill_orders = staticmethod(lambda: iter(())), staticmethod(lambda: None)

        class curve:
            agreement = {}

        class orders:
            results = {}

    asyncio.run(FillingPage._fill(Page))
    assert Page.curve.agreement == found.plain and found.verdict == verdict
