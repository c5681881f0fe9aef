"""Own data in the attention explorer: answered in the background, by file and not by name, behind the reader."""

import asyncio
import threading

import pandas as pd
import pytest

from covid_workbench.data.phantom import PhantomSettings, write_phantom
from covid_workbench.data.slices import SliceTable
from covid_workbench.errors import InputError
from covid_workbench.evaluation.external import evaluate_on
from covid_workbench.evaluation.in_background import BackgroundAnswers
from covid_workbench.evaluation.inference import predict_slices
from covid_workbench.runs.datasets import ExperimentData
from covid_workbench.runs.external import own_slices
from covid_workbench.widgets.content import right_patterns, slice_list
from covid_workbench.widgets.explorer import AttentionExplorer


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    "Slices of another phantom, whose ids, patients and file names are made those of the run's phantom."
    folder = tmp_path_factory.mktemp("own") / "mine"
    write_phantom(folder, 4, seed=5, settings=PhantomSettings(size=64, slices=2), progress=False)
    for path in [*folder.rglob("S5P*")]:
        path.rename(path.with_name(path.name.removeprefix("S5")))
    table = folder / "slices.csv"
    table.write_text(table.read_text().replace("S5P", "P"))
    return SliceTable.from_csv(table)


def test_what_a_run_said_of_other_slices_of_the_same_name_is_not_taken_for_these(finished, own):
    names = set(own.frame["id"]) & set(finished.predictions["id"])
    explorer = AttentionExplorer(finished, own)
    assert names and [one["said"] for one in explorer.browser.slices] == [[]] * len(own)
    assert explorer.browser.answering == {"done": 0, "total": 8, "failed": 0, "state": "stopped", "why": ""}
    at_home = AttentionExplorer(finished)
    assert all(one["said"] for one in at_home.browser.slices) and at_home.browser.answering == {}


def test_slices_are_answered_in_the_background_as_the_model_answers_them(finished, own):
    async def look():
        explorer = AttentionExplorer(finished, own, slice=own.frame["id"].iloc[5])
        assert explorer.browser.answering["state"] == "working"
        await explorer.answered()
        return explorer

    explorer = asyncio.run(look())
    assert next(iter(explorer.others.answers)) == own.frame["id"].iloc[5]  # the open one first, then the list
    assert list(explorer.others.answers)[1:4] == own.frame["id"].tolist()[:3]
    assert explorer.browser.answering == {"done": 8, "total": 8, "failed": 0, "state": "done", "why": ""}
    model, data = explorer.view.runs[0].model, ExperimentData(finished.experiment, own).dataset_of(own)
    for one, answer in zip(explorer.browser.slices, predict_slices(model, data, batch=1)):
        assert one["said"] == [answer.predicted] and one["p"] == pytest.approx(answer.probabilities.max(), abs=1e-3)


def test_what_was_scored_on_other_data_is_known_at_once(scored, own):
    evaluate_on(scored, own, progress=False)
    explorer = AttentionExplorer(scored, own)
    assert all(one["said"] for one in explorer.browser.slices) and explorer.others.total == 0


def test_two_runs_side_by_side_come_to_agree_or_not(finished, own):
    async def look():
        explorer = AttentionExplorer([finished, finished], own)
        await explorer.answered()
        return explorer

    explorer = asyncio.run(look())
    labelled = (own.frame["label"] != "").sum()
    assert sum(count for _, count in explorer.difference.cells) == labelled > 0
    assert {pattern for pattern, _ in explorer.difference.cells} <= {"11", "00"}


def test_a_question_of_the_reader_goes_first_and_work_can_be_stopped():
    asked, free, waits = [], threading.Event(), [False]

    def ask(slice_id):
        asked.append(slice_id)
        free.wait(5)
        return [{"id": slice_id, "predicted": "CP"}]

    async def look():
        work = BackgroundAnswers(ask, "abcd", busy=lambda: waits[0])
        assert work.start()
        while not asked:
            await asyncio.sleep(0.01)
        waits[0] = True
        free.set()  # the slice at hand ends, the next does not begin while the reader waits
        await asyncio.sleep(0.3)
        assert asked == ["a"] and work.progress["done"] == 1
        other = BackgroundAnswers(ask, "xy")
        other.start()  # another explorer stops this one
        await asyncio.gather(work.finished(), other.finished())
        assert work.state == "stopped" and asked == ["a", "x", "y"] and other.state == "done"
        waits[0] = False
        work.start()
        await work.finished()
        assert asked[3:] == ["b", "c", "d"] and work.state == "done"

    asyncio.run(look())


def test_what_cannot_be_read_is_counted_and_what_nobody_expected_stops_with_its_reason():
    def ask(slice_id):
        if slice_id == "b":
            raise InputError("slice b: no file")
        if slice_id == "d":
            raise MemoryError("too large")
        return [{"id": slice_id, "predicted": "CP"}]

    async def look():
        work = BackgroundAnswers(ask, "abcde")
        work.start()
        await work.finished()
        return work.progress

    found = asyncio.run(look())
    assert found == {"done": 2, "total": 5, "failed": 1, "state": "stopped", "why": "MemoryError: too large"}


def test_a_label_that_the_run_does_not_know_is_neither_right_nor_wrong(finished, own):
    frame = own.frame.assign(label=["CP", "Tumour"] * 4)
    said = [pd.DataFrame({"predicted": ["CP"] * 8, "p_CP": [0.8] * 8}, index=frame["id"])]
    listed = slice_list(frame, said, ("CP", "Normal"))
    assert [one["judged"] for one in listed[:2]] == [True, False]
    assert right_patterns(listed) == [("1", 4)]


def test_only_the_runs_own_files_are_its_own_slices(finished, own):
    assert own_slices(finished, own) == set()
    assert own_slices(finished, finished.table.split("test")) == set(finished.table.split("test").frame["id"])
