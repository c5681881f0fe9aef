"""Tables, pictures and folders of other people: each fault is one sentence that says where, or is left out and counted;
and data that changed under a run are noticed.
"""

import io
import json
import os
import shutil
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import assignments, tiny
from PIL import Image, PngImagePlugin

import covid_workbench
from covid_workbench import hashes
from covid_workbench.data import phantom as phantoms
from covid_workbench.data import sources, splits
from covid_workbench.data.slices import Slice, SliceTable
from covid_workbench.errors import InputError
from covid_workbench.evaluation import answers
from covid_workbench.evaluation.evaluate import evaluate
from covid_workbench.runs import datasets
from covid_workbench.runs.run import Run
from covid_workbench.training.train import detector_run

HEADER = "id,patient,image\n"


def says(words, call, *arguments, **options):
    "The call raises an `InputError` of one line that has all of these words; nothing is warned about or printed."
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError) as error:
            call(*arguments, **options)
    text = str(error.value)
    assert len(text.splitlines()) == 1 and text.isprintable() and len(text) < 1000, text
    for word in words:
        assert str(word) in text, (word, text)
    return text


def picture(path, fill=90, size=(8, 8)):
    "Write a grey picture; returns its path."
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(size, fill, np.uint8)).save(path)
    return path


def table_in(folder, slices=12, **columns):
    "A table of pictures in `folder`, two a patient, with some columns set for all."
    for number in range(slices):
        picture(folder / f"{number}.bmp", fill=number)
    rows = [dict(id=f"s{number}", patient=f"P{number // 2}", image=f"{number}.bmp") for number in range(slices)]
    return SliceTable(pd.DataFrame(rows).assign(**columns), folder, "mine")


def replace_unseen(path, content):
    "Another content of the same size, with the times that can be set set back."
    about = path.stat()
    assert len(content) == about.st_size and content != path.read_bytes()
    path.write_bytes(content)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


def inverted(path):
    "The content of a BMP with its last pixels changed."
    content = path.read_bytes()
    return content[:-8] + bytes(255 - value for value in content[-8:])


# -- data that change


@pytest.fixture
def new_process(monkeypatch):
    "Forget all hashes, as a new process has them; the files of a test are too young to be kept otherwise."
    monkeypatch.setattr(hashes, "SETTLED", -(10**12))

    def forget():
        hashes._known.clear()
        hashes._files_read.clear()

    forget()
    return forget


def test_the_fingerprint_covers_contents(tmp_path, new_process):
    table, cache = table_in(tmp_path / "data"), tmp_path / "hashes.json"
    before = table.fingerprint(cache)
    assert before.startswith("c-") and table.matches(before, cache) and cache.is_file()
    replace_unseen(tmp_path / "data" / "3.bmp", inverted(tmp_path / "data" / "3.bmp"))
    assert table.fingerprint(cache) != before and not table.matches(before)
    new_process()
    assert table.fingerprint(cache) != before and not table.matches(before, cache)


def test_fingerprints_of_earlier_versions_still_match(tmp_path):
    row = dict(id="a", patient="P1", image="a.png", label="CP", source="s")
    assert SliceTable(pd.DataFrame([row]), tmp_path).matches("daaee29d1af3c3d4")
    table = table_in(tmp_path)
    old = "213c8a51f5c4deee"  # of these rows and sizes, by the version before
    assert table.matches(old) and not table.matches(old[::-1]) and not table.matches(None)
    (tmp_path / "3.bmp").write_bytes(b"shorter")
    assert not table.matches(old)


def test_the_same_data_elsewhere_have_the_same_fingerprint(tmp_path):
    table = table_in(tmp_path / "here")
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    assert SliceTable(table.frame, tmp_path / "there").fingerprint() == table.fingerprint()


