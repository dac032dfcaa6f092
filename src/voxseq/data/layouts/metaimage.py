"""MetaImage (.mha), as STOIC publishes it, and NRRD, as the left-atrium challenge does.

Options: ``patterns``, as for NIfTI trees; ``label``, name of the file with the segmentation beside
the image; ``label_value``, the value there that stands for class 1.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path, PurePosixPath

import numpy as np
import SimpleITK as sitk  # noqa: N813

from voxseq.base.errors import DataError
from voxseq.base.files import require_regular
from voxseq.catalogue import DataSet
from voxseq.data.layouts import nifti_tree
from voxseq.data.readers.files import unreadable
from voxseq.data.readers.mha import read_mha
from voxseq.data.readers.nrrd import read_nrrd
from voxseq.data.volume import Array, Entry, Scan, Volume

#: ITK's world is LPS+, that of NIfTI is RAS+.
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def scan(folder: Path, dataset: DataSet) -> Scan:
    """List the files whose path fits a pattern; see :class:`Scan`."""
    found = nifti_tree.scan(folder, dataset)
    name = dataset.options.get("label")
    if name is None:
        return found
    value = str(dataset.options.get("label_value", 1))
    entries = (
        dataclasses.replace(
            entry, label_path=PurePosixPath(entry.path).with_name(name).as_posix(), locator=value
        )
        for entry in found.entries
    )
    return dataclasses.replace(found, entries=tuple(entries))


def read_image(folder: Path, entry: Entry) -> Volume:
    """Read one file; ITK's (z, y, x) becomes (x, y, z)."""
    return _read(folder, entry.path)


def read_label(folder: Path, entry: Entry) -> Volume | None:
    """Read its segmentation: 0 and 1 where one other value stands for class 1."""
    if not entry.label_path:
        return None
    label = _read(folder, entry.label_path)
    one = int(entry.locator)
    if one == 1:
        return label
    strange = label.array[(label.array != 0) & (label.array != one)]
    if strange.size:
        raise DataError(
            f"{entry.label_path}: unknown label value {strange[0]}, expected 0 or {one}"
        )
    return dataclasses.replace(label, array=(label.array == one).astype(np.uint8))


def _read(folder: Path, path: str) -> Volume:
    is_nrrd = path.lower().endswith((".nrrd", ".nhdr"))
    try:
        require_regular(folder / path)
        if is_nrrd:
            image = read_nrrd(folder, path)
            return Volume(sitk.GetArrayFromImage(image).transpose(2, 1, 0), affine_of(image))
        array, affine = read_mha(folder, path)
    except DataError:
        raise
    except Exception as error:
        raise unreadable(folder, path, "NRRD" if is_nrrd else "MetaImage", error) from None
    return Volume(array, _LPS_TO_RAS @ affine)


def affine_of(image: sitk.Image) -> Array:
    """Affine (4, 4) of an ITK image in the RAS+ world of NIfTI."""
    affine = np.eye(4)
    directions = np.array(image.GetDirection()).reshape(3, 3)
    affine[:3, :3] = directions * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return _LPS_TO_RAS @ affine
