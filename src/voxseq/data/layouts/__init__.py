"""Readers of the layouts in which the data sets are published, one module per layout.

Each has ``scan(folder, dataset)``, which lists the images without reading voxels; where images are
no NIfTI files ``read_image(folder, entry)``; where there are segmentations ``read_label(folder,
entry)``; and where a scan opens every file ``look(folder, dataset)``. A file that cannot be read is
a :class:`~voxseq.base.errors.DataError` that names it, relative to the data set's folder.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from voxseq.catalogue import DataSet
from voxseq.catalogue.model import LAYOUTS
from voxseq.data.readers import nifti
from voxseq.data.readers.split_lists import divided
from voxseq.data.volume import Entry, Scan, Volume

#: Modules of this package that read a layout.
NAMES = tuple(LAYOUTS)


def _read_nifti(folder: Path, entry: Entry) -> Volume:
    return nifti.read(folder, entry.path)


def _no_label(_: Path, __: Entry) -> None:
    return None


@dataclass(frozen=True)
class Adapter:
    """The reader of one layout.

    Attributes:
        scan: lists the images below a folder; raises DataError where the layout is not there.
        read_image: reads the voxels (X, Y, Z) of one image, or (X, Y, Z, C) where its file has a
            fourth axis; see :func:`voxseq.data.channels.read_channels`.
        read_label: reads its segmentation on the same grid; None where it has none.
        look: a scan that opens few files, for counting; None where scan does.
    """

    scan: Callable[[Path, DataSet], Scan]
    read_image: Callable[[Path, Entry], Volume] = _read_nifti
    read_label: Callable[[Path, Entry], Volume | None] = _no_label
    look: Callable[[Path, DataSet], Scan] | None = None


def listed(dataset: DataSet, folder: Path) -> Scan:
    """The images of a data set, those of a user divided by their own list.

    Raises:
        DataError: the folder does not hold the layout, or the list cannot be used.
    """
    found = get(dataset.layout).scan(folder, dataset)
    return divided(found, folder, dataset) if dataset.own else found


def get(name: str) -> Adapter:
    """The reader of the layout called ``name``; its libraries are loaded only now."""
    if name not in NAMES:
        raise ValueError(f"unknown layout {name!r}, expected one of {', '.join(NAMES)}")
    module = importlib.import_module(f"voxseq.data.layouts.{name}")
    offered = ("scan", "read_image", "read_label", "look")
    return Adapter(**{part: getattr(module, part) for part in offered if hasattr(module, part)})
