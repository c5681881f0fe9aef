"""Explanations over a test set: each figure by brute force or by hand, chance, resuming, and what is refused."""

import argparse
import dataclasses
import json
from itertools import permutations
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import tiny
from scipy.stats import spearmanr
from test_models import REGIONAL, model_of

from covid_workbench.data.slices import Slice
from covid_workbench.errors import InputError
from covid_workbench.evaluation import explanation as module
from covid_workbench.evaluation.explained_figures import explanation_figures, mean_over_patients, share_of_best
from covid_workbench.evaluation.explained_runs import agreement_of_runs, box_overlaps, explained_over_runs
from covid_workbench.evaluation.explained_slice import Answers, explain_slice
from covid_workbench.evaluation.explained_words import explained_words
from covid_workbench.evaluation.explanation import Explained, chosen_rows, explain_run, explained_of, modes_of
from covid_workbench.evaluation.other_weights import branches_of, equal_weights, shuffled_labels, untrained_head
from covid_workbench.evaluation.rank_checks import along, best_gains, chance_of, finds, gain, random_area, rho
from covid_workbench.evaluation.region_places import lungs_of, places_in, region_places
from covid_workbench.evaluation.shapley import deletion, insertion
from covid_workbench.evaluation.whatif import OFF_MODES, Question, ReadSlice, answer, effects, orders
from covid_workbench.explain_commands import explain, explain_arguments
from covid_workbench.runs.load import build_model
from covid_workbench.runs.test_uses import test_uses as looks_of

CLASSES = ("Normal", "CP", "COVID-19")


def piece_of(lesion=(slice(20, 44), slice(10, 40))) -> Slice:
    "A slice of 100 pixels a side: lung in the middle, a lesion in it, as the first of the fixture `slices`."
    mask = np.zeros((100, 100), np.uint8)
    mask[10:90, 5:95] = 1
    mask[lesion] = 2
    return Slice("S7", "P1", "1", 0, np.zeros((100, 100), np.uint8), "CP", mask)


def read_of(name: str, slices, **options) -> ReadSlice:
    return ReadSlice(model_of(name, **options).eval(), slices[0][0])


# -- places


def test_places_of_regions_are_shares_of_their_pixels():
    "A mask that fills its box, one that is empty (the box counts), and one beside everything."
    boxes = torch.tensor([[[10.0, 20, 40, 44], [40.0, 20, 60, 44], [0.0, 0, 5, 100]]])
    masks = torch.stack([torch.ones(28, 28), torch.zeros(28, 28), torch.zeros(28, 28)])
    read = SimpleNamespace(candidates=SimpleNamespace(boxes=boxes), masks=masks, size=(100, 100))
    shares = region_places(read, (0, 1, 2), piece_of())
    np.testing.assert_allclose(shares, [[1, 0, 0], [0, 1, 0], [0, 0, 1]], atol=0.1)
    np.testing.assert_allclose(shares.sum(1), 1, atol=1e-6)
    assert np.isnan(region_places(read, (0,), dataclasses.replace(piece_of(), mask=None))).all()


def test_a_lesion_is_no_lung_beside_it(monkeypatch):
    "Also where the lungs are found in the grey values, with the lesion in them."
    mask = np.where(piece_of().mask == 2, 2, 0).astype(np.uint8)
    found = SimpleNamespace(ok=True, lungs=np.ones((100, 100), bool))
    monkeypatch.setitem(lungs_of.__globals__, "lung_mask_of_plane", lambda *_, **__: found)
    lesion, lung, outside = places_in(dataclasses.replace(piece_of(), mask=mask))
    assert lesion.sum() == 24 * 30 and lung.sum() == 100 * 100 - 24 * 30 and outside.sum() == 0


def test_the_lungs_are_those_of_the_mask_and_none_where_none_are_found():
    assert lungs_of(piece_of()).sum() == 80 * 90 - 24 * 30
    assert lungs_of(dataclasses.replace(piece_of(), mask=None)) is None  # black: no lungs


# -- ranks and curves


@pytest.mark.parametrize("values", [[3, 1, 2, 5, 4], [1, 1, 2, 2, 3], [0, 0, 0, 0, 1]])
def test_chance_is_what_all_orders_give(values):
    other = np.array([2.0, 1, 4, 3, 7])
    found = [spearmanr(list(own), other).statistic for own in permutations(values)]
    assert rho(values, other) == pytest.approx(spearmanr(values, other).statistic)
    assert np.mean(found) == pytest.approx(0, abs=1e-12) and np.var(found) == pytest.approx(1 / 4)
    share = np.mean(np.array(found) >= rho(values, other) - 1e-9)
    assert chance_of(values, other) == pytest.approx(share, abs=0.04)


