"The survey of a data set, what a run reads before it starts, and the rules on files, masks and twins."

import importlib.util
import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import imagehash
import numpy as np
import pandas as pd
import planted
import pytest
from conftest import SHARED, tiny
from PIL import Image

from covid_workbench.data import planes, slice_facts
from covid_workbench.data import survey as surveys
from covid_workbench.data.audit_masks import turned_masks
from covid_workbench.data.description import STANDARD, ObjectClasses
from covid_workbench.data.fact_store import FactStore
from covid_workbench.data.findings import RULES, Audited
from covid_workbench.data.phantom import PhantomSettings, write_phantom
from covid_workbench.data.picture_hash import distances, hash_numbers, near_pairs, perceptual_hash
from covid_workbench.data.slice_readers import read_apart, read_here
from covid_workbench.data.slices import SliceTable
from covid_workbench.data.sources import open_source
from covid_workbench.data.splits import split_by_patient
from covid_workbench.data.survey import HASHES, SURVEY, survey
from covid_workbench.picture_files import picture_facts
from covid_workbench.runs.datasets import ExperimentData, dataset_of
from covid_workbench.training.tasks import lesion_rows, lesions_by_facts
from covid_workbench.training.train import _prepare

OBJECTS = STANDARD.objects["lesions"]


@pytest.fixture
def table(tmp_path):
    write_phantom(tmp_path / "data", 12, settings=PhantomSettings(size=64, slices=2), progress=False)
    return split_by_patient(SliceTable.from_csv(tmp_path / "data" / "slices.csv"))


@pytest.fixture
def decodes(monkeypatch):
    "The files that are decoded in this process, in order."
    seen, read = [], planes.read_picture

    def counted(path, *about, **more):
        seen.append(str(path))
        return read(path, *about, **more)

    monkeypatch.setattr(planes, "read_picture", counted)
    return seen


def seen_as(table, **more):
    return survey(table, objects=OBJECTS, progress=False, workers=1, **more)


# -- facts


def test_hashes_are_those_of_imagehash(table):
    random = np.random.default_rng(0)
    pictures = [table.read(row).pixels for row in range(len(table))]
    pictures += [random.integers(0, 256, shape, dtype=np.uint8) for shape in ((7, 5), (300, 200), (33, 512))]
    for pixels in pictures:
        assert perceptual_hash(pixels) == str(imagehash.phash(Image.fromarray(pixels)))


def test_near_pairs_are_all_of_them():
    random = np.random.default_rng(1)
    base = random.integers(0, 2**63, 40, dtype=np.uint64)
    numbers = np.concatenate([base, base ^ np.uint64(0b10001), base ^ np.uint64(2**60 + 2**31 + 2**9 + 1), base[:5]])
    for most in (0, 2, 4, 6):
        one, two = near_pairs(numbers, most)
        unique, first = np.unique(numbers, return_index=True)
        wanted = {
            (min(a, b), max(a, b))
            for at, a in enumerate(first)
            for b in first[at + 1 :]
            if distances(numbers[a : a + 1], numbers[b : b + 1])[0] <= most
        }
        found = set(zip(one.tolist(), two.tolist()))
        assert wanted <= found and len(found) == len(one) == len(wanted) + 5  # five equal ones


def test_facts_are_those_of_the_slices(table):
    facts = seen_as(table)
    for row in range(len(table)):
        piece, own = table.read(row), facts.iloc[row]
        assert own["phash"] == str(imagehash.phash(Image.fromarray(piece.pixels)))
        assert own["grey_mean"] == pytest.approx(piece.pixels.mean()) and own["grey_std"] == pytest.approx(
            piece.pixels.std()
        )
        assert own["grey_low"] <= np.percentile(piece.pixels, 2) and own["grey_high"] >= np.percentile(piece.pixels, 98)
        assert own["mask_counts"] == {int(value): int((piece.mask == value).sum()) for value in np.unique(piece.mask)}
        assert max(Image.open(io.BytesIO(own["thumbnail"])).size) == 64 and len(own["outside"]) == 256
    assert facts["kind"].eq("PNG").all() and facts["bits"].eq(8).all() and facts["sha256"].str.len().eq(64).all()


