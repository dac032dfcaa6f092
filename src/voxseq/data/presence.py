"""What of the data sets is in the user's folder, without reading a voxel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from voxseq.data import adapters
from voxseq.data.adapters.files import files
from voxseq.data.catalogue import DataSet
from voxseq.errors import DataError

State = Literal["absent", "present", "incomplete"]


@dataclass(frozen=True)
class Presence:
    """What a look at a data set's folder shows.

    Attributes:
        state: "absent" without any file; "incomplete" where the layout is not as published, or
            images that the publisher counts or lists are missing.
        found: images that the adapter lists; 0 where it finds no layout.
        reason: why the state is "incomplete", where the number of images does not tell; else "".
    """

    state: State
    found: int = 0
    reason: str = ""


def look(dataset: DataSet, root: Path | None) -> Presence:
    """Look for ``dataset`` below the data root, which need not exist.

    The adapter lists the images; files are opened only where it needs their headers, as for DICOM
    series that no path tells apart.
    """
    folder = None if root is None else root / dataset.folder
    if folder is None or next(files(folder), None) is None:
        return Presence("absent")
    try:
        scan = adapters.get(dataset.adapter).scan(folder, dataset)
    except DataError as error:
        return Presence("incomplete", reason=error.what)
    except OSError as error:
        return Presence("incomplete", reason=f"{folder}: cannot be read ({error.strerror})")
    found = len(scan.entries) + len(scan.rejected)
    too_few = dataset.volumes is not None and found < dataset.volumes
    reason = f"{len(scan.absent)} images that its lists name are missing" if scan.absent else ""
    return Presence("incomplete" if too_few or reason else "present", found, reason)
