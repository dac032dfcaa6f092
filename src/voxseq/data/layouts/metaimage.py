"""MetaImage (.mha), as STOIC publishes it, and NRRD, as the left-atrium challenge does.

Options: ``patterns``, as for NIfTI trees; ``label``, name of the file with the segmentation beside
the image; ``label_value``, the value there that stands for class 1.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path, PurePosixPath

import numpy as np

from voxseq.base.errors import DataError
from voxseq.base.paths import without_ending
from voxseq.catalogue import DataSet
from voxseq.data.layouts import nifti_tree
from voxseq.data.readers import itk
from voxseq.data.readers.files import Names
from voxseq.data.volume import Entry, Scan, Volume


def scan(folder: Path, dataset: DataSet) -> Scan:
    """List the files whose path fits a pattern; see :class:`Scan`."""
    name = dataset.options.get("label")
    if name is None:
        return nifti_tree.scan(folder, dataset)
    found = nifti_tree.scan(folder, dataset, rf"(?:^|/){re.escape(without_ending(name))}\.\w+$")
    value = str(dataset.options.get("label_value", 1))
    names = Names(folder)
    entries = []
    for entry in found.entries:
        label = PurePosixPath(entry.path).with_name(name).as_posix()
        label = names.find(label) or label
        entries.append(dataclasses.replace(entry, label_path=label, locator=value))
    return dataclasses.replace(found, entries=tuple(entries))


def read_image(folder: Path, entry: Entry) -> Volume:
    """Read one file; ITK's (z, y, x) becomes (x, y, z)."""
    return itk.read(folder, entry.path)


def read_label(folder: Path, entry: Entry) -> Volume | None:
    """Read an image's segmentation: 0 and 1 where one other value stands for class 1."""
    if not entry.label_path:
        return None
    label = itk.read(folder, entry.label_path)
    one = int(entry.locator)
    if one == 1:
        return label
    strange = label.array[(label.array != 0) & (label.array != one)]
    if strange.size:
        raise DataError(
            f"{entry.label_path}: unknown label value {strange[0]}, expected 0 or {one}"
        )
    return dataclasses.replace(label, array=(label.array == one).astype(np.uint8))
