"""Figures of all slices: hand-made tables, which slices a bar stands for, and the panel of the attention explorer."""

import json
import os
import shutil

import numpy as np
import pandas as pd
import pytest

from covid_workbench.errors import InputError
from covid_workbench.evaluation.apart import finding, groups_apart, parted, patterns_told, points_of
from covid_workbench.evaluation.explained_figures import explanation_figures, group_figures
from covid_workbench.evaluation.explanation import Explained, explain_run, explained_of
from covid_workbench.evaluation.run_statistics import (
    RunStatistics,
    ToldRun,
    alike_words,
    answers_among,
    check_picked,
    picked_slices,
    told_run,
)
from covid_workbench.evaluation.slice_figures import (
    FIGURES,
    check_choice,
    column_of,
    group_difference,
    nearest_choice,
    options_of,
    slice_level,
    strips_of,
    with_sign,
)
from covid_workbench.runs.run import Run
from covid_workbench.widgets.explorer import AttentionExplorer
from covid_workbench.widgets.saved import page_of, told_slice

FIRST = check_choice({})
RHO = "rho_leave_one_out_dropped"


def explained_rows(values=(0.95, 0.9, 1.0, -1.0, -0.9, 0.0, np.nan, 0.3), **columns) -> pd.DataFrame:
    "Slices S0, S1, ... of patients in pairs; the last has no label, those before from the fourth on are wrong."
    count = len(values)
    rows = pd.DataFrame({"id": [f"S{at}" for at in range(count)], "patient": [f"P{at // 2}" for at in range(count)]})
    rows["label"] = ["CP"] * (count - 1) + [""]
    rows["predicted"] = ["CP"] * 3 + ["Normal"] * (count - 3)
    rows["regions"], rows[RHO] = 8, values
    rows[RHO.replace("rho_", "chance_")] = [0.01, 0.01, 0.06, *[0.9] * (count - 3)]
    return rows.assign(**columns)


def run_of(rows: pd.DataFrame | None, name: str = "attention", said=None, **summary) -> ToldRun:
    "A run with explanations of `rows` (or none), and its answers to the slices a to d."
    slices = pd.DataFrame({"id": list("abcd"), "patient": list("PPQQ"), "label": ["CP", "CP", "Normal", ""]})
    known = pd.DataFrame({"predicted": said, "p_CP": 0.75, "p_Normal": 0.25}, index=list("abcd")) if said else None
    held = None
    if rows is not None:
        told = {"split": "test", "slices": len(rows), "of": 20, "seed": 3, "modes": ["dropped"], "answers": []}
        held = Explained(rows, pd.DataFrame(), told | explanation_figures(rows, {}) | summary)
    return ToldRun(name, ("Normal", "CP"), answers_among(known, slices), held, "" if held else "Not explained.")


# -- a figure of every slice


def test_strips_hold_every_slice_once_by_group():
    right, wrong, unknown = strips_of(explained_rows(), FIRST)
    told = {
        group["group"]: [one for own in group["bins"] for one in own["slices"]] for group in (right, wrong, unknown)
    }
    assert told["right"] == [["S1", 0.9, True, "right"], ["S0", 0.95, True, "right"], ["S2", 1.0, False, "right"]]
    assert told["wrong"] == [["S3", -1.0, False, "wrong"], ["S4", -0.9, False, "wrong"], ["S5", 0.0, False, "wrong"]]
    assert told["no label"] == [["S7", 0.3, False, ""]]
    assert (wrong["slices"], wrong["undefined"], wrong["patients"]) == (3, 1, 2)
    assert [(own["low"], own["high"], own["count"]) for own in right["bins"]] == [(0.9, 1.0, 3)]  # the end is inside
    assert [own["low"] for own in wrong["bins"]] == [-1.0, -0.9, 0.0]  # a value on an edge belongs above it
    assert [own["group"] for own in strips_of(explained_rows(), FIRST | {"by": "class"})] == ["CP", "no label"]


def test_means_are_those_of_the_summary():
    "As `explanation.json` has them, with their intervals; chance is of as many slices as the group has."
    rows = explained_rows()
    found, strips = group_figures(rows, RHO), strips_of(rows, FIRST)
    assert [strips[0]["mean"], strips[1]["mean"]] == [found["right"], found["wrong"]]
    assert strips_of(rows, FIRST | {"by": "all"})[0]["mean"] == found["all"]
    np.testing.assert_allclose(strips[0]["chance"], np.array([-1, 1]) * 1.96 / np.sqrt(7 * 3))
    assert strips[0]["level"] == slice_level([8]) == pytest.approx(0.6217, abs=1e-3)


