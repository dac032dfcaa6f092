"""Unpacking archives of unknown origin.

Names must stay below the target, links and devices are refused, and members and bytes are limited
and counted while writing, because headers may lie. tarfile's ``data`` filter would let links inside
the folder pass and limits nothing; zipfile silently mends names. Nothing is unpacked in place: the
caller renames the finished folder, so a killed process leaves nothing that looks whole.
"""

from __future__ import annotations

import gzip
import lzma
import math
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Literal, NamedTuple, cast

from voxseq.base.errors import DataError, ResourceError
from voxseq.base.failures import read_named, write_named
from voxseq.fetch.meter import in_words, require_space
from voxseq.fetch.paths import is_left_out, safe_path

#: Most members of one archive; TotalSegmentator, the richest of the catalogue, has some 130,000.
MOST_MEMBERS = 500_000
#: Times the size of the archive that unpacking may write where the catalogue states no limit.
MOST_TIMES = 10
_CHUNK = 1 << 20
#: Longest single read of a tar: file headers, which are held in memory, are shorter.
_LONGEST_READ = 1 << 26
#: Longest single read of a zip, its table of contents: 256 bytes per member.
_LONGEST_TABLE = 256 * MOST_MEMBERS
_TAR_BLOCK = 512
#: Bytes that the headers of a tar may have in all, besides so many per member.
_HEADERS, _HEADER = 1 << 24, 8 * _TAR_BLOCK