def test_ranks_of_too_few_or_of_equal_regions_say_nothing():
    assert all(np.isnan([rho([1, 2, 3], [1, 2, 3]), rho([1] * 6, range(6)), chance_of([1, 2], [1, 2])]))
    assert np.isnan(finds([1, 2], [False, False])) and finds([-9, 1, 2], [True, False, False]) == 1


def test_a_random_order_is_the_mean_over_all_orders():
    table = np.random.default_rng(3).random(16)
    areas = [deletion(table, order).mean() for order in permutations(range(4))]
    assert random_area(table) == pytest.approx(np.mean(areas))
    best = best_gains(table)
    assert best["deletion"] == pytest.approx(np.mean(areas) - min(areas))
    assert best["insertion"] == pytest.approx(max(areas) - np.mean(areas))
    assert gain(1.0, 3.0, "deletion") == 2 == gain(3.0, 1.0, "insertion")


def test_curves_follow_scores_from_the_largest():
    table = np.random.default_rng(4).random(16)
    scores = [0.1, 5, -3, 0.1]  # order 1, 0, 3, 2: equal ones by their number
    for kind, curve in (("deletion", deletion), ("insertion", insertion)):
        own = table[along(scores, kind) @ (1 << np.arange(4))]
        np.testing.assert_array_equal(own, curve(table, [1, 0, 3, 2]))


# -- other weights


@pytest.mark.parametrize("name", REGIONAL)
def test_equal_weights_are_the_model_with_a_flat_softmax(name, slices, monkeypatch):
    read = read_of(name, slices)
    found = equal_weights(read)
    if name not in ("attention", "lstm1", "lstm2", "gated-attention"):
        assert found is None
        return
    own = answer(read).logits[0]
    read._answers.clear()
    monkeypatch.setattr(torch.Tensor, "softmax", lambda x, dim: torch.full_like(x, 1 / x.shape[dim]))
    torch.testing.assert_close(answer(read).logits[0], found, atol=1e-5, rtol=1e-4)
    assert not torch.equal(found, own)


def test_an_untrained_head_keeps_regions_and_forgets_the_rest(slices):
    experiment = tiny(model="lstm2")
    model = build_model(experiment).eval()
    one, again, other = (untrained_head(experiment, model, seed) for seed in (1, 1, 2))
    image = slices[0][0][:, :64, :64]
    boxes = [ReadSlice(own, image).candidates.boxes for own in (model, one)]
    torch.testing.assert_close(*boxes, atol=0, rtol=0)
    weights = [own.image_head.aggregator.positive.query.weight for own in (model, one, again, other)]
    assert torch.equal(weights[1], weights[2])
    assert not torch.equal(weights[0], weights[1]) and not torch.equal(weights[1], weights[3])


