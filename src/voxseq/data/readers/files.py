"""Reading the bytes of a file, and saying what is wrong with it."""

from __future__ import annotations

import io
import itertools
import math
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

import numpy as np

from voxseq.base.errors import DataError, ResourceError
from voxseq.base.failures import is_of_the_machine
from voxseq.base.files import named, read_text
from voxseq.base.lists import table
from voxseq.base.paths import NIFTI, dangling_links, ending_of, is_junk, is_text
from voxseq.data.volume import Array, Remark

#: More voxels than any image of a patient has: whole bodies in half millimetres are below.
LARGEST = 1 << 31
#: Most that deflate can pack: a file that promises more is damaged.
MOST_PACKED = 1100
#: Bytes that are read at a time.
_PIECE = 1 << 24


def check_size(path: str, shape: Sequence[int]) -> None:
    """Refuse an image before memory is taken for it.

    Raises:
        DataError: more than :data:`LARGEST` voxels.
    """
    count = math.prod(int(n) for n in shape)
    if count > LARGEST:
        promised = f"{count} voxels, shape {tuple(shape)}"
        raise damaged(path, f"its header promises {promised}, expected at most {LARGEST}")


def read_exactly(stream: IO[bytes], size: int, most: int) -> Array:
    """Read ``size`` bytes of voxels, piece by piece, as unsigned bytes.

    Raises:
        ValueError: there are fewer; more than ``most``, which the file can hold, take no memory.
    """
    if size > most:
        raise ValueError(f"expected {size} bytes of voxels, more than the file can hold")
    buffer = np.empty(size, np.uint8)
    done = 0
    while done < size:
        piece = buffer.data[done : done + _PIECE]
        got = cast(io.BufferedIOBase, stream).readinto(piece)
        if not got:
            raise ValueError(f"expected {size} bytes of voxels, got {done}")
        done += got
    return buffer


def stacked(planes: Iterable[tuple[str, Array]], count: int) -> Array:
    """Slices that are read one after the other, as one array (count, rows, columns).

    Its type is that of which all of them are part. Only one slice is in memory beside it.

    Args:
        planes: path and values (rows, columns) of each.
        count: number of them.

    Raises:
        DataError: they have different shapes, or are fewer.
    """
    array, done = np.empty((0, 0, 0)), 0
    for path, plane in planes:
        if not done:
            array = np.empty((count, *plane.shape), plane.dtype)
        if plane.shape != array.shape[1:]:
            shapes = f"{plane.shape}, the slices before it {array.shape[1:]}"
            raise damaged(path, f"slices of different shapes: it has {shapes}")
        kind = np.result_type(array, plane)
        if kind != array.dtype:
            array = array.astype(kind)
        array[done] = plane
        done += 1
    if done != count:
        raise DataError(f"{done} of {count} slices are there", "look for the others")
    return array


@contextmanager
def reading(folder: Path, path: str, kind: str) -> Iterator[None]:
    """Word whatever a library says of ``path`` in the block: each has many kinds of errors.

    Reports are versioned, so the message holds no absolute path, and is the same on every machine.
    A failure of the machine is no fault of the file, which must not be set aside for it.

    Raises:
        DataError: the file is missing, damaged or none of its ``kind``.
        ResourceError: the machine failed.
    """
    try:
        yield
    except (DataError, MemoryError):
        raise
    except Exception as error:
        said = " ".join(str(error).split()) or type(error).__name__
        said = said.replace(f"{folder}{os.sep}", "").replace(str(folder), ".")
        said = f"{type(error).__name__}: {said[:200]}"
        if is_of_the_machine(error):
            raise ResourceError(
                f"{folder / path}: cannot be read now ({said})",
                "look after memory, disk and permissions of this machine, then start again",
            ) from None
        if not (folder / path).exists():
            remedy = f"restore {path} or leave it out"
            raise DataError(f"{path}: the file does not exist", remedy) from None
        raise damaged(path, f"damaged, truncated or no {kind} file ({said})") from None


