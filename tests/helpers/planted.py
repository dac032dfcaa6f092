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


def ricord(root: Path) -> None:
    """Five series of five patients in three lists."""
    lines: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for number, split in enumerate(("train", "train", "train", "val", "test")):
        uid = f"1.2.3.5555{number}"
        trees.dicom_series(
            root / "ricord" / f"place{number}",
            picture(100 + number)[:, :, :6].astype(np.int32) + 1024,
            PatientID=f"MIDRC-RICORD-1A-41963-00000{number}",
            SeriesInstanceUID=uid,
            SeriesNumber=3,
            StudyDate="20041019",
        )
        name = f"ID41963-00000{number}_date10-19-2004_3.000000-NA-{uid[-5:]}"
        lines[split].append(f"RICORD_nii/MIDRC-RICORD-1A/{name}.nii.gz 1\n")
    for split, text in lines.items():
        (root / "ricord" / f"RICORD_{split}.txt").write_text("".join(text))


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
        trees.dicom_series(
            root / "dicom" / f"series{number}",
            picture(40 + number)[:, :, :6].astype(np.int32) + 1024,
            PatientID=f"p{number}",
            SeriesInstanceUID=f"1.2.{number}",
        )
    trees.la(root, ["A" * 20, "B" * 20, "C" * 20, "D" * 20], ["E" * 20, "F" * 20])
    trees.brats(root, ["BraTS-GLI-00001-000", "BraTS-GLI-00002-000", "BraTS-GLI-00003-000"])
    trees.lesions(root)
    ricord(root)
    return root


# Planted faults


def held_out(root: Path) -> str:
    """A spleen that the split holds out."""
    parts = ratio_split([f"spleen_{n}" for n in range(10)], (0.7, 0.1, 0.2), 0)
    return f"{SPLEEN}/imagesTr/{next(s for s, p in sorted(parts.items()) if p == 'test')}.nii.gz"


