"""The attention explorer without a browser: what it shows is what the model answers, and every edge has its word."""

import copy
import gc
import json
import re
import shutil
import weakref
import xml.etree.ElementTree as tree
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pandas as pd
import pytest
from conftest import tiny
from PIL import Image

from covid_workbench.data.slices import SliceTable
from covid_workbench.errors import InputError
from covid_workbench.evaluation.evaluate import evaluate
from covid_workbench.evaluation.whatif import Question, ReadSlice, answer, effects, orders
from covid_workbench.lab import explorer_notebooks
from covid_workbench.runs.run import Run
from covid_workbench.training.train import train
from covid_workbench.widgets.asking import KEPT, AttentionView, History, difference_rows, first_slice
from covid_workbench.widgets.explorer import GUARD, AttentionExplorer
from covid_workbench.widgets.pane import RunPane
from covid_workbench.widgets.state import StateGuard


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    "Trained runs by model."
    folder = tmp_path_factory.mktemp("explored")
    made = {}
    for model in ("lstm2", "affinity", "classifier", "mask-rcnn"):
        made[model] = train(tiny(model=model), folder / model, progress=False)
        evaluate(made[model], progress=False)
    return made


def test_what_is_shown_is_what_the_model_answers(runs):
    explorer = AttentionExplorer(runs["lstm2"])
    pane = explorer.panes[0]
    own = answer(pane.read)
    assert pane.verdict.answer["logits"] == own.logits[0].tolist() == pane.verdict.before["logits"]
    assert pane.panel.slots == own.rois.regions[0].tolist() and pane.panel.weights == own.attention[0].tolist()
    pane.panel.effect_class = next(name for name in pane.classes[1:] if name != pane.panel.effect_class)
    number = pane.classes.index(pane.panel.effect_class)
    assert {int(region): value for region, value in pane.panel.effects.items()} == {
        region: pytest.approx(value[number]) for region, value in effects(pane.read).items()
    }
    assert pane.orders.results == {name: pytest.approx(p.tolist()) for name, p in orders(pane.read).items()}
    assert len(pane.canvas.crops) == 64 * 64 * len(pane.canvas.regions) and len(pane.canvas.masks) == 28 * 28 * len(
        pane.canvas.regions
    )
    gone = pane.panel.slots[0]
    pane.panel.off_mode, pane.panel.off = "refilled", [gone]
    assert (
        pane.verdict.answer["logits"]
        == answer(pane.read, Question(off=(gone,), off_mode="refilled")).logits[0].tolist()
    )
    pane.panel.effect_class = "Normal"
    assert pane.panel.effects[str(pane.panel.slots[0])] == pytest.approx(
        effects(pane.read, Question(off=(gone,), off_mode="refilled"))[pane.panel.slots[0]][0]
    )  # the first class


def test_moving_a_slot_is_a_custom_order(runs):
    explorer = AttentionExplorer(runs["lstm2"])
    panel, first = explorer.panes[0].panel, explorer.panes[0].panel.slots
    moved = [*first[1:], first[0]]
    with panel.hold_trait_notifications():
        panel.order, panel.sequence = "custom", moved
    assert (
        panel.slots == moved
        and explorer.panes[0].verdict.answer["logits"]
        == answer(explorer.panes[0].read, Question(sequence=tuple(moved))).logits[0].tolist()
    )
    explorer.browser.slice = next(
        one for one in explorer.rows if one != explorer.browser.slice
    )  # another slice has other regions
    assert panel.order == "distance" and panel.sequence == [] and explorer.header.dirty is False


def test_undo_redo_reset(runs):
    explorer = AttentionExplorer(runs["lstm2"])
    panel, plain = explorer.panes[0].panel, explorer.state
    panel.order = "reversed"
    turned = explorer.state
    panel.off = [panel.slots[0]]
    explorer.undo()
    assert explorer.state == turned and explorer.header.can_undo and explorer.header.can_redo
    explorer.undo()
    assert explorer.state == plain and not explorer.header.can_undo and not explorer.header.dirty
    explorer.redo()
    assert explorer.state == turned
    explorer.undo()
    panel.order = "score"  # something else was asked: nothing to redo
    assert not explorer.header.can_redo
    explorer.undo()
    panel.order = "reversed"
    explorer.reset()
    assert explorer.state == plain
    explorer.undo()
    assert explorer.state == turned


