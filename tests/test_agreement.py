"""The agreement card: sizes and not signs, chance at that number of regions, ties, all off modes beside each other."""

import asyncio
from itertools import permutations

import numpy as np
import pytest
import torch
from test_models import model_of

from covid_workbench.evaluation.agreement import agreement_of, drawn_orders, reach_of_chance, statistics_words
from covid_workbench.evaluation.rank_checks import chance_of, rho
from covid_workbench.evaluation.whatif import OFF_MODES, Question, ReadSlice, _slots_per_slice, agreement, answer
from covid_workbench.evaluation.whatif import attention_of_regions as weights_of
from covid_workbench.evaluation.whatif import effects as effects_of
from covid_workbench.models.protocol import Protocol
from covid_workbench.widgets.explorer import AttentionExplorer

ISSUE = [1.0, 0, 0, 0, 0, 0, 0, 0], [-0.16, -1.9, -2.2, -2.6, -2.9, -3.1, -3.5, -3.9]


@pytest.mark.parametrize("count", (5, 6, 7))
def test_chance_is_that_of_all_orders(count):
    every = [abs(rho(range(count), order)) for order in permutations(range(count))]
    reach = reach_of_chance(range(count), range(count))
    beyond = np.mean(np.array(every) > reach + 1e-9)
    assert 0.015 < beyond <= 0.055  # 5 in 100, as near as so few orders and 2,000 draws come
    assert np.mean(np.array(every) >= reach - 1e-9) > 0.045


def test_what_is_beyond_chance_is_rare_by_the_other_rule_too():
    draws = np.random.default_rng(0)
    for _ in range(30):
        one, other = draws.normal(size=8), draws.normal(size=8).round()  # ties
        found = agreement_of(one, other)
        share = min(chance_of(np.abs(one), np.abs(other)), chance_of(np.abs(one), -np.abs(other)))
        if share < 0.015:
            assert found.verdict != "chance", found
        if share > 0.035:
            assert found.verdict == "chance", found


def test_random_orders_are_fair():
    orders = drawn_orders(6)
    assert (np.sort(orders) == np.arange(6)).all()
    shares = np.array([[(orders[:, place] == region).mean() for region in range(6)] for place in range(6)])
    assert abs(shares - 1 / 6).max() < 0.035


def test_a_weight_on_the_region_that_matters_least_is_no_agreement():
    assert rho(*ISSUE) == pytest.approx(0.577, abs=1e-3)  # what signed effects had said
    found = agreement_of(*ISSUE)
    assert found.rho == pytest.approx(-0.577, abs=1e-3) == agreement(*ISSUE) and found.verdict == "chance"
    assert found.alike == 7 and found.reach == pytest.approx(0.577, abs=1e-3)


def test_what_looks_alike_carries_no_claim():
    weights = [0.9, *(1e-5 * place for place in range(7))]
    found = agreement_of(weights, [8, 0, 1, 2, 3, 4, 5, 6])
    assert found.rho == 1 and found.verdict == "ties" and found.tied < 0.6
    assert agreement_of(np.arange(8) / 8, [-1, 2, -3, 4, -5, 6, -7, 8]).verdict == "agrees"  # whatever the signs
    assert agreement_of(np.arange(8) / 8, range(8, 0, -1)).verdict == "against"
    assert (
        agreement_of([1, 1, 1, 1], [1, 2, 3, 4]).flat == "attention" and agreement_of([1, 2, 3], [1, 2, 3]).rho is None
    )


def test_the_card_shows_every_off_mode(finished):
    explorer = AttentionExplorer(finished)
    (pane,) = explorer.panes
    pane.panel.off_mode, pane.panel.off = "zeroed", [pane.panel.slots[0]]
    assert pane.agreement.off_mode == "zeroed" and set(pane.agreement.found) == set(OFF_MODES)
    assert pane.agreement.refused == {} and "statistics=" in pane.agreement.statistics
    gone = pane.view.open.ids.index(pane.panel.off[0])
    number = pane.classes.index(pane.view.effect_class)
    for mode, branches in pane.agreement.found.items():
        question = Question(off=(gone,), off_mode=mode)
        weights = weights_of(answer(pane.read, question))
        values = {one: value[number] for one, value in effects_of(pane.read, question).items()}
        wanted = agreement_of([weights[one][0] for one in values], list(values.values()))
        (own,) = branches.values()
        assert own["regions"] == len(values) and own["verdict"] == wanted.verdict
        assert own["rho"] == pytest.approx(wanted.rho) and own["reach"] == pytest.approx(wanted.reach)


def test_the_asked_mode_comes_before_the_others(finished):
    (pane,) = AttentionExplorer(finished).panes
    pane.panel.off_mode = "refilled"
    pane.ask()
    shown = []
    pane.agreement.observe(lambda change: shown.append(list(change["new"])), "found")
    asyncio.run(pane.fill_effects())
    asyncio.run(pane.fill_modes())
    assert shown[0] == ["refilled"] and sorted(shown[-1]) == sorted(OFF_MODES)


def test_a_mode_that_leaves_no_region_says_why(finished):
    (pane,) = AttentionExplorer(finished).panes
    pane.panel.off_mode = "zeroed"
    pane.panel.off = list(dict.fromkeys(pane.panel.slots))
    assert pane.panel.off and "leave at least one on" in pane.agreement.refused["dropped"]
    assert set(pane.agreement.found) | set(pane.agreement.refused) == set(OFF_MODES)


@pytest.mark.parametrize("statistics", ("image", "running"))
def test_statistics_are_what_moves_the_other_regions(statistics, slices):
    model = model_of("lstm2", statistics=statistics).eval()
    read = ReadSlice(model, slices[0][0])
    features = model.regions.enlarge(model.detector.roi_heads, read.features[:6])
    found = []
    for count in (3, 6):
        with torch.no_grad(), _slots_per_slice(model, count):
            found.append(model.image_head.vectors(features[None, :count])[0, :3])
    moved = float((found[0] - found[1]).abs().max()) > 1e-4
    words = statistics_words(model, Protocol(statistics=statistics))
    assert moved == ("moves the vectors of all others" in words) == (statistics == "image")
    assert f"statistics={statistics}" in words
    assert statistics_words(model_of("mask-rcnn"), Protocol()) == ""
