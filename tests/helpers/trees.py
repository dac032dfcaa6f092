"""Tiny data sets in their published layouts, and calls of the two stages on them."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset

from voxseq.base.files import read_json
from voxseq.config.runs import ExamineRun, PrepareRun
from voxseq.data import examine as download
from voxseq.data import prepare as preprocess
from voxseq.plan.context import RunContext

SPLIT = {"seed": 0, "ratio": [0.7, 0.1, 0.2], "validation_fraction": 0.1}
STORE = {"chunk_shape": [64, 64, 64], "compression_level": 3, "locations_per_class": 50}
SEGMENTATION = {"type": "segmentation", "labels": 1}
CLASSIFICATION = {"type": "classification", "labels": 2}


def image(shape: Sequence[int] = (9, 8, 7), seed: int = 0) -> np.ndarray:
    """Whole numbers like those of a CT."""
    return np.random.default_rng(seed).integers(-900, 900, shape).astype(np.int16)


def label(shape: Sequence[int] = (9, 8, 7)) -> np.ndarray:
    """A box of class 1."""
    classes = np.zeros(shape, np.uint8)
    classes[2:6, 3:7, 1:4] = 1
    return classes


def write_nifti(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> None:
    """Write a NIfTI file with any affine, a singular one as well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nifti = nibabel.Nifti1Image(array, np.eye(4))
    affine = np.eye(4) if affine is None else affine
    nifti.header.set_sform(affine, code=1)
    nifti.header["pixdim"][1:4] = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    nifti.header.set_qform(None, code=0)
    nifti = nibabel.Nifti1Image(array, None, header=nifti.header)
    nibabel.save(nifti, path)


def msd(root: Path, names: Sequence[str], task: str = "Task09_Spleen") -> Path:
    """An MSD task with one image and label for each name."""
    folder = root / "msd" / task
    items = []
    for number, name in enumerate(names):
        write_nifti(folder / "imagesTr" / f"{name}.nii.gz", image(seed=number))
        write_nifti(folder / "labelsTr" / f"{name}.nii.gz", label())
        items.append({"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"})
    (folder / "dataset.json").write_text(json.dumps({"training": items}))
    return folder


def la(root: Path, train: Sequence[str], test: Sequence[str]) -> Path:
    """Cases in UA-MT's layout with their lists."""
    folder = root / "la"
    for number, case in enumerate([*train, *test]):
        path = folder / "2018LA_Seg_Training Set" / case / "mri_norm2.h5"
        path.parent.mkdir(parents=True)
        with h5py.File(path, "w") as file:
            file["image"] = image(seed=number).astype(np.float32) / 300
            file["label"] = label()
    (folder / "train.list").write_text("".join(f"{c}\n" for c in train))
    (folder / "test.list").write_text("".join(f"{c}\n" for c in test))
    return folder


def nodule(root: Path, sizes: Mapping[str, int]) -> Path:
    """A MedMNIST file with so many nodules in each split, of both classes in turn."""
    folder = root / "nodule"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    arrays = {}
    for split, size in sizes.items():
        arrays[f"{split}_images"] = rng.integers(0, 255, (size, 5, 6, 7)).astype(np.uint8)
        arrays[f"{split}_labels"] = (np.arange(size) % 2).astype(np.uint8)[:, None]
    np.savez(folder / "nodulemnist3d.npz", **arrays)
    return folder


def brats(root: Path, subjects: Sequence[str]) -> Path:
    """Subjects with four contrasts."""
    folder = root / "brats"
    part = "ASNR-MICCAI-BraTS2023-GLI-Challenge-TrainingData"
    for number, subject in enumerate(subjects):
        for order, contrast in enumerate(("t1n", "t1c", "t2w", "t2f")):
            path = folder / part / subject / f"{subject}-{contrast}.nii.gz"
            write_nifti(path, image(seed=10 * number + order))
        write_nifti(folder / part / subject / f"{subject}-seg.nii.gz", label())
    return folder