def test_hashes_are_kept_from_one_process_to_the_next(tmp_path, new_process, monkeypatch):
    table, cache = table_in(tmp_path / "data"), tmp_path / "hashes.json"
    before = table.fingerprint(cache)
    new_process()
    monkeypatch.setattr(hashes, "_sha256", None)  # reading a picture would fail
    assert table.fingerprint(cache) == before
    with pytest.raises(TypeError):
        hashes._known.clear()
        table.fingerprint()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe\0",
        b"[1, 2]",
        b'{"files": 3}',
        b'{"files": {"PATH": 3}}',
        b'{"files": {"PATH": [1, 2, 3, 4, 5]}}',
        b'{"files": {"PATH": [SIZE, 1, 2, 3, "' + b"0" * 64 + b'"]}}',
        b"[" * 100_000,
    ],
)
def test_a_damaged_or_foreign_file_of_hashes_is_replaced(tmp_path, new_process, content):
    table, cache = table_in(tmp_path / "data"), tmp_path / "hashes.json"
    before, first = table.fingerprint(cache), tmp_path / "data" / "0.bmp"
    whole = cache.read_bytes()
    cache.write_bytes(
        content.replace(b"PATH", str(first).encode()).replace(b"SIZE", str(first.stat().st_size).encode())
    )
    new_process()
    assert table.fingerprint(cache) == before
    assert json.loads(cache.read_text())["files"] == json.loads(whole)["files"]


def test_the_file_of_hashes_is_bounded_and_not_needed(tmp_path, new_process, monkeypatch):
    monkeypatch.setattr(hashes, "KEPT_AT_MOST", 15)
    first, second, cache = table_in(tmp_path / "a"), table_in(tmp_path / "b"), tmp_path / "hashes.json"
    first.fingerprint(cache)
    second.fingerprint(cache)
    kept = json.loads(cache.read_text())["files"]
    assert len(kept) == 15 and all(str(tmp_path / "b" / f"{number}.bmp") in kept for number in range(12))
    assert first.fingerprint(tmp_path / "none" / "hashes.json") == first.fingerprint()
    assert not (tmp_path / "none").exists()


def test_a_file_that_just_changed_is_not_kept(tmp_path):
    table, cache = table_in(tmp_path / "data", slices=1), tmp_path / "hashes.json"
    table.fingerprint(cache)
    assert not cache.exists()


def test_a_picture_replaced_after_the_check_is_checked_again(tmp_path):
    table, path = table_in(tmp_path / "data"), tmp_path / "data" / "3.bmp"
    datasets.check_slices(table, tmp_path / "shared", progress=False)
    datasets.check_slices(table, tmp_path / "shared", progress=False)
    replace_unseen(path, b"?" * path.stat().st_size)
    says(("slice s3", "3.bmp", "--skip-broken"), datasets.check_slices, table, tmp_path / "shared", progress=False)


def test_what_was_computed_on_other_contents_is_not_used(tmp_path):
    "All pictures inverted, as BMPs of the same size: the detector that a warm start shares is another one."
    table, experiment = table_in(tmp_path / "data"), tiny(model="attention")
    _, before = detector_run(experiment, table, tmp_path)
    assert detector_run(experiment, table, tmp_path)[1] == before
    for path in table.root.glob("*.bmp"):
        replace_unseen(path, inverted(path))
    assert detector_run(experiment, table, tmp_path)[1] != before


@pytest.mark.parametrize("damage", ["changed", "gone", "table", "record"])
def test_a_phantom_whose_files_changed_is_not_used(tmp_path, damage):
    data = tiny(phantom_patients=12, phantom_slices=2).data
    table = datasets.prepare_data(data, tmp_path, progress=False)
    assert datasets.prepare_data(data, tmp_path, progress=False).frame.equals(table.frame)
    path = table.root / table.frame["image"][2]
    if damage == "changed":
        replace_unseen(path, path.read_bytes()[:-1] + b"?")
    elif damage == "gone":
        path.unlink()
    elif damage == "table":
        (table.root / "slices.csv").write_text((table.root / "slices.csv").read_text().replace("CP", "Normal"))
    else:
        (table.root / "contents.json").write_text('{"files": [1]}')
    words = ("contents.json", "files") if damage == "record" else ("1 of its 49 files", "delete the folder")
    says((table.root.name, *words), datasets.prepare_data, data, tmp_path, progress=False)
    shutil.rmtree(table.root)
    assert datasets.prepare_data(data, tmp_path, progress=False).frame.equals(table.frame)


