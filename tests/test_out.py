"""Lesions leave as DICOM SEG and SR, NIfTI, COCO and lists, in the geometry of what they were found in."""

import json

import nibabel
import numpy as np
import pandas as pd
import pydicom
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from covid_workbench.data.description import STANDARD, ObjectClasses
from covid_workbench.data.dicom_headers import headers_of
from covid_workbench.data.measured import measure_lesions
from covid_workbench.data.phantom import PhantomSettings, write_phantom
from covid_workbench.data.series import read_series, read_volume
from covid_workbench.data.slices import SliceTable
from covid_workbench.data.splits import split_by_patient
from covid_workbench.data.to_coco import to_coco, to_coco_results
from covid_workbench.data.to_dicom_seg import read_seg, to_dicom_seg
from covid_workbench.data.to_dicom_sr import read_sr, to_dicom_sr
from covid_workbench.data.to_lists import to_lists
from covid_workbench.data.to_nifti import to_nifti
from covid_workbench.errors import InputError

UPRIGHT = ((1, 0, 0), (0, 1, 0), 1)  # along a row, down a column, from file to file
LAID = {
    "upright": UPRIGHT,
    "from the head": ((1, 0, 0), (0, 1, 0), -1),
    "columns from the left": ((-1, 0, 0), (0, 1, 0), 1),
    "prone": ((-1, 0, 0), (0, -1, 0), -1),
    "on its side": ((0, 1, 0), (1, 0, 0), 1),
    "on its side and mirrored": ((0, -1, 0), (1, 0, 0), -1),
}
NAMES = {1: "lung", 2: "GGO", 5: "cavity"}


def write_series(folder, hu, laid=UPRIGHT, step=5.0, pixel=0.8, **header):
    "HU (D, H, W) in the frame of the workbench as DICOM files that store it otherwise; returns the folder."
    along, down, up = laid
    axes = np.array([[0, 0, 1], down, along])  # planes, rows, columns of the files
    array = hu.transpose([int(np.abs(axis[::-1]).argmax()) for axis in axes])
    flips = [at for at, axis in enumerate(axes) if min(axis) < 0]
    array = np.flip(array, flips)
    folder.mkdir(parents=True, exist_ok=True)
    start = -(np.minimum(down, 0) * pixel * (array.shape[1] - 1) + np.minimum(along, 0) * pixel * (array.shape[2] - 1))
    for number, at in enumerate(range(len(array))[:: 1 if up > 0 else -1]):
        own = Dataset()
        own.file_meta = FileMetaDataset()
        own.file_meta.TransferSyntaxUID, own.file_meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, CTImageStorage
        own.file_meta.MediaStorageSOPInstanceUID = own.SOPInstanceUID = f"1.2.3.4.{number + 1}"
        own.SOPClassUID, own.Modality, own.PatientID, own.InstanceNumber = CTImageStorage, "CT", "p7", number + 1
        own.StudyInstanceUID, own.SeriesInstanceUID, own.FrameOfReferenceUID = "1.2", "1.2.3", "1.2.9"
        own.ImagePositionPatient = [*(start[:2] - 40), 100 + step * at]
        own.ImageOrientationPatient = [*along, *down]
        own.PixelSpacing, own.SliceThickness = [pixel, pixel], step
        own.Rows, own.Columns = array.shape[1:]
        own.SamplesPerPixel, own.PhotometricInterpretation = 1, "MONOCHROME2"
        own.BitsAllocated = own.BitsStored = 16
        own.HighBit, own.PixelRepresentation, own.RescaleSlope, own.RescaleIntercept = 15, 1, 1, 0
        own.PixelData = np.ascontiguousarray(array[at], "<i2").tobytes()
        for name, value in header.items():
            if value is None:
                delattr(own, name)
            else:
                setattr(own, name, value)
        own.save_as(folder / f"im{number:03d}.dcm", enforce_file_format=True)
    return folder