def test_a_state_brings_the_view_back(runs):
    explorer = AttentionExplorer(runs["lstm2"])
    pane = explorer.panes[0]
    explorer.browser.slice = list(explorer.rows)[-1]
    pane.panel.order, pane.canvas.window, pane.canvas.layers, explorer.browser.filter = (
        "hilbert",
        90.0,
        ["truth"],
        {"kind": "wrong", "low": 0.2},
    )
    pane.panel.off, pane.canvas.selected, pane.verdict.link = [pane.panel.slots[1]], [pane.panel.slots[0]], "sigmoid"
    held = json.loads(json.dumps(explorer.state))
    assert len(json.dumps(held)) < 1100 and json.loads(explorer.header.state_text) == held
    for given in (held, json.dumps(held), "http://127.0.0.1:8888/lab/tree/x.ipynb" + explorer.link):
        again = AttentionExplorer(runs["lstm2"], state=given)
        assert (
            again.state == held
            and again.panes[0].verdict.answer == pane.verdict.answer
            and again.panes[0].verdict.link == "sigmoid"
            and again.panes[0].panel.selected == held["selected"]
        )


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda state: state.pop("slice"), "lacks 'slice'"),
        (lambda state: state.update(version=7), "version 1"),
        (lambda state: state.update(slice="P9"), "slice 'P9' is not among"),
        (lambda state: state.update(window="wide"), "'window' is 'wide'"),
        (lambda state: state.update(windows=1.0), "unknown field 'windows'; did you mean 'window'?"),
        (lambda state: state["questions"].append(dict(state["questions"][0])), "of 2 runs"),
        (lambda state: state["questions"][0].update(off="all"), "questions[0]['off'] does not fit"),
        (lambda state: state["questions"][0].update(off=["all"]), "questions[0]['off'][0] does not fit"),
        (lambda state: state["questions"][0].pop("beta"), "questions[0]['beta'] does not fit"),
        (lambda state: state["questions"][0].update(beta=0), "'beta' is 0"),
        (lambda state: state["questions"][0].update(order="upwards"), "order 'upwards' is not among"),
        (lambda state: state["questions"][0].update(off_mode="drop"), "off_mode 'drop' is not among"),
        (lambda state: state.update(camera={"x": []}), "'camera'"),
        (lambda state: state.update(effect_class="Norml"), "did you mean 'Normal'?"),
        (lambda state: state.update(link="logit"), "link 'logit' is not among"),
        (lambda state: state.update(iou=1.5), "'iou' is 1.5"),
    ],
)
def test_a_wrong_state_changes_nothing(runs, change, words):
    explorer = AttentionExplorer(runs["lstm2"])
    held = explorer.state
    wrong = copy.deepcopy(held)
    change(wrong)
    with pytest.raises(InputError, match=re.escape(words)):
        explorer.reopen(wrong)
    assert explorer.state == held and json.loads(explorer.header.state_text) == held
    said = []
    explorer.header.send = said.append
    explorer._act(None, {"act": "open", "state": json.dumps(wrong)}, None)  # as a link does: said in the header
    assert words in said[0]["message"]


