"""Decoded slices on disk: the same bytes as from the files, whoever writes, is killed or runs out of room meanwhile."""

import inspect
import os
import pickle
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import tiny
from PIL import Image
from torch.utils.data import DataLoader

from covid_workbench import packed_files
from covid_workbench.data import dataset as dataset_module
from covid_workbench.data import slice_cache as slice_cache_module
from covid_workbench.data.augmentation import Augmentation, AugmentedSlices
from covid_workbench.data.dataset import SliceDataset, collate, normalise_pictures
from covid_workbench.data.description import OBJECT_CLASSES
from covid_workbench.data.slice_cache import slice_cache
from covid_workbench.data.slices import SliceTable
from covid_workbench.evaluation.evaluate import evaluate
from covid_workbench.locks import exclusive
from covid_workbench.packed_files import ENTRY, HEAD, KEY, PackedFiles
from covid_workbench.runs.run import Run
from covid_workbench.training.train import train


@pytest.fixture(autouse=True)
def settled(monkeypatch):
    "Files of a moment ago count as at rest, so that no test has to wait for them."
    monkeypatch.setattr(slice_cache_module, "SETTLED", 0)


@pytest.fixture
def table(tmp_path) -> SliceTable:
    "Six slices of 40x32, the last without a mask, one cropped, one turned."
    rows = []
    for number in range(6):
        chance = np.random.default_rng(number)
        mask = np.zeros((32, 40), np.uint8)
        mask[4:14, 5 : 9 + number], mask[18:26, 20:35] = 2, 3
        mask[5, 6] = mask[20, 20] = 0
        Image.fromarray(chance.integers(0, 256, mask.shape, dtype=np.uint8)).save(tmp_path / f"{number}.png")
        Image.fromarray(mask).save(tmp_path / f"{number}_mask.png")
        rows.append(dict(id=f"s{number}", patient=number, image=f"{number}.png", mask=f"{number}_mask.png", label="CP"))
    rows[5]["mask"], rows[3]["crop"], rows[4]["transpose"] = "", "2 1 38 30", True
    return SliceTable(pd.DataFrame(rows).fillna({"crop": "", "transpose": False}), tmp_path)


def dataset(table, folder=None, limit_gb=0.1, **settings) -> SliceDataset:
    cache = None if folder is None else slice_cache(table, folder, limit_gb)
    settings = dict(image_size=32, objects=OBJECT_CLASSES["lesions"], min_area=5) | settings
    return SliceDataset(table, cache=cache, **settings)


