"""Answers to every subset of regions: those of one question at a time, whatever the model normalises over."""

import dataclasses

import numpy as np
import pytest
import torch
from test_models import REGIONAL, model_of

from covid_workbench.errors import InputError
from covid_workbench.evaluation import coalitions
from covid_workbench.evaluation.coalitions import (
    MOST_PLAYERS,
    all_answers,
    answers_to,
    independent,
    players_of,
    subset_slots,
    subsets,
)
from covid_workbench.evaluation.whatif import OFF_MODES, Question, ReadSlice, answer, slots_of


def one_by_one(read: ReadSlice, question: Question, rows: list[int], players: tuple[int, ...]) -> np.ndarray:
    "Logits (n, K) of subsets, each asked for itself."
    off = [tuple(player for at, player in enumerate(players) if not row >> at & 1) for row in rows]
    asked = [dataclasses.replace(question, off=own) for own in off]
    return np.concatenate([answer(read, own).logits.numpy() for own in asked])


@pytest.mark.parametrize("protocol", ["default", "released"])
@pytest.mark.parametrize("name", REGIONAL)
def test_a_batch_of_subsets_is_each_for_itself(name, protocol, slices):
    read = ReadSlice(model_of(name, protocol=protocol).eval(), slices[0][0])
    tables = [all_answers(read, mode) for mode in OFF_MODES]
    for table in tables:
        assert table.players == players_of(read) == tuple(range(6)) and table.logits.shape == (64, 3)
        rows = [1, 22, 43, 62, 63]
        alone = one_by_one(read, Question(off_mode=table.off_mode), rows, table.players)
        close = 5e-4 if name == "affinity" else 2e-5  # whose products enlarge the last digit
        np.testing.assert_allclose(table.logits[rows], alone, atol=close, rtol=1e-4)
    if name.startswith("lstm"):  # the others say nearly the same whatever is off, with random weights
        assert all(len(np.unique(table.logits.round(6), axis=0)) > 8 for table in tables)


@pytest.mark.parametrize("name", REGIONAL)
def test_no_region_is_the_whole_slice(name, slices):
    "As the model has it where none survived: in a black picture."
    model = model_of(name).eval()
    read = ReadSlice(model, slices[0][0])
    with torch.no_grad():
        regions = read.whole.expand(read.beta, *read.whole.shape[1:])[None]
        alone = model.answer(regions).logits.numpy()
    found = answers_to(read, np.zeros((1, 6), bool))
    np.testing.assert_allclose(found, alone, atol=1e-6)


def test_a_slice_without_regions_has_nothing_to_explain(slices):
    model = model_of("lstm1").eval()
    model.smallest_area = 1e9  # no region survives
    read = ReadSlice(model, slices[0][0])
    assert read.empty
    torch.testing.assert_close(read.features[:1], read.whole)
    with pytest.raises(InputError, match="nothing to explain"):
        all_answers(read)


@pytest.mark.parametrize("mode", OFF_MODES)
def test_slots_are_those_of_the_question(mode, slices):
    "In another order, with another number of slots."
    read = ReadSlice(model_of("lstm1").eval(), slices[0][0])
    for question in (Question("reversed", off_mode=mode), Question("score", 4, off_mode=mode)):
        players, on = players_of(read, question), subsets(len(players_of(read, question)))
        slots, zeroed = subset_slots(read, on, question)
        for row in range(1, len(on)):
            off = tuple(np.array(players)[~on[row]].tolist())
            assert tuple(slots[row].tolist()) == slots_of(read, dataclasses.replace(question, off=off))
            gone = {slots[row][slot] for slot in np.flatnonzero(zeroed[row])}
            assert gone == (set(off) if mode == "zeroed" else set())
        assert (slots[0] == len(read)).all() == (mode == "dropped")  # the others move in, or keep their slots


def test_refills_come_from_the_candidates_behind(slices):
    read = ReadSlice(model_of("lstm1").eval(), slices[0][0])
    slots, _ = subset_slots(read, np.zeros((1, 6), bool), Question(off_mode="refilled"))
    assert set(slots[0]) == set(range(6, min(12, len(read))))


@pytest.mark.parametrize("name", ["lstm2", "attention"])
def test_one_vector_a_region_where_the_others_do_not_matter(name, slices, monkeypatch):
    "The quick way gives what the long way does, and is taken only then."
    model = model_of(name).eval()
    layers = [own for own in model.image_head.modules() if hasattr(own, "evaluation")]
    assert layers
    read = ReadSlice(model, slices[0][0])
    for evaluation in ("image", "running"):
        for layer in layers:
            layer.evaluation = evaluation
        assert independent(model) == (evaluation == "running")
        quick = all_answers(read, "dropped").logits
        monkeypatch.setattr(coalitions, "independent", lambda own: False)
        np.testing.assert_allclose(quick, all_answers(read, "dropped").logits, atol=1e-5)
        monkeypatch.undo()


def test_small_batches_change_nothing(slices, monkeypatch):
    read = ReadSlice(model_of("lstm2").eval(), slices[0][0])
    whole = all_answers(read, "refilled").logits
    monkeypatch.setattr(coalitions, "AT_ONCE", 1)
    np.testing.assert_allclose(all_answers(read, "refilled").logits, whole, atol=1e-5)


def test_too_many_regions_are_refused_with_the_number_of_their_answers(slices):
    read = ReadSlice(model_of("lstm1").eval(), slices[0][0])
    beta = MOST_PLAYERS["dropped"] + 1
    if len(read) < beta:
        pytest.fail("the slice has too few candidates for this test")
    with pytest.raises(InputError, match="2,048 on/off answers"):
        all_answers(read, "dropped", Question(beta=beta))
