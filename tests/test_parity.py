"""Parity with the released code on the fixtures, where they are there, and that a difference is seen."""
import json
import shutil

import numpy as np
import pytest

from covid_workbench.models.cards import CARDS
from covid_workbench.models.zoo import count_parameters
from covid_workbench.parity.run import check_folder

FILES = ("attention_lstm2", "attention_lstm2_stages2", "affinity", "affinity_stages3", "classifier_s", "roi_batch_lstm", "roi_batch_ranked", "distance_rank",
         "map", "blocks", "dataset", "full_lstm2", "full_affinity", "full_ssm", "full_masknet", "update_sets")


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


@pytest.mark.parametrize("name, array", [("attention_lstm2", "train/grad_x"), ("affinity", "eval/z"), ("classifier_s", "w/fc_scores_2.bias"),
                                         ("roi_batch_lstm", "scaled_boxes"), ("blocks", "cell_anchors"), ("map", "im4/ps")])
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
            assert str(round(count) if (model, backbone) == ("lstm2", "resnext50_32x4d") else int(count)) == printed, (model, backbone, count)
    assert count_parameters("lstm2", "resnet18") == 23_356_808 and count_parameters("affinity", "resnet18") == 13_660_975


def test_models_are_listed(command):
    code, out, _ = command("models", "--json")
    rows = json.loads(out)
    assert code == 0 and len({(row["model"], row["backbone"]) for row in rows}) == len(rows) == 7 * 5 + 8
    assert command("models")[1].count("\n") == len(rows) + 1