def test_a_phantom_from_before_contents_were_recorded_is_read(tmp_path):
    small = phantoms.PhantomSettings(size=64, slices=1)
    written = phantoms.write_phantom(tmp_path / "phantom", 2, settings=small)
    (tmp_path / "phantom" / "contents.json").unlink()
    assert phantoms.write_phantom(tmp_path / "phantom", 2, settings=small).equals(written)


# -- tables


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", ("empty",)),
        (b"\n\n", ("empty",)),
        (HEADER, ("no slices",)),
        (HEADER + "a,P1\n", ("line 2", "2 fields", "3")),
        (HEADER + "a,P1,a.png\nb,P2,b.png,\n", ("line 3", "4 fields")),
        (HEADER + 'a,"P1,a.png\nb,P2,b.png\n', ("line", "CSV")),
        (HEADER + '"' * 100_001, ("line", "CSV")),
        (HEADER + "a,P1," + "x" * 200_000, ("line 2", "field")),
        (HEADER + "a,P1," + "x" * 5000, ("slice a", "image", "5,000 characters")),
        (HEADER + "a,P1,a\0.png\n", ("line 2", "NUL")),
        ((HEADER + "a,Müller,a.png\n").encode("latin-1"), ("line 2", "0xfc", "UTF-8")),
        ((HEADER + "a,P1,a.png\n").encode("utf-16"), ("UTF-16",)),
        ("id;patient;image\na;P1;a.png\n", ("';'", "commas")),
        ("id,patient,image,id\na,P1,a.png,b\n", ("column 'id'", "twice")),
        ("id,patient\na,P1\n", ("column 'image' is missing",)),
        (HEADER + ",P1,a.png\n", ("row 1", "id is empty")),
        (HEADER + "a,P1,a.png\n  ,P1,b.png\n", ("row 2", "id is empty")),
        (HEADER + "a,P1,\n", ("slice a", "image is empty")),
        (HEADER + "a" * 10_000 + ",P1,a.png\n", ("row 1", "id", "10,000 characters", "256")),
        (HEADER + "a," + "P" * 300 + ",a.png\n", ("slice a", "patient", "300 characters")),
        (HEADER + "a\x1b[2J,P1,a.png\n", ("row 1", "id", "\\x1b", "control")),
        (HEADER + '"a\nb",P1,a.png\n', ("row 1", "id", "\\n", "control")),
        (HEADER + "a,\u202eP1,a.png\n", ("slice a", "patient", "\\u202e")),
    ],
)
def test_a_table_that_cannot_be_read(tmp_path, content, words):
    path = tmp_path / "slices.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    picture(tmp_path / "a.png")
    says(("slices.csv", *words), sources.open_source, tmp_path)


@pytest.mark.parametrize(
    "column, value, words",
    [
        ("index", "nan", ("not a whole number",)),
        ("index", "1e400", ("not a whole number",)),
        ("index", "9" * 5000, ("characters",)),
        ("index", "9" * 30, ("not a whole number",)),
        ("index", "seven", ("not a whole number",)),
        ("transpose", "maybe", ("true or false",)),
        ("mask_values", "1:300", ("pairs", "mask value")),
        ("mask_values", "1:-1", ("pairs", "mask value")),
        ("mask_values", "1:4", ("meaning 4", "3 consolidation")),
        ("mask_values", "1:2 1:3", ("different",)),
        ("mask_values", "9" * 30 + ":1", ("pairs",)),
        ("label", "Covid\x07", ("control",)),
        ("label", "covid", ("unknown", "COVID-19")),
        ("split", "testing", ("unknown", "test")),
        ("id", pd.NA, ("row 1", "empty")),
        ("id", "a\udcff", ("row 1", "UTF-8")),
    ],
)
def test_a_value_without_meaning(column, value, words):
    row = dict(id="a", patient="P1", image="a.png") | {column: value}
    where = "row 1" if column == "id" else "slice a"
    says(("mine.csv", where, column, *words), SliceTable, pd.DataFrame([row]), ".", "mine.csv")


