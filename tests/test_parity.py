"""Parity with the released code on the fixtures, where they are there, and that a difference is seen."""

import json
import shutil

import numpy as np
import pytest

from covid_workbench.models.cards import CARDS
from covid_workbench.models.reference import reference_names
from covid_workbench.models.zoo import count_parameters, create_model
from covid_workbench.parity.networks import loaded_model
from covid_workbench.parity.run import check_folder

FILES = (
    "attention_lstm2",
    "attention_lstm2_stages2",
    "affinity",
    "affinity_stages3",
    "classifier_s",
    "roi_batch_lstm",
    "roi_batch_ranked",
    "distance_rank",
    "map",
    "blocks",
    "dataset",
    "full_lstm2",
    "full_affinity",
    "full_ssm",
    "full_masknet",
    "update_sets",
)


@pytest.fixture
def golden(shared):
    if not (shared / "golden").is_dir():
        pytest.skip("the fixtures of the released code are not there")
    return shared / "golden"


def test_every_fixture_agrees(golden):
    found = {one.file.rsplit(".", 1)[0]: one for one in check_folder(golden)}
    assert set(FILES) <= set(found)
    for name in FILES:
        assert found[name].checks and found[name].agrees, found[name]


def test_a_fixture_is_known_by_what_is_in_it(golden, tmp_path):
    "Under names that say nothing, or something wrong, the same files agree."
    shutil.copy(golden / "affinity.npz", tmp_path / "full_lstm2.npz")
    shutil.copy(golden / "full_ssm.npz", tmp_path / "a.npz")
    shutil.copy(golden / "full_ssm_state_names.json", tmp_path / "a_state_names.json")
    shutil.copy(golden / "update_sets.json", tmp_path / "b.json")
    found = {one.file: one for one in check_folder(tmp_path)}
    assert {name: one.kind for name, one in found.items()} == {
        "a.npz": "network of single-shot",
        "b.json": "training phases",
        "full_lstm2.npz": "image head of Affinity",
    }
    assert all(one.checks and one.agrees for one in found.values())


@pytest.mark.parametrize(
    "model, backbone, sizes, regions",
    [
        (
            "lstm2",
            "resnet50",
            dict(
                cut="layer3",
                fpn_channels=24,
                mask_channels=20,
                head_width=40,
                roi_batch=5,
                hidden_size=9,
                classifier_width=30,
                refine_steps=2,
            ),
            "sel_boxes",
        ),
        (
            "affinity",
            "resnext50_32x4d",
            dict(
                cut="layer2",
                fpn_channels=8,
                mask_channels=8,
                head_width=12,
                roi_batch=3,
                hidden_size=4,
                refine_steps=3,
                classes=("Normal", "COVID-19"),
            ),
            "sel_boxes",
        ),
        (
            "ct-mask-net",
            "resnet34",
            dict(cut="layer2", fpn_channels=8, mask_channels=6, head_width=12, roi_batch=20, hidden_size=7),
            "ranked_boxes",
        ),
    ],
)
def test_sizes_are_read_from_the_fixture(model, backbone, sizes, regions):
    "Any sizes of ours, written with the released names, come back as a network of these sizes."
    ours = create_model(model, backbone, protocol="released", **sizes)
    shapes = [
        (reference_names(name)[0], list(value.shape))
        for name, value in ours.state_dict().items()
        if reference_names(name)
    ]
    again = loaded_model(shapes, {"settings": np.array([7]), regions: np.zeros((sizes["roi_batch"], 4))})
    assert {name: value.shape for name, value in again.state_dict().items()} == {
        name: value.shape for name, value in ours.state_dict().items()
    }
    assert again.settings.roi_batch == sizes["roi_batch"] and len(again.settings.classes) == len(ours.settings.classes)


@pytest.mark.parametrize(
    "name, array",
    [
        ("attention_lstm2", "train/grad_x"),
        ("affinity", "eval/z"),
        ("classifier_s", "w/fc_scores_2.bias"),
        ("roi_batch_lstm", "scaled_boxes"),
        ("blocks", "cell_anchors"),
        ("map", "im4/ps"),
    ],
)
def test_a_difference_is_seen(golden, command, tmp_path, name, array):
    "One number of one array moved by a hundredth: the file differs, and the exit code says so."
    arrays = dict(np.load(golden / f"{name}.npz"))
    moved = arrays[array].copy()
    moved.flat[0] += 0.6 if name == "map" else 0.05
    np.savez(tmp_path / f"{name}.npz", **arrays | {array: moved})
    code, out, _ = command("parity", tmp_path, "--json")
    assert code == 1 and not json.loads(out)[0]["agrees"]


def test_damaged_and_missing_fixtures(golden, command, tmp_path):
    assert command("parity", tmp_path)[0] == 2
    shutil.copy(golden / "full_ssm.npz", tmp_path)
    code, _, err = command("parity", tmp_path)
    assert code == 2 and "full_ssm" in err and len(err.splitlines()) == 1
    (tmp_path / "full_ssm.npz").write_bytes(b"PK" + bytes(100))
    assert command("parity", tmp_path)[0] == 2


def test_the_fifteen_sizes_of_the_paper():
    for model in ("attention", "lstm1", "lstm2"):
        for backbone, printed in CARDS[model].printed.items():
            count = count_parameters(model, backbone) / 1e6
            assert str(round(count) if (model, backbone) == ("lstm2", "resnext50_32x4d") else int(count)) == printed, (
                model,
                backbone,
                count,
            )
    assert (
        count_parameters("lstm2", "resnet18") == 23_356_808 and count_parameters("affinity", "resnet18") == 13_660_975
    )


def test_models_are_listed(command):
    code, out, _ = command("models", "--json")
    rows = json.loads(out)
    assert code == 0 and len({(row["model"], row["backbone"]) for row in rows}) == len(rows) == 11 * 5 + 8
    assert command("models")[1].count("\n") == len(rows) + 1
