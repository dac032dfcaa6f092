"""Training curves and the label-ratio curve: tidy data for ``dvc plots``, and the figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from voxseq.base.files import write_text
from voxseq.plan.outputs import PLOTS
from voxseq.report.render import frame_to_csv
from voxseq.report.results import read_csv, run_file, select
from voxseq.report.study import FACTORS, Study, series_title

if TYPE_CHECKING:
    from voxseq.plan.context import RunContext

METRIC_COLUMNS = ("step", "split", "name", "value")
CURVE_KEYS = ("run", "stage", "task", "method", "variant", "ratio", "seed")
CURVE_COLUMNS = (*CURVE_KEYS, "split", "name", "step", "value")
RATIO_COLUMNS = ("task", "method", "title", "metric", "ratio", "mean", "sd", "n")
#: Names of the validation score, the first one present is drawn.
_SCORES: Mapping[str, tuple[str, ...]] = {
    "segmentation": ("dice", "score", "loss"),
    "classification": ("auc", "accuracy_plus_auc", "score", "accuracy", "loss"),
}


def thin(count: int, limit: int) -> list[int]:
    """At most ``limit`` evenly spread indices out of ``count``, first and last included."""
    if count <= limit:
        return list(range(count))
    return sorted({int(i) for i in np.linspace(0, count - 1, max(limit, 2)).round()})


def pretraining_curves(study: Study, inputs: Mapping[str, Path]) -> pd.DataFrame:
    """Training and validation loss of every pre-training: columns ``CURVE_COLUMNS``."""
    frames = []
    for run in study.pretrain_runs:
        keys = (run.id, "pretrain", "", run.method, run.variant, 1.0, 0)
        metrics = _metrics(inputs, run.id)
        for split in ("train", "val"):
            chosen = metrics[(metrics["split"] == split) & (metrics["name"] == "loss")]
            frames.append(_curve(chosen, keys, study.settings.max_curve_points))
    return _joined(frames)


def validation_curves(study: Study, inputs: Mapping[str, Path]) -> pd.DataFrame:
    """Validation score of every fine-tuning over the steps: columns ``CURVE_COLUMNS``."""
    frames = []
    for run in study.runs:
        keys = (run.id, run.stage, run.task, run.method, run.variant, run.ratio, run.seed)
        metrics = _metrics(inputs, run.id)
        metrics = metrics[metrics["split"] == "val"]
        names = set(metrics["name"])
        known = [name for name in _SCORES[study.tasks[run.task].type] if name in names]
        if known:
            chosen = metrics[metrics["name"] == known[0]]
            frames.append(_curve(chosen, keys, study.settings.max_curve_points))
    return _joined(frames)


def label_ratio_curve(study: Study, means: pd.DataFrame) -> pd.DataFrame:
    """Test score against the share of labels: one row a task × method × metric × ratio.

    Returns:
        Columns ``RATIO_COLUMNS``; mean and sd over seeds in the printed unit (Dice in %, AUC and
        ACC 0..1), sd NaN with one seed. Combinations that have not run have no row.
    """
    rows = []
    for task in (study.tasks[name] for name in study.ratio_tasks):
        # A method that is planned with all labels only has no curve.
        planned = {r.method for r in study.runs if r.task == task.name and r.stage == "label_ratio"}
        for method in (m for m in study.methods_of(task.type) if m in planned):
            for metric in task.metrics:
                for ratio in sorted({1.0, *study.ratios}, reverse=True):
                    values = FACTORS[metric] * select(
                        means, task=task.name, metric=metric, method=method, ratio=ratio
                    )["value"].astype(float)
                    if len(values):
                        head = (task.name, method, series_title(study, method, ""), metric, ratio)
                        rows.append((*head, values.mean(), values.std(ddof=1), len(values)))
    return pd.DataFrame(rows, columns=list(RATIO_COLUMNS))


def mean_over_seeds(curves: pd.DataFrame) -> pd.DataFrame:
    """Mean over seeds at each step, with the columns of the curves that name no seed."""
    by = ["stage", "task", "method", "variant", "ratio", "name", "step"]
    if curves.empty:
        return pd.DataFrame(columns=[*by, "value"])
    return curves.groupby(by, sort=False)["value"].mean().reset_index()


def write_plot_data(context: RunContext, study: Study, means: pd.DataFrame) -> None:
    """Write plots/*.csv into ``context.out``."""
    frames = (
        pretraining_curves(study, context.inputs),
        mean_over_seeds(validation_curves(study, context.inputs)),
        label_ratio_curve(study, means),
    )
    for name, frame in zip(PLOTS, frames, strict=True):
        write_text(context.out / name, frame_to_csv(frame, phantoms=study.phantoms))


def _metrics(inputs: Mapping[str, Path], run: str) -> pd.DataFrame:
    path = run_file(inputs, run, "metrics.csv")
    if path is None:
        return pd.DataFrame(columns=list(METRIC_COLUMNS))
    return read_csv(path, METRIC_COLUMNS)


def _curve(metrics: pd.DataFrame, keys: Sequence[Any], limit: int) -> pd.DataFrame:
    points = metrics.sort_values("step", kind="stable")
    points = points.iloc[thin(len(points), limit)].reset_index(drop=True)
    points = points.assign(**dict(zip(CURVE_KEYS, keys, strict=True)))
    points["step"] = points["step"].astype(int)
    return points.loc[:, list(CURVE_COLUMNS)]


def _joined(frames: Iterable[pd.DataFrame]) -> pd.DataFrame:
    filled = [frame for frame in frames if len(frame)]
    if not filled:
        return pd.DataFrame(columns=list(CURVE_COLUMNS))
    return pd.concat(filled, ignore_index=True)
