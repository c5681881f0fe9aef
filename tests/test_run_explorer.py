"Run explorer: which folders are runs, what their histories hold while they grow, and what is shown of them."

import asyncio
import json
import re
import shutil
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import tiny

import covid_workbench.widgets
from covid_workbench.data.slices import SliceTable
from covid_workbench.errors import InputError
from covid_workbench.locks import exclusive
from covid_workbench.models.cards import CARDS
from covid_workbench.runs.run import Run
from covid_workbench.studies.prepare import prepare_study
from covid_workbench.studies.study import Study
from covid_workbench.widgets.axes import axes_of, differences, facets, in_order, passes
from covid_workbench.widgets.chart import MODEL_STYLES, PALETTE, curves_svg, nice_ticks, styles_of
from covid_workbench.widgets.confusion import Confusion, confusion_of
from covid_workbench.widgets.curves import curve_of, read_history, thin
from covid_workbench.widgets.run_folders import find_runs, newest_runs, status_of
from covid_workbench.widgets.run_view import Comparison, VisibleRuns, check_choices, first_choices, table_of
from covid_workbench.widgets.runs import RunExplorer
from covid_workbench.widgets.snapshot import take_snapshot

CLASSES = ("Normal", "CP", "COVID-19")
OF_CLASS = {"sensitivity": 0.5, "precision": 0.5, "f1": 0.5, "support": 3, "predicted": 3}
SLICES = SliceTable(
    pd.DataFrame(
        [dict(id=f"s{n}", patient=f"P{n // 2}", image="a.png", label=CLASSES[n % 3], split="test") for n in range(12)]
    )
)


def history_text(steps: int, start: int = 1, every: int = 4, best: float = 0.8) -> str:
    rows = [
        f"aggregator,{n},{n / 10},{1 / n:.4f},{best * n / steps if n % every == 0 else ''}"
        for n in range(start, start + steps)
    ]
    return "\n".join(["stage,step,seconds,loss_image,validation_f1", *rows, ""])


def make_run(
    folder: Path, *, steps: int = 12, done: bool = True, called=lambda n: CLASSES[n % 3], best: float = 0.8, **settings
) -> Run:
    "A run folder as training and scoring leave it, without the training."
    run = Run.create(folder, tiny(aggregator_epochs=3, **settings), SLICES)
    if steps:
        (folder / "history.csv").write_text(history_text(steps, best=best))
        (folder / "log.txt").write_text(f"2026-11-21 10:00:00,000 aggregator: steps 0 to {steps}\n")
    if done:
        (folder / "weights.safetensors").write_bytes(b"")
        rows = [
            dict(
                id=f"s{n}",
                predicted=called(n),
                p_Normal=0.2,
                p_CP=n / 100,
                **{"p_COVID-19": 0.5},
                patient=f"P{n // 2}",
                label=CLASSES[n % 3],
                split="test" if n < 10 else "validation",
            )
            for n in range(12)
        ]
        pd.DataFrame(rows).to_csv(folder / "predictions.csv", index=False)
        counts = [
            [
                sum(row["label"] == true and row["predicted"] == one and row["split"] == "test" for row in rows)
                for one in CLASSES
            ]
            for true in CLASSES
        ]
        scores = {
            "weighted_f1": best - 0.1,
            "accuracy": 0.5,
            "confusion": counts,
            "class_names": list(CLASSES),
            "classes": {name: OF_CLASS for name in CLASSES},
            "f1_interval": [0.4, 0.9],
        }
        (folder / "metrics.json").write_text(
            json.dumps({"parameters": 1000, "test": {"classification": scores, "detection": None}})
        )
    return run


@pytest.fixture
def many(tmp_path):
    "Two models with two seeds each; the last one is not finished."
    for model in ("attention", "lstm2"):
        for seed in (0, 1):
            make_run(
                tmp_path / "runs" / f"{model}-{seed}",
                model=model,
                seed=seed,
                best=0.6 + 0.1 * seed,
                done=(model, seed) != ("lstm2", 1),
                called=lambda n: "CP",
            )
    return tmp_path / "runs"


def keys(explorer):
    return [line.name for line in explorer.lines]


# ---- which folders are runs


