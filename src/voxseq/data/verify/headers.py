"""What headers state and readers repair without a word, and numbers that only look odd."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import nibabel
import numpy as np

#: Spacing in mm beyond which a header is more likely wrong than the scan unusual.
SPACING = (0.05, 20.0)
#: Severity and reason.
Item = tuple[Literal["fault", "warning"], str]

_NEGATIVE = "the file states a negative spacing"
_GZIP_MAGIC = b"\x1f\x8b"
#: Bytes of the longer of the two NIfTI headers.
_HEADER = 540


def header_items(adapter: str, folder: Path, row: Mapping[str, Any]) -> Iterator[Item]:
    """What to say about the header of a usable image, from its row of the index."""
    spacing = [float(row[f"spacing_{a}"]) for a in "xyz"]
    shape = [int(row[f"shape_{a}"]) for a in "xyz"]
    low, high = SPACING
    if min(spacing) < low or max(spacing) > high:
        shown = " x ".join(f"{n:g}" for n in spacing)
        yield "warning", f"suspicious spacing, {shown} mm: expected {low:g} to {high:g}"
    if min(shape) < 2:
        yield "warning", f"a single slice, shape {' x '.join(str(n) for n in shape)}"
    matrix = np.reshape(np.asarray(row["affine"], dtype=float), (4, 4))[:3, :3]
    # Slices of a series are put in order so that a mirrored grid can only come from its spacing.
    mirrored = adapter == "dicom_tree" and np.linalg.det(matrix) < 0
    if mirrored or (not row["orientation"] and (np.diag(matrix) < 0).any()):
        yield "fault", _NEGATIVE
    if row["path"].endswith((".nii", ".nii.gz")):
        yield from _of_nifti(folder / row["path"])


def _of_nifti(path: Path) -> Iterator[Item]:
    """Spacing as stored: nibabel takes 1 mm for 0, and drops the sign."""
    header = _raw_header(path)
    stated = [float(n) for n in header["pixdim"][1:4]]
    if all(n > 0 for n in stated):
        return
    shown = " x ".join(f"{n:g}" for n in stated)
    if int(header["sform_code"]) > 0:
        yield "warning", f"the header states a spacing of {shown} mm beside a valid affine"
    elif min(stated) < 0:
        yield "fault", f"{_NEGATIVE}, {shown} mm"
    else:
        yield "fault", f"the header states a spacing of {shown} mm, which is read as 1 mm"


def _raw_header(path: Path) -> Any:
    with path.open("rb") as file:
        is_packed = file.read(2) == _GZIP_MAGIC
    with gzip.open(path) if is_packed else path.open("rb") as stream:
        content = stream.read(_HEADER)
    for kind in (nibabel.Nifti1Header, nibabel.Nifti2Header):
        size = kind.template_dtype.itemsize
        header = kind(content[:size], check=False)
        if int(header["sizeof_hdr"]) == size:
            return header
    raise ValueError(f"{path} has no NIfTI header")