def same(one, other) -> bool:
    if isinstance(one, torch.Tensor | np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and bool((one == other).all())
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    return len(one) == len(other) and all(map(same, one, other)) if isinstance(one, list | tuple) else one == other


def lesions_of(plain: SliceDataset) -> list:
    found = [plain.lesions(plain.slice(row)) for row in range(len(plain))]
    return [own and vars(own) for own in found]


@pytest.fixture
def decoded(monkeypatch) -> list:
    "Notes which rows are read from their files, and how often lesions are looked for."
    seen, read, find = [], SliceTable.read, dataset_module.lesion_targets
    monkeypatch.setattr(SliceTable, "read", lambda self, row: seen.append(row) or read(self, row))
    monkeypatch.setattr(dataset_module, "lesion_targets", lambda *about: seen.append("lesions") or find(*about))
    return seen


@pytest.mark.parametrize(
    "settings",
    [
        dict(),
        dict(image_size=48, normalise="imagenet"),
        dict(labels_by="rank"),
        dict(min_area=90),
        dict(objects=OBJECT_CLASSES["merged"]),
    ],
    ids=str,
)
def test_the_same_samples_cold_and_warm(table, tmp_path, settings, decoded):
    plain, cached = dataset(table, **settings), dataset(table, tmp_path / "slices", **settings)
    expected = [plain[row] for row in range(6)]
    assert all(same(cached[row], expected[row]) for row in range(6))
    decoded.clear()
    assert all(same(cached[row], expected[row]) for row in range(6)) and decoded == []
    assert same(cached.batch([5, 1, 3]), collate([plain.pixel_sample(row) for row in (5, 1, 3)]))
    assert same([cached.lesions_of(row) and vars(cached.lesions_of(row)) for row in range(6)], lesions_of(plain))
    without = cached.batch([5, 1], lesions=False)
    assert without["pixels"].equal(cached.batch([5, 1])["pixels"]) and without["masks"] == [None, None]
    for row in range(6):
        kept, stored = cached.slice(row), plain.slice(row)
        assert repr(kept) == repr(stored) and (kept.pixels == stored.pixels).all()
        assert kept.mask is stored.mask or (kept.mask == stored.mask).all()
        assert (kept.label, kept.source, kept.spacing) == (stored.label, stored.source, stored.spacing)
    assert not cached._held, "what is on disk is not held in memory as well"


def test_other_settings_have_records_of_their_own(table, tmp_path, decoded):
    for settings in (dict(), dict(min_area=90), dict(labels_by="rank"), dict(objects=OBJECT_CLASSES["merged"])):
        decoded.clear()
        samples = [dataset(table, tmp_path / "slices", **settings)[row] for row in range(6)]
        assert decoded.count("lesions") == 5 and (set(decoded) - {"lesions"} == (set() if settings else set(range(6))))
        assert same(samples, [dataset(table, **settings)[row] for row in range(6)])
    crop = SliceTable(table.frame.assign(crop="0 0 20 20"), table.root)
    assert dataset(crop, tmp_path / "slices").slice(0).pixels.shape == (20, 20)
    meant = SliceTable(table.frame.assign(mask_values="0:0 2:3 3:2"), table.root)
    assert dataset(meant, tmp_path / "slices")[0]["labels"].tolist() == dataset(meant)[0]["labels"].tolist()


def test_a_changed_file_is_read_anew(table, tmp_path):
    path, folder = table.root / "0.png", tmp_path / "slices"
    before, about = dataset(table, folder)[0], os.stat(path)
    other = np.random.default_rng(9).integers(0, 256, (32, 40), dtype=np.uint8)
    for raw in (True, False):  # in place, with the times set back; and as another file under the name
        if not raw:
            other = 255 - other
        Image.fromarray(other).save(path if raw else tmp_path / "other.png")
        if not raw:
            os.replace(tmp_path / "other.png", path)
        os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
        found = dataset(table, folder)
        assert (found.slice(0).pixels == other).all() and not same(found[0], before)
    mask = np.full((32, 40), 2, np.uint8)
    Image.fromarray(mask).save(table.root / "0_mask.png")
    assert dataset(table, folder)[0]["boxes"].tolist() == dataset(table)[0]["boxes"].tolist() == [[0, 0, 32, 32]]


def test_a_file_that_changes_while_it_is_read_is_not_kept(table, tmp_path, monkeypatch):
    found, read = dataset(table, tmp_path / "slices"), SliceTable.read

    def change(self, row):
        piece = read(self, row)
        Image.fromarray(255 - piece.pixels).save(table.root / "0.png")
        Image.fromarray(np.full((32, 40), 3, np.uint8)).save(table.root / "0_mask.png")
        return piece

    before, pixels = dataset(table)[0], dataset(table).slice(0).pixels
    with monkeypatch.context() as patch:
        patch.setattr(SliceTable, "read", change)
        assert same(found[0], before)
    assert (dataset(table, tmp_path / "slices").slice(0).pixels == 255 - pixels).all()
    assert dataset(table, tmp_path / "slices")[0]["boxes"].tolist() == [[0, 0, 32, 32]]


def test_files_of_a_moment_ago_wait(table, tmp_path, monkeypatch, decoded):
    monkeypatch.setattr(slice_cache_module, "SETTLED", 10**12)
    found = dataset(table, tmp_path / "slices")
    assert same([found[row] for row in (0, 0)], [dataset(table)[0]] * 2) and not (tmp_path / "slices").exists()
    assert decoded.count(0) == 2, "once by the data set, which holds it in memory, once by the plain one"


def test_hounsfield_units_come_from_the_file(tmp_path):
    Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 30).save(tmp_path / "hu.png")
    (tmp_path / "dataset.json").write_text('{"rescale": [1, -1024]}')
    pd.DataFrame([dict(id="a", patient="p", image="hu.png")]).to_csv(tmp_path / "slices.csv", index=False)
    table = SliceTable.from_csv(tmp_path / "slices.csv")
    found = dataset(table, tmp_path / "slices", image_size=8)
    for _ in range(2):
        assert found.slice(0).hu.tolist() == table.read(0).hu.tolist()
        assert (found.slice(0, hu=False).pixels == table.read(0).pixels).all()
    assert found.slice(0, hu=False).hu is None


def test_workers_of_a_loader_share_the_cache(table, tmp_path, decoded):
    found = dataset(table, tmp_path / "slices")
    loader = DataLoader(found, batch_sampler=[[0, 1, 2], [3, 4, 5]] * 2, collate_fn=collate, num_workers=2)
    plain = [collate([dataset(table)[row] for row in rows]) for rows in ((0, 1, 2), (3, 4, 5))]
    assert all(same(batch, plain[number % 2]) for number, batch in enumerate(loader))
    decoded.clear()
    assert same(pickle.loads(pickle.dumps(found))[1], plain[0] and dataset(table)[1]) and decoded.count(1) == 1
    assert [found[row]["id"] for row in range(6)] == [f"s{row}" for row in range(6)] and decoded.count(0) == 0