def test_everything_that_is_a_run_is_found_and_the_rest_is_named(many):
    (many / "broken").mkdir()
    (many / "broken" / "experiment.json").write_text("{")
    (many / "stillborn").mkdir()
    (many / "stillborn" / "slices.csv").write_text("id\n")
    (many / "data" / "CP").mkdir(parents=True)
    (many / "data" / "slices.csv").write_text("id\n")
    shutil.copytree(many / "lstm2-0", many / "data" / "CP" / "hidden")  # nobody looks for runs among slices
    shutil.copytree(many / "lstm2-0", many / "newer")
    content = json.loads((many / "newer" / "experiment.json").read_text())
    content["training"]["momentum_of_tomorrow"] = 1
    content["record"]["covid_workbench"] = "99.0"
    (many / "newer" / "experiment.json").write_text(json.dumps(content))
    found, left = find_runs(many)
    assert [one.name for one in found] == ["attention-0", "attention-1", "lstm2-0", "lstm2-1"]
    said = dict(left)
    assert set(said) == {"broken", "stillborn", "newer"} and "ended before it began" in said["stillborn"]
    assert "99.0" in said["newer"] and "momentum_of_tomorrow" in said["newer"] and "\n" not in "".join(said.values())


def test_one_run_several_folders_and_nothing(many, tmp_path):
    assert [one.name for one in find_runs(many / "lstm2-0")[0]] == ["lstm2-0"]
    assert [one.name for one in find_runs([Run.open(many / "lstm2-0"), many])[0]] == [
        "lstm2-0",
        "runs/attention-0",
        "runs/attention-1",
        "runs/lstm2-1",
    ]  # none twice
    (tmp_path / "empty").mkdir()
    assert find_runs(tmp_path / "empty")[0] == [] and "holds no run" in find_runs(tmp_path / "empty")[1][0][1]
    assert (
        newest_runs(tmp_path / "empty")
        in (many / name for name in ("attention-0", "attention-1", "lstm2-0", "lstm2-1"))
        and newest_runs("/") is None
    )


def test_a_study_brings_its_labels_and_its_queue(tmp_path):
    study = Study.from_dict(
        {
            "name": "made-up",
            "axes": {"head": {"short": {"model": "attention"}, "long": {"model": "lstm2"}}, "seed": [0, 1]},
        }
    )
    cells = prepare_study(study, tmp_path / "study").cells
    for one in cells[:2]:
        make_run(one.folder / "run", model=one.cell.settings["model"], seed=int(one.cell.settings["seed"]))
        (one.folder / "state.json").write_text(json.dumps({"status": "finished", "attempt": 1}))
    (cells[2].folder / "state.json").write_text(json.dumps({"status": "failed", "attempt": 1, "reason": "no memory"}))
    found, left = find_runs(tmp_path / "study")
    assert [one.name for one in found] == [one.cell.name for one in cells[:2]] and found[0].labels["head"] == "short"
    assert (cells[2].cell.name, "failed: no memory") in left and any(
        "1 cell of the study not started" in why for _, why in left
    )
    (cells[0].folder / "state.json").write_text("{")  # a damaged cell is damaged alone
    found, left = find_runs(tmp_path / "study")
    assert [one.labels["head"] for one in found] == ["short", "short"]
    assert [status_of(one)[0] for one in found] == ["damaged", "finished"]
    (tmp_path / "study" / "manifest.json").write_text("{")  # a damaged study still shows its runs
    found, left = find_runs(tmp_path / "study")
    assert len(found) == 2 and "without their labels" in left[0][1]


def test_a_lock_tells_training_from_left_alone(many):
    found = {one.name: one for one in find_runs(many)[0]}
    assert status_of(found["lstm2-0"]) == ("finished", "") and status_of(found["lstm2-1"])[0] == "interrupted"
    with exclusive(many / "lstm2-1" / ".lock"):
        assert status_of(found["lstm2-1"])[0] == "running"
    (many / "lstm2-0" / "metrics.json").unlink()
    assert status_of(found["lstm2-0"]) == ("finished", "not scored")


# ---- axes and filters


