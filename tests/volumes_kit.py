"""CT scans of a few voxels as DICOM, NIfTI and MetaImage files, and the phantom's patients as scans."""

from functools import cache
from pathlib import Path

import numpy as np

from covid_workbench.data.phantom import PhantomSettings, phantom_hu, phantom_patient
from covid_workbench.data.volumes import as_hu

CT, LITTLE = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1"


def scan(depth: int = 4, height: int = 6, width: int = 5, seed: int = 0) -> np.ndarray:
    "Different HU in each voxel (D, H, W), from air to bone."
    values = np.random.default_rng(seed).permutation(depth * height * width) * 10 - 1024
    return np.clip(values, -1024, 3000).astype(np.int16).reshape(depth, height, width)


def dicom_plane(hu: np.ndarray, z: float, number: int, **changes):
    "A data set of pydicom with one plane (H, W), at height `z`; `changes` are tags, None to leave one out."
    from pydicom.dataset import Dataset, FileMetaDataset

    held = Dataset()
    held.file_meta = FileMetaDataset()
    held.file_meta.TransferSyntaxUID = LITTLE
    held.file_meta.MediaStorageSOPClassUID = CT
    held.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{number}"
    about = dict(
        SOPClassUID=CT,
        SOPInstanceUID=f"1.2.3.{number}",
        Modality="CT",
        PatientID="p1",
        StudyInstanceUID="1.2.4",
        SeriesInstanceUID="1.2.5",
        InstanceNumber=number,
        ImageType=["ORIGINAL", "PRIMARY", "AXIAL"],
        ImagePositionPatient=[-10.0, -20.0, z],
        ImageOrientationPatient=[1.0, 0, 0, 0, 1, 0],
        PixelSpacing=[0.7, 0.8],
        SliceThickness=2.0,
        RescaleSlope=1,
        RescaleIntercept=-1024,
        SamplesPerPixel=1,
        PhotometricInterpretation="MONOCHROME2",
        Rows=hu.shape[0],
        Columns=hu.shape[1],
        BitsAllocated=16,
        BitsStored=16,
        HighBit=15,
        PixelRepresentation=0,
        PixelData=(hu.astype(np.int32) + 1024).astype("<u2").tobytes(),
    )
    for tag, value in (about | changes).items():
        if value is not None:
            setattr(held, tag, value)
    return held


def write_dicom(folder: Path, hu: np.ndarray, spacing: float = 2.0, **changes) -> list[Path]:
    "A series, a file a plane (D, H, W), its lowest plane at z = 0, in files whose names say nothing of the order."
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for at, plane in enumerate(hu):
        paths.append(folder / f"im{(at * 7) % 101:03d}.dcm")
        dicom_plane(plane, at * spacing, len(hu) - at, **changes).save_as(paths[-1], enforce_file_format=True)
    return paths


def write_nifti(path: Path, hu: np.ndarray, spacing=(2.0, 0.7, 0.8), flip: str = "") -> Path:
    "The frame's (D, H, W) as NIfTI; `flip` names stored axes (x, y, z) that run the other way."
    import nibabel

    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([-spacing[2], -spacing[1], spacing[0], 1.0])  # RAS
    affine[:3, 3] = 10, 20, 0
    stored = hu.transpose(2, 1, 0)
    for axis, name in enumerate("xyz"):
        if name in flip:
            affine[:, 3] += affine[:, axis] * (stored.shape[axis] - 1)
            affine[:, axis] *= -1
            stored = np.flip(stored, axis)
    nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(stored), affine), path)
    return path


def write_metaimage(path: Path, hu: np.ndarray, spacing=(2.0, 0.7, 0.8), **keys) -> Path:
    "The frame's (D, H, W) as MetaImage in one file; `keys` replace those of the header."
    path.parent.mkdir(parents=True, exist_ok=True)
    depth, height, width = hu.shape
    about = dict(
        NDims=3,
        BinaryData="True",
        TransformMatrix="1 0 0 0 1 0 0 0 1",
        Offset="-10 -20 0",
        ElementSpacing=f"{spacing[2]} {spacing[1]} {spacing[0]}",
        DimSize=f"{width} {height} {depth}",
        ElementType="MET_SHORT",
    )
    lines = [f"{key} = {value}" for key, value in (about | keys).items() if value is not None]
    path.write_bytes("\n".join([*lines, "ElementDataFile = LOCAL", ""]).encode() + hu.astype("<i2").tobytes())
    return path


@cache
def phantom_scan(number: int, size: int = 64, slices: int = 2) -> tuple[np.ndarray, np.ndarray, str]:
    "HU and mask (D, H, W) of a patient of the phantom, lowest plane first, and the class."
    settings = PhantomSettings(size=size, slices=slices)
    patient = phantom_patient(number, 0, settings)
    planes = [phantom_hu(patient, index, settings) for index in range(slices)]
    return as_hu(np.stack([hu for hu, _ in planes])), np.stack([mask for _, mask in planes]), patient.label
