"""Unpacking archives that nobody has vouched for.

Names must stay below the target, links and devices are refused, and the number of members and of
bytes is limited and counted while writing, because headers may lie. Nothing here is unpacked in
place: the caller renames the finished folder, so a killed process leaves nothing that looks whole.
"""

from __future__ import annotations

import gzip
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Literal, Protocol, cast

from voxseq.base.errors import DataError, ResourceError
from voxseq.base.failures import is_of_the_machine
from voxseq.fetch.ask import Stopped
from voxseq.fetch.disk import disk_error, read_error, require_space
from voxseq.fetch.meter import in_words
from voxseq.fetch.paths import is_left_out, safe_path

#: Most members of one archive; TotalSegmentator, the richest of the catalogue, has some 130,000.
MOST_MEMBERS = 500_000
#: Times the size of the archive that unpacking may write where the catalogue states no limit.
MOST_TIMES = 10
_CHUNK = 1 << 20
#: Longest single read of a tar: file headers, which are held in memory, are shorter.
_LONGEST_READ = 1 << 26
#: Longest single read of a zip, its table of contents: 256 bytes for each member.
_LONGEST_TABLE = 256 * MOST_MEMBERS
_TAR_BLOCK = 512
#: Bytes that the headers of a tar may have in all, besides so many for each member.
_HEADERS, _HEADER = 1 << 24, 8 * _TAR_BLOCK

Kind = Literal["zip", "tar"]
MemberKind = Literal["file", "folder", "link", "device"]


class _Announce(Protocol):
    """Told how much is about to be written, exactly or with headers and padding."""

    def __call__(self, size: int, *, exact: bool) -> None: ...


@dataclass(frozen=True)
class Unpacked:
    """What an archive held: files that were written, and their bytes."""

    files: int
    bytes: int


@dataclass(frozen=True)
class _Member:
    name: str
    kind: MemberKind
    size: int
    open: Callable[[], IO[bytes]]


def unpack(
    archive: Path,
    kind: Kind,
    target: Path,
    *,
    origin: str,
    limit: int | None = None,
    strip: str = "",
    stopped: Callable[[], bool] = lambda: False,
) -> Unpacked:
    """Unpack into ``target``, which must not exist.

    Args:
        archive: the file.
        kind: its kind; a tar may be compressed by gzip.
        target: the new folder.
        origin: address of the archive, for messages.
        limit: most bytes that may be written; None: ten times the archive.
        strip: folder at the top whose content is taken without it.
        stopped: asked between blocks whether to give up.

    Raises:
        DataError: the archive is damaged or holds what it must not.
        ResourceError: the disk is full.
    """
    budget = MOST_TIMES * archive.stat().st_size if limit is None else limit

    def announce(size: int, *, exact: bool) -> None:
        if exact and size > budget:
            raise _too_big(origin, budget)
        require_space(target, size, f"unpacking {origin}")

    members = _zip_members if kind == "zip" else _tar_members
    writer = _Writer(target, origin, budget, strip, stopped)
    writer.folder(PurePosixPath())
    with _reading(archive, origin):
        for number, member in enumerate(members(archive, origin, announce, budget)):
            if number >= MOST_MEMBERS:
                raise _refusal(origin, f"holds more than {MOST_MEMBERS:,} members")
            writer.take(member)
    if not writer.files:
        raise DataError(f"{origin}: the archive holds no file", "obtain it again")
    return Unpacked(writer.files, writer.bytes)


class _Writer:
    """Writes members below a folder and counts them."""

    def __init__(
        self, target: Path, origin: str, budget: int, strip: str, stopped: Callable[[], bool]
    ) -> None:
        self._target = target
        self._origin = origin
        self._budget = budget
        self._strip = safe_path(strip, origin).parts
        self._stopped = stopped
        self._left_out = 0
        self.files = 0
        self.bytes = 0

    def take(self, member: _Member) -> None:
        path = safe_path(member.name, self._origin)
        if is_left_out(path):
            # Not written, but unpacked on the way to the next one.
            self._left_out += member.size
            self._count(0)
            return
        if member.kind in ("link", "device"):
            raise _refusal(self._origin, f"{member.name!r} is a {member.kind}")
        if path.parts[: len(self._strip)] == self._strip:
            path = PurePosixPath(*path.parts[len(self._strip) :])
        if member.kind == "folder":
            self.folder(path)
        elif path.parts:
            self._file(path, member)

    def folder(self, path: PurePosixPath) -> None:
        try:
            (self._target / path).mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise _refusal(self._origin, f"{str(path)!r} is a file and a folder") from None
        except OSError as error:
            raise _Unwritable(disk_error(self._target / path, error)) from None

    def _file(self, path: PurePosixPath, member: _Member) -> None:
        self.folder(path.parent)
        destination = self._target / path
        with member.open() as source:
            file = self._created(destination, member)
            try:
                while block := source.read(_CHUNK):
                    self._count(len(block))
                    _write(file, block, destination)
            finally:
                _close(file, destination)
        self.files += 1

    def _created(self, destination: Path, member: _Member) -> IO[bytes]:
        try:
            return destination.open("xb")
        except FileExistsError:
            raise _refusal(self._origin, f"{member.name!r} is in it twice") from None
        except OSError as error:
            raise _Unwritable(disk_error(destination, error)) from None

    def _count(self, size: int) -> None:
        if self._stopped():
            raise Stopped
        self.bytes += size
        if self.bytes + self._left_out > self._budget:
            raise _too_big(self._origin, self._budget)