def test_axes_are_what_differs_on_purpose(many):
    make_run(many / "slow", model="lstm2", seed=0, hidden_size=16, learning_rate=1e-3)
    found, _ = find_runs(many)
    differ = differences(found)
    assert list(differ)[:2] == ["model", "seed"] and set(differ) == {"model", "seed", "hidden_size", "learning_rate"}
    assert axes_of(found, differ) == (["model", "seed"], ["hidden_size", "learning_rate"])
    alone = [one for one in found if one.name in ("lstm2-0", "slow")]
    assert axes_of(alone, differences(alone)) == (["hidden_size", "learning_rate"], [])
    assert axes_of(alone[:1], differences(alone[:1])) == ([], [])


def test_counts_on_chips_are_what_picking_them_shows(many):
    found, _ = find_runs(many)
    differ, names = differences(found), [one.key for one in found]
    filters = {"seed": ["1"], "model": ["lstm2"]}
    for axis in facets(names, ["model", "seed"], filters, differ):
        for one in axis["values"]:
            assert one["count"] == sum(passes(key, filters | {axis["name"]: [one["value"]]}, differ) for key in names)
            assert one["on"] == (one["value"] in filters[axis["name"]])
    assert in_order(["10", "9", "–", "1e-3", "resnet50", "resnet101"]) == [
        "1e-3",
        "9",
        "10",
        "resnet50",
        "resnet101",
        "–",
    ]


# ---- histories


def test_a_half_written_line_does_not_count_yet(tmp_path):
    run = make_run(tmp_path / "run", steps=8, done=False)
    whole = read_history(run)
    for cut in (1, 5, 9):
        (run.folder / "history.csv").write_text(history_text(8)[:-cut])
        assert len(read_history(run)) == 7
    for damaged in ("", "stage,st", "\x00\x00\n", "stage,step\n"):
        (run.folder / "history.csv").write_text(damaged)
        assert read_history(run).empty
    (run.folder / "history.csv").write_text(history_text(8))
    assert read_history(run).equals(whole) and len(whole) == 8


def test_the_log_tells_of_looks_that_no_checkpoint_holds_yet(tmp_path):
    run = make_run(tmp_path / "run", steps=4, done=False)

    def say(second: int, words: str) -> str:
        return f"2026-11-21 10:00:{second:02d},000 {words}\n"

    (run.folder / "log.txt").write_text(
        say(0, "aggregator: steps 0 to 12")
        + say(1, 'aggregator step 4: {"f1": 0.1}')
        + say(5, 'aggregator step 8: {"f1": 0.5}')
    )
    history = read_history(run)
    assert history["step"].tolist() == [1, 2, 3, 4, 8] and history["validation_f1"].dropna().tolist() == [
        0.8,
        0.5,
    ]  # step 4 is in history.csv and counts from there
    assert history["seconds"].iloc[-1] == 5 and history["x_epoch"].iloc[-1] == 2  # 12 steps are 3 epochs
    with open(run.folder / "log.txt", "a") as file:  # killed, continued from step 4: what came after is done anew
        file.write(say(20, "aggregator: steps 4 to 12") + say(22, 'aggregator step 8: {"f1": 0.6}'))
    history = read_history(run)
    assert history["validation_f1"].dropna().tolist() == [0.8, 0.6] and history["seconds"].iloc[-1] == pytest.approx(
        2.4
    )


def test_stages_follow_each_other(tmp_path):
    run = make_run(tmp_path / "run", steps=2)
    (run.folder / "history.csv").write_text(
        "stage,step,seconds,loss_rpn_class,loss_roi_mask,loss_image\nsegmentation,1,60,1,2,\n"
        "segmentation,2,120,1,3,\ntwo-phase,1,60,,,0.5\n"
    )
    (run.folder / "log.txt").write_text("")
    history = read_history(run)
    assert (
        history["x_step"].tolist() == [1, 2, 3]
        and history["x_minutes"].tolist() == [1, 2, 3]
        and history["loss_segmentation"].tolist()[:2] == [3, 4]
        and history["loss_segmentation"].isna()[2]
    )


