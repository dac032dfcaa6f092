"""The studies that the scenarios start from, and one line for each scenario at the end."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.shared import made_once
from tests.helpers.study import Found, Study, checkout

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


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A checkout in which nothing was done. Not to be changed."""
    return Study(made_once(tmp_path_factory, "fresh-study", checkout))


@pytest.fixture(scope="session")
def finished(fresh: Study, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """One in which Snakemake did everything, recorded and committed. Not to be changed."""

    def make(target: Path) -> None:
        study = fresh.copy(target)
        study.run("snakemake")
        study.commit("everything done")

    return Study(made_once(tmp_path_factory, "finished-study", make))


@pytest.fixture
def study(finished: Study, tmp_path: Path) -> Study:
    """A finished study of one's own."""
    return finished.copy(tmp_path / "study")
