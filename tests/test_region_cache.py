"""Cached regions: rows on disk that survive a kill, a bound, a full disk; the same numbers wherever they lie."""

import json
import os
import signal
import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest
import torch
from conftest import contents, tiny

from covid_workbench import row_files
from covid_workbench.data.slices import SliceTable
from covid_workbench.data.splits import split_by_patient
from covid_workbench.errors import InputError, StorageError
from covid_workbench.models.execution import Execution
from covid_workbench.row_files import RowFile, bytes_in, in_thread
from covid_workbench.runs import region_cache
from covid_workbench.runs.datasets import ExperimentData
from covid_workbench.runs.load import build_model
from covid_workbench.runs.region_cache import cached_regions, region_shape
from covid_workbench.training.train import _cache_key, train
from covid_workbench.training.warm_start import aggregator_stage, answer_of, region_scores

CPU = torch.device("cpu")
SMALL = dict(key="k", rows=6, shape=(2, 3), dtype="float16")


@pytest.fixture(scope="module")
def parts(phantom):
    "Model, data and labelled slices of a tiny experiment."
    torch.manual_seed(0)
    experiment = tiny(model="attention")
    data = ExperimentData(experiment, split_by_patient(SliceTable.from_csv(phantom / "slices.csv")))
    return build_model(experiment).eval(), data, data.dataset("train", labelled=True)


def rows_of(count: int, start: int = 0) -> np.ndarray:
    return (np.arange(start * 6, (start + count) * 6).reshape(count, 2, 3) / 7).astype(np.float16)


# ---- rows on disk


def test_rows_come_back_in_any_order(tmp_path):
    file = RowFile(tmp_path / "rows", **SMALL)
    assert not file.done.any() and not (tmp_path / "rows").exists()  # looking makes nothing
    file.put(2, rows_of(4, 2))
    file.flush()
    again = RowFile(tmp_path / "rows", **SMALL)
    assert again.done.tolist() == [False, False, True, True, True, True]
    assert (again.take([5, 2, 2]) == rows_of(6)[[5, 2, 2]]).all()
    assert again.take([]).shape == (0, 2, 3)
    with pytest.raises(InputError, match="row 1 is damaged or was never written"):
        again.take([3, 1])


@pytest.mark.parametrize("change", [dict(key="other"), dict(rows=5), dict(shape=(3, 2)), dict(dtype="float32")])
def test_other_rows_are_begun_anew(tmp_path, change):
    "Nothing old counts, and who reads the old rows at that moment is not disturbed."
    old = RowFile(tmp_path, **SMALL)
    old.put(0, rows_of(6))
    old.flush()
    with open(old.path, "rb") as reader:
        new = RowFile(tmp_path, **SMALL | change)
        assert not new.done.any()
        new.put(0, np.zeros((1, *new.shape)))
        assert not RowFile(tmp_path, **SMALL | change).done.any()  # as if killed here
        new.flush()
        assert len(reader.read()) == 6 * old.row_bytes
    assert RowFile(tmp_path, **SMALL | change).done.tolist() == [True] + [False] * (new.rows - 1)
    assert not RowFile(tmp_path, **SMALL).done.any()


def test_rows_that_were_not_noted_do_not_count(tmp_path):
    file = RowFile(tmp_path, **SMALL)
    file.put(0, rows_of(2))
    file.flush()
    file.put(2, rows_of(2, 2))  # no flush: as if killed here
    assert RowFile(tmp_path, **SMALL).done.sum() == 2


WRITER = """
import sys, time
import numpy as np
from covid_workbench.row_files import RowFile
file = RowFile(sys.argv[1], key="k", rows=4000, shape=(64,), dtype="float32")
for start in range(int(file.done.sum()), 4000, 8):
    file.put(start, np.arange(start, start + 8)[:, None] * np.ones(64))
    if start % 40 == 0:
        file.flush()
        print(start, flush=True)
"""