def test_smoothing_stays_in_a_stage_and_thinning_keeps_spikes():
    history = pd.DataFrame(
        {"stage": ["a"] * 4 + ["b"] * 4, "x_step": range(1, 9), "loss_image": [8.0, 8, 8, 8, 0, 0, 0, 0]}
    )
    curve = curve_of(history, "loss_image", window=4)
    assert (
        curve.smooth[1].tolist() == [8, 8, 8, 8, 0, 0, 0, 0]
        and curve.y.tolist() == history["loss_image"].tolist()
        and curve.stages == "a, b"
    )
    assert curve_of(history, "loss_image").smooth is None and curve_of(history, "validation_f1") is None
    x, y = np.arange(10000.0), np.zeros(10000)
    y[1234], y[8765] = 5, -7
    few, values = thin(x, y, 100)
    assert len(few) <= 100 and {5, -7} <= set(values) and few[values == 5] == [1234] and (np.diff(few) > 0).all()


# ---- the explorer: what is drawn


def test_figure_table_and_words_follow_the_filters(many):
    explorer = RunExplorer(many)
    assert (
        explorer.bar.head == "4 runs"
        and keys(explorer) == ["attention-0", "attention-1", "lstm2-0", "lstm2-1"]
        and explorer.bar.y == "validation_f1"
    )
    explorer.bar.filters = {"model": ["lstm2"], "seed": ["0"]}
    assert (
        keys(explorer) == ["lstm2-0"]
        and explorer.bar.head == "1 of 4 runs"
        and [row["key"] for row in explorer.table.rows] == [explorer.lines[0].key]
    )
    assert [trace.meta for trace in explorer.chart.data] == [explorer.lines[0].key] and list(
        explorer.chart.data[0].y
    ) == pytest.approx([0.2, 0.4, 0.6])
    assert (
        explorer.table.rows[0]["cells"]["weighted F1"]["text"] == "0.500"
        and explorer.table.rows[0]["cells"]["best validation F1"]["text"] == "0.600"
    )
    explorer.bar.filters = {}
    explorer.bar.y, explorer.bar.smooth = "loss_image", "5"
    assert (
        len(explorer.chart.data) == 8
        and [trace.hoverinfo for trace in explorer.chart.data][:2] == ["skip", "all"]
        and "Running mean of 5 steps" in explorer.table.note
    )
    assert list(explorer.chart.data[0].y) == pytest.approx(
        [float(f"{1 / n:.4f}") for n in range(1, 13)]
    )  # raw, pale, below
    explorer.bar.x = "x_minutes"
    assert explorer.chart.layout.xaxis.title.text == "minutes" and explorer.chart.data[1].x[-1] == pytest.approx(
        1.2 / 60
    )


def test_values_differ_in_more_than_hue(many):
    explorer = RunExplorer(many)
    explorer.bar.colour = "seed"
    looks = {(trace.name, trace.line.color, trace.line.dash, trace.marker.symbol) for trace in explorer.chart.data}
    assert (
        len(looks) == 2
        and all(len({one[k] for one in looks}) == 2 for k in range(4))
        and len(set(PALETTE)) == len(PALETTE)
    )
    swatches = {row["cells"]["seed"]["text"]: row["style"] for row in explorer.table.rows}
    assert {(name, style["colour"], style["dash"], style["symbol"]) for name, style in swatches.items()} == looks


def test_a_reloaded_page_gets_what_is_shown(many):
    explorer = RunExplorer(many)
    explorer.bar.y, explorer.bar.filters = "loss_image", {"model": ["attention"]}
    assert [one["meta"] for one in explorer.chart._widget_data] == [
        line.key for line in explorer.lines
    ]  # a second view in the same page
    held = explorer.chart.get_state()
    assert [one["meta"] for one in held["_widget_data"]] == [line.key for line in explorer.lines] and held[
        "_widget_layout"
    ]["yaxis"]["title"]["text"] == "classification loss"
    chart = explorer.chart
    chart._js2py_relayout = {"relayout_data": {"xaxis.range": [2, 5]}, "source_view_id": "v"}  # the reader zooms
    assert chart.get_state()["_widget_layout"]["xaxis"]["range"] == [2, 5]
    before = list(chart.data[0].y)  # the browser tells its defaults; plotly itself would drop x and y over this
    chart._js2py_traceDeltas = {
        "trace_deltas": [{"uid": trace.uid, "x": [0], "y": [0]} for trace in chart.data],
        "trace_edit_id": chart._last_trace_edit_id,
    }
    assert (
        list(chart.data[0].y) == before
        and np.frombuffer(chart.get_state()["_widget_data"][0]["y"]["buffer"]).tolist() == before
    )
    other = RunExplorer(many)
    other.state = json.loads(json.dumps(explorer.state))
    assert (
        other.state == explorer.state
        and keys(other) == keys(explorer)
        and other.chart.layout.yaxis.title.text == "classification loss"
    )
    with pytest.raises(InputError, match="not among these 4"):
        other.state = explorer.state | {"run": "elsewhere"}


