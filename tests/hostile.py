"""Fifty and more inputs that nobody wants to meet, each with what a user should see.

A maker writes one small data set with one fault into an empty folder; `sees` is a pattern that the output of
`covid-workbench data check` has to match, `code` its exit code: 2 where the data cannot be opened at all, 1 where a
finding is an error, 0 where it is worth a warning or a note.
"""

import gzip
import io
import json
import os
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 64


@dataclass(frozen=True)
class Hostile:
    "An input: its `name` in words, what makes it, what one sees, and the exit code of the check."

    name: str
    make: Callable[[Path], Path | None]
    sees: str
    code: int


HOSTILE: list[Hostile] = []


def hostile(name: str, sees: str, code: int) -> Callable:
    "Register a maker: it gets an empty folder, and returns what to open if that is not the folder itself."

    def register(make: Callable) -> Callable:
        HOSTILE.append(Hostile(name, make, sees, code))
        return make

    return register


def picture(seed: int, side: int = SIDE) -> np.ndarray:
    "A chest of two dark lungs (side, side) uint8, another one for each seed."
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side - 0.5
    grey = np.where(x**2 / 0.2 + y**2 / 0.14 < 1, 150.0, 0.0)
    for middle in (-0.2, 0.2):
        lung = (x - middle) ** 2 / 0.02 + (y + 0.02 * random.normal()) ** 2 / 0.06 < 1
        grey = np.where(lung, 40 + 20 * random.normal(size=x.shape), grey)
    return np.clip(grey + 6 * random.normal(size=x.shape), 0, 255).astype(np.uint8)


def mask_of(seed: int, side: int = SIDE) -> np.ndarray:
    "Lungs with a lesion of 12 x 12 pixels (side, side), values 0 to 3."
    y, x = np.mgrid[:side, :side] / side - 0.5
    mask = np.zeros((side, side), np.uint8)
    for middle in (-0.2, 0.2):
        mask[(x - middle) ** 2 / 0.02 + y**2 / 0.06 < 1] = 1
    top, left = 26 + seed % 5, 14 + seed % 4
    mask[top : top + 12, left : left + 12] = 2
    return mask


def sound(folder: Path, patients: int = 9) -> list[dict]:
    "A sound data set of one slice a patient, with masks and labels; returns its rows."
    rows = []
    for number in range(patients):
        Image.fromarray(picture(number)).save(folder / f"p{number}.png")
        Image.fromarray(mask_of(number)).save(folder / f"m{number}.png")
        label = ("Normal", "CP", "COVID-19")[number % 3]
        rows.append(
            dict(id=f"s{number}", patient=f"P{number}", image=f"p{number}.png", mask=f"m{number}.png", label=label)
        )
    table(folder, rows)
    return rows


def table(folder: Path, rows: list[dict]) -> None:
    "Write rows as slices.csv."
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [",".join(names), *(",".join(str(row.get(name, "")) for name in names) for row in rows)]
    (folder / "slices.csv").write_text("\n".join(lines) + "\n")


# pictures


@hostile("an empty picture file", "p4.png.*(empty|is empty)", 1)
def _(folder):
    sound(folder)
    (folder / "p4.png").write_bytes(b"")


