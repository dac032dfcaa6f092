"""Moving folders of results."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from voxseq.folders import move, remove


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner/file").write_text("x")
    (folder / "link").symlink_to(folder / "inner/file")
    return folder


def test_move_replaces_what_was_there(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "deep/target"
    (target / "old").mkdir(parents=True)
    move(source, target)
    assert not source.exists()
    assert sorted(p.name for p in target.iterdir()) == ["inner", "link"]


def test_move_to_another_disk(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, refused = os.replace, []

    def replace(old: Any, new: Any) -> None:
        if Path(old) == source:
            refused.append(old)
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        real(old, new)

    monkeypatch.setattr(os, "replace", replace)
    (tmp_path / ".target.tmp").mkdir()
    move(source, tmp_path / "target")
    assert refused
    assert not source.exists()
    assert (tmp_path / "target/inner/file").read_text() == "x"
    assert (tmp_path / "target/link").is_symlink()
    assert not (tmp_path / ".target.tmp").exists()


def test_other_failures_of_a_move_are_not_hidden(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replace(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(OSError, match="No space"):
        move(source, tmp_path / "target")
    assert source.exists()


def test_remove_of_nothing(tmp_path: Path) -> None:
    remove(tmp_path / "nothing")