WRONG = {
    "version": (0, "1", True, None),
    "runs": ("lstm2", [7], None),
    "slice": (7, None, "P9", ["P9"]),
    "questions": ({}, [], [7], [{}], None),
    "layers": ("truth", [7], {}),
    "color_by": (None, 7),
    "window": ("wide", True, None, float("nan")),
    "level": ("high", [127.5], float("inf")),
    "hu_window": (None, "lung", [-600.0], [150.0, -1350.0], [0.0, 1e9]),
    "camera": ({}, {"x": 0.0, "y": 0.0}, {"x": 0.0, "y": 0.0, "zoom": "far"}, [0.0, 0.0, 1.0]),
    "selected": (0, ["first"], [0.5], [True]),
    "link": ("", None, "logit"),
    "effect_class": (None, "Norml", ["Normal"]),
    "filter": ("wrong", {"low": None}, {"kind": ["all"]}, {7: "all"}),
    "browser_order": (None, 7),
    "iou": (None, "half", 1.5, -0.1),
    "seed": (0.5, "0", True, None),
    "branch": (None, 7, "upper"),
    "marked": (None, "P9", ["P9"], [7]),
    "statistics": (
        *(None, {}, {"choice": {}}, {"choice": {"mode": 7}, "picked": {}}),
        *({"choice": own, "picked": {}} for own in ({"mode": "halved"}, {"figur": "agreement"})),
        *({"choice": {}, "picked": own} for own in ({"run": 0.0}, {"pattern": "1"}, {"pattern": 7.0})),
        *({"choice": {}, "picked": {"run": run, "group": "right", "low": 0.0, "high": 1.0}} for run in (1.0, 0.5, "0")),
    ),
}


def test_every_field_of_a_state_is_checked(runs):
    explorer = AttentionExplorer(runs["lstm2"])
    held = explorer.state
    assert set(WRONG) == set(held) == {"version", *GUARD.kinds}
    for field, values in WRONG.items():
        lacking = {name: value for name, value in held.items() if name != field}
        unknown = held | {f"{field}s": held[field]}
        without = [] if field in GUARD.newer else [lacking]  # a view from before the field is a view
        for wrong in (*without, unknown, *(held | {field: value} for value in values)):
            with pytest.raises(InputError, match=field):
                explorer.state = wrong
            assert explorer.state == held, (field, wrong)


def test_a_state_that_fails_on_its_way_leaves_the_view(runs, monkeypatch):
    explorer = AttentionExplorer([runs["lstm2"], runs["affinity"]])
    explorer.panes[0].panel.order = "reversed"
    held, shown = explorer.state, explorer.panes[0].verdict.answer
    wanted = copy.deepcopy(held) | {"slice": list(explorer.rows)[-1], "window": 90.0}
    wanted["questions"][1]["order"] = "hilbert"
    put = RunPane.put_question

    def fails_once(pane):
        monkeypatch.setattr(RunPane, "put_question", put)
        raise RuntimeError("no memory")

    monkeypatch.setattr(RunPane, "put_question", fails_once)
    with pytest.raises(RuntimeError, match="no memory"):
        explorer.state = wanted
    assert explorer.state == held and explorer.panes[0].verdict.answer == shown
    explorer.state = wanted
    assert explorer.state == wanted


def test_a_state_pairs_regions_as_it_says(runs):
    explorer = AttentionExplorer([runs["lstm2"], runs["affinity"]])
    paired = explorer.state
    explorer.difference.iou = 1.0
    apart, ids = explorer.state, explorer.view.runs[1].open.ids
    explorer.state = paired
    assert explorer.view.runs[1].open.ids != ids
    explorer.state = apart
    assert explorer.view.runs[1].open.ids == ids


def test_the_view_model_answers_without_a_page(runs):
    "The same answers as the page shows, asked of plain Python."
    view = AttentionView([runs["lstm2"], runs["affinity"]], runs["lstm2"].table.split("test"))
    view.open_slice(first_slice(view.slices.table.frame))
    first, second = view.runs
    own = view.questions
    for run in view.runs:
        run.ask()
    assert first.answers.evidence.logits[0].tolist() == first.open.own["logits"] and first.as_evaluated
    gone = first.answers.slots[0]
    view.change([own[0] | {"off": [gone], "off_mode": "refilled"}, own[1] | {"order": "reversed"}])
    for run in view.runs:
        run.ask()
        assert not run.as_evaluated
        for _ in run.fill_effects():
            pass
        for _ in run.fill_orders(seed=0):
            pass
    question = Question(off=(gone,), off_mode="refilled")
    number = first.classes.index(first.effect_class)
    assert first.answers.effects == {
        region: pytest.approx(value[number]) for region, value in effects(first.read, question).items()
    }
    assert first.answers.orders == {name: pytest.approx(p.tolist()) for name, p in orders(first.read, question).items()}
    assert gone not in first.answers.slots and {row["id"] for row in difference_rows(view)} >= set(
        first.answers.effects
    )
    candidate = second.open.ids.index(second.answers.slots[0])
    assert candidate == answer(second.read, Question("reversed")).rois.regions[0, 0]
    asked = view.questions
    view.questions = view.history.undo(asked)
    assert view.questions == own and all(run.as_evaluated for run in view.runs)
    view.questions = view.history.redo(own)
    assert view.questions == asked and view.history.redo(asked) is None
    view.open_slice(list(view.slices.rows)[-1])
    assert view.history.past == [] and view.questions[0]["off"] == [] and view.questions[0]["off_mode"] == "refilled"


