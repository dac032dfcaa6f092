"""Whether a file that arrived is the expected one: size, checksum, and no web page."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from voxseq.base.errors import ConfigError, DataError, IntegrityError
from voxseq.base.failures import read_named

_BLOCK = 1 << 20
#: Algorithm of each notation; a git blob is hashed with a header that states its length.
_ALGORITHMS = {"md5": "md5", "sha256": "sha256", "git": "sha1"}
#: Bytes at the start of an answer that are looked at.
_START = 512
#: Endings of files that begin neither as a page nor as a message in JSON.
_BINARY = {".zip", ".npz", ".npy", ".tar", ".tgz", ".gz", ".nii", ".h5", ".hdf5"}
_BINARY |= {".mha", ".nrrd", ".dcm", ".png", ".jpg", ".tif", ".tiff"}
#: Endings of files that are pages.
_PAGES = {".html", ".htm", ".xhtml", ".xml", ".svg"}
_HTML = (b"<!doctype", b"<html", b"<head", b"<body", b"<script", b"<meta", b"<title")
#: Byte order marks, and the zeros of two-byte characters.
_AROUND = b"\xef\xbb\xbf\xff\xfe\x00 \t\r\n\f"
_DICOM = slice(128, 132)
#: Next step for another file than the expected one.
REPLACED = "try again later; when it stays so, its publisher has replaced the file"


def checksum(path: Path, kind: str, check: Callable[[], None] = lambda: None) -> str:
    """``kind:digest`` of a file, in the notation of the catalogue: "md5", "sha256" or "git".

    ``check`` is called between blocks and may raise to give up.

    Raises:
        ConfigError: ``kind`` is none of these.
        ResourceError: the file cannot be read.
    """
    if kind not in _ALGORITHMS:
        raise ConfigError(f"unknown checksum {kind!r}", f"choose from {', '.join(_ALGORITHMS)}")
    state = hashlib.new(_ALGORITHMS[kind], usedforsecurity=False)
    with read_named(path), path.open("rb") as file:
        if kind == "git":
            state.update(f"blob {path.stat().st_size}\0".encode())
        while block := file.read(_BLOCK):
            state.update(block)
            check()
    return f"{kind}:{state.hexdigest()}"


@dataclass(frozen=True)
class Remote:
    """An address with the facts its content must fit.

    Attributes:
        url: the address.
        size: bytes; None where unknown.
        checksum: its checksum; "" where unknown.
        name: name of the file, which tells its type; "": as in the address.
        most: bytes that it cannot exceed where ``size`` is unknown; None where nobody says.
    """

    url: str
    size: int | None = None
    checksum: str = ""
    name: str = ""
    most: int | None = None

    def verify(self, path: Path, check: Callable[[], None]) -> str:
        """Check a whole file; returns its checksum, SHA-256 where none is known.

        Raises:
            IntegrityError: it is another file.
            DataError: it is a page, or empty.
            ResourceError: the file cannot be read.
        """
        with read_named(path), path.open("rb") as file:
            start = file.read(_START)
        found, seen, error = path.stat().st_size, "", None
        if self.size not in (None, found):
            error = IntegrityError(
                f"{self.url}: {found} bytes arrived, expected {self.size}", REPLACED
            )
        else:
            seen = checksum(path, self.checksum.partition(":")[0] or "sha256", check)
            if self.checksum and seen != self.checksum.lower():
                error = IntegrityError(
                    f"{self.url}: the checksum is {seen}, expected {self.checksum}",
                    f"{REPLACED}: compare the catalogue's entry (`voxseq data show`) with the "
                    "publisher's page",
                )
        if error or not self.checksum:
            self.require_no_page(start)
        if error:
            raise error
        if not start and not self.checksum and self.size != 0:
            raise DataError(
                f"{self.url}: the file is empty: it is damaged or cut short",
                "run the same command again: it is fetched anew; when it stays so, look at the "
                "publisher's page (`voxseq data show` names it)",
            )
        return seen

    def require_no_page(self, start: bytes) -> None:
        """Raise DataError when a file that begins with ``start`` is a page or a message instead.

        Servers answer so where they should refuse.
        """
        name = self.name or PurePosixPath(urlsplit(self.url).path).name
        ending = PurePosixPath(name).suffix.lower()
        if ending in _PAGES or start[_DICOM] == b"DICM":
            return
        text = start[:_START].lstrip(_AROUND).replace(b"\0", b"").lower()
        if text.startswith((b"<", b"{") if ending in _BINARY else _HTML):
            raise DataError(
                f"{self.url}: an account page or another web page came instead of the file; it "
                f"begins with {start[:16]!r}",
                "open the address in a browser: it may ask for an account or a login, or the file "
                "has moved (`voxseq data show` names the publisher's page); then run the same "
                "command again",
            )
