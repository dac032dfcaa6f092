"""The studies that the scenarios start from, and one line for each scenario at the end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers import shared_folder
from tests.helpers.study import Found, Study, checkout
from voxseq.base.locks import exclusive

_FOUND = pytest.StashKey[list[tuple[int, str]]]()


@pytest.fixture
def found(request: pytest.FixtureRequest) -> Found:
    """Say what a scenario did and found; printed when all tests are done."""
    lines = request.config.stash.setdefault(_FOUND, [])
    return lambda number, line: lines.append((number, line))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    lines = config.stash.get(_FOUND, [])
    if lines:
        terminalreporter.section("the engines agree")
    for number, line in sorted(lines):
        terminalreporter.line(f"scenario {number}: {line}")


def _made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Study:
    """A study that one of the worker processes makes for all of them."""
    base = shared_folder(factory)
    made = base / name / "made"
    with exclusive(base / f"{name}.lock", f"making the {name} study"):
        if not made.exists():
            made.parent.mkdir()
            make(made.parent / "study")
            made.touch()
    return Study(made.parent / "study")


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A checkout in which nothing was done. Not to be changed."""
    return _made_once(tmp_path_factory, "fresh", checkout)


@pytest.fixture(scope="session")
def finished(fresh: Study, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """One in which Snakemake did everything, recorded and committed. Not to be changed."""

    def make(target: Path) -> None:
        study = fresh.copy(target)
        study.run("snakemake")
        study.commit("everything done")

    return _made_once(tmp_path_factory, "finished", make)


@pytest.fixture
def study(finished: Study, tmp_path: Path) -> Study:
    """A finished study of one's own."""
    return finished.copy(tmp_path / "study")