@hostile("a picture cut short", "p4.png.*truncated", 1)
def _(folder):
    sound(folder)
    content = (folder / "p4.png").read_bytes()
    (folder / "p4.png").write_bytes(content[: len(content) // 2])


@hostile("a text that is called .png", "p4.png.*none of PNG", 1)
def _(folder):
    sound(folder)
    (folder / "p4.png").write_text("no picture at all")


@hostile("an animated GIF that is called .png", "p4.png.*(none of PNG|animated)", 1)
def _(folder):
    sound(folder)
    frames = [Image.fromarray(picture(number)) for number in range(3)]
    frames[0].save(folder / "p4.png", format="GIF", save_all=True, append_images=frames[1:])


@hostile("an animated PNG", "several frames", 0)
def _(folder):
    sound(folder)
    frames = [Image.fromarray(picture(number)) for number in (4, 11, 12)]
    frames[0].save(folder / "p4.png", save_all=True, append_images=frames[1:])


@hostile("a PNG that says it has 60000 x 60000 pixels", "p4.png.*(more than|none of PNG)", 1)
def _(folder):
    sound(folder)
    content = bytearray((folder / "p4.png").read_bytes())
    content[16:24] = struct.pack(">II", 60_000, 60_000)
    (folder / "p4.png").write_bytes(bytes(content))


@hostile("a 16-bit PNG that nobody explains", "(16.bit|8-bit)", 1)
def _(folder):
    sound(folder)
    Image.fromarray(picture(4).astype(np.uint16) * 200).save(folder / "p4.png")


@hostile("a picture with transparency", "(alpha|transparen)", 0)
def _(folder):
    sound(folder)
    grey = Image.fromarray(picture(4))
    grey.putalpha(Image.fromarray(np.full((SIDE, SIDE), 90, np.uint8)))
    grey.save(folder / "p4.png")


@hostile("a photograph that EXIF turns", "(EXIF|turned|rotated)", 0)
def _(folder):
    rows = sound(folder)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture(4)).save(folder / "p4.jpg", exif=exif, quality=95)
    rows[4]["image"] = "p4.jpg"
    table(folder, rows)


@hostile("a picture of one pixel", "(tiny|small|1x1|does not match)", 1)
def _(folder):
    sound(folder)
    Image.fromarray(picture(4)[:1, :1]).save(folder / "p4.png")


@hostile("a dead link", "p4.png", 1)
def _(folder):
    sound(folder)
    (folder / "p4.png").unlink()
    (folder / "p4.png").symlink_to("nowhere.png")


@hostile("a pipe that would wait for ever", "p4.png", 1)
def _(folder):
    sound(folder)
    (folder / "p4.png").unlink()
    os.mkfifo(folder / "p4.png")


@hostile("a folder that is called .png", "p4.png", 1)
def _(folder):
    sound(folder)
    (folder / "p4.png").unlink()
    (folder / "p4.png").mkdir()


@hostile("colours in mode LAB", "p4.tif.*LAB", 1)
def _(folder):
    rows = sound(folder)
    Image.new("LAB", (SIDE, SIDE)).save(folder / "p4.tif")
    rows[4]["image"] = "p4.tif"
    table(folder, rows)


# masks


@hostile("a mask of another size", "m4.png.*does not match", 1)
def _(folder):
    sound(folder)
    Image.fromarray(mask_of(4, 32)).save(folder / "m4.png")


@hostile("a mask value that means nothing", "a value that means nothing", 1)
def _(folder):
    sound(folder)
    mask = mask_of(4)
    mask[0, 0] = 200
    Image.fromarray(mask).save(folder / "m4.png")


@hostile("a mask in colours", "m4.png.*one channel", 1)
def _(folder):
    sound(folder)
    Image.fromarray(np.stack([mask_of(4)] * 3, -1)).save(folder / "m4.png")


@hostile("masks without any lesion", "(empty|no lesion|nothing)", 0)
def _(folder):
    rows = sound(folder)
    for row in rows:
        Image.fromarray(np.zeros((SIDE, SIDE), np.uint8)).save(folder / row["mask"])


@hostile("a mask that is missing in a set of masks", "(without a mask|no mask)", 0)
def _(folder):
    rows = sound(folder)
    rows[4]["mask"] = ""
    table(folder, rows)


@hostile("masks that lie on their side", "laid transpose", 1)
def _(folder):
    for row in sound(folder):
        number = int(row["id"][1:])
        image, mask = picture(number), mask_of(number)
        mask[26:38, 14:26] = 1
        mask[40:44, 8:30] = 2
        Image.fromarray(image).save(folder / row["image"])
        Image.fromarray(np.ascontiguousarray(mask.T)).save(folder / row["mask"])


@hostile("lesions of a few pixels, all below the area that counts", "(below|area)", 0)
def _(folder):
    for row in sound(folder):
        mask = np.where(mask_of(1) == 2, 1, mask_of(1)).astype(np.uint8)
        mask[30:33, 16:19] = 2
        Image.fromarray(mask).save(folder / row["mask"])


# tables


@hostile("a slices.csv without the column image", "column 'image' is missing", 2)
def _(folder):
    rows = sound(folder)
    table(folder, [{name: value for name, value in row.items() if name != "image"} for row in rows])


@hostile("two slices of one id", "occurs twice", 2)
def _(folder):
    rows = sound(folder)
    rows[4]["id"] = "s3"
    table(folder, rows)


@hostile("a slices.csv with semicolons", "separated by ';'", 2)
def _(folder):
    sound(folder)
    path = folder / "slices.csv"
    path.write_text(path.read_text().replace(",", ";"))


@hostile("a slices.csv in UTF-16", "UTF-16", 2)
def _(folder):
    sound(folder)
    path = folder / "slices.csv"
    path.write_text(path.read_text(), encoding="utf-16")


@hostile("a row that is cut in the middle", "line 10.*fields", 2)
def _(folder):
    sound(folder)
    path = folder / "slices.csv"
    path.write_text(path.read_text()[:-12].rsplit(",", 1)[0])


@hostile("a class that the data set does not have", "'Covid' is unknown", 2)
def _(folder):
    rows = sound(folder)
    rows[4]["label"] = "Covid"
    table(folder, rows)


@hostile("a table that names files which are not there", "(p4.png|missing|no file)", 1)
def _(folder):
    sound(folder)
    (folder / "p4.png").unlink()


@hostile("a table that points at /etc/passwd", "passwd", 1)
def _(folder):
    rows = sound(folder)
    rows[4]["image"] = "/etc/passwd"
    table(folder, rows)


@hostile("a patient in training and test", "(more than one split|two splits|in training and test)", 1)
def _(folder):
    rows = sound(folder)
    for number, row in enumerate(rows):
        row["patient"], row["split"] = f"P{number // 2}", ("train", "test")[number % 2]
    table(folder, rows)


@hostile("the same picture under two patients and two labels", "(same picture|identical|twice)", 1)
def _(folder):
    rows = sound(folder)
    rows[5]["image"] = "copy.png"
    Image.fromarray(picture(4)).save(folder / "copy.png")
    table(folder, rows)


@hostile("blank patients", "(unknown)", 0)
def _(folder):
    rows = sound(folder)
    for row in rows:
        row["patient"] = ""
    table(folder, rows)


@hostile("names that differ by case alone", "differ by case or blanks alone", 0)
def _(folder):
    rows = sound(folder)
    rows[4]["patient"] = "p3"
    table(folder, rows)


@hostile("markup and control characters in names", "(control character|rename)", 2)
def _(folder):
    rows = sound(folder)
    rows[4]["patient"] = "<script>\x1b[31m"
    table(folder, rows)


# dataset.json


@hostile("a dataset.json that is cut", "dataset.json", 2)
def _(folder):
    sound(folder)
    (folder / "dataset.json").write_text('{"classes": ["a",')


@hostile("a misspelt field in dataset.json", "dataset.json.*'clases' is unknown.*classes", 2)
def _(folder):
    sound(folder)
    (folder / "dataset.json").write_text(json.dumps({"clases": ["a", "b"]}))


@hostile("a class that dataset.json names twice", "dataset.json.*twice", 2)
def _(folder):
    sound(folder)
    (folder / "dataset.json").write_text(json.dumps({"classes": ["a", "A"]}))


@hostile("a window with its ends exchanged", "dataset.json.*window", 2)
def _(folder):
    sound(folder)
    (folder / "dataset.json").write_text(json.dumps({"window": [400, -1000]}))


@hostile("a dataset.json of a hundred thousand brackets", "dataset.json", 2)
def _(folder):
    sound(folder)
    (folder / "dataset.json").write_text("[" * 100_000)


# lists and archives


@hostile("a list with a line that says nothing", "train_COVIDx_CT-1.txt.*line 3", 2)
def _(folder):
    lines = [f"NCP_{number}_1_0001.png 2 0 0 64 64" for number in range(6)]
    lines[2] = "NCP_2_1_0001.png two"
    (folder / "train_COVIDx_CT-1.txt").write_text("\n".join(lines) + "\n")


@hostile("a list that names files which are not there", "(not there|missing|no file)", 1)
def _(folder):
    for number in range(6):
        Image.fromarray(picture(number)).save(folder / f"NCP_{number}_1_0001.png")
    lines = [f"NCP_{number}_1_0001.png 2 0 0 64 64" for number in range(9)]
    (folder / "train_COVIDx_CT-1.txt").write_text("\n".join(lines) + "\n")


def archive(folder: Path, name: str = "CP-1.zip", patients: int = 6) -> Path:
    "A small archive as CNCB publishes them."
    with zipfile.ZipFile(folder / name, "w") as file:
        for number in range(patients):
            content = io.BytesIO()
            Image.fromarray(picture(number)).save(content, "PNG")
            file.writestr(f"CP/{number}/1/0001.png", content.getvalue())
    return folder / name


@hostile("an archive that is cut", "CP-1.zip", 2)
def _(folder):
    path = archive(folder)
    path.write_bytes(path.read_bytes()[:-200])


@hostile("an archive with a name that leaves it", "(CP-1.zip|\\.\\./)", 2)
def _(folder):
    with zipfile.ZipFile(archive(folder), "a") as file:
        file.writestr("../../CP/7/1/0001.png", b"x")


@hostile("an archive that unpacks to a thousand times its size", "CP-1.zip", 2)
def _(folder):
    with zipfile.ZipFile(archive(folder), "a", zipfile.ZIP_DEFLATED) as file:
        file.writestr("CP/7/1/0001.png", b"\0" * 300_000_000)


@hostile("an archive with a link in it", "CP-1.zip", 2)
def _(folder):
    link = zipfile.ZipInfo("CP/7/1/0001.png")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(archive(folder), "a") as file:
        file.writestr(link, "/etc/passwd")


@hostile("an encrypted archive", "CP-1.zip.*(encrypt|password)", 2)
def _(folder):
    path = archive(folder)
    content = bytearray(path.read_bytes())
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = content.find(mark)
        content[start + at] |= 1
    path.write_bytes(bytes(content))


# COCO


def coco(folder: Path, **changes) -> None:
    "A small instance JSON over three pictures."
    for number in range(6):
        Image.fromarray(picture(number)).save(folder / f"p{number}.png")
    content = {
        "images": [dict(id=n, file_name=f"p{n}.png", width=SIDE, height=SIDE) for n in range(6)],
        "categories": [dict(id=1, name="nodule")],
        "annotations": [
            dict(
                id=n,
                image_id=n,
                category_id=1,
                iscrowd=0,
                area=100,
                bbox=[10, 10, 10, 10],
                segmentation=[[10, 10, 20, 10, 20, 20, 10, 20]],
            )
            for n in range(6)
        ],
    }
    (folder / "annotations.json").write_text(json.dumps(content | changes))


@hostile("COCO annotations of a picture that the file does not name", "annotations.json.*(image|99)", 2)
def _(folder):
    coco(folder, annotations=[dict(id=1, image_id=99, category_id=1, segmentation=[[1, 1, 9, 1, 9, 9]])])


@hostile("a COCO polygon of three numbers", "(annotations.json|polygon|segmentation)", 1)
def _(folder):
    coco(folder, annotations=[dict(id=1, image_id=1, category_id=1, segmentation=[[1, 1, 9]])])


# DICOM, NIfTI, MetaImage


def series(folder: Path, planes: int = 6, **changes) -> list[Path]:
    "A small DICOM series; `changes` are elements of every file."
    from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    uid, paths = generate_uid(entropy_srcs=["hostile"]), []
    for plane in range(planes):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = CTImageStorage, ExplicitVRLittleEndian
        meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["hostile", str(plane)])
        held = FileDataset(str(folder / f"{plane}.dcm"), Dataset(), file_meta=meta, preamble=b"\0" * 128)
        held.SOPClassUID, held.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        held.Modality, held.PatientID, held.SeriesInstanceUID, held.StudyInstanceUID = "CT", "P1", uid, uid
        held.InstanceNumber, held.ImagePositionPatient = plane + 1, [0, 0, 5.0 * plane]
        held.ImageOrientationPatient, held.PixelSpacing, held.SliceThickness = [1, 0, 0, 0, 1, 0], [0.7, 0.7], 5
        held.Rows = held.Columns = SIDE
        held.BitsAllocated, held.BitsStored, held.HighBit, held.PixelRepresentation = 16, 16, 15, 1
        held.SamplesPerPixel, held.PhotometricInterpretation = 1, "MONOCHROME2"
        held.RescaleSlope, held.RescaleIntercept = 1, -1024
        held.PixelData = (picture(plane).astype(np.int16) * 8).tobytes()
        for name, value in changes.items():
            setattr(held, name, value)
        held.save_as(folder / f"{plane}.dcm", enforce_file_format=True)
        paths.append(folder / f"{plane}.dcm")
    return paths