def test_a_killed_writer_leaves_whole_rows(tmp_path):
    "Killed three times at some moment: every row that is noted is what was written, and the next one goes on."
    before = 0
    for number in range(3):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path / "rows")], stdout=subprocess.PIPE)
        for _ in range(4 + 3 * number):
            writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        file = RowFile(tmp_path / "rows", key="k", rows=4000, shape=(64,), dtype="float32")
        done = np.flatnonzero(file.done)
        assert len(done) > before and (done == np.arange(len(done))).all()
        assert (file.take(done)[:, 0] == done).all()
        before = len(done)


def test_a_full_disk_is_said_and_keeps_what_was_there(tmp_path, monkeypatch):
    file = RowFile(tmp_path, **SMALL)
    file.put(0, rows_of(2))
    file.flush()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    file.put(2, rows_of(2, 2))
    with pytest.raises(StorageError, match="No space left"):
        file.flush()
    assert RowFile(tmp_path, **SMALL).done.sum() == 2


def test_a_thread_reads_ahead_in_order_and_hands_on_errors():
    seen, here = [], threading.get_ident()

    def read(number):
        seen.append(number)
        if number == 7:
            raise InputError("row 7")
        return number, threading.get_ident()

    ahead = in_thread(read, range(100), depth=3)
    assert next(ahead)[0] == 0
    for number in range(1, 7):
        got, thread = next(ahead)
        assert got == number and thread != here
    with pytest.raises(InputError, match="row 7"):
        next(ahead)
    assert len(seen) < 20  # a hundred were not read in vain
    assert threading.active_count() < 10


# ---- regions of slices


def test_kept_and_read_anew_are_the_same_numbers(parts, tmp_path):
    "All on the disk, some, none: as read from the slices one by one, but for half precision."
    model, _, slices = parts
    row = 2 * np.prod(region_shape(model))
    whole = cached_regions(model, slices, tmp_path / "a" / "regions-1", "k", progress=False)
    some = cached_regions(model, slices, tmp_path / "b" / "regions-1", "k", limit_gb=10 * row / 2**30, progress=False)
    none = cached_regions(model, slices, tmp_path / "c" / "regions-1", "k", limit_gb=0, progress=False)
    assert whole.file.done.all() and some.file.done.sum() == 8 and not none.file.done.any()
    assert not (tmp_path / "c").exists()
    order = [9, 3, 14, 3]
    with torch.no_grad():
        for place, item in enumerate(order):
            candidates = model.candidates(slices[item]["image"][None])
            alone = model.read(candidates, model.rank(candidates))[0]
            for regions in (whole, some, none):
                torch.testing.assert_close(regions.take(order)[place].float(), alone, rtol=2e-3, atol=1e-3)
    assert whole.take(range(8)).equal(some.take(range(8)))


def test_half_the_precision_gives_nearly_the_same_regions(parts, tmp_path):
    model, _, slices = parts
    found = [
        cached_regions(
            model, slices, tmp_path / "regions-1", "k", limit_gb=0, execution=Execution(precision=name), progress=False
        ).take(range(6))
        for name in ("fp32", "bf16")
    ]
    assert found[1].dtype == torch.float16 and not found[0].equal(found[1])
    near = (found[0] - found[1]).float().flatten(2).norm(dim=2) < 0.05 * found[0].float().flatten(2).norm(dim=2)
    assert near.float().mean() > 0.5  # a few regions may be others, where scores nearly agree


def test_reading_anew_leaves_a_model_in_training_as_it_is(parts, tmp_path):
    model, _, slices = parts
    regions = cached_regions(model, slices, tmp_path / "regions-1", "k", limit_gb=0, progress=False)
    held = regions.take([0, 1])
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert regions.take([0, 1]).equal(held) and not regions.take([0]).requires_grad
    assert model.detector.training and all(torch.equal(model.state_dict()[name], before[name]) for name in before)
    model.eval()


