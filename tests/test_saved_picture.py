"""A saved picture of a what-if shows what was asked: before and after, what is off and how, order, β, effects."""

import re
import xml.etree.ElementTree as tree

import numpy as np
import pytest

from covid_workbench.reports.pictures import slice_picture
from covid_workbench.reports.question_picture import asked_words, effect_bars, verdict_picture, verdict_words
from covid_workbench.widgets.explorer import AttentionExplorer


def words_in(svg: str) -> str:
    return " ".join(node.text or "" for node in tree.fromstring(svg).iter() if node.tag.endswith("text"))


def shown(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def test_a_what_if_is_told_whole(finished):
    explorer = AttentionExplorer(finished)
    (pane,) = explorer.panes
    plain = words_in(explorer.picture().svg)
    assert "→" not in plain and "All regions are on." in plain and "Order: distance." in plain
    pane.panel.off_mode, pane.panel.order = "zeroed", "reversed"
    pane.panel.off = [pane.panel.slots[1]]
    told = words_in(explorer.picture().svg)
    before, after = pane.verdict.before, pane.verdict.answer
    assert verdict_words(after, before, pane.verdict.truth) in told and "→" in told
    for said in (before, after):
        for chance, logit in zip(said["probabilities"], said["logits"]):
            assert f"{chance:.3f}" in told and shown(logit) in told
    assert "Order: reversed (the run: distance)." in told and f"β: {pane.panel.beta}." in told
    region = next(one for one in pane.canvas.regions if one["id"] == pane.panel.off[0])
    assert re.search(
        rf"Off, zeroed: 1 region, slot [\d and]*2[\d and]* \({region['name']} {region['score']:.2f}\)", told
    )
    assert pane.panel.effects and f"effect on {pane.panel.effect_class}" in told
    for value in pane.panel.effects.values():
        assert shown(value) in told
    own = next(iter(pane.agreement.found["refilled"].values()))
    assert f"refilled {shown(own['rho'])} (chance" in told


def test_a_picture_before_the_effects_says_so(finished):
    (pane,) = (explorer := AttentionExplorer(finished)).panes
    for part in pane.about_regions:
        part.effects = {}
    assert "effects not computed yet" in words_in(explorer.picture().svg)


def test_a_model_without_regions_has_its_verdict():
    said = {"classes": ["A", "B"], "logits": [1.0, -1.0], "probabilities": [0.88, 0.12]}
    alone = words_in(verdict_picture(said, {}, "A").svg)
    assert "A 0.88 (right)" in alone and "before" not in alone
    turned = said | {"logits": [-1.0, 1.0], "probabilities": [0.12, 0.88]}
    assert verdict_words(turned, said, "A") == "A 0.88 (right) → B 0.88 (wrong)"


def test_effects_stand_in_the_row_of_their_slot():
    drawn = tree.fromstring(effect_bars([0.5, None, -1.0], "A").svg)
    bars = [node for node in drawn.iter() if node.tag.endswith("rect")]
    heights, widths = ([float(bar.get(name)) for bar in bars] for name in ("y", "width"))
    assert heights == [45, 81] and widths[1] == pytest.approx(2 * widths[0], abs=0.2)
    zero = float(re.search(r"M([\d.]+) ", next(n.get("d") for n in drawn.iter() if n.tag.endswith("path")))[1])
    assert float(bars[0].get("x")) == zero and float(bars[1].get("x")) + widths[1] == pytest.approx(zero, abs=0.2)


def test_what_is_off_is_crossed_out():
    pixels, boxes = np.full((50, 50), 90, np.uint8), np.array([[5.0, 5, 20, 20], [25, 25, 40, 40]])
    kept = slice_picture(pixels, regions=boxes).svg
    crossed = slice_picture(pixels, regions=boxes, off=boxes[1:]).svg
    assert "M180.0 180.0L288.0 288.0" in crossed and "L288.0 288.0" not in kept and ">off<" in crossed
    assert slice_picture(pixels, regions=boxes, off=boxes[:0]).svg == kept


def test_a_question_as_the_run_asks_it_names_no_change():
    own = {"order": "distance", "beta": 8, "off_mode": "dropped"}
    assert "the run" not in " ".join(asked_words(own, own, []))
    assert "β: 6 (the run: 8)" in asked_words(own | {"beta": 6}, own, [])[0]
