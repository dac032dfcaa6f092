"""What the worker processes of a test run have in common."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from voxseq.base.locks import exclusive


def shared_folder(factory: pytest.TempPathFactory) -> Path:
    """A temporary folder that all worker processes have in common."""
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that one of the processes makes for all of them. Not to be changed.

    Args:
        factory: pytest's fixture ``tmp_path_factory``.
        name: no other folder may have it.
        make: gets the path of the folder, which is not there yet.
    """
    base = shared_folder(factory) / name
    with exclusive(base.with_name(f"{name}.lock"), f"making {name}"):
        if not (base / "made").exists():
            base.mkdir()
            make(base / "content")
            (base / "made").touch()
    return base / "content"