def test_a_cache_is_completed_in_the_blocks_that_were_missing(parts, tmp_path, monkeypatch):
    "Killed in its second block: the first is not read again, and the numbers are those of a run that was not killed."
    model, _, slices = parts
    whole = cached_regions(model, slices, tmp_path / "whole" / "regions-1", "k", progress=False)
    read, blocks = region_cache.read_regions, []

    def killed(model, dataset, rows, batch, execution):
        blocks.append(rows)
        if len(blocks) == 2:
            raise KeyboardInterrupt
        return read(model, dataset, rows, batch, execution)

    monkeypatch.setattr(region_cache, "read_regions", killed)
    monkeypatch.setattr(row_files, "FLUSH_SECONDS", 0)  # every block is noted
    with pytest.raises(KeyboardInterrupt):
        cached_regions(model, slices, tmp_path / "regions-1", "k", progress=False)
    again = cached_regions(model, slices, tmp_path / "regions-1", "k", progress=False)
    assert [rows.start for rows in blocks] == [0, 8, *range(8, len(slices), 8)]
    assert contents(tmp_path / "regions-1") == contents(tmp_path / "whole" / "regions-1")
    assert again.take(range(len(slices))).equal(whole.take(range(len(slices))))


def test_room_is_said_before_the_first_slice_is_read(parts, tmp_path, monkeypatch, capsys):
    "The bound counts other caches beside it; the free space of the disk bounds as well."
    model, _, slices = parts
    row, rows = 2 * int(np.prod(region_shape(model))), len(slices)
    monkeypatch.setattr(region_cache, "read_regions", lambda *words: pytest.fail("a slice was read"))
    cached_regions(model, slices, tmp_path / "regions-1", "k", limit_gb=7 * row / 2**30)
    assert f"regions of {rows} slices" in (said := capsys.readouterr().out) and "there is room for 7" in said
    (tmp_path / "regions-2").mkdir()
    (tmp_path / "regions-2" / "rows.bin").write_bytes(os.urandom(4 * row))
    beside = bytes_in(tmp_path / "regions-2")
    cached_regions(model, slices, tmp_path / "regions-1", "k", limit_gb=(7 * row + beside) / 2**30)
    assert "there is room for 7" in (said := capsys.readouterr().out) and "taken by other regions" in said
    monkeypatch.setattr(region_cache, "free_bytes", lambda folder: 5 * row)
    cached_regions(model, slices, tmp_path / "regions-1", "k")
    assert "there is room for 5" in capsys.readouterr().out
    assert not (tmp_path / "regions-1").exists()


def test_a_disk_that_fills_up_ends_the_cache_and_not_the_run(parts, tmp_path, monkeypatch, capsys):
    model, _, slices = parts
    put = RowFile.put

    def full(self, start, values):
        if start >= 8:
            raise StorageError("writing failed: no space left.")
        put(self, start, values)

    monkeypatch.setattr(RowFile, "put", full)
    regions = cached_regions(model, slices, tmp_path / "regions-1", "k")
    assert "read anew in every epoch" in capsys.readouterr().out
    assert regions.file.done.sum() == 8 and regions.take([0, 12]).isfinite().all()


def test_memory_does_not_grow_with_the_slices(parts, tmp_path):
    "Two hundred rows of 1 MB on disk: reading all of them holds a few at a time."
    file = RowFile(tmp_path, key="k", rows=200, shape=(2**19,), dtype="float16")
    for start in range(0, 200, 4):
        file.put(start, np.full((4, 2**19), start))
    regions = region_cache.CachedRegions(file, None, parts[0])
    held, most, total = weakref.WeakSet(), 0, 0.0
    for part in regions.in_turn([[row] for row in range(200)]):
        held.add(part)
        total, most = total + float(regions.complete(part)[0, 0]), max(most, len(held))
    assert total == sum(row // 4 * 4 for row in range(200)) and most < 10


# ---- the aggregator


def test_the_aggregator_learns_the_same_from_the_disk_and_anew(parts, tmp_path):
    "Losses and validation figures of a stage."
    model, data, _ = parts
    found = []
    for name, limit in (("kept", 100), ("anew", 0)):
        regions = {
            split: cached_regions(
                model,
                data.dataset(split, labelled=True),
                tmp_path / name / f"regions-{split}",
                split,
                limit_gb=limit,
                progress=False,
            )
            for split in ("train", "validation")
        }
        stage = aggregator_stage(model, data, regions, CPU)
        batches = list(stage.batches(range(3)))
        losses = [next(iter(stage.losses(batch, step)))["loss_image"] for step, batch in enumerate(batches)]
        found.append(([batch.rows for batch in batches], torch.stack(losses), stage.validate()))
    assert found[0][0] == found[1][0] and len(found[0][0][0]) == data.experiment.training.classification_batch
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-3, atol=1e-4)
    assert found[0][2] == pytest.approx(found[1][2], abs=1e-3)