def test_a_question_without_an_answer_keeps_the_answers_before(runs):
    view = AttentionView([runs["lstm2"]], runs["lstm2"].table.split("test"))
    view.open_slice(list(view.slices.rows)[0])
    [run] = view.runs
    run.ask()
    before = run.answers
    view.change([view.questions[0] | {"off": run.answers.slots}])
    with pytest.raises(InputError, match="leave at least one on"):
        run.ask()
    assert run.answers is before


def test_history_keeps_the_last_questions():
    history = History(most=3)
    for number in range(5):
        history.remember(number)
    assert history.past == [2, 3, 4] and history.undo(5) == 4 and history.future == [5]
    history.remember(4)
    assert history.future == [] and history.undo(6) == 4


def test_the_guard_takes_a_state_as_text_and_as_a_link():
    guard = StateGuard(1, {"colour": str, "at": float, "cells": [(str, bool)], "left": int | None})
    state = {"version": 1, "colour": "ä#1", "at": 2, "cells": [["a", True]], "left": None}
    for given in (state, json.dumps(state), f"http://x/lab#cw={json.dumps(state)}", f"#cw={quote(json.dumps(state))}"):
        read = guard.read(given)
        assert read == state and isinstance(read["at"], float) and read["cells"] is not state["cells"]
    for given in (None, 3, [], "", "[1]", "#cw=", '{"version": 1'):
        with pytest.raises(InputError, match="not a view"):
            guard.read(given)
    for change in (
        {"at": True},
        {"at": float("inf")},
        {"cells": [["a", 1]]},
        {"cells": [["a"]]},
        {"left": 0.5},
        {3: 4},
    ):
        with pytest.raises(InputError, match=re.escape(str(next(iter(change))))):
            guard.read(state | change)


def test_runs_side_by_side_share_their_regions(runs):
    explorer = AttentionExplorer([runs["lstm2"], runs["lstm2"]])
    first, second = explorer.panes
    assert (
        first.panel.slots == second.panel.slots
        and all(row["iou"] == pytest.approx(1, abs=0.02) and row["gap"] == 0 for row in explorer.difference.rows)
        and explorer.difference.rows
    )
    assert [pattern for pattern, _ in explorer.difference.cells if pattern in ("10", "01")] == []
    second.panel.off = [second.panel.slots[0]]
    assert first.verdict.answer == first.verdict.before and second.verdict.answer != second.verdict.before
    mixed = AttentionExplorer([runs["lstm2"], runs["affinity"]])
    assert (
        len(mixed.panes[1].affinity.matrix) == runs["affinity"].experiment.one_shot.roi_batch
        and mixed.panes[0].affinity.matrix == []
    )
    others = [one for one in mixed.panes[1].panel.slots if one >= 1000]
    first_ids, second_ids = (pane.view.open.ids for pane in mixed.panes)
    assert set(mixed.panes[1].panel.slots) <= set(second_ids) and not set(others) & set(first_ids)
    number = second_ids.index(mixed.panes[1].panel.slots[0])
    mixed.panes[1].panel.off = [mixed.panes[1].panel.slots[0]]
    assert (
        mixed.panes[1].verdict.answer["logits"]
        == answer(mixed.panes[1].read, Question(off=(number,))).logits[0].tolist()
    )
    with pytest.raises(InputError, match="4 runs"):
        AttentionExplorer([runs["lstm2"]] * 4)