def block(depth=5, height=12, width=16, seed=0):
    "HU that tell every voxel apart, and masks with three values, two planes without any."
    rng = np.random.default_rng(seed)
    hu = rng.permutation(depth * height * width).reshape(depth, height, width).astype(np.int16) - 1000
    masks = rng.choice([0, 1, 2, 5], (depth, height, width), p=(0.7, 0.1, 0.1, 0.1)).astype(np.uint8)
    masks[[0, depth - 2]] = 0
    return hu, masks


# -- DICOM SEG


@pytest.mark.parametrize("laid", LAID)
def test_seg_comes_back_voxel_by_voxel_however_the_series_lies(laid, tmp_path):
    hu, masks = block()
    volume = read_volume(write_series(tmp_path / "ct", hu, LAID[laid]))
    assert (volume.hu == hu).all()  # the series was written as meant
    seg = to_dicom_seg(masks, NAMES, volume, tmp_path / "a.seg.dcm", colours={"GGO": "#35D6A2"}, model="m")
    back, names = read_seg(tmp_path / "a.seg.dcm")
    assert (back == masks).all() and back.dtype == np.uint8 and names == NAMES
    assert seg.NumberOfFrames == sum((masks[at] == value).any() for at in range(len(masks)) for value in NAMES)


@pytest.mark.parametrize("laid", ("prone", "on its side and mirrored"))
def test_each_frame_of_a_seg_lies_on_the_pixels_of_the_slice_it_names(laid, tmp_path):
    "Read with pydicom alone: where a frame is set, the file that it refers to has the HU of the voxels marked."
    hu, masks = block()
    volume = read_volume(write_series(tmp_path / "ct", hu, LAID[laid]))
    to_dicom_seg(masks, NAMES, volume, tmp_path / "a.seg.dcm")
    sources = {held.SOPInstanceUID: held for held in map(pydicom.dcmread, sorted((tmp_path / "ct").iterdir()))}
    seg, marked = pydicom.dcmread(tmp_path / "a.seg.dcm"), {}
    for pixels, frame in zip(seg.pixel_array, seg.PerFrameFunctionalGroupsSequence):
        number = frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        source = sources[frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID]
        marked.setdefault(number, []).extend(source.pixel_array[pixels > 0].tolist())
        assert frame.PlanePositionSequence[0].ImagePositionPatient == source.ImagePositionPatient
    for number, value in enumerate(NAMES, start=1):
        assert sorted(marked[number]) == sorted(hu[masks == value].tolist())


def test_seg_says_what_it_is(tmp_path):
    hu, masks = block()
    volume = read_volume(write_series(tmp_path / "ct", hu))
    to_dicom_seg(masks, NAMES, volume, tmp_path / "a.seg.dcm", model="attention r1")
    seg = pydicom.dcmread(tmp_path / "a.seg.dcm")
    codes = [
        (own.SegmentLabel, own.SegmentedPropertyTypeCodeSequence[0].CodingSchemeDesignator, own.SegmentAlgorithmType)
        for own in seg.SegmentSequence
    ]
    assert codes == [("lung", "SCT", "AUTOMATIC"), ("GGO", "DCM", "AUTOMATIC"), ("cavity", "99CWB", "AUTOMATIC")]
    assert (seg.PatientID, seg.StudyInstanceUID, seg.FrameOfReferenceUID) == ("p7", "1.2", "1.2.9")
    assert seg.SegmentationType == "BINARY" and "not a medical device" in seg.SeriesDescription
    assert {own.ReferencedSOPInstanceUID for own in seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence} == {
        f"1.2.3.4.{number + 1}" for number in range(5)
    }


@pytest.mark.parametrize(
    "names", ({1: "GGO"}, {3: "a\\b", 200: "Höhle"}, STANDARD, ObjectClasses(("x", "y"), ((2,), (3,))))
)
def test_seg_with_any_names_and_with_nothing_found(names, tmp_path):
    hu, _ = block()
    volume = read_volume(write_series(tmp_path / "ct", hu))
    masks = np.zeros(hu.shape, np.uint8)
    to_dicom_seg(masks, names, volume, tmp_path / "empty.seg.dcm")
    back, held = read_seg(tmp_path / "empty.seg.dcm")
    assert back.shape == masks.shape and not back.any() and len(held) == len(list(held))
    masks[2, 3, 4] = max(held)
    to_dicom_seg(masks, names, volume, tmp_path / "one.seg.dcm")
    assert (read_seg(tmp_path / "one.seg.dcm")[0] == masks).all()


