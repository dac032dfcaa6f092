"""Commands around runs: what is running, the end of a stage, forgotten runs, whose code it is."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
import yaml

from tests.helpers import ROOT
from voxseq.base.locks import exclusive
from voxseq.cli import main as cli
from voxseq.config import load_config, read_yaml
from voxseq.engine.workspace import Workspace
from voxseq.plan import build_plan


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the demo's configuration, as the current one."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """Call the entry point with these words; returns the exit status."""
    monkeypatch.setattr(sys, "argv", ["voxseq", *words])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0)


def test_plan_tells_what_is_running(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    works = Workspace(workspace, build_plan(load_config(workspace / "params.yaml")))
    ours, simclr = (works.plan.runs[f"pretrain/{name}"] for name in ("ours", "simclr"))
    works.state(ours).mkdir(parents=True)
    with exclusive(works.lock(ours), ours.id), exclusive(works.lock(simclr), simclr.id):
        assert call(monkeypatch, "plan", "--stage", "pretrain") == 0
    states = {row.split()[0]: row for row in capsys.readouterr().out.splitlines()}
    assert states["pretrain/ours"].rstrip().endswith("running")
    # Another configuration of that run is at work.
    assert states["pretrain/simclr"].rstrip().endswith("to do")
    assert states["7"].endswith("0 finished, 1 running, scale demo")
    assert call(monkeypatch, "plan", "--stage", "pretrain") == 0
    assert "running" not in capsys.readouterr().out


def test_a_stage_of_dvc_ends_and_what_is_not_named_moves(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    params = workspace / "params.yaml"
    content = {**read_yaml(params), "pretrain": {"methods": {}}, "ablation": {}, "beyond": {}}
    params.write_text(yaml.safe_dump(content))
    folder = workspace / "artifacts/demo/pretrain/gone"
    folder.mkdir(parents=True)
    (folder / "run-0123456789abcdef.json").write_text('{"files": {}}')
    assert call(monkeypatch, "close", "pretrain", "demo", "results") == 0
    assert "gone" in capsys.readouterr().out
    assert not folder.exists()


def test_every_stage_of_dvc_ends_so(root: Path) -> None:
    stages = yaml.safe_load((root / "dvc.yaml").read_text())["stages"]
    for name, stage in stages.items():
        assert stage["cmd"].endswith(f"-m voxseq close {name} ${{scale}} ${{results}}")


def test_runs_are_forgotten(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    works = Workspace(workspace, build_plan(load_config(workspace / "params.yaml")))
    checkpoint = works.state(works.plan.runs["pretrain/ours"]) / "checkpoint.pt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_text("x")
    assert call(monkeypatch, "forget", "--yes", "--only", "pretrain/ours") == 0
    assert capsys.readouterr().out.splitlines()[:2] == [
        "pretrain/ours  not finished",
        "1 runs of scale demo: 1 of pretrain",
    ]
    assert not checkpoint.exists()
    assert len(list((workspace / ".voxseq/forgotten/demo").rglob("checkpoint.pt"))) == 1
    assert call(monkeypatch, "forget", "--yes", "pretrain/ours") == 0
    out = capsys.readouterr().out
    assert "finetune/la/ours/s0" in out
    assert "finetune/la/simclr/s0" not in out
    assert "there was nothing of them" in out


def test_another_checkouts_code_is_refused(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (workspace / "src/voxseq").mkdir(parents=True)
    (workspace / "src/voxseq/__init__.py").write_text("")
    (workspace / "artifacts/demo/finetune/gone").mkdir(parents=True)
    for words in (["plan"], ["prune"], ["code", "bump", "data"], ["where"], ["data", "list"]):
        assert call(monkeypatch, *words) == 2
        error = capsys.readouterr().err
        assert str(workspace / "src/voxseq") in error
        assert str(ROOT / "src/voxseq") in error
    assert (workspace / "artifacts/demo/finetune/gone").is_dir()
    assert call(monkeypatch, "--version") == 0