@pytest.mark.parametrize("model", ["classifier", "mask-rcnn"])
def test_a_model_without_regions_shows_what_it_has(runs, model):
    pane = AttentionExplorer(runs[model]).panes[0]
    assert (
        pane.canvas.pixels
        and pane.panel.slots == []
        and "decides without regions" in pane.panel.empty_note
        and pane.orders.orderless
    )
    assert (
        (len(pane.verdict.answer["probabilities"]) == 3)
        if model == "classifier"
        else ("lesions, no class" in pane.verdict.note)
    )


def test_a_slice_without_lesions_and_labels(runs, tmp_path):
    "Black pictures: whatever the model finds there, the page has a verdict, and nothing breaks."
    for number in range(2):
        Image.fromarray(np.full((40, 64), 0, np.uint8)).save(tmp_path / f"{number}.png")
    explorer = AttentionExplorer(runs["lstm2"], tmp_path)
    pane = explorer.panes[0]
    assert (
        pane.canvas.shape == [40, 64]
        and pane.verdict.truth == ""
        and pane.canvas.truth == []
        and len(pane.verdict.answer["logits"]) == 3
    )
    assert [one["said"] for one in explorer.browser.slices] == [[], []]
    assert explorer.picture().svg.startswith("<svg")


def test_moved_data_is_said_and_found_again(runs, tmp_path):
    run = Run.open(shutil.copytree(runs["lstm2"].folder, tmp_path / "run"))
    document = json.loads((run.folder / "experiment.json").read_text())
    here = document["record"]["data_root"]
    document["record"] |= {"data_root": str(tmp_path / "gone"), "data_beside": "gone too"}
    (run.folder / "experiment.json").write_text(json.dumps(document))
    explorer = AttentionExplorer(Run.open(run.folder))
    pane = explorer.panes[0]
    assert (
        "gone" in pane.panel.empty_note
        and "the run said" in pane.verdict.note
        and explorer.moved.layout.display is None
        and pane.canvas.pixels == b""
    )
    said = []
    explorer.header.send = said.append
    explorer.look_in(tmp_path / "nowhere")
    assert "nowhere is not a folder" in said[0]["message"]
    explorer.look_in(here)
    assert pane.canvas.pixels and pane.panel.slots and explorer.moved.layout.display == "none"


def test_browsing_keeps_a_few_slices_only(runs, monkeypatch):
    table = runs["lstm2"].table
    many = SliceTable(
        pd.concat([table.frame.assign(id=table.frame["id"] + f"-{copy}") for copy in range(3)]), table.root
    )
    explorer, alive = AttentionExplorer(runs["lstm2"], many), []
    made = ReadSlice.__init__
    monkeypatch.setattr(
        ReadSlice, "__init__", lambda self, *given: (alive.append(weakref.ref(self)), made(self, *given))[1]
    )
    for slice_id in list(explorer.rows)[:30]:
        explorer.browser.slice = slice_id
    gc.collect()
    assert len(alive) >= 29 and sum(one() is not None for one in alive) <= KEPT
    assert all(dataset._held == {} for dataset in explorer.data)


def test_saved_views_stand_alone(runs, tmp_path):
    explorer = AttentionExplorer([runs["lstm2"], runs["affinity"]])
    explorer.panes[0].verdict.note = "</script><b>"  # a folder or a label may be called anything
    explorer.save(tmp_path / "view.svg")
    explorer.save(tmp_path / "view.html")
    drawn = tree.parse(tmp_path / "view.svg").getroot()
    words = " ".join(node.text or "" for node in drawn.iter() if node.tag.endswith("text"))
    assert "not a medical device" in words and explorer.header.where in words
    page = (tmp_path / "view.html").read_text()
    assert (
        not re.search(r'(src|href)="(?!data:)', page)
        and "import(" in page
        and not re.search(r"https?://(?!www\.w3\.org)", page)
    )
    told = json.loads(re.search(r'<script type="application/json" id="told">(.*?)</script>', page, re.S)[1])
    assert {part["kind"] for part in told["parts"]} >= {
        "SliceCanvas",
        "RankPanel",
        "VerdictPanel",
        "AffinityPanel",
        "DifferencePanel",
    } and told["links"]
    with pytest.raises(InputError, match="svg or .html"):
        explorer.save(tmp_path / "view.png")


