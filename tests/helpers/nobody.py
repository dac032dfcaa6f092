"""Doing things without the rights of root, which may read every file."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NOBODY = 65534


@contextmanager
def as_nobody() -> Iterator[None]:
    """The user is nobody for the system, where it was root."""
    was = os.geteuid()
    if was == 0:
        os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(was)


@contextmanager
def open_folder() -> Iterator[Path]:
    """Yield a folder that everybody may list: those of pytest are private."""
    with tempfile.TemporaryDirectory(prefix="voxseq-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        yield Path(name)
