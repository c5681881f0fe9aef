"""The volume explorer without a browser: answers are the model's own on the slices asked for, the page shows what was
read, states come back or are refused whole."""

import asyncio
import base64
import dataclasses
import json
import re
import zlib

import numpy as np
import pytest
import torch
from conftest import tiny
from volumes_kit import scan, write_nifti

from covid_workbench.data.slices import SliceTable
from covid_workbench.data.sources import open_source
from covid_workbench.errors import InputError
from covid_workbench.evaluation.evaluate import evaluate
from covid_workbench.evaluation.volume_whatif import (
    ReadVolume,
    VolumeQuestion,
    answer_volume,
    effect_of_slice,
    log_odds,
    sequence_of,
    slice_effects,
    slice_orders,
)
from covid_workbench.evaluation.volumes import predict_volumes
from covid_workbench.evaluation.whatif import agreement
from covid_workbench.lab import explorer_notebooks
from covid_workbench.models.volume_network import build_volume_network
from covid_workbench.runs.run import Run
from covid_workbench.training.train import train
from covid_workbench.widgets.explorer import AttentionExplorer
from covid_workbench.widgets.lesions import LesionBrowser
from covid_workbench.widgets.volume_asking import open_volume_view
from covid_workbench.widgets.volume_explorer import VOLUME_GUARD, VolumeExplorer
from covid_workbench.widgets.volume_parts import shown_side, volume_traits
from covid_workbench.widgets.volume_reader import VolumeReader, hu_and_lesions

