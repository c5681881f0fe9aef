"""What regions are worth: by brute force, by captum, and by the answers to one question at a time."""

from itertools import permutations

import captum.attr
import numpy as np
import pytest
import torch
from test_models import REGIONAL, model_of

from covid_workbench.errors import InputError
from covid_workbench.evaluation import shapley as module
from covid_workbench.evaluation.coalitions import all_answers, answers_to
from covid_workbench.evaluation.region_gradients import gradient_times_input, integrated_gradients, slot_vectors
from covid_workbench.evaluation.shapley import (
    alone,
    best_orders,
    deletion,
    insertion,
    left_out,
    sampled_shapley,
    shapley,
    worth,
    worth_of,
)
from covid_workbench.evaluation.whatif import OFF_MODES, Question, ReadSlice, effects, slots_of


def number(players) -> int:
    "The row of a subset."
    return sum(1 << player for player in players)


@pytest.fixture
def game() -> np.ndarray:
    "Random answers of two classes to all subsets of five players."
    return np.random.default_rng(1).normal(size=(32, 2))


def test_shapley_values_are_means_over_all_orders(game):
    found = np.zeros((5, 2))
    for order in permutations(range(5)):
        for at, player in enumerate(order):
            found[player] += game[number(order[: at + 1])] - game[number(order[:at])]
    np.testing.assert_allclose(shapley(game), found / 120, atol=1e-12)


def test_shapley_values_share_what_regions_do_together(game):
    "Efficiency, symmetry, nothing for who does nothing, linearity."
    np.testing.assert_allclose(shapley(game).sum(0), game[-1] - game[0])
    on = (np.arange(8)[:, None] >> np.arange(3)) & 1
    twins = (on[:, :1] * on[:, 1:2]).astype(float)
    assert shapley(twins).ravel().tolist() == [0.5, 0.5, 0.0]
    np.testing.assert_allclose(shapley(2 * game[:, :1] + game[:, 1:]), 2 * shapley(game)[:, :1] + shapley(game)[:, 1:])
    assert shapley(np.array([[1.0], [4.0]])).ravel().tolist() == [3.0]  # a single region


def test_tables_that_are_none_are_refused(game):
    with pytest.raises(InputError, match="power of two"):
        shapley(game[:-1])
    for order in ([0, 1], [0, 1, 2, 3, 3]):
        with pytest.raises(InputError, match="each of 5 regions"):
            deletion(game, order)


def test_curves_are_rows_of_the_table(game):
    order = [3, 0, 4, 1, 2]
    added, gone = insertion(game, order), deletion(game, order)
    for steps in range(6):
        assert (added[steps] == game[number(order[:steps])]).all()
        assert (gone[steps] == game[number(order[steps:])]).all()
    means = [deletion(game, list(own))[:, 0].mean() for own in permutations(range(5))]
    np.testing.assert_allclose(best_orders(game[:, 0]), (min(means), max(means)))


@pytest.mark.parametrize("mode", OFF_MODES)
@pytest.mark.parametrize("name", ["lstm2", "attention"])
def test_leaving_one_out_is_the_effect_of_a_region(name, mode, slices):
    read = ReadSlice(model_of(name).eval(), slices[0][0])
    table = all_answers(read, mode)
    found = effects(read, Question(off_mode=mode))
    np.testing.assert_allclose(left_out(table.logits), [found[player] for player in table.players], atol=5e-5)
    none, first = answers_to(read, np.arange(6) < np.array([[0], [1]]), Question(off_mode=mode))
    np.testing.assert_allclose(alone(table.logits)[0], first - none, atol=5e-5)


def by_player(read: ReadSlice, values: torch.Tensor, question: Question) -> np.ndarray:
    "Captum's values (1, β, C) of slots as those of regions."
    slots = np.array(slots_of(read, question))
    per_slot = values[0].sum(-1).detach().numpy()
    return np.array([per_slot[slots == player].sum() for player in sorted(set(slots.tolist()))])