def test_headers_are_read_without_decoding(tmp_path, monkeypatch):
    exif = Image.Exif()
    exif[274] = 6
    pictures = {
        "a.png": dict(mode="LA"),
        "b.jpg": dict(mode="L", exif=exif),
        "c.tif": dict(mode="L", save_all=True, append_images=[Image.new("L", (5, 4))]),
        "d.png": dict(mode="I;16"),
        "e.bmp": dict(mode="1"),
    }
    found = {}
    for name, options in pictures.items():
        Image.new(options.pop("mode"), (5, 4)).save(tmp_path / name, **options)
        found[name] = picture_facts((tmp_path / name).read_bytes())
    assert [name for name, facts in found.items() if facts.alpha] == ["a.png"]
    assert [name for name, facts in found.items() if facts.rotated] == ["b.jpg"]
    assert [name for name, facts in found.items() if facts.frames > 1] == ["c.tif"]
    assert [facts.bits for facts in found.values()] == [8, 8, 8, 16, 1]
    assert all((facts.width, facts.height) == (5, 4) for facts in found.values())
    for content in (b"", b"\x89PNG\r\n\x1a\n" + b"\0" * 40, (tmp_path / "c.tif").read_bytes()[:9], b"BM"):
        assert picture_facts(content) is None


# -- the store


def test_every_file_is_decoded_once_and_then_never(table, tmp_path, decodes):
    store = tmp_path / "shared" / SURVEY
    first = seen_as(table, store=store)
    assert sorted(decodes) == sorted(str(table.root / name) for name in [*table.frame["image"], *table.frame["mask"]])
    decodes.clear()
    again = seen_as(table, store=store)
    assert not decodes and again.equals(first)
    (table.root / table.frame["image"][3]).write_bytes((table.root / table.frame["image"][4]).read_bytes())
    assert seen_as(table, store=store)["phash"][3] == first["phash"][4]
    assert len(decodes) == 2  # the picture that changed, and its mask


@pytest.mark.parametrize(
    "change",
    [
        dict(transpose=True),
        dict(mask_values="0:0 1:1 2:3 3:2"),
        dict(crop="0 0 40 50"),
        dict(mask_turn="up-down"),
        "objects",
    ],
)
def test_what_is_read_another_way_is_read_again(table, tmp_path, decodes, change):
    store, objects = tmp_path / SURVEY, OBJECTS
    before = seen_as(table, store=store)
    decodes.clear()
    if change == "objects":
        objects = ObjectClasses(("both",), ((2, 3),))
    else:
        table = table.with_rows(table.frame.assign(**change))
    after = survey(table, store, objects=objects, progress=False)
    assert len(decodes) == 2 * len(table) and not after.equals(before)


@pytest.mark.parametrize("damage", ["noise", "empty", "foreign", "version", "folder", "link", "entries"])
def test_a_store_that_cannot_be_used_is_done_without(table, tmp_path, damage):
    store = tmp_path / "shared" / SURVEY
    before = seen_as(table, store=store)
    if damage == "noise":
        store.write_bytes(os.urandom(5000))
    elif damage == "empty":
        store.write_bytes(b"")
    elif damage in ("foreign", "version", "entries"):
        store.unlink() if damage == "foreign" else None
        with sqlite3.connect(store) as base:
            base.execute(
                {"foreign": "CREATE TABLE notes (a)", "version": "PRAGMA user_version = 99"}.get(
                    damage, "UPDATE facts SET facts = '[1'"
                )
            )
        base.close()
    else:
        store.rename(tmp_path / "was")
        store.mkdir() if damage == "folder" else store.symlink_to(tmp_path / "was")
    was = {path.name for path in store.parent.iterdir()}
    for _ in range(2):
        assert seen_as(table, store=store).equals(before)
    aside = [path.name for path in store.parent.iterdir() if ".aside-" in path.name]
    assert len(aside) == (damage in ("noise", "foreign", "version")) and was <= {p.name for p in store.parent.iterdir()}
    assert damage in ("folder", "link") or len(FactStore(store).get(_keys(table, store))) == len(table)


def _keys(table, store):
    return surveys._keys(table, surveys._identities(table, store.with_name(HASHES), False), OBJECTS)


def test_a_read_only_folder_is_enough(table, tmp_path, decodes, monkeypatch):
    store = tmp_path / "shared" / SURVEY
    before = seen_as(table, store=store)
    decodes.clear()

    def refuse(*about, **more):
        raise sqlite3.OperationalError("attempt to write a readonly database")

    monkeypatch.setattr(FactStore, "flush", refuse if os.geteuid() else FactStore.flush)
    store.chmod(0o444)
    store.parent.chmod(0o555)
    try:
        assert seen_as(table, store=store).equals(before) and not decodes
    finally:
        store.parent.chmod(0o755)


