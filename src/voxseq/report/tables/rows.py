"""Comparisons of rows, and intervals of single ones, from the scores of single patients."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from voxseq.config.report_run import ReportRun
from voxseq.evaluation.comparison import Comparison
from voxseq.evaluation.contrasts import contrast, contrast_auc, over_seeds
from voxseq.evaluation.effects import Array
from voxseq.evaluation.statistics import compare, compare_auc, compare_average, compare_pair
from voxseq.report.results import cell_values, run_means
from voxseq.report.tables.sides import TRIVIAL, Aligned, Side, Sides, aligned, sides_of_metrics


class RowKey(NamedTuple):
    """A row on a share of the labels, by the stage of its runs."""

    stage: str
    method: str
    variant: str = ""
    ratio: float = 1.0

    @property
    def draws(self) -> bool:
        """Whether seeds matter; all seeds of a baseline without a network agree."""
        return self.variant != TRIVIAL


@dataclass(frozen=True)
class RowScores:
    """Scores of all rows of a study.

    Attributes:
        sides: metric → scores of single patients of each row; a metric that is no mean over cases
            has none.
        means: frame of :func:`patient_means`.
    """

    study: ReportRun
    sides: Mapping[str, Sides]
    means: pd.DataFrame

    @cached_property
    def _by_cell(self) -> Mapping[tuple[Any, ...], pd.Series[Any]]:
        return cell_values(self.means)

    def values(self, metric: str, task: str, row: RowKey) -> pd.Series[Any]:
        """One score per seed, with the seed as index."""
        key = (row.stage, task, metric, row.method, row.variant, row.ratio)
        return self._by_cell.get(key, pd.Series(dtype=float))

    def seeds(self, metric: str, tasks: Sequence[str], row: RowKey) -> tuple[int, ...]:
        """Seeds that the row has on all of some tasks."""
        sets = [set(self.values(metric, task, row).index) for task in tasks]
        return tuple(sorted(set.intersection(*sets))) if sets else ()

    def alone(self, metric: str, tasks: Sequence[str], row: RowKey) -> Comparison | None:
        """Mean over tasks of a row, with its interval; ``None`` where it has not run."""
        seeds = self.seeds(metric, tasks, row)
        if not seeds:
            return None
        rows = self._stacks(metric, tasks, [row], seeds)
        if rows is None:
            return over_seeds(self._by_seed(metric, tasks, row, seeds))
        return _contrast(rows, [[1 / len(tasks)]] * len(tasks))

    def against(
        self, metric: str, tasks: Sequence[str], reference: RowKey, others: Sequence[RowKey]
    ) -> list[Comparison | None]:
        """The reference minus each other row; ``None`` where one of the two has not run.

        Rows with the reference's network and seeds are compared together, others one by one.
        """
        seeds = self.seeds(metric, tasks, reference)
        kind = self.study.tasks[tasks[0]].type
        network = self.study.network_of(reference.method, kind)
        together = [
            row
            for row in others
            if row.draws
            and self.study.network_of(row.method, kind) == network
            and self.seeds(metric, tasks, row) == seeds
        ]
        found: dict[RowKey, Comparison | None] = {}
        if together and seeds:
            rows = self._stacks(metric, tasks, [reference, *together], seeds)
            if rows is not None:
                found = dict(zip(together, _compared(rows), strict=True))
        results = [
            found[row] if row in found else self._pair(metric, tasks, reference, row)
            for row in others
        ]
        return [one if one and not math.isnan(one.difference) else None for one in results]

    def contrast(
        self, metric: str, tasks: Sequence[str], rows: Sequence[RowKey], weights: Any
    ) -> Comparison | None:
        """Sum over tasks and rows with weights (tasks, rows); ``None`` where a row has not run."""
        seeds = self._common(metric, tasks, rows)
        stacks = self._stacks(metric, tasks, rows, seeds) if seeds else None
        return None if stacks is None else _contrast(stacks, weights)

    def scans(self, task: str) -> tuple[int, int]:
        """Most scans of a run on a task, and patients that they are of."""
        sides = [s for of in self.sides.values() for key, s in of.items() if key[1] == task]
        if not sides:
            return 0, 0
        most = max(sides, key=lambda side: side.scans)
        return most.scans, max(count for *_, count in most.of_seeds())

    def _pair(
        self, metric: str, tasks: Sequence[str], one: RowKey, other: RowKey
    ) -> Comparison | None:
        seeds = self._common(metric, tasks, [one, other])
        if not seeds:
            return None
        rows = self._stacks(metric, tasks, [one, other], seeds)
        if rows is not None:
            return _compared(rows)[0]
        ours, others = (self._by_seed(metric, tasks, row, seeds) for row in (one, other))
        return over_seeds(ours - others)

    def _common(self, metric: str, tasks: Sequence[str], rows: Sequence[RowKey]) -> tuple[int, ...]:
        """Seeds that all rows have; a row that draws nothing has all seeds of the others."""
        of_rows = {row: set(self.seeds(metric, tasks, row)) for row in rows}
        if not all(of_rows.values()):
            return ()
        drawn = [seeds for row, seeds in of_rows.items() if self._depends(row)]
        return tuple(sorted(set.intersection(*(drawn or of_rows.values()))))

    def _depends(self, row: RowKey) -> bool:
        """Whether a row's scores depend on the seed: by what it draws, or by cases of its own."""
        return row.draws or self.study.phantoms

    def _stacks(
        self, metric: str, tasks: Sequence[str], rows: Sequence[RowKey], seeds: Sequence[int]
    ) -> list[Aligned] | None:
        """Scores of single patients on each task; ``None`` where there are none."""
        known = self.sides.get(metric, {})
        stacks = []
        for task in tasks:
            sides = []
            for row in rows:
                key = (row.stage, task, row.method, row.variant, round(row.ratio, 9))
                side = known.get(key)
                if side is None:
                    return None
                sides.append(_on(side, seeds, repeat=not self._depends(row)))
            stacks.append(aligned(sides, seeds))
        return stacks

    def _by_seed(
        self, metric: str, tasks: Sequence[str], row: RowKey, seeds: Sequence[int]
    ) -> Array:
        """Mean over tasks of each seed."""
        parts = []
        for task in tasks:
            values = self.values(metric, task, row)
            if not self._depends(row):
                values = pd.Series(values.iloc[0], index=list(seeds))
            parts.append(values.loc[list(seeds)].to_numpy(dtype=float))
        return np.asarray(np.mean(parts, axis=0))


