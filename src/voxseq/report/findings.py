"""Three sentences of findings: the best method, the reference, and random initialisation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from voxseq.config.registry import ENCODER_NETWORKS
from voxseq.config.report_run import MAIN_TABLES, ReportRun
from voxseq.report.metrics import Metric, printed
from voxseq.report.sheet import Cell, Column, Sheet


@dataclass(frozen=True)
class _Scores:
    """One column of a main table: the average where it has one, else its first task."""

    column: Column
    cells: dict[str, Cell]
    metric: Metric

    @property
    def place(self) -> str:
        """What the scores are of, inside a sentence."""
        if self.column.task:
            return f"On {self.column.title}"
        return "On the " + " ".join([self.column.title.lower(), self.column.detail]).strip()

    def score(self, method: str) -> str:
        """Mean of a method with its unit: "Dice 57.3 %"."""
        mean = self.cells[method].mean
        assert mean is not None
        unit = f" {self.metric.unit}" if self.metric.unit else ""
        return f"{self.metric.title} {mean:.{self.metric.decimals(mean)}f}{unit}"


def findings(
    study: ReportRun, sheets: Sequence[Sheet], differences: pd.DataFrame
) -> tuple[str, ...]:
    """The best method, the reference, and the reference against random initialisation.

    Args:
        study: gives methods and their titles.
        sheets: tables of the study, with their numbers.
        differences: comparisons: task (empty: the average), ratio, metric, other, variant,
            difference = reference − other in 0..1, low, high (ends of the 95 % interval).

    Returns:
        Nothing where fewer than two methods have run.
    """
    scores = _first_column(study, sheets)
    ran = [] if scores is None else [m for m, c in scores.cells.items() if _has_mean(c)]
    if scores is None or len(ran) < 2:
        return ()
    means = {method: float(scores.cells[method].mean or 0.0) for method in ran}
    better = -1 if scores.metric.lower_is_better else 1
    best, second = sorted(ran, key=lambda method: -better * means[method])[:2]
    lines = [f"{scores.place}, {study.title_of(best)} has the best mean: {scores.score(best)}."]
    reference = study.reference
    if reference is None or reference not in ran:
        return tuple(lines)
    compare = _Words(study, scores, differences, reference)
    title = study.title_of(reference)
    if best != reference:
        lines[0] = f"{lines[0][:-1]}; {compare.with_reference(best)}."
    else:
        next_one = f"{study.title_of(second)}, {scores.score(second)}"
        lines[0] = f"{lines[0][:-1]}; next is {next_one}: {compare.with_reference(second)}."
    marked = [m for m in ran if m != reference and scores.cells[m].mark in ("above", "below")]
    own = means[reference]
    rank = 1 + sum(scores.metric.is_better(mean - own) for mean in means.values())
    place = f"{title} is number {rank} of {len(ran)}: {scores.score(reference)}"
    names = ", ".join(map(study.title_of, marked))
    lines.append(f"{place}; " + (f"clearly different: {names}." if marked else compare.no_marks()))
    kind = next((t.type for t in study.tasks.values() if t.name == scores.column.task), None)
    scratch = ENCODER_NETWORKS[kind or "segmentation"]
    if scratch in ran and scratch != reference:
        begin = f"{study.title_of(scratch)}, the same network from random initialisation"
        lines.append(f"{begin}: {scores.score(scratch)}; {compare.with_reference(scratch)}.")
    return tuple(lines)


def _has_mean(cell: Cell) -> bool:
    return cell.mean is not None and not math.isnan(cell.mean)


def _first_column(study: ReportRun, sheets: Sequence[Sheet]) -> _Scores | None:
    """The average of the first main table that has one, else its first column."""
    mains = [s for s in sheets if s.number in MAIN_TABLES.values() and s.blocks]
    for sheet in mains[:1]:
        block = sheet.blocks[0]
        places = range(len(block.columns))
        index = next((i for i in places if not block.columns[i].task), 0)
        column = block.columns[index]
        titles = {study.title_of(method): method for method in study.methods}
        cells = {titles[r.title]: r.cells[index] for r in block.rows if r.title in titles}
        return _Scores(column, cells, printed(column.metric, column.unit))
    return None


@dataclass(frozen=True)
class _Words:
    """Differences from the reference as parts of sentences."""

    study: ReportRun
    scores: _Scores
    differences: pd.DataFrame
    reference: str

    def with_reference(self, method: str) -> str:
        """How far a method is from the reference, with interval and verdict."""
        frame = self.differences
        column, title = self.scores.column, self.study.title_of(self.reference)
        found = frame[
            (frame["task"] == column.task)
            & (frame["metric"] == column.metric)
            & (frame["ratio"] == 1.0)
            & (frame["other"] == method)
            & (frame["variant"] == "")
        ]
        if found.empty:
            return f"not compared with {title}"
        row = found.iloc[0]
        factor = -self.scores.metric.factor
        gap, *ends = (factor * float(row[name]) for name in ("difference", "high", "low"))
        decimals = self.scores.metric.decimals(gap)
        unit = " points" if self.scores.metric.unit == "%" else ""
        text = f"{gap:+.{decimals}f}{unit} against {title}"
        if not any(map(math.isnan, ends)):
            text += f" [{ends[0]:+.{decimals}f}, {ends[1]:+.{decimals}f}]"
        text = text.replace("-", "−")
        words = {"above": "clearly better", "below": "clearly worse", "unclear": "not clear"}
        mark = self.scores.cells[method].mark
        return f"{text}, {words.get(mark, 'without a test')}"

    def no_marks(self) -> str:
        """That no row differs clearly, or that none was tested."""
        marks = {cell.mark for cell in self.scores.cells.values()}
        if "unclear" in marks:
            return "no other method is clearly better or worse."
        return "with this number of seeds no difference is called clear."