VOLUMES = dict(
    model="resnext-plus",
    phantom_form="pictures",
    phantom_slices=6,
    volume_slices=4,
    backbone="resnet18",
    cut="layer2",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    "A run that was scored, on phantom volumes of six slices, of which four are read."
    found = train(tiny(**VOLUMES), tmp_path_factory.mktemp("runs") / "volumes", progress=False)
    evaluate(found, progress=False)
    return found


@pytest.fixture(scope="module")
def view(run):
    "The view of that run with its first volume open."
    found = open_volume_view(run)
    found.show(next(iter(found.number_of)))
    return found


@pytest.fixture(scope="module")
def opened(run) -> tuple[VolumeExplorer, dict]:
    found = VolumeExplorer(run)
    return found, found.state


@pytest.fixture
def explorer(opened) -> VolumeExplorer:
    "An explorer as it was when it was opened."
    found, state = opened
    found.reopen(state)
    return found


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    "Two scans as NIfTI, of 5 planes and of 1, without labels or masks."
    folder = tmp_path_factory.mktemp("scans")
    write_nifti(folder / "long.nii.gz", scan(5, 40, 36), spacing=(3.0, 0.5, 0.8))
    write_nifti(folder / "short.nii.gz", scan(1, 40, 36, seed=1))
    return folder


def by_hand(read: ReadVolume, places) -> np.ndarray:
    "Logits of the model on the vectors at hand, in this order."
    rows = [read.places.index(place) for place in places]
    vectors = read.vectors(read.places)[rows][None]
    with torch.no_grad():
        return read.model.read(vectors, torch.ones(1, len(rows), dtype=torch.bool)).logits[0].numpy()


# -- what is asked of the model


def test_the_own_answer_is_that_of_the_evaluation(run, view):
    predicted = {row.id: row for row in run.predictions.itertuples()}
    for at, answer in zip(view.data.volumes, predict_volumes(view.model, view.data)):
        opened = view.open_volume(at.name)
        assert opened.places == answer.places.tolist() == [0, 2, 3, 5]
        own = answer_volume(opened.read)
        assert np.allclose(own.logits, answer.logits, atol=1e-5) and np.allclose(own.attention, answer.attention)
        said = view.classes[int(own.logits.argmax())]
        assert said == predicted[at.name].predicted == opened.own["classes"][int(np.argmax(opened.own["logits"]))]


@pytest.mark.parametrize(
    "asked, places",
    [
        (VolumeQuestion(), [0, 2, 3, 5]),
        (VolumeQuestion("reversed"), [5, 3, 2, 0]),
        (VolumeQuestion("reversed", off=(3,)), [5, 2, 0]),
        (VolumeQuestion(sequence=(3, 0, 5), off=(0,)), [3, 5]),
    ],
)
def test_an_answer_is_the_models_on_the_slices_asked_for(view, asked, places):
    read = view.open.read
    found = answer_volume(read, asked)
    assert list(found.places) == places
    assert np.allclose(found.logits, by_hand(read, places), atol=1e-6)
    assert found.attention.sum() == pytest.approx(1) and len(found.attention) == len(places)


def test_a_zeroed_slice_keeps_its_place(view):
    read = view.open.read
    vectors = read.vectors(read.places).clone()
    vectors[1] = 0
    with torch.no_grad():
        wanted = read.model.read(vectors[None], torch.ones(1, 4, dtype=torch.bool))
    found = answer_volume(read, VolumeQuestion(off=(2,), off_mode="zeroed"))
    assert np.allclose(found.logits, wanted.logits[0], atol=1e-6) and len(found.places) == 4
    assert not np.allclose(found.logits, answer_volume(read, VolumeQuestion(off=(2,))).logits, atol=1e-7)


def test_exact_reads_what_is_left_and_nothing_else(view):
    opened, left = view.open, [0, 3, 5]
    pixels, lungs = (torch.from_numpy(block[left])[None] for block in (opened.stack.pixels, opened.stack.lungs))
    batch = {"pixels": pixels, "lungs": lungs, "valid": torch.ones(1, 3, dtype=torch.bool)}
    with torch.no_grad():
        wanted = view.model(*view.data.images(batch, "cpu")).logits[0].numpy()
    found = answer_volume(opened.read, VolumeQuestion(off=(2,), exact=True))
    assert np.allclose(found.logits, wanted, atol=1e-5)
    kept = answer_volume(opened.read, VolumeQuestion(off=(2,)))
    assert not np.allclose(found.logits, kept.logits, atol=1e-6)  # statistics of the volume know all slices


def test_with_running_statistics_exact_changes_nothing(view):
    settings = view.run.experiment
    torch.manual_seed(0)
    running = dataclasses.replace(settings.volume, volume_statistics="running")
    model = build_volume_network(settings.detector, settings.one_shot, running).eval()
    read = ReadVolume(model, view.data, view.open.stack)
    exact, kept = (answer_volume(read, VolumeQuestion(off=(2,), exact=one)).logits for one in (True, False))
    assert np.allclose(exact, kept, atol=1e-5)


@pytest.mark.parametrize("asked", [VolumeQuestion(), VolumeQuestion(off=(2,)), VolumeQuestion(off=(2,), exact=True)])
@pytest.mark.parametrize("mode", ["dropped", "zeroed"])
def test_effects_are_those_of_leaving_each_slice_out(view, asked, mode):
    read, asked = view.open.read, dataclasses.replace(asked, off_mode=mode)
    found = {place: value for step in slice_effects(read, asked, at_once=2) for place, value in step.items()}
    assert set(found) == set(read.places) - set(asked.off)
    for place, value in found.items():
        if not (asked.exact and mode == "dropped"):  # there the vectors stay those of the answer
            assert np.allclose(value, effect_of_slice(read, place, asked), atol=1e-5)
    assert np.allclose([value.sum() for value in found.values()], 0, atol=1e-5)  # two classes: one's gain, other's loss


def test_log_odds_are_of_the_probability():
    logits = np.array([0.3, -1.2, 2.0])
    shares = np.exp(logits) / np.exp(logits).sum()
    assert np.allclose(log_odds(logits), np.log(shares / (1 - shares)))
    assert np.allclose(log_odds(logits), log_odds(logits + 5))


def test_orders_are_of_the_same_slices(view):
    found = slice_orders(view.open.read, VolumeQuestion(off=(3,)), random=5, seed=2)
    assert list(found)[:3] == ["axial", "reversed", "random 1"] and len(found) == 7
    assert np.allclose(found["axial"], answer_volume(view.open.read, VolumeQuestion(off=(3,))).probabilities, atol=1e-6)
    again = slice_orders(view.open.read, VolumeQuestion("reversed", off=(3,)), random=5, seed=2)
    assert all(np.allclose(found[name], again[name]) for name in found)
    drawn = sequence_of(view.open.read, VolumeQuestion("random", seed=2))
    assert sorted(drawn) == [0, 2, 3, 5] and drawn == sequence_of(view.open.read, VolumeQuestion("random", seed=2))


@pytest.mark.parametrize(
    "asked, words",
    [
        (VolumeQuestion("upwards"), "order 'upwards' is unknown"),
        (VolumeQuestion(off_mode="gone"), "off mode 'gone' is unknown"),
        (VolumeQuestion(off=(1,)), "slice 1 was not read; the slices that were read are 0, 2, 3"),
        (VolumeQuestion(off=(0, 2, 3, 5)), "all slices are off; leave at least one on"),
        (VolumeQuestion(sequence=(2, 2)), "twice"),
    ],
)
def test_a_question_that_cannot_be_answered_is_refused(view, asked, words):
    with pytest.raises(InputError, match=re.escape(words)):
        answer_volume(view.open.read, asked)


# -- what the page shows


def test_the_page_has_the_volume_that_was_read(view, explorer):
    stage, stack = explorer.stage, view.open_volume(explorer.browser.slice).stack
    assert stage.dims == [6, 64, 64] and bytes(stage.volume) == stack.pixels.tobytes()
    bits = np.unpackbits(np.frombuffer(stage.lungs, np.uint8))[: stack.lungs.size].reshape(stack.lungs.shape)
    assert (bits == stack.lungs).all() and stack.lungs.any()
    lesions = np.unpackbits(np.frombuffer(stage.lesions, np.uint8))[: stack.lungs.size].reshape(stack.lungs.shape)
    told = [entry["lesion"] for entry in stage.slices]
    assert lesions.mean((1, 2)) == pytest.approx(told, abs=2e-3) and max(told) > 0
    assert [entry["read"] for entry in stage.slices] == [True, False, True, True, False, True]
    rows = view.data.volumes[view.number_of[explorer.browser.slice]].rows
    assert stage.place == int(np.argmax(told)) and stage.slices[0]["id"] == view.table.frame["id"][rows[0]]


def test_a_large_volume_is_made_smaller_for_the_page_only(view, monkeypatch):
    from covid_workbench.widgets import volume_parts

    assert shown_side(350, 224) == 224 and shown_side(300, 512) == 256 and shown_side(200, 512, each=1) == 512
    monkeypatch.setattr(volume_parts, "shown_side", lambda depth, side, each: 32)
    traits = volume_traits(view.open)
    assert traits["dims"] == [6, 32, 32] and len(traits["volume"]) == 6 * 32 * 32 == 8 * len(traits["lungs"])
    whole = np.unpackbits(np.frombuffer(traits["lungs"], np.uint8)).mean()
    assert whole == pytest.approx(view.open.stack.lungs.mean(), rel=0.1)


def test_a_slice_switched_off_is_answered_and_taken_back(explorer):
    before = dict(explorer.verdict.answer)
    explorer.panel.off = [2]
    asked = answer_volume(explorer.view.open.read, VolumeQuestion(off=(2,)))
    assert explorer.verdict.answer["logits"] == pytest.approx(asked.logits.tolist())
    assert explorer.verdict.before == before and explorer.header.dirty and explorer.header.can_undo
    assert explorer.panel.reading == [0, 2, 3, 5] and set(explorer.panel.attention) == {"0", "3", "5"}
    assert explorer.curve.off == explorer.stage.off == [2]
    assert set(explorer.curve.effects) == {"0", "3", "5"} and list(explorer.orders.results)[:2] == ["axial", "reversed"]
    assert any("exact reads the rest anew" in note for note in explorer.panel.notes)
    explorer.panel.exact = True
    assert any("read anew from the slices" in note for note in explorer.panel.notes)
    explorer.undo()
    explorer.undo()
    assert explorer.verdict.answer == before and explorer.panel.off == [] and not explorer.header.dirty
    explorer.redo()
    assert explorer.panel.off == [2] and explorer.panel.exact is False
    explorer.reset()
    assert explorer.verdict.answer == before and explorer.header.can_undo


def test_an_order_and_a_moved_slice(explorer):
    explorer.panel.order = "reversed"
    assert explorer.panel.reading == [5, 3, 2, 0] and explorer.header.dirty
    explorer.panel.off = [5]
    with explorer.panel.hold_trait_notifications():
        explorer.panel.order, explorer.panel.sequence = "custom", [3, 5, 2, 0]
    asked = answer_volume(explorer.view.open.read, VolumeQuestion(sequence=(3, 5, 2, 0), off=(5,)))
    assert explorer.panel.reading == [3, 5, 2, 0]
    assert explorer.verdict.answer["logits"] == pytest.approx(asked.logits.tolist())
    explorer.panel.off = [0, 2, 3, 5]  # a page never sends it
    assert explorer.panel.notes == ["all slices are off; leave at least one on"]


def test_effects_and_agreement_are_on_the_class_that_is_chosen(explorer):
    first, name = explorer.curve.effects, explorer.view.effect_class
    other = next(one for one in explorer.view.classes if one != name)
    assert name == explorer.view.classes[int(np.argmax(explorer.verdict.answer["logits"]))]
    explorer.panel.effect_class = other
    assert explorer.curve.effect_class == explorer.orders.effect_class == other
    for place, value in explorer.curve.effects.items():
        assert value == pytest.approx(-first[place], abs=1e-5)
    weights = [explorer.panel.attention[place] for place in explorer.curve.effects]
    assert explorer.curve.rho == agreement(weights, list(explorer.curve.effects.values()))
    explorer.reopen(explorer.state | dict(effect_class=""))  # chosen by nobody: the class that wins
    assert explorer.curve.effect_class == name and explorer.curve.effects == pytest.approx(first)


def test_answers_come_in_pieces_where_a_loop_runs(run):
    async def look():
        explorer = VolumeExplorer(run)
        assert explorer.verdict.answer and explorer.curve.effects == {}
        await explorer.filled()
        held = dict(explorer.curve.effects)
        explorer.panel.off = [0]
        explorer.panel.off = [2]  # the question before is dropped
        await explorer.filled()
        return held, explorer.curve.effects

    before, after = asyncio.run(look())
    assert set(before) == {"0", "2", "3", "5"} and set(after) == {"0", "3", "5"}


def test_volumes_of_other_classes_are_not_judged(explorer):
    labels = {entry["id"]: entry for entry in explorer.browser.slices}
    strange = [entry for entry in labels.values() if entry["label"] == "CP"]
    assert strange and all(entry["said"] == [] and entry["p"] is None for entry in strange)
    assert all(entry["said"] for entry in labels.values() if entry["label"] != "CP")
    explorer.browser.slice = strange[0]["id"]
    assert explorer.verdict.truth == "" and explorer.verdict.answer["classes"] == list(explorer.view.classes)
    assert "labelled CP, which is not among the classes" in explorer.panel.notes[0]


# -- states


def test_a_state_brings_the_same_view_back(run, explorer):
    explorer.browser.slice = list(explorer.view.number_of)[-1]
    explorer.panel.order, explorer.panel.off = "random", [3]
    explorer.panel.effect_class = explorer.view.classes[0]
    explorer.stage.place, explorer.stage.row, explorer.stage.layers = 4, 11, ["lesions", "lines"]
    explorer.stage.camera = {"x": 0.25, "y": 0.5, "zoom": 2.0}
    held, answer = explorer.state, dict(explorer.verdict.answer)
    assert json.loads(json.dumps(held)) == held and len(json.dumps(held)) < 1000
    other = VolumeExplorer(run, state=explorer.link)
    assert other.state == held and other.verdict.answer == answer and other.panel.place == 4
    assert other.header.state_text == json.dumps(held, separators=(",", ":"))


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(volume="P9/1"), "volume 'P9/1' is not among these"),
        (dict(place=6), "slice 6 is not in"),
        (dict(question=dict(order="upwards", sequence=[], off=[], off_mode="dropped", exact=False)), "order 'upwards'"),
        (
            dict(question=dict(order="axial", sequence=[], off=[9], off_mode="dropped", exact=False)),
            "slice 9 is not in",
        ),
        (dict(question={"order": "axial"}), "question"),
        (dict(layers=["bones"]), "layers 'bones'"),
        (dict(window=0.0), "window 0"),
        (dict(effect_class="flu"), "effect_class 'flu'"),
        (dict(more=1), "unknown field 'more'"),
        (dict(version=9), "version"),
    ],
)
def test_a_state_that_does_not_fit_leaves_the_view(explorer, change, words):
    explorer.panel.off = [2]
    held = explorer.state
    with pytest.raises(InputError, match=re.escape(words)):
        explorer.reopen(held | change)
    assert explorer.state == held
    assert set(VOLUME_GUARD.kinds) | {"version"} == set(held)


