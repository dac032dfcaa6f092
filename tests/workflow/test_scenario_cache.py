"""Scenario 10: every way in which DVC may link results to its cache."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.study import Study

pytestmark = [pytest.mark.slow, pytest.mark.workflow]

LINKS = ("hardlink", "symlink", "reflink", "copy")


def can_clone(folder: Path) -> bool:
    """Whether the file system shares the content of copies."""
    (folder / "probe").write_text("x")
    words = ["cp", "--reflink=always", str(folder / "probe"), str(folder / "probe2")]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def assert_cache_is_whole(study: Study) -> int:
    """Every file of the cache has the content that its name says; returns how many there are."""
    paths = [p for p in (study.root / ".dvc/cache/files/md5").glob("*/*") if p.is_file()]
    for path in paths:
        name = path.parent.name + path.name.removesuffix(".dir")
        assert hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() == name, path
    return len(paths)


@pytest.mark.parametrize("link", LINKS)
def test_links_to_the_cache(
    study: Study, tmp_path: Path, link: str, found: Callable[[int, str], None]
) -> None:
    if link == "reflink" and not can_clone(tmp_path):
        found(10, "reflink: not tried, this file system has none")
        pytest.skip("the file system has no reflinks")
    began = study.runs(), study.tables()
    study.dvc("remote", "add", "--default", "store", str(tmp_path / "remote"))
    study.dvc("config", "cache.type", link)
    study.dvc("checkout", "--relink")
    linked = study.root / "artifacts/tiny/sequences/all/config.json"
    assert linked.is_symlink() == (link == "symlink")
    assert (linked.stat().st_nlink > 1) == (link == "hardlink")
    study.assert_nothing_to_do()
    study.commit("another kind of link")
    study.dvc("push")

    # New results are put where links are, and the earlier ones come back.
    study.change("report.bootstrap_samples", 30)
    with study.computes(["tables/all", "figures/all"]):
        study.run("snakemake")
    study.assert_nothing_to_do()
    assert_cache_is_whole(study)
    study.change("report.bootstrap_samples", 20)
    with study.computes([]):
        study.run("dvc")
    assert (study.runs(), study.tables()) == began
    study.assert_nothing_to_do()

    before = assert_cache_is_whole(study)
    study.dvc("gc", "--workspace", "--force")
    after = assert_cache_is_whole(study)
    assert after < before
    study.assert_nothing_to_do()

    moved = Study(tmp_path / "moved folder" / "study", study.extra)
    moved.root.parent.mkdir()
    study.root.rename(moved.root)
    if link == "symlink":
        said = moved.call("snakemake", "-n", "--", "reproduce_tables", fails=True)
        assert "dvc checkout" in said
        moved.dvc("checkout")
    moved.assert_nothing_to_do()
    moved.assert_whole()
    # What garbage collection removed is in the remote or is computed again, never taken for there.
    moved.change("report.bootstrap_samples", 30)
    moved.run("snakemake")
    moved.assert_nothing_to_do()
    moved.assert_whole()
    assert_cache_is_whole(moved)
    found(10, f"{link}: results changed, restored, collected and moved; {before} cache files whole")
