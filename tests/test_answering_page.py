"""A saved page answers what is off: its tables are what the model answers, and every edge has its word."""

import base64
import json
import re
import zlib

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import tiny
from test_models import REGIONAL, model_of

from covid_workbench.errors import InputError
from covid_workbench.evaluation import answer_tables as module
from covid_workbench.evaluation.answer_tables import answer_table, answer_tables, refuse_table
from covid_workbench.evaluation.whatif import OFF_MODES, Question, ReadSlice, answer, effects
from covid_workbench.training.train import train
from covid_workbench.widgets.answering_page import chosen_slices, write_page
from covid_workbench.widgets.explorer import AttentionExplorer
from covid_workbench.widgets.telling import AGAINST, CHOSEN, RIGHT, WRONG, telling_slices


def close(found, wanted, name=""):
    "Equal to what float16 keeps."
    most = 4e-3 if name == "affinity" else 1e-3  # whose products enlarge the last digit
    np.testing.assert_allclose(found, wanted, rtol=most, atol=most)


@pytest.mark.parametrize("name", REGIONAL)
def test_rows_are_what_the_model_answers(name, slices):
    read = ReadSlice(model_of(name).eval(), slices[0][0])
    tables, whys = answer_tables(read)
    assert set(tables) == set(OFF_MODES) and whys == {}
    for mode, table in tables.items():
        assert len(table.players) == 6 and table.logits.dtype == table.weights.dtype == np.float16
        for off in ((), (0,), (1, 2, 4), (0, 1, 2, 3, 4)):
            asked, row = answer(read, Question(off=off, off_mode=mode)), table.row(off)
            close(table.logits[row], asked.logits[0], name)
            close(table.branches[row], asked.branch_logits[0], name)
            close(table.weights[row], asked.attention[0], name)
            slots = table.slots[row if len(table.slots) > 1 else 0]
            assert slots.tolist() == asked.rois.regions[0].tolist()
        found, wanted = table.effects((1,)), effects(read, Question(off=(1,), off_mode=mode))
        assert set(found) == set(wanted) & set(table.players)
        most = 1e-3 * max(4, *np.abs(table.logits.astype(float)).ravel())  # two numbers rounded
        for player, values in found.items():
            np.testing.assert_allclose(values, wanted[player], atol=most)


def test_weights_are_kept_where_they_are_small(slices, monkeypatch):
    read = ReadSlice(model_of("lstm2").eval(), slices[0][0])
    rich = answer_table(read, "zeroed")
    monkeypatch.setattr(module, "MOST_BYTES", 100)
    table = answer_table(read, "zeroed")
    assert table.weights is None and table.branches is None and table.bytes < rich.bytes
    np.testing.assert_array_equal(table.logits, rich.logits)
    assert table.effects((0, 1, 2, 3, 4)) == {}  # the only one on


def test_what_no_table_holds_is_said(slices):
    model = model_of("lstm1").eval()
    read = ReadSlice(model, slices[0][0])
    by_hand = Question(beta=6, sequence=(5, 4, 3, 2, 1, 0))
    tables, whys = answer_tables(read, by_hand)
    assert set(tables) == {"zeroed"} and all("order by hand" in why for why in whys.values())
    close(
        tables["zeroed"].logits[tables["zeroed"].row((2,))],
        answer(read, Question(None, 6, (2,), "zeroed", by_hand.sequence)).logits[0],
    )
    assert "further down" in refuse_table(read, "refilled", Question(off=(8,)))
    model.smallest_area = 1e9  # no region survives
    empty = ReadSlice(model, slices[0][0])
    assert answer_tables(empty)[0] == {} and "No region survived" in answer_tables(empty)[1]["zeroed"]
    with pytest.raises(InputError, match="P1_0: No region survived"):
        answer_table(empty, "dropped", name="P1_0")


def test_too_many_regions_are_said(slices):
    read = ReadSlice(model_of("mean-pool", roi_batch=12).eval(), slices[0][0])
    tables, whys = answer_tables(read)
    assert set(tables) == {"zeroed"} and "12 regions have 4,096 answers when dropped" in whys["dropped"]


def test_an_answer_that_is_no_number_is_refused_with_its_slice(slices):
    model = model_of("lstm2").eval()
    read = ReadSlice(model, slices[0][0])
    with torch.no_grad():
        next(model.image_head.aggregator.parameters()).fill_(torch.nan)
    with pytest.raises(InputError, match="P0001_1_0003: an answer .* is no number"):
        answer_table(read, "zeroed", name="P0001_1_0003")


def known_of(rows) -> pd.DataFrame:
    "What a run said, from (id, patient, label, predicted, p of that)."
    frame = pd.DataFrame(rows, columns=["id", "patient", "label", "predicted", "p"]).set_index("id")
    for name in ("Normal", "CP"):
        frame[f"p_{name}"] = [p if said == name else 1 - p for said, p in zip(frame["predicted"], frame["p"])]
    return frame


