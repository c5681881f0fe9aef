"""CT as it comes: DICOM, NIfTI and MetaImage are one volume, what is wrong is named, a folder of them is trained on."""

import gzip
import os
import shutil
import zlib

import numpy as np
import pytest
from conftest import assignments
from PIL import Image
from volumes_kit import dicom_plane, phantom_scan, scan, write_dicom, write_metaimage, write_nifti

from covid_workbench.data import dicom as dicom_module
from covid_workbench.data import series as series_module
from covid_workbench.data import volumes as volumes_module
from covid_workbench.data.description import STANDARD, write_description
from covid_workbench.data.lungs import LEFT, RIGHT, dice, lung_mask, lung_mask_of_plane
from covid_workbench.data.metaimage import open_metaimage
from covid_workbench.data.nifti import open_nifti
from covid_workbench.data.planes import read_labels, read_plane
from covid_workbench.data.series import find_series, read_series, read_volume
from covid_workbench.data.source_volumes import VolumeSource
from covid_workbench.data.sources import open_source
from covid_workbench.data.to_pictures import to_pictures
from covid_workbench.data.volumes import Volume, rows_of
from covid_workbench.data.windows import apply_window
from covid_workbench.errors import InputError, WorkbenchError
from covid_workbench.runs.run import Run

for module in ("pydicom", "gdcm", "nibabel"):
    pytest.importorskip(module, reason='the extra "volumes" is not installed')


# ---------------------------------------------------------------------------------------------------- one frame


def test_three_formats_hold_the_same_volume(tmp_path):
    hu = scan()
    write_dicom(tmp_path / "dicom", hu)
    (tmp_path / "dicom" / "notes.txt").write_text("not an image")
    volumes = [
        read_volume(tmp_path / "dicom"),
        read_volume(write_nifti(tmp_path / "a.nii.gz", hu)),
        read_volume(write_nifti(tmp_path / "a.nii", hu)),
        read_volume(write_metaimage(tmp_path / "a.mha", hu)),
    ]
    for volume in volumes:
        assert volume.is_hu and (volume.hu == hu).all(), volume
        assert np.allclose(volume.spacing, (2.0, 0.7, 0.8)) and np.allclose(volume.affine, volumes[0].affine, atol=1e-4)
    assert volumes[0].affine[:3, 3] == pytest.approx([-10, -20, 0])  # x, y, z of the first voxel
    assert volumes[0].patient == "p1" and volumes[0].series == "1.2.5" and "notes.txt" in volumes[0].notes[-1]
    assert [path.name for path in volumes[0].files] == ["im000.dcm", "im007.dcm", "im014.dcm", "im021.dcm"]


@pytest.mark.parametrize("flip", ["x", "y", "z", "xyz"])
def test_a_nifti_stored_the_other_way_round_is_the_same(tmp_path, flip):
    hu = scan()
    one, other = (read_volume(write_nifti(tmp_path / f"{name}.nii", hu, flip=name)) for name in ("", flip))
    assert (one.hu == other.hu).all() and np.allclose(one.affine, other.affine, atol=1e-4)


@pytest.mark.parametrize(
    "direction, stored",
    [
        ([-1, 0, 0, 0, 1, 0], lambda plane: plane[:, ::-1]),
        ([1, 0, 0, 0, -1, 0], lambda plane: plane[::-1]),
        ([0, 1, 0, 1, 0, 0], lambda plane: plane.T),
        ([0, -1, 0, -1, 0, 0], lambda plane: plane.T[::-1, ::-1]),
    ],
)
def test_a_dicom_plane_is_turned_into_the_frame(tmp_path, direction, stored):
    hu = scan(2)
    for at, plane in enumerate(hu):
        held = dicom_plane(np.ascontiguousarray(stored(plane)), at * 2.0, at, ImageOrientationPatient=direction)
        held.save_as(tmp_path / f"{at}.dcm", enforce_file_format=True)
    assert (read_volume(tmp_path).hu == hu).all()
    plane = read_plane(tmp_path / "1.dcm")
    assert (plane.hu == hu[1]).all() and plane.spacing == ((0.7, 0.8) if direction[0] else (0.8, 0.7))


