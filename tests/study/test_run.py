"""`voxseq run STUDY` on the command line: refusals before Snakemake, and where tables are after."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import call, workspace
from tests.helpers import ROOT, own_images
from tests.helpers.calling import Call
from voxseq.base.commands import EVERYTHING, PHASES
from voxseq.config import load_config, read_yaml
from voxseq.config.data import PHANTOMS
from voxseq.plan import build_plan
from voxseq.study import launch

# Fixtures of the command line.
__all__ = ["call", "workspace"]


@pytest.fixture
def asked(workspace: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A workspace with a study, in which Snakemake is only asked; returns what for."""
    own_images.scans(Path("own"))
    call("init", "mine", "--images", "own", "--pretrain-only", "--preset", "tiny")
    Path("Snakefile").touch()
    words: list[Any] = []
    monkeypatch.setattr(launch, "snakemake", lambda *given: words.append(given) or 0)
    return words


def test_a_study_is_run_and_its_results_are_named(asked: list[Any], call: Call) -> None:
    said = call("run", "mine", "--cores", "2").out
    assert asked == [(Path("studies/mine.yaml"), "reproduce_tables", "2", [])]
    assert "results/mine/tables" in said
    assert "scale mine: 0 of 7 jobs finished" in said
    assert "not made with the present parameters; `voxseq run mine` does it" in said
    call("run", "studies/mine.yaml", "pretrain", "-n")
    assert asked[1] == (Path("studies/mine.yaml"), "pretrain", "all", ["--dry-run"])


def test_outside_of_a_workspace_init_names_what_makes_one(asked: list[Any], call: Call) -> None:
    words = ("init", "mine", "--images", "own", "--pretrain-only", "--preset", "tiny", "--force")
    assert call(*words).out.rstrip().endswith("Look at it, then: voxseq run mine")
    Path("Snakefile").unlink()
    assert "voxseq new FOLDER" in call(*words).out


def test_tables_that_are_not_there_name_the_command_that_makes_them(
    workspace: Path, call: Call
) -> None:
    (workspace / "studies").mkdir()
    shutil.copy(ROOT / "workflow/scales/quick.yaml", workspace / "studies")
    for words in (("quick",), ("--overlay", "quick")):
        assert "next: make it: voxseq run quick\n" in call("tables", *words, status=2).err
    assert "next: make it: snakemake --cores all reproduce_tables\n" in call("tables", status=2).err


def test_tables_that_came_with_the_clone_are_said_to_be_from_elsewhere(
    workspace: Path, call: Call
) -> None:
    shutil.copytree(ROOT / "results/tables", workspace / "results/tables")
    shown = call("tables")
    assert shown.out.startswith(PHANTOMS)
    assert "not made here with the present parameters; `snakemake --cores all" in shown.err


def test_the_status_of_snakemake_is_that_of_the_command(
    asked: list[Any], call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "snakemake", lambda *_: 3)
    done = call("run", "mine", status=3)
    assert "results/mine" not in done.out
    assert "resumes" not in done.err


def test_the_last_lines_are_the_error_of_the_job_that_failed_first(
    asked: list[Any], call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = build_plan(load_config(Path("params.yaml"), [read_yaml(Path("studies/mine.yaml"))]))
    first, second, third, *_ = plan.jobs.values()
    paths = [
        Path(f"logs/mine/{job.stage}/{job.name}-{job.fingerprint}.log")
        for job in (second, first, third)
    ]

    def fails(*_: object) -> int:
        for time, path in enumerate(paths):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"error: {time}.nii: is cut short\n  next: fetch it\n")
            os.utime(path, (time, time))
        return 1

    monkeypatch.setattr(launch, "snakemake", fails)
    assert call("run", "mine", status=1).err == (
        f"error: {second.stage}/{second.name}: 0.nii: is cut short\n  next: fetch it\n"
        f"  log: {paths[0]}\n"
        "2 more jobs failed. The same command resumes; finished runs are kept.\n"
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("yours",), "studies here: mine"),
        (("mine", "--cores", "many"), "neither a number nor all"),
        (("mine", "--cores", "0"), "neither a number nor all"),
        (("mine", "pre-train"), "'pre-train' is no phase: download, preprocess"),
        (("bad.yaml",), "encoder.width: is not stated"),
    ],
    ids=str,
)
def test_mistakes_are_named_before_snakemake(
    asked: list[Any], call: Call, words: tuple[str, ...], said: str
) -> None:
    Path("bad.yaml").write_text("{standalone: true, scale: bad, results: results/bad}\n")
    assert said in call("run", *words, status=2).err
    assert asked == []


def test_phases_are_targets_of_the_workflow() -> None:
    text = (ROOT / "Snakefile").read_text()
    named = re.findall(r'^    "(\w+)": \(', text, re.MULTILINE)
    assert {EVERYTHING, *PHASES} == {*named}


def test_a_folder_without_the_workflow_is_refused(asked: list[Any], call: Call) -> None:
    Path("Snakefile").unlink()
    assert "not a workspace" in call("run", "mine", status=2).err
    assert asked == []
