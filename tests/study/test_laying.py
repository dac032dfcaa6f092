"""`voxseq new`: a workspace has the workflow's files, and follows the installed code."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers import ROOT
from voxseq.base.errors import VoxseqError
from voxseq.config import load_config
from voxseq.plan.code_versions import VERSIONS
from voxseq.study import laying
from voxseq.study.laying import follow_code, lay, renew


def tracked(*places: str) -> set[Path]:
    said = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *places],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return {Path(name) for name in said.split("\0") if name and (ROOT / name).exists()}


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    lay(folder)
    return folder


def content(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_a_workspace_has_what_the_workflow_needs(workspace: Path) -> None:
    found = {p.relative_to(workspace) for p in workspace.rglob("*") if p.is_file()}
    assert found == tracked(*laying.PROGRAM, *laying.SETTINGS) | {Path("workflow/code.json")}
    assert load_config(workspace / "params.yaml") == load_config(ROOT / "params.yaml")
    assert os.access(workspace / "profiles/slurm/commands/sbatch", os.X_OK)


def test_the_wheel_has_the_same_files() -> None:
    """Those that pyproject.toml lets the build put into the package."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packed = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert all(target == f"voxseq/workspace/{name}" for name, target in packed.items())
    assert tracked(*packed) == tracked(*laying.PROGRAM, *laying.SETTINGS)


def test_dvc_follows_the_installed_code(workspace: Path) -> None:
    ours, theirs = content(ROOT / "dvc.yaml"), content(workspace / "dvc.yaml")
    assert set(theirs["stages"]) == set(ours["stages"])
    for name, stage in theirs["stages"].items():
        (files,) = (set(one) for one in stage["params"] if isinstance(one, dict))
        assert files == {"workflow/code.json"}, name
    assert "src/voxseq" not in (workspace / "dvc.yaml").read_text()


def test_the_record_of_the_code_is_renewed(workspace: Path, tmp_path: Path) -> None:
    record = workspace / "workflow/code.json"
    assert record.read_text() == VERSIONS.read_text()
    assert not follow_code(workspace)
    record.write_text("{}")
    assert follow_code(workspace)
    assert record.read_text() == VERSIONS.read_text()
    # A checkout has its own.
    assert not follow_code(tmp_path)
    assert not (tmp_path / "workflow").exists()


def test_environments_of_jobs_get_the_package(workspace: Path) -> None:
    from voxseq import __version__

    lines = (workspace / "requirements.lock").read_text().splitlines()
    assert lines[-1] == f"voxseq=={__version__}"
    environment = workspace / "workflow/envs/voxseq.yaml"
    (pip,) = (one["pip"] for one in content(environment)["dependencies"] if isinstance(one, dict))
    assert (environment.parent / pip[0].removeprefix("-r ")).resolve() == (
        workspace / "requirements.lock"
    )


def test_a_package_is_its_own_source(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site-packages/voxseq"
    shutil.copytree(ROOT, package / "workspace", ignore=everything_but(laying.PROGRAM))
    monkeypatch.setattr(laying, "PACKAGE", package)
    assert laying.source() == package / "workspace"
    shutil.rmtree(package / "workspace")
    with pytest.raises(VoxseqError, match="lacks the workflow's files"):
        laying.source()


def everything_but(names: tuple[str, ...]) -> Any:
    """For copytree: the top's files of these names alone."""
    return lambda place, found: {
        name for name in found if Path(place) == ROOT and name not in names
    }


@pytest.mark.parametrize("there", [".git/config", ".venv/pyvenv.cfg"])
def test_a_repository_may_be_there_already(tmp_path: Path, there: str) -> None:
    (tmp_path / there).parent.mkdir()
    (tmp_path / there).touch()
    assert lay(tmp_path)


@pytest.mark.parametrize("there", ["scan.nii.gz", ".gitignore"])
def test_nothing_of_the_users_is_replaced(tmp_path: Path, there: str) -> None:
    (tmp_path / there).touch()
    with pytest.raises(VoxseqError, match="not empty"):
        lay(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [there]


def test_a_workspace_is_not_made_twice(workspace: Path) -> None:
    with pytest.raises(VoxseqError, match="is a workspace already"):
        lay(workspace)


def test_an_update_renews_the_workflow_and_nothing_else(workspace: Path) -> None:
    for name in ("Snakefile", "params.yaml", "profiles/default/config.yaml"):
        (workspace / name).write_text("# mine\n")
    (workspace / "workflow/scales/mine.yaml").write_text("scale: mine\n")
    assert renew(workspace) == [Path("Snakefile")]
    assert (workspace / "Snakefile").read_text() == (ROOT / "Snakefile").read_text()
    assert (workspace / "params.yaml").read_text() == "# mine\n"
    assert (workspace / "profiles/default/config.yaml").read_text() == "# mine\n"
    assert renew(workspace) == []


def test_an_update_needs_a_workspace(tmp_path: Path) -> None:
    with pytest.raises(VoxseqError, match="is no workspace"):
        renew(tmp_path)
    with pytest.raises(VoxseqError, match="git pull"):
        renew(ROOT)
