"""The floors of the package, which `make lint` holds: docs/architecture.md."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import ROOT


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """What import-linter says of the package in ``folder``."""
    command = Path(sys.executable).with_name("lint-imports")
    return subprocess.run(
        [str(command), "--no-cache"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder / "src"), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("file", "planted", "broken"),
    [
        ("__init__.py", "", None),
        ("base/files.py", "from voxseq.engine import markers", "lower floors only"),
        ("data/store.py", "def late():\n    import voxseq.sequences.sampler", "lower floors only"),
        ("models/unetr.py", "import voxseq.training.loop", "lower floors only"),
        ("models/patches.py", "import voxseq.models.encoder", "No circles"),
        ("plan/outputs.py", "import torch", "loads no heavy library"),
    ],
)
def test_an_import_that_goes_up_breaks_the_lint(
    tmp_path: Path, file: str, planted: str, broken: str | None
) -> None:
    skip = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=skip)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / "src/voxseq" / file).open("a") as source:
        source.write(f"\n{planted}\n")
    done = lint(tmp_path)
    assert (done.returncode == 0) == (broken is None), done.stdout
    failed = [line for line in done.stdout.splitlines() if line.rstrip().endswith("BROKEN")]
    assert bool(failed) == (broken is not None)
    assert broken is None or any(broken in line for line in failed)


def test_the_lint_of_the_project_holds_the_floors() -> None:
    steps = (ROOT / "Makefile").read_text().split("\nlint-rest:", 1)[1].split("\n\n")[0]
    assert "lint-imports" in steps


def test_the_picture_of_the_floors_is_that_of_the_code() -> None:
    drawn = runpy.run_path(str(ROOT / "docs/draw_architecture.py"))
    assert drawn["PICTURE"].read_text() == drawn["picture"](), "python docs/draw_architecture.py"