def row_scores(study: ReportRun, scores: pd.DataFrame, inputs: Mapping[str, Path]) -> RowScores:
    """Gather the scores of all rows.

    Args:
        study: what was planned.
        scores: frame of ``collect``.
        inputs: run id → folder, for predictions.csv.
    """
    sides = sides_of_metrics(study, scores, inputs)
    return RowScores(study, sides, patient_means(study, run_means(scores), sides))


def patient_means(
    study: ReportRun, means: pd.DataFrame, sides: Mapping[str, Sides]
) -> pd.DataFrame:
    """The frame of ``run_means``, of which each patient counts once.

    Where several scans of a task are of one patient, they are averaged first; cases is then the
    number of patients.
    """
    keys = ["stage", "task", "method", "variant", "ratio", "seed", "metric"]
    found: dict[tuple[Any, ...], tuple[float, int]] = {}
    for metric, rows in sides.items():
        for key, side in rows.items():
            for seed, score, patients in side.of_seeds():
                if side.scans > patients:
                    found[(*key, seed, metric)] = (score, patients)
    if not found:
        return means
    named = zip(*(means[name] for name in keys), strict=True)
    places = [(*key[:4], round(float(key[4]), 9), int(key[5]), key[6]) for key in named]
    changed = means.copy()
    for name, part in (("value", 0), ("cases", 1)):
        kept = zip(places, means[name], strict=True)
        changed[name] = [found[key][part] if key in found else old for key, old in kept]
    return changed


def _on(side: Side, seeds: Sequence[int], *, repeat: bool) -> Side:
    return side.repeated(seeds) if repeat and side.seeds != tuple(seeds) else side


def _contrast(tasks: Sequence[Aligned], weights: Any) -> Comparison:
    first = tasks[0]
    if first.target is not None:
        return contrast_auc(first.target, first.values[..., 0], weights[0])
    return contrast([task.values for task in tasks], weights)


def _compared(tasks: Sequence[Aligned]) -> list[Comparison]:
    """The first row minus each other one; two rows alone are a pair."""
    first = tasks[0]
    if first.target is not None:
        return compare_auc(first.target, first.values[..., 0], 0)
    if len(tasks) > 1:
        return compare_average([task.values for task in tasks], 0)
    if len(first.values) == 2:
        return compare_pair(first.values[0], first.values[1])
    return compare(first.values, 0)
