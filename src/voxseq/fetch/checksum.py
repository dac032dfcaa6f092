"""Checksums of files, in the notation of the catalogue: ``md5:…``, ``sha256:…``, ``git:…``."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from voxseq.base.errors import ConfigError, IntegrityError
from voxseq.fetch.disk import reading

_BLOCK = 1 << 20
#: Algorithm behind each notation; a git blob is hashed with a header that states its length.
_ALGORITHMS = {"md5": "md5", "sha256": "sha256", "git": "sha1"}


def checksum(path: Path, kind: str, going: Callable[[], None] = lambda: None) -> str:
    """``kind:digest`` of a file.

    Args:
        path: the file.
        kind: "md5", "sha256" or "git".
        going: called between blocks; may raise to give up.

    Raises:
        ConfigError: ``kind`` is none of these.
        ResourceError: the file cannot be read.
    """
    if kind not in _ALGORITHMS:
        raise ConfigError(f"unknown checksum {kind!r}", f"choose from {', '.join(_ALGORITHMS)}")
    state = hashlib.new(_ALGORITHMS[kind], usedforsecurity=False)
    with reading(path), path.open("rb") as file:
        if kind == "git":
            state.update(f"blob {path.stat().st_size}\0".encode())
        while block := file.read(_BLOCK):
            state.update(block)
            going()
    return f"{kind}:{state.hexdigest()}"


def verify(
    path: Path,
    url: str,
    size: int | None,
    expected: str,
    going: Callable[[], None] = lambda: None,
) -> str:
    """Check a fetched file; returns its checksum, SHA-256 where none is ``expected``.

    Args:
        path: the file.
        url: where it comes from, for messages.
        size: bytes it must have; None where unknown.
        expected: checksum it must have; "" where unknown.
        going: called between blocks; may raise to give up.

    Raises:
        IntegrityError: it is another file.
        ResourceError: the file cannot be read.
    """
    found = path.stat().st_size
    if size is not None and found != size:
        raise IntegrityError(
            f"{url}: {found} bytes arrived, expected {size}",
            "try again later; when it stays so, its publisher has replaced the file",
        )
    seen = checksum(path, expected.partition(":")[0] or "sha256", going)
    if expected and seen != expected.lower():
        raise IntegrityError(
            f"{url}: the checksum is {seen}, expected {expected}",
            "try again later; when it stays so, its publisher has replaced the file: compare the "
            "catalogue's entry (`voxseq data show`) with the publisher's page",
        )
    return seen
