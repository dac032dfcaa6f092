"""Whatever changes, a configuration is refused with the keys concerned, or does what it says."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.helpers.mutations import MISSING, Place, changed, mutations, smallest
from voxseq.base.errors import ConfigError, TrainingError
from voxseq.config import Config, load_config, write_resolved
from voxseq.config.load import validate
from voxseq.engine.workspace import Workspace
from voxseq.plan import build_plan

#: "  key.path: what is wrong"
PROBLEM = re.compile(r"  [A-Za-z_][\w.\-']*: \S")
#: Mutations whose study is done from the first phantom to the last figure.
DONE = int(os.environ.get("VOXSEQ_MUTATIONS", "12"))
QUIET = settings(
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def refused_or_valid(content: Any) -> Config | None:
    try:
        return validate(content, "mine.yaml")
    except ConfigError as error:
        header, *lines, _ = str(error).splitlines()
        assert header == "mine.yaml is not a valid configuration:"
        assert lines
        assert all(PROBLEM.match(line) or line.startswith("  and ") for line in lines), lines
        assert len(str(error)) < 6000
        str(error).encode()
        return None


@settings(QUIET, max_examples=300)
@given(st.lists(mutations(), min_size=1, max_size=2))
def test_a_mutation_is_refused_with_its_key_or_planned(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[Place, Any]]
) -> None:
    content = smallest()
    for path, value in changes:
        try:
            content = changed(content, path, value)
        except (IndexError, KeyError, TypeError):
            continue  # an earlier change took this place away
    config = refused_or_valid(content)
    if config is None:
        return
    assert build_plan(config).runs
    folder = tmp_path_factory.getbasetemp() / "resolved"
    path = write_resolved(config, folder)
    assert load_config(path) == config
    path.unlink()


def do_all(config: Config, folder: Path) -> None:
    plan = build_plan(config)
    workspace = Workspace(folder, plan)
    for job in plan.jobs.values():
        if not (folder / plan.marker(job)).exists():
            workspace.execute(job)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The smallest study, all of it done."""
    folder = tmp_path_factory.mktemp("smallest") / "x"
    folder.mkdir()
    do_all(validate(smallest(), "x"), folder)
    yield folder
    shutil.rmtree(folder)


def is_quick(path: Place, value: Any) -> bool:
    """Whether a study of this change is as small as the one before it."""
    if path[0] in ("scale", "results", "execution"):
        return False  # nothing is computed differently
    numbers = value if isinstance(value, list) else [value]
    return value is not MISSING and all(
        not isinstance(n, int | float) or abs(n) <= 64 or isinstance(n, float) for n in numbers
    )


@pytest.mark.faults
@settings(QUIET, max_examples=DONE)
@given(mutations().filter(lambda change: is_quick(*change)))
def test_what_is_accepted_runs_to_its_end(
    done: Path, tmp_path_factory: pytest.TempPathFactory, change: tuple[Place, Any]
) -> None:
    config = refused_or_valid(changed(smallest(), *change))
    if config is None:
        return
    folder = tmp_path_factory.mktemp("mutated") / "x"
    shutil.copytree(done, folder, symlinks=True)
    try:
        do_all(config, folder)
    except TrainingError:
        pass  # only the training itself can tell that its rate is too high
    finally:
        shutil.rmtree(folder)