def test_what_a_table_may_hold_as_before(tmp_path):
    rows = "id,patient,image,index,transpose,mask_values\n"
    rows += 'a,"P, 1",../a.png,,True,1:2 255:3\n\n' + f"é,P2,{tmp_path / 'b.png'},-3,0,\n"
    (tmp_path / "slices.csv").write_text("\ufeff" + rows.replace("\n", "\r\n"), encoding="utf-8", newline="")
    frame = SliceTable.from_csv(tmp_path / "slices.csv").frame
    assert frame["patient"].tolist() == ["P, 1", "P2"] and frame["index"].tolist() == [0, -3]
    assert frame["transpose"].tolist() == [True, False] and frame["mask_values"][0] == "1:2 255:3"


def test_other_things_than_tables(tmp_path):
    says(("list",), SliceTable, [1, 2])
    twice = pd.DataFrame([["a", "P1", "a.png", "b"]], columns=["id", "patient", "image", "id"])
    says(("'id' occurs twice",), SliceTable, twice)
    (tmp_path / "table.csv").mkdir()
    says(("table.csv",), sources.open_source, tmp_path / "table.csv")
    says(("none.csv", "no such slice table"), sources.open_source, tmp_path / "none.csv")
    says(("a\\x00b",), sources.open_source, "a\0b")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.csv")
        says(("pipe.csv",), sources.open_source, tmp_path / "pipe.csv")


def test_a_folder_without_a_proper_name(tmp_path):
    try:
        folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
        picture(folder / "Normal" / "1" / "1" / "1.png")
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    says(("UTF-8", "rename"), sources.open_source, folder)
    folder.rename(tmp_path / "data")
    (tmp_path / "data" / "Normal" / "1" / "1" / "1.png").rename(
        os.fsdecode(os.fsencode(tmp_path) + b"/data/Normal/1/1/\xff.png")
    )
    says(("row 1", "UTF-8"), sources.open_source, tmp_path / "data")


def test_pictures_that_are_none_are_not_passed_over(tmp_path):
    picture(tmp_path / "1.png")
    (tmp_path / "2.png").symlink_to(tmp_path / "gone.png")
    says(("2.png", "dead link"), sources.open_source, tmp_path, pictures=True)


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", ("empty",)),
        (b"source,patient,person\ns,P0\n", ("line 2", "fields")),
        (b"source,patient,person\ns,P0,\xff\n", ("line 2", "UTF-8")),
        (b"source,patient,person\ns,P0, \n", ("line 2", "no person")),
        (b"source,patient,person\ns,P0,A\ns, p1,A\n", (" p1", "'P1'", "write the name")),
        (b"source,patient,person\ns,P0,a\x1bb\n", ("person", "\\x1b", "control")),
    ],
)
def test_a_patients_csv_that_cannot_be_used(tmp_path, content, words):
    table_in(tmp_path, source="s").save(tmp_path / "slices.csv")
    (tmp_path / "patients.csv").write_bytes(content)
    text = says(words, sources.open_source, tmp_path)
    assert "patients.csv" in text or "slices.csv" in text


# -- one person under two names


def test_patients_who_differ_by_blanks_or_case_are_said(tmp_path):
    frame = table_in(tmp_path, label="CP").frame
    names = frame["patient"].replace({"P1": "p0", "P3": "P2 "})
    [note] = splits.crossing_notes(SliceTable(frame.assign(patient=names)))
    assert "'/P0' and '/p0' (and 1 more" in note and "probably the same person" in note
    known = SliceTable(frame.assign(patient=names, person=names.str.strip().str.upper()))
    assert splits.crossing_notes(known) == splits.crossing_notes(SliceTable(frame)) == []


# -- pictures


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width: int, height: int) -> bytes:
    "A PNG whose header promises so many pixels and that has none."
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def text_bomb() -> bytes:
    "A PNG with a text of 80 MB in 80 kB."
    file, info = io.BytesIO(), PngImagePlugin.PngInfo()
    info.add(b"zTXt", b"k\0\0" + zlib.compress(b"a" * 80_000_000, 1))
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(file, "PNG", pnginfo=info)
    return file.getvalue()