def test_a_killed_survey_goes_on_where_it_was(table, tmp_path, decodes):
    "A process that reads slowly is killed; the next one reads the rest alone."
    store = tmp_path / "shared" / SURVEY
    table.save(tmp_path / "data" / "slices.csv")
    program = f"""
import time
from covid_workbench.data import slice_facts, slice_readers, survey as surveys
from covid_workbench.data.slices import SliceTable
surveys.SAVE_EVERY = 0
real = slice_readers.slice_facts
def slow(*about):
    time.sleep(0.1)
    print("read", flush=True)
    return real(*about)
slice_readers.slice_facts = slow
table = SliceTable.from_csv({str(tmp_path / "data" / "slices.csv")!r})
surveys.survey(table, surveys.Path({str(store)!r}), objects=table.description.objects["lesions"], progress=False)
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    for _ in range(8):
        assert process.stdout.readline() == "read\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    known = len(FactStore(store).get(_keys(table, store)))
    assert 6 <= known < len(table)
    facts = seen_as(table, store=store)
    assert len(decodes) == 2 * (len(table) - known) and not facts["error"].any()


def test_processes_read_what_one_reads(table, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("json.py").write_text("raise SystemExit('imported from the working folder')")
    (table.root / table.frame["image"][5]).write_bytes(b"none")
    rows = range(len(table))
    here, apart = dict(read_here(table, rows, OBJECTS)), dict(read_apart(table, rows, OBJECTS, 2))
    assert pd.DataFrame(here).equals(pd.DataFrame(apart)[list(here)]) and here[5]["error"]
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    assert sorted(dict(read_apart(table, rows, OBJECTS, 2))) == list(rows)


# -- what a run reads before it starts


def test_a_run_decodes_nothing_twice_before_it_starts(table, tmp_path, decodes):
    experiment = tiny(model="attention", image_size=64, min_lesion_area=4)
    import torch

    parts = _prepare(experiment, tmp_path / "run", tmp_path / "shared", torch.device("cpu"), False, table, None)[1]
    masks = [path for path in decodes if "mask" in path]
    assert len(decodes) == len(set(decodes)) == 2 * len(table) and len(masks) == len(table)
    decodes.clear()
    _prepare(experiment, tmp_path / "other", tmp_path / "shared", torch.device("cpu"), False, table, None)
    assert not decodes
    assert parts.facts.index.tolist() == table.frame["id"].tolist()


@pytest.mark.parametrize("labels_by", ["value", "rank"])
@pytest.mark.parametrize("image_size", [64, 40, 33])
def test_lesion_rows_are_those_of_the_data_set(tmp_path, image_size, labels_by):
    "Slivers, lines between the pixels that are kept, areas at the limit, no lung: whatever the facts say must hold."
    random, rows = np.random.default_rng(image_size), []
    for number in range(20):
        mask = np.zeros((64, 96), np.uint8)
        mask[5:60, 5:90] = number % 3 > 0
        top, left = random.integers(2, 30, 2)
        high, wide = random.choice([1, 2, 3, 12], 2)
        mask[top : top + high, left : left + int(wide) * int(random.integers(1, 5))] = random.integers(2, 4)
        mask[1::2, 1] = 2 * (number % 7 == 0)
        Image.fromarray(random.integers(0, 255, mask.shape, dtype=np.uint8)).save(tmp_path / f"{number}.png")
        Image.fromarray(mask).save(tmp_path / f"m{number}.png")
        rows.append(dict(id=str(number), patient=str(number), image=f"{number}.png", mask=f"m{number}.png"))
    table = SliceTable(pd.DataFrame(rows), tmp_path)
    sure = 0
    for area in (0, 3):
        experiment = tiny(image_size=image_size, min_lesion_area=area, objects="lesions")
        dataset = dataset_of(experiment, table)
        dataset.labels_by = labels_by
        facts = survey(table, objects=experiment.objects, progress=False)
        sure += sum(lesions_by_facts(dataset, own) is not None for own in facts.to_dict("records"))
        assert lesion_rows(dataset, facts) == lesion_rows(dataset)
        assert (
            ExperimentData(experiment, table, facts.set_index(table.frame["id"]))
            .facts_of(dataset)
            .equals(facts.set_index(table.frame["id"]))
        )
    assert sure > 0


# -- the rules


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clean")
    return folder, planted.clean_set(folder / "set", 4)


OWN = [name for name in planted.known_faults() if name not in planted.WHOLE_SET]


@pytest.mark.parametrize("name", OWN)
def test_each_fault_is_found_by_its_rule(clean, tmp_path, name):
    import shutil

    shutil.copytree(clean[1].root, tmp_path / "set")
    table = SliceTable(clean[1].frame, tmp_path / "set")
    assert planted.FAULTS[name][0] in planted.alarms(planted.spoil(table, [name], 1))


def test_nobody_is_accused_on_clean_sets(tmp_path):
    for seed in (0, 2, 4):
        own = planted.alarms(planted.clean_set(tmp_path / str(seed), seed))
        assert not own & {rule for rule, _ in planted.FAULTS.values() if rule in RULES}


def test_every_finding_says_where_and_what_to_do(clean, tmp_path):
    import shutil

    shutil.copytree(clean[1].root, tmp_path / "set")
    faults = ["truncated", "mask_values", "crossing", "brightened", "tiny"]
    table = planted.spoil(SliceTable(clean[1].frame, tmp_path / "set"), faults, 3)
    audited = Audited(table, survey(table, objects=OBJECTS, progress=False), min_area=2)
    found = [finding for rule in RULES.values() for finding in rule(audited)]
    assert {"file-truncated", "mask-values", "patient-in-two-splits", "nearly-same-picture"} <= {
        one.rule for one in found
    }
    for finding in found:
        assert finding.what and finding.level in ("error", "warning", "note")
        json.dumps(finding.as_json())
        if finding.rule in {rule for rule, _ in planted.FAULTS.values()}:
            assert finding.mend and finding.evidence and finding.count
    twin = next(one for one in found if one.rule == "nearly-same-picture").evidence[0]
    assert {twin["slice"], twin["other"]} <= set(table.frame["id"]) and twin["slice"] != twin["other"]


def test_archives_that_are_not_safe_are_named(clean, tmp_path):
    if importlib.util.find_spec("covid_workbench.data.archives") is None:
        assert list(RULES["archive-unsafe"](Audited(clean[1], seen_as(clean[1])))) == []
        return
    import zipfile

    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("../../out.png", b"x")
    table = SliceTable(pd.DataFrame([dict(id="a", patient="p", image="a.png")]), tmp_path)
    found = list(RULES["archive-unsafe"](Audited(table, seen_as(table))))
    assert [one.level for one in found] == ["error"] and "evil.zip" in found[0].what


def turns_found(table):
    return [one.mend for one in turned_masks(Audited(table, survey(table, objects=OBJECTS, progress=False)))]


@pytest.mark.parametrize("way", ["", "left-right", "up-down"])
def test_real_lesion_masks_are_known_to_lie_right_or_turned(shared, way):
    "COVID-SemiSeg has lesion masks alone; every second slice of its test folder is enough."
    table = open_source(shared / "data" / "covid-semiseg")
    table = table.where(table.frame["split"] == "test")
    mends = turns_found(table.with_rows(table.frame.assign(mask_turn=way).iloc[::2]))
    assert len(mends) == bool(way) and all("leave mask_turn empty" in mend for mend in mends)


@pytest.fixture(scope="module")
def medseg(tmp_path_factory):
    "Every second slice of MedSeg's volumes as pictures; its lesion masks are transposed, its lung masks mirrored."
    folder = SHARED / "data" / "medseg2-volumes"
    if not folder.is_dir():
        pytest.skip(f"research material is not there ({SHARED})")
    from pydicom import dcmread

    out, rows = tmp_path_factory.mktemp("medseg"), []
    for mask in sorted((folder / "InfectionMasks").glob("*.png"))[::2]:
        volume, number = mask.stem.split("_z")
        stored = dcmread(next(folder.glob(f"*/DCM{volume}/m*-s{int(number):04d}-{volume}.dcm"))).pixel_array
        grey = np.clip(stored / np.percentile(stored, 99.5) * 255, 0, 255)
        Image.fromarray(grey.astype(np.uint8)).save(out / f"{mask.stem}.png")
        row = dict(id=mask.stem, patient=volume, image=str(out / f"{mask.stem}.png"), mask=str(mask))
        rows.append(row | dict(lungs=str(folder / "LungMasks" / mask.name), mask_values="127:2 255:3"))
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("mask_turn", "lungs_turn", "mend"),
    [
        ("transpose", "left-right", None),
        ("", "left-right", "mask_turn='transpose'"),
        ("transpose", "", "lungs_turn='left-right'"),
    ],
)
def test_real_lungs_and_lesions_that_are_turned_apart(medseg, mask_turn, lungs_turn, mend):
    mends = turns_found(SliceTable(medseg.assign(mask_turn=mask_turn, lungs_turn=lungs_turn), "/"))
    assert (not mends) if mend is None else any(mend in one for one in mends)


def test_large_tables_are_judged_in_time(clean):
    "60,000 hashes are compared within the budget of this file; adjacent slices of a patient are no twins."
    random = np.random.default_rng(0)
    patients = np.repeat(random.integers(0, 2**63, 6000, dtype=np.uint64), 10)
    numbers = patients ^ (np.uint64(1) << random.integers(0, 64, 60_000).astype(np.uint64))
    started = time.monotonic()
    one, two = near_pairs(numbers, 4)
    assert (np.asarray(one) // 10 == np.asarray(two) // 10).mean() > 0.99 and len(one) > 200_000
    assert time.monotonic() - started < 60
    assert hash_numbers(["ffffffffffffffff"])[0] == 2**64 - 1
    assert slice_facts.FACTS["thumbnail"] == b""
