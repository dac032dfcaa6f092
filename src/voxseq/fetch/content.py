"""Whether a file that arrived is the expected one: size, checksum, and no web page.

Checksums are in the notation of the catalogue: ``md5:…``, ``sha256:…``, ``git:…``. Servers answer
with pages where they should refuse.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

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
    """``kind:digest`` of a file.

    Args:
        path: the file.
        kind: "md5", "sha256" or "git".
        check: called between blocks; may raise to give up.

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


def verify(
    path: Path,
    url: str,
    name: str,
    size: int | None,
    expected: str,
    check: Callable[[], None] = lambda: None,
) -> str:
    """Check a fetched file; returns its checksum, SHA-256 where none is ``expected``.

    Args:
        path: the file.
        url: its address, for messages.
        name: a name with the ending of its type.
        size: bytes it must have; None where unknown.
        expected: checksum it must have; "" where unknown.
        check: called between blocks; may raise to give up.

    Raises:
        IntegrityError: it is another file.
        DataError: it is a page, or empty.
        ResourceError: the file cannot be read.
    """
    with read_named(path), path.open("rb") as file:
        start = file.read(_START)
    found = path.stat().st_size
    if size is not None and found != size:
        require_no_page(start, name, url)
        raise IntegrityError(f"{url}: {found} bytes arrived, expected {size}", REPLACED)
    seen = checksum(path, expected.partition(":")[0] or "sha256", check)
    if expected and seen != expected.lower():
        require_no_page(start, name, url)
        raise IntegrityError(
            f"{url}: the checksum is {seen}, expected {expected}",
            f"{REPLACED}: compare the catalogue's entry (`voxseq data show`) with the publisher's "
            "page",
        )
    if not expected:
        require_no_page(start, name, url)
        _require_content(start, size, url)
    return seen


def require_no_page(start: bytes, name: str, url: str) -> None:
    """Raise DataError when a file that begins with ``start`` is a web page."""
    if _is_page(start[:_START], name):
        raise DataError(
            f"{url}: an account page or another web page came instead of the file; it begins with "
            f"{start[:16]!r}",
            "open the address in a browser: it may ask for an account or a login, or the file has "
            "moved (`voxseq data show` names the publisher's page); then run the same command "
            "again",
        )


def _is_page(start: bytes, name: str) -> bool:
    """Whether an answer is a web page or a server's message instead of the file ``name``."""
    ending = PurePosixPath(name).suffix.lower()
    if ending in _PAGES or start[_DICOM] == b"DICM":
        return False
    text = start.lstrip(_AROUND).replace(b"\0", b"").lower()
    return text.startswith((b"<", b"{") if ending in _BINARY else _HTML)


def _require_content(start: bytes, size: int | None, url: str) -> None:
    """Raise DataError for an empty file, unless a size of 0 was stated."""
    if not start and size != 0:
        raise DataError(
            f"{url}: the file is empty: it is damaged or cut short",
            "run the same command again: it is fetched anew; when it stays so, look at the "
            "publisher's page (`voxseq data show` names it)",
        )