def saved(mode: str, kind: str = "TIFF", **options) -> bytes:
    file = io.BytesIO()
    Image.new(mode, (8, 8)).save(file, kind, **options)
    return file.getvalue()


def broken_tiff() -> bytes:
    "A TIFF whose compressed pixels are none; libtiff has something to say about it."
    content = saved("L", compression="tiff_deflate")
    return content.replace(zlib.compress(b"")[:1], b"\0", 1)


BAD_PICTURES = {
    "empty": (lambda: b"", ("empty",)),
    "text": (lambda: b"no picture", ("PNG, JPEG, BMP, TIFF",)),
    "postscript": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n", ("PNG, JPEG, BMP, TIFF",)),
    "gif": (lambda: saved("L", "GIF"), ("PNG, JPEG, BMP, TIFF",)),
    "half": (lambda: saved("RGB", "JPEG")[:-200], ("truncated or damaged",)),
    "no pixels": (lambda: png_of(8, 8), ("truncated or damaged",)),
    "gigapixels": (lambda: png_of(50_000, 50_000), ("50000x50000", "100,000,000", "COVID_WORKBENCH_MAX_PIXELS")),
    "between": (lambda: png_of(12_000, 12_000), ("12000x12000", "COVID_WORKBENCH_MAX_PIXELS")),
    "no width": (lambda: png_of(0, 8), ()),
    "text bomb": (text_bomb, ("truncated or damaged",)),
    "damaged TIFF": (broken_tiff, ("truncated or damaged",)),
    "cut TIFF": (lambda: saved("L", compression="tiff_lzw")[:-30], ()),
    "LAB": (lambda: saved("LAB"), ("LAB", "grey")),
    "16 bits": (lambda: saved("I;16"), ("8-bit",)),
    "floats": (lambda: saved("F"), ("8-bit",)),
}


@pytest.mark.parametrize("name", BAD_PICTURES)
def test_a_picture_that_cannot_be_read(tmp_path, name, capfd):
    make, words = BAD_PICTURES[name]
    table = table_in(tmp_path, slices=2)
    (tmp_path / "1.bmp").write_bytes(make())
    with pytest.warns() as warned, pytest.raises(InputError):
        warnings.warn("this one alone", stacklevel=1)
        table.read(1)
    assert len(warned) == 1
    says(("slice s1", "1.bmp", *words), table.read, 1)
    assert capfd.readouterr() == ("", "")
    os.write(2, b"heard")
    assert capfd.readouterr().err == "heard"


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "missing"])
def test_a_picture_that_is_no_file(tmp_path, kind):
    table = table_in(tmp_path, slices=2)
    (tmp_path / "1.bmp").unlink()
    if kind == "pipe":
        os.mkfifo(tmp_path / "1.bmp")
    elif kind == "folder":
        (tmp_path / "1.bmp").mkdir()
    elif kind == "device":
        table = table.with_rows(table.frame.assign(image=["0.bmp", "/dev/zero"]))
    words = ("no such file",) if kind == "missing" else ("a folder, a pipe or a device",)
    says(("slice s1", *words), table.read, 1)
    assert table.fingerprint().startswith("c-")


def test_the_limit_of_pixels_can_be_moved(tmp_path, monkeypatch):
    table = table_in(tmp_path, slices=1)
    monkeypatch.setenv("COVID_WORKBENCH_MAX_PIXELS", "63")
    says(("8x8", "63"), table.read, 0)
    says(("8x8",), answers.slice_of_array, np.zeros((8, 8)), "array 0")
    for wrong in ("many", "-1", "0", "1e9"):
        monkeypatch.setenv("COVID_WORKBENCH_MAX_PIXELS", wrong)
        says(("COVID_WORKBENCH_MAX_PIXELS", wrong), table.read, 0)
    monkeypatch.setenv("COVID_WORKBENCH_MAX_PIXELS", str(10**9))
    (tmp_path / "0.bmp").write_bytes(png_of(20_000, 20_000))  # beyond the limit of Pillow itself
    says(("truncated or damaged",), table.read, 0)
    assert Image.MAX_IMAGE_PIXELS < 10**8