def test_augmented_batches_are_single_samples(table, tmp_path):
    augmentation, keys = Augmentation(True, 0.2, 10.0, 0.1, 0.1), [(0, 5), (3, 6), (5, 7)]
    plain, cached = (AugmentedSlices(dataset(table, folder), augmentation) for folder in (None, tmp_path / "slices"))
    batch = cached.batch(keys)
    expected = collate([plain[key] for key in keys])
    assert same({"image": cached.dataset.images(batch), **batch} | {"pixels": 0}, expected | {"pixels": 0})


@pytest.mark.parametrize("normalise", ["image", "imagenet"])
def test_a_picture_is_normalised_by_itself(normalise):
    pixels = torch.randint(0, 256, (5, 61, 61), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    pixels[3] = 7
    found = normalise_pictures(pixels, normalise)
    assert all(found[row].equal(normalise_pictures(pixels[[row]], normalise)[0]) for row in range(5))
    assert found.flip(0).equal(normalise_pictures(pixels.flip(0), normalise)) and found.is_contiguous()
    if normalise == "image":
        exact = pixels.double().flatten(1)
        deviation = exact.std(1, keepdim=True).where(exact.std(1, keepdim=True) > 0, torch.tensor(1.0).double())
        exact = ((exact - exact.mean(1, keepdim=True)) / deviation).view(5, 1, 61, 61).expand(-1, 3, -1, -1)
        assert (found - exact).abs().max() < 1e-6 and found[3].abs().max() == 0


def key_of(number: int) -> bytes:
    return number.to_bytes(KEY, "big")


def content_of(number: int) -> bytes:
    return np.random.default_rng(number).bytes(1000 + 37 * number % 5000)


WRITER = """
import numpy as np
from covid_workbench.packed_files import KEY, PackedFiles
{functions}
packed = PackedFiles({folder!r}, 1e9)
print("ready", flush=True)
for number in range({start}, {stop}):
    packed.add(key_of(number), content_of(number))
print("done", flush=True)
"""


def writer(folder, start=0, stop=10**6, **options) -> subprocess.Popen:
    "A process that adds records to a folder."
    functions = inspect.getsource(key_of) + inspect.getsource(content_of)
    words = WRITER.format(functions=functions, folder=str(folder), start=start, stop=stop)
    process = subprocess.Popen([sys.executable, "-c", words], stdout=subprocess.PIPE, text=True, **options)
    assert process.stdout.readline() == "ready\n"
    return process


def test_killed_writers_leave_whole_records(tmp_path):
    packed = PackedFiles(tmp_path / "packed", 1e9)
    for round in range(2):
        process = writer(tmp_path / "packed", start=0)
        while len(packed) < 40 * (round + 1):
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    for path in packed.folder.glob("*.index"):  # one more death, in the midst of a line
        with open(path, "ab") as file:
            file.write(b"half a line")
    with open(max(packed.folder.glob("*.pack")), "ab") as file:
        file.write(b"half a record")
    assert packed.add(key_of(10**6), b"after the deaths")
    fresh = PackedFiles(packed.folder, 1e9)
    assert fresh.get(key_of(10**6)).tobytes() == b"after the deaths"
    found = [number for number in range(5000) if fresh.get(key_of(number)) is not None]
    assert found == list(range(len(fresh) - 1)) and len(found) >= 80
    assert all(fresh.get(key_of(number)).tobytes() == content_of(number) for number in found)


def test_two_writers_keep_each_record_once(tmp_path):
    packed = PackedFiles(tmp_path / "packed", 1e9)
    processes = [writer(packed.folder, start, 150) for start in (0, 50)]
    for process in processes:
        assert process.stdout.read() == "done\n" and process.wait() == 0
        process.stdout.close()
    assert all(packed.get(key_of(number)).tobytes() == content_of(number) for number in range(150))
    assert sum(path.stat().st_size for path in packed.folder.glob("*.pack")) == sum(
        len(content_of(number)) for number in range(150)
    )


def test_a_writer_that_is_stopped_holds_nobody_up(tmp_path, monkeypatch):
    monkeypatch.setattr(packed_files, "PATIENCE", 0.05)
    packed = PackedFiles(tmp_path / "packed", 1e9)
    assert packed.add(key_of(0), b"first")
    with exclusive(packed.folder / ".lock"):
        assert not packed.add(key_of(1), b"second") and packed.get(key_of(0)).tobytes() == b"first"
    assert packed.add(key_of(1), b"second")


def size_of(folder) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def test_a_folder_keeps_to_its_limit(tmp_path):
    packed = PackedFiles(tmp_path / "packed", 40_000)
    kept = [packed.add(key_of(number), bytes(1000)) for number in range(60)]
    assert 30 < sum(kept) < 40 and kept == sorted(kept, reverse=True) and size_of(packed.folder) <= 40_000
    assert not packed.add(key_of(99), bytes(3000)), "one record must not take a segment of its own"
    for path in packed.folder.glob("*.index"):
        os.utime(path, (0, 1000 + int(path.stem)))
    used = PackedFiles(packed.folder, 40_000)
    assert used.get(key_of(0)) is not None  # so the first segment is in use
    assert used.add(key_of(100), bytes(1000)) and size_of(packed.folder) <= 40_000
    assert used.get(key_of(0)) is not None and used.get(key_of(100)) is not None
    assert packed.get(key_of(100)) is not None, "a folder that others changed is looked at again"
    gone = [number for number in range(sum(kept)) if PackedFiles(packed.folder, 40_000).get(key_of(number)) is None]
    assert gone == [2, 3], "the segment that was not used for longest, whole"
    assert packed.get(key_of(2)) is None and used.add(key_of(2), bytes(1000))


def test_some_of_the_disk_is_left_to_others(tmp_path, monkeypatch):
    packed = PackedFiles(tmp_path / "packed", 1e9)
    monkeypatch.setattr(packed_files, "SPARE", 10**18)
    assert not packed.add(key_of(0), b"content") and packed.get(key_of(0)) is None


def test_a_full_disk_loses_nothing_but_time(tmp_path):
    folder = tmp_path / "packed"
    full = 30_000  # bytes that a file may have: what the system does then is what it does on a full disk
    process = writer(folder, 0, 100, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (full, full)))
    assert process.stdout.read() == "done\n" and process.wait() == 0
    process.stdout.close()
    packed = PackedFiles(folder, 1e9)
    kept = [number for number in range(100) if packed.get(key_of(number)) is not None]
    assert kept == list(range(len(kept))) and 5 < len(kept) < 30
    assert all(packed.get(key_of(number)).tobytes() == content_of(number) for number in kept)
    assert packed.add(key_of(99), b"there is room again") and packed.get(key_of(99)).tobytes() == b"there is room again"


