"""Moving folders of results."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from voxseq.base.errors import ResourceError
from voxseq.base.folders import move, remove


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


@pytest.fixture
def another_disk(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be renamed out of the source's disk."""
    real = os.replace

    def replace(old: Any, new: Any) -> None:
        if Path(old) == source:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        real(old, new)

    monkeypatch.setattr(os, "replace", replace)


@pytest.mark.usefixtures("another_disk")
def test_move_to_another_disk(source: Path, tmp_path: Path) -> None:
    (tmp_path / ".target.tmp").mkdir()
    move(source, tmp_path / "target")
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


def test_what_was_there_stays_when_the_new_cannot_be_put_in_place(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, real, count = tmp_path / "target", os.replace, iter(range(9))
    (target / "old").mkdir(parents=True)

    def fail_second(old: Any, new: Any) -> None:
        if next(count) == 1:
            raise OSError(errno.EIO, "Input/output error", str(old))
        real(old, new)

    monkeypatch.setattr(os, "replace", fail_second)
    with pytest.raises(OSError, match="Input/output"):
        move(source, target)
    assert (source / "inner/file").read_text() == "x"
    assert [p.name for p in target.iterdir()] == ["old"]
    assert not (tmp_path / ".target.old.tmp").exists()


@pytest.mark.usefixtures("another_disk")
def test_a_copy_that_fails_in_the_middle_names_the_file(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "target"
    (target / "old").mkdir(parents=True)

    def fail(*_: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copy2", fail)
        with pytest.raises(ResourceError, match=r"inner/file: cannot be read"):
            move(source, target)
    assert [p.name for p in target.iterdir()] == ["old"]
    assert (source / "inner/file").exists()
    move(source, target)
    assert sorted(p.name for p in target.iterdir()) == ["inner", "link"]
    assert [p.name for p in tmp_path.iterdir()] == ["target"]


def test_remove_of_nothing(tmp_path: Path) -> None:
    remove(tmp_path / "nothing")
