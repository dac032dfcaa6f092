"""Paths that come from outside: from archives, buckets and the catalogue."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from voxseq.data.adapters.files import is_junk
from voxseq.errors import DataError

_DRIVE = re.compile(r"[A-Za-z]:")


def safe_path(name: str, origin: str) -> PurePosixPath:
    """``name`` as a path that stays below the folder it is put into.

    Raises:
        DataError: it is absolute, climbs with "..", names a drive, or is no plain path; ``origin``
            says where it comes from.
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    strange = "\\" in name or "\0" in name or _DRIVE.match(name) is not None
    if strange or name.startswith("/") or ".." in parts:
        raise DataError(
            f"{origin}: the name {name!r} leads out of the data set's folder",
            "do not unpack this file by other means before its publisher has explained it",
        )
    return PurePosixPath(*parts)


def is_left_out(path: PurePosixPath) -> bool:
    """Whether a path is a by-product of an operating system, which no data set needs."""
    return "__MACOSX" in path.parts or is_junk(path.name)