def test_shuffled_labels_are_the_same_ones_elsewhere(finished):
    table = finished.table
    one, again, other = (shuffled_labels(table, seed).frame for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(one, again)
    for split, own in table.frame.groupby("split"):
        dealt = one.loc[own.index, "label"]
        assert sorted(dealt) == sorted(own["label"]) and ((dealt == "") == (own["label"] == "")).all()
        assert (dealt == own["label"]).all() == (split == "test")
    assert (one["label"] != other["label"]).any()


# -- a slice


@pytest.mark.parametrize("name", REGIONAL)
def test_the_row_of_a_slice_says_what_single_questions_say(name, slices):
    read, piece = read_of(name, slices), piece_of()
    found = explain_slice(read, piece, CLASSES, OFF_MODES)
    label = int(answer(read).logits[0].argmax())
    assert found.row["predicted"] == CLASSES[label] and found.row["regions"] == len(found.regions) == 6
    for mode in OFF_MODES:
        single = [float(own[label]) for own in effects(read, Question(off_mode=mode)).values()]
        several = [region[f"leave_one_out_{mode}"] for region in found.regions]
        np.testing.assert_allclose(several, single, atol=5e-4 if name == "affinity" else 2e-5, rtol=1e-3)
    branches = branches_of(read)
    assert branches == {"mean-pool": (), "lstm2": ("positive", "negative")}.get(name, branches)
    assert ("rho_shapley_zeroed" in found.row) == bool(branches)
    assert ("negative_rho_shapley_zeroed" in found.row) == (name == "lstm2") == ("negative_says" in found.row)
    asked = np.array([own for order, own in orders(read).items() if order.startswith("random")])
    assert found.row["order_range"] == pytest.approx(np.ptp(asked[:, label]))
    on = [region["lesion"] >= 0.5 for region in found.regions]
    assert found.row["on_lesion"] == sum(on)
    json.dumps([found.regions, found.curves])


def test_attention_is_weighed_by_place_and_read_with_its_sign(slices):
    read = read_of("affinity", slices)
    found = explain_slice(read, piece_of(), CLASSES)
    weights = np.array([region["attention_slot_weight"] for region in found.regions])
    lesion = np.array([region["lesion"] for region in found.regions])
    assert (weights < 0).any()
    assert found.row["attention_lesion"] == pytest.approx(np.abs(weights) @ lesion / np.abs(weights).sum(), abs=1e-3)
    effect = np.array([region["leave_one_out_dropped"] for region in found.regions])
    assert found.row["signed_rho"] == pytest.approx(spearmanr(weights, effect).statistic)
    assert found.row["rho_leave_one_out_dropped"] == pytest.approx(spearmanr(abs(weights), abs(effect)).statistic)
    assert found.row["polarity"] == pytest.approx(effect[np.abs(weights).argmax()], rel=1e-4)


def test_many_regions_are_asked_where_no_table_is_made(slices, monkeypatch):
    read = read_of("lstm1", slices)
    exact = explain_slice(read, piece_of(), CLASSES, ("zeroed",)).row
    monkeypatch.setitem(Answers.__init__.__globals__["MOST_PLAYERS"], "zeroed", 3)
    drawn = explain_slice(read, piece_of(), CLASSES, ("zeroed",)).row
    assert drawn["sampled_error"] > 0 == exact["sampled_error"] and "deletion_best_zeroed" not in drawn
    for name in ("rho_leave_one_out_zeroed", "rho_alone_zeroed", "auc_alone_zeroed"):
        assert drawn[name] == pytest.approx(exact[name], nan_ok=True)
    assert drawn["deletion_attention_zeroed"] == pytest.approx(exact["deletion_attention_zeroed"], abs=0.02)


def test_slices_without_regions_and_numbers_that_are_none(slices):
    model = model_of("lstm1").eval()
    model.smallest_area = 1e9
    row = explain_slice(ReadSlice(model, slices[0][0]), piece_of(), CLASSES).row
    assert row["regions"] == 0 and set(row) == {"id", "patient", "label", "predicted", "regions"}
    model = model_of("lstm1").eval()
    torch.nn.init.constant_(model.image_head.aggregator.classifier[-1].bias, float("nan"))
    with pytest.raises(InputError, match="slice S7: its logits are no numbers"):
        explain_slice(ReadSlice(model, slices[0][0]), piece_of(), CLASSES)


# -- figures


def rows_of(patients, **columns) -> pd.DataFrame:
    count = len(patients)
    about = {"id": [f"s{at}" for at in range(count)], "patient": patients, "label": "CP", "predicted": "CP"}
    return pd.DataFrame(about | {"regions": 8} | columns)


def test_figures_are_means_with_intervals_over_patients():
    values = np.array([0.1, 0.5, 0.9, np.nan, 0.3, 0.7])
    rows = rows_of([*"aabbcc"], rho_x=values, chance_x=[0.01, 0.5, 0.04, np.nan, 0.2, 0.06])
    rows["predicted"] = ["CP", "CP", "Normal", "CP", "CP", "CP"]
    found = explanation_figures(rows, {})
    figures = found["figures"]["rho_x"]
    assert figures["all"][0] == pytest.approx(0.5) and figures["slices"] == 5 and figures["patients"] == 3
    assert figures["right"][0] == pytest.approx(0.4) and figures["wrong"] == [pytest.approx(0.9), None, None]
    assert figures["all"][1] < 0.5 < figures["all"][2]
    assert found["chance"]["rho_x"]["passed"][0] == pytest.approx(2 / 5)
    assert found["chance"]["rho_x"]["mean"][2] == pytest.approx(1.96 / np.sqrt(5 * 7))


@pytest.mark.parametrize("patients", [["a"] * 4, ["a", "b", "", "c"]])
def test_one_patient_or_an_unknown_one_gives_no_interval(patients):
    found = explanation_figures(rows_of(patients, order_flips=[0.0, 1, 0, 1]), {})
    assert found["figures"]["order_flips"]["all"] == [0.5, None, None]
    assert found["unknown_patients"] == patients.count("")


def test_nothing_explained_and_one_class_only():
    rows = rows_of([*"ab"], auc_attention=np.nan)
    found = explanation_figures(rows.assign(regions=0), {})
    assert found["explained"] == 0 and found["without_regions"] == 2 and found["figures"] == {}
    assert explained_words(found, "dropped") == []
    healthy = explanation_figures(rows.assign(label="Normal", on_lesion=0), {})
    assert "auc_attention" not in healthy["figures"] and set(healthy["figures"]["on_lesion"]["classes"]) == {"Normal"}
    assert mean_over_patients(np.array([np.nan]), np.array(["a"])) == [None, None, None]


def test_a_share_of_the_best_weighs_slices_by_what_is_at_stake():
    rows = rows_of([*"abc"], own=[0.0, 1.0, 0.0], best=[0.0, 1.0, 1.0])
    assert share_of_best(rows, "own", "best")[0] == pytest.approx(0.5)
    assert share_of_best(rows.assign(best=0.0), "own", "best") == [None, None, None]


def test_words_claim_only_what_intervals_allow():
    def said(value, passed=(0.2, 0.1, 0.3)):
        figure = {"all": value, "slices": 9, "patients": 3}
        name = "rho_leave_one_out_zeroed"
        chance = {name: {"mean": [0, -0.2, 0.2], "passed": list(passed)}}
        return explained_words({"figures": {name: figure}, "chance": chance, "of_best": {}}, "zeroed")[0]

    assert "agrees strongly with" in said([0.8, 0.7, 0.9]) and "agrees weakly with" in said([0.3, 0.1, 0.5])
    assert "runs against" in said([-0.5, -0.6, -0.4])
    for value in ([0.3, -0.1, 0.6], [0.1, 0.05, 0.15], [0.9, None, None]):
        assert "is not shown to agree" in said(value)


# -- a run


@pytest.fixture(scope="module")
def explained(finished, tmp_path_factory):
    "Three slices of the tiny run, explained in a folder of their own."
    folder = tmp_path_factory.mktemp("explained")
    explain_run(finished, slices=3, modes=("zeroed",), out=folder, progress=False)
    assert looks_of(finished).known[-1].what == "explain"  # a look at the test split, written down
    return folder


def test_a_run_is_explained_and_read_again(finished, explained):
    held = explained_of(explained)
    table = finished.table.split("test").frame
    assert held.rows["id"].tolist() == table["id"].iloc[chosen_rows(len(table), 3)].tolist()
    said = finished.predictions.set_index("id").loc[held.rows["id"], "predicted"]
    assert held.rows["predicted"].tolist() == said.tolist()
    assert held.summary["slices"] == 3 and held.summary["of"] == len(table)
    assert set(held.regions["id"]) == set(held.rows.loc[held.rows["regions"] > 0, "id"])
    assert not (finished.folder / "explained.csv").exists()
    assert {"untrained_attention", "uniform_change", "order_flips"} <= set(held.rows)


def test_a_killed_call_goes_on_where_it_stopped(finished, explained, tmp_path, monkeypatch):
    asked, real = [], module.explain_slice

    def dying(read, piece, *args, **options):
        asked.append(piece.id)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return real(read, piece, *args, **options)

    monkeypatch.setattr(module, "explain_slice", dying)
    options = dict(slices=3, modes=("zeroed",), out=tmp_path, progress=False)
    with pytest.raises(KeyboardInterrupt):
        explain_run(finished, **options)
    part = tmp_path / module.PART
    part.write_bytes(part.read_bytes() + b'{"row": {"id": "cut')
    explain_run(finished, **options)
    assert len(asked) == 4 and not part.exists()
    for name in (module.ROWS, module.REGIONS, module.SUMMARY):
        assert (tmp_path / name).read_bytes() == (explained / name).read_bytes()


def test_a_part_of_another_question_is_begun_anew(finished, explained, tmp_path, monkeypatch):
    (tmp_path / module.PART).write_text('{"format": 0}\n{"row": {"id": "x"}, "regions": [], "curves": {}}\n')
    explain_run(finished, slices=1, modes=("zeroed",), out=tmp_path, progress=False)
    assert len(explained_of(tmp_path).rows) == 1


def test_what_cannot_be_explained_is_refused_in_a_sentence(finished, tmp_path):
    with pytest.raises(InputError, match="the nowhere split is empty"):
        explain_run(finished, "nowhere", out=tmp_path)
    with pytest.raises(InputError, match="off mode 'dropt' is unknown"):
        modes_of("dropt")
    with pytest.raises(InputError, match="covid-workbench explain"):
        explained_of(tmp_path)
    volumes = SimpleNamespace(folder=tmp_path, experiment=tiny(model="resnext-plus"))
    with pytest.raises(InputError, match="reads whole volumes"):
        explain_run(volumes)
    assert modes_of("all") == OFF_MODES


def test_damaged_files_are_named(explained, tmp_path):
    for name in (module.ROWS, module.REGIONS, module.SUMMARY):
        (tmp_path / name).write_bytes((explained / name).read_bytes())
    (tmp_path / module.ROWS).write_bytes((explained / module.ROWS).read_bytes()[:-9])
    with pytest.raises(InputError, match="its end is lost"):
        explained_of(tmp_path)
    summary = json.loads((explained / module.SUMMARY).read_text())
    summary["figures"]["regions_lesion"]["all"] = [1, "high", None]
    (tmp_path / module.SUMMARY).write_text(json.dumps(summary))
    with pytest.raises(InputError, match=r"regions_lesion.all\[1\]"):
        explained_of(tmp_path)


def test_fewer_slices_do_not_take_the_place_of_more(finished, explained):
    before = (explained / module.ROWS).read_bytes()
    with pytest.raises(InputError, match="holds explanations of 3 slices, 2 would take their place"):
        explain_run(finished, slices=2, modes=("zeroed",), out=explained, progress=False)
    assert (explained / module.ROWS).read_bytes() == before


# -- two runs


def test_runs_are_compared_on_regions_that_share_a_place(explained):
    held = explained_of(explained)
    same = agreement_of_runs(held, held)
    assert same["figures"]["shapley_zeroed"][0] == pytest.approx(1) and same["paired"][0] == 1
    moved = held.regions.assign(**{name: held.regions[name] + 500 for name in ("left", "right")})
    apart = agreement_of_runs(held, dataclasses.replace(held, regions=moved))
    assert apart["paired"][0] == 0 and apart["figures"]["shapley_zeroed"] == [None, None, None]
    backwards = held.regions.iloc[::-1]
    assert agreement_of_runs(held, dataclasses.replace(held, regions=backwards))["paired"][0] == 1
    with pytest.raises(InputError, match="no slice in common"):
        agreement_of_runs(held, dataclasses.replace(held, regions=held.regions.assign(id="other")))
    np.testing.assert_allclose(box_overlaps(np.array([[0, 0, 2, 2.0]]), np.array([[1, 0, 3, 2.0]])), [[1 / 3]])


def test_the_command_says_the_answers_and_writes_a_page(finished, explained, tmp_path, capsys):
    parser = argparse.ArgumentParser()
    explain_arguments(parser)
    words = [
        str(finished.folder),
        "--slices",
        "2",
        "--mode",
        "zeroed",
        "--out",
        str(tmp_path),
        "--against",
        str(explained),
    ]
    explain(parser.parse_args(words))
    said = capsys.readouterr().out
    assert "2 of" in said and "the two runs" in said and "Page:" in said
    page = (tmp_path / "explanation.html").read_text()
    assert "Does attention agree with what counts?" in page and "http://www.w3.org/2000/svg" in page
    assert explained_of(tmp_path).summary["slices"] == 2


def test_figures_over_seeds_count_the_runs_that_are_more_than_chance():
    def run(rho, auc, gain, ends=(-0.1, 0.1)):
        figures = {"rho_gradient_dropped": {"all": rho}, "auc_attention": {"all": auc}, "regions": {"all": [8, 7, 9]}}
        chance = {"rho_gradient_dropped": {"mean": [0, *ends]}}
        return Explained(None, None, {"figures": figures, "chance": chance, "of_best": {"deletion_attention": gain}})

    nothing = [None] * 3
    runs = [
        run([0.3, 0.2, 0.4], [0.8, 0.7, 0.9], [-0.4, -0.5, -0.3]),
        run([0.08, 0.02, 0.2], [0.6, 0.4, 0.8], nothing),
        run([0.7, 0.5, 0.8], nothing, nothing),
    ]
    table = explained_over_runs(runs).set_index("figure")
    assert table.loc["rho_gradient_dropped"].tolist() == [3, pytest.approx(0.36), 0.08, 0.7, 2, 0]  # 0.08 is in reach
    assert table.loc["auc_attention"].tolist() == [2, pytest.approx(0.7), 0.6, 0.8, 1, 0]
    assert table.loc["deletion_attention"].tolist() == [1, -0.4, -0.4, -0.4, 0, 1]
    assert table.loc["regions", "more than by chance":].isna().all()
    with pytest.raises(InputError, match="no explained run"):
        explained_over_runs([])