@pytest.mark.parametrize(
    "stored, mask_values, expected",
    [
        (np.array([[0, 1], [2, 3]], np.uint8), "", [[0, 1], [2, 3]]),
        (np.array([[0, 128], [255, 128]], np.uint8), "128:2 255:3", [[0, 2], [3, 2]]),
        (np.array([[0, 1000], [65535, 0]], np.uint16), "1000:2 65535:3", [[0, 2], [3, 0]]),
        (np.array([[0, -1], [70_000, 0]], np.int32), "-1:1 70000:3", [[0, 1], [3, 0]]),
        (np.array([[0.0, 1.0], [2.0, 3.0]], np.float32), "", [[0, 1], [2, 3]]),
        (np.array([[False, True], [True, False]]), "", [[0, 1], [1, 0]]),
    ],
)
def test_masks_of_any_depth(tmp_path, stored, mask_values, expected):
    picture(tmp_path / "a.png", size=(2, 2))
    Image.fromarray(stored).save(tmp_path / "m.tif")
    row = dict(id="a", patient="P1", image="a.png", mask="m.tif", mask_values=mask_values)
    assert SliceTable(pd.DataFrame([row]), tmp_path).read(0).mask.tolist() == expected


@pytest.mark.parametrize(
    "stored, words",
    [
        (np.full((2, 2), 300, np.uint16), ("300",)),
        (np.full((2, 2), -1, np.int32), ("-1",)),
        (np.full((2, 2), 256, np.int32), ("256",)),
        (np.full((2, 2), 1.5, np.float32), ("1.5",)),
        (np.full((2, 2), np.nan, np.float32), ("nan",)),
        (np.zeros((2, 2, 3), np.uint8), ("one channel",)),
    ],
)
def test_masks_with_values_that_mean_nothing(tmp_path, stored, words):
    picture(tmp_path / "a.png", size=(2, 2))
    Image.fromarray(stored).save(tmp_path / "m.tif")
    row = dict(id="a", patient="P1", image="a.png", mask="m.tif")
    says(("slice a", "m.tif", *words), SliceTable(pd.DataFrame([row]), tmp_path).read, 0)


def test_pictures_are_opened_in_one_place():
    package = Path(covid_workbench.__file__).parent
    opening = [path.name for path in package.rglob("*.py") if "Image.open(" in path.read_text()]
    assert opening == ["picture_files.py"]
    assert "formats=FORMATS" in (package / "picture_files.py").read_text()


# -- one broken slice among many


def break_two(table):
    "Two pictures that are none; returns their ids."
    for row in (3, 8):
        (table.root / table.frame["image"][row]).write_bytes(b"no picture")
    return [table.frame["id"][row] for row in (3, 8)]


def test_broken_slices_are_counted_or_left_out(tmp_path):
    table, shared = table_in(tmp_path / "data"), tmp_path / "shared"
    broken = break_two(table)
    words = (broken[0], "1 more of 12 slices", "--skip-broken")
    says(words, datasets.check_slices, table, shared, progress=False)
    assert not shared.exists()
    for _ in range(2):  # the second time from the marker
        kept = datasets.readable_slices(table, shared, progress=False)
        assert kept.frame["id"].tolist() == [name for name in table.frame["id"] if name not in broken]
        assert list(kept.left_out) == broken and kept.notes[0].startswith("2 of 12 slices left out: unreadable (first")
    datasets.check_slices(kept, shared, progress=False)
    says(words, datasets.check_slices, table, shared, progress=False)
    for path in table.root.glob("*.bmp"):
        path.write_bytes(b"")
    says(("none of its 12 slices",), datasets.readable_slices, table, shared, progress=False)


