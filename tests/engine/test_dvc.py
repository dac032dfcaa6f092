"""What is told to DVC, with DVC's own files and mostly a stand-in for DVC."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from dvc.exceptions import DvcException
from dvc.lock import LockError
from dvc.repo import Repo

from tests.helpers.tiny_study import do_all, tiny_plan
from voxseq.base.errors import VoxseqError
from voxseq.engine import dvc as recording
from voxseq.engine.dvc import (
    commit,
    complete_stages,
    let_dvc_follow,
    record_stages,
    require_complete,
    unrecorded_stages,
)
from voxseq.engine.workspace import Workspace
from voxseq.plan import STAGES

DONE = ("download", "preprocess", "finetune", "tables")


@pytest.fixture(autouse=True)
def _repository(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".dvc").mkdir()


class Dvc:
    """Stands for DVC: writes dvc.lock and the cache as it does."""

    def __init__(self, workspace: Workspace, cache: str = ".dvc/cache") -> None:
        self.workspace, self.cache = workspace, cache
        self.calls: list[list[str]] = []
        self.refusals: list[Exception] = []

    def commit(self, root: Path, stages: list[str]) -> None:
        assert root == self.workspace.root
        self.calls.append(stages)
        if self.refusals:
            raise self.refusals.pop(0)
        self.write(stages)

    def write(self, stages: list[str]) -> None:
        root = self.workspace.root
        kept = {}
        for number, stage in enumerate(stages):
            base = root / "artifacts/tiny" / stage
            files = [p for p in sorted(base.rglob("*")) if p.is_file()]
            entries = [{"md5": "0", "relpath": str(p.relative_to(base))} for p in files]
            path = root / self.cache / f"files/md5/{number:02}/ab.dir"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(entries))
            kept[stage] = {
                "outs": [{"path": f"artifacts/tiny/{stage}", "md5": f"{number:02}ab.dir"}]
            }
        (root / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": kept}))


@pytest.fixture
def dvc(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Dvc:
    made = Dvc(workspace)
    monkeypatch.setattr(recording, "commit", made.commit)
    monkeypatch.setattr(recording.time, "sleep", lambda _: None)
    return made


def unrecorded(workspace: Workspace) -> list[str]:
    found = unrecorded_stages(workspace.root, workspace.plan)
    return [stage for stage in found if stage in DONE]


def test_only_complete_stages_are_recorded(workspace: Workspace, dvc: Dvc) -> None:
    (job,) = workspace.plan.of_stage("finetune")
    (workspace.root / workspace.plan.marker(job)).unlink()
    (workspace.root / workspace.plan.artefacts / "scores").mkdir()
    assert "finetune" not in complete_stages(workspace.root, workspace.plan)
    record_stages(workspace.root, workspace.plan)
    (stages,) = dvc.calls
    assert {"download", "preprocess", "tables"} <= set(stages)
    assert "finetune" not in stages


def test_a_stage_without_jobs_waits_for_what_it_reads(workspace: Workspace) -> None:
    """DVC refuses a stage without its inputs, such as an empty ablation after the first phase."""
    root, plan = workspace.root, workspace.plan
    assert set(complete_stages(root, plan)) == set(STAGES)
    for job in plan.of_stage("preprocess"):
        (root / plan.marker(job)).unlink()
    shutil.rmtree(root / plan.artefacts / "finetune")
    assert complete_stages(root, plan) == ["download"]


def test_what_a_killed_call_left_unrecorded_is_found(workspace: Workspace, dvc: Dvc) -> None:
    assert unrecorded(workspace) == list(DONE)
    record_stages(workspace.root, workspace.plan)
    assert unrecorded(workspace) == []
    changed = Workspace(workspace.root, tiny_plan({"tables/all": 7}))
    assert unrecorded(changed) == []
    do_all(changed)
    assert unrecorded(changed) == ["tables"]
    record_stages(changed.root, changed.plan)
    assert unrecorded(changed) == []


def test_a_damaged_lock_file_is_made_anew(workspace: Workspace, dvc: Dvc) -> None:
    record_stages(workspace.root, workspace.plan)
    lock = workspace.root / "dvc.lock"
    whole = lock.read_text()
    for length in range(len(whole)):
        lock.write_text(whole[:length])
        assert unrecorded(workspace) != []
        if length % 25 == 0:
            record_stages(workspace.root, workspace.plan)
            assert lock.read_text() == whole
    for content in (b"\xff\xfe\n", b"[1, 2]\n", b"\0\0\n"):
        lock.write_bytes(content)
        record_stages(workspace.root, workspace.plan)
        assert lock.read_text() == whole


def test_what_is_not_in_the_cache_counts_as_recorded(workspace: Workspace, dvc: Dvc) -> None:
    record_stages(workspace.root, workspace.plan)
    for path in (workspace.root / ".dvc/cache").rglob("*.dir"):
        path.unlink()
    assert unrecorded(workspace) == []


@pytest.mark.parametrize("name", ["config", "config.local"])
def test_the_cache_may_be_elsewhere(workspace: Workspace, name: str) -> None:
    elsewhere = Dvc(workspace, "shared/cache")
    (workspace.root / ".dvc" / name).write_text(
        "[core]\n    analytics = false\n[cache]\n    dir = ../shared/cache\n    type = symlink\n"
    )
    elsewhere.write(list(DONE[:-1]))
    assert unrecorded(workspace) == ["tables"]
    elsewhere.write(list(DONE))
    assert unrecorded(workspace) == []


def test_nothing_is_unrecorded_where_nothing_is_recorded(workspace: Workspace) -> None:
    (workspace.root / ".git").rmdir()
    assert unrecorded(workspace) == []
    assert record_stages(workspace.root, workspace.plan) == []


def test_another_call_of_dvc_is_waited_for(workspace: Workspace, dvc: Dvc) -> None:
    dvc.refusals = [LockError("busy")] * 3
    assert set(DONE) <= set(record_stages(workspace.root, workspace.plan))
    assert len(dvc.calls) == 4


@pytest.mark.parametrize(
    "refusal", [LockError("busy"), DvcException("a reason"), OSError(28, "No space left")]
)
def test_a_refusal_of_dvc_is_passed_on(
    workspace: Workspace, dvc: Dvc, monkeypatch: pytest.MonkeyPatch, refusal: Exception
) -> None:
    """That of another call, too, when it takes too long."""
    monkeypatch.setattr(recording, "PATIENCE", -1.0)
    dvc.refusals = [refusal] * 3
    with pytest.raises(VoxseqError, match=re.escape(str(refusal))) as caught:
        record_stages(workspace.root, workspace.plan)
    assert "voxseq record" in caught.value.hint
    assert len(dvc.calls) == 1


PIPELINE = """
stages:
  first: {cmd: "true", params: [seeds], outs: [one]}
  second: {cmd: "true", deps: [one], outs: [two]}
  third: {cmd: "true", deps: [two], outs: [three]}
