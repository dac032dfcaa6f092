"""Environment variables of launchers."""

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
#: Changes of torchrun's variables, None for one that is not set, and the one that is named.
IMPOSSIBLE: list[tuple[dict[str, str | None], str]] = [
    *(({n: odd}, f"{n} is .*, expected ") for n in TORCHRUN if n != "MASTER_ADDR" for odd in ODD),
    *(({n: None}, f"{n} is not set") for n in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")),
    *(({"WORLD_SIZE": None, n: ""}, f"{n} is ''") for n in ("RANK", "LOCAL_RANK")),
    ({"WORLD_SIZE": "0"}, "WORLD_SIZE"),
    ({"RANK": "4"}, "RANK"),
    ({"LOCAL_RANK": "2"}, "LOCAL_RANK"),
    ({"LOCAL_WORLD_SIZE": "3"}, "LOCAL_WORLD_SIZE"),
    ({"LOCAL_WORLD_SIZE": "0"}, "LOCAL_WORLD_SIZE"),
    ({"MASTER_PORT": "65536"}, "MASTER_PORT"),
    ({"MASTER_ADDR": ""}, "MASTER_ADDR"),
]


def launch(monkeypatch: pytest.MonkeyPatch, changes: dict[str, str | None]) -> None:
    for name, value in {**TORCHRUN, **changes}.items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("changes", "size"),
    [
        (dict.fromkeys(TORCHRUN), 1),
        ({}, 4),
        ({"LOCAL_WORLD_SIZE": None}, 4),
        ({"WORLD_SIZE": "1", "MASTER_PORT": ""}, 1),
    ],
)
def test_the_number_of_processes(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, str | None], size: int
) -> None:
    launch(monkeypatch, changes)
    assert world_size() == size


@pytest.mark.parametrize(("changes", "said"), IMPOSSIBLE)
def test_an_impossible_value_is_named(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, str | None], said: str
) -> None:
    launch(monkeypatch, changes)
    with pytest.raises(ConfigError, match=said) as caught:
        world_size()
    assert "torchrun" in caught.value.hint


@pytest.mark.parametrize("value", ["", "x"])
def test_a_job_ends_with_a_message(root: Path, tmp_path: Path, value: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(root / "src"), "WORLD_SIZE": value}
    params = str(root / "params.yaml")
    done = subprocess.run(
        [sys.executable, "-m", "voxseq", "job", "sequences", "all.s0", "--params", params],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "WORLD_SIZE" in done.stderr
    assert "Traceback" not in done.stderr
