"""One file of counts for all estimates."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.shared import shared_folder


@pytest.fixture(scope="session")
def counts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file in which all tests, of every worker process, keep what they have counted."""
    return shared_folder(tmp_path_factory) / "counts.json"