def test_skip_broken_trains_on_the_rest_and_says_so(command, phantom, tmp_path):
    shutil.copytree(phantom, tmp_path / "data")
    table = splits.split_by_patient(SliceTable.from_csv(tmp_path / "data" / "slices.csv"))
    broken = break_two(table)
    words = ("train", tmp_path / "run", "--data", tmp_path / "data", "--preset", "smoke")
    words += ("--set", *assignments(model="mask-rcnn", detector_epochs=0.1))
    code, _, err = command(*words)
    assert code == 2 and broken[0] in err and f"1 more of {len(table)} slices" in err
    code, out, err = command(*words, "--skip-broken")
    assert code == 0 and f"2 of {len(table)} slices left out: unreadable (first: {broken[0]}" in out, err
    run = Run.open(tmp_path / "run")
    assert list(run.record["left_out"]) == broken and "cannot be read" in run.record["left_out"][broken[0]]
    kept = table.frame[~table.frame["id"].isin(broken)].set_index("id")["split"]
    assert run.table.frame.set_index("id")["split"].equals(kept)
    assert evaluate(run, progress=False)["notes"] == run.notes and "left out" in run.notes[0]
    assert command(*words, "--skip-broken", "--resume")[0] == 0


# -- pictures to predict


def test_same_names_from_several_folders(tmp_path):
    paths = [picture(tmp_path / name) for name in ("a/x/1.png", "b/x/1.png", "c/1.png", "c/1.jpg", "c/2.png")]
    ids = answers.table_of_files([*paths, tmp_path / "c", paths[0]]).frame["id"].tolist()
    assert len(set(ids)) == 5 and ids[:2] == ["a/x/1", "b/x/1"] and "2" in ids
    assert answers.table_of_files([tmp_path / "c"]).frame["id"].tolist() == ["1.jpg", "1.png", "2"]
    alone = answers.table_of_files([paths[0], paths[4]]).frame
    assert alone["id"].tolist() == alone["patient"].tolist() == ["1", "2"]


def test_one_bad_picture_of_forty(tmp_path):
    paths = [picture(tmp_path / f"{number}.png", fill=number) for number in range(40)]
    paths[7].write_bytes(b"no picture")
    missing = []
    table = answers.table_of_files([*paths, tmp_path / "none.png"], missing)
    assert [path for path, _ in missing] == [str(tmp_path / "none.png")] and "no such" in missing[0][1]
    for memory in (1e9, 0):
        good, broken = answers.readable(table, memory=memory)
        assert len(good) == 39 and [name for name, _ in broken] == ["7"] and "7.png" in broken[0][1]
        assert all(
            good.read(row).pixels[0, 0] == int(good.frame["id"][row]) for _ in range(2) for row in range(len(good))
        )
    says(("none.png",), answers.table_of_files, [*paths, tmp_path / "none.png"])
    says(("none.png",), answers.table_of_files, [tmp_path / "none.png"], [])
    says(("7.png",), answers.readable, answers.table_of_files([paths[7]]))


def test_predict_keeps_what_it_has(command, finished, phantom, tmp_path):
    whole = sorted(phantom.glob("*/*/*/*.png"))[:3]
    half = tmp_path / "half.png"
    half.write_bytes(whole[0].read_bytes()[:300])
    words = ("predict", finished.folder, *whole, half, tmp_path / "none.png")
    code, out, err = command(*words, "--out", tmp_path / "first")
    assert code == 1 and "3 of 5 slices" in out and "2 of 5" in err and "half.png" in err and "none.png" in err
    code, out, err = command(*words, "--out", tmp_path / "second", "--skip-broken")
    assert code == 0 and not err and "2 of 5 slices" in out and "half.png" in out
    for folder in ("first", "second"):
        told = json.loads((tmp_path / folder / "predictions.json").read_text())
        assert len(told["slices"]) == 3 and [entry["id"] for entry in told["broken"]] == [str(words[-1]), "half"]


