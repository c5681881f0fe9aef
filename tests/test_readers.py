"""Every layout in small, the real data sets where they lie, and what is said of a layout that is wrong."""

import io
import json
import os
import shutil
import stat
import zipfile
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_tools

from covid_workbench import coco_files
from covid_workbench.data import archives
from covid_workbench.data.archives import archive_of, members_of, read_member
from covid_workbench.data.description import STANDARD
from covid_workbench.data.planes import file_of, read_labels
from covid_workbench.data.slices import TURNS, unknown_notes
from covid_workbench.data.source_covidx import covidx_lists, patient_of
from covid_workbench.data.sources import SOURCES, describe_sources, named_source, open_source, source_of
from covid_workbench.errors import InputError


def picture(path, pixels=None):
    "A small picture, or the one given."
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8), 7, np.uint8) if pixels is None else pixels).save(path)
    return path


def content_of(value: int) -> bytes:
    "A PNG of one grey value."
    held = io.BytesIO()
    Image.fromarray(np.full((8, 8), value, np.uint8)).save(held, "PNG")
    return held.getvalue()


def zipped(path, members: dict[str, bytes], compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def says(words, call, *arguments, **options) -> str:
    "The one sentence with which a call refuses."
    with pytest.raises(InputError) as error:
        call(*arguments, **options)
    text = str(error.value)
    assert len(text.splitlines()) == 1 and text.isprintable() and len(text) < 700, text
    for word in words:
        assert str(word) in text, (word, text)
    return text


def counts(table, column="label") -> dict:
    return dict(Counter(table.frame[column]))


# -- the data sets themselves


def test_every_shared_folder_opens_with_its_reader(shared):
    data = shared / "data"
    for name, source, slices, patients in (
        ("covid-ct-md-sample", "covid-ct-md", 109, 3),
        ("covid-semiseg", "covid-semiseg", 98, 98),
        ("covidx-ct-metadata", "covidx-ct", 61782 + 21036 + 21191, 864 + 332 + 293),
        ("medseg2-volumes", "medseg2", 72, 5),
        ("sarscov2-ctscan-sample", "sarscov2-ctscan", 125, 125),
        ("splits", "papers", 3000 + 750 + 600 + 12976, None),
    ):
        assert source_of(data / name).name == source
        table = open_source(data / name)
        assert len(table) == slices and patients in (None, table.patients.nunique()), name
        assert describe_sources([str(data / name)]) == table.description, name


def test_covidx_lists_have_the_published_counts(shared):
    table = open_source(shared / "data" / "covidx-ct-metadata", format="covidx-ct:1")
    assert counts(table, "split") == {"train": 61782, "validation": 21036, "test": 21191}
    people = {split: set(table.split(split).patients) for split in ("train", "validation", "test")}
    assert [len(people[split]) for split in ("train", "validation", "test")] == [864, 332, 293]
    assert not (people["train"] & people["validation"] | people["test"] & (people["train"] | people["validation"]))
    assert counts(table.split("test")) == {"Normal": 9450, "CP": 7395, "COVID-19": 4346}  # the papers' test shares
    assert "104,009 of 104,009 listed pictures" in table.notes[1] and "healthy" in table.notes[0]


def test_the_papers_lists_have_the_published_counts(shared):
    frame = open_source(shared / "data" / "splits").frame
    found = Counter(zip(frame["source"], frame["split"]))
    lesions = frame[frame["source"] == "CNCB-NCOV lesions"]
    assert found == {
        ("CNCB-NCOV", "train"): 3000,
        ("CNCB-NCOV lesions", "train"): 650,
        ("CNCB-NCOV lesions", "test"): 100,
        ("iCTCF", "train"): 600,
        ("iCTCF", "test"): 12976,
    }
    people = lesions.groupby("split")["patient"].unique().map(set)
    assert (len(people["train"]), len(people["test"])) == (130, 20) and not people["train"] & people["test"]
    classes = frame[frame["source"] == "CNCB-NCOV"].groupby("label")["patient"].nunique()
    assert classes.to_dict() == {"Normal": 140, "CP": 252, "COVID-19": 216}
    ictcf = frame[frame["source"] == "iCTCF"].groupby(["split", "label"]).size().to_dict()
    assert ictcf["test", "Normal"] == 9275 and ictcf["test", "COVID-19"] == 3701 and ictcf["train", "Normal"] == 300


def test_masks_of_medseg2_lie_in_its_lungs(shared):
    table, inside, lesions = open_source(shared / "data" / "medseg2-volumes"), Counter(), Counter()
    for _, row in table.frame.iterrows():
        mask, lungs = (read_labels(table.root / row[column]) for column in ("mask", "lungs"))
        for word in row["mask_turn"].split():
            mask = TURNS[word](mask)
        for word in row["lungs_turn"].split():
            lungs = TURNS[word](lungs)
        inside[row["patient"]] += int(((mask > 0) & (lungs > 0)).sum())
        lesions[row["patient"]] += int((mask > 0).sum())
    assert len(lesions) == 5 and all(inside[who] >= 0.97 * lesions[who] > 0 for who in lesions)


def test_covid_ct_md_says_the_same_by_table_and_by_array(shared, tmp_path):
    real = shared / "data" / "covid-ct-md-sample"
    table = open_source(real)
    assert counts(table) == {"": 43, "Normal": 42, "COVID-19": 17, "CP": 7} and "43 slices" in table.notes[0]
    for name in ("Index.csv", "Slice-level-labels-updated-1.npy"):
        shutil.copy(real / name, tmp_path / name)
    for folder in ("COVID-19 subjects", "Cap subjects", "Normal subjects"):
        (tmp_path / folder).symlink_to(real / folder)
    other = open_source(tmp_path)
    assert other.frame["label"].equals(table.frame["label"])  # with the jump of the index, cap002 has row 55
    (tmp_path / "Index.csv").unlink()
    unsaid = open_source(tmp_path)
    assert counts(unsaid) == {"Normal": 42, "COVID-19": 34, "CP": 33} and "67 slices" in unsaid.notes[0]


# -- CNCB-NCOV


SLICES = {"NCP/7/1/0003": 10, "NCP/7/1/0004": 20, "CP/9/2/0001": 30, "Normal/1/5/0002": 40}


def cncb_folders(root):
    for name, value in SLICES.items():
        picture(root / f"{name}.png", np.full((8, 8), value, np.uint8))
    return root


def test_cncb_reads_the_same_from_folders_archives_and_flat_names(tmp_path):
    folders = open_source(cncb_folders(tmp_path / "folders"))
    (tmp_path / "zips").mkdir()
    numbers = {"Normal": 0, "CP": 1, "NCP": 2}
    for kind in numbers:
        members = {f"{name}.png": content_of(value) for name, value in SLICES.items() if name.startswith(f"{kind}/")}
        own = {name.partition("/")[2]: content for name, content in members.items()}
        zipped(tmp_path / "zips" / f"{kind}-1.zip", own if kind == "CP" else members)  # one without its class's folder
    for name, value in SLICES.items():
        kind, *rest = name.split("/")
        flat = tmp_path / "flat" / f"{'_'.join([str(numbers[kind]), *rest])}.png"
        picture(flat, np.full((8, 8), value, np.uint8))
    archived, flat = open_source(tmp_path / "zips"), open_source(tmp_path / "flat")
    columns = ["id", "patient", "scan", "index", "label"]
    assert archived.frame[columns].equals(folders.frame[columns])
    assert flat.frame[["scan", "index", "label"]].equals(folders.frame[["scan", "index", "label"]])
    for table in (folders, archived, flat):
        assert [int(table.read(row).pixels[0, 0]) for row in range(4)] == [40, 30, 10, 20]
        assert "3 slices of ill patients (CP 1, COVID-19 2)" in table.notes[0]
    path = archived.root / archived.frame["image"][1]
    assert file_of(path) == str(tmp_path / "zips" / "CP-1.zip") and archive_of(path).name == "CP-1.zip"
    assert len(archived.fingerprint()) and file_of(tmp_path / "flat") == str(tmp_path / "flat")


def test_the_list_of_lesions_decides_who_has_a_label(tmp_path):
    root = cncb_folders(tmp_path)
    (root / "lesion_slices.csv").write_text("imgpath\nNCP/7/1/0004.png\nCP/9/2/0001.png\nCP/8/1/0001.png\n")
    table = open_source(root)
    assert table.frame["label"].tolist() == ["Normal", "CP", "", "COVID-19"]
    assert "1 of 3 slices of ill patients" in table.notes[0] and "1 of 3 slices in its list" in table.notes[1]
    (root / "cncb_exclude_list.txt").write_text("Normal 1\n")
    zipped(root / "NCP-3.zip", {"NCP/7/1/0003.png": content_of(1)})
    table = open_source(root)
    assert len(table) == 3 and "1 slice left out by" in table.notes[-2] and "1 slice found twice" in table.notes[-1]
    assert table.frame["image"].str.endswith(".png").all() and not table.frame["image"].str.contains("zip").any()


# -- archives


@pytest.mark.parametrize(
    "member, mode, content, word",
    [
        ("../evil.png", 0, b"x", "points out"),
        ("/etc/passwd", 0, b"x", "points out"),
        ("CP/1/../../../x.png", 0, b"x", "points out"),
        ("C:/x.png", 0, b"x", "points out"),
        ("CP\\1\\x.png", 0, b"x", "points out"),
        ("CP/1/1/1.png", stat.S_IFLNK, b"/etc/passwd", "a link"),
        ("CP/1/1/1.png", 0, bytes(archives.GROWS[0] + 1), "unpack to"),
    ],
)
def test_an_archive_that_is_not_to_be_trusted(tmp_path, member, mode, content, word):
    about = zipfile.ZipInfo(member)
    about.filename, about.external_attr = member, mode << 16
    with zipfile.ZipFile(tmp_path / "CP-1.zip", "w") as archive:
        archive.writestr("CP/1/1/0.png", content_of(1))
        archive.writestr(about, content, zipfile.ZIP_DEFLATED)
    says(("CP-1.zip", "unsafe archive", word, "folder"), open_source, tmp_path)
    says(("slice a: ", word), read_member, tmp_path / "CP-1.zip/CP/1/1/0.png", "slice a")


def test_an_archive_that_is_encrypted_overlaps_or_repeats_a_name(tmp_path):
    whole = zipped(tmp_path / "a.zip", {"CP/1/1/1.png": b"one", "CP/1/1/2.png": b"two"}).read_bytes()
    central = whole.index(b"PK\1\2")
    for at, change, word in (
        (central + 8, b"\1", "encrypted"),
        (whole.index(b"PK\1\2", central + 1) + 42, b"\0", "overlaps"),
        (whole.index(b"CP/1/1/2.png", central), b"CP/1/1/1.png", "twice"),
    ):
        (tmp_path / "b.zip").write_bytes(whole[:at] + change + whole[at + len(change) :])
        says(("b.zip", word), members_of, tmp_path / "b.zip")


def test_a_damaged_archive_is_said_to_be_damaged(tmp_path):
    whole = zipped(tmp_path / "NCP-1.zip", {"NCP/1/1/1.png": content_of(9)}).read_bytes()
    table = open_source(tmp_path)
    assert table.read(0).pixels[0, 0] == 9
    at = whole.index(b"IDAT")
    (tmp_path / "NCP-1.zip").write_bytes(whole[:at] + b"XXXX" + whole[at + 4 :])  # changed: opened anew
    says(("slice NCP_1_1_1", "damaged"), table.read, 0)
    (tmp_path / "NCP-1.zip").write_bytes(whole[: len(whole) // 2])
    says(("NCP-1.zip", "damaged or cut short"), open_source, tmp_path)
    zipped(tmp_path / "NCP-1.zip", {"NCP/1/1/2.png": b"no picture"})
    says(("has no file 'NCP/1/1/1.png'",), table.read, 0)
    says(("slice NCP_1_1_2", "none of PNG"), open_source(tmp_path).read, 0)


def test_each_process_opens_an_archive_for_itself(tmp_path, monkeypatch):
    path = zipped(tmp_path / "a.zip", {"b.png": b"content"})
    mine = archives._opened(path)[0]
    assert archives._opened(path)[0] is mine and read_member(path / "b.png") == b"content"
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert archives._opened(path)[0] is not mine and read_member(path / "b.png") == b"content"


# -- COVIDx-CT


def covidx(root, lists: dict[str, str]):
    root.mkdir(exist_ok=True)
    (root / "metadata.csv").write_text("patient id,source\nNCP_96,CNCB\nHUST-Patient1,iCTCF\npatient10,COVID-CTset\n")
    for name, text in lists.items():
        (root / f"{name}.txt").write_text(text)
    return root


def test_covidx_boxes_versions_and_foreign_names(tmp_path):
    root = covidx(
        tmp_path,
        {
            "train_COVIDx_CT-3A": "NCP_96_1328_0032.png 2 1 2 7 5\n137covid_patient10_SR_2_IM0003.png 2 0 0 8 8\n",
            "test_COVIDx_CT-3A": "HUST-Patient1-0062.png 0 0 0 8 8\n",
        },
    )
    picture(root / "3A_images" / "NCP_96_1328_0032.png", np.arange(64, dtype=np.uint8).reshape(8, 8))
    table = open_source(root, format="covidx-ct:crop")
    assert table.frame["patient"].tolist() == ["NCP_96", "patient10", "HUST-Patient1"]
    assert table.frame["source"].str.removeprefix("COVIDx-CT ").tolist() == ["CNCB", "COVID-CTset", "iCTCF"]
    assert table.frame["scan"].tolist() == ["1328", "SR_2_IM", "1"] and table.frame["split"][2] == "test"
    assert (table.read(0).pixels == np.arange(64).reshape(8, 8)[2:5, 1:7]).all()
    assert not open_source(root).frame["crop"].any() and open_source(root).read(0).pixels.shape == (8, 8)
    assert "2 of 3 listed pictures are not in the folder (first: 137covid_patient10_SR_2_IM0003.png)" in table.notes[1]
    covidx(root, {"val_COVIDx_CT-1": "NCP_96_1328_0033.png 2 1 2 7 5\n"})
    says(("versions 1 and 3A", "--format covidx-ct:3A"), open_source, root)
    assert len(open_source(root, format="covidx-ct:3A,crop")) == 3 and len(open_source(root, format="covidx-ct:1")) == 1
    assert list(covidx_lists(root)["3A"]) == ["train", "test"]
    says(("2B", "1, 3A"), open_source, root, format="covidx-ct:2B")


@pytest.mark.parametrize(
    "line, words",
    [
        ("b.png 3 0 0 1 1", ("line 2", "class '3'", "0, 1 or 2")),
        ("b.png 1 0 0 1", ("line 2", "5 words")),
        ("b.png 1 0 0 1 x", ("line 2", "whole numbers")),
        ("b.png 1 0 0 1 -1", ("line 2", "whole numbers")),
        ("b.png 1 4 0 4 9", ("line 2", "is empty")),
        ("../b.png 1 0 0 1 1", ("line 2", "no file name")),
        ("a.png 1 0 0 1 1", ("line 2", "line 1")),
        ("t.png 1 0 0 1 1", ("t.png", "also in", "overlap")),
        ("\0", ("line 2", "NUL")),
    ],
)
def test_a_list_with_a_bad_line(tmp_path, line, words):
    covidx(
        tmp_path,
        {"train_COVIDx_CT-1": f"a.png 1 0 0 8 8\n{line}\n", "test_COVIDx_CT-1": "t.png 1 0 0 8 8\n"},
    )
    says(("COVIDx_CT-1.txt", *words), open_source, tmp_path)


def test_patients_are_found_by_words_and_not_by_parts_of_words():
    known = {"NCP_9": "", "NCP_96": "", "patient1": "", "A0": "", "A0-12": ""}
    for name, patient in (
        ("A0-12-0001.png", "A0-12"),
        ("A0-11-0001.png", "A0"),
        ("NCP_96_1_0001.png", "NCP_96"),
        ("NCP_968_1_0001.png", "NCP_968"),
        ("137covid_patient10_SR_1.png", "137covid_patient10_SR"),
        ("137covid_patient1_SR_1.png", "patient1"),
        ("0001.png", "0001"),
    ):
        assert patient_of(name, known) == patient


# -- the papers' lists, iCTCF


def test_the_papers_lists_say_which_slices_of_any_form_belong_where(tmp_path):
    root = cncb_folders(tmp_path / "data")
    picture(root / "image/110/104.jpg")
    picture(root / "mask/110/104.png", np.zeros((8, 8), np.uint8))
    (tmp_path / "train_split_classification.txt").write_text("2_7_1_0003.png\n1_9_2_0001.png\n0_4_4_0004.png\n")
    (tmp_path / "test_split_segmentation.txt").write_text("110_104.jpg\n")
    (tmp_path / "test_COVIDx_CT-1.txt").write_text("Normal_1_5_0002.png 0 0 0 8 8\n")
    (tmp_path / "train_COVIDx_CT-1.txt").write_text("NCP_7_1_0004.png 2 0 0 8 8\n")  # the papers have their own
    assert source_of(root).name == "papers"  # the lists are above it
    frame = open_source(root).frame.set_index("id")
    assert frame["split"].to_dict() == {
        "NCP_7_1_0003": "train",
        "CP_9_2_0001": "train",
        "Normal_4_4_0004": "train",
        "lesion_110_104": "test",
        "Normal_1_5_0002": "test",
    }
    assert frame["image"]["CP_9_2_0001"] == "CP/9/2/0001.png" and frame["mask"]["lesion_110_104"] == "mask/110/104.png"
    notes = open_source(root).notes
    assert "1 slice in the folder are in none" in notes[0] and "1 of 5 listed pictures" in notes[1]
    (tmp_path / "other").mkdir()
    says(("no slices found",), open_source, tmp_path / "other")  # a list above a folder that it says nothing of
    (tmp_path / "test_split_segmentation.txt").write_text("110_104.jpg\nwhat.jpg\n")
    says(("test_split_segmentation.txt, line 2", "what.jpg"), open_source, root)
    (tmp_path / "test_split_segmentation.txt").write_text("110_104.jpg\n110_104.jpg\n")
    says(("named twice",), open_source, root)


def test_ictcf_by_folders_and_by_names(tmp_path):
    for name in ("folders/nCT/a1.png", "folders/pCT/2_pCT7.jpg", "folders/NiCT/NiCT3.png"):
        picture(tmp_path / name)
    table = open_source(tmp_path / "folders")
    assert counts(table) == {"Normal": 1, "COVID-19": 1, "": 1} and "1 slice that are not informative" in table.notes[0]
    assert table.description.classes == ("Normal", "COVID-19") and table.frame["patient_unknown"].all()
    for name in ("train/0_nCT12.jpg", "test/2_pCT1088.jpg"):
        picture(tmp_path / "flat" / name)
    (tmp_path / "flat/train_ictcf.txt").write_text("0_nCT12.jpg\n")
    (tmp_path / "flat/test_ictcf.txt").write_text("2_pCT1088.jpg\n")
    table = open_source(tmp_path / "flat")
    assert table.frame["image"].tolist() == ["train/0_nCT12.jpg", "test/2_pCT1088.jpg"] and [*table.notes] == [
        *unknown_notes(table)
    ]
    assert table.frame["split"].tolist() == ["train", "test"] and table.description.classes == ("Normal", "COVID-19")


# -- sets of masks, folders named by class


def test_medseg2_keeps_apart_what_its_values_do_not_tell(tmp_path):
    for volume in (1, 7):
        for folder in ("InfectionMasks", "LungMasks"):
            picture(tmp_path / folder / f"{volume}_z003.png")
        (tmp_path / f"OpenSourceDCMs/DCM{volume}").mkdir(parents=True)
        (tmp_path / f"OpenSourceDCMs/DCM{volume}/m010-s0003-{volume}.dcm").write_bytes(b"")
    (tmp_path / "LungMasks/7_z003.png").unlink()
    table = open_source(tmp_path)
    assert table.frame["mask_values"].tolist() == ["127:2 255:3", "127:4 255:4"]
    assert table.frame["lungs"].tolist() == ["LungMasks/1_z003.png", ""] and table.frame["lungs_turn"][1] == ""
    assert table.description.mask_names[4] == "lesion" and table.description.objects["merged"].values == ((2, 3, 4),)
    shutil.rmtree(tmp_path / "OpenSourceDCMs/DCM7")
    assert open_source(tmp_path).description.mask_names == STANDARD.mask_names
    (tmp_path / "InfectionMasks/1_z003.png").unlink()
    says(("m010-s0003-1.dcm has no mask", "1_z003.png"), open_source, tmp_path)


def test_covid_ct_md_reads_its_array_across_the_jump_of_its_index(tmp_path):
    for name in (
        "COVID-19 subjects/P1/IM0001",
        "Cap Cases/cap002/IM0001",
        "Cap Cases/cap002/IM0002",
        "Normal subjects/n/IM0001",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{name}.dcm").write_bytes(b"")
    (tmp_path / "Index.csv").write_text("Label Index,Folder/ID\n0,P1\n2,cap002\n")
    np.save(tmp_path / "Slice-level-labels.npy", np.array([[1, 0], [0, 1]]))
    table = open_source(tmp_path)
    assert table.frame.set_index("id")["label"].to_dict() == {
        "cap002_IM0001": "",
        "cap002_IM0002": "CP",
        "P1_IM0001": "COVID-19",
        "n_IM0001": "Normal",
    }
    assert table.notes == ("COVID-CT-MD: 1 slice of ill patients show no infection and have no label.",)
    np.save(tmp_path / "Slice-level-labels.npy", np.array([[1, 0]]))
    says(("Index.csv", "does not fit the 1 rows"), open_source, tmp_path)
    (tmp_path / "Slice-level-labels.npy").write_bytes(b"\x93NUMPY")
    says(("not a readable array",), open_source, tmp_path)


def test_any_folders_named_by_class(tmp_path):
    for name in (
        "train/nodule/1.png",
        "train/healthy/1.png",
        "val/nodule/2.png",
        "test/healthy/3.png",
        "test/healthy/3.jpg",
    ):
        picture(tmp_path / "split" / name)
    for name in ("tuberculosis/a.png", "pneumonia/a.png"):
        picture(tmp_path / "plain" / name)
    table = open_source(tmp_path / "split")
    assert counts(table, "split") == {"train": 2, "validation": 1, "test": 2} and table.frame["id"].is_unique
    assert table.description.classes == ("healthy", "nodule") and table.description.normal == "healthy"
    assert table.frame["patient_unknown"].all() and table.read(0).label in table.description.classes
    table = open_source(tmp_path / "plain")
    assert counts(table) == {"pneumonia": 1, "tuberculosis": 1} and table.description.normal == ""
    (tmp_path / "plain/dataset.json").write_text('{"classes": ["pneumonia", "tuberculosis"], "normal": "pneumonia"}')
    assert open_source(tmp_path / "plain").description.normal == "pneumonia"  # the file goes before the source
    assert describe_sources([str(tmp_path / "plain")]).normal == "pneumonia"
    (tmp_path / "plain/dataset.json").write_text('{"classes": ["pneumonia", "flu"]}')
    says(("label 'tuberculosis' is unknown", "flu"), open_source, tmp_path / "plain")


def test_sarscov2_has_two_classes_and_none_is_normal(shared, tmp_path):
    table = open_source(shared / "data" / "sarscov2-ctscan-sample")
    assert counts(table) == {"COVID": 63, "non-COVID": 62} and table.description.normal == ""
    assert table.description.classes == ("non-COVID", "COVID") and table.frame["patient_unknown"].all()
    assert table.read(0).label == "COVID" and "CC BY-NC-SA" in table.description.licence


# -- tables


def test_a_table_with_other_columns(tmp_path):
    picture(tmp_path / "a/1.png")
    picture(tmp_path / "b/1.png")
    (tmp_path / "t.csv").write_text("path,who,what,age\na/1.png,S1,nodule,4\nb/1.png, ,COVID,5\n")
    columns = {"image": "path", "patient": "who", "label": "what"}
    for place in (tmp_path / "t.csv", tmp_path):
        table = open_source(place, columns=columns)
        assert table.frame["id"].tolist() == ["a/1", "b/1"] and table.root == tmp_path
        assert table.frame["patient"].tolist() == ["S1", "unknown_b/1"]
        assert table.frame["patient_unknown"].tolist() == [False, True]
        assert table.description.classes == ("COVID", "nodule") and table.read(1).label == "COVID"
        assert table.notes[0] == "t.csv: no use is made of its columns age."
    for wrong, words in (
        ({"picture": "path"}, ("'picture' is no column",)),
        ({"image": "pfad"}, ("column 'pfad' is missing", "path")),
        ({"patient": "who"}, ("no column says where the pictures are",)),
    ):
        says(words, open_source, tmp_path / "t.csv", columns=wrong)
    says(("csv alone",), open_source, tmp_path, format="cncb", columns=columns)
    (tmp_path / "u.csv").write_text("a\n")
    says(("2 CSV files",), open_source, tmp_path, columns=columns)


def test_labels_of_a_table_are_its_classes_unless_they_are_misspelt(tmp_path):
    path = tmp_path / "slices.csv"
    path.write_text("id,patient,image,label\na,P,a.png,nodule\nb,P,b.png,healthy\n")
    assert open_source(tmp_path).description.classes == ("healthy", "nodule")
    path.write_text("id,patient,image,label\na,P,a.png,Covid-19\n")
    says(("'Covid-19' is unknown", "COVID-19"), open_source, tmp_path)
    path.write_text("id,patient,image,label\na,P,a.png,CP\nb,P,b.png,nodule\n")
    says(("slice b", "'nodule' is unknown"), open_source, tmp_path)


def test_the_phantom_is_known_by_name(phantom):
    assert source_of(phantom).name == "phantom"
    named = open_source(phantom, format="phantom")
    assert named.frame.equals(open_source(phantom).frame) and set(named.frame["source"]) == {"phantom"}


# -- COCO


def coco(root, annotations, size=(8, 12), names=("GGO", "lung"), **image):
    height, width = size
    content = {
        "images": [{"id": 70, "file_name": "1.png", "width": width, "height": height, **image}],
        "categories": [{"id": 10 * number, "name": name} for number, name in enumerate(names, start=1)],
        "annotations": [{"image_id": 70, "category_id": 10, **one} for one in annotations],
    }
    (root / "annotations.json").write_text(json.dumps(content))
    return root


def test_coco_masks_are_those_that_pycocotools_draws(tmp_path):
    rng = np.random.default_rng(0)
    for _ in range(30):
        height, width = rng.integers(1, 40, 2).tolist()
        spots = (rng.random((height, width)) < rng.random()).astype(np.uint8)
        rle = coco_tools.encode(np.asfortranarray(spots))
        runs = np.flatnonzero(np.diff(np.concatenate([[0], spots.T.ravel(), [2]])))
        plain = np.diff(np.concatenate([[0], runs])).tolist()
        for counted in (rle["counts"].decode(), plain):
            coco(tmp_path, [{"segmentation": {"size": [height, width], "counts": counted}}], (height, width))
            coco_files._read.cache_clear()
            assert (coco_files.coco_mask(tmp_path / "annotations.json", 0) == 2 * spots).all()


def test_coco_opens_with_lesions_on_lungs(tmp_path):
    picture(tmp_path / "images/1.png", np.zeros((8, 12), np.uint8))
    lung = {"category_id": 20, "segmentation": [[1, 1, 11, 1, 11, 7, 1, 7]]}
    spot = {"segmentation": [[2, 2, 5, 2, 5, 4, 2, 4]]}
    coco(tmp_path, [spot, lung], patient="P1", label="CP")
    table = open_source(tmp_path)
    piece = table.read(0)
    assert piece.patient == "P1" and piece.label == "CP" and table.description == STANDARD
    assert (piece.mask[2:4, 2:5] == 2).all() and (piece.mask == 2).sum() == 6 and (piece.mask == 1).sum() == 54
    assert table.frame["image"].tolist() == ["images/1.png"] and not table.frame["patient_unknown"].any()
    coco(tmp_path, [spot], names=("cavity", "nodule"), file_name="2.png")
    table = open_source(tmp_path)
    assert table.description.mask_names == {0: "background", 1: "cavity", 2: "nodule"}
    assert table.description.objects["lesions"].names == ("cavity", "nodule") and table.frame["patient_unknown"].all()
    assert "1 of 1 listed pictures are not in the folder" in table.notes[0]


@pytest.mark.parametrize(
    "annotation, image, words",
    [
        ({"image_id": 8}, {}, ("annotations[0]", "image_id 8", "fits nothing")),
        ({"category_id": 8}, {}, ("annotations[0]", "category_id 8", "fits nothing")),
        ({"segmentation": []}, {}, ("annotations[0]", "no segmentation")),
        ({"segmentation": {"size": [8, 8], "counts": [64]}}, {}, ("annotations[0]", "[8, 8]", "[8, 12]")),
        ({"segmentation": {"size": [8, 12], "counts": [95]}}, {}, ("as many pixels",)),
        ({"segmentation": {"size": [8, 12], "counts": "oooooooooooooooooo"}}, {}, ("as many pixels",)),
        ({"segmentation": {"size": [8, 12], "counts": "\x7f\xff"}}, {}, ("as many pixels",)),
        ({"segmentation": [[1, 1, 2, 2]]}, {}, ("three or more points",)),
        ({"segmentation": [[1, 1, 2, 2, 1e9, 3]]}, {}, ("outside the image",)),
        ({"segmentation": ["1 2 3"]}, {}, ("three or more points",)),
        ({"segmentation": [[1, 1, 2, 2, 3, 3]]}, {"file_name": "../1.png"}, ("points out of the folder",)),
        ({"segmentation": [[1, 1, 2, 2, 3, 3]]}, {"width": "12"}, ("width 12 is no number",)),
        ({"segmentation": [[1, 1, 2, 2, 3, 3]]}, {"width": 9}, ("mask 9x8", "12x8")),
    ],
)
def test_annotations_that_fit_nothing(tmp_path, annotation, image, words):
    picture(tmp_path / "1.png", np.zeros((8, 12), np.uint8))
    coco(tmp_path, [{"segmentation": [[1, 1, 2, 2, 3, 3]], **annotation}], **image)
    says(words, lambda: open_source(tmp_path).read(0))


# -- finding the source


def test_a_format_is_named_or_its_nearest_is_said(tmp_path):
    says(("'cnbc' is unknown", "did you mean 'cncb'"), open_source, cncb_folders(tmp_path / "a"), format="cnbc")
    says(("'cropp' is unknown", "crop"), named_source, "covidx-ct:cropp")
    says(("nothing can be chosen",), named_source, "cncb:crop")
    says(("no slices found", "TrainingSet/"), open_source, tmp_path / "a", format="covid-semiseg")
    says(("no slices found", "covidx-ct"), open_source, tmp_path)
    assert all(name == one.name and one.title and one.__doc__ for name, one in SOURCES.items())
    picture(tmp_path / "a/pCT/1.png")
    text = says(("cncb and ictcf", "--format cncb"), open_source, tmp_path / "a")
    assert len(open_source(tmp_path / "a", format="ictcf")) == 1 and "can be read as" in text
    says(("cncb and ictcf",), describe_sources, [str(tmp_path / "a")])
    assert describe_sources([str(tmp_path / "nowhere")]) == STANDARD


def test_no_file_is_looked_at_when_a_large_folder_opens(tmp_path, monkeypatch):
    for number in range(400):
        (tmp_path / f"NCP/{number // 100}/1").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"NCP/{number // 100}/1/{number:04d}.png").write_bytes(b"")
    calls, real = Counter(), os.stat
    monkeypatch.setattr(os, "stat", lambda path, *rest, **more: (calls.update(["stat"]), real(path, *rest, **more))[1])
    assert len(open_source(tmp_path)) == 400 and calls["stat"] < 120
