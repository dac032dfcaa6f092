"""Fixtures that several test modules share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.helpers import ROOT

# A busy machine is no failure: examples have no time limit.
settings.register_profile(
    "voxseq", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
settings.load_profile("voxseq")

#: Fixtures that take long to make.
_EXPENSIVE = {"fresh", "finished", "prepared", "straight", "complete"}


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def realdata() -> Path:
    """Folder of real volumes; the test is skipped where there is none."""
    folder = Path(os.environ.get("VOXSEQ_REALDATA", ROOT / "../shared/realdata"))
    if not folder.is_dir():
        pytest.skip(f"no real volumes: {folder} is not a folder (set VOXSEQ_REALDATA)")
    return folder.resolve()


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of reference values of the published code; skipped where there is none."""
    folder = Path(os.environ.get("VOXSEQ_GOLDEN", ROOT / "../shared/golden"))
    if not folder.is_dir():
        pytest.skip(f"no reference values: {folder} is not a folder (set VOXSEQ_GOLDEN)")
    return folder.resolve()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the long tests of faults and of the engines' scenarios, which `make test` leaves out.

    Tests that wait for an expensive fixture come first, then those that are slow, so that both
    worker processes, to which files are handed out in this order, end at about the same time. The
    finished study is made for the first module that needs it; the others follow when it is there.
    """

    def rank(item: pytest.Item) -> int:
        needed = set(getattr(item, "fixturenames", ()))
        if "finished" in needed:
            return 0 if item.path.name == "test_engines.py" else 2
        if not _EXPENSIVE.isdisjoint(needed):
            return 1
        return 3 if item.get_closest_marker("slow") else 4

    for item in items:
        is_scenario = item.path.name.startswith("test_scenario_")
        if is_scenario or (item.path.parent.name == "faults" and item.get_closest_marker("slow")):
            item.add_marker(pytest.mark.faults)
    items.sort(key=rank)
