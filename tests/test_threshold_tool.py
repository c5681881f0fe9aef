"""The threshold tool of the run explorer: its counts, what the browser makes of them, its place in a view's state."""

import json
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
from test_run_explorer import CLASSES, make_run

from covid_workbench.evaluation.prevalence import Thresholds, threshold_figures
from covid_workbench.widgets.confusion import STOPS, confusion_of, threshold_rows
from covid_workbench.widgets.parts import script_of
from covid_workbench.widgets.runs import RunExplorer


def predicted(run, **changes) -> pd.DataFrame:
    "Give the run random probabilities for its ten test slices; `changes` are columns."
    chance, path = np.random.default_rng(1), run.folder / "predictions.csv"
    rows = pd.read_csv(path, keep_default_na=False)
    shares = chance.dirichlet(np.ones(3), len(rows)).round(2)
    rows[[f"p_{name}" for name in CLASSES]] = shares
    rows = rows.assign(predicted=np.array(CLASSES)[shares.argmax(1)], **changes)
    rows.to_csv(path, index=False)
    return rows[rows["split"] == "test"]


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "runs" / "one", model="lstm2")


def test_calls_are_counted_at_every_stop(run):
    rows = predicted(run)
    for name, found in zip(CLASSES, threshold_rows(confusion_of(run)), strict=True):
        ill, share = rows["label"] == name, rows[f"p_{name}"]
        assert found["name"] == name and (found["ill"], found["healthy"]) == (ill.sum(), (~ill).sum())
        for stop, hits, wrong in zip(STOPS, found["hits"], found["wrong"], strict=True):
            assert (hits, wrong) == ((ill & (share >= stop)).sum(), (~ill & (share >= stop)).sum()), (name, stop)
        assert found["curve"][0] == [0, 0] and found["curve"][-1] == [1, 1]
    json.dumps(threshold_rows(confusion_of(run)))


def test_the_browser_says_what_python_says(run, tmp_path):
    node = shutil.which("node")
    if not node:
        pytest.skip("node is not installed; the browser's own figures are compared where it is")
    rows = predicted(run)
    found = threshold_rows(confusion_of(run)) + [dict(hits=[0], wrong=[0], ill=0, healthy=3)]
    asked = [(at, stop, share) for at in range(3) for stop in (0, 17, 40, 100) for share in (0, 0.07, 0.5, 1)]
    code = script_of("runs") + "\nimport process from 'node:process';\n"
    code += f"const rows = {json.dumps(found)}, asked = {json.dumps(asked)};\n"
    code += "const out = [...asked, [3, 0, 0.5]].map(([at, stop, share]) => decided(rows[at], stop, share));\n"
    code += "process.stdout.write(JSON.stringify(out));"
    (tmp_path / "check.mjs").write_text(code)
    done = subprocess.run([node, str(tmp_path / "check.mjs")], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]
    *answers, alone = json.loads(done.stdout)
    for (at, stop, share), own in zip(asked, answers, strict=True):
        points = Thresholds.of((rows["label"] == CLASSES[at]).to_numpy(), rows[f"p_{CLASSES[at]}"].to_numpy())
        expected = threshold_figures(points, STOPS[stop], share)
        assert own == {name: value if value is None else pytest.approx(value) for name, value in expected.items()}
    assert alone == {"sensitivity": None, "specificity": 1, "PPV": None, "NPV": None}


def test_the_slider_is_part_of_a_view_and_begins_anew_with_another_run(run, tmp_path):
    make_run(tmp_path / "runs" / "two", model="attention")
    explorer = RunExplorer(tmp_path / "runs", on_open=lambda run, ids: None)
    explorer._pick(str(run.folder))
    assert len(explorer.card.run["thresholds"]) == 3 and explorer.card.decision == []
    explorer.card.decision = [2, 0.3, 0.05]  # as the browser sets it
    other = RunExplorer(tmp_path / "runs", on_open=lambda run, ids: None)
    other.state = json.loads(json.dumps(explorer.state))
    assert other.card.decision == [2, 0.3, 0.05] and other.state == explorer.state
    other._pick(str(tmp_path / "runs" / "two"))
    assert other.card.decision == [] and other.card.run["name"] != explorer.card.run["name"]


def test_a_probability_that_is_none_is_said_and_the_card_still_opens(run):
    rows = predicted(run)
    predicted(run, p_CP="nan")
    explorer = RunExplorer(run.folder.parent)
    explorer._pick(str(run.folder))
    card = explorer.card.run
    assert card["thresholds"] == [] and f"slice {rows['id'].iloc[0]}: the probability of CP" in card["threshold_words"]
    assert card["confusion"]["linked"]


@pytest.mark.parametrize("change", [{"label": "CP"}, {"split": "train"}])
def test_one_class_alone_has_no_curve_and_no_slices_no_slider(run, change):
    predicted(run, **change)
    rows = threshold_rows(confusion_of(run))
    assert [row["curve"] for row in rows] == [[]] * len(rows) and len(rows) == (3 if "label" in change else 0)


def test_a_detector_without_classes_has_no_slider(tmp_path):
    make_run(tmp_path / "found", model="mask-rcnn", done=False)
    explorer = RunExplorer(tmp_path)
    explorer._pick(str(tmp_path / "found"))
    assert explorer.card.run["thresholds"] == [] and explorer.card.run["threshold_words"] == ""