def change(path: Path, **changes) -> None:
    "Set or, with None, delete elements of a DICOM file."
    import pydicom

    held = pydicom.dcmread(path)
    for name, value in changes.items():
        setattr(held, name, value) if value is not None else delattr(held, name)
    held.save_as(path)


@hostile("a DICOM series with a slice missing", "(gap|missing)", 0)
def _(folder):
    series(folder)[3].unlink()


@hostile("a DICOM series with a slice twice", "two different images at 10.0 mm", 2)
def _(folder):
    change(series(folder)[3], ImagePositionPatient=[0, 0, 10.0])


@hostile("two DICOM series in one folder", "holds 2 series", 0)
def _(folder):
    for path in series(folder)[3:]:
        change(path, SeriesInstanceUID="1.2.3")


@hostile("a DICOM series with slices of two sizes", "several sizes", 0)
def _(folder):
    change(series(folder)[3], Rows=32, PixelData=picture(3)[:32].astype(np.int16).tobytes())


@hostile("a DICOM file without pixels", "3.dcm has no pixel data", 0)
def _(folder):
    change(series(folder)[3], PixelData=None)


@hostile("a DICOM file that is cut", "3.dcm is truncated", 0)
def _(folder):
    path = series(folder)[3]
    path.write_bytes(path.read_bytes()[:-3000])


