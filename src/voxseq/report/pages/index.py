"""The report page: all tables and figures in one HTML file; single cases have their own page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from voxseq.config.report_run import ReportRun
from voxseq.plan.outputs import SHEETS
from voxseq.report.findings import findings
from voxseq.report.metrics import PRINTED
from voxseq.report.reading import read_record
from voxseq.report.results import TABLES_RUN, missing_runs, read_differences, read_means, sizes_of
from voxseq.report.seeds.agree import Seeds, seeds_of
from voxseq.report.sheet import Block, Sheet, read_sheets, text_block
from voxseq.report.writers import to_html


def render_index(
    study: ReportRun,
    inputs: Mapping[str, Path],
    pictures: Mapping[str, bytes],
    *,
    has_cases: bool = True,
) -> str:
    """The page, from the tables that were written and the records of the runs.

    Args:
        study: what was planned.
        inputs: run id → folder.
        pictures: stem → PNG of each figure, in order.
        has_cases: whether there is a page of single cases.
    """
    sheets = read_sheets(inputs[TABLES_RUN] / SHEETS)
    means, seeds = read_means(inputs), seeds_of(study, inputs)
    gone = _gone(study, means, seeds)
    missing = (f"missing run: {run}" for run in gone)
    stages = (
        (title, f"{sum(run not in gone for run in ids)} of {len(ids)}")
        for title, ids in study.stages().items()
    )
    return to_html(
        "index.html",
        study=study,
        sheets=sheets,
        findings=findings(study, sheets, read_differences(inputs)),
        pictures=pictures,
        has_cases=has_cases,
        warnings=[*_left_out(seeds), *_collapsed(sheets), *missing, *_undefined(means)],
        stages=text_block("", ("Stage", "Runs finished"), stages),
        sizes=_sizes(study, inputs),
        exclusion=_exclusion(inputs),
    )


def _left_out(seeds: Seeds) -> Iterator[str]:
    yield from (f"a seed is left out: {reason}" for reason in seeds.left_out)


def _exclusion(inputs: Mapping[str, Path]) -> Mapping[str, Any]:
    """What was kept out of the sequences of the first seed."""
    index = next((run for run in inputs if run.startswith("sequences/")), "")
    return read_record(inputs, index, "exclusion.json")


def _gone(study: ReportRun, means: pd.DataFrame, seeds: Seeds) -> list[str]:
    """Ids of the planned runs without results, pre-training first."""
    done = {run.id for scores in seeds.scores for run in scores.pretrainings}
    absent = [run.id for run in study.pretrain_runs if run.id not in done]
    return absent + sorted(run.id for run in missing_runs(study, means))


def _collapsed(sheets: Sequence[Sheet]) -> Iterator[str]:
    blocks = [block for sheet in sheets if sheet.name == "collapse" for block in sheet.blocks]
    for row in (row for block in blocks for row in block.rows if row.cells[-1].best):
        yield f"collapsed: {row.title}"


def _undefined(means: pd.DataFrame) -> Iterator[str]:
    """Scores of a whole split; a mean over cases is undefined where no case has the structure.

    A trivial baseline has scores that are undefined by its nature, such as the correlation of a
    constant.
    """
    of_cases = [name for name, metric in PRINTED.items() if metric.per_case]
    is_expected = means["metric"].isin(of_cases) | (means["variant"] == "trivial")
    undefined = means[means["value"].isna() & ~is_expected]
    for run in undefined["run"].unique():
        yield f"a score of run {run} is undefined"


def _sizes(study: ReportRun, inputs: Mapping[str, Path]) -> Block:
    """The number of cases of each task for training (all labels), validation and test."""
    rows, sizes = [], sizes_of(study, inputs)
    for task in study.tasks.values():
        runs = (run for run in study.runs if run.task == task.name and run.ratio == 1.0)
        record = next(filter(None, (sizes.get(run.id) for run in runs)), {})
        counts = (record.get(key, "not known") for key in ("n_train", "n_val", "n_test"))
        rows.append((task.title, *map(str, counts)))
    return text_block("", ("Task", "Training", "Validation", "Test"), rows)