def nothing_found(
    folder: Path, expected: str, seen: Sequence[str] = (), *, own: bool = False
) -> DataError:
    """The error for a folder in which the layout was not found.

    Args:
        folder: of the data set.
        expected: what was looked for.
        seen: files there that may be the images under another name.
        own: whether the data set is one that the user declares.
    """
    lost = list(itertools.islice(dangling_links(folder), 3))
    shown = f"; there are {len(seen)} others, such as {', '.join(seen[:3])}" if seen else ""
    shown += f"; links that lead nowhere: {', '.join(lost)}" if lost else ""
    remedy = "check that the folder holds the data set as published, archives unpacked"
    if own:
        remedy = "correct folder, layout or options in data.sets; docs/own-data.md describes them"
    return DataError(f"{folder}: no image found; expected {expected}{shown}", remedy)


def damaged(path: Path | str, reason: str) -> DataError:
    """The error for a file whose content is not as published."""
    return DataError(f"{path}: {reason}", "compare it with its source, and correct it")


def dangling(folder: Path, read: Collection[str]) -> Iterator[Remark]:
    """Yield a remark on every link that leads nowhere, except those that readers will name.

    Args:
        folder: of the data set.
        read: paths of images and segmentations.
    """
    for path in dangling_links(folder):
        if path not in read:
            reason = f"the link leads nowhere, to {(folder / path).readlink()}"
            yield Remark(path, reason, "restore what it points to, or remove the link")


class Names:
    """Files below a folder by the name that a list gives them, each folder listed once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._listed: dict[str, dict[str, str]] = {}

    def below(self, place: str) -> list[str]:
        """Sorted names in the folder ``place``, without by-products; none where it is missing.

        Raises:
            ResourceError: the machine failed.
        """
        return sorted(name for key, name in self._names(place).items() if key == name)

    def find(self, path: str) -> str | None:
        """The file called ``path``, or the same with another ending; None where there is none.

        Endings may be in capitals, and those of NIfTI packed, unpacked or not given.

        Raises:
            ResourceError: the machine failed.
        """
        place, _, name = path.rpartition("/")
        names = self._names(place)
        ending = ending_of(name)
        stem, published = name.removesuffix(ending), ending.lower()
        others = NIFTI if published in ("", *NIFTI) else (published,)
        found = next((n for n in (name, *(stem + e for e in others)) if n in names), None)
        return None if found is None else (f"{place}/{names[found]}" if place else names[found])

    def _names(self, place: str) -> dict[str, str]:
        """Names in a folder, and the same by their ending in small letters."""
        if place not in self._listed:
            try:
                found = [path.name for path in named(self._folder / place, "*")]
            except NotADirectoryError:
                found = []
            listed = [name for name in found if is_text(name) and not is_junk(name)]
            spelled = {_small_ending(name): name for name in listed}
            self._listed[place] = {**spelled, **{name: name for name in listed}}
        return self._listed[place]


def _small_ending(name: str) -> str:
    ending = ending_of(name)
    return name.removesuffix(ending) + ending.lower()


def published_text(path: Path, absent: DataError) -> str:
    """Text of a list or table of a data set.

    Raises:
        DataError: it cannot be read; ``absent`` where it is not there.
        ResourceError: the machine failed.
    """
    try:
        return read_text(path)
    except FileNotFoundError:
        raise absent from None
    except (OSError, ValueError) as error:
        raise damaged(path, f"cannot be read ({error})") from None


def published_rows(path: Path, absent: DataError) -> list[list[str]]:
    """Rows of a table of a data set; see :func:`voxseq.base.lists.table`.

    Raises:
        DataError, ResourceError: as :func:`published_text`.
    """
    text = published_text(path, absent)
    try:
        return table(text)
    except ValueError as error:
        raise damaged(path, f"cannot be read ({error})") from None