@hostile("a text that is called .dcm", "3.dcm is no DICOM", 0)
def _(folder):
    series(folder)[3].write_text("no DICOM")


def nifti(folder: Path, name: str = "scan.nii.gz", shape: tuple = (SIDE, SIDE, 5)) -> Path:
    "A small NIfTI volume."
    import nibabel

    values = np.zeros(shape, np.int16)
    values[...] = picture(1).astype(np.int16).T.reshape(SIDE, SIDE, *[1] * (len(shape) - 2)) * 8 - 1000
    nibabel.save(nibabel.Nifti1Image(values, np.diag([0.7, 0.7, 5, 1])), folder / name)
    return folder / name


@hostile("a NIfTI file that is cut", "scan.nii.gz", 1)
def _(folder):
    path = nifti(folder)
    path.write_bytes(path.read_bytes()[:2000])


@hostile("a NIfTI header that promises 2 000 000 000 voxels", "scan.nii.gz", 2)
def _(folder):
    path = nifti(folder)
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[42:48] = struct.pack("<hhh", 20_000, 20_000, 5)
    path.write_bytes(gzip.compress(bytes(content)))


@hostile("a NIfTI volume with a time axis", "scan.nii.gz holds 3 volumes", 2)
def _(folder):
    nifti(folder, shape=(SIDE, SIDE, 5, 3))


@hostile("a MetaImage that reads another file", "scan.mhd.*(passwd|folder|ElementDataFile)", 2)
def _(folder):
    lines = [
        "ObjectType = Image",
        "NDims = 3",
        "DimSize = 64 64 5",
        "ElementType = MET_SHORT",
        "ElementSpacing = 1 1 5",
    ]
    (folder / "scan.mhd").write_text("\n".join([*lines, "ElementDataFile = ../../../etc/passwd"]) + "\n")


@hostile("an empty folder", "no slices", 2)
def _(folder):
    (folder / "notes").mkdir()


@hostile("a folder that is not there", "no such", 2)
def _(folder):
    return folder / "nowhere"
