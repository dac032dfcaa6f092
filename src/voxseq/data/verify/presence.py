"""What of the data sets is in the user's folder, without reading a voxel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from voxseq import catalogue
from voxseq.base.errors import DataError, ResourceError
from voxseq.base.paths import files
from voxseq.catalogue import DataSet
from voxseq.data import layouts as adapters
from voxseq.data.examined import is_left_out

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

    The adapter lists the images; files are opened only where it needs their headers: of DICOM
    series that lie in folders of their own, one each.
    """
    folder = dataset.place(root)
    try:
        if folder is None or next(files(folder), None) is None:
            return Presence("absent")
        adapter = adapters.get(dataset.layout)
        scan = (adapter.look or adapter.scan)(folder, dataset)
    except (DataError, ResourceError) as error:
        return Presence("incomplete", reason=error.what)
    except OSError as error:
        return Presence("incomplete", reason=f"{folder}: cannot be read ({error.strerror})")
    found = len(scan)
    too_few = dataset.volumes is not None and found < dataset.volumes
    reason = f"{len(scan.absent)} images that its lists name are missing" if scan.absent else ""
    return Presence("incomplete" if too_few or reason else "present", found, reason)


def optional_sources(finished: Iterable[tuple[str, Path | None]], root: Path) -> Iterator[str]:
    """Yield one line for each optional source that is left out, or that arrived afterwards.

    Args:
        finished: name and folder of results of each optional data set; None while it is to do.
        root: the user's folder of data sets.
    """
    for name, results in finished:
        dataset = catalogue.get(name)
        is_here = next(files(root / dataset.folder), None) is not None
        if results is not None and not is_left_out(results):
            continue
        if results is not None and is_here:
            anew = "another value of data.release makes them anew"
            yield f"{dataset.name} is in {root} now, but the results are without it: {anew}"
        elif not is_here:
            unless = "unless it is fetched, " if results is None else ""
            yield f"{dataset.name} is not in {root}: {unless}pre-training does without it"
