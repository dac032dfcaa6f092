"""Paths from outside: of archives, buckets and the catalogue."""

from __future__ import annotations

import os
import re
from pathlib import PurePosixPath

from voxseq.base.errors import DataError
from voxseq.base.paths import is_junk

_DRIVE = re.compile(r"[A-Za-z]:")
#: Bytes of one name that common file systems allow.
_LONGEST_NAME = 255
#: Bytes of a path below the data set's folder; the system allows 4,096 with all folders above it.
_LONGEST_PATH = 2048
_SHOWN = 60


def safe_path(name: str, origin: str) -> PurePosixPath:
    """``name`` as a path that stays below its folder; ``origin`` is for messages.

    Raises:
        DataError: it is absolute, climbs with "..", names a drive, is no plain path, or longer than
            file systems allow.
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    strange = "\\" in name or "\0" in name or _DRIVE.match(name) is not None
    if strange or name.startswith("/") or ".." in parts:
        raise DataError(
            f"{origin}: the name {name!r} leads out of the data set's folder",
            "do not unpack this file by other means before its publisher has explained it",
        )
    reason = _unfit(parts)
    if reason:
        shown = name if len(name) <= _SHOWN else f"{name[:_SHOWN]}…"
        raise DataError(
            f"{origin}: the name {shown!r} {reason}; nothing of it is used",
            "ask its publisher for shorter names, or unpack it by hand into the data set's folder",
        )
    return PurePosixPath(*parts)


def _unfit(parts: list[str]) -> str:
    """Why file systems cannot hold a path; "" where they can."""
    try:
        lengths = [len(os.fsencode(part)) for part in parts]
    except UnicodeEncodeError:
        return "is no text"
    longest, total = max(lengths, default=0), sum(lengths) + len(parts)
    if longest > _LONGEST_NAME:
        return f"has a part of {longest} bytes, file systems allow {_LONGEST_NAME}"
    if total > _LONGEST_PATH:
        return f"has {total} bytes, at most {_LONGEST_PATH} are allowed"
    return ""


def is_left_out(path: PurePosixPath) -> bool:
    """Whether a path is a by-product of an operating system, which no data set needs."""
    return "__MACOSX" in path.parts or is_junk(path.name)