def chosen(found) -> list[tuple[str, str]]:
    return [(one.group, one.id) for one in found]


def test_the_surest_of_each_class_and_of_other_patients_come_first():
    known = known_of(
        [
            ("a1", "a", "CP", "CP", 0.99),
            ("a2", "a", "CP", "CP", 0.98),
            ("b1", "b", "CP", "CP", 0.9),
            ("c1", "c", "Normal", "Normal", 0.6),
            ("d1", "d", "CP", "Normal", 0.8),
            ("d2", "d", "CP", "Normal", 0.9),
            ("e1", "e", "", "CP", 1.0),
        ]
    )
    found = telling_slices(known, {"b1": -0.2, "c1": -0.9, "e1": 0.4, "a1": None}, 6)
    assert chosen(found) == [
        (RIGHT, "a1"),
        (RIGHT, "a2"),
        (WRONG, "d2"),
        (WRONG, "d1"),
        (AGAINST, "c1"),
        (AGAINST, "b1"),
    ]
    assert "ρ of attention and effect -0.90" in found[4].words and "CP (0.99), labelled CP" in found[0].words
    assert chosen(telling_slices(known, {}, 2)) == [(RIGHT, "a1"), (WRONG, "d2")]
    assert chosen(telling_slices(known, {}, 4))[:3] == [(RIGHT, "a1"), (RIGHT, "c1"), (WRONG, "d2")]  # the other class


def test_one_class_one_patient_no_labels_no_slices():
    alike = known_of([(f"a{n}", "a", "CP", "CP", 0.5 + n / 10) for n in range(3)])
    assert chosen(telling_slices(alike, {}, 2)) == [(RIGHT, "a2"), (RIGHT, "a1")]
    bare = known_of([("a1", "a", "", "CP", 0.9)])
    assert telling_slices(bare, {}, 5) == [] and chosen(telling_slices(bare, {"a1": -1.0}, 5)) == [(AGAINST, "a1")]
    assert telling_slices(alike.iloc[:0], {}, 5) == []


def told(path) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="told">(.*?)</script>', path.read_text(), re.S)[1])


def half(packed) -> np.ndarray:
    return np.frombuffer(zlib.decompress(base64.b64decode(packed["deflate"])), "<f2").astype(float)


def test_a_page_of_a_run_carries_its_answers(finished, tmp_path):
    path, found = write_page(finished, tmp_path / "page.html", count=3, look=4, progress=False)
    page, explorer = told(path), AttentionExplorer(finished)
    assert [one["name"] for one in page["slices"]] == [one.id for one in found] and 1 <= len(found) <= 3
    assert not re.search(r'(src|href)="(?!data:)|https?://(?!www\.w3\.org)', path.read_text())
    for one in page["slices"]:
        explorer.browser.slice, (pane,) = one["name"], one["panes"]
        read = explorer.panes[0].read
        for mode, table in pane["tables"].items():
            logits, off = half(table["logits"]).reshape(2 ** len(table["players"]), -1), tuple(table["players"][1:])
            close(logits[1], answer(read, Question(off=off, off_mode=mode)).logits[0])
        assert pane["whole"]["logits"] == answer(read).logits[0].tolist() and pane["whole"]["weights"]
        assert pane["saved"]["orders"] and page["parts"][pane["parts"]["panel"]]["kind"] == "RankPanel"


def test_the_explorer_saves_what_was_off(finished, tmp_path):
    explorer = AttentionExplorer(finished)
    panel = explorer.panes[0].panel
    panel.off_mode, panel.off = "zeroed", [panel.slots[0]]
    explorer.save(tmp_path / "view.html")
    (pane,) = told(tmp_path / "view.html")["slices"][0]["panes"]
    assert pane["saved"]["off"] == panel.off and pane["saved"]["off_mode"] == "zeroed"
    assert pane["whole"]["logits"] == pytest.approx(answer(explorer.panes[0].read).logits[0].tolist())


def test_slices_are_named_or_refused(finished, tmp_path):
    explorer = AttentionExplorer(finished)
    name = list(explorer.rows)[-1]
    assert chosen(chosen_slices(explorer, [name, name])) == [(CHOSEN, name)]
    with pytest.raises(InputError, match="slice 'nobody' is not among these"):
        write_page(finished, tmp_path / "a.html", ids=["nobody"])
    with pytest.raises(InputError, match="a page is an .html file"):
        write_page(finished, tmp_path / "a.png")
    explorer.view.runs[0].known = None
    with pytest.raises(InputError, match="no classes predicted .* covid-workbench evaluate"):
        chosen_slices(explorer)


def test_a_model_without_regions_has_a_page_without_answers(tmp_path):
    run = train(tiny(model="classifier"), tmp_path / "run", progress=False)
    first = run.scored_table().split("test").frame["id"].iloc[0]
    path, _ = write_page(run, tmp_path / "page.html", ids=[first], progress=False)
    assert "tables" not in told(path)["slices"][0]["panes"][0]