# ---- its state, and the view without a browser


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 2}, "'version' is '2'"),
        ({"y": "loss_of_time"}, "y 'loss_of_time' is not among"),
        ({"y": None}, "'y' is None"),
        ({"x": "x_years"}, "x 'x_years' is not among"),
        ({"colour": "taste"}, "colour 'taste' is not among"),
        ({"smooth": "7"}, "smooth '7' is not among"),
        ({"smooth": 5}, "'smooth' is 5"),
        ({"log": "yes"}, "'log' is 'yes'"),
        ({"filters": {"modle": ["lstm2"]}}, "filters 'modle' is not among.*did you mean 'model'"),
        ({"filters": {"model": ["lstm7"]}}, "filters: model 'lstm7' is not among"),
        ({"filters": {"model": "lstm2"}}, r"filters\['model'\] does not fit"),
        ({"detectors": 1}, "'detectors' is 1"),
        ({"sort": ["beauty", True]}, "sort 'beauty' is not among"),
        ({"sort": ["status"]}, "'sort' is"),
        ({"run": "elsewhere"}, "run 'elsewhere' is not among these 4"),
        ({"run": ""}, "belongs to no run"),
        ({"cell": [0, 3]}, "each from 0 to 2"),
        ({"cell": [0]}, "each from 0 to 2"),
        ({"cell": ["CP", "CP"]}, "'cell' is"),
        ({"decision": [3.0, 0.5, 0.5]}, "a class from 0 to 2"),
        ({"decision": [0.5, 0.5, 0.5]}, "a class from 0 to 2"),
        ({"decision": [1, 0.5]}, "then threshold and prevalence"),
        ({"decision": [1, 0.5, 1.5]}, "from 0 to 1"),
        ({"decision": ["CP", 0.5, 0.5]}, "'decision' is"),
        ({"run": "", "cell": [], "decision": [1, 0.5, 0.5]}, "decision .* belongs to no run"),
        ({"shape": 1}, "unknown field 'shape'"),
    ],
)
def test_a_wrong_state_is_refused_and_nothing_changes(many, change, words):
    explorer = RunExplorer(many, on_open=lambda run, ids: None)
    explorer._pick(str(many / "lstm2-0"))
    explorer.card.cell = [0, 1]
    held = explorer.state
    with pytest.raises(InputError, match=words):
        explorer.state = held | change
    assert explorer.state == held and explorer.card.slices["title"].endswith("labelled Normal, predicted CP")


def test_a_state_that_lacks_a_field_or_is_none_at_all_is_refused(many):
    explorer = RunExplorer(many)
    held = explorer.state
    for name in held:
        if name == "decision":  # which views of before lack
            continue
        with pytest.raises(InputError, match=f"lacks '{name}'"):
            explorer.state = {field: value for field, value in held.items() if field != name}
    for given in ({}, [], 7, "half a link", None):
        with pytest.raises(InputError, match="view"):
            explorer.state = given
    with pytest.raises(InputError, match="cannot be opened. This run is not finished"):
        explorer.state = held | {"run": str(many / "lstm2-1"), "cell": [0, 0]}
    assert explorer.state == held


def test_a_state_of_the_last_release_still_opens(many):
    explorer = RunExplorer(many, on_open=lambda run, ids: None)
    explorer.state = {
        "version": 1,
        "y": "loss_image",
        "x": "x_epoch",
        "colour": "seed",
        "smooth": "20",
        "log": True,
        "filters": {"model": ["attention"]},
        "detectors": False,
        "sort": ["AP@0.5", True],
        "run": str(many / "attention-1"),
        "cell": [2, 1],
    }
    assert keys(explorer) == ["attention-0", "attention-1"] and explorer.card.slices["called"] == "CP"


