"""Headers that contradict themselves or each other."""

from __future__ import annotations

import csv
import gzip
import re
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from tests.helpers import trees
from tests.helpers.bad_metaimage import metaimage
from tests.helpers.bad_nifti import NAN, SHAPE, nifti_bytes
from voxseq.base.errors import DataError
from voxseq.config.datasets import DataConfig
from voxseq.data.checks import check_image
from voxseq.data.readers import itk
from voxseq.data.verify.check import Usage, verify
from voxseq.data.volume import Volume


def nifti(folder: Path, **fields: Any) -> Path:
    """A data root with one CT whose header has these fields."""
    path = folder / "totalsegmentator/s0001/ct.nii.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(gzip.compress(nifti_bytes(**fields)))
    return folder


def pixdim(*spacing: float, sign: float = 1.0) -> tuple[float, ...]:
    return (sign, *spacing, 0.0, 0.0, 0.0, 0.0)


def named(root: Path, out: Path, dataset: str = "totalsegmentator") -> list[str]:
    """Reasons of the remarks that the stage leaves, which are those of verify."""
    folder = trees.run_download(root, out, dataset, min_valid_fraction=0)
    with (folder / "remarks.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(row["path"] and row["next"] for row in rows)
    report = verify([dataset], root, Usage.of([dataset], DataConfig(), {}))
    said = [f.reason for f in report.findings if "published" not in f.reason]
    assert [row["reason"] for row in rows] == [r for r in said if "the same picture" not in r]
    return [row["reason"] for row in rows]


def rotated(degrees: float) -> tuple[float, float, float]:
    """Quaternion of a rotation around the third axis."""
    return (0.0, 0.0, float(np.sin(np.radians(degrees / 2))))


@pytest.mark.kind("sform and qform disagree")
@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"pixdim": pixdim(1, 1, 1, sign=-1)}, "axes of RAS and RAI"),
        ({"quatern": (0.0, 1.0, 0.0)}, "axes of RAS and LAI"),
        ({"quatern": rotated(10)}, "disagree: corners"),
        ({"qoffset": (0.0, 0.7, 0.0)}, "disagree: corners up to 0.7 mm"),
        ({"qoffset": (-200.0, 0.0, 30.0)}, "corners up to 200 mm"),
        ({"quatern": (3.0, 0.0, 0.0)}, "qform is no rotation"),
    ],
)
def test_two_forms_that_disagree_are_named(
    tmp_path: Path, fields: dict[str, Any], words: str
) -> None:
    (reason,) = named(nifti(tmp_path / "data", qform_code=1, **fields), tmp_path)
    assert words in reason


def test_the_forms_of_a_label_are_compared_too(tmp_path: Path) -> None:
    folder = trees.msd(tmp_path, ["a", "b", "c"])
    path = folder / "labelsTr/b.nii.gz"
    label = nibabel.Nifti1Image(trees.label(), np.eye(4))
    label.header.set_sform(np.eye(4), code=1)
    label.header.set_qform(np.diag([-1.0, 1, 1, 1]), code=1)
    nibabel.save(nibabel.Nifti1Image(trees.label(), None, label.header), path)
    report = verify(["task09_spleen"], tmp_path, Usage.of(["task09_spleen"], DataConfig(), {}))
    assert [f.file for f in report.findings if "sform and qform disagree" in f.reason] == [
        "msd/Task09_Spleen/labelsTr/b.nii.gz"
    ]


@pytest.mark.kind("sform and qform equal but for rounding")
@pytest.mark.parametrize(
    "fields",
    [
        {"quatern": rotated(0.5)},
        {"qoffset": (0.01, 0.0, -0.02)},
        {"pixdim": pixdim(1.01, 1, 0.99)},
        {"qform_code": 0, "pixdim": pixdim(1, 1, 1, sign=-1)},
        {"srow": (0.0, -1, 0, 4, 1, 0, 0, 5, 0, 0, 1, 6), "quatern": rotated(90)}
        | {"qoffset": (4.0, 5.0, 6.0)},
    ],
)
def test_rounding_and_the_sign_of_a_lone_pixdim_are_no_contradiction(
    tmp_path: Path, fields: dict[str, Any]
) -> None:
    assert named(nifti(tmp_path / "data", **{"qform_code": 1, **fields}), tmp_path) == []


@pytest.mark.kind("pixdim and sform disagree")
@pytest.mark.parametrize("spacing", [(0.8, 0.9, 5), (1, 1, 1.1), (2, 1, 1), (0.1, 0.1, 0.1)])
@pytest.mark.parametrize("code", [0, 1])
def test_a_spacing_that_is_stated_twice_is_named_once(
    tmp_path: Path, spacing: tuple[float, ...], code: int
) -> None:
    root = nifti(tmp_path / "data", pixdim=pixdim(*spacing), qform_code=code)
    (reason,) = named(root, tmp_path)
    assert "two spacings: pixdim" in reason