# -- other volumes, other runs


def test_scans_without_truth(run, scans):
    explorer = VolumeExplorer(run, scans)
    names = [entry["id"] for entry in explorer.browser.slices]
    assert len(names) == 2 and explorer.verdict.truth == "" and explorer.stage.lesions == b""
    long = next(name for name in names if len(explorer.view.data.volumes[explorer.view.number_of[name]]) == 5)
    explorer.browser.slice = long
    assert explorer.stage.dims == [5, 64, 64]
    assert explorer.stage.spacing == pytest.approx([3.0, 0.5 * 40 / 64, 0.8 * 36 / 64])
    assert all(entry["lesion"] is None for entry in explorer.stage.slices)
    assert any("no lesion mask" in note for note in explorer.panel.notes)
    one = VolumeExplorer(run, scans, volume=next(name for name in names if name != long))
    assert one.stage.dims[0] == 1 and one.panel.reading == [0] and one.curve.effects == {} and one.curve.rho is None
    assert one.picture().svg and "1 slice" in one.header.where


def test_a_slice_that_cannot_be_read_is_said_and_the_rest_goes_on(run, tmp_path):
    table = run.shown_table().split("test")
    first, rows = table.frame["patient"].iloc[0], table.frame.copy()
    rows.loc[rows.index[1], "image"] = "images/gone.png"
    explorer = VolumeExplorer(run, SliceTable(rows, table.roots[0]))
    broken = next(entry["id"] for entry in explorer.browser.slices if entry["id"].startswith(first))
    whole = next(entry["id"] for entry in explorer.browser.slices if entry["id"] != broken)
    explorer.browser.slice = broken
    assert "gone.png" in explorer.panel.frozen and "gone.png" in explorer.verdict.note
    assert explorer.stage.dims == [0, 0, 0] and explorer.panel.reading == [] and explorer.orders.orderless
    assert "gone.png" in explorer.picture().svg
    explorer.panel.off = [2]  # nothing to ask
    explorer.browser.slice = whole
    assert explorer.panel.frozen == "" and explorer.panel.reading == [0, 2, 3, 5]


