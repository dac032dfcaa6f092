"""Paths that come from outside: from archives, buckets and the catalogue."""

from __future__ import annotations

import os
import re
from pathlib import PurePosixPath

from voxseq.base.errors import DataError
from voxseq.base.paths import is_junk

_DRIVE = re.compile(r"[A-Za-z]:")
#: Bytes of one name that common file systems allow.
LONGEST_NAME = 255
#: Bytes of a path below the data set's folder; the system allows 4,096 with all folders above it.
LONGEST_PATH = 2048
_SHOWN = 60


def safe_path(name: str, origin: str) -> PurePosixPath:
    """``name`` as a path that stays below the folder it is put into.

    Raises:
        DataError: it is absolute, climbs with "..", names a drive, is no plain path, or longer than
            file systems allow; ``origin`` says where it comes from.
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    strange = "\\" in name or "\0" in name or _DRIVE.match(name) is not None
    if strange or name.startswith("/") or ".." in parts:
        raise DataError(
            f"{origin}: the name {name!r} leads out of the data set's folder",
            "do not unpack this file by other means before its publisher has explained it",
        )
    _require_short(name, parts, origin)
    return PurePosixPath(*parts)


def _require_short(name: str, parts: list[str], origin: str) -> None:
    try:
        lengths = [len(os.fsencode(part)) for part in parts]
    except UnicodeEncodeError:
        raise _unfit(name, origin, "is no text") from None
    longest, total = max(lengths, default=0), sum(lengths) + len(parts)
    if longest > LONGEST_NAME:
        raise _unfit(
            name, origin, f"has a part of {longest} bytes, file systems allow {LONGEST_NAME}"
        )
    if total > LONGEST_PATH:
        raise _unfit(name, origin, f"has {total} bytes, at most {LONGEST_PATH} are allowed")


def _unfit(name: str, origin: str, reason: str) -> DataError:
    shown = name if len(name) <= _SHOWN else f"{name[:_SHOWN]}…"
    return DataError(
        f"{origin}: the name {shown!r} {reason}; nothing of it is used",
        "ask its publisher for shorter names, or unpack it by hand into the data set's folder",
    )


def is_left_out(path: PurePosixPath) -> bool:
    """Whether a path is a by-product of an operating system, which no data set needs."""
    return "__MACOSX" in path.parts or is_junk(path.name)