def test_the_chance_level_of_a_slice_is_what_shuffling_gives():
    chance = np.random.default_rng(0)
    ranks = np.array([np.corrcoef(np.arange(16), chance.permutation(16))[0, 1] for _ in range(4000)])
    assert slice_level([16]) == pytest.approx(np.quantile(ranks, 0.95), abs=0.03)


def test_a_choice_falls_back_to_what_there_is():
    rows = explained_rows(order_range=0.5)
    asked = check_choice({"method": "shapley", "mode": "zeroed", "branch": "negative", "by": "class"})
    assert nearest_choice([rows], asked) == FIRST | {"by": "class"}
    assert nearest_choice([rows], FIRST | {"figure": "order range"})["figure"] == "order range"
    found = options_of([rows], FIRST)
    assert found["figure"] == ["agreement", "order range"] and found["mode"] == ["dropped"]
    assert found["branch"] == ["first"] and found["method"] == ["leave_one_out"]
    for given, word in (({"figur": "agreement"}, "figur"), ({"mode": "halved"}, "halved"), ({"by": 1}, "by")):
        with pytest.raises(InputError, match=word):
            check_choice(given)
    assert len({column_of(FIRST | {"figure": name}) for name in FIGURES}) == len(FIGURES)


def test_right_and_wrong_are_compared_on_the_same_patients():
    "Each patient has one right and one wrong slice, 0.5 apart: the difference has no spread whatever patients do."
    base = np.linspace(-0.4, 0.4, 8)
    values, patients = np.repeat(base, 2), np.repeat([f"P{at}" for at in range(8)], 2)
    values[1::2] += 0.5
    right = np.arange(16) % 2 == 0
    np.testing.assert_allclose(group_difference(values, patients, right, ~right), [0.5] * 3)
    assert group_difference(values, np.repeat("", 16), right, ~right)[1:] == [None, None]
    assert group_difference(values, patients, right, right & False) == [None] * 3
    rows = explained_rows(values=values).assign(label="CP", patient=patients)
    rows["predicted"] = np.where(right, "CP", "Normal")
    assert groups_apart(rows, FIRST) == "It is higher on wrong answers: by +0.50 (+0.50 to +0.50)."
    assert with_sign(-0.001) == "+0.00" and with_sign(-0.25) == "−0.25"


def test_findings_say_what_the_report_says():
    "Of any method under its own name; of a figure that is not there nothing."
    rows = explained_rows(values=(0.9, 0.8, 0.9, 0.9, 0.8, 0.9, 0.9, 0.9))
    rows = rows.rename(columns=lambda name: name.replace("leave_one_out_dropped", "shapley_refilled"))
    summary, choice = explanation_figures(rows, {}), check_choice({"method": "shapley", "mode": "refilled"})
    said = finding(summary, choice)
    assert said.startswith("Attention agrees strongly with what counts: mean rho to Shapley values (refilled) is 0.88")
    assert finding(summary, FIRST) == ""


# -- where runs part


def test_runs_part_on_the_slices_that_both_answered():
    one = pd.DataFrame({"id": list("abcde"), "patient": list("PPQQR"), "label": ["CP"] * 4 + [""]})
    first = one.assign(predicted=["CP", "CP", "Normal", "Normal", "CP"])
    second = first.assign(predicted=["CP", "Normal", "Normal", "COVID-19", "CP"])[::-1]
    rows = parted([first, second])
    assert dict(zip(rows["id"], rows["pattern"])) == {"a": "11", "b": "10", "c": "00", "d": "00 different"}
    told = patterns_told(rows, [{"a": 0.5, "b": 0.3}, {"a": np.nan}])
    assert [(own["words"], own["count"], own["means"]) for own in told] == [
        ("all right", 1, [[0.5, 1], [None, 0]]),
        ("only A right", 1, [[0.3, 1], [None, 0]]),
        ("all wrong, the same class", 1, [[None, 0], [None, 0]]),
        ("all wrong, in different ways", 1, [[None, 0], [None, 0]]),
    ]
    assert len(parted([first, second.iloc[:2]])) == 1  # d alone: e has no label


