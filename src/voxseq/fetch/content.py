"""Whether what came can be the file at all: servers answer with pages where they should refuse."""

from __future__ import annotations

from pathlib import PurePosixPath

from voxseq.base.errors import DataError

#: Bytes at the start of an answer that are looked at.
START = 512
#: Endings of files that begin neither as a page nor as a message in JSON.
_BINARY = frozenset((".zip", ".npz", ".npy", ".tar", ".tgz", ".gz", ".nii", ".h5", ".hdf5"))
_BINARY |= {".mha", ".nrrd", ".dcm", ".png", ".jpg", ".tif", ".tiff"}
#: Endings of files that are pages.
_PAGES = frozenset((".html", ".htm", ".xhtml", ".xml", ".svg"))
_HTML = (b"<!doctype", b"<html", b"<head", b"<body", b"<script", b"<meta", b"<title")
#: Byte order marks, and the zeros of two-byte characters.
_AROUND = b"\xef\xbb\xbf\xff\xfe\x00 \t\r\n\f"
_DICOM = slice(128, 132)


def is_page(start: bytes, name: str) -> bool:
    """Whether an answer is a web page or a server's message instead of the file.

    Args:
        start: its first bytes.
        name: name of the file, which tells its type.
    """
    ending = PurePosixPath(name).suffix.lower()
    if ending in _PAGES or start[_DICOM] == b"DICM":
        return False
    text = start.lstrip(_AROUND).replace(b"\0", b"").lower()
    if ending in _BINARY:
        return text.startswith((b"<", b"{"))
    return text.startswith(_HTML)


def require_no_page(start: bytes, name: str, url: str) -> None:
    """Make sure that an answer is no page.

    Raises:
        DataError: it is one.
    """
    if is_page(start, name):
        raise DataError(
            f"{url}: an account page or another web page came instead of the file; it begins with "
            f"{start[:16]!r}",
            "open the address in a browser: it may ask for an account or a login, or the file has "
            "moved (`voxseq data show` names the publisher's page); then run the same command "
            "again",
        )


def require_content(start: bytes, size: int | None, url: str) -> None:
    """Make sure that something came, unless a size of 0 was stated.

    Raises:
        DataError: the file is empty.
    """
    if not start and size != 0:
        raise DataError(
            f"{url}: the file is empty: it is damaged or cut short",
            "run the same command again: it is fetched anew; when it stays so, look at the "
            "publisher's page (`voxseq data show` names it)",
        )
