"""Finding files below a data set's folder, and names that stay inside it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

from voxseq.base.errors import DataError, ResourceError
from voxseq.base.failures import read_named

#: By-products of operating systems in many published archives.
_JUNK_FOLDERS, _JUNK_FILES = {"__MACOSX"}, {".DS_Store", "Thumbs.db"}
#: Bytes that the name of a file may have.
_NAME = 255
#: Endings of NIfTI files, packed or not; names may have them in capitals.
NIFTI = (".nii.gz", ".nii")
#: Endings of files with an image that one of the readers, or another program, may read.
IMAGES = (*NIFTI, ".mha", ".nrrd", ".mhd", ".nhdr", ".hdr", ".img")
_ENDINGS = (*IMAGES, ".h5", ".npz", ".npy", ".png", ".dcm", ".gz", ".zip")


def ending_of(name: str, endings: Sequence[str] = _ENDINGS) -> str:
    """The ending of a file's name as it is written; "" where it is none of ``endings``."""
    lower = name.lower()
    known = next((ending for ending in endings if lower.endswith(ending)), "")
    return name[len(name) - len(known) :]


def without_ending(name: str) -> str:
    """The name of a file without the ending of an image or a table of images."""
    return name.removesuffix(ending_of(name))


def is_junk(name: str) -> bool:
    """Whether a file is a by-product of an operating system, such as ``._image.nii.gz``."""
    return name.startswith("._") or name in _JUNK_FILES


def walk(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield (relative folder, sorted file names) of every folder below, in sorted order.

    Links to folders are followed, each real folder once, because data sets are often linked from
    other disks. The top is "". Names that are not text in the file system's encoding are left out:
    no table could hold them. So are pipes, devices and sockets, which no reader may open.
    """
    for place, _, names in _walk(folder):
        relative = Path(place).relative_to(folder).as_posix()
        yield (
            "" if relative == "." else relative,
            sorted(n for n in names if not is_junk(n) and is_text(n) and _is_file(place, n)),
        )


def _walk(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """As :func:`os.walk`, in sorted order and each real folder once."""

    def refuse(error: OSError) -> None:
        """Raise the error of a folder that would seem empty; nothing where the top is missing."""
        place = Path(error.filename)
        with suppress(OSError), read_named(place):
            raise error
        if place != folder:
            raise ResourceError(
                f"{place}: has vanished while {folder} was listed",
                "wait until nobody writes there, then start again",
            )

    seen: set[str] = set()
    for place, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(f for f in folders if f not in _JUNK_FOLDERS and is_text(f))
        yield place, folders, names


def files(folder: Path) -> Iterator[str]:
    """Yield the path of every file below ``folder``, relative and with forward slashes."""
    for place, names in walk(folder):
        for name in names:
            yield f"{place}/{name}" if place else name


def _is_file(place: str, name: str) -> bool:
    """Whether it is a file, or a link that leads nowhere, which its reader names."""
    path = Path(place, name)
    with read_named(path):
        return path.is_file() or not path.exists()


def dangling_links(folder: Path) -> Iterator[str]:
    """Yield the relative path of every link below ``folder`` that leads nowhere, sorted."""
    for place, folders, names in _walk(folder):
        with read_named(Path(place)), os.scandir(place) as items:
            links = {item.name for item in items if item.is_symlink()}
        for path in (Path(place, name) for name in sorted(links.intersection((*folders, *names)))):
            with read_named(path):
                if not path.exists():
                    yield path.relative_to(folder).as_posix()


def is_text(name: str) -> bool:
    """Whether a name is text in the file system's encoding, which any table can hold."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def first_match(patterns: Sequence[str], path: str) -> tuple[int, re.Match[str]] | None:
    """Index and match of the first pattern that describes the whole ``path``."""
    for index, pattern in enumerate(patterns):
        match = re.fullmatch(pattern, path)
        if match:
            return index, match
    return None


def inside(path: str, origin: str) -> str:
    """``path`` as a relative path below the data set's folder.

    Raises:
        DataError: it is absolute or leads out of the folder; ``origin`` names who says so.
    """
    pure = PurePosixPath(path.replace("\\", "/"))
    parts = [part for part in pure.parts if part != "."]
    if pure.is_absolute() or ".." in parts or not parts:
        raise DataError(
            f"{origin}: {path[:80]!r} leads out of the data set's folder", "correct that entry"
        )
    if "\0" in path or max(len(part.encode("utf-8", "replace")) for part in parts) > _NAME:
        raise DataError(f"{origin}: {path[:80]!r} is no name of a file", "correct that entry")
    return "/".join(parts)


def plain(name: str) -> str:
    """``name`` with slashes escaped, so that it stays one part of a volume's name."""
    return name.replace("%", "%25").replace("/", "%2F")