def test_validation_uses_the_statistics_of_evaluation_and_moves_none(phantom, tmp_path):
    "With running estimates, figures are those that the trained model will give, and looking does not change it."
    experiment = tiny(model="attention", statistics="running", normalise_vectors=True)
    data = ExperimentData(experiment, split_by_patient(SliceTable.from_csv(phantom / "slices.csv")))
    model, slices = build_model(experiment), data.dataset("validation", labelled=True)
    for norm in (part for part in model.image_head.modules() if isinstance(part, torch.nn.BatchNorm2d)):
        norm.running_mean.fill_(0.3)
    regions = cached_regions(model, slices, tmp_path / "regions-1", "k", progress=False)
    labels = torch.zeros(len(slices), dtype=torch.long)
    classes = experiment.one_shot.classes
    usual = region_scores(model.eval(), regions, labels, classes, CPU)
    before = {name: value.clone() for name, value in model.train().state_dict().items()}
    assert region_scores(model, regions, labels, classes, CPU) == usual and model.training
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in before)
    assert not answer_of(model, regions.take([0]), CPU, regions.execution).logits.equal(
        answer_of(model.eval(), regions.take([0]), CPU, regions.execution).logits
    )  # the modes do differ


def test_what_changes_regions_changes_their_key():
    keys = [
        _cache_key(tiny(**change), "detector", "train", "masks")
        for change in ({}, dict(precision="bf16"), dict(roi_batch=5), dict(ranking="score"), dict(seed=1))
    ]
    assert len(set(keys)) == len(keys)
    kinds = [
        _cache_key(tiny(model=model), "detector", "train", "boxes").replace("32", "")
        for model in ("single-shot", "ct-mask-net")
    ]
    assert kinds[0] != kinds[1]  # one of them takes boxes of no size


def test_a_run_without_room_ends_and_old_caches_are_ignored(finished, tmp_path):
    "As many slices go through the detector as the bound asks for; a file of an earlier version is not read."
    shared = finished.folder.parent / "shared"
    for folder in shared.glob("detector-*"):
        (tmp_path / "shared").mkdir(exist_ok=True)
        (tmp_path / "shared" / folder.name).symlink_to(folder)
    old = tmp_path / "shared" / "regions-0123456789ab.safetensors"
    old.write_bytes(b"from an earlier version")
    run = train(
        finished.experiment.replace(region_cache_gb=0.0),
        tmp_path / "run",
        shared=tmp_path / "shared",
        table=finished.table,
        progress=False,
    )
    assert run.complete and run.detector.folder.name == finished.detector.folder.name
    assert not [path for path in (tmp_path / "shared").glob("regions-*") if path.is_dir()]
    ours, theirs = run.history, finished.history
    aggregator = ours["stage"] == "aggregator"
    assert np.allclose(ours["loss_image"][aggregator], theirs["loss_image"][theirs["stage"] == "aggregator"], atol=1e-2)
    assert old.read_bytes() == b"from an earlier version"
    kept = [json.loads((path / "about.json").read_text()) for path in shared.glob("regions-*") if path.is_dir()]
    assert kept and all(note["dtype"] == "float16" and note["format"] == 1 for note in kept)
