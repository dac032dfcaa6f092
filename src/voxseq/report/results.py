"""Scores of all runs as one tidy frame, and the means that tables and figures are made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from voxseq.base.errors import IntegrityError
from voxseq.base.failures import read_named
from voxseq.base.files import read_json, size_of
from voxseq.report.study import Run, Study

if TYPE_CHECKING:
    from voxseq.plan.context import RunContext

KEYS = ("run", "stage", "task", "method", "variant", "ratio", "seed")
SCORE_COLUMNS = ("case", "label", "metric", "value")
PREDICTION_COLUMNS = ("case", "target", "probability")


def collect(context: RunContext) -> pd.DataFrame:
    """Read the test scores of every planned run that has finished.

    Returns:
        One row a run × case × label × metric: columns run, stage, task, method, variant (empty:
        the method itself), ratio (share of the labels, 0..1), seed, case, label, metric, value
        (0..1; NaN where undefined, such as Dice of a class that the case lacks).

    Raises:
        IntegrityError: a scores.csv that cannot be read or lacks a column.
    """
    return read_runs(Study.from_config(context.config).runs, context.inputs, "scores.csv")


def read_runs(
    runs: Iterable[Run],
    inputs: Mapping[str, Path],
    file: str,
    columns: tuple[str, ...] = SCORE_COLUMNS,
) -> pd.DataFrame:
    """Read one CSV file of every run that has it, with the run's keys in front of its columns."""
    frames = []
    for run in runs:
        path = run_file(inputs, run.id, file)
        if path is None:
            continue
        frame = read_csv(path, columns)
        keys: tuple[Any, ...] = (
            run.id,
            run.stage,
            run.task,
            run.method,
            run.variant,
            run.ratio,
            run.seed,
        )
        frame = frame.assign(**dict(zip(KEYS, keys, strict=True)))
        frames.append(frame.loc[:, [*KEYS, *columns]])
    if not frames:
        return pd.DataFrame(columns=[*KEYS, *columns])
    return pd.concat(frames, ignore_index=True)


def run_file(inputs: Mapping[str, Path], run: str, file: str) -> Path | None:
    """Path of a run's file; ``None`` where the run or the file is missing."""
    folder = inputs.get(run)
    path = None if folder is None else Path(folder) / file
    return path if path is not None and size_of(path) is not None else None


def read_csv(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    """Read the given columns; the names case, label, metric, split and name are text.

    Raises:
        IntegrityError: the file cannot be read, lacks a column or holds text for a number.
    """
    texts = [c for c in columns if c in {"case", "label", "metric", "split", "name"}]
    numbers = [c for c in columns if c not in texts]
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
    for name in numbers:
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


def missing_runs(study: Study, scores: pd.DataFrame) -> tuple[Run, ...]:
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
    by = [*KEYS, "metric", "label"]
    grouped = scores.groupby(by, sort=False)["value"]
    return grouped.agg(value="mean", cases="count").reset_index()


def run_means(scores: pd.DataFrame) -> pd.DataFrame:
    """One value for every run and metric: mean over cases, then over labels (published code).

    A label that no case of the run has is left out of the second mean.

    Returns:
        Columns of ``KEYS``, metric, value, cases (number of cases scored; NaN for a score of
        a whole split).
    """
    if scores.empty:
        return pd.DataFrame(columns=[*KEYS, "metric", "value", "cases"])
    by = [*KEYS, "metric"]
    means = class_means(scores).groupby(by, sort=False)["value"].mean()
    # A score of a whole split, such as AUC, has no case: their number is then not known here.
    named = scores["case"].where(scores["case"] != "")
    cases = named.groupby([scores[key] for key in by], sort=False).nunique().astype(float)
    cases = cases.where(cases > 0)
    return pd.DataFrame({"value": means, "cases": cases}).reset_index()


def select(
    means: pd.DataFrame,
    *,
    task: str,
    metric: str,
    method: str,
    variant: str = "",
    ratio: float = 1.0,
) -> pd.DataFrame:
    """The rows of one cell of a table: one row a seed, ordered by seed."""
    chosen = (
        (means["task"] == task)
        & (means["metric"] == metric)
        & (means["method"] == method)
        & (means["variant"] == variant)
        & ((means["ratio"].astype(float) - ratio).abs() < 1e-9)
    )
    return means.loc[chosen].sort_values("seed").drop_duplicates("seed")