def test_without_slice_attention_there_is_no_slice_answer(run, tmp_path):
    experiment = tiny(**VOLUMES, slice_attention=False, epochs=1)
    plain = train(experiment, tmp_path / "plain", table=run.table, progress=False)
    explorer = VolumeExplorer(plain)
    assert explorer.panel.attention == {} and len(explorer.curve.effects) == 4 and explorer.curve.rho is None
    assert any("gives no slice answer" in note for note in explorer.panel.notes)
    assert "no attention in this model" in explorer.picture().svg


def test_each_explorer_refuses_the_runs_of_the_others(run, tmp_path):
    for explorer in (AttentionExplorer, LesionBrowser):
        with pytest.raises(InputError, match="VolumeExplorer"):
            explorer(run)
    slices = Run.create(tmp_path / "slices", tiny(model="attention"), run.table)
    with pytest.raises(InputError, match="model=attention, which reads slices one by one"):
        VolumeExplorer(slices)
    with pytest.raises(InputError, match="the nowhere split is empty"):
        VolumeExplorer(run, split="nowhere")


def test_lab_fills_the_notebook_that_can_show_the_run(run, tmp_path):
    made = explorer_notebooks(tmp_path / "explore", [run.folder])
    assert made[0].stem == "volumes" and len(made) == 5
    filled = {path.stem: str(run.folder) in path.read_text() for path in made}
    assert filled == dict(volumes=True, attention=False, lesions=False, data=True, runs=False)
    slices = Run.create(tmp_path / "slices", tiny(model="attention"), run.table)
    made = {path.stem: path for path in explorer_notebooks(tmp_path / "other", [slices.folder, run.folder])}
    assert list(made)[0] == "attention" and str(run.folder) not in made["attention"].read_text()
    assert str(slices.folder) in made["attention"].read_text() and str(run.folder) in made["volumes"].read_text()


