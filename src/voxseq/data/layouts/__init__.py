"""Readers of the layouts in which the data sets are published, one module a layout.

Each has ``scan(folder, dataset)``, which lists the images without reading voxels, and
``read_image(folder, entry)`` and ``read_label(folder, entry)``. A file that cannot be read is a
:class:`~voxseq.base.errors.DataError` that names it, relative to the data set's folder.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Protocol, cast

from voxseq.catalogue import DataSet
from voxseq.catalogue.model import LAYOUTS
from voxseq.data.volume import Entry, Scan, Volume

#: Modules of this package that read a layout.
NAMES = tuple(LAYOUTS)


class Adapter(Protocol):
    """What every layout's module offers."""

    def scan(self, folder: Path, dataset: DataSet) -> Scan:
        """List the images below ``folder``; raise DataError where the layout is not there."""
        ...

    def read_image(self, folder: Path, entry: Entry) -> Volume:
        """Read the voxels (X, Y, Z) of one image."""
        ...

    def read_label(self, folder: Path, entry: Entry) -> Volume | None:
        """Read its segmentation on the same grid; None where it has none."""
        ...


def get(name: str) -> Adapter:
    """The reader of the layout called ``name``; its libraries are loaded only now."""
    if name not in NAMES:
        raise ValueError(f"unknown layout {name!r}, expected one of {', '.join(NAMES)}")
    return cast(Adapter, importlib.import_module(f"voxseq.data.layouts.{name}"))
