"""Telling DVC which stages are complete after a direct Snakemake run."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

from voxseq.errors import VoxseqError
from voxseq.plan import STAGES, Plan, Stage
from voxseq.runs import Workspace

_LOG = logging.getLogger("voxseq.recording")


def complete_stages(root: Path, plan: Plan) -> list[Stage]:
    """Stages whose jobs are all finished. Only these may be recorded: committing the others would
    make stale results look clean."""
    return [
        stage
        for stage in STAGES
        if all((root / plan.marker(job)).exists() for job in plan.of_stage(stage))
    ]


def record_stages(root: Path, plan: Plan) -> list[Stage]:
    """Record complete stages with ``dvc commit``; do nothing outside a DVC workspace.

    Returns:
        The recorded stages.

    Raises:
        VoxseqError: DVC refused.
    """
    stages = complete_stages(root, plan)
    if not (root / ".dvc").is_dir() or not (root / ".git").exists() or not stages:
        _LOG.info("not a DVC workspace under version control: nothing is recorded")
        return []
    Workspace(root, plan).prune(tuple(stages))
    command = [sys.executable, "-m", "dvc", "commit", "--force", *stages]
    # DVC's temporary folder must not carry over from a surrounding call.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("DVC_STAGE")}
    done = subprocess.run(  # noqa: S603 - fixed words and stage names
        command, cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise VoxseqError(
            f"DVC did not record {', '.join(stages)}: {done.stderr.strip() or done.stdout.strip()}",
            "the results are complete; `dvc commit` records them by hand",
        )
    return stages
