"""Scores of all runs as one tidy frame, and the means that tables and figures are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from voxseq.base.errors import IntegrityError
from voxseq.config.report_run import FinetunedRun, ReportRun
from voxseq.report.reading import KEYS, SCORE_COLUMNS, read_csv, run_file
from voxseq.report.seeds.agree import seeds_of
from voxseq.report.seeds.model import Numbers, ScoredRun, by_case

MEAN_COLUMNS = (*KEYS, "metric", "value", "cases")
#: The run whose results the figures read besides those of the trainings.
TABLES_RUN = "tables/all"
#: What is read of the comparisons of rows with their references.
DIFFERENCE_COLUMNS = (
    *("table", "stage", "task", "ratio", "metric", "other", "variant"),
    *("difference", "low", "high"),
)


def collect(study: ReportRun, inputs: Mapping[str, Path]) -> pd.DataFrame:
    """The test scores of every run that has finished, from the files of the seeds.

    Args:
        study: what was planned.
        inputs: run id → folder, for the files of the seeds.

    Returns:
        One row per run × case × label × metric: columns run, stage, task, method, variant (empty:
        the method itself), ratio (share of the labels, 0..1), seed, subject (patient), case, label,
        metric, value (NaN where undefined, such as Dice of a class that the case lacks). Scores of
        a whole split have no case and no subject.

    Raises:
        IntegrityError: a file of a seed that is damaged.
    """
    blocks = []
    for scores in seeds_of(study, inputs).scores:
        for run in scores.runs:
            named = by_case(scores, run)
            for metric, by_label in run.scores.items():
                for label, values in by_label.items():
                    blocks.append((run, named["subject"], named["case"], label, metric, values))
            for label, metric, value in run.whole:
                blocks.append((run, ("",), ("",), label, metric, (value,)))
    return _joined([_block(*block) for block in blocks], (*KEYS, *SCORE_COLUMNS))


def _block(
    run: ScoredRun,
    subjects: Sequence[str],
    cases: Sequence[str],
    label: str,
    metric: str,
    values: Numbers,
) -> pd.DataFrame:
    """Rows of one score of a run."""
    columns = {"subject": subjects, "case": cases, "label": label, "metric": metric}
    return pd.DataFrame({**keys_of(run), **columns, "value": np.array(values, dtype=float)})


def predicted(
    study: ReportRun, task: str, inputs: Mapping[str, Path], columns: Sequence[str]
) -> pd.DataFrame:
    """What every run on a task that has finished predicted of each case.

    Args:
        study: what was planned.
        task: name.
        inputs: as those of :func:`collect`.
        columns: that each run has to have.

    Returns:
        One row per run × case: ``KEYS``, subject, case, target and ``columns``; NaN: undefined.

    Raises:
        IntegrityError: a run lacks a column.
    """
    frames = []
    for scores in seeds_of(study, inputs).scores:
        for run in (run for run in scores.runs if run.task == task and run.predicted):
            lacking = [name for name in columns if name not in run.predicted]
            if lacking:
                raise IntegrityError(
                    f"predictions.csv of run {run.id} lacks the columns {', '.join(lacking)}",
                    "delete the run's folder and start the workflow again",
                )
            named = by_case(scores, run)
            numbers = {"target": named["target"], **{c: run.predicted[c] for c in columns}}
            frame = {**keys_of(run), "subject": named["subject"], "case": named["case"]}
            frame |= {name: np.array(values, dtype=float) for name, values in numbers.items()}
            frames.append(pd.DataFrame(frame))
    return _joined(frames, (*KEYS, "subject", "case", "target", *columns))


def keys_of(run: FinetunedRun) -> dict[str, Any]:
    """The keys of a run as columns."""
    return {"run": run.id, **{name: getattr(run, name) for name in KEYS[1:]}}


def _joined(frames: list[pd.DataFrame], columns: tuple[str, ...]) -> pd.DataFrame:
    if not frames:
        return pd.DataFrame(columns=list(columns))
    return pd.concat(frames, ignore_index=True).loc[:, list(columns)]


def sizes_of(study: ReportRun, inputs: Mapping[str, Path]) -> dict[str, Mapping[str, int]]:
    """Run id → its numbers of cases: "n_train", "n_val" and "n_test", as far as they are known."""
    return {run.id: run.sizes for scores in seeds_of(study, inputs).scores for run in scores.runs}


def read_differences(inputs: Mapping[str, Path]) -> pd.DataFrame:
    """The comparisons of rows as the tables wrote them; empty in a study without any.

    Returns:
        Columns ``DIFFERENCE_COLUMNS``: difference = reference − other in 0..1 or the unit of the
        metric, low and high the ends of its 95 % interval; an empty task is the average.
    """
    path = run_file(inputs, TABLES_RUN, "tables/differences.csv")
    if path is None:
        return pd.DataFrame(columns=list(DIFFERENCE_COLUMNS))
    return read_csv(path, DIFFERENCE_COLUMNS)


def read_means(inputs: Mapping[str, Path]) -> pd.DataFrame:
    """The frame of :func:`run_means` as the tables wrote it; empty in a study without scores."""
    path = run_file(inputs, TABLES_RUN, "tables/scores.csv")
    if path is None:
        return pd.DataFrame(columns=list(MEAN_COLUMNS))
    return read_csv(path, MEAN_COLUMNS)


def missing_runs(study: ReportRun, scores: pd.DataFrame) -> tuple[FinetunedRun, ...]:
    """The planned runs without a single score."""
    present = set(scores["run"])
    return tuple(run for run in study.runs if run.id not in present)


def class_means(scores: pd.DataFrame) -> pd.DataFrame:
    """Mean over cases for every run, metric and label; undefined values are left out.

    Returns:
        Columns of ``KEYS``, metric, label, value, cases (number of cases with a value).
    """
    if scores.empty:
        return pd.DataFrame(columns=[*KEYS, "metric", "label", "value", "cases"])
    grouped = scores.groupby([*KEYS, "metric", "label"], sort=False)["value"]
    return grouped.agg(value="mean", cases="count").reset_index()


def run_means(scores: pd.DataFrame) -> pd.DataFrame:
    """One value for every run and metric: mean over cases, then over labels (published code).

    A label that no case of the run has is left out of the second mean. Where a run has a score of
    the whole split, that is the value, and those of single labels are not part of it.

    Returns:
        Columns ``MEAN_COLUMNS``; cases is the number of cases scored, NaN for a score of a whole
        split.
    """
    if scores.empty:
        return pd.DataFrame(columns=list(MEAN_COLUMNS))
    by = [*KEYS, "metric"]
    is_whole = (scores["case"] == "") & (scores["label"] == "")
    has_whole = is_whole.groupby([scores[key] for key in by]).transform("any")
    scores = scores[is_whole | ~has_whole]
    means = class_means(scores).groupby(by, sort=False)["value"].mean()
    # A score of a whole split, such as AUC, has no case: their number is then not known here.
    named = scores["case"].where(scores["case"] != "")
    cases = named.groupby([scores[key] for key in by], sort=False).nunique().astype(float)
    cases = cases.where(cases > 0)
    return pd.DataFrame({"value": means, "cases": cases}).reset_index()


def cell_values(means: pd.DataFrame) -> dict[tuple[Any, ...], pd.Series[Any]]:
    """(stage, task, metric, method, variant, ratio) → one score per seed, by seed."""
    by = ["stage", "task", "metric", "method", "variant", "ratio"]
    ordered = means.sort_values("seed").drop_duplicates([*by, "seed"])
    grouped = ordered.groupby(by, sort=False)
    return {tuple(key): part.set_index("seed")["value"] for key, part in grouped}


def main_scores(study: ReportRun, means: pd.DataFrame) -> pd.DataFrame:
    """Mean over seeds of the main metric at full labels: methods × tasks, NaN: missing."""
    main = means["task"].map({task.name: task.metrics[0] for task in study.tasks.values()})
    full = means[(means["stage"] == "finetune") & (means["metric"] == main)]
    scores = full.groupby(["method", "task"])["value"].mean().unstack()
    return scores.reindex(index=list(study.methods), columns=list(study.tasks)).astype(float)
