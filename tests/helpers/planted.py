"""Good data sets, and the faults that are planted in them."""

from __future__ import annotations

import gzip
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pydicom

from tests.helpers import trees
from voxseq import catalogue
from voxseq.catalogue.splits import ratio_split
from voxseq.data import grid as resample
from voxseq.fetch.record import RECORD, Fetched, Record, unit_id, units, write_record

SPLEEN = "msd/Task09_Spleen"
IMAGE = f"{SPLEEN}/imagesTr/spleen_3.nii.gz"
LABEL = f"{SPLEEN}/labelsTr/spleen_3.nii.gz"
CT = "totalsegmentator/s0002/ct.nii.gz"
SHAPE = (20, 18, 16)


def picture(seed: int) -> np.ndarray:
    """A smooth CT with noise."""
    rng = np.random.default_rng(seed)
    coarse = resample.linear(rng.normal(0, 200, (5, 5, 4)).astype(np.float32), SHAPE)
    return (coarse + rng.normal(0, 20, SHAPE)).astype(np.int16)


def write_good(root: Path) -> Path:
    """Data sets in which nothing is wrong, only incomplete."""
    folder = trees.msd(root, [f"spleen_{n}" for n in range(10)])
    mask = np.zeros(SHAPE, np.uint8)
    mask[4:9, 5:9, 6:9] = 1
    for number in range(10):
        trees.write_nifti(folder / "imagesTr" / f"spleen_{number}.nii.gz", picture(number))
        trees.write_nifti(folder / "labelsTr" / f"spleen_{number}.nii.gz", mask)
    for number in range(5):
        path = root / "totalsegmentator" / f"s000{number}" / "ct.nii.gz"
        trees.write_nifti(path, picture(20 + number), np.diag([1.5, 1.5, 3, 1]))
        series = picture(40 + number)[:, :, :6].astype(np.int32) + 1024
        tags = {"PatientID": f"p{number}", "SeriesInstanceUID": f"1.2.{number}"}
        trees.dicom_series(root / "dicom" / f"series{number}", series, **tags)
    trees.la(root, ["A" * 20, "B" * 20, "C" * 20, "D" * 20], ["E" * 20, "F" * 20])
    trees.brats(root, ["BraTS-GLI-00001-000", "BraTS-GLI-00002-000", "BraTS-GLI-00003-000"])
    trees.lesions(root)
    trees.ricord(
        root,
        [
            (
                *(split, int(n > 0), picture(100 + n)[:, :, :6].astype(np.int32) + 1024),
                *(f"1A-41963-00000{n}", {}),
            )
            for n, split in enumerate(("train", "train", "train", "val", "test"))
        ],
    )
    return root


# Planted faults


def held_out(root: Path) -> str:
    """A spleen that the split holds out."""
    parts = ratio_split([f"spleen_{n}" for n in range(10)], (0.7, 0.1, 0.2), 0)
    return f"{SPLEEN}/imagesTr/{next(s for s, p in sorted(parts.items()) if p == 'test')}.nii.gz"


