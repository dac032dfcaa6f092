"""Small images as a user of one's own data has them: with something in them to learn."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.helpers import trees

Array = NDArray[np.float32]
SHAPE = (20, 18, 16)


def body(rng: np.random.Generator, shape: tuple[int, int, int] = SHAPE) -> Array:
    """A CT: air, and a body of soft tissue and bone."""
    found = np.full(shape, -1000.0, np.float32)
    x, y, z = shape
    inner = found[3 : x - 3, 3 : y - 3, 1 : z - 1]
    inner[...] = rng.normal(40, 20, inner.shape)
    side = int(rng.integers(4, x - 8))
    found[side : side + 4, 6:11, 2 : z - 2] = 700 + rng.normal(0, 20, (4, 5, z - 4))
    return found


def structures(
    rng: np.random.Generator, count: int, shape: tuple[int, int, int] = SHAPE
) -> tuple[Array, NDArray[np.uint8]]:
    """An MRI and its segmentation: boxes, each brighter than the one before."""
    label = np.zeros(shape, np.uint8)
    for value in range(1, count + 1):
        x, y, z = (int(rng.integers(0, n - 6)) for n in shape)
        label[x : x + 6, y : y + 6, z : z + 6] = value
    image = 100 + 60 * label + rng.normal(0, 8, shape)
    return image.astype(np.float32), label


def scans(folder: Path, count: int = 6) -> None:
    """CTs in NIfTI, without labels, in folders of patients."""
    rng = np.random.default_rng(1)
    for number in range(count):
        trees.write_nifti(folder / f"patient{number}/ct.nii.gz", body(rng))


def nnunet(folder: Path, count: int = 8) -> None:
    """nnU-Net's raw data: two channels, of which the second tells the structures apart."""
    rng = np.random.default_rng(2)
    for number in range(count + 2):
        image, label = structures(rng, 3)
        part = "imagesTr" if number < count else "imagesTs"
        plain = np.where(label > 0, 160, 100) + rng.normal(0, 8, label.shape)
        for channel, voxels in enumerate((plain.astype(np.float32), image)):
            trees.write_nifti(folder / f"{part}/case{number}_{channel:04d}.nii.gz", voxels)
        if number < count:
            trees.write_nifti(folder / f"labelsTr/case{number}.nii.gz", label)
    content = {
        "channel_names": {"0": "T1", "1": "T2"},
        "labels": {"background": 0, "cortex": 1, "medulla": 2, "cyst": 3},
        "numTraining": count,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(content))


def tables(folder: Path, each: int = 5) -> None:
    """Images beside a table of four classes and one of numbers."""
    rng = np.random.default_rng(3)
    grades = ("healthy", "mild", "moderate", "severe")
    classes, ages = [("image", "class")], [("image", "age")]
    for number in range(4 * each):
        grade = number % 4
        image = rng.normal(100, 10, SHAPE).astype(np.float32)
        image[5:15, 5:12, 4:10] += 40 * grade
        path = f"images/knee{number}.nii.gz"
        trees.write_nifti(folder / path, image)
        classes.append((path, grades[grade]))
        ages.append((path, f"{30 + 10 * grade + rng.normal():.1f}"))
    for name, rows in (("knees.csv", classes), ("age.csv", ages)):
        with (folder / name).open("w", newline="") as handle:
            csv.writer(handle).writerows(rows)


def dicom(folder: Path, count: int = 4) -> None:
    """CT series in DICOM, without labels, in a nested tree."""
    rng = np.random.default_rng(4)
    for number in range(count):
        stored = np.clip(body(rng) + 1024, 0, 4000).astype(np.uint16)
        series = {"PatientID": f"p{number}", "SeriesInstanceUID": f"1.2.3.{number}"}
        trees.dicom_series(folder / f"year{number % 2}/exam{number}", stored, **series)


def decathlon(folder: Path, count: int = 8) -> None:
    """The layout of the Decathlon, under a name that no catalogue has."""
    rng = np.random.default_rng(5)
    listed = []
    for number in range(count + 1):
        image, label = structures(rng, 1)
        if number == count:
            trees.write_nifti(folder / f"imagesTs/liver{number}.nii.gz", image)
            continue
        names = {
            "image": f"imagesTr/liver{number}.nii.gz",
            "label": f"labelsTr/liver{number}.nii.gz",
        }
        for name, voxels in (("image", image), ("label", label)):
            trees.write_nifti(folder / names[name], voxels)
        listed.append({name: f"./{path}" for name, path in names.items()})
    content = {
        "name": "Liver",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "liver"},
        "numTraining": count,
        "training": listed,
        "test": [],
    }
    (folder / "dataset.json").write_text(json.dumps(content))