def truncated(root: Path) -> None:
    content = (root / IMAGE).read_bytes()
    (root / IMAGE).write_bytes(content[: len(content) // 2])


def bit_of_the_packed_data(root: Path) -> None:
    content = bytearray((root / IMAGE).read_bytes())
    content[len(content) // 2] ^= 1
    (root / IMAGE).write_bytes(content)


def bit_of_the_checksum(root: Path) -> None:
    content = bytearray(gzip.compress(gzip.decompress((root / IMAGE).read_bytes())))
    content[-6] ^= 1
    (root / IMAGE).write_bytes(content)


def empty_file(root: Path) -> None:
    (root / IMAGE).write_bytes(b"")


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


def _value(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array = array.astype(np.float32 if value != int(np.nan_to_num(value, nan=0.5)) else "i2")
        array[1, 2, 3] = value
        return array

    return change


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


def lost_slice(root: Path) -> None:
    (root / "dicom/series2/IM003.dcm").unlink()


def repeated_slice(root: Path) -> None:
    shutil.copyfile(root / "dicom/series2/IM003.dcm", root / "dicom/series2/IM099.dcm")


def damaged_slice(root: Path) -> None:
    path = root / "dicom/series2/IM003.dcm"
    path.write_bytes(path.read_bytes()[:-40])


def lost_image(root: Path) -> None:
    (root / IMAGE).unlink()


def lost_label(root: Path) -> None:
    (root / LABEL).unlink()


def lost_contrast(root: Path) -> None:
    next((root / "brats").rglob("BraTS-GLI-00002-000-t2w.nii.gz")).unlink()


def lost_folder(root: Path) -> None:
    shutil.rmtree(root / "totalsegmentator")


def subject_in_two_lists(root: Path) -> None:
    """Another series of the test patient is listed for training."""
    series = sorted((root / "ricord/place4").iterdir())
    target = root / "ricord/place9"
    target.mkdir()
    for path in series:
        header = pydicom.dcmread(path)
        header.SeriesInstanceUID, header.SeriesNumber = "1.2.3.77777", 4
        header.PixelData = header.PixelData[::-1]
        header.save_as(target / path.name)
    name = "ID41963-000004_date10-19-2004_4.000000-NA-77777"
    with (root / "ricord/RICORD_train.txt").open("a") as file:
        file.write(f"RICORD_nii/MIDRC-RICORD-1A/{name}.nii.gz 1\n")


def case_in_two_lists(root: Path) -> None:
    with (root / "la/train.list").open("a") as file:
        file.write("E" * 20 + "\n")


def negative_lesion_spacing(root: Path) -> None:
    path = root / "deeplesion/DL_info.csv"
    path.write_text(path.read_text().replace("0.8, 0.9, 5", "0.8, -0.9, 5", 1))


def header_spacing(stated: tuple[float, float, float], sform: int) -> Callable[[Path], None]:
    """Write a spacing into the header of a file as it is, without the library's corrections."""

    def plant(root: Path) -> None:
        content = bytearray(gzip.decompress((root / CT).read_bytes()))
        struct.pack_into("<3f", content, 80, *stated)
        struct.pack_into("<2h", content, 252, 1, sform)
        (root / CT).write_bytes(gzip.compress(bytes(content)))

    return plant


def negative_slice_spacing(root: Path) -> None:
    for path in (root / "dicom/series2").iterdir():
        header = pydicom.dcmread(path)
        header.PixelSpacing = [-0.5, 0.75]
        header.save_as(path)


def fetched(root: Path, name: str) -> None:
    """Say that a data set's folder was fetched as it is now."""
    dataset = catalogue.get(name)
    folder = root / dataset.folder
    paths = sorted(p for p in folder.rglob("*") if p.is_file())
    size = sum(p.stat().st_size for p in paths)
    first, *others = units(dataset)
    assert not others
    item = Fetched(
        *(unit_id(first), first.url, first.path, "tar", first.url, "md5:0", "checksum", 1),
        *(len(paths), size),
    )
    write_record(folder, Record(name, dataset.version, (item,)))


def changed_after_fetch(root: Path) -> None:
    fetched(root, "task09_spleen")
    rewritten(IMAGE, lambda a: a + 3)(root)
    (root / LABEL).write_bytes((root / LABEL).read_bytes() + b"\0" * 5)


def removed_after_fetch(root: Path) -> None:
    fetched(root, "task09_spleen")
    (root / SPLEEN / "imagesTr" / "spleen_9.nii.gz").unlink()


def added_after_fetch(root: Path) -> None:
    fetched(root, "task09_spleen")
    (root / SPLEEN / "notes.txt").write_text("mine")


def damaged_record(root: Path) -> None:
    fetched(root, "task09_spleen")
    path = root / SPLEEN / RECORD
    path.write_text(path.read_text()[:-20])


SHOW = r"voxseq data show "


@dataclass(frozen=True)
class Plant:
    """A fault, and what must be said about it."""

    plant: Callable[[Path], None]
    severity: str
    file: str
    reason: str
    next: str = r"voxseq data (show|download) \w+"


SHEAR = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]])
SOME_TEST = f"{SPLEEN}/imagesTr/spleen_\\d.nii.gz"
EXCLUDED = r"snakemake --cores all sequences"
FAULTS: dict[str, Plant] = {
    "truncated gzip": Plant(truncated, "fault", IMAGE, "damaged, truncated"),
    "flipped bit": Plant(bit_of_the_packed_data, "fault", IMAGE, "damaged, truncated"),
    "flipped bit of the checksum": Plant(bit_of_the_checksum, "fault", IMAGE, "CRC"),
    "empty file": Plant(empty_file, "fault", IMAGE, "damaged, truncated"),
    "NaN": Plant(rewritten(IMAGE, _value(np.nan)), "fault", IMAGE, r"1 of \d+ voxels are NaN"),
    "infinite": Plant(rewritten(IMAGE, _value(np.inf)), "fault", IMAGE, r"1 of \d+ voxels are"),
    "constant image": Plant(
        rewritten(CT, lambda a: a * 0 - 1024), "fault", CT, "every voxel has the value -1024"
    ),
    "label on another grid": Plant(
        with_affine(LABEL, np.diag([1, 1, 1.2, 1])), "fault", LABEL, "grid is not that of its image"
    ),
    "label of another shape": Plant(
        rewritten(LABEL, lambda a: a[:-1]), "fault", LABEL, r"shape \(19, 18, 16\) is not that"
    ),
    "unknown label value": Plant(
        rewritten(LABEL, _value(7)), "fault", LABEL, "unknown label values 7, expected 0, 1"
    ),
    "label without image": Plant(
        lost_image, "warning", SPLEEN, r"lists name are missing.*spleen_3"
    ),
    "image without label": Plant(lost_label, "fault", LABEL, "the file does not exist"),
    "singular affine": Plant(with_affine(CT, SHEAR), "fault", CT, "the affine is singular"),
    "affine with NaN": Plant(
        with_affine(CT, np.diag([1, np.nan, 1, 1])), "fault", CT, "affine holds NaN|damaged"
    ),
    "zero spacing": Plant(with_affine(CT, np.diag([1, 0, 1, 1])), "fault", CT, "singular"),
    "zero spacing in the header": Plant(
        header_spacing((1, 0, 2), 0), "fault", CT, r"a spacing of \[1\.0, 0\.0, 2\.0\] mm, expected"
    ),
    "zero spacing beside a valid affine": Plant(
        header_spacing((1, 0, 2), 1), "warning", CT, "spacing of 1 x 0 x 2 mm beside a valid"
    ),
    "negative spacing in the header": Plant(
        header_spacing((1, 1, -2), 0), "fault", CT, r"a spacing of \[1\.0, 1\.0, -2\.0\] mm"
    ),
    "NaN spacing": Plant(
        header_spacing((1, 1, float("nan")), 0), "fault", CT, r"a spacing of \[1\.0, 1\.0, nan\] mm"
    ),
    "negative spacing of slices": Plant(
        negative_slice_spacing,
        "fault",
        "dicom/series2/IM005.dcm",
        r"-0\.5, 2\.5\) mm, expected",
    ),
    "negative spacing of a lesion": Plant(
        negative_lesion_spacing,
        "fault",
        "deeplesion/Images_png/000001_01_01_004.png",
        r"cannot be understood \(spacing",
    ),
    "absurd spacing": Plant(
        with_affine(CT, np.diag([1, 1, 60, 1])), "warning", CT, "suspicious spacing, 1 x 1 x 60 mm"
    ),
    "spacing in metres": Plant(
        with_affine(CT, np.diag([1e-3, 1e-3, 3e-3, 1])), "warning", CT, "suspicious spacing"
    ),
    "four axes": Plant(
        rewritten(CT, lambda a: np.stack([a, a + 1], axis=-1)), "fault", CT, "the image has 4 axes"
    ),
    "one image under two subjects": Plant(
        copied("totalsegmentator/s0001/ct.nii.gz", CT, "the same"),
        *("warning", CT, "the same voxels as totalsegmentator/s0001/ct"),
        next="one person",
    ),
    "one picture under two subjects": Plant(
        copied("totalsegmentator/s0001/ct.nii.gz", CT, "resampled"),
        *("warning", CT, r"the same picture as totalsegmentator/s0001/ct \(correlation 0\.99"),
        next="one person",
    ),
    "test image in a source": Plant(
        copied(held_out, CT, "the same"),
        *("warning", CT, "the same voxels as task09_spleen/spleen_./image, which a task holds out"),
        EXCLUDED,
    ),
    "test image in a source, turned": Plant(
        copied(held_out, CT, "turned"),
        *("warning", CT, "the same picture as task09_spleen/spleen_./image .*a task holds out"),
        EXCLUDED,
    ),
    "test image in a source, resampled": Plant(
        copied(held_out, CT, "resampled"),
        *("warning", CT, "the same picture as task09_spleen/spleen_./image .*a task holds out"),
        EXCLUDED,
    ),
    "missing slice": Plant(lost_slice, "fault", "dicom/series2", "a slice is missing"),
    "repeated slice": Plant(repeated_slice, "fault", "dicom/series2", "lie at the same place"),
    "damaged slice": Plant(damaged_slice, "fault", "dicom/series2/IM003.dcm", "damaged"),
    "missing contrast": Plant(
        lost_contrast, "fault", r"brats/.*BraTS-GLI-00002-000-t1n.nii.gz", "the contrast t2w"
    ),
    "missing data set": Plant(
        lost_folder,
        *("fault", "totalsegmentator", "the folder does not exist"),
        "voxseq data download totalsegmentator",
    ),
    "wrong count": Plant(lost_image, "warning", SPLEEN, "9 of 41 published images are there"),
    "subject in two published lists": Plant(
        subject_in_two_lists, "fault", "ricord/place9", "its subject is also in a later split"
    ),
    "case in two published lists": Plant(
        case_in_two_lists, "fault", "la", "name E{20} more than once", "obtain the lists again"
    ),
    "changed file after fetch": Plant(
        changed_after_fetch, "fault", SPLEEN, r"its files have \d+ bytes, fetched were \d+"
    ),
    "removed file after fetch": Plant(
        removed_after_fetch, "fault", SPLEEN, "1 of 21 fetched files are missing"
    ),
    "added file after fetch": Plant(
        added_after_fetch, "warning", SPLEEN, "1 files were added to the 21 fetched ones"
    ),
    "damaged record": Plant(damaged_record, "fault", f"{SPLEEN}/{RECORD}", "cannot be read"),
}