@pytest.mark.parametrize(
    "pixels, words",
    [
        (np.zeros((2, 2, 3)), ("(2, 2, 3)",)),
        (np.zeros((0, 4)), ("(0, 4)",)),
        (np.float64(3), ("()",)),
        (np.array([[1, "a"]], dtype=object), ("object",)),
        (np.array([[1 + 2j]]), ("complex128",)),
        (np.array([["grey"]]), ("<U4",)),
        (np.array([[np.nan, 1]]), ("1 value NaN",)),
        (np.array([[np.inf, 1]]), ("infinite",)),
        (np.array([[-1000, 400]]), ("Hounsfield",)),
        (np.array([[0.1, 0.9]]), ("multiply them by 255",)),
        ([[1, 2], [3]], ("not an array",)),
    ],
)
def test_arrays_that_are_no_slices(pixels, words):
    says(("array 0", *words), answers.slice_of_array, pixels, "array 0")


def test_inputs_that_are_no_slices(tmp_path):
    for wrong in (None, 3, b"a.png", {"a": 1}):
        says(("is no slice",), answers.table_of, wrong)
    says(("empty",), answers.table_of, [])
    for pixels in (np.zeros((2, 2)), np.zeros(4, np.uint8), [[1]], np.zeros((0, 2), np.uint8)):
        says(("slice a", "uint8"), Slice, "a", "P1", "1", 0, pixels)
    grey = np.zeros((2, 2), np.uint8)
    says(("slice a", "uint8"), Slice, "a", "P1", "1", 0, grey, mask=grey.astype(int))


# -- splits and labels


@pytest.mark.parametrize(
    "options, words",
    [
        (dict(test=1), ("test=1",)),
        (dict(test=-0.1), ("test=-0.1",)),
        (dict(validation=float("nan")), ("validation=nan",)),
        (dict(validation=True), ("validation=True",)),
        (dict(validation=0.5, test=0.5), ("no patient to train on",)),
        (dict(validation=0.3, test=0.65), ("6 patients of class 'CP'", "leave none to train on", "lower")),
        (dict(seed=-1), ("seed", "-1")),
        (dict(seed=2**63), ("seed", str(2**63))),
        (dict(seed=10**5000), ("seed", "4300 digits")),
        (dict(seed=0.5), ("seed", "0.5")),
    ],
)
def test_splits_that_cannot_be_made(tmp_path, options, words):
    says(words, splits.split_by_patient, table_in(tmp_path, label="CP"), **options)


def test_one_patient_cannot_be_split(tmp_path):
    for label in ("CP", ""):
        alone = table_in(tmp_path, slices=2, label=label)
        says(("1 patient of class", "at least 3"), splits.split_by_patient, alone)
        assert set(splits.split_by_patient(alone, validation=0, test=0).frame["split"]) == {"train"}


def test_labels_read_as_others(tmp_path):
    table = table_in(tmp_path, label="CP")
    assert datasets.relabelled(table, ["CP=Normal"]).notes == ()
    unused = datasets.relabelled(table, ["COVID-19=Normal", "CP=Normal"])
    [note] = unused.notes
    assert "COVID-19=Normal changes nothing" in note and set(unused.frame["label"]) == {"Normal"}
    assert unused.where(unused.frame["id"] == "s1").notes == unused.with_rows(unused.frame).notes == unused.notes
    for wrong, words in (
        (["CP"], ("relabel=CP",)),
        (["CP=Flu"], ("'Flu' is unknown",)),
        (["CP=Normal", "CP=COVID-19"], ("CP is read as Normal and as COVID-19",)),
    ):
        says(words, datasets.relabelled, table, wrong)


@pytest.mark.parametrize("table", ["slices.csv", "patients.csv"])
@pytest.mark.parametrize("kind", ["folder", "pipe", "link to nothing"])
def test_a_table_that_is_no_file_is_not_passed_over(phantom, tmp_path, table, kind):
    "The folder holds slices that another layout could read."
    folder = tmp_path / "data"
    shutil.copytree(phantom, folder)
    (folder / table).unlink(missing_ok=True)
    make = {"folder": os.mkdir, "pipe": os.mkfifo, "link to nothing": lambda path: os.symlink("nothing", path)}
    make[kind](folder / table)
    with pytest.raises(InputError, match=table):
        sources.open_source(folder)
