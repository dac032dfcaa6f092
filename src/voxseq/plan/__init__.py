"""The plan: from a validated configuration to the list of runs. Nothing else decides what exists.

This package is a pure function and imports neither torch nor pandas: the workflow reads it at
every start.
"""

from __future__ import annotations

from voxseq.config import Config
from voxseq.plan.beyond import add_beyond_runs
from voxseq.plan.builder import Builder
from voxseq.plan.code_versions import versions
from voxseq.plan.data import add_data_runs
from voxseq.plan.model import READS, STAGES, Job, Plan, Run, Stage
from voxseq.plan.report import add_report_runs
from voxseq.plan.training import add_finetune_runs, add_pretrain_runs

__all__ = ["READS", "STAGES", "Job", "Plan", "Run", "Stage", "build_plan"]


def build_plan(config: Config) -> Plan:
    """List every run that ``config`` asks for.

    Raises:
        IntegrityError: the record of code versions is damaged.
    """
    builder = Builder(versions())
    add_data_runs(builder, config)
    add_pretrain_runs(builder, config)
    study = add_finetune_runs(builder, config)
    beyond, further = add_beyond_runs(builder, config)
    add_report_runs(builder, config, [*study, *further], beyond)
    return builder.plan(config)