def test_damaged_records_are_made_anew(table, tmp_path, decoded):
    folder = tmp_path / "slices"
    expected = [dataset(table, folder)[row] for row in range(6)]
    [pack] = folder.glob("*.pack")
    content = bytearray(pack.read_bytes())
    content[len(content) // 2] ^= 1
    for damaged in (bytes(content), bytes(content)[: len(content) // 3], b""):
        pack.write_bytes(damaged)
        slice_cache_module._packed.cache_clear()
        decoded.clear()
        for _ in range(2):
            found = dataset(table, folder)
            assert all(same(found[row], expected[row]) for row in range(6)) and decoded
        assert len([row for row in decoded if row != "lesions"]) <= 6, "mended by the first who noticed"


def test_files_of_others_are_left_alone(tmp_path):
    folder = tmp_path / "packed"
    folder.mkdir()
    (folder / "000001.pack").write_bytes(b"pack of another version")
    (folder / "000001.index").write_bytes(HEAD.replace(b"1\n", b"9\n") + ENTRY.pack(key_of(1), 0, 4, 0))
    packed = PackedFiles(folder, 1e9)
    assert packed.get(key_of(1)) is None and packed.add(key_of(2), b"ours") and len(PackedFiles(folder, 1e9)) == 1
    assert (folder / "000001.pack").read_bytes() == b"pack of another version"
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_bytes(b"precious")
    (tmp_path / "links").mkdir()
    for ending in ("pack", "index"):
        (tmp_path / "links" / f"000001.{ending}").symlink_to(tmp_path / "elsewhere" / "file")
    PackedFiles(tmp_path / "links", 1e9).add(key_of(1), b"content")
    assert (tmp_path / "elsewhere" / "file").read_bytes() == b"precious"
    assert not PackedFiles(tmp_path / "elsewhere" / "file", 1e9).add(key_of(1), b"a file is no folder")


def test_a_run_has_the_same_weights_with_and_without_and_is_scored_from_the_cache(tmp_path, decoded):
    shared, weights = tmp_path / "shared", []
    for room in (0, 1):
        experiment = tiny(model="mask-rcnn", slice_cache_gb=room, epochs=1, validate_every=100)
        run = train(experiment, tmp_path / f"run{room}", shared=shared, progress=False)
        weights.append((run.folder / "weights.safetensors").read_bytes())
        assert (shared / "slices").exists() == (room > 0)
    assert weights[0] == weights[1]
    decoded.clear()
    evaluate(Run.open(run.folder), splits=("validation",), progress=False)
    assert decoded == [], "validation slices were read in training"
