"""Each look at a run's test split is written down, and nothing is lost or stopped by it."""

import json
import multiprocessing
import os

import pytest

from covid_workbench.api import OpenRun
from covid_workbench.data.slices import SliceTable
from covid_workbench.reports.answer_files import write_answers
from covid_workbench.reports.run_report import looks_html
from covid_workbench.runs import test_uses as looks


def test_a_look_says_when_what_and_with_which_weights(scored):
    assert looks.log_test_use(scored, "evaluate", splits=("validation", "test"), slices=6)
    line = json.loads((scored.folder / looks.TEST_USES).read_text())
    assert set(line) == {"when", "what", "version", "splits", "weights", "slices"} and len(line["weights"]) == 64
    assert line["splits"] == ["validation", "test"] and line["when"].endswith("+00:00")
    assert not looks.log_test_use(scored, "evaluate", splits=["validation"])
    assert len(looks.test_uses(scored)) == 1


def test_other_weights_and_a_second_score_are_said(scored):
    for _ in range(2):
        looks.log_test_use(scored, "evaluate")
    now = looks.weights_hash(scored.folder)
    words = looks.uses_sentence(looks.test_uses(scored), now)
    assert "2 times" in words and "no longer blind" in words and "other weights" not in words
    (scored.folder / "weights.safetensors").write_bytes(b"other")
    changed = looks.weights_hash(scored.folder)
    assert changed != now and "2 times with other weights" in looks.uses_sentence(looks.test_uses(scored), changed)


def _look(folder: str, who: int, count: int) -> None:
    for number in range(count):
        assert looks.log_test_use(folder, f"{who}-{number}")


def test_several_processes_lose_no_line(tmp_path):
    method = multiprocessing.get_context("fork" if hasattr(os, "fork") else "spawn")
    workers = [method.Process(target=_look, args=(str(tmp_path), who, 40)) for who in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    uses = looks.test_uses(tmp_path)
    assert uses.unreadable == 0 and {use.what for use in uses.known} == {
        f"{w}-{n}" for w in range(3) for n in range(40)
    }


@pytest.mark.parametrize(
    "line",
    ['{"when": "2026-11-30T21', "no JSON", "[]", '{"when": 3, "what": "x"}', '{"when": "soon", "what": "x"}', "3"],
)
def test_a_damaged_line_is_counted_and_the_next_one_is_whole(tmp_path, line):
    (tmp_path / looks.TEST_USES).write_text(line)
    assert looks.log_test_use(tmp_path, "evaluate")
    uses = looks.test_uses(tmp_path)
    assert uses.unreadable == 1 and [use.what for use in uses.known] == ["evaluate"]
    assert "1 line of test_uses.jsonl cannot be read" in looks.uses_sentence(uses)


def test_no_look_fails_where_nothing_can_be_written(tmp_path, monkeypatch):
    (tmp_path / "folder" / looks.TEST_USES).mkdir(parents=True)
    assert not looks.log_test_use(tmp_path / "folder", "evaluate")  # a folder of that name
    assert not looks.log_test_use(tmp_path / "gone", "evaluate")
    os.symlink(tmp_path / "elsewhere", tmp_path / looks.TEST_USES)
    assert not looks.log_test_use(tmp_path, "evaluate") and not (tmp_path / "elsewhere").exists()
    monkeypatch.setattr(os, "write", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    (tmp_path / "full").mkdir()
    assert not looks.log_test_use(tmp_path / "full", "evaluate")
    assert len(looks.test_uses(tmp_path / "full")) == 0
    assert "No look" in looks.uses_sentence(looks.test_uses(tmp_path / "full"))


def test_only_the_runs_own_test_slices_count_as_a_look(scored):
    test, train = scored.table.split("test"), scored.table.split("train")
    assert looks.test_rows_among(scored, test) == len(test) and looks.test_rows_among(scored, train) == 0
    elsewhere = SliceTable(test.frame.copy(), root=scored.folder)  # the same names in another folder
    assert looks.test_rows_among(scored, elsewhere) == 0
    looks.log_looks([scored], train, "explorer")
    assert len(looks.test_uses(scored)) == 0
    looks.log_looks([scored], test, "explorer")
    assert looks.test_uses(scored).known[0].what == "explorer"


def test_opening_an_explorer_is_a_look_and_the_report_says_so(scored):
    pytest.importorskip("ipywidgets")
    from covid_workbench.widgets.explorer import open_view
    from covid_workbench.widgets.lesion_reader import slices_to_browse

    open_view(scored, None, split="validation", device="cpu")
    assert len(looks.test_uses(scored)) == 0
    open_view(scored, None, split="test", device="cpu")
    slices_to_browse(scored)
    assert [use.what for use in looks.test_uses(scored).known] == ["attention explorer", "lesion browser"]
    assert "looked at 2 times: first on" in looks_html(scored)


def test_answering_test_slices_is_a_look_and_other_slices_are_none(scored, tmp_path):
    run = OpenRun.open(scored.folder)
    test, train = run.table.split("test"), run.table.split("train")
    run.predict(train)
    run.predict(test.read(0).pixels)  # an array comes from nowhere
    assert len(looks.test_uses(run)) == 0
    run.predict(test)
    run.attention("test")
    write_answers(scored, [test.roots[0] / name for name in test.frame["image"][:2]], tmp_path / "answers")
    assert [use.what for use in looks.test_uses(run).known] == ["predict", "attention by rank", "predict"]
    assert json.loads((scored.folder / looks.TEST_USES).read_text().splitlines()[-1])["slices"] == 2
