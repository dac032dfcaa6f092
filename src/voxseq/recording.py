"""Telling DVC which stages are complete after a direct Snakemake run."""

from __future__ import annotations

import configparser
import logging
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from voxseq.errors import VoxseqError
from voxseq.files import read_json, read_text
from voxseq.plan import STAGES, Plan, Stage
from voxseq.runs import Workspace

_LOG = logging.getLogger("voxseq.recording")
#: How long another call of DVC, such as that of a killed workflow, is waited for, in seconds.
PATIENCE = 300.0
_BUSY = "Unable to acquire lock"


def complete_stages(root: Path, plan: Plan) -> list[Stage]:
    """Stages whose jobs are all finished. Only these may be recorded: committing the others would
    make stale results look clean."""
    return [
        stage
        for stage in STAGES
        if all((root / plan.marker(job)).exists() for job in plan.of_stage(stage))
    ]


def unrecorded_stages(root: Path, plan: Plan) -> list[Stage]:
    """Complete stages of which DVC has recorded other jobs, or none.

    A call that was killed after its last job leaves these. Reads DVC's files without DVC, because
    every start of the workflow asks. What DVC's cache does not list counts as recorded: those are
    results that were never here.
    """
    if not _is_dvc_workspace(root):
        return []
    listed = _Listed(root)
    return [
        stage
        for stage in complete_stages(root, plan)
        if (recorded := listed.jobs(f"{plan.artefacts}/{stage}")) is not None
        and recorded != {Path(plan.marker(job)).name for job in plan.of_stage(stage)}
    ]


def record_stages(root: Path, plan: Plan) -> list[Stage]:
    """Record complete stages with ``dvc commit``; do nothing outside a DVC workspace.

    Returns:
        The recorded stages.

    Raises:
        VoxseqError: DVC refused.
    """
    stages = complete_stages(root, plan)
    if not _is_dvc_workspace(root) or not stages:
        _LOG.info("not a DVC workspace under version control: nothing is recorded")
        return []
    Workspace(root, plan).prune(tuple(stages))
    lock = root / "dvc.lock"
    if _recorded(lock) is None:
        # DVC writes it in place. All that is complete is recorded again.
        _LOG.warning("dvc.lock was cut short by a killed call and is made anew")
        lock.unlink()
    command = [sys.executable, "-m", "dvc", "commit", "--force", *stages]
    # DVC's temporary folder must not carry over from a surrounding call.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("DVC_STAGE")}
    until = time.monotonic() + PATIENCE
    while True:
        done = subprocess.run(  # noqa: S603 - fixed words and stage names
            command, cwd=root, env=environment, capture_output=True, text=True, check=False
        )
        said = done.stderr.strip() or done.stdout.strip()
        if _BUSY not in said or time.monotonic() > until:
            break
        _LOG.info("waiting for another call of DVC in this folder")
        time.sleep(1.0)
    if done.returncode:
        raise VoxseqError(
            f"DVC did not record {', '.join(stages)}: {said}",
            "the results are complete; `voxseq record` records them later",
        )
    return stages


def _is_dvc_workspace(root: Path) -> bool:
    return (root / ".dvc").is_dir() and (root / ".git").exists()


def _recorded(lock: Path) -> dict[str, str] | None:
    """Output of a stage → its hash in dvc.lock; ``None`` when the file is damaged."""
    try:
        text = read_text(lock)
    except FileNotFoundError:
        return {}
    except ValueError:
        return None
    if not text.endswith("\n"):
        return None
    try:
        # The loader in C: the file grows with the parameters and is read at every start.
        stages = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))["stages"]  # noqa: S506
        return {
            out["path"]: out["md5"] for stage in stages.values() for out in stage.get("outs", [])
        }
    except (yaml.YAMLError, AttributeError, KeyError, TypeError, RecursionError):
        return None


class _Listed:
    """What DVC has recorded of the folders of stages."""

    def __init__(self, root: Path) -> None:
        self.outputs: Mapping[str, str] = _recorded(root / "dvc.lock") or {}
        self.cache = _cache(root) / "files/md5"

    def jobs(self, output: str) -> set[str] | None:
        """Names of the recorded job markers; ``None`` when DVC's cache does not tell."""
        found = self.outputs.get(output)
        if found is None:
            return set()
        try:
            entries: list[dict[str, Any]] = read_json(self.cache / found[:2] / found[2:])
            return {
                entry["relpath"].removeprefix("jobs/")
                for entry in entries
                if entry["relpath"].startswith("jobs/")
            }
        except (OSError, ValueError, KeyError, TypeError):
            return None


def _cache(root: Path) -> Path:
    """Folder of DVC's cache: ``cache.dir`` of its configuration, seen from that file."""
    folder = root / ".dvc/cache"
    for name in ("config", "config.local"):
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read(root / ".dvc" / name, encoding="utf-8")
            folder = root / ".dvc" / parser.get("cache", "dir", fallback=str(folder)).strip("'\"")
        except configparser.Error as error:
            _LOG.debug("the configuration of DVC cannot be read: %s", error)
    return folder
