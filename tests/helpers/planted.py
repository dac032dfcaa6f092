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
            (split, 1, picture(100 + n)[:, :, :6].astype(np.int32) + 1024, f"1A-41963-00000{n}", {})
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


def case_in_two_lists(root: Path) -> None:
    with (root / "la/train.list").open("a") as file:
        file.write("E" * 20 + "\n")


def negative_lesion_spacing(root: Path) -> None:
    path = root / "deeplesion/DL_info.csv"
    path.write_text(path.read_text().replace("0.8, 0.9, 5", "0.8, -0.9, 5", 1))


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


EXCLUDED = r"snakemake --cores all sequences"
PICTURE = r"the same picture as task09_spleen/spleen_./image .*a task holds out"
LESION = "deeplesion/Images_png/000001_01_01_004.png"
SOURCE = "totalsegmentator/s0001/ct.nii.gz"
#: Faults of a single file are in tests/faults; here is one of each kind of file and message.
FAULTS: dict[str, Plant] = {
    "flipped bit": Plant(bit_of_the_packed_data, "fault", IMAGE, "damaged, truncated"),
    "unknown label value": Plant(
        rewritten(LABEL, _seven), "fault", LABEL, "unknown label values 7, expected 0, 1"
    ),
    "label without image": Plant(
        lost_image, "warning", SPLEEN, r"lists name are missing.*spleen_3"
    ),
    "image without label": Plant(lost_label, "fault", LABEL, "the file does not exist"),
    "zero spacing beside a valid affine": Plant(
        zero_spacing, "warning", CT, "spacing of 1 x 0 x 2 mm beside a valid"
    ),
    "negative spacing of slices": Plant(
        negative_slice_spacing, "fault", "dicom/series2/IM005.dcm", r"-0\.5, 2\.5\) mm, expected"
    ),
    "negative spacing of a lesion": Plant(
        negative_lesion_spacing, "fault", LESION, r"cannot be understood \(spacing"
    ),
    "absurd spacing": Plant(
        with_affine(CT, np.diag([1, 1, 60, 1])), "warning", CT, "suspicious spacing, 1 x 1 x 60 mm"
    ),
    "spacing in metres": Plant(
        with_affine(CT, np.diag([1e-3, 1e-3, 3e-3, 1])), "warning", CT, "suspicious spacing"
    ),
    "single slice": Plant(
        rewritten(CT, lambda a: a[:, :, :1]), "warning", CT, "a single slice, shape 20 x 18 x 1"
    ),
    "one image under two subjects": Plant(
        copied(SOURCE, CT, "the same"),
        *("warning", CT, "the same voxels as totalsegmentator/s0001/ct", "one person"),
    ),
    "one picture under two subjects": Plant(
        copied(SOURCE, CT, "resampled"),
        *("warning", CT, r"picture as totalsegmentator/s0001/ct \(correlation 0\.99", "one person"),
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
        subject_in_two_lists, "fault", "ricord/any/place9", "its subject is also in a later split"
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
