"""What-if questions: asking nothing is the model's own answer; what is asked is what is computed."""

import numpy as np
import pytest
import torch
from test_models import REGIONAL, close, model_of

from covid_workbench.errors import InputError
from covid_workbench.evaluation.whatif import (
    OFF_MODES,
    Question,
    ReadSlice,
    answer,
    attention_of_regions,
    effects,
    orders,
    slots_of,
)
from covid_workbench.models.rois import RANKINGS


@pytest.mark.parametrize("protocol", ["default", "released"])
@pytest.mark.parametrize("name", REGIONAL)
def test_asking_nothing_is_the_models_answer(name, protocol, slices):
    model = model_of(name, protocol=protocol).eval()
    for image in slices[0]:  # the last one is black
        with torch.no_grad():
            own = model(image[None], detections=False, seeds=[0]).evidence
        ours = answer(ReadSlice(model, image))
        for part in ("logits", "attention", "branch_logits"):
            close(getattr(ours, part), getattr(own, part))
        close(ours.rois.boxes, own.rois.boxes)


@pytest.mark.parametrize("name", REGIONAL)
def test_another_order_is_the_model_with_that_order(name, slices):
    read = ReadSlice(model_of(name).eval(), slices[0][0])
    for ranking in RANKINGS:
        with torch.no_grad():
            own = model_of(name, ranking=ranking).eval()(slices[0][:1], detections=False).evidence
        close(answer(read, Question(ranking)).logits, own.logits)


@pytest.mark.parametrize("name", REGIONAL)
def test_a_region_that_is_off_is_gone(name, slices):
    model = model_of(name).eval()
    read = ReadSlice(model, slices[0][0])
    chosen = set(slots_of(read))
    assert len(read) > len(chosen) == 6
    gone, spare = slots_of(read)[2], max(chosen) + 1
    for mode in OFF_MODES:
        assert answer(read, Question(off=(spare + 1,), off_mode=mode)) is answer(read)  # it played no part
    assert set(slots_of(read, Question(off=(gone,)))) == chosen - {gone}
    assert set(slots_of(read, Question(off=(gone,), off_mode="refilled"))) == chosen - {gone} | {spare}
    assert slots_of(read, Question(off=(gone,), off_mode="zeroed")) == slots_of(read)
    assert (
        len(
            {tuple(answer(read, Question(off=(gone,), off_mode=mode)).logits[0].tolist()) for mode in OFF_MODES}
            | {tuple(answer(read).logits[0].tolist())}
        )
        == 4
    )
    with pytest.raises(InputError, match="all regions are off"):
        answer(read, Question(off=tuple(range(len(read)))))


@pytest.mark.parametrize("name", ["lstm2", "affinity"])
def test_effects_are_differences_of_logits(name, slices):
    read = ReadSlice(model_of(name).eval(), slices[0][0])
    found = effects(read)
    assert set(found) == set(slots_of(read)) == set(attention_of_regions(answer(read)))
    for number, effect in found.items():
        np.testing.assert_allclose(
            effect, (answer(read).logits - answer(read, Question(off=(number,))).logits)[0], atol=1e-6
        )
    assert len(orders(read, random=5)) == len(RANKINGS) + 5


@pytest.mark.parametrize("name", ["lstm1", "lstm2", "mean-pool", "max-pool", "gated-attention"])
def test_another_number_of_regions(name, slices):
    read = ReadSlice(model_of(name).eval(), slices[0][0])
    with torch.no_grad():
        own = model_of(name, roi_batch=4).eval()(slices[0][:1], detections=False).evidence
    close(answer(read, Question(beta=4)).logits, own.logits)
    close(answer(read).logits, answer(ReadSlice(model_of(name).eval(), slices[0][0])).logits)  # and back


def test_weights_for_slots_hold_the_number_of_regions(slices):
    with pytest.raises(InputError, match="β cannot change"):
        answer(ReadSlice(model_of("attention").eval(), slices[0][0]), Question(beta=4))


def test_a_model_without_regions_has_nothing_to_ask(slices):
    with pytest.raises(InputError, match="without regions"):
        ReadSlice(model_of("classifier"), slices[0][0])
