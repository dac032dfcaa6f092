"""Scores of all runs as one tidy frame, and the means that tables and figures are made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from voxseq.base.errors import IntegrityError
from voxseq.base.failures import read_named
from voxseq.base.files import read_json, size_of
from voxseq.config.report_run import FinetunedRun, ReportRun

KEYS = ("run", "stage", "task", "method", "variant", "ratio", "seed")
SCORE_COLUMNS = ("case", "label", "metric", "value")
MEAN_COLUMNS = (*KEYS, "metric", "value", "cases")
#: The run whose results the figures read besides those of the trainings.
TABLES_RUN = "tables/all"
#: What is read of the comparisons of rows with their references.
DIFFERENCE_COLUMNS = (
    *("table", "stage", "task", "ratio", "metric", "other", "variant"),
    *("difference", "low", "high"),
)
_TEXTS = {*KEYS[:5], "title", "case", "label", "metric", "split", "name", "other"}


def collect(study: ReportRun, inputs: Mapping[str, Path]) -> pd.DataFrame:
    """Read the test scores of every planned run that has finished.

    Returns:
        One row per run × case × label × metric: columns run, stage, task, method, variant (empty:
        the method itself), ratio (share of the labels, 0..1), seed, case, label, metric, value
        (NaN where undefined, such as Dice of a class that the case lacks).

    Raises:
        IntegrityError: a scores.csv that cannot be read or lacks a column.
    """
    return read_runs(study.runs, inputs, "scores.csv")


def read_runs(
    runs: Iterable[FinetunedRun],
    inputs: Mapping[str, Path],
    file: str,
    columns: tuple[str, ...] = SCORE_COLUMNS,
) -> pd.DataFrame:
    """Read one CSV file of every run that has it, with the run's keys in front of its columns."""
    frames = []
    for run in runs:
        path = run_file(inputs, run.id, file)
        if path is not None:
            keys = {"run": run.id, **{name: getattr(run, name) for name in KEYS[1:]}}
            frames.append(read_csv(path, columns).assign(**keys).loc[:, [*KEYS, *columns]])
    if not frames:
        return pd.DataFrame(columns=[*KEYS, *columns])
    return pd.concat(frames, ignore_index=True)


def read_means(inputs: Mapping[str, Path]) -> pd.DataFrame:
    """The frame of :func:`run_means` as the tables wrote it; empty in a study without scores."""
    path = run_file(inputs, TABLES_RUN, "tables/scores.csv")
    if path is None:
        return pd.DataFrame(columns=list(MEAN_COLUMNS))
    return read_csv(path, MEAN_COLUMNS)


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


def run_file(inputs: Mapping[str, Path], run: str, file: str) -> Path | None:
    """Path of a run's file; ``None`` where the run or the file is missing."""
    path = inputs[run] / file if run in inputs else None
    return path if path is not None and size_of(path) is not None else None


def read_csv(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    """Read the given columns; keys of runs, case, label, metric, split and name are text.

    Raises:
        IntegrityError: the file cannot be read, lacks a column or holds text for a number.
    """
    hint = "delete the run's folder and start the workflow again"
    try:
        with read_named(path):
            frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise IntegrityError(f"{path} cannot be read: {error}", hint) from None
    lacking = [c for c in columns if c not in frame.columns]
    if lacking:
        raise IntegrityError(f"{path} lacks the columns {', '.join(lacking)}", hint)
    frame = frame.loc[:, list(columns)]
    for name in (c for c in columns if c not in _TEXTS):
        text = frame[name].str.strip().str.lower().replace({"": "nan"})
        try:
            frame[name] = [float(value) for value in text]
        except ValueError as error:
            raise IntegrityError(f"{path}: column {name}: {error}", hint) from None
    return frame


def read_record(inputs: Mapping[str, Path], run: str, file: str) -> dict[str, Any]:
    """Read a run's JSON record such as summary.json; empty where it is missing.

    Raises:
        IntegrityError: the file is not a JSON object.
    """
    path = run_file(inputs, run, file)
    if path is None:
        return {}
    try:
        value = read_json(path)
    except (OSError, ValueError) as error:
        raise IntegrityError(f"{path} cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise IntegrityError(f"{path}: expected a JSON object, found {type(value).__name__}")
    return value


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