def test_missing_identifiers_get_stand_ins_in_memory_alone(tmp_path):
    hu, masks = block()
    gone = dict(SOPInstanceUID="", FrameOfReferenceUID=None, PatientID=None, StudyInstanceUID=None)
    folder = write_series(tmp_path / "ct", hu, **gone)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    volume = read_volume(folder)
    one, two = (to_dicom_seg(masks, NAMES, volume, tmp_path / f"{name}.dcm") for name in "ab")
    uids = [[own[2] for own in seg.get_source_image_uids()] for seg in (one, two)]
    assert uids[0] == uids[1] and len(set(uids[0])) == 5 and all(uid.startswith("2.25.") for uid in uids[0])
    assert "SOPInstanceUID (5 of 5 files)" in one.ImageComments and one.FrameOfReferenceUID == two.FrameOfReferenceUID
    assert (read_seg(tmp_path / "a.dcm")[0] == masks).all()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_series_without_position_or_of_another_format_is_refused(tmp_path):
    hu, masks = block()
    bare = read_volume(write_series(tmp_path / "ct", hu, ImageOrientationPatient=None, ImagePositionPatient=None))
    with pytest.raises(InputError, match="no position or orientation"):
        to_dicom_seg(masks, NAMES, bare, tmp_path / "a.dcm")
    nibabel.save(nibabel.Nifti1Image(hu, np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(InputError):
        to_dicom_seg(np.zeros((16, 12, 5), np.uint8), NAMES, read_volume(tmp_path / "a.nii"), tmp_path / "a.dcm")
    volume = read_volume(write_series(tmp_path / "good", hu))
    with pytest.raises(InputError, match="value 5; named are"):
        to_dicom_seg(masks, {1: "a", 2: "b"}, volume, tmp_path / "a.dcm")
    with pytest.raises(InputError, match=r"of shape \(5, 12, 16\)"):
        to_dicom_seg(masks[:4], NAMES, volume, tmp_path / "a.dcm")
    assert not (tmp_path / "a.dcm").exists()
    (tmp_path / "words.dcm").write_bytes(b"no dicom")
    for read in (read_seg, read_sr):
        with pytest.raises(InputError, match="cannot be read as DICOM"):
            read(tmp_path / "words.dcm")


def test_series_with_a_gap_still_has_a_seg(tmp_path):
    "Its planes lie at uneven distances, and each frame of a segmentation has a place of its own."
    hu, masks = block()
    folder = write_series(tmp_path / "ct", hu, LAID["prone"])
    (folder / "im001.dcm").unlink()
    volume = read_volume(folder)
    assert volume.affine is None and any("missing" in note for note in volume.notes)
    kept = np.delete(masks, 3, axis=0)
    to_dicom_seg(kept, NAMES, volume, tmp_path / "a.dcm")
    assert (read_seg(tmp_path / "a.dcm")[0] == kept).all()


def test_seg_and_sr_of_a_real_patient(shared, tmp_path):
    "COVID-CT-MD: no SOPInstanceUID in any file, UUIDs in place of UIDs, JPEG Lossless."
    (volume,) = read_series(shared / "data" / "covid-ct-md-sample" / "COVID-19 subjects")
    masks = (np.random.default_rng(0).random(volume.hu.shape) < 0.001).astype(np.uint8)
    masks[10:13, 200:240, 300:330] = 3
    seg = to_dicom_seg(masks, STANDARD, volume, tmp_path / "a.seg.dcm")
    assert (read_seg(tmp_path / "a.seg.dcm")[0] == masks).all() and seg.PatientID == "P002"
    lesions = measure_lesions(np.where(masks == 3, 3, 0).astype(np.uint8), STANDARD, volume)
    to_dicom_sr(lesions, seg, volume, tmp_path / "a.sr.dcm")
    (told,) = read_sr(tmp_path / "a.sr.dcm")
    assert told["volume"] == pytest.approx(3 * 40 * 30 * np.prod(volume.spacing) / 1000, rel=1e-5)


def test_real_series_without_position_is_refused(shared, tmp_path):
    (volume,) = read_series(shared / "data" / "medseg2-volumes" / "OpenSourceDCMs" / "DCM2")
    with pytest.raises(InputError, match="no position or orientation"):
        headers_of(volume)


# -- lesions in three dimensions, DICOM SR


def test_lesions_are_joined_across_planes_and_measured():
    from covid_workbench.data.volumes import Volume

    masks = np.zeros((6, 20, 20), np.uint8)
    masks[1, 2:6, 2:12], masks[2, 6, 12], masks[3, 7:9, 13:15] = 1, 1, 1  # they touch by corners alone
    masks[5, 2:6, 2:12] = 1  # a plane between
    masks[1, 10:12, 2:4] = 2
    hu = np.full(masks.shape, -900, np.int16)
    hu[masks == 1] = -600
    affine = np.array([[0, 0, 0.5, 10], [0, 0.5, 0, 20], [2, 0, 0, 30], [0, 0, 0, 1.0]])
    lesions = measure_lesions(masks, {1: "GGO", 2: "cavity"}, Volume(hu, (2, 0.5, 0.5), affine, "toy"))
    assert [(own.number, own.name, own.planes, own.voxels) for own in lesions] == [
        (1, "GGO", (1, 3), 45),
        (2, "GGO", (5, 5), 40),
        (3, "cavity", (1, 1), 4),
    ]
    first = lesions[1]
    assert first.volume == pytest.approx(40 * 0.5 / 1000) and first.area == 10 and first.mean_hu == -600
    assert first.diameter == pytest.approx(np.hypot(4 * 0.5, 10 * 0.5))
    assert first.centre == pytest.approx((10 + 6.5 * 0.5, 20 + 3.5 * 0.5, 40))


def test_sr_refers_to_the_frames_of_each_lesion(tmp_path):
    hu, _ = block()
    volume = read_volume(write_series(tmp_path / "ct", hu, LAID["prone"]))
    masks = np.zeros(hu.shape, np.uint8)
    masks[1:4, 2:5, 2:6], masks[4, 8:10, 8:10], masks[2, 9, 12:15] = 2, 2, 5
    seg = to_dicom_seg(masks, NAMES, volume, tmp_path / "a.seg.dcm")
    scores = {2: np.full(hu.shape[1:], 0.75, np.float32)}
    lesions = measure_lesions(masks, NAMES, volume, scores)
    to_dicom_sr(lesions, seg, volume, tmp_path / "a.sr.dcm", model="m")
    told = read_sr(tmp_path / "a.sr.dcm")
    assert [row["lesion"] for row in told] == ["GGO 1", "GGO 2", "cavity 3"]
    assert [row["class"] for row in told] == ["Ground glass opacity"] * 2 + ["cavity"]
    assert told[0]["score"] == 0.75 and "score" not in told[1] and told[0]["first"] == 2 and told[0]["last"] == 4
    for row, lesion in zip(told, lesions):
        assert row["seg"] == seg.SOPInstanceUID and row["volume"] == pytest.approx(lesion.volume, rel=1e-5)
        assert row["diameter"] == pytest.approx(lesion.diameter, rel=1e-5)
        assert row["mean_hu"] == pytest.approx(lesion.mean_hu, rel=1e-5)
        frames = [seg.PerFrameFunctionalGroupsSequence[number - 1] for number in row["frames"]]
        uids = {own.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID for own in frames}
        planes = range(lesion.planes[0], lesion.planes[1] + 1)
        assert uids == {pydicom.dcmread(volume.files[plane]).SOPInstanceUID for plane in planes}
    to_dicom_sr([], seg, volume, tmp_path / "none.sr.dcm")
    assert read_sr(tmp_path / "none.sr.dcm") == []


# -- NIfTI

AFFINES = {
    "identity": np.diag([0.7, 0.8, 5, 1]),
    "LPS": np.diag([-0.7, -0.8, 5, 1]),
    "from the head": np.diag([-0.7, 0.8, -5, 1]),
    "permuted": np.array([[0, 0, 0.7, 3], [5, 0, 0, -2], [0, -0.8, 0, 1], [0, 0, 0, 1.0]]),
    "oblique": np.array([[0.69, -0.1, 0, 1], [0.1, 0.69, 0.3, 2], [0, -0.05, 5, 3], [0, 0, 0, 1.0]]),
}


@pytest.mark.parametrize("name", AFFINES)
@pytest.mark.parametrize("ending", (".nii", ".nii.gz"))
def test_nifti_masks_overlap_their_source(name, ending, tmp_path):
    stored = np.random.default_rng(1).integers(-1000, 500, (7, 6, 5)).astype(np.int16)
    stored[0, 0, 0] = -1000
    image = nibabel.Nifti1Image(stored, AFFINES[name])
    image.set_qform(AFFINES[name], 1, strip_shears=True)
    image.to_filename(tmp_path / f"ct{ending}")
    volume = read_volume(tmp_path / f"ct{ending}")
    to_nifti((volume.hu > 0).astype(np.uint8) * 5, NAMES, volume, tmp_path / f"a.seg{ending}")
    back, source = nibabel.load(tmp_path / f"a.seg{ending}"), nibabel.load(tmp_path / f"ct{ending}")
    assert (np.asarray(back.dataobj) == 5 * (stored > 0)).all() and back.get_data_dtype() == np.uint8
    assert (back.affine == source.affine).all() and (back.get_qform() == source.get_qform()).all()


def test_nifti_of_a_dicom_series_is_at_the_same_place_in_mm(tmp_path):
    hu, _ = block()
    volume = read_volume(write_series(tmp_path / "ct", hu, LAID["on its side"]))
    masks = np.zeros(hu.shape, np.uint8)
    masks[3, 4, 10] = 1
    to_nifti(masks, NAMES, volume, tmp_path / "a.nii.gz")
    back = nibabel.load(tmp_path / "a.nii.gz")
    (voxel,) = np.argwhere(np.asarray(back.dataobj) > 0)
    place = back.affine @ (*voxel, 1)
    header = pydicom.dcmread(volume.files[3])
    row, column = np.argwhere(header.pixel_array == hu[3, 4, 10])[0]
    along, down = np.split(np.array(header.ImageOrientationPatient, float), 2)
    expected = np.array(header.ImagePositionPatient, float) + 0.8 * (column * along + row * down)
    assert np.allclose(place[:3], expected * (-1, -1, 1))  # LPS to RAS


def test_nifti_without_an_orientation_stays_without_one(tmp_path):
    hu, masks = block()
    bare = read_volume(write_series(tmp_path / "ct", hu, ImageOrientationPatient=None, ImagePositionPatient=None))
    to_nifti(masks, NAMES, bare, tmp_path / "a.nii.gz")
    header = nibabel.load(tmp_path / "a.nii.gz").header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (0, 0)
    assert np.allclose(header.get_zooms(), bare.spacing[::-1])


# -- COCO


def test_coco_masks_come_back_on_the_stored_picture(tmp_path):
    rng = np.random.default_rng(2)
    stored = rng.choice([0, 1, 2, 3], (20, 30), p=(0.6, 0.2, 0.1, 0.1)).astype(np.uint8)
    for name, array in (("a.png", stored * 50), ("mask.png", stored)):
        Image.fromarray(array).save(tmp_path / name)
    plain = dict(patient="p", image="a.png", mask="mask.png")
    rows = [plain | dict(id="plain"), plain | dict(id="lying", transpose=True, label="CP", split="test")]
    rows += [plain | dict(id="cut", crop="3 2 25 18", transpose=True), plain | dict(id="unknown", mask="")]
    lesions = ObjectClasses(("GGO", "any"), ((2,), (2, 3)))
    to_coco(SliceTable(pd.DataFrame(rows), tmp_path), lesions, tmp_path / "a.json")
    coco = COCO(tmp_path / "a.json")
    assert [image["slice"] for image in coco.imgs.values()] == ["plain", "lying", "cut"]
    assert coco.imgs[2]["label"] == "CP" and coco.imgs[2]["split"] == "test" and coco.imgs[1]["file_name"] == "a.png"
    assert [own["name"] for own in coco.cats.values()] == ["GGO", "any"]
    window = np.zeros_like(stored)
    window[2:18, 3:25] = stored[2:18, 3:25]
    for image, truth in ((1, stored), (2, stored), (3, window)):
        assert (coco.imgs[image]["width"], coco.imgs[image]["height"]) == (30, 20)
        for category, values in ((1, (2,)), (2, (2, 3))):
            own = [coco.annToMask(one) for one in coco.loadAnns(coco.getAnnIds(image, category))]
            assert (sum(own) == np.isin(truth, values)).all()  # each pixel in one component
    for one in coco.anns.values():
        x, y, width, height = one["bbox"]
        rows, columns = np.nonzero(coco.annToMask(one))
        assert (rows.min(), columns.min(), np.ptp(rows) + 1, np.ptp(columns) + 1) == (y, x, height, width)


def test_coco_without_masks_and_results_of_other_images_are_refused(tmp_path):
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "a.png")
    table = SliceTable(pd.DataFrame([dict(id="a", patient="p", image="a.png")]), tmp_path)
    with pytest.raises(InputError, match="no slice has a mask"):
        to_coco(table, ObjectClasses(("GGO",), ((2,),)), tmp_path / "a.json")
    document = {"categories": [{"id": 1, "name": "GGO"}], "annotations": []}
    truth = document | {"images": [{"id": 1, "file_name": "x/b.png", "slice": "b"}]}
    with pytest.raises(InputError, match="none of the images"):
        to_coco_results(document | {"images": [{"id": 1, "file_name": "a"}]}, truth, tmp_path / "r.json")
    with pytest.raises(InputError, match="classes are"):
        to_coco_results(document | {"categories": []}, truth, tmp_path / "r.json")
    assert not (tmp_path / "r.json").exists() and not (tmp_path / "a.json").exists()


# -- lists


def test_lists_hold_every_slice_of_a_split(phantom, tmp_path):
    table = split_by_patient(SliceTable.from_csv(phantom / "slices.csv"), validation=0.2, test=0.3, seed=0)
    frame = table.frame
    written = {path.name: path.read_text().splitlines() for path in to_lists(table, tmp_path / "papers")}
    for split in ("train", "validation", "test"):
        own = frame[frame["split"] == split]
        assert len(written[f"{split}_split_classification.txt"]) == (own["label"] != "").sum() > 0
        assert len(written[f"{split}_split_segmentation.txt"]) == (own["mask"] != "").sum() > 0
    names = [name for kind, lines in written.items() if "classification" in kind for name in lines]
    assert len(set(names)) == len(names) == (frame["label"] != "").sum()
    frame = frame[frame["label"] != ""]
    table = table.with_rows(frame)
    lists = {path.name: path.read_text().splitlines() for path in to_lists(table, tmp_path / "covidx", "covidx-ct")}
    assert set(lists) == {f"{split}_COVIDx_CT-1.txt" for split in ("train", "val", "test")}
    classes = {name: number for number, name in enumerate(table.description.classes)}
    lines = [line.split() for held in lists.values() for line in held]
    assert sorted(int(line[1]) for line in lines) == sorted(classes[label] for label in frame["label"])
    assert {tuple(line[2:]) for line in lines} == {("0", "0", "64", "64")}
    with pytest.raises(InputError, match="stands there already"):
        to_lists(table, tmp_path / "papers")


def test_lists_need_splits_and_names_of_their_own(phantom, tmp_path):
    table = split_by_patient(SliceTable.from_csv(phantom / "slices.csv"), validation=0.2, test=0.3, seed=0)
    for change, says in (
        (dict(split=""), "without split"),
        (dict(image=table.frame["image"].iloc[0]), "are both"),
        (dict(label=""), "has no label"),
    ):
        with pytest.raises(InputError, match=says):
            to_lists(table.with_rows(table.frame.assign(**change)), tmp_path / "no", "covidx-ct")
    with pytest.raises(InputError, match="did you mean 'papers'"):
        to_lists(table, tmp_path / "no", "paper")
    assert not (tmp_path / "no").exists()


# -- predict


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    "HU (D, H, W) of a phantom patient's slices, as grey values of the lung window came from."
    folder = tmp_path_factory.mktemp("scan")
    frame = write_phantom(folder, 3, settings=PhantomSettings(size=64, slices=5), progress=False)
    own = frame[frame["patient"] == frame[frame["label"] == "COVID-19"]["patient"].iloc[0]]
    grey = np.stack([np.asarray(Image.open(folder / image)) for image in own["image"]])
    return np.rint(grey / 255 * 1500 - 1350).astype(np.int16)


def painted(out):
    "The masks (slice, H, W) of a predictions folder by `lesions.coco.json`: where any lesion is."
    coco = COCO(out / "lesions.coco.json")
    images = sorted(coco.imgs.values(), key=lambda image: image["file_name"])
    return np.stack(
        [
            np.any(
                [coco.annToMask(one) for one in coco.loadAnns(coco.getAnnIds(image["id"]))] or [np.zeros((64, 64))], 0
            )
            for image in images
        ]
    )


def test_predict_on_dicom_writes_seg_sr_nifti_json_and_overlays(finished, scan, command, tmp_path):
    write_series(tmp_path / "ct" / "thorax", scan, LAID["prone"])
    code, said, errors = command(
        "predict", finished.folder, tmp_path / "ct", "--out", tmp_path / "o", "--score", "0.02"
    )
    assert code == 0 and "scans" in said, errors
    told = json.loads((tmp_path / "o" / "predictions.json").read_text())
    (entry,) = told["scans"]
    files = {kind: tmp_path / "o" / "scans" / name for kind, name in entry["files"].items()}
    assert sorted(files) == ["nifti", "seg", "sr"] and {path.name for path in files.values()} == set(
        path.name for path in (tmp_path / "o" / "scans").iterdir()
    )
    masks, names = read_seg(files["seg"])
    assert names == {int(value): name for value, name in entry["mask_values"].items()} and masks.any()
    assert (masks.astype(bool) == painted(tmp_path / "o")).all()
    assert len(read_sr(files["sr"])) == len(entry["lesions"]) > 0 and entry["series"] == "1.2.3"
    assert sum(own["voxels"] for own in entry["lesions"]) == (masks > 0).sum()
    assert [own["plane"] for own in told["slices"]] == [0, 1, 2, 3, 4] and told["slices"][1]["scan"] == entry["scan"]
    assert [own["position_mm"] for own in told["slices"]] == [100, 105, 110, 115, 120]
    assert all((tmp_path / "o" / own["overlay"]).is_file() for own in told["slices"])
    nifti = nibabel.load(files["nifti"])
    assert (np.asarray(nifti.dataobj) == masks.transpose(2, 1, 0)).all()


def test_predict_finds_the_same_in_nifti_with_flipped_axes(finished, scan, command, tmp_path):
    "The same HU as DICOM and as NIfTI from the head and from the left: masks lie on the same tissue of each file."
    write_series(tmp_path / "dicom", scan)
    stored = scan.transpose(2, 1, 0)[::-1, :, ::-1]  # columns from the left, planes from the head
    nibabel.save(nibabel.Nifti1Image(stored, np.diag([0.8, -0.8, -5.0, 1])), tmp_path / "b.nii.gz")
    for name in ("dicom", "b.nii.gz"):
        out = tmp_path / f"o-{name}"
        code, _, errors = command("predict", finished.folder, tmp_path / name, "--out", out, "--score", "0.02")
        assert code == 0, errors
    masks, _ = read_seg(tmp_path / "o-dicom" / "scans" / "dicom.seg.dcm")
    found = nibabel.load(tmp_path / "o-b.nii.gz" / "scans" / "b.seg.nii.gz")
    assert masks.any() and (np.asarray(found.dataobj) == masks.transpose(2, 1, 0)[::-1, :, ::-1]).all()
    assert (found.affine == nibabel.load(tmp_path / "b.nii.gz").affine).all()
    (entry,) = json.loads((tmp_path / "o-b.nii.gz" / "predictions.json").read_text())["scans"]
    assert list(entry["files"]) == ["nifti"]


def test_predict_goes_on_beside_what_cannot_be_read(finished, scan, command, tmp_path):
    for name in ("a/ct", "b/ct"):
        write_series(tmp_path / name, scan[:2], SeriesInstanceUID=f"1.2.3.{ord(name[0])}", StudyInstanceUID="1.2.7")
    (tmp_path / "cut.nii.gz").write_bytes(b"\x1f\x8b no NIfTI")
    (tmp_path / "words.dcm").write_bytes(b"words")
    paths = [tmp_path / name for name in ("a", "cut.nii.gz", "words.dcm", "b")]
    code, _, errors = command("predict", finished.folder, *paths, "--out", tmp_path / "o")
    assert code == 1 and "cut.nii.gz" in errors and "words.dcm" in errors and "picture" not in errors
    code, said, _ = command("predict", finished.folder, *paths, "--out", tmp_path / "p", "--skip-broken")
    told = json.loads((tmp_path / "p" / "predictions.json").read_text())
    assert code == 0 and "cut.nii.gz" in said and len(told["slices"]) == 4 and len(told["broken"]) == 2
    names = [entry["scan"] for entry in told["scans"]]
    assert len(set(names)) == 2 and len(list((tmp_path / "p" / "scans").glob("*.seg.dcm"))) == 2


def test_predict_with_and_without_dicom(finished, scan, command, tmp_path):
    write_series(tmp_path / "ct", scan[:2])
    bare = write_series(tmp_path / "bare", scan[:2], ImageOrientationPatient=None, ImagePositionPatient=None)
    nibabel.save(nibabel.Nifti1Image(scan[:2].transpose(2, 1, 0), np.diag([-0.8, -0.8, 5, 1])), tmp_path / "a.nii")
    for source, says in ((tmp_path / "a.nii", "no DICOM series"), (bare, "no position or orientation")):
        words = ("predict", finished.folder, source, "--out", tmp_path / "no", "--dicom")
        code, _, errors = command(*words)
        assert code == 2 and says in errors and not (tmp_path / "no").exists()
    code, said, _ = command("predict", finished.folder, bare, "--out", tmp_path / "bare-out")
    assert code == 0 and "no position or orientation" in said
    code, _, _ = command("predict", finished.folder, tmp_path / "ct", "--out", tmp_path / "plain", "--no-dicom")
    assert code == 0 and [path.name for path in (tmp_path / "plain" / "scans").iterdir()] == ["ct.seg.nii.gz"]


def test_predict_that_ends_early_leaves_no_answers_and_no_half_file(finished, scan, tmp_path, monkeypatch):
    from covid_workbench.data import to_dicom_sr as module
    from covid_workbench.errors import StorageError
    from covid_workbench.reports.answer_files import write_answers

    def full(path, content):
        raise StorageError(f"writing failed: {path}: disk full")

    write_series(tmp_path / "ct", scan[:2])
    monkeypatch.setattr(module, "write_atomic", full)
    with pytest.raises(StorageError, match="disk full"):
        write_answers(finished, [tmp_path / "ct"], tmp_path / "o", score=0.02)
    assert {path.name for path in tmp_path.glob("o/scans/*")} == {"ct.seg.nii.gz", "ct.seg.dcm"}
    assert not (tmp_path / "o" / "predictions.json").exists() and read_seg(tmp_path / "o/scans/ct.seg.dcm")
    monkeypatch.undo()
    with pytest.raises(InputError, match="already holds predictions"):
        write_answers(finished, [tmp_path / "ct"], tmp_path / "o")