def test_the_view_needs_no_browser(many):
    comparison = Comparison.of(take_snapshot(many))
    first = first_choices(comparison)
    check_choices(first, comparison)
    assert (first.y, first.colour) == ("validation_f1", "model")
    seen = VisibleRuns(comparison, replace(first, filters={"seed": ["1"]}, run=str(many / "lstm2-1")))
    assert [(line.name, line.bold, line.faint) for line in seen.lines] == [
        ("attention-1", False, True),
        ("lstm2-1", True, False),
    ]
    assert [row["cells"]["status"]["text"] for row in table_of(seen)["rows"]] == ["finished", "interrupted"]


def test_every_shipped_model_has_a_style_of_its_own():
    assert set(MODEL_STYLES) == set(CARDS)
    styles = styles_of(list(CARDS))
    assert (
        len({style.colour for style in styles.values()})
        == len({style.symbol for style in styles.values()})
        == len(CARDS)
    )
    assert styles_of(["lstm2"])["lstm2"] == styles["lstm2"], "a model keeps its style whoever else is there"
    static = Path(covid_workbench.widgets.__file__).parent / "static"
    for style in styles.values():
        assert re.search(rf'^  "?{style.symbol}"?: "M', (static / "runs.js").read_text(), re.MULTILINE), style.symbol


def test_the_ceiling_of_an_ap_has_a_column(many):
    path = many / "lstm2-0" / "metrics.json"
    metrics = json.loads(path.read_text())
    figures = {"ap50": 0.25, "ap75": 0.1, "map50_95": 0.125, "ceiling_ap50": 0.875, "rule": "lesion"}
    metrics["test"]["detection"] = {"headline": figures, "merged": figures}
    path.write_text(json.dumps(metrics))
    explorer = RunExplorer(many)
    texts = {row["key"]: row["cells"]["AP@0.5 ceiling"]["text"] for row in explorer.table.rows}
    assert texts == {row["key"]: "–" for row in explorer.table.rows} | {str(many / "lstm2-0"): "0.875"}
    names = [column["name"] for column in explorer.table.columns]
    assert names.index("AP@0.5 ceiling") == names.index("AP@0.5 merged") + 1


def test_nothing_leaves_the_machine(many):
    chart = RunExplorer(many).chart
    assert chart._config["showSendToCloud"] is False and chart._config["plotlyServerURL"] == ""
    static = Path(covid_workbench.widgets.__file__).parent / "static"
    for name in ("runs.js", "runs.css"):
        assert not re.findall(r"https?://|import\s|@import|url\(", (static / name).read_text())


# ---- one run, its cells


def click(explorer, line: int, point: int = 0) -> None:
    "What the browser sends for a click on a point."
    trace = explorer.chart.data[line]
    explorer.chart._js2py_pointsCallback = {
        "event_type": "plotly_click",
        "points": {"trace_indexes": [line], "point_indexes": [point], "xs": [trace.x[point]], "ys": [trace.y[point]]},
        "device_state": None,
        "selector": None,
    }


def test_a_click_on_a_point_opens_its_run(many):
    explorer = RunExplorer(many)
    click(explorer, 2)
    assert explorer.table.selected == explorer.lines[2].key and explorer.card.run["name"] == "lstm2-0"
    assert [line.bold for line in explorer.lines] == [False, False, True, False] and [
        line.faint for line in explorer.lines
    ] == [True, True, False, True]
    shown = {name: (value, note) for name, value, note in explorer.card.run["settings"]}
    assert shown == {"model": ("lstm2", "others: attention"), "seed": ("0", "others: 1")} and explorer.card.run[
        "figures"
    ][0] == ["weighted F1", "0.500", "95 % 0.40–0.90, over patients"]
    explorer.bar.filters = {"model": ["attention"]}  # the run is filtered away: nobody else is dimmed for it
    assert not any(line.faint for line in explorer.lines)


