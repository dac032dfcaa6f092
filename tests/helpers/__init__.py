"""What several test modules share: small studies, stores, broken files, places that fail."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

#: The checkout.
ROOT = Path(__file__).resolve().parents[2]


def shared_folder(factory: pytest.TempPathFactory) -> Path:
    """A temporary folder that all worker processes of a test run have in common."""
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