def bit_of_the_packed_data(root: Path) -> None:
    content = bytearray((root / IMAGE).read_bytes())
    content[len(content) // 2] ^= 1
    (root / IMAGE).write_bytes(content)


def rewritten(path: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    """Replace the voxels of a file."""

    def plant(root: Path) -> None:
        image = nibabel.load(root / path)
        array = change(np.asanyarray(image.dataobj).copy())
        trees.write_nifti(root / path, array, image.affine)

    return plant


def with_affine(path: str, affine: np.ndarray) -> Callable[[Path], None]:
    def plant(root: Path) -> None:
        array = np.asanyarray(nibabel.load(root / path).dataobj).copy()
        trees.write_nifti(root / path, array, affine)

    return plant


def copied(source: Callable[[Path], str] | str, target: str, kind: str) -> Callable[[Path], None]:
    """Put an image at the place of another: as it is, or turned, resampled and in float."""

    def plant(root: Path) -> None:
        path = root / (source if isinstance(source, str) else source(root))
        if kind == "the same":
            shutil.copyfile(path, root / target)
            return
        image = nibabel.load(path)
        array = np.asanyarray(image.dataobj)
        if kind == "resampled":
            shape = (15, 14, 12)
            scale = np.append(np.array(array.shape) / shape, 1)
            trees.write_nifti(
                root / target, resample.linear(array, shape) + 7, image.affine * scale
            )
            return
        turned = np.flip(array, (0, 1)).transpose(2, 0, 1).astype(np.float32)
        affine = image.affine @ np.array(
            [[0, -1, 0, SHAPE[0] - 1], [0, 0, -1, SHAPE[1] - 1], [1, 0, 0, 0], [0, 0, 0, 1]]
        )
        trees.write_nifti(root / target, turned, affine)

    return plant


def removed(pattern: str) -> Callable[[Path], None]:
    """Remove the one file or folder that fits."""

    def plant(root: Path) -> None:
        (path,) = root.glob(pattern)
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return plant


def edited(path: str, change: Callable[[bytes], bytes], target: str = "") -> Callable[[Path], None]:
    """Replace the bytes of a file, or put them at another place."""

    def plant(root: Path) -> None:
        (root / (target or path)).write_bytes(change((root / path).read_bytes()))

    return plant


def subject_in_two_lists(root: Path) -> None:
    """Another series of the test patient is listed for training."""
    series = sorted((root / "ricord/any/place4").iterdir())
    target = root / "ricord/any/place9"
    target.mkdir()
    for path in series:
        header = pydicom.dcmread(path)
        header.SeriesInstanceUID, header.SeriesNumber = "1.2.3.77777", 4
        header.PixelData = header.PixelData[::-1]
        header.save_as(target / path.name)
    name = "ID41963-000004_date10-19-2004_4.000000-NA-77777"
    with (root / "ricord/RICORD_train.txt").open("a") as file:
        file.write(f"RICORD_nii/MIDRC-RICORD-1A/{name}.nii.gz 1\n")


def zero_spacing(root: Path) -> None:
    """Write a spacing into the header of a file as it is, without the library's corrections."""
    content = bytearray(gzip.decompress((root / CT).read_bytes()))
    struct.pack_into("<3f", content, 80, 1, 0, 2)
    (root / CT).write_bytes(gzip.compress(bytes(content)))


def negative_slice_spacing(root: Path) -> None:
    for path in (root / "dicom/series2").iterdir():
        header = pydicom.dcmread(path)
        header.PixelSpacing = [-0.5, 0.75]
        header.save_as(path)


def fetched(plant: Callable[[Path], None]) -> Callable[[Path], None]:
    """Record the spleens as fetched as they are now, before a change."""

    def record_and_plant(root: Path) -> None:
        dataset = catalogue.get("task09_spleen")
        folder = root / dataset.folder
        sizes = [p.stat().st_size for p in folder.rglob("*") if p.is_file()]
        (unit,) = units(dataset)
        item = Fetched(
            *(unit_id(unit), unit.url, unit.path, "tar", unit.url, "md5:0", "checksum", 1),
            *(len(sizes), sum(sizes)),
        )
        write_record(folder, Record(dataset.name, dataset.version, (item,)))
        plant(root)

    return record_and_plant


@dataclass(frozen=True)
class Plant:
    """A fault, and what must be said about it."""

    plant: Callable[[Path], None]
    severity: str
    file: str
    reason: str
    next: str = r"voxseq data (show|download) \w+"


def _seven(array: np.ndarray) -> np.ndarray:
    array[1, 2, 3] = 7
    return array


HEADER = "compare the header with its source"
EXCLUDED = r"building the sequences leaves it out"
PICTURE = r"the same picture as task09_spleen/spleen_./image .*a task holds out"
SLICE = "dicom/series2/IM003.dcm"
SOURCE = "totalsegmentator/s0001/ct.nii.gz"
#: Faults of a single file are in tests/faults; here is one of each kind of file and message.
FAULTS: dict[str, Plant] = {
    "flipped bit": Plant(bit_of_the_packed_data, "fault", IMAGE, "damaged, truncated"),
    "unknown label value": Plant(
        rewritten(LABEL, _seven), "fault", LABEL, "unknown label values 7, expected 0, 1"
    ),
    "label without image": Plant(
        removed(IMAGE), "warning", SPLEEN, r"lists name are missing.*spleen_3"
    ),
    "image without label": Plant(removed(LABEL), "fault", LABEL, "the file does not exist"),
    "zero spacing beside a valid affine": Plant(
        zero_spacing, "warning", CT, "spacing of 1 x 0 x 2 mm beside a valid", HEADER
    ),
    "negative spacing of slices": Plant(
        negative_slice_spacing, "fault", "dicom/series2/IM000.dcm", r"-0\.5, 0\.75\) mm, expected"
    ),
    "absurd spacing": Plant(
        with_affine(CT, np.diag([1, 1, 60, 1])),
        *("warning", CT, "suspicious spacing, 1 x 1 x 60 mm"),
        HEADER,
    ),
    "single slice": Plant(
        rewritten(CT, lambda a: a[:, :, :1]),
        *("warning", CT, "a single slice, shape 20 x 18 x 1"),
        HEADER,
    ),
    "one image under two subjects": Plant(
        copied(SOURCE, CT, "the same"),
        *("warning", CT, "the same voxels as totalsegmentator/s0001/ct", "one person"),
    ),
    "one picture under two subjects": Plant(
        copied(SOURCE, CT, "resampled"),
        *("warning", CT, r"picture as totalsegmentator/s0001/ct \(correlation 0\.9", "one person"),
    ),
    "test image in a source": Plant(
        copied(held_out, CT, "the same"),
        *("warning", CT, "the same voxels as task09_spleen/spleen_./image, which a task holds out"),
        EXCLUDED,
    ),
    "test image in a source, turned": Plant(
        copied(held_out, CT, "turned"), "warning", CT, PICTURE, EXCLUDED
    ),
    "test image in a source, resampled": Plant(
        copied(held_out, CT, "resampled"), "warning", CT, PICTURE, EXCLUDED
    ),
    "missing slice": Plant(removed(SLICE), "fault", "dicom/series2", "a slice is missing"),
    "copied slice": Plant(
        edited(SLICE, bytes, "dicom/series2/IM099.dcm"),
        *("warning", "dicom/series2/IM099.dcm", "a copy of series2/IM003.dcm", "nothing to do"),
    ),
    "repeated slice": Plant(
        edited(SLICE, lambda c: c[:-2] + b"\1\2", "dicom/series2/IM099.dcm"),
        "fault",
        "dicom/series2",
        "lie at the same place",
    ),
    "damaged slice": Plant(
        edited(SLICE, lambda c: c[:-40]), "fault", "dicom/series2/IM003.dcm", "damaged"
    ),
    "missing contrast": Plant(
        removed("brats/**/BraTS-GLI-00002-000-t2w.nii.gz"),
        "fault",
        r"brats/.*BraTS-GLI-00002-000-t1n.nii.gz",
        "the contrast t2w",
    ),
    "missing data set": Plant(
        removed("totalsegmentator"),
        *("fault", "totalsegmentator", "the folder does not exist"),
        "voxseq data download totalsegmentator",
    ),
    "wrong count": Plant(removed(IMAGE), "warning", SPLEEN, "9 of 41 published images are there"),
    "subject in two published lists": Plant(
        subject_in_two_lists, "fault", "ricord/any/place9", "its subject is also in a later split"
    ),
    "case in two published lists": Plant(
        edited("la/train.list", lambda c: c + b"E" * 20 + b"\n"),
        "fault",
        "la",
        "name E{20} more than once",
        "compare the lists with the published ones",
    ),
    "changed file after fetch": Plant(
        fetched(edited(LABEL, lambda c: c + bytes(5))),
        *("fault", SPLEEN, r"its files have \d+ bytes, fetched were \d+"),
    ),
    "removed file after fetch": Plant(
        fetched(removed(IMAGE)), "fault", SPLEEN, "1 of 21 fetched files are missing"
    ),
    "added file after fetch": Plant(
        fetched(edited(LABEL, bytes, f"{SPLEEN}/notes.txt")),
        *("warning", SPLEEN, "1 files were added to the 21 fetched ones"),
    ),
    "damaged record": Plant(
        fetched(edited(f"{SPLEEN}/{RECORD}", lambda c: c[:-20])),
        *("fault", f"{SPLEEN}/{RECORD}", "cannot be read"),
    ),
}