def test_a_metaimage_by_its_keys(tmp_path):
    hu = scan()
    flipped = write_metaimage(tmp_path / "a.mha", hu[:, ::-1], TransformMatrix="1 0 0 0 -1 0 0 0 1")
    assert (read_volume(flipped).hu == hu).all()
    letters = write_metaimage(tmp_path / "b.mha", hu[:, :, ::-1], TransformMatrix=None, AnatomicalOrientation="LAI")
    assert (read_volume(letters).hu == hu).all()
    header = write_metaimage(tmp_path / "c.mha", hu).read_bytes().split(b"ElementDataFile")[0].decode()
    (tmp_path / "c.zraw").write_bytes(zlib.compress(hu.astype(">i2").tobytes()))
    more = "BinaryDataByteOrderMSB = True\nCompressedData = True\nElementDataFile = c.zraw"
    (tmp_path / "c.mhd").write_text(header + more)
    assert (read_volume(tmp_path / "c.mhd").hu == hu).all()
    for name, sentence in (("../c.zraw", "same folder"), ("LIST", "list of files"), ("gone.raw", "is missing")):
        (tmp_path / "d.mhd").write_text(header + f"ElementDataFile = {name}")
        with pytest.raises(InputError, match=sentence):
            open_metaimage(tmp_path / "d.mhd")


def test_a_metaimage_that_lies_is_refused(tmp_path):
    hu, path = scan(), tmp_path / "a.mha"
    for keys, sentence in (
        (dict(DimSize="5 6 4000"), "truncated"),
        (dict(DimSize="900000 900000 900000"), "more than are read"),
        (dict(DimSize="5 6"), "truncated|size|voxels"),
        (dict(DimSize="5 -6 4"), "size"),
        (dict(ElementType="MET_SHORTS"), "MET_SHORT"),
        (dict(ElementNumberOfChannels="3"), "3 channels"),
        (dict(ElementSpacing="1 one 1"), "ElementSpacing"),
        (dict(TransformMatrix="1 0 0 1 0 0 1 0 0"), "three different axes"),
        (dict(BinaryData="False"), "as text"),
    ):
        write_metaimage(path, hu, **keys)
        if keys == dict(DimSize="5 6"):
            assert len(open_metaimage(path)) == 1
            continue
        with pytest.raises(InputError, match=sentence):
            open_metaimage(path).values  # noqa: B018


# ------------------------------------------------------------------------------------------------------- pixels


def save(path, hu, **changes):
    dicom_plane(hu, 0.0, 1, **changes).save_as(path, enforce_file_format=True)
    return path


def test_hu_of_stored_pixels(tmp_path):
    hu, path = scan(1)[0], tmp_path / "a.dcm"
    plane = read_plane(save(path, hu), window=(-1000, 400))
    assert (plane.hu == hu).all() and (plane.pixels == apply_window(hu, (-1000, 400))).all()
    stored = (hu.astype(np.int32) + 1024) // 2
    half = save(path, hu, RescaleSlope=2, RescaleIntercept=-1024, PixelData=stored.astype("<u2").tobytes())
    assert (read_plane(half).hu == stored * 2 - 1024).all()
    assert (read_plane(save(path, hu, PhotometricInterpretation="MONOCHROME1")).hu == hu).all()
    signed = dict(PixelRepresentation=1, RescaleIntercept=0, PixelData=hu.astype("<i2").tobytes())
    assert (read_plane(save(path, hu, **signed)).hu == hu).all()
    assert (read_plane(save(path, hu, Modality=None, **signed)).hu == hu).all()
    twelve = ((hu.astype(np.int32) + 1024) % 4096) | 0xF000  # an overlay in the unused bits
    about = dict(BitsStored=12, HighBit=11, PixelData=twelve.astype("<u2").tobytes())
    assert (read_plane(save(path, hu, **about)).hu == (twelve & 0xFFF) - 1024).all()


def test_outside_the_circle_is_air(tmp_path):
    hu = scan(1)[0]
    stored = hu.astype("<i2")
    stored[0] = -2048
    about = dict(PixelRepresentation=1, RescaleIntercept=0)
    plane = read_plane(save(tmp_path / "a.dcm", hu, PixelData=stored.tobytes(), **about))
    assert (plane.hu[0] == -1024).all() and (plane.hu[1:] == hu[1:]).all()


def test_what_is_no_hu_becomes_grey(tmp_path):
    hu = scan(1)[0]
    stored = np.arange(30, dtype="<u2").reshape(6, 5) * 141
    about = dict(Modality="NM", RescaleIntercept=0, BitsStored=12, HighBit=11, PixelData=stored.tobytes())
    plane = read_plane(save(tmp_path / "a.dcm", hu, **about))
    assert plane.hu is None and (plane.pixels == np.rint(stored / 4095 * 255)).all()
    dark = read_plane(save(tmp_path / "a.dcm", hu, **(about | dict(PhotometricInterpretation="MONOCHROME1"))))
    assert (dark.pixels == np.rint((4095 - stored) / 4095 * 255)).all()
    volume = read_volume(tmp_path / "a.dcm")
    assert not volume.is_hu and "no HU" in " ".join(volume.notes)
    grey = write_nifti(tmp_path / "g.nii", (scan() % 256).astype(np.uint8))
    assert read_plane(grey, 2).hu is None and (read_plane(grey, 2).pixels == scan()[2] % 256).all()


