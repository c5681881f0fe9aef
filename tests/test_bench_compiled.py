"What is compiled is timed beside what is not, where it is chosen, and has its answers."

import shutil

import pytest
import torch
from test_models import close, model_of

from covid_workbench.bench_commands import COMPILED as IN_COMMANDS
from covid_workbench.models import execution
from covid_workbench.models.execution import COMPILED, Execution
from covid_workbench.speed import other_parts, training
from covid_workbench.speed.workload import Choice


def test_every_way_has_a_compiled_twin_where_that_is_chosen():
    assert IN_COMMANDS == COMPILED
    assert list(Choice().executions()) == ["fp32"]
    ways = Choice(precision="bf16", compile="parts").executions()
    assert list(ways)[:3] == list(Choice(precision="bf16").executions())
    for name in list(ways)[:3]:
        twin, own = ways[f"{name}, compiled"], ways[name]
        assert (twin.precision, twin.channels_last, twin.compile) == (own.precision, own.channels_last, "parts")
    assert Choice(compile="parts").about()["compile"] == "parts"


def test_the_aggregator_is_timed_once_as_nothing_of_it_is_compiled(monkeypatch):
    monkeypatch.setattr(training, "SIZES", {"small preset": ("smoke", 1.0)})
    figures = list(training.aggregator_figures(Choice(rounds=1, compile="parts"), batch=2))
    assert [own.name.split(", ")[1] for own in figures] == ["fp32"]


def test_the_time_of_a_score_holds_all_comparisons(monkeypatch):
    "Also those of slices that wait for others when the last one was added."
    left, usual = [], other_parts.timed

    def timed(work):
        seconds = usual(work)
        held = [own.cell_contents for own in work.__closure__]
        left.extend((len(own), len(own._waiting)) for own in held if isinstance(own, other_parts.CocoScorer))
        return seconds

    monkeypatch.setattr(other_parts, "timed", timed)
    other_parts._seconds_to_score(Choice(size=128, rounds=1), 3, other_parts.OBJECT_CLASSES["lesions"])
    assert left == [(3, 0)]


@pytest.mark.skipif(not shutil.which("g++"), reason="needs a C++ compiler")
@torch.no_grad()
def test_compiled_parts_have_the_same_answers_for_every_number_of_slices(monkeypatch):
    "With the head of the proposals, which is compiled in seconds; `bench` compares the answers of the whole network."
    monkeypatch.setattr(execution, "parts_of_fixed_shape", lambda model: [model.detector.rpn.head])
    torch._dynamo.reset()
    model, images = model_of("lstm2").eval(), torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    usual = [model(images[:count]) for count in (1, 3)]
    Execution(compile="parts").applied(model)
    for count, before in zip((1, 3), usual):
        after = model(images[:count])
        close(after.evidence.logits, before.evidence.logits)
        close(after.detections[0]["boxes"], before.detections[0]["boxes"], 1e-3)