def test_the_output_has_a_picture_where_widgets_cannot_run(runs):
    bundle = AttentionExplorer(runs["lstm2"])._repr_mimebundle_()
    assert (
        tree.fromstring(bundle["image/svg+xml"]).tag.endswith("svg")
        and "application/vnd.jupyter.widget-view+json" in bundle
    )


def test_where_to_begin(runs):
    table = runs["lstm2"].table.split("test").frame
    assert (
        AttentionExplorer(runs["lstm2"], patient=table["patient"].iloc[-1]).browser.slice
        == table.loc[table["patient"] == table["patient"].iloc[-1], "id"].iloc[0]
    )
    assert AttentionExplorer(runs["lstm2"], slice=table["id"].iloc[-1]).browser.slice == table["id"].iloc[-1]
    with pytest.raises(InputError, match="patient 'nobody' is not among"):
        AttentionExplorer(runs["lstm2"], patient="nobody")


def test_lab_notebooks_keep_what_is_yours(runs, tmp_path):
    made = explorer_notebooks(tmp_path / "explore", [runs["lstm2"].folder])
    assert {path.stem for path in made} == {"attention", "runs", "lesions", "data", "volumes"} and all(
        str(runs["lstm2"].folder.parent) in path.read_text() for path in made if path.stem != "volumes"
    )
    mine = json.loads(made[0].read_text())
    mine["cells"].append(
        {"cell_type": "code", "id": "mine", "metadata": {}, "source": "my = 1", "outputs": [], "execution_count": None}
    )
    made[0].write_text(json.dumps(mine))
    explorer_notebooks(tmp_path / "explore")
    assert "my = 1" in made[0].read_text() and str(runs["lstm2"].folder) in made[0].read_text()
    explorer_notebooks(tmp_path / "explore", [runs["affinity"].folder])
    assert "my = 1" in made[0].read_text() and str(runs["affinity"].folder) in made[0].read_text()
    with pytest.raises(InputError, match="is not a run"):
        explorer_notebooks(tmp_path / "explore", [tmp_path])
    assert Path(tmp_path / "explore").exists()


def test_effects_of_runs_side_by_side_are_on_one_class(runs, monkeypatch):
    "Where their verdicts differ, too: an effect on CP is not set against one on COVID-19."
    view = AttentionView([runs["lstm2"], runs["affinity"]], runs["lstm2"].table)
    first, second = view.runs
    ids = list(view.slices.rows)[:2]

    def otherwise(data, row, read, asked=second.own_answer):
        own = asked(data, row, read)
        least = int(np.argmin(first.open.own["logits"]))
        return own | {"logits": [float(at == least) for at in range(3)]}  # never what the first run says

    monkeypatch.setattr(second, "own_answer", otherwise)
    view.open_slice(ids[0])
    verdicts = [run.classes[int(np.argmax(run.open.own["logits"]))] for run in view.runs]
    assert verdicts[0] != verdicts[1] and first.effect_class == second.effect_class == verdicts[0] == view.shared_class
    view.choose_class(verdicts[1])
    view.open_slice(ids[1])
    assert first.effect_class == second.effect_class == verdicts[1]
    view.choose_class("")
    view.open_slice(ids[0])
    assert first.effect_class == second.effect_class == verdicts[0]
    monkeypatch.setattr(second, "classes", ("ill", "well"))
    view.choose_class(verdicts[0])
    second.effect_class, second.class_chosen = "ill", False
    assert view.shared_class == "" and not second.class_chosen  # and the page compares nothing