def test_a_cell_opens_exactly_its_slices(many):
    calls = []
    explorer = RunExplorer(many, on_open=lambda run, ids: calls.append((run.folder.name, ids)))
    click(explorer, 0)
    assert explorer.card.run["confusion"]["counts"] == [[0, 4, 0], [0, 3, 0], [0, 3, 0]]
    explorer.card.cell = [2, 1]
    assert (
        calls == [("attention-0", ["s8", "s5", "s2"])]
        and explorer.card.slices["title"] == "3 slices labelled COVID-19, predicted CP"
    )  # test slices alone, the surest first
    explorer._heard(None, {"open": ["s5"]}, None)
    assert calls[-1] == ("attention-0", ["s5"])
    click(explorer, 1)
    assert explorer.card.cell == [] and explorer.card.slices == {} and len(calls) == 2
    explorer._heard(None, {"close": True}, None)
    assert explorer.table.selected == "" and explorer.card.run == {}


def test_slices_that_cannot_be_opened_are_a_sentence(many):
    explorer = RunExplorer(many)  # its weights are empty: the default view cannot open
    click(explorer, 0)
    explorer.card.cell = [0, 1]
    assert (
        explorer.card.words.startswith("These slices cannot be opened:")
        and "weights.safetensors" in explorer.card.words
        and not explorer.below.children
    )


def test_the_default_opens_the_attention_explorer_on_these_slices(finished, monkeypatch):
    from covid_workbench.widgets import explorer as module

    opened, kind = [], module.AttentionExplorer
    monkeypatch.setattr(
        module, "AttentionExplorer", lambda run, data: opened.append(set(data.frame["id"])) or kind(run, data=data)
    )
    explorer = RunExplorer(finished.folder)
    explorer._pick(str(finished.folder))
    counts = explorer.card.run["confusion"]["counts"]
    true, called = max(((i, j) for i in range(3) for j in range(3)), key=lambda cell: counts[cell[0]][cell[1]])
    explorer.card.cell = [true, called]
    assert explorer.card.words == "opened below" and len(explorer.below.children) == 1
    rows = pd.read_csv(finished.folder / "predictions.csv", keep_default_na=False).query("split == 'test'")
    expected = set(rows["id"][(rows["label"] == CLASSES[true]) & (rows["predicted"] == CLASSES[called])])
    assert (
        {one["id"] for one in explorer.card.slices["rows"]} == expected
        and opened == [expected]
        and counts == finished.metrics["test"]["classification"]["confusion"]
    )


def test_without_predictions_the_matrix_leads_nowhere_and_says_so(many):
    (many / "lstm2-0" / "predictions.csv").unlink()
    explorer = RunExplorer(many)
    explorer._pick(str(many / "lstm2-0"))
    assert (
        explorer.card.run["confusion"]["linked"] is False
        and explorer.card.run["confusion"]["counts"][0] == [0, 4, 0]
        and "cannot be listed" in explorer.card.run["confusion_words"]
    )
    explorer._pick(str(many / "lstm2-1"))
    assert explorer.card.run["confusion"] == {} and "not finished" in explorer.card.run["confusion_words"]
    text = (many / "attention-0" / "predictions.csv").read_text()
    (many / "attention-0" / "predictions.csv").write_text(text.replace("s0,CP", "s0,Normal"))
    found = confusion_of(Run.open(many / "attention-0"))
    assert isinstance(found, Confusion) and "other counts" in found.note
    for name, words in (("predictions.csv", "id,pre"), ("metrics.json", "{")):
        (many / "attention-1" / name).write_text(words)
    explorer = RunExplorer(many)
    explorer._pick(str(many / "attention-1"))
    assert "cannot be read" in explorer.card.run["note"] and explorer.card.run["confusion"] == {}


def test_words_for_nothing_and_for_no_history(tmp_path):
    (tmp_path / "empty").mkdir()
    explorer = RunExplorer(tmp_path / "empty")
    assert (
        "No run was found here" in explorer.bar.empty
        and explorer.children == (explorer.bar,)
        and "image/svg+xml" not in explorer._repr_mimebundle_()
    )
    make_run(tmp_path / "new", steps=0, done=False)
    explorer = RunExplorer(tmp_path / "new")
    explorer._pick(str(tmp_path / "new"))
    assert (
        "No history yet" in explorer.card.run["note"]
        and "1 of 1 run has no" in explorer.table.note
        and explorer.lines == []
    )


def test_a_run_of_another_version_says_so(many):
    path = many / "lstm2-0" / "experiment.json"
    path.write_text(
        path.read_text().replace(f'"covid_workbench": "{covid_workbench.__version__}"', '"covid_workbench": "0.0.7"')
    )
    explorer = RunExplorer(many)
    explorer._pick(str(many / "lstm2-0"))
    assert "made by covid_workbench 0.0.7" in explorer.card.run["note"]


