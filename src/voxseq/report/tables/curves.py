"""Training curves and the label-ratio curve: tidy data for ``dvc plots`` and the figures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from voxseq.config.report_run import FinetunedRun, PretrainedRun, ReportRun
from voxseq.report.metrics import PRINTED
from voxseq.report.reading import KEYS, read_csv, run_file
from voxseq.report.results import cell_values

METRIC_COLUMNS = ("step", "split", "name", "value")
CURVE_COLUMNS = (*KEYS, "split", "name", "step", "value")
RATIO_COLUMNS = ("task", "method", "title", "metric", "ratio", "mean", "sd", "n")
#: Names of the validation score, the first one present is drawn.
_SCORES: Mapping[str, tuple[str, ...]] = {
    "segmentation": ("dice", "score", "loss"),
    "classification": ("auc", "accuracy_plus_auc", "score", "accuracy", "loss"),
    "regression": ("mae", "r2", "correlation", "score", "loss"),
}
_Run = TypeVar("_Run", FinetunedRun, PretrainedRun)


def thin(count: int, limit: int) -> list[int]:
    """At most ``limit`` evenly spread indices out of ``count``, first and last included."""
    if count <= limit:
        return list(range(count))
    return sorted({int(i) for i in np.linspace(0, count - 1, max(limit, 2)).round()})


def pretraining_curves(study: ReportRun, inputs: Mapping[str, Path]) -> pd.DataFrame:
    """Training and validation loss of every pre-training: columns ``CURVE_COLUMNS``."""
    frames = []
    for run, metrics in _logged(study.pretrain_runs, inputs):
        keys = {"stage": "pretrain", "task": "", "ratio": 1.0, "seed": run.seed}
        keys |= {"run": run.id, "method": run.method, "variant": run.variant}
        losses = metrics[metrics["name"] == "loss"]
        frames += [_curve(study, losses[losses["split"] == s], keys) for s in ("train", "val")]
    return _joined(frames)


def validation_curves(study: ReportRun, inputs: Mapping[str, Path]) -> pd.DataFrame:
    """Validation score of every fine-tuning over the steps: columns ``CURVE_COLUMNS``."""
    frames = []
    for run, metrics in _logged(study.runs, inputs):
        keys = {"run": run.id, **{name: getattr(run, name) for name in KEYS[1:]}}
        scores = metrics[metrics["split"] == "val"]
        present = set(scores["name"])
        known = [name for name in _SCORES[study.tasks[run.task].type] if name in present]
        if known:
            frames.append(_curve(study, scores[scores["name"] == known[0]], keys))
    return _joined(frames)


def label_ratio_curve(study: ReportRun, means: pd.DataFrame) -> pd.DataFrame:
    """Test score against the share of labels: one row per task × method × metric × ratio.

    Returns:
        Columns ``RATIO_COLUMNS``; mean and sd over seeds in the printed unit (Dice in %, AUC and
        ACC 0..1, MAE in the unit of the task), sd NaN with one seed. Combinations that have not
        run have no row.
    """
    values = cell_values(means)
    # A method that is planned with all labels only has no curve.
    planned = {(run.task, run.method) for run in study.runs if run.stage == "label_ratio"}
    rows = []
    for task in (study.tasks[name] for name in study.ratio_tasks):
        methods = [m for m in study.methods_of(task.type) if (task.name, m) in planned]
        for method, metric, ratio in product(methods, task.metrics, study.ratios):
            stage = "finetune" if ratio == 1.0 else "label_ratio"
            found = values.get((stage, task.name, metric, method, "", ratio))
            if found is not None:
                scores = PRINTED[metric].factor * found
                head = (task.name, method, study.title_of(method), metric, ratio)
                rows.append((*head, scores.mean(), scores.std(ddof=1), len(scores)))
    return pd.DataFrame(rows, columns=list(RATIO_COLUMNS))


def mean_over_seeds(curves: pd.DataFrame) -> pd.DataFrame:
    """Mean over seeds at each step, with the columns of the curves that name no seed."""
    by = ["stage", "task", "method", "variant", "ratio", "name", "step"]
    if curves.empty:
        return pd.DataFrame(columns=[*by, "value"])
    return curves.groupby(by, sort=False)["value"].mean().reset_index()


def smooth(values: pd.Series[float]) -> pd.Series[float]:
    """Mean of neighbouring points, a fifteenth of the curve wide; fewer than 30 are kept."""
    width = max(1, len(values) // 15)
    return values.rolling(width, center=True, min_periods=1).mean()


def _logged(
    runs: Iterable[_Run], inputs: Mapping[str, Path]
) -> Iterator[tuple[_Run, pd.DataFrame]]:
    """The runs that have a log of their metrics, each with it."""
    for run in runs:
        path = run_file(inputs, run.id, "metrics.csv")
        if path is not None:
            yield run, read_csv(path, METRIC_COLUMNS)


def _curve(study: ReportRun, metrics: pd.DataFrame, keys: Mapping[str, Any]) -> pd.DataFrame:
    points = metrics.sort_values("step", kind="stable")
    points = points.iloc[thin(len(points), study.report.max_curve_points)].assign(**keys)
    points["step"] = points["step"].astype(int)
    return points.loc[:, list(CURVE_COLUMNS)]


def _joined(frames: list[pd.DataFrame]) -> pd.DataFrame:
    filled = [frame for frame in frames if len(frame)]
    if not filled:
        return pd.DataFrame(columns=list(CURVE_COLUMNS))
    return pd.concat(filled, ignore_index=True)
