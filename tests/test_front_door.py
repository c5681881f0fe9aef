"""The front door: what `import covid_workbench as cw` promises, from a name to a picture."""

import inspect
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import TINY

import covid_workbench as cw
from covid_workbench.data.phantom import PhantomSettings
from covid_workbench.evaluation.whatif import Question, ReadSlice, answer
from covid_workbench.models.aggregators import AGGREGATORS
from covid_workbench.models.cards import CARDS
from covid_workbench.models.oneshot import MODELS
from covid_workbench.training.train import weights_hash

RUN_SETTINGS = ("image_size", "phantom_patients", "phantom_slices", "phantom_size", "validate_every", "threads")
OF_THE_RUN = {name: value for name, value in TINY.items() if name in RUN_SETTINGS}
OF_THE_MODEL = {name: value for name, value in TINY.items() if name not in RUN_SETTINGS} | dict(
    mask_channels=0, roi_batch=4, cut="layer2", object_classes=1
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantom") / "slices"
    return cw.phantom(patients=18, folder=folder, slices=2, size=96, progress=False)


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    run = cw.train("lstm2", data, tmp_path_factory.mktemp("runs") / "a", preset="smoke", progress=False, **TINY)
    run.evaluate(progress=False)
    return run


def test_the_package_is_imported_without_torch():
    code = (
        "import sys, time; started = time.perf_counter(); import covid_workbench as cw; "
        "names = dir(cw); assert 'torch' not in sys.modules and 'pandas' not in sys.modules; "
        "assert set(cw.__all__) <= set(names); assert issubclass(cw.InputError, Exception); "
        "assert 'torch' not in sys.modules; cw.create_model; assert 'torch' in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_every_name_is_there_documented_with_an_example():
    for name in cw.__all__:
        value = getattr(cw, name)
        assert inspect.getdoc(value), name
        if inspect.isfunction(value):
            assert ">>>" in value.__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'create_modle'"):
        cw.create_modle  # noqa: B018


def test_models_by_name():
    assert cw.list_models("lstm*") == ["lstm1", "lstm2"] and len(cw.list_models()) == len(CARDS)
    model = cw.create_model("lstm2", backbone="resnet34", num_classes=3)
    assert model.settings.classes == ("Normal", "CP", "COVID-19")
    assert cw.create_model("classifier", "resnet18", num_classes=5)(
        torch.randn(1, 3, 64, 64)
    ).evidence.logits.shape == (1, 5)
    assert cw.create_model("lstm2", num_classes=2, classes=("A", "B")).settings.classes == ("A", "B")
    for wrong in (dict(num_classes=1), dict(num_classes=2, classes=("A", "B", "C")), dict(bakbone="resnet18")):
        with pytest.raises(cw.InputError):
            cw.create_model("lstm2", **wrong)


def test_slices_of_a_folder(data):
    assert len(cw.open_slices(data.root)) == len(data) == 36
    again = cw.phantom(patients=18, folder=data.root, slices=2, size=96, progress=False)
    assert again.frame.equals(data.frame)
    with pytest.raises(cw.InputError, match="did you mean 'slices'"):
        cw.phantom(patients=2, slice=2)
    with pytest.raises(cw.InputError, match="no such data folder"):
        cw.open_slices(data.root / "nowhere")


def test_phantoms_are_kept_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("COVID_WORKBENCH_CACHE", str(tmp_path))
    one, other = (cw.phantom(2, size=64, slices=slices, progress=False) for slices in (1, 2))
    assert len(one) == 2 and len(other) == 4 and one.root != other.root
    assert one.root.is_relative_to(tmp_path) and PhantomSettings(size=64).size == 64


def test_a_run_answers(run, data):
    assert run.complete and len(run.history) and run.model.training is False
    again = cw.open_run(run.folder)
    assert again.predictions["id"].tolist() == run.predictions["id"].tolist()
    assert run.metrics["test"]["classification"]["weighted_f1"] >= 0
    stored = data.read(3)
    path = data.root / data.frame["image"].iloc[3]
    answers = [
        run.predict(inputs) for inputs in (path, stored.pixels, stored, data.where(data.frame["id"] == stored.id))
    ]
    logits = [answer[0].logits for answer in answers]
    for other in logits[1:]:
        np.testing.assert_allclose(logits[0], other, atol=1e-5)
    regions = answers[0].regions
    assert list(regions.columns) == [
        "slice", "rank", "region", "x0", "y0", "x1", "y1", "score", "distance", "positive", "negative",
    ]  # fmt: skip
    assert regions["distance"].is_monotonic_increasing and regions["rank"].tolist() == [1, 2, 3, 4]
    np.testing.assert_allclose(regions[["positive", "negative"]].sum(), 1, atol=1e-5)
    assert "<img" in answers[0].picture()._repr_html_() and "p_CP" in answers[0]._repr_html_()


def test_many_slices_at_once(run, data):
    both = run.predict([data.read(0).pixels, data.read(1).pixels])
    assert len(both) == 2 and both.classes["slice"].tolist() == ["array 0", "array 1"]
    np.testing.assert_allclose(both[1].logits, run.predict(data.read(1).pixels)[0].logits, rtol=1e-4, atol=1e-5)
    everything = run.predict(data, score=0.0)
    assert isinstance(everything.lesions, pd.DataFrame) and len(everything.classes) == len(data)
    assert len(run.predict(data, score=1.1).lesions) == 0 < len(everything.lesions)
    for wrong in ([], np.zeros((2, 2, 2)), np.full((4, 4), -1000.0), ["a.png", np.zeros((4, 4))]):
        with pytest.raises(cw.InputError):
            run.predict(wrong)


def test_attention_over_a_split(run):
    found = run.attention("test")
    assert len(found.regions) == 4 * len(run.table.split("test")) and found.branches == ("positive", "negative")
    means = found.by_rank()
    np.testing.assert_allclose(means.groupby("predicted")["positive"].sum(), 1, atol=1e-5)
    assert len(found.plot().data) == 2 * found.regions["predicted"].nunique()


def test_a_module_trains_and_holds_what_was_trained(data, tmp_path):
    def small():
        return cw.create_model("attention", "resnet18", **OF_THE_MODEL)

    torch.manual_seed(5)
    model, steps = small(), OF_THE_RUN | dict(regime="two-phase", epochs=0.3)
    start = weights_hash(model)
    run = cw.train(model, data, tmp_path / "a", preset="smoke", progress=False, **steps)
    assert run.record["start_sha256"] == start != weights_hash(model)
    assert weights_hash(run.model) == weights_hash(model)
    fresh = small()
    cw.train(fresh, data, tmp_path / "a", preset="smoke", progress=False, resume=True, **steps)
    assert weights_hash(fresh) == weights_hash(model)
    (run.folder / "weights.safetensors").unlink()  # as if killed before the first checkpoint
    for other, preset in ((small(), "smoke"), (run.experiment, None)):
        with pytest.raises(cw.InputError, match="started from a model made in Python"):
            cw.train(other, data, tmp_path / "a", preset=preset, progress=False, resume=True, **steps)
    with pytest.raises(cw.InputError, match="belongs to the model"):
        cw.train(fresh, data, tmp_path / "b", preset="smoke", hidden_size=8)
    with pytest.raises(cw.InputError, match="not made by create_model"):
        cw.train(torch.nn.Linear(2, 2), data, tmp_path / "b")


def test_a_table_is_trained_on_as_it_is(data, tmp_path):
    "A part of the rows, not all that lie in the folder."
    some = data.where(data.frame["id"] != data.frame["id"].iloc[0])
    run = cw.train("lstm2", some, tmp_path / "a", preset="smoke", progress=False, **TINY | dict(aggregator_epochs=0.3))
    assert len(run.table) == len(data) - 1


def test_the_explorer_needs_its_tools_and_says_so(run):
    code = f"""
import sys
for name in ("ipywidgets", "anywidget", "IPython"): sys.modules[name] = None
import covid_workbench as cw
try: cw.open_run({str(run.folder)!r}).explore()
except cw.InputError as error: print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install 'covid_workbench[notebook]'" in done.stdout, done.stderr
    assert type(run.explore()).__name__ == "AttentionExplorer"


def test_a_model_and_a_study_of_ones_own(data, tmp_path):
    from covid_workbench.models.aggregators import build_aggregator

    def mine(**sizes):
        "LSTM-1 under another name."
        return build_aggregator("lstm1", **sizes)

    try:
        cw.register_model("mine", mine, any_beta=True)
        assert CARDS["mine"].description == "LSTM-1 under another name." and "mine" in cw.list_models()
        model = cw.create_model("mine", "resnet18", roi_batch=6).eval()
        read = ReadSlice(model, torch.rand(3, 64, 64))
        assert answer(read, Question(beta=4)).attention.shape[-1] == 4  # no weight of it belongs to a slot
    finally:
        AGGREGATORS.pop("mine", None), CARDS.pop("mine", None)
        if "mine" in MODELS:
            MODELS.remove("mine")
    study = {"name": "small", "question": "which?", "axes": {"model": ["attention"]}}
    (tmp_path / "small.json").write_text(json.dumps(study))
    done = cw.run_study(tmp_path / "small.json", tmp_path / "s", data=str(data.root), settings=dict(TINY))
    assert done.counts["finished"] == 1 and list((tmp_path / "s").glob("**/report.html"))