def test_runs_that_look_at_the_same_regions_rank_alike():
    "The same regions and weights in both; a third run explained nothing, and says nothing."
    rows = explained_rows(values=[0.1] * 6)
    chance, regions = np.random.default_rng(0), []
    for name in rows["id"]:
        corners = [{"left": 20.0 * at, "top": 0.0, "right": 20.0 * at + 10, "bottom": 10.0} for at in range(8)]
        regions += [{"id": name, "region": at, **own, "attention_x": chance.random()} for at, own in enumerate(corners)]
    runs = [run_of(rows), run_of(rows), run_of(None)]
    for run in runs[:2]:
        object.__setattr__(run.held, "regions", pd.DataFrame(regions))
    (said,) = alike_words(runs)
    assert said.startswith("A and B: By attention x the two runs rank alike: rho 1.00")
    assert said in RunStatistics(runs, rows[["id", "patient", "label"]]).told({})["parted"]


def test_points_are_of_slices_with_a_figure_in_both():
    many = {f"S{at}": at / 1000 for at in range(500)}
    found = points_of(many, {name: value + 0.1 for name, value in many.items()} | {"S1": np.nan}, {"S0": "11"}, {})
    assert found["of"] == 499 and len(found["points"]) == 240 and found["change"] == [pytest.approx(0.1), None, None]
    assert points_of({"a": 1.0}, {"a": 0.5}, {"a": "10"}, {"a": "P"})["points"] == [["a", 1.0, 0.5, "10"]]


# -- what is picked


def test_every_bar_picks_the_slices_that_it_shows():
    drawn = np.random.default_rng(0).uniform(-1, 1, 120)
    rows = explained_rows(values=[*drawn[:60], *np.round(drawn[60:], 1), -1.0, 1.0, 0.1 + 0.2])  # many on an edge
    statistics = RunStatistics([run_of(rows)], rows[["id", "patient", "label"]])
    told, seen = statistics.told({}), []
    for strip in told["runs"][0]["strips"]:
        for bar in strip["bins"]:
            wanted = {"run": 0, "group": strip["group"], "low": bar["low"], "high": bar["high"]}
            check_picked(statistics, {}, wanted)
            ids, words = picked_slices(statistics, {}, wanted)
            assert sorted(ids) == sorted(one[0] for one in bar["slices"]) and words.startswith(strip["group"])
            seen += ids
    assert sorted(seen) == sorted(rows["id"])


def test_what_cannot_be_picked_is_refused_in_a_sentence():
    statistics = RunStatistics([run_of(None, said=["CP", "CP", "CP", "CP"])] * 2, pd.DataFrame({"id": list("abcd")}))
    bar = {"run": 0, "group": "right", "low": 0.7, "high": 0.8}
    check_picked(statistics, {}, bar)
    wrong = ({"run": 5}, {"group": "Normal"}, {"low": "a"}, {"pattern": "11"}, {"run": 0.5})
    for change in wrong:
        with pytest.raises(InputError, match="statistics"):
            check_picked(statistics, {}, bar | change)
    for other in ({"pattern": "10"}, {"low": 0.5}):
        with pytest.raises(InputError, match="statistics"):
            check_picked(statistics, {}, other)
    assert picked_slices(statistics, {}, {"pattern": "11"}) == (["a", "b"], "all right")


def test_a_sample_says_of_what_it_is():
    rows = explained_rows()
    here = pd.DataFrame({"id": ["S0", "S1", "X"], "patient": "P", "label": ""})
    sample = RunStatistics([run_of(rows)], here).told({})["runs"][0]["sample"]
    assert (
        sample
        == "Explained: 8 of 20 slices of the test split, drawn with seed 3; 2 of them among the 3 slices shown here."
    )
    elsewhere = RunStatistics([run_of(rows, split="validation", of=8)], here.iloc[2:]).told({})["runs"][0]["sample"]
    assert elsewhere == "Explained: 8 of 8 slices of the validation split; none of them among the 1 slice shown here."