@pytest.mark.parametrize("protocol", ["default", "released"])
@pytest.mark.parametrize("name", REGIONAL)
def test_gradients_are_those_of_captum(name, protocol, slices):
    read = ReadSlice(model_of(name, protocol=protocol).eval(), slices[0][0])
    x, _, aggregate = slot_vectors(read)
    x = x.requires_grad_()  # else captum does, with a warning
    ours, (along, missed) = gradient_times_input(read), integrated_gradients(read, steps=20)
    simple, integrated = captum.attr.InputXGradient(aggregate), captum.attr.IntegratedGradients(aggregate)
    for label in range(3):
        theirs = by_player(read, simple.attribute(x[None], target=label), Question())
        np.testing.assert_allclose(ours[:, label], theirs, atol=1e-6, rtol=1e-5)
        theirs = by_player(read, integrated.attribute(x[None], target=label, n_steps=20), Question())
        np.testing.assert_allclose(along[:, label], theirs, atol=1e-6, rtol=1e-4)
    both = answers_to(read, np.array([[False] * 6, [True] * 6]), Question(off_mode="zeroed"))
    np.testing.assert_allclose(along.sum(0) - missed, both[1] - both[0], atol=1e-3 if name == "affinity" else 1e-5)


def test_regions_in_several_slots_are_one(slices):
    "Three of its six slots are left when half of the candidates are gone: each region stands in two."
    read = ReadSlice(model_of("lstm2").eval(), slices[0][0])
    question = Question(off=(), beta=None, sequence=(0, 0, 1, 1, 2, 2))
    ours = gradient_times_input(read, question)
    x, slots, aggregate = slot_vectors(read, question)
    assert slots == (0, 0, 1, 1, 2, 2) and ours.shape == (3, 3)
    theirs = by_player(
        read, captum.attr.InputXGradient(aggregate).attribute(x[None].requires_grad_(), target=1), question
    )
    np.testing.assert_allclose(ours[:, 1], theirs, atol=1e-6)


@pytest.mark.parametrize("name", ["lstm2", "attention", "ct-mask-net"])
def test_shapley_values_are_those_of_captum(name, slices):
    "Vectors set to zero, all orders."
    read = ReadSlice(model_of(name, roi_batch=4).eval(), slices[0][0])
    x, slots, aggregate = slot_vectors(read)
    parts = torch.tensor(slots)[None, :, None].expand(1, *x.shape).contiguous()
    found = worth(all_answers(read, "zeroed"))
    oracle = captum.attr.ShapleyValues(aggregate)
    for label in range(3):
        theirs = oracle.attribute(x[None], target=label, feature_mask=parts)[0, :, 0].detach().numpy()
        np.testing.assert_allclose(found.values[list(slots), label], theirs, atol=1e-6, rtol=1e-5)


def test_sampled_values_come_with_their_error(slices, monkeypatch):
    read = ReadSlice(model_of("lstm2").eval(), slices[0][0])
    exact = worth_of(read, "refilled")
    assert exact.orders == 0 and not exact.error.any() and "exact" in repr(exact)
    few, many = (sampled_shapley(read, "refilled", orders=orders, seed=2) for orders in (10, 250))
    assert many.error.max() < few.error.max() / 3
    assert (np.abs(many.values - exact.values) <= 4 * many.error + 1e-6).all()
    np.testing.assert_allclose(few.values.sum(0), exact.values.sum(0), atol=1e-5)  # each order adds up
    again = sampled_shapley(read, "refilled", orders=10, seed=2)
    assert (again.values == few.values).all() and again.orders == 10
    monkeypatch.setitem(module.MOST_PLAYERS, "refilled", 5)
    assert worth_of(read, "refilled", orders=12).orders == 12
    with pytest.raises(InputError, match="at least 4"):
        sampled_shapley(read, orders=3)


def test_an_order_and_its_reverse_cancel_what_pairs_do(monkeypatch):
    monkeypatch.setattr(module, "players_of", lambda read, question: (0, 1, 2, 3, 4))
    monkeypatch.setattr(module, "answers_to", lambda read, on, question: on.sum(1, keepdims=True) ** 2)
    found = sampled_shapley(None, orders=8)
    assert found.values.ravel().tolist() == [5.0] * 5 and not found.error.any()