def dicom_series(folder: Path, array: np.ndarray, suffix: str = ".dcm", **tags: Any) -> None:
    """Write (columns, rows, slices) as a series; ``tags`` replace those of every slice.

    Slices go down the normal of ``ImageOrientationPatient``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    directions = tags.get("ImageOrientationPatient") or [1, 0, 0, 0, 1, 0]
    normal = np.cross(directions[:3], directions[3:])
    for number in range(array.shape[2]):
        header = Dataset()
        header.file_meta = FileMetaDataset()
        header.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        header.file_meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
        header.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{number + 1}"
        header.Modality, header.PatientID = "CT", "patient"
        header.StudyInstanceUID, header.SeriesInstanceUID = "1.2", "1.2.3.45678"
        header.InstanceNumber = number + 1
        header.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        header.ImagePositionPatient = [*(np.array([10, 20, 100]) - 2.5 * number * normal)]
        header.PixelSpacing = [0.5, 0.75]
        header.Columns, header.Rows = array.shape[:2]
        header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
        header.BitsAllocated = header.BitsStored = 16
        header.HighBit, header.PixelRepresentation = 15, 0
        header.RescaleSlope, header.RescaleIntercept = 1, -1024
        header.PixelData = np.ascontiguousarray(array[:, :, number].T).astype("<u2").tobytes()
        for tag, value in tags.items():
            setattr(header, tag, value)
        header.save_as(folder / f"IM{number:03d}{suffix}", enforce_file_format=True)


def ricord(
    root: Path, series: Sequence[tuple[str, int, np.ndarray, str, Mapping[str, Any]]]
) -> Path:
    """RICORD: split, class, voxels, patient such as "1A-1-2" and other tags of each series."""
    folder = root / "ricord"
    lines = dict.fromkeys(("train", "val", "test"), "")
    for number, (split, label, array, patient, changes) in enumerate(series):
        tags = {"SeriesInstanceUID": f"1.2.3.5555{number}", "SeriesNumber": 3, **changes}
        tags |= {"PatientID": f"MIDRC-RICORD-{patient}", "StudyDate": "20041019"}
        dicom_series(folder / "any" / f"place{number}", array, **tags)
        described = tags.get("SeriesDescription", "").replace(" ", "-") or "NA"
        end = tags["SeriesInstanceUID"][-5:]
        name = f"{patient[3:]}_date10-19-2004_{tags['SeriesNumber']}.000000-{described}-{end}"
        lines[split] += f"RICORD_nii/MIDRC-RICORD-{patient[:2]}/ID{name}.nii.gz {label}\n"
    for split, text in lines.items():
        (folder / f"RICORD_{split}.txt").write_text(text)
    return folder


def lesions(root: Path) -> Path:
    """Two typed lesions and one without a type in one DeepLesion series."""
    folder = root / "deeplesion"
    series = folder / "Images_png" / "000001_01_01"
    series.mkdir(parents=True)
    for number in range(3, 9):
        values = image((12, 10), seed=number).T.astype(np.int32) + 32768
        Image.fromarray(values.astype(np.uint16)).save(series / f"{number:03d}.png")
    columns = ["File_name", "Bounding_boxes", "Coarse_lesion_type", "Slice_range"]
    rows = [
        ["000001_01_01_004.png", "2, 5, 6, 7", "5", "3, 6", "0.8, 0.9, 5"],
        ["000001_01_01_004.png", "1, 2, 4, 5", "2", "3, 6", "0.8, 0.9, 5"],
        ["000001_01_01_007.png", "1, 1, 4, 4", "-1", "5, 8", "0.8, 0.8, 5"],
        ["000002_01_01_007.png", "1, 1, 4, 4", "3", "5, 8", "0.8, 0.8, 5"],
    ]
    with (folder / "DL_info.csv").open("w", newline="") as file:
        csv.writer(file).writerows([[*columns, "Spacing_mm_px_"], *rows])
    return folder


def run_download(
    root: Path,
    out: Path,
    dataset: str,
    task: Mapping[str, Any] | None = None,
    workers: int = 0,
    **changes: Any,
) -> Path:
    """Index a data set below ``root``; returns the run's folder."""
    content = {"dataset": dataset, "min_valid_fraction": 0.1, "split": SPLIT, "task": task}
    config = ExamineRun.model_validate({**content, **changes})
    folder = out / "download" / dataset
    folder.mkdir(parents=True)
    state = out / "state" / "download" / dataset
    download.execute(RunContext(f"download/{dataset}", config, folder, state, {}, root, workers))
    shutil.rmtree(state, ignore_errors=True)
    return folder


def run_preprocess(
    root: Path,
    out: Path,
    dataset: str,
    data: Mapping[str, Any] | None = None,
    task: Mapping[str, Any] = SEGMENTATION,
    workers: int = 0,
    role: str = "",
    **changes: Any,
) -> Path:
    """Prepare an indexed data set, as a source without ``data``; returns the store's folder."""
    preparation = data and {"data": data, "native_labels": True, **task}
    content = {"dataset": dataset, "store": STORE, "task": preparation, **changes}
    config = PrepareRun.model_validate(content)
    role = role or ("task" if data else "source")
    folder = out / "preprocess" / role / dataset
    folder.mkdir(parents=True)
    inputs = {f"download/{dataset}": out / "download" / dataset}
    state = out / "state" / "preprocess" / role / dataset
    run = f"preprocess/{dataset}"
    preprocess.execute(RunContext(run, config, folder, state, inputs, root, workers))
    shutil.rmtree(state, ignore_errors=True)
    return folder


def set_aside(folder: Path) -> dict[str, str]:
    """volume id → reason."""
    with (folder / "set_aside.csv").open(newline="") as file:
        return {row["volume_id"]: row["reason"] for row in csv.DictReader(file)}


def remarks(folder: Path) -> list[dict[str, str]]:
    """Path, reason and next step of each."""
    with (folder / "remarks.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def summary(folder: Path) -> Any:
    """The run's counts."""
    return read_json(folder / "summary.json")