def test_runs_without_explanations_part_by_their_answers():
    runs = [run_of(None, said=["CP", "Normal", "Normal", "CP"]), run_of(None, "lstm2", ["CP", "CP", "CP", "CP"])]
    told = RunStatistics(runs, runs[0].answers).told({})
    assert (
        told["axis"] == "p of the class it gave" and [own["sample"] for own in told["runs"]] == ["Not explained."] * 2
    )
    assert [own["pattern"] for own in told["patterns"]] == ["11", "10", "01"]
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    nothing = RunStatistics([run_of(None)], runs[0].answers.iloc[:0]).told({})
    assert nothing["runs"][0]["strips"] == [] and nothing["choices"][0]["name"] == "by"


# -- in the explorer


@pytest.fixture(scope="module")
def explained(finished, tmp_path_factory):
    "A copy of the finished run, of which five test slices are explained."
    folder = tmp_path_factory.mktemp("statistics") / "run"
    folder.mkdir()
    for path in (path for path in finished.folder.iterdir() if path.is_file()):
        shutil.copy(path, folder / path.name)
    detector = (finished.folder / json.loads((folder / "warm_start.json").read_text())["detector"]).resolve()
    (folder / "warm_start.json").write_text(json.dumps({"detector": os.path.relpath(detector, folder)}))
    run = Run.open(folder)
    explain_run(run, slices=5, repeats=20, progress=False)
    return run


def test_the_explorer_filters_and_comes_back(explained):
    explorer = AttentionExplorer(explained)
    told, rows = explorer.statistics.told, explained_of(explained).rows
    shown = [one[0] for strip in told["runs"][0]["strips"] for own in strip["bins"] for one in own["slices"]]
    assert set(shown) <= set(rows["id"]) and f"of {len(explorer.rows)} slices" in told["runs"][0]["sample"]
    explorer.statistics.choice = {"figure": "order range", "by": "all"}
    bar = explorer.statistics.told["runs"][0]["strips"][0]["bins"][0]
    explorer.statistics.picked = {"run": 0, "group": "all", "low": bar["low"], "high": bar["high"]}
    assert sorted(explorer.browser.picked) == sorted(one[0] for one in bar["slices"])
    kept = explorer.state
    explorer.browser.picked = None  # the reader shows all again
    assert explorer.statistics.picked == {} and explorer.state["statistics"]["picked"] == {}
    other = AttentionExplorer(explained, state=kept)
    assert other.statistics.told["question"] == "Does order matter?"
    assert sorted(other.browser.picked) == sorted(one[0] for one in bar["slices"]) and other.state == kept
    old = {name: value for name, value in kept.items() if name != "statistics"}
    assert AttentionExplorer(explained, state=old).browser.picked is None  # a link from before
    wrong = kept | {"statistics": kept["statistics"] | {"picked": {"pattern": "1"}}}
    with pytest.raises(InputError, match="pattern '1'"):
        other.reopen(wrong)
    assert other.state == kept


def test_a_dot_opens_its_slice_and_says_where_it_is_not(explained):
    explorer, said = AttentionExplorer(explained), []
    explorer.header.send = said.append
    last = list(explorer.rows)[-1]
    explorer._open_told(None, {"open": last}, None)
    assert explorer.browser.slice == explorer.statistics.slice == last
    explorer._open_told(None, {"open": "elsewhere"}, None)
    assert explorer.browser.slice == last and "elsewhere" in said[0]["message"]


def test_a_run_says_why_it_has_no_statistics(explained):
    frame, path = pd.DataFrame({"id": [], "patient": [], "label": []}, dtype=str), explained.folder / "explanation.json"
    kept = path.read_text()
    assert told_run(explained, None, frame).held is not None
    try:
        path.write_text(json.dumps(json.loads(kept) | {"weights": "0"}))
        assert "of other weights" in told_run(explained, None, frame).why
        path.write_text(kept[:99])
        assert str(path) in told_run(explained, None, frame).why
        path.unlink()
        told = told_run(explained, None, frame)
        assert told.held is None and f"covid-workbench explain {explained.folder}" in told.why
    finally:
        path.write_text(kept)


def test_a_saved_page_tells_of_all_slices_once(explained):
    explorer, slices = AttentionExplorer(explained), []
    for slice_id in list(explorer.rows)[:2]:
        explorer.browser.slice = slice_id
        slices.append(told_slice(explorer, slice_id))
    page = page_of(explorer, "two slices", slices)
    assert page.count('"axis":') == 1 and ".cws-strip" in page