# ---- while it trains


def test_only_what_changed_is_read_again(many):
    before = take_snapshot(many)
    after = take_snapshot(many, before)
    assert not after.differs(before) and all(after.histories[key] is before.histories[key] for key in before.runs)
    (many / "lstm2-1" / "history.csv").write_text(history_text(20))
    after = take_snapshot(many, before)
    assert after.differs(before) and [
        key for key in before.runs if after.histories[key] is not before.histories[key]
    ] == [str(many / "lstm2-1")]


def test_a_run_in_training_grows_and_its_end_is_noticed(many):
    async def scene():
        folder, seen = many / "lstm2-1", []
        with exclusive(folder / ".lock"):
            explorer = RunExplorer(many, every=0.05)
            assert explorer.bar.live
            for steps in (16, 20, 24):
                (folder / "history.csv").write_text(history_text(steps) + "aggregator,99,9.9,0.")  # and half a line
                for _ in range(100):
                    await asyncio.sleep(0.02)
                    if len(explorer.snapshot.histories[str(folder)]) == steps:
                        break
                seen.append(len(explorer.chart.data[3].y))
            assert (
                "1 run in training" in explorer.bar.live_words
                and explorer.table.rows[3]["cells"]["status"]["sort"] == "running"
            )
            explorer.bar.live = False
            (folder / "history.csv").write_text(history_text(28))
            await asyncio.sleep(0.2)
            assert len(explorer.chart.data[3].y) == seen[-1] and explorer.watcher.task is None  # switched off
            explorer.bar.live = True
            await asyncio.sleep(0.3)
            seen.append(len(explorer.chart.data[3].y))
        for _ in range(100):
            await asyncio.sleep(0.02)
            if not explorer.bar.live:
                break
        assert (
            seen == [4, 5, 6, 7]
            and not explorer.bar.live
            and explorer.bar.live_words == "all runs have ended"
            and explorer.watcher.task is None
        )
        with exclusive(folder / ".lock"):
            closed = RunExplorer(many, every=0.05)
            task = closed.watcher.task
            closed.close()
            await asyncio.sleep(0.1)
            assert task.cancelled()

    asyncio.run(scene())


def test_without_a_loop_it_says_what_to_do(many):
    explorer = RunExplorer(many, live=True)
    assert not explorer.bar.live and "refresh()" in explorer.bar.live_words
    (many / "lstm2-1" / "history.csv").write_text(history_text(20))
    assert explorer.refresh() and len(explorer.chart.data[3].y) == 5 and not explorer.refresh()


# ---- the still picture


def test_the_still_picture_shows_the_same_lines(many):
    explorer = RunExplorer(many)
    explorer.bar.y, explorer.bar.smooth = "loss_image", "5"
    shown = explorer._repr_mimebundle_()
    root = ElementTree.fromstring(shown["image/svg+xml"])
    titled = [
        one
        for one in root.iter("{http://www.w3.org/2000/svg}g")
        if one.find("{http://www.w3.org/2000/svg}title") is not None
    ]
    assert [one[0].text.split(":")[0] for one in titled] == keys(
        explorer
    ) and "application/vnd.jupyter.widget-view+json" in shown
    words = [one.text for one in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"step", "classification loss", "attention", "lstm2"} <= set(words)
    points = np.array(
        [[float(number) for number in pair.split()] for pair in re.findall(r"[\d.]+ [\d.]+", titled[0][1].get("d"))]
    )
    curve = explorer.lines[0].curve.smooth
    assert (
        len(points) == 12
        and np.corrcoef(points[:, 0], curve[0])[0, 1] > 0.9999
        and np.corrcoef(points[:, 1], curve[1])[0, 1] < -0.9999
    )  # y downwards


def test_axes_of_the_still_picture():
    assert (
        nice_ticks(0, 0.73) == [0, 0.2, 0.4, 0.6]
        and nice_ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1]
        and nice_ticks(0, 1e-9)[0] == 0
    )
    for log in (False, True):
        ElementTree.fromstring(curves_svg([], "step", "loss <&>", log=log))