"""


def test_dvc_finds_what_is_committed_up_to_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With DVC itself, from another folder; a stage that is not named stays as it was."""

    def outdated() -> set[str]:
        with monkeypatch.context() as patch:
            patch.chdir(tmp_path)
            return set(repo.status())

    (tmp_path / ".dvc").rmdir()
    with Repo.init(str(tmp_path), no_scm=True) as repo:
        (tmp_path / "dvc.yaml").write_text(PIPELINE)
        (tmp_path / "params.yaml").write_text("seeds: 2\n")
        for name in ("one", "two", "three"):
            (tmp_path / name).write_text(name)
        commit(tmp_path, ["first", "second"])
        assert outdated() == {"third"}
        (tmp_path / "params.yaml").write_text("seeds: 3\n")
        (tmp_path / "two").unlink()
        (tmp_path / "two").write_text("other")
        assert outdated() == {"first", "second", "third"}
        commit(tmp_path, ["first", "second", "third"])
        assert outdated() == set()
        with pytest.raises(DvcException, match="fourth"):
            commit(tmp_path, ["fourth"])
        (tmp_path / "three").unlink()
        with pytest.raises(DvcException, match="three"):
            commit(tmp_path, ["third"])


CONFLICT = "schema: '2.0'\n<<<<<<< HEAD\na: 1\n=======\na: 2\n>>>>>>> other\n"


