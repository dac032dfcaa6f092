"""``voxseq plan --scale``: what is printed, refused, and written into docs/scaling.md."""

from __future__ import annotations

import difflib
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.helpers import ROOT
from voxseq.base.errors import VoxseqError
from voxseq.cli import main as cli
from voxseq.cli.plan_estimate import overlay_of, sections, with_estimate
from voxseq.config import load_config, read_yaml
from voxseq.estimate.estimate import estimate
from voxseq.plan import build_plan


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the configuration and the scales, and no data."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copytree(ROOT / "workflow/scales", tmp_path / "workflow/scales")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VOXSEQ_DATA", raising=False)
    return tmp_path


def call(*words: str) -> Result:
    return CliRunner().invoke(cli.cli, ["plan", *words])


@pytest.mark.parametrize("scale", ["demo", "smoke", "open", "paper"])
def test_every_scale_is_estimated(scale: str) -> None:
    result = call("--scale", scale)
    assert result.exit_code == 0, result.output
    first = result.output.splitlines()
    assert first[0] == f"expected for scale {scale}:"
    rows = [line.split() for line in first[2:13]]
    assert rows[0][0] == "download"
    assert any(row[0] == "total" for row in rows if row)
    assert "NVIDIA A100" in result.output


def test_a_slower_gpu_takes_longer() -> None:
    def hours(*words: str) -> float:
        lines = call("--scale", "paper", "--stage", "pretrain", *words).output.splitlines()
        (row,) = (line.split() for line in lines if line.startswith("pretrain"))
        return float(row[4].replace(",", ""))

    assert hours("--assume-tflops", "54.6") == pytest.approx(2 * hours(), rel=0.01)
    assert call("--scale", "paper", "--assume-tflops", "0").exit_code != 0


def test_runs_instead_of_the_estimate() -> None:
    assert "pretrain/ours" in call("--scale", "paper", "--runs", "--stage", "pretrain").output
    assert "finetune/la/ours/s0" in call("--stage", "finetune").output


def test_an_unknown_scale_is_refused_with_those_there_are() -> None:
    result = call("--scale", "papr")
    assert isinstance(result.exception, VoxseqError)
    assert "papr" in result.exception.what
    assert "demo, open, paper, smoke" in result.exception.hint
    assert overlay_of("demo") == ()


def test_a_page_gets_the_tables_between_its_marks(workspace: Path) -> None:
    page = workspace / "page.md"
    page.write_text("a\n<!-- estimate: smoke stages -->\nold\n<!-- end -->\nb\n")
    assert call("--scale", "smoke", "--into", str(page)).exit_code == 0
    text = page.read_text()
    assert text.startswith("a\n<!-- estimate: smoke stages -->\n| stage |")
    assert text.endswith("<!-- end -->\nb\n")
    assert "old" not in text
    result = call("--scale", "paper", "--into", str(page))
    assert isinstance(result.exception, VoxseqError)
    assert page.read_text() == text


def test_the_page_about_scaling_is_up_to_date() -> None:
    config = load_config(ROOT / "params.yaml", [read_yaml(ROOT / "workflow/scales/paper.yaml")])
    plan = build_plan(config)
    written = (ROOT / "docs/scaling.md").read_text(encoding="utf-8")
    wanted = with_estimate(written, "paper", sections(config, estimate(config, plan), plan))
    diff = difflib.unified_diff(written.splitlines(), wanted.splitlines(), lineterm="", n=0)
    assert wanted == written, "repair: voxseq plan --scale paper --into docs/scaling.md\n" + (
        "\n".join(diff)
    )