def test_compressed_pixels_and_damage(tmp_path, capfd):
    from pydicom.uid import JPEGLSLossless, RLELossless

    hu = scan(1, 32, 32)[0]
    held = dicom_plane(hu, 0.0, 1)
    held.compress(RLELossless)
    held.save_as(tmp_path / "rle.dcm")
    assert (read_plane(tmp_path / "rle.dcm").hu == hu).all()
    content = (tmp_path / "rle.dcm").read_bytes()
    (tmp_path / "rle.dcm").write_bytes(content[: len(content) - 300])
    held.file_meta.TransferSyntaxUID = JPEGLSLossless
    held.save_as(tmp_path / "other.dcm")
    for name in ("rle.dcm", "other.dcm"):
        with pytest.raises(InputError, match=f"slice 7: .*{name} has .*pixel data"):
            read_plane(tmp_path / name, where="slice 7")
    assert capfd.readouterr() == ("", "")


def test_a_damaged_jpeg_is_not_made_up(tmp_path, capfd):
    "libjpeg fills what is missing with grey and goes on."
    import gdcm

    hu = np.random.default_rng(0).integers(-1000, 1000, (64, 64)).astype(np.int16)
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(save(tmp_path / "plain.dcm", hu)))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
    change.SetInput(reader.GetImage())
    assert change.Change()
    path = tmp_path / "jpeg.dcm"
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write() and (read_plane(path).hu == hu).all()
    content = bytearray(path.read_bytes())
    content[-3000:-500] = bytes(2500)
    path.write_bytes(content)
    capfd.readouterr()
    with pytest.raises(InputError, match="jpeg.dcm has damaged pixel data|jpeg.dcm has pixel data that cannot"):
        read_plane(path)
    assert capfd.readouterr() == ("", "")


def test_planes_of_one_file(tmp_path):
    "An enhanced CT: positions by frame, the scale shared."
    from pydicom.dataset import Dataset

    hu, order = scan(3), [2, 0, 1]
    held = dicom_plane(hu[0], 0.0, 1, ImagePositionPatient=None, ImageOrientationPatient=None, PixelSpacing=None)
    for name in ("RescaleSlope", "RescaleIntercept"):
        delattr(held, name)

    def item(**tags):
        made = Dataset()
        for tag, value in tags.items():
            setattr(made, tag, value)
        return made

    held.NumberOfFrames = 3
    held.PixelData = b"".join((hu[at].astype(np.int32) + 1024).astype("<u2").tobytes() for at in order)
    held.SharedFunctionalGroupsSequence = [
        item(
            PlaneOrientationSequence=[item(ImageOrientationPatient=[1.0, 0, 0, 0, 1, 0])],
            PixelMeasuresSequence=[item(PixelSpacing=[0.7, 0.8], SliceThickness=2)],
            PixelValueTransformationSequence=[item(RescaleSlope=1, RescaleIntercept=-1024, RescaleType="HU")],
        )
    ]
    held.PerFrameFunctionalGroupsSequence = [
        item(PlanePositionSequence=[item(ImagePositionPatient=[-10.0, -20, at * 2.0])]) for at in order
    ]
    held.save_as(tmp_path / "many.dcm", enforce_file_format=True)
    volume = read_volume(tmp_path / "many.dcm")
    assert (volume.hu == hu).all() and volume.frames == (1, 2, 0) and volume.spacing == (2.0, 0.7, 0.8)
    assert (read_plane(tmp_path / "many.dcm", 0).hu == hu[2]).all()
    with pytest.raises(InputError, match="has 3 planes"):
        read_plane(tmp_path / "many.dcm", 3)


# ------------------------------------------------------------------------------------------------------- series


def test_order_without_positions(tmp_path):
    hu = scan()
    write_dicom(tmp_path / "number", hu[::-1], ImagePositionPatient=None, SeriesInstanceUID="")
    volume = read_volume(tmp_path / "number")
    assert (volume.hu == hu).all() and volume.affine is None and "InstanceNumber" in volume.notes[0]
    for at in range(12):
        held = dicom_plane(hu[0] + at, 0.0, 5, ImagePositionPatient=None, PatientID="")
        (tmp_path / "name").mkdir(exist_ok=True)
        held.save_as(tmp_path / "name" / f"im{at}.dcm", enforce_file_format=True)
    volume = read_volume(tmp_path / "name")
    assert [int(plane[0, 0] - hu[0, 0, 0]) for plane in volume.hu] == list(range(12)) and "file name" in volume.notes[0]
    for at in range(4):
        held = dicom_plane(hu[at], 0.0, 1, ImagePositionPatient=None, SliceLocation=float(at))
        (tmp_path / "location").mkdir(exist_ok=True)
        held.save_as(tmp_path / "location" / f"{9 - at}.dcm", enforce_file_format=True)
    assert (read_volume(tmp_path / "location").hu == hu).all()