# -- saved


def test_a_saved_page_holds_the_whole_volume(explorer, tmp_path):
    explorer.save(tmp_path / "view.html")
    page = (tmp_path / "view.html").read_text()
    told = json.loads(re.search(r'id="told">(.*?)</script>', page, re.S)[1])
    stage = next(part["traits"] for part in told["parts"] if part["kind"] == "VolumeStage")
    assert zlib.decompress(base64.b64decode(stage["volume"]["deflate"])) == bytes(explorer.stage.volume)
    assert [part["kind"] for part in told["parts"]].count("AttentionCurve") == 1 and len(told["links"]) == 5
    explorer.save(tmp_path / "view.svg")
    svg = (tmp_path / "view.svg").read_text()
    assert explorer.browser.slice in svg and "what-if" not in svg
    explorer.panel.off = [2]
    assert "(what-if)" in explorer.picture().svg and "image/svg+xml" in explorer._repr_mimebundle_()
    with pytest.raises(InputError, match="save as .svg or .html"):
        explorer.save(tmp_path / "view.png")


def test_the_lesions_of_a_volume_are_those_of_its_slices(run, view):
    volume = view.open.volume
    hu, masks = hu_and_lesions(view.data, volume, 64)
    assert hu is None  # pictures
    for place, row in enumerate(volume.rows):
        stored = view.table.read(row).mask
        assert (masks[place] == np.isin(stored, view.table.description.lesions)).all()
    bare = view.table.with_rows(view.table.frame.assign(mask=""))
    assert VolumeReader(run, bare).open_volume(volume.name).lesions is None


def test_real_volumes(run, shared):
    "Three patients of COVID-CT-MD, DICOM with slices 2 mm and more apart."
    explorer = VolumeExplorer(run, open_source(shared / "data" / "covid-ct-md-sample"))
    assert len(explorer.browser.slices) == 3
    assert 1.5 < explorer.stage.spacing[0] < 15 and explorer.panel.reading and not explorer.panel.frozen
    assert np.isfinite(explorer.verdict.answer["logits"]).all() and len(explorer.curve.effects) == 4
