"""What launchers say in environment variables."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from voxseq.base.errors import ConfigError
from voxseq.training.launched import world_size

TORCHRUN = {
    "WORLD_SIZE": "4",
    "RANK": "3",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29500",
}
ODD = ("", "x", "-1", "0.5", "²", "1_0", " 2", "9" * 5000, "None")


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_one_process_where_nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)
    assert world_size() == 1


def test_what_torchrun_sets(launched: pytest.MonkeyPatch) -> None:
    assert world_size() == 4
    launched.delenv("LOCAL_WORLD_SIZE")
    assert world_size() == 4


def test_a_single_process_needs_no_more(launched: pytest.MonkeyPatch) -> None:
    launched.setenv("WORLD_SIZE", "1")
    launched.setenv("MASTER_PORT", "")
    assert world_size() == 1


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK"])
def test_ranks_are_read_by_libraries_in_a_single_process_too(
    launched: pytest.MonkeyPatch, name: str
) -> None:
    launched.delenv("WORLD_SIZE")
    launched.setenv(name, "")
    with pytest.raises(ConfigError, match=f"{name} is ''"):
        world_size()


@pytest.mark.parametrize("value", ODD)
@pytest.mark.parametrize("name", sorted(TORCHRUN.keys() - {"MASTER_ADDR"}))
def test_an_impossible_value_is_named(launched: pytest.MonkeyPatch, name: str, value: str) -> None:
    launched.setenv(name, value)
    with pytest.raises(ConfigError, match=rf"{name} is .*, expected ") as caught:
        world_size()
    assert "torchrun" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WORLD_SIZE", "0"),
        ("RANK", "4"),
        ("LOCAL_RANK", "2"),
        ("LOCAL_WORLD_SIZE", "3"),
        ("LOCAL_WORLD_SIZE", "0"),
        ("MASTER_PORT", "65536"),
        ("MASTER_ADDR", ""),
    ],
)
def test_values_that_do_not_fit_each_other(
    launched: pytest.MonkeyPatch, name: str, value: str
) -> None:
    launched.setenv(name, value)
    with pytest.raises(ConfigError, match=name):
        world_size()


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"])
def test_what_is_missing_is_named(launched: pytest.MonkeyPatch, name: str) -> None:
    launched.delenv(name)
    with pytest.raises(ConfigError, match=f"{name} is not set"):
        world_size()


@pytest.mark.parametrize("value", ["", "x"])
def test_a_job_ends_with_a_message(root: Path, tmp_path: Path, value: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(root / "src"), "WORLD_SIZE": value}
    params = str(root / "params.yaml")
    done = subprocess.run(
        [sys.executable, "-m", "voxseq", "run", "sequences", "all", "--params", params],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "WORLD_SIZE" in done.stderr
    assert "Traceback" not in done.stderr