def test_gaps_and_doubles(tmp_path):
    hu = scan(8)
    paths = write_dicom(tmp_path, hu)
    shutil.copy(paths[2], tmp_path / "again.dcm")
    paths[5].unlink()
    paths[0].rename(tmp_path / "first")  # names without an ending are looked into
    volume = read_volume(tmp_path)
    assert (volume.hu == np.delete(hu, 5, 0)).all() and volume.spacing[0] == 2 and volume.affine is None
    said = " ".join(volume.notes)
    assert f"a gap of 4.0 mm between {paths[4].name} and {paths[6].name}" in said and "there twice" in said


def test_two_phases_in_one_series_are_refused(tmp_path):
    write_dicom(tmp_path, scan())
    dicom_plane(scan(seed=1)[1], 2.0, 9).save_as(tmp_path / "late.dcm", enforce_file_format=True)
    with pytest.raises(InputError, match="series 1.2.5 has two different images at 2.0 mm: .*im007.dcm and .*late.dcm"):
        read_series(tmp_path)


def test_the_same_series_number_in_two_folders_is_two_scans(tmp_path):
    for name, seed in (("a", 0), ("b", 1)):
        write_dicom(tmp_path / name, scan(seed=seed), PatientID="")
    assert [volume.name for volume in read_series(tmp_path)] == ["a", "b"]


def test_what_is_no_slice_is_left_out_and_said(tmp_path):
    hu = scan()
    write_dicom(tmp_path, hu)
    scout = dict(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], ImageOrientationPatient=[1.0, 0, 0, 0, 0, -1])
    for name, changes in dict(
        scout=scout | dict(SeriesInstanceUID="1.2.6"),
        coronal=dict(ImageOrientationPatient=[1.0, 0, 0, 0, 0, -1]),
        magnet=dict(Modality="MR"),
        bare=dict(PixelData=None),
        colour=dict(SamplesPerPixel=3, PhotometricInterpretation="RGB"),
        short=dict(PixelData=b"\0\0"),
        report=dict(Rows=None, Columns=None, PixelData=None, Modality="SR"),
        huge=dict(Rows=60000, Columns=60000),
    ).items():
        dicom_plane(hu[0], 0.0, 1, **changes).save_as(tmp_path / f"{name}.dcm", enforce_file_format=True)
    (tmp_path / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 200)
    (tmp_path / "text.dcm").write_text("no image")
    volume = read_volume(tmp_path)
    assert (volume.hu == hu).all()
    said = " ".join(volume.notes)
    for words in ("scout", "not axial", "modality MR", "no pixel data", "in colour", "truncated", "holds no image"):
        assert words in said, (words, volume.notes)
    assert "60000x60000" in said and "text.dcm is no DICOM" in said and "broken.dcm" in said
    with pytest.raises(InputError, match="no axial CT series found. .*modality MR"):
        read_series([tmp_path / "magnet.dcm"])


def test_several_sizes_in_a_series_become_scans(tmp_path):
    write_dicom(tmp_path / "a", scan())
    for at, plane in enumerate(scan(3, 8, 8)):
        dicom_plane(plane, 20.0 + at, 20 + at).save_as(tmp_path / "a" / f"z{at}.dcm", enforce_file_format=True)
    one, other = read_series(tmp_path)
    assert (one.hu.shape, other.hu.shape) == ((4, 6, 5), (3, 8, 8)) and (one.name, other.name) == ("a-1", "a-2")
    assert "several sizes" in one.notes[0]
    with pytest.raises(InputError, match=r"holds 2 scans: a-1 \(4 planes\)"):
        read_volume(tmp_path)


def test_odd_identifiers_warn_nobody(tmp_path, recwarn, capfd):
    odd = "896911bf-1143-4c8d-8f04-f3cd1a7f6204"
    from pydicom import config

    before, config.settings.writing_validation_mode = config.settings.writing_validation_mode, config.IGNORE
    try:
        write_dicom(tmp_path, scan(), SOPInstanceUID="", SeriesInstanceUID=odd, StudyInstanceUID=odd)
    finally:
        config.settings.writing_validation_mode = before
    recwarn.clear()
    assert read_volume(tmp_path).series == odd
    assert not recwarn.list and capfd.readouterr() == ("", "")


def test_damaged_dicom_never_crashes(tmp_path):
    content = save(tmp_path / "a.dcm", scan(1, 16, 16)[0]).read_bytes()
    random, path = np.random.default_rng(0), tmp_path / "b.dcm"
    told = 0
    for trial in range(150):
        bytes_ = bytearray(content[: random.integers(1, len(content))] if trial % 3 == 0 else content)
        for place in random.integers(0, min(len(bytes_), 900), 6):
            bytes_[place] = random.integers(256)
        path.write_bytes(bytes_)
        try:
            read_plane(path)
        except WorkbenchError as error:
            told += 1
            assert "b.dcm" in str(error) and "\n" not in str(error)
    assert told > 75


