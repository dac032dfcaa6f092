"""What --configfile lays over params.yaml, as the workflow reads it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import textwrap
from pathlib import Path

import pytest

from tests.helpers.preloaded import preloaded

pytestmark = pytest.mark.slow
FIRST = "scale: mine\nresults: results/mine\nbeyond!: {trivial: [la]}\nreport: {dpi: 50}\n"
SECOND = "beyond!: {frozen: [la]}\nreport: {figure_seed: 9}\n"


@pytest.fixture
def folder(root: Path, tmp_path: Path) -> Path:
    shutil.copytree(root / "workflow", tmp_path / "workflow")
    for name in ("Snakefile", "params.yaml"):
        shutil.copy(root / name, tmp_path)
    (tmp_path / "src").symlink_to(root / "src")
    (tmp_path / "a.yaml").write_text(FIRST, encoding="utf-8")
    (tmp_path / "b.yaml").write_text(SECOND, encoding="utf-8")
    return tmp_path


def planned(folder: Path, *words: str) -> tuple[int, str]:
    """Status and output of a dry run."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("VOXSEQ_")}
    done = subprocess.run(
        [preloaded() / "snakemake", "-n", "-q", "--cores", "1", *words, "--", "download"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def test_all_files_are_laid_in_turn_and_a_damaged_resolved_one_is_written_anew(
    folder: Path,
) -> None:
    status, said = planned(folder, "--configfile", "a.yaml", "b.yaml")
    assert status == 0, said
    (path,) = (folder / ".voxseq/config").iterdir()
    whole = path.read_bytes()
    found = json.loads(whole)
    others = ("loss", "recipes", "token_order", "trivial")
    assert found["beyond"] == {"frozen": ["la"], **{name: [] for name in others}}
    assert (found["report"]["dpi"], found["report"]["figure_seed"]) == (50, 9)
    path.write_bytes(whole[:400])
    status, said = planned(folder, "--configfile", "a.yaml", "b.yaml")
    assert status == 0, said
    assert path.read_bytes() == whole


def test_an_option_that_is_given_twice_is_refused(folder: Path) -> None:
    status, said = planned(folder, "--configfile", "a.yaml", "--configfile", "b.yaml")
    assert status != 0
    assert "name all files after one --configfile" in said


def test_an_error_names_the_file_and_the_line(folder: Path) -> None:
    (folder / "b.yaml").write_text("report:\n  dpi: 1\n", encoding="utf-8")
    status, said = planned(folder, "--configfile", "a.yaml", "b.yaml")
    assert status != 0
    assert "report.dpi" in said
    assert "[b.yaml, line 2]" in said


def test_a_study_that_stands_alone_takes_nothing_from_params_yaml(folder: Path) -> None:
    study = """
    standalone: true
    scale: mine
    results: results/mine
    sequences:
      volume_shape: [16, 16, 16]
      length: 4
      validation_every: 8
      sources: [{dataset: amos22, kind: spatial}]
      spatial:
        {crops_per_volume: 7, crop_shape: [16, 16, 16], window_shape: [16, 16, 16], stride: 1}
    encoder: {width: 24, depth: 2, heads: 2, mlp_width: 48, patch_size: [4, 4, 4]}
    pretrain: {steps: 5, batch_size: 3, methods: {ours: {}}}
    finetune: {tasks: {}}
    """
    (folder / "a.yaml").write_text(textwrap.dedent(study), encoding="utf-8")
    (folder / "params.yaml").write_text("no: configuration\n", encoding="utf-8")
    status, said = planned(folder, "--configfile", "a.yaml")
    assert status == 0, said
    (path,) = (folder / ".voxseq/config").iterdir()
    found = json.loads(path.read_bytes())
    assert list(found["pretrain"]["methods"]) == ["ours"]
    assert found["finetune"]["tasks"] == {}
    status, said = planned(folder)
    assert status != 0
    assert "params.yaml" in said