@pytest.mark.kind("no orientation, spacing or unit of mm in a header")
@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"sform_code": 0}, "no orientation"),
        ({"pixdim": pixdim(1, 0, 1)}, "1 x 0 x 1 mm beside a valid affine"),
        ({"pixdim": pixdim(1, 1, NAN)}, "1 x 1 x nan mm beside"),
        ({"xyzt_units": 1}, "the metre"),
        ({"xyzt_units": 3 + 8}, "the micrometre"),
    ],
)
def test_what_a_nifti_header_lacks_is_named(
    tmp_path: Path, fields: dict[str, Any], words: str
) -> None:
    (reason,) = named(nifti(tmp_path / "data", **fields), tmp_path)
    assert words in reason


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"ElementSpacing": ""}, "no spacing (ElementSpacing)"),
        ({"TransformMatrix": ""}, "no orientation (TransformMatrix)"),
        ({"ElementSize": "1 1 5"}, "ElementSpacing and ElementSize disagree"),
        ({"TransformMatrix": "1 0 0 0 1 0 0 0.3 1"}, "sheared"),
    ],
)
def test_what_a_metaimage_header_lacks_is_named(
    tmp_path: Path, fields: dict[str, Any], words: str
) -> None:
    path = tmp_path / "data/stoic/mha/1.mha"
    path.parent.mkdir(parents=True)
    metaimage(**fields)(path)
    reasons = named(tmp_path / "data", tmp_path, "stoic")
    assert [words in reason for reason in reasons] == [True]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("space: left-posterior-superior\n", ["no spacing"]),
        ("spacings: 1 1 2\n", ["no orientation (space)"]),
        (
            "space: left-posterior-superior\nspace directions: (1,0,0) (0,1,0) (0,0,2)\n"
            "space origin: (0,0,0)\n",
            [],
        ),
    ],
)
def test_what_an_nrrd_header_lacks_is_named(tmp_path: Path, lines: str, words: list[str]) -> None:
    head = f"NRRD0004\ntype: short\ndimension: 3\nsizes: 9 8 7\n{lines}encoding: raw\n"
    voxels = trees.image(SHAPE, 2).tobytes()
    (tmp_path / "a.nrrd").write_bytes(f"{head}endian: little\n\n".encode() + voxels)
    remarks = itk.read(tmp_path, "a.nrrd").remarks
    assert [w in r.reason for w, r in zip(words, remarks, strict=True)] == [True] * len(words)


def sheared(degrees: float, axes: tuple[int, int] = (1, 2)) -> np.ndarray:
    """Affine in which one axis leans towards another."""
    affine = np.diag([0.8, 0.9, 2.5, 1.0])
    affine[axes] = np.tan(np.radians(degrees)) * affine[axes[1], axes[1]]
    return affine


@pytest.mark.kind("a grid without right angles")
@pytest.mark.parametrize("degrees", [2, 8, 20])
@pytest.mark.parametrize("axes", [(1, 2), (0, 1)])
def test_a_sheared_grid_is_named_with_its_angle(
    tmp_path: Path, degrees: float, axes: tuple[int, int]
) -> None:
    path = tmp_path / "data/abdomenct1k/Case_00001_0000.nii.gz"
    trees.write_nifti(path, trees.image(), sheared(degrees, axes))
    (reason,) = named(tmp_path / "data", tmp_path, "abdomenct1k")
    assert f"right angle by {degrees:.1f} degrees" in reason


def test_beyond_any_scanner_a_sheared_grid_is_refused_and_a_rotated_one_is_fine(
    tmp_path: Path,
) -> None:
    with pytest.raises(DataError, match="sheared by 50 degrees"):
        check_image(Volume(trees.image(), sheared(50)), "a")
    turn = np.eye(4)
    turn[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
    path = tmp_path / "data/abdomenct1k/Case_00001_0000.nii.gz"
    trees.write_nifti(path, trees.image(), turn @ np.diag([0.8, 0.9, 2.5, 1.0]))
    assert named(tmp_path / "data", tmp_path, "abdomenct1k") == []


def shifted(x: float, spacing: float = 1.0) -> np.ndarray:
    affine = np.diag([1.0, 1.0, spacing, 1.0])
    affine[0, 3] = x
    return affine


SUBJECTS = ["BraTS-GLI-00000-000", "BraTS-GLI-00001-000"]
#: t2w of the second subject: affine, shape, and words of the reason; "" for none.
CONTRASTS: dict[str, tuple[np.ndarray, tuple[int, ...], str]] = {
    "shifted by 30 mm": (shifted(30), (9, 8, 7), r"t2w and t1n of .* are up to 30 mm apart"),
    "shifted by most of a voxel": (shifted(0.8), (9, 8, 7), "up to 0.8 mm apart"),
    "thicker slices": (shifted(0, 3), (9, 8, 7), "up to 12 mm apart"),
    "flipped": (np.diag([-1.0, 1, 1, 1]), (9, 8, 7), "up to 8 mm apart"),
    "another shape": (shifted(0), (9, 8, 6), r"different shapes \[\(9, 8, 6\)"),
    "stored in another order": (np.eye(4)[[1, 2, 0, 3]], (7, 9, 8), ""),
    "rounded": (shifted(0.01), (9, 8, 7), ""),
}


@pytest.mark.kind("contrasts of one place on other grids")
@pytest.mark.parametrize("name", CONTRASTS)
def test_contrasts_on_two_grids_are_set_aside_with_their_subject(tmp_path: Path, name: str) -> None:
    affine, shape, words = CONTRASTS[name]
    folder = trees.brats(tmp_path / "data", SUBJECTS)
    (path,) = folder.rglob("BraTS-GLI-00001-000-t2w.nii.gz")
    trees.write_nifti(path, trees.image(shape, 77), affine)
    out = trees.run_download(tmp_path / "data", tmp_path, "brats23")
    aside = trees.set_aside(out)
    assert len(aside) == (4 if words else 0)
    for image, reason in aside.items():
        assert "00001" in image
        assert re.search(words, reason)


def test_contrasts_half_a_voxel_apart_are_named(tmp_path: Path) -> None:
    folder = trees.brats(tmp_path / "data", SUBJECTS)
    (path,) = folder.rglob("BraTS-GLI-00001-000-t2w.nii.gz")
    trees.write_nifti(path, trees.image(seed=77), shifted(0.5))
    (reason,) = named(tmp_path / "data", tmp_path, "brats23")
    assert "corners are up to 0.5 mm apart: taken as one grid" in reason
