"""A tiny study whose runs do almost nothing, and the same with all of them done."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.tiny_study import Actions, do_all, install, tiny_plan
from voxseq.engine.workspace import Workspace


@pytest.fixture
def actions(monkeypatch: pytest.MonkeyPatch) -> Actions:
    """What stands for the stage functions."""
    return install(monkeypatch)


@pytest.fixture
def empty(tmp_path: Path, actions: Actions) -> Workspace:
    """A workspace in which nothing is done."""
    return Workspace(tmp_path, tiny_plan())


@pytest.fixture
def workspace(empty: Workspace, actions: Actions) -> Workspace:
    """One in which everything is done; what is done from now on is counted anew."""
    do_all(empty)
    actions.done.clear()
    return empty