# -------------------------------------------------------------------------------------------------------- NIfTI


def test_nifti_that_is_wrong_is_refused(tmp_path):
    import nibabel

    path = write_nifti(tmp_path / "a.nii.gz", scan(20, 30, 30))
    packed = path.read_bytes()
    path.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(InputError, match="slice s: .*a.nii.gz is truncated or damaged"):
        read_plane(path, 3, "slice s")
    for content in (b"", b"no image" * 100, gzip.compress(b"no image" * 100)):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"a.nii.gz cannot be read as NIfTI"):
            open_nifti(path)
    plain = write_nifti(tmp_path / "b.nii", scan())
    huge = bytearray(plain.read_bytes())
    huge[42:48] = np.array([30000, 30000, 30000], "<i2").tobytes()
    plain.write_bytes(huge)
    with pytest.raises(InputError, match="more than are read"):
        open_nifti(plain)
    huge[42:48] = np.array([500, 500, 500], "<i2").tobytes()
    (tmp_path / "c.nii.gz").write_bytes(gzip.compress(bytes(huge)))
    with pytest.raises(InputError, match="250,000,352 bytes are announced"):
        open_nifti(tmp_path / "c.nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.zeros((3, 3, 3, 2), np.int16), np.eye(4)), tmp_path / "d.nii")
    with pytest.raises(InputError, match="holds 2 volumes"):
        open_nifti(tmp_path / "d.nii")
    nibabel.save(nibabel.Nifti1Image(np.zeros((3, 3, 4, 1), np.int16), np.eye(4)), tmp_path / "d.nii")
    assert len(open_nifti(tmp_path / "d.nii")) == 4


def test_nifti_of_decimals_and_with_a_slope(tmp_path):
    import nibabel

    hu = scan()
    stored = hu.transpose(2, 1, 0).astype(np.float32) + 0.2
    stored[0, 0, 0] = np.nan
    image = nibabel.Nifti1Image(stored, np.diag([-1.0, -1, 1, 1]))
    nibabel.save(image, tmp_path / "f.nii")
    volume = read_volume(tmp_path / "f.nii")
    assert volume.hu[0, 0, 0] == -1024 and (volume.hu.ravel()[1:] == hu.ravel()[1:]).all()
    scaled = nibabel.Nifti1Image(((hu.transpose(2, 1, 0) + 1024) // 2).astype(np.int16), np.diag([-1.0, -1, 1, 1]))
    scaled.header.set_slope_inter(2, -1024)
    nibabel.save(scaled, tmp_path / "s.nii")
    assert np.abs(read_plane(tmp_path / "s.nii", 2).hu - hu[2]).max() <= 1


def test_labels_of_a_volume(tmp_path):
    mask = (scan() % 4).astype(np.uint8)
    path = write_nifti(tmp_path / "m.nii.gz", mask, flip="y")
    assert (read_labels(path, 1) == mask[1]).all()
    assert (read_labels(write_nifti(tmp_path / "f.nii", mask.astype(np.float32)), 1) == mask[1]).all()
    with pytest.raises(InputError, match=r"slice s: mask .*w.nii holds .*; whole numbers"):
        read_labels(write_nifti(tmp_path / "w.nii", mask * np.float32(0.3)), 1, "slice s")


def test_a_packed_volume_is_unpacked_once(tmp_path, monkeypatch):
    opened = []
    paths = [write_nifti(tmp_path / f"{name}.nii.gz", scan()) for name in "abc"]
    monkeypatch.setattr(volumes_module.AT_HAND, "_held", type(volumes_module.AT_HAND._held)())
    monkeypatch.setattr(
        "covid_workbench.data.nifti.open_nifti", lambda path: opened.append(path.name) or open_nifti(path)
    )
    for frame in range(4):
        read_plane(paths[0], frame)
    assert opened == ["a.nii.gz"]
    monkeypatch.setenv("COVID_WORKBENCH_VOLUME_CACHE", str(2 * scan().nbytes))
    for path in (*paths, paths[2], paths[0]):
        read_plane(path, 0)
    assert opened == ["a.nii.gz", "b.nii.gz", "c.nii.gz", "a.nii.gz"] and len(volumes_module.AT_HAND) == 2
    os.utime(paths[0], (1, 1))  # changed: read again
    read_plane(paths[0], 0)
    assert opened[-1] == "a.nii.gz" and len(opened) == 5
    plain = volumes_module.AT_HAND.get(write_nifti(tmp_path / "p.nii", scan()), open_nifti)
    assert volumes_module._is_mapped(plain.values)


# --------------------------------------------------------------------------------------------------- a data set


def test_a_folder_of_volumes_is_a_data_set(tmp_path, monkeypatch):
    monkeypatch.setattr(dicom_module, "_decoded", lambda *about: pytest.fail("pixels are decoded"))
    monkeypatch.setattr(series_module, "plane_values", lambda *about: pytest.fail("pixels are decoded"))
    hu, mask = scan(), (scan() % 4).astype(np.uint8)
    write_dicom(tmp_path / "COVID-19" / "x", hu, PatientID="P7", SeriesInstanceUID="1.2.7")
    write_dicom(tmp_path / "Normal" / "y", hu, PatientID="unknown", SeriesInstanceUID="1.2.8")
    write_nifti(tmp_path / "cp" / "q.nii.gz", hu)
    write_nifti(tmp_path / "cp" / "q_seg.nii.gz", mask, flip="x")
    write_nifti(tmp_path / "masks" / "x.nii", mask)
    write_metaimage(tmp_path / "other" / "z.mha", hu)
    write_nifti(tmp_path / "other" / "z_infection.nii", (mask > 1).astype(np.uint8))
    write_nifti(tmp_path / "other" / "z_lungs.nii", (mask > 0).astype(np.uint8))
    source = VolumeSource(tmp_path)
    assert source.fits()
    rows = list(source.rows())
    of = {row["scan"]: row for row in rows if row["index"] == 2}
    assert len(rows) == 16 and len({row["id"] for row in rows}) == 16
    covid, normal, cp, other = of["COVID-19_x"], of["Normal_y"], of["cp_q"], of["other_z"]
    assert (covid["patient"], covid["label"], covid["mask"], covid["mask_frame"]) == (
        "P7",
        "COVID-19",
        "masks/x.nii",
        2,
    )
    assert (normal["patient"], normal["patient_unknown"], normal["label"]) == ("y", False, "Normal")
    assert (cp["patient_unknown"], cp["label"], cp["mask"], cp["frame"]) == (True, "CP", "cp/q_seg.nii.gz", 2)
    assert (other["patient"], other["label"], other["lungs"]) == ("other", "", "other/z_lungs.nii")
    assert other["mask_values"] == "1:2 255:2"
    assert any("mask values mean" in note for note in source.notes())
    monkeypatch.undo()
    table = open_source(tmp_path)
    for row in range(len(table)):
        piece, at = table.read(row), table.frame["index"][row]
        assert (piece.hu == hu[at]).all()
        if table.frame["scan"][row] in ("COVID-19_x", "cp_q"):
            assert (piece.mask == mask[at]).all()
    lungs = table.read(int(table.frame.index[(table.frame["scan"] == "other_z") & (table.frame["index"] == 1)][0]))
    assert (lungs.mask == np.where(mask[1] > 1, 2, mask[1] > 0)).all()


def test_nnu_net_and_labels_csv(tmp_path):
    hu, mask = scan(), (scan() % 3).astype(np.uint8)
    for case in ("c1", "c2"):
        write_nifti(tmp_path / "imagesTr" / f"{case}_0000.nii.gz", hu)
        write_nifti(tmp_path / "labelsTr" / f"{case}.nii.gz", mask)
    (tmp_path / "labels.csv").write_text("case,diagnosis\nc1_0000.nii.gz,covid-19\nc2,CP\nc9,CP\n")
    source = VolumeSource(tmp_path)
    rows = {row["scan"]: row for row in source.rows()}
    one, two = rows["imagesTr_c1_0000"], rows["imagesTr_c2_0000"]
    assert (one["label"], one["mask"], one["patient_unknown"]) == ("COVID-19", "labelsTr/c1.nii.gz", True)
    assert two["label"] == "CP" and any("c9" in note for note in source.notes())
    for text, sentence in (
        ("case,diagnosis\nc1,COVID\nc1,CP\n", "line 3: c1 is CP here and COVID-19 above"),
        ("case,diagnosis\nc1,Covd-19\n", "line 2: class 'Covd-19' is unknown, did you mean 'COVID-19'"),
        ("case,finding\nc1,CP\n", "no column label"),
    ):
        (tmp_path / "labels.csv").write_text(text)
        with pytest.raises(InputError, match=sentence):
            list(VolumeSource(tmp_path).rows())


def test_masks_that_do_not_fit_are_refused(tmp_path):
    write_nifti(tmp_path / "a.nii", scan())
    write_nifti(tmp_path / "a_seg.nii", scan(3) % 3)
    with pytest.raises(InputError, match=r"a_seg.nii has 3 x 6 x 5 voxels .* scan a has 4 x 6 x 5"):
        list(VolumeSource(tmp_path).rows())
    write_nifti(tmp_path / "a_mask.nii", scan() % 3)
    with pytest.raises(InputError, match="two masks by name, a_mask.nii and a_seg.nii"):
        list(VolumeSource(tmp_path).rows())


def test_a_file_by_itself(tmp_path):
    write_nifti(tmp_path / "lung.nii", scan())
    write_nifti(tmp_path / "other.nii", scan())
    source = VolumeSource(tmp_path / "lung.nii")
    assert source.fits() and source.root == tmp_path
    assert [row["image"] for row in source.rows()] == ["lung.nii"] * 4


def test_a_folder_with_nothing_to_read_is_refused(tmp_path):
    (tmp_path / "a.nii.gz").write_bytes(b"nothing")
    with pytest.raises(InputError, match="no scan can be read. file a.nii.gz left out"):
        open_source(tmp_path)
    assert not VolumeSource(tmp_path / "none").fits()


def test_own_classes_name_the_folders(tmp_path):
    write_description(STANDARD.replace(classes=("healthy", "tuberculosis"), normal="healthy"), tmp_path)
    write_nifti(tmp_path / "Tuberculosis" / "p1" / "ct.nii", scan())
    assert open_source(tmp_path).frame["label"].unique().tolist() == ["tuberculosis"]


def test_rows_of_a_volume(tmp_path):
    write_dicom(tmp_path / "s", scan())
    rows = rows_of(read_volume(tmp_path / "s"), tmp_path, label="CP")
    assert [row["image"] for row in rows] == [f"s/im{7 * at:03d}.dcm" for at in range(4)]
    assert rows[3] == dict(
        id="s_003", index=3, image="s/im021.dcm", frame=0, patient="p1", scan="s", patient_unknown=False, label="CP"
    )


# ----------------------------------------------------------------------------------------------------- pictures


def test_pictures_of_16_bits_are_hu(tmp_path):
    hu = scan(1)[0]
    Image.fromarray((hu.astype(np.int32) + 1024).astype(np.uint16)).save(tmp_path / "a.png")
    Image.fromarray((hu.astype(np.int32) + 1024).astype(np.uint16)).save(tmp_path / "a.tif")
    for name in ("a.png", "a.tif"):
        assert (read_plane(tmp_path / name, rescale=(1, -1024)).hu == hu).all()
        with pytest.raises(InputError, match="not an 8-bit picture"):
            read_plane(tmp_path / name)
    Image.fromarray(np.arange(30, dtype=np.uint8).reshape(5, 6)).save(tmp_path / "b.png")
    assert read_plane(tmp_path / "b.png", rescale=(1, -1024)).hu is None


@pytest.mark.parametrize("bits", [8, 16])
def test_exported_and_opened_again(tmp_path, bits):
    hu, mask = scan(), (scan() % 4).astype(np.uint8)
    write_nifti(tmp_path / "in" / "CP" / "p" / "ct.nii.gz", hu)
    write_nifti(tmp_path / "in" / "CP" / "p" / "mask.nii.gz", mask)
    write_dicom(tmp_path / "in" / "Normal" / "q", hu, Modality="NM", RescaleIntercept=0, PatientID="q")
    table = open_source(tmp_path / "in")
    path = to_pictures(table, tmp_path / "out", window="wide", bits=bits, progress=False)
    again = open_source(tmp_path / "out")
    assert again.frame["id"].tolist() == table.frame["id"].tolist()
    wide = table.described(table.description.replace(window=(-1000.0, 400.0)))
    for row in range(len(table)):
        one, other = wide.read(row), again.read(row)
        assert (one.pixels == other.pixels).all() and one.label == other.label and one.patient == other.patient
        assert (one.mask is None) == (other.mask is None) and (one.mask is None or (one.mask == other.mask).all())
        assert other.hu is None if bits == 8 or one.hu is None else (one.hu == other.hu).all()
    first = tmp_path / "out" / again.frame["image"][0]
    kept = {file: file.stat().st_mtime_ns for file in path.parent.glob("*/*.png") if file.name != first.name}
    first.unlink()
    path.unlink()
    to_pictures(table, tmp_path / "out", window="wide", bits=bits, progress=False)  # goes on where it was
    assert first.is_file() and kept == {file: file.stat().st_mtime_ns for file in kept} and path.is_file()
    with pytest.raises(InputError, match="another window or bits"):
        to_pictures(table, tmp_path / "out", window="bone", bits=bits, progress=False)
    with pytest.raises(InputError, match="holds other files"):
        to_pictures(table, tmp_path / "in", bits=bits, progress=False)


# -------------------------------------------------------------------------------------------------------- lungs


def test_lungs_of_the_phantom():
    hu, mask, _ = phantom_scan(0, 128, 12)
    found = lung_mask(Volume(hu, (20.0, 2.8, 2.8)))
    assert found.ok and dice(found.lungs, mask > 0) > 0.97 and 800 < min(found.ml) < max(found.ml) < 4000
    lesions = mask > 1
    assert (found.lungs & lesions).sum() > 0.8 * lesions.sum()  # dense lesions are taken in
    columns = [np.nonzero(found.mask == side)[2].mean() for side in (RIGHT, LEFT)]
    assert columns[0] < 64 < columns[1]
    upside = lung_mask(Volume(hu[::-1].copy(), (20.0, 2.8, 2.8)))
    assert dice(upside.lungs[::-1], found.lungs) > 0.98
    plane = lung_mask_of_plane(apply_window(hu[6]), (2.8, 2.8), is_hu=False)
    assert plane.ok and dice(plane.lungs, mask[6] > 0) > 0.95


def test_lungs_that_are_not_there_are_said():
    hu, _, _ = phantom_scan(1, 128, 8)
    full = np.where(np.arange(128) < 64, np.clip(hu, 40, None), hu).astype(np.int16)  # one lung is dense
    assert "one" in lung_mask_of_plane(full[4], (2.8, 2.8)).why
    nothing = lung_mask(Volume(np.full((4, 64, 64), 40, np.int16), (5, 2, 2)))
    assert not nothing.ok and nothing.why == "no lungs found"
    assert not lung_mask(Volume(np.full((4, 64, 64), -1000, np.int16), (5, 2, 2))).ok


# ------------------------------------------------------------------------------------------- one command each


def small_set(root, write):
    for number in range(18):
        hu, mask, label = phantom_scan(number)
        write(root, f"P{number:03d}", label, hu, mask)


def as_dicom(root, name, label, hu, mask):
    write_dicom(root / label / name, hu, 10.0, PatientID=name, SeriesInstanceUID=f"1.2.5.{name[1:].lstrip('0') or 0}")
    write_nifti(root / "masks" / f"{name}.nii.gz", mask, (10, 0.7, 0.8))


def as_nifti(root, name, label, hu, mask):
    write_nifti(root / label / name / "ct.nii.gz", hu, (10, 0.7, 0.8), "y")
    write_nifti(root / label / name / "mask.nii.gz", mask, (10, 0.7, 0.8), "x")


@pytest.mark.parametrize("write", [as_dicom, as_nifti])
def test_train_on_a_folder_of_scans(tmp_path, command, write):
    small_set(tmp_path / "data", write)
    words = [word for word in assignments() if not word.startswith("phantom")]
    code, out, err = command(
        *("train", tmp_path / "run", "--data", tmp_path / "data", "--preset", "smoke", "--set", *words)
    )
    assert code == 0, err
    run = Run.open(tmp_path / "run")
    assert run.complete and len(run.table) == 36 and run.table.patients.nunique() == 18
    assert set(run.table.frame["label"]) == {"Normal", "CP", "COVID-19"} and (run.table.frame["mask"] != "").all()
    assert run.table.read(0).hu is not None


# ---------------------------------------------------------------------------------------------------- real files


def test_real_dicom_opens(shared):
    found, notes = find_series(shared / "data" / "covid-ct-md-sample")
    assert {series.name: len(series) for series in found} == {"P002": 34, "cap002": 33, "normal002": 42}
    assert all(series.spacing[0] == pytest.approx(8) for series in found) and len(notes) == 1
    volume = found[0].volume()  # JPEG Lossless
    assert volume.is_hu and volume.hu.min() == -1024 and 1000 < volume.hu.max() < 3072
    assert volume.hu[:, 200:300, 200:300].mean() > volume.hu[:, :20, :20].mean() + 500
    lungs = lung_mask(volume)
    assert lungs.ok and 1500 < min(lungs.ml) < max(lungs.ml) < 3000
    slices = read_volume(shared / "data" / "lungmask-testdata")
    assert slices.hu.shape == (2, 512, 512) and slices.is_hu and slices.hu.min() == -1024
    assert slices.spacing == (1.0, 0.625, 0.625) and lung_mask(slices).ok
    scans = read_series(shared / "data" / "medseg2-volumes" / "OpenSourceDCMs")
    assert [len(one) for one in scans] == [45, 3, 11, 5, 8] and not any(one.is_hu for one in scans)


def test_lungs_of_a_real_scan(shared):
    folder = shared / "data" / "medseg2-volumes"
    volume = read_volume(folder / "OpenSourceDCMs" / "DCM1")
    planes = [np.asarray(Image.open(folder / "LungMasks" / f"1_z{at:03d}.png")) for at in range(1, 46)]
    assert dice(lung_mask(volume).lungs, np.stack(planes)[:, :, ::-1] > 0) > 0.95