#: Errors of the libraries on damaged archives; some of gzip's are OSErrors.
_DAMAGED = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError),
    *(OSError, ValueError, OverflowError, RuntimeError),
)
_KINDS = {0: "file", stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link"}


class _Member(NamedTuple):
    name: str
    kind: str
    size: int
    open: Callable[[], IO[bytes] | None]


def unpack(
    archive: Path,
    kind: Literal["zip", "tar"],
    target: Path,
    *,
    origin: str,
    limit: int | None = None,
    strip: str = "",
    check: Callable[[], None] = lambda: None,
) -> None:
    """Unpack into ``target``, which must not exist.

    Args:
        archive: the file.
        kind: its kind; a tar may be compressed by gzip.
        target: the new folder.
        origin: address of the archive, for messages.
        limit: most bytes that may be written; None: ten times the archive.
        strip: folder at the top whose content is taken without it.
        check: called between blocks; may raise to give up.

    Raises:
        DataError: the archive is damaged or holds a refused member.
        ResourceError: the disk is full.
    """
    budget = MOST_TIMES * archive.stat().st_size if limit is None else limit
    writer = _Writer(target, origin, budget, safe_path(strip, origin).parts, check)
    writer.folder(PurePosixPath())
    with _damage_named(archive, origin), archive.open("rb") as raw:
        members = _zip_members if kind == "zip" else _tar_members
        for number, member in enumerate(members(raw, archive, writer)):
            if number >= MOST_MEMBERS:
                raise _refusal(origin, f"holds more than {MOST_MEMBERS:,} members")
            writer.take(member)
    if not writer.files:
        raise DataError(f"{origin}: the archive holds no file", "obtain it again")


@dataclass
class _Writer:
    """Writes members below a folder and counts them."""

    target: Path
    origin: str
    budget: int
    strip: tuple[str, ...]
    check: Callable[[], None]
    files: int = 0
    bytes: int = 0

    def take(self, member: _Member) -> None:
        path = safe_path(member.name, self.origin)
        if is_left_out(path):
            # Not written, but unpacked on the way to the next one.
            self.count(member.size)
            return
        if member.kind in ("link", "device"):
            raise _refusal(self.origin, f"{member.name!r} is a {member.kind}")
        if path.parts[: len(self.strip)] == self.strip:
            path = PurePosixPath(*path.parts[len(self.strip) :])
        if member.kind == "folder":
            self.folder(path)
        elif path.parts:
            self._file(path, member)

    def folder(self, path: PurePosixPath) -> None:
        with self._place_named(path, f"{str(path)!r} is a file and a folder"):
            (self.target / path).mkdir(parents=True, exist_ok=True)

    def _file(self, path: PurePosixPath, member: _Member) -> None:
        self.folder(path.parent)
        place = self.target / path
        with self._place_named(path, f"{member.name!r} is in it twice"):
            file = place.open("xb")
        with write_named(place), file, cast(IO[bytes], member.open()) as source:
            while block := source.read(_CHUNK):
                self.count(len(block))
                file.write(block)
        self.files += 1

    def count(self, size: int) -> None:
        """Count unpacked bytes against the budget."""
        self.check()
        self.bytes += size
        if self.bytes > self.budget:
            raise _too_big(self.origin, self.budget)

    @contextmanager
    def _place_named(self, path: PurePosixPath, taken: str) -> Iterator[None]:
        """Raise a place that is ``taken`` already, or that the disk refuses, with its name."""
        place = self.target / path
        try:
            with write_named(place):
                yield
        except (FileExistsError, NotADirectoryError):
            raise _refusal(self.origin, taken) from None
        except OSError as error:
            raise ResourceError(
                f"{place}: cannot be written ({error.strerror})",
                "choose another place with --root or VOXSEQ_DATA",
            ) from None


@contextmanager
def _damage_named(archive: Path, origin: str) -> Iterator[None]:
    """Turn the errors of reading an archive into the user's."""
    try:
        with read_named(archive):
            yield
    except NotImplementedError as error:
        raise DataError(
            f"{origin}: {error}", "unpack this archive with 7-Zip into the data set's folder"
        ) from None
    except _DAMAGED as error:
        with archive.open("rb") as file:
            start = file.read(16)
        raise DataError(
            f"{origin}: the archive is damaged or cut short ({type(error).__name__}: {error}; it "
            f"begins with {start!r})",
            "run the same command again: it is fetched anew",
        ) from None


def _refusal(origin: str, reason: str) -> DataError:
    return DataError(
        f"{origin}: the archive {reason}; nothing of it is used",
        "do not unpack this file by other means before its publisher has explained it",
    )


def _too_big(origin: str, budget: int) -> DataError:
    return _refusal(origin, f"unpacks to more than the {in_words(budget)} it may")


class _Bounded:
    """A file of which no huge block is read into memory, as a false header may ask for.

    Args:
        file: the file.
        path: its path, for messages.
        longest: most bytes of one read.
        allowed: returns the bytes that may be read in all.
    """

    def __init__(
        self, file: IO[bytes], path: Path, longest: int, allowed: Callable[[], float]
    ) -> None:
        self._file = file
        self._path = path
        self._longest = longest
        self._allowed = allowed
        self._read = 0
        self.seek = file.seek
        self.tell = file.tell
        self.seekable = file.seekable

    def read(self, size: int = -1) -> bytes:
        if size > self._longest:
            raise tarfile.ReadError(f"a header of {size} bytes")
        # Here, because zipfile takes an error of the machine for a damaged archive.
        with read_named(self._path):
            block = self._file.read(size if size >= 0 else self._longest + 1)
        self._read += len(block)
        if len(block) > self._longest:
            raise tarfile.ReadError(f"a header of more than {self._longest} bytes")
        if self._read > self._allowed():
            raise tarfile.ReadError("headers without end")
        return block


def _zip_members(raw: IO[bytes], archive: Path, writer: _Writer) -> Iterator[_Member]:
    bounded = _Bounded(raw, archive, _LONGEST_TABLE, lambda: math.inf)
    with zipfile.ZipFile(cast(IO[bytes], bounded)) as file:
        total = sum(info.file_size for info in file.infolist())
        if total > writer.budget:
            raise _too_big(writer.origin, writer.budget)
        require_space(writer.target, total, f"unpacking {writer.origin}")
        for info in file.infolist():
            if info.flag_bits & 1:
                raise _refusal(writer.origin, f"is encrypted ({info.filename!r})")
            kind = _KINDS.get(stat.S_IFMT(info.external_attr >> 16), "device")
            if kind in ("file", "folder"):
                kind = "folder" if info.is_dir() else "file"
            yield _Member(info.filename, kind, info.file_size, partial(file.open, info))


def _tar_members(raw: IO[bytes], archive: Path, writer: _Writer) -> Iterator[_Member]:
    number = 0

    def allowed() -> int:
        return writer.budget + _HEADERS + _HEADER * number

    plain = raw
    if raw.read(2) == b"\x1f\x8b":
        plain = cast(IO[bytes], gzip.GzipFile(fileobj=raw))
    else:
        # Bytes with headers and padding.
        require_space(writer.target, archive.stat().st_size, f"unpacking {writer.origin}")
    raw.seek(0)
    stream = cast(IO[bytes], _Bounded(plain, archive, _LONGEST_READ, allowed))
    with tarfile.open(fileobj=stream, mode="r:") as file:
        while (info := file.next()) is not None:
            number += 1
            kind = "link" if info.issym() or info.islnk() else "folder" if info.isdir() else "file"
            if not (info.isreg() or info.isdir() or kind == "link"):
                kind = "device"
            yield _Member(info.name, kind, info.size, partial(file.extractfile, info))
        # tarfile takes the end of the file for the end of the archive, which is an empty block.
        stream.seek(file.offset)
        if stream.read(_TAR_BLOCK) != bytes(_TAR_BLOCK):
            raise tarfile.ReadError("it has no end")