class _Unwritable(Exception):  # noqa: N818 - carries the error past the handler of reading errors
    def __init__(self, error: ResourceError) -> None:
        self.error = error


class _Unreadable(Exception):  # noqa: N818 - carries the error past the libraries
    def __init__(self, error: OSError) -> None:
        self.error = error


def _write(file: IO[bytes], block: bytes, destination: Path) -> None:
    try:
        file.write(block)
        file.flush()
    except OSError as error:
        raise _Unwritable(disk_error(destination, error)) from None


def _close(file: IO[bytes], destination: Path) -> None:
    try:
        # File systems over a network may say only now that there was no room.
        file.close()
    except OSError as error:
        raise _Unwritable(disk_error(destination, error)) from None


@contextmanager
def _reading(archive: Path, origin: str) -> Iterator[None]:
    """Turn the errors of reading an archive into the user's."""
    try:
        yield
    except _Unwritable as error:
        raise error.error from None
    except _Unreadable as error:
        raise read_error(archive, error.error) from None
    except MemoryError as error:
        raise read_error(archive, error) from None
    except NotImplementedError as error:
        raise DataError(
            f"{origin}: {error}", "unpack this archive with 7-Zip into the data set's folder"
        ) from None
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        zlib.error,
        lzma.LZMAError,
        EOFError,
        OSError,
        ValueError,
        OverflowError,
        RuntimeError,
    ) as error:
        if is_of_the_machine(error) or isinstance(error, PermissionError):
            raise read_error(archive, error) from None
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
        longest: most bytes of one read.
        allowed: asked how many bytes may be read in all; None for any number.
    """

    def __init__(
        self, file: IO[bytes], longest: int, allowed: Callable[[], int] | None = None
    ) -> None:
        self._file = file
        self._longest = longest
        self._allowed = allowed
        self._read = 0
        self.seek = file.seek
        self.tell = file.tell
        self.seekable = file.seekable

    def read(self, size: int = -1) -> bytes:
        if size > self._longest:
            raise tarfile.ReadError(f"a header of {size} bytes")
        try:
            block = self._file.read(size if size >= 0 else self._longest + 1)
        except OSError as error:
            if is_of_the_machine(error) or isinstance(error, PermissionError):
                # zipfile takes any other error of the system for a damaged archive.
                raise _Unreadable(error) from None
            raise
        self._read += len(block)
        if len(block) > self._longest:
            raise tarfile.ReadError(f"a header of more than {self._longest} bytes")
        if self._allowed is not None and self._read > self._allowed():
            raise tarfile.ReadError("headers without end")
        return block


def _zip_members(archive: Path, origin: str, announce: _Announce, _: int) -> Iterator[_Member]:
    with archive.open("rb") as raw:
        bounded = cast(IO[bytes], _Bounded(raw, _LONGEST_TABLE))
        with zipfile.ZipFile(bounded) as file:
            infos = file.infolist()
            announce(sum(info.file_size for info in infos), exact=True)
            for info in infos:
                if info.flag_bits & 1:
                    raise _refusal(origin, f"is encrypted ({info.filename!r})")
                yield _Member(
                    info.filename,
                    _zip_kind(info),
                    info.file_size,
                    lambda info=info: file.open(info),  # type: ignore[misc]
                )


def _zip_kind(info: zipfile.ZipInfo) -> MemberKind:
    mode = info.external_attr >> 16
    if stat.S_ISLNK(mode):
        return "link"
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "device"
    return "folder" if info.is_dir() else "file"


def _tar_members(archive: Path, origin: str, announce: _Announce, budget: int) -> Iterator[_Member]:
    number = 0

    def allowed() -> int:
        return budget + _HEADERS + _HEADER * number

    with archive.open("rb") as raw:
        is_gzip = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        if not is_gzip:
            announce(archive.stat().st_size, exact=False)
        plain = cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if is_gzip else raw
        stream = cast(IO[bytes], _Bounded(plain, _LONGEST_READ, allowed))
        with tarfile.open(fileobj=stream, mode="r:") as file:
            while (info := file.next()) is not None:
                number += 1
                yield _Member(
                    info.name,
                    _tar_kind(info),
                    info.size,
                    lambda info=info: _opened(file, info),  # type: ignore[misc]
                )
            # tarfile takes the end of the file for the end of the archive, which is an empty block.
            stream.seek(file.offset)
            if stream.read(_TAR_BLOCK) != bytes(_TAR_BLOCK):
                raise tarfile.ReadError("it has no end")


def _tar_kind(info: tarfile.TarInfo) -> MemberKind:
    if info.issym() or info.islnk():
        return "link"
    if info.isdir():
        return "folder"
    return "file" if info.isreg() else "device"


def _opened(file: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    opened = file.extractfile(info)
    if opened is None:
        raise tarfile.ReadError(f"{info.name} cannot be read")
    return opened