@pytest.mark.parametrize("text", [CONFLICT, CONFLICT.replace("\n", "\r\n"), ">>>>>>> other\n"])
def test_a_conflict_of_a_merge_is_called_one_and_kept(
    workspace: Workspace, dvc: Dvc, text: str
) -> None:
    lock = workspace.root / "dvc.lock"
    lock.write_bytes(text.encode())
    for act in (record_stages, unrecorded_stages):
        with pytest.raises(VoxseqError, match="conflict") as caught:
            act(workspace.root, workspace.plan)
        assert "git checkout HEAD dvc.lock" in caught.value.hint
        assert "voxseq record" in caught.value.hint
    assert lock.read_bytes() == text.encode()
    assert dvc.calls == []


def test_a_stage_ends_when_all_that_the_parameters_name_is_there(workspace: Workspace) -> None:
    root, results = workspace.root, "results/tiny"
    for stage in STAGES:
        require_complete(root, workspace.plan, stage, "tiny", results)
    changed = tiny_plan({"finetune/a/ours/s1": 7})
    require_complete(root, changed, "preprocess", "tiny", results)
    with pytest.raises(VoxseqError, match=r"finetune: 1 of the 1 jobs .*: a\.ours") as caught:
        require_complete(root, changed, "finetune", "tiny", results)
    assert "dvc repro" in caught.value.hint
    # Results that a job claims and that are not whole are none.
    (workspace.folder(workspace.plan.runs["download/a"]) / "part.txt").unlink()
    with pytest.raises(VoxseqError, match="download: 1 of the 1"):
        require_complete(root, workspace.plan, "download", "tiny", results)
    for scale, folder in (("demo", results), ("tiny", "results")):
        with pytest.raises(VoxseqError, match=f"scale {scale} and {folder}, .*scale tiny"):
            require_complete(root, workspace.plan, "tables", scale, folder)


@pytest.mark.parametrize("place", ["artifacts", "artifacts/tiny"])
def test_dvc_follows_artefacts_to_another_disk(workspace: Workspace, place: str) -> None:
    root = workspace.root
    (root / ".gitignore").write_text("/artifacts\n")
    let_dvc_follow(root, workspace.plan)
    link = root / "artifacts/tiny/.gitignore"
    assert not link.exists()
    elsewhere = root.parent / f"{root.name} elsewhere"
    (root / place).rename(elsewhere)
    (root / place).symlink_to(elsewhere)
    for _ in range(2):
        let_dvc_follow(root, workspace.plan)
        assert link.resolve() == root / ".gitignore"
    # A copy of the link, and what DVC would have written, point to another repository.
    link.unlink()
    link.symlink_to(root.parent / "gone/.gitignore")
    let_dvc_follow(root, workspace.plan)
    assert link.resolve() == root / ".gitignore"


@pytest.mark.parametrize("place", ["artifacts", "artifacts/tiny", "artifacts/tiny/finetune"])
def test_a_link_that_leads_nowhere_is_named(workspace: Workspace, place: str) -> None:
    root = workspace.root
    (root / place).rename(root / "moved")
    (root / place).symlink_to(root / "unmounted")
    with pytest.raises(VoxseqError, match=f"{place} is a link to .*unmounted") as caught:
        let_dvc_follow(root, workspace.plan)
    assert "mount" in caught.value.hint
