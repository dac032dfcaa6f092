"""A file that changes between the stages is noticed when it is read again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from tests.helpers import trees
from voxseq.base.errors import DataError

WINDOW = {"window": [-900, 900], "foreground_crop": False}
RESIZED = {"normalise": "none", "resize": [4, 4, 4]}


def _shifted(path: Path, affine: np.ndarray | None = None, by: int = 1) -> None:
    stored = nibabel.load(path)
    array = np.roll(np.asarray(stored.dataobj), by, axis=0)
    trees.write_nifti(path, array, affine)


def _in_npz(path: Path) -> None:
    arrays = {name: array.copy() for name, array in np.load(path).items()}
    arrays["train_images"][1, 2, 3, 4] ^= 1
    np.savez(path, **arrays)


def _in_series(folder: Path) -> None:
    """Two slices change their places."""
    one, other = sorted(folder.iterdir())[:2]
    for path, number in ((one, 1), (other, 0)):
        array = np.zeros((6, 5, 1), np.int32) + 500 + number
        trees.dicom_series(folder / "new", array, InstanceNumber=1 - number + 1,
                           ImagePositionPatient=[10, 20, 100 - 2.5 * (1 - number)])  # fmt: skip
        shutil.move(folder / "new/IM000.dcm", path)
    (folder / "new").rmdir()


IMAGE = Path("msd/Task09_Spleen/imagesTr/b.nii.gz")
LABEL = Path("msd/Task09_Spleen/labelsTr/b.nii.gz")
BRAIN = Path("brats/ASNR-MICCAI-BraTS2023-GLI-Challenge-TrainingData/BraTS-GLI-00000-000")
BRAIN /= "BraTS-GLI-00000-000-t2w.nii.gz"
Change = Callable[[Path], None]
#: Data set, its task and recipe, the file, the change, what is said.
CASES: dict[str, tuple[str, Any, Any, Path, Change, str]] = {
    "image": ("task09_spleen", trees.SEGMENTATION, WINDOW, IMAGE, _shifted, "other voxels"),
    "label": ("task09_spleen", trees.SEGMENTATION, WINDOW, LABEL, _shifted, "other classes"),
    "header": ("task09_spleen", trees.SEGMENTATION, WINDOW, IMAGE,
               lambda p: _shifted(p, np.diag([1, 1, 1.5, 1]), 0), "another place or spacing"),
    "truncated": ("task09_spleen", trees.SEGMENTATION, WINDOW, IMAGE,
                  lambda p: p.write_bytes(p.read_bytes()[:-20]) and None, "damaged"),
    "removed": ("task09_spleen", trees.SEGMENTATION, WINDOW, IMAGE, Path.unlink, "does not exist"),
    "source": ("brats23", None, None, BRAIN, _shifted, "other voxels"),
    "npz": ("nodule", trees.CLASSIFICATION, RESIZED,
            Path("nodule/nodulemnist3d.npz"), _in_npz, "other voxels"),
    "series": ("dicom_ct", None, None, Path("dicom/one"), _in_series, "other voxels"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_changed_file_is_refused(name: str, tmp_path: Path) -> None:
    dataset, task, recipe, file, change, said = CASES[name]
    root = tmp_path / "data"
    trees.msd(root, list("abc"))
    trees.brats(root, ["BraTS-GLI-00000-000"])
    trees.nodule(root, {"train": 4, "val": 4, "test": 4})
    trees.dicom_series(root / "dicom/one", trees.image((6, 5, 4)).astype(np.int32) + 1000)
    trees.run_download(root, tmp_path, dataset, task)
    trees.run_preprocess(root, tmp_path, dataset, recipe, task or trees.SEGMENTATION)
    shutil.rmtree(tmp_path / "preprocess")
    change(root / file)
    changed = rf"{file.name}: changed since the download stage checked it: .*{said}"
    with pytest.raises(DataError, match=changed) as caught:
        trees.run_preprocess(root, tmp_path, dataset, recipe, task or trees.SEGMENTATION)
    assert "data.release" in (caught.value.hint or "")
