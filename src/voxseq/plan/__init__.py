"""The plan: from a validated configuration to the list of runs. Nothing else decides what exists.

This package is a pure function and imports neither torch nor pandas: the workflow reads it at
every start.
"""

from __future__ import annotations

from voxseq.config import Config
from voxseq.config.report_run import ControlRow
from voxseq.plan.beyond import add_beyond_runs
from voxseq.plan.builder import Builder
from voxseq.plan.chain import chains
from voxseq.plan.code_versions import versions
from voxseq.plan.data import add_data_runs
from voxseq.plan.model import READS, STAGES, Job, Plan, Run, Stage
from voxseq.plan.report import add_report_runs, add_scores_run
from voxseq.plan.training import ResultKey, add_finetune_runs, add_pretrain_runs

__all__ = ["READS", "STAGES", "Job", "Plan", "Run", "Stage", "build_plan"]


def build_plan(config: Config) -> Plan:
    """List every run that ``config`` asks for.

    Raises:
        IntegrityError: the record of code versions is damaged.
    """
    builder = Builder(versions())
    cells: list[ResultKey] = []
    beyond: list[ControlRow] = []
    for chain in chains(config):
        add_data_runs(builder, chain)
        add_pretrain_runs(builder, chain)
        found = add_finetune_runs(builder, chain)
        beyond, further = add_beyond_runs(builder, chain)
        add_scores_run(builder, chain, [*found, *further])
        cells += [*found, *further]
    add_report_runs(builder, config, cells, beyond)
    return builder.plan(config)
