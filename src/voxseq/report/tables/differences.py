"""Every row of a table against its reference: paired comparisons with Holm's correction."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from voxseq.config.registry import TaskType
from voxseq.config.report_run import REFERENCE, ReportRun
from voxseq.evaluation.bootstrap import (
    DELONG,
    WILCOXON,
    Array,
    Comparison,
    Draws,
    Pairing,
    compare_accuracy,
    compare_auc,
    compare_mean_dice,
    smallest_p,
)
from voxseq.evaluation.statistics import holm
from voxseq.report.metrics import PRINTED
from voxseq.report.results import PREDICTION_COLUMNS, read_runs
from voxseq.report.sheet import Sheet, text_block
from voxseq.report.tables import layout
from voxseq.report.writers import notes

#: A difference is clear below this corrected p value, if its interval leaves out zero as well.
SIGNIFICANT = 0.05
#: Stands for the average of Table 1 where a task is named.
ALL_TASKS = ""
COLUMNS = (
    *("table", "stage", "task", "ratio", "metric"),
    *("reference", "reference_variant", "other", "variant"),
    *("difference", "low", "high", "p", "p_holm", "test", "cases", "seeds", "seeds_other"),
)
HEADER = (
    *("Task", "Labels", "Score", "Reference", "Other", "Difference [95 % interval]"),
    *("p", "p (Holm)", "Clear", "Test", "Cases", "Seeds"),
)
_OURS = (REFERENCE, "")
#: Tables with one column per task and the type of the tasks.
_KINDS: Mapping[int, TaskType] = {1: "segmentation", 2: "classification"}
_SIDE_KEYS = ["stage", "task", "method", "variant", "ratio"]


class Question(NamedTuple):
    """One comparison that a table asks for; an empty task is the average of Table 1.

    Attributes:
        stage: stage of the other's runs.
        reference: method and variant.
        other: method and variant.
    """

    table: int
    stage: str
    task: str
    ratio: float
    metric: str
    reference: tuple[str, str]
    other: tuple[str, str]


@dataclass(frozen=True)
class Side:
    """Scores of one method: values (seeds, cases, labels), and the class of each case."""

    seeds: tuple[int, ...]
    cases: NDArray[Any]
    labels: NDArray[Any]
    values: Array
    target: Array | None = None

    def part(self, cases: NDArray[Any], labels: NDArray[Any]) -> Side:
        """The given cases and labels, both sorted."""
        case, label = np.searchsorted(self.cases, cases), np.searchsorted(self.labels, labels)
        target = None if self.target is None else self.target[case]
        return Side(self.seeds, cases, labels, self.values[:, case][:, :, label], target)


def compare_rows(
    study: ReportRun, scores: pd.DataFrame, inputs: Mapping[str, Path]
) -> pd.DataFrame:
    """Every row of every table against its reference, where both have run.

    The reference of Tables 1–4 is our full method; Table 5 names one for each row. Where both
    have the same seeds they are paired by seed. Where they have not, as with a method that draws
    nothing and is run once, each is averaged over its own seeds: the difference is then still
    that of the two cells.

    Args:
        study: what was planned.
        scores: frame of ``collect``.
        inputs: run id → folder, for predictions.csv of the classification runs.

    Returns:
        One row per comparison, columns ``COLUMNS``; difference = reference − other in 0..1; p_holm
        is corrected over the comparisons of the table. A column of Table 3 with all labels repeats
        a comparison of Table 1 or 2, corrected anew. The task of the average of Table 1 is empty.
    """
    classification = {task.name for task in study.tasks_of("classification")}
    runs = [run for run in study.runs if run.task in classification]
    predictions = read_runs(runs, inputs, "predictions.csv", PREDICTION_COLUMNS)
    comparer = _Comparer(
        study,
        _sides(scores[scores["metric"] == "dice"]),
        _sides(predictions.rename(columns={"probability": "value"}).assign(label="")),
        Draws(study.report.bootstrap_samples, (study.report.figure_seed, 7)),
    )
    rows: list[dict[str, Any]] = []
    known: dict[tuple[Any, ...], Comparison | None] = {}
    for question in questions(study):
        if question[1:] not in known:
            known[question[1:]] = comparer.answer(question)
        found = known[question[1:]]
        if found is not None:
            asked = (*question[:5], *question.reference, *question.other)
            rows.append({**dict(zip(COLUMNS, asked, strict=False)), **vars(found)})
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    frame["p_holm"] = frame.groupby("table")["p"].transform(lambda p: holm(p.tolist()))
    return frame


def questions(study: ReportRun) -> Iterator[Question]:
    """The comparisons of Tables 1–5 in order, whether or not they have run."""
    tasks = study.tasks
    if REFERENCE in study.methods:
        for table, kind in _KINDS.items():
            columns = [(t.name, m) for t in layout.ordered_tasks(study, kind) for m in t.metrics]
            if table == 1 and layout.average_tasks(study):
                columns.append((ALL_TASKS, "dice"))
            for (name, metric), other in product(columns, _others(study, kind)):
                yield Question(table, "finetune", name, 1.0, metric, _OURS, other)
        for task in (tasks[name] for name in study.ratio_tasks):
            others = _others(study, task.type)
            for metric, ratio, other in product(task.metrics, study.ratios, others):
                stage = "finetune" if ratio == 1.0 else "label_ratio"
                yield Question(3, stage, task.name, ratio, metric, _OURS, other)
        for task in (tasks[name] for name in study.ablation_tasks):
            for metric, variant in product(task.metrics, study.ablation):
                other = (REFERENCE, variant)
                yield Question(4, "ablation", task.name, 1.0, metric, _OURS, other)
    compared = [row for row in study.beyond if row.is_compared]
    for task in (tasks[name] for name in study.beyond_tasks):
        for metric, row in product(task.metrics, compared):
            yield Question(5, "beyond", task.name, 1.0, metric, row.reference, row.series)


def _others(study: ReportRun, kind: TaskType) -> list[tuple[str, str]]:
    return [(method, "") for method in study.methods_of(kind) if method != REFERENCE]


def is_clear(row: Mapping[Any, Any]) -> bool:
    """Whether a comparison is clear: corrected p below 0.05, and an interval without zero.

    The test is over cases, for the seeds that were run; the interval is over cases and seeds.
    """
    return bool(row["p_holm"] < SIGNIFICANT and (row["low"] > 0 or row["high"] < 0))


def out_of_reach(study: ReportRun, table: pd.DataFrame) -> tuple[str, ...]:
    """Titles of the tasks with too few test cases for any difference of theirs to be clear.

    A signed-rank test of n cases cannot give less than 2^(1-n). Holm's correction multiplies that
    by at least the number of comparisons with no more cases.

    Args:
        study: for the titles.
        table: the comparisons of one table.
    """
    ranked = table[table["test"] == WILCOXON]
    found = []
    for cases in sorted(set(ranked["cases"])):
        if smallest_p(int(cases)) * int((ranked["cases"] <= cases).sum()) >= SIGNIFICANT:
            found += list(dict.fromkeys(ranked.loc[ranked["cases"] == cases, "task"]))
    return tuple(layout.task_title(study, name) for name in found)


def differences_sheet(study: ReportRun, frame: pd.DataFrame) -> Sheet:
    """The comparisons as one block for each table of the study."""
    blocks = (
        text_block(f"Table {number}", HEADER, (_cells(study, r) for r in part.to_dict("records")))
        for number, part in frame.groupby("table")
    )
    lines = notes(
        "notes_differences.txt",
        samples=study.report.bootstrap_samples,
        wilcoxon=WILCOXON,
        delong=DELONG,
        significant=SIGNIFICANT,
    )
    return Sheet(
        "differences",
        "Rows against their references",
        tuple(blocks),
        lines,
        empty="missing: no pair of methods has run.",
        phantoms=study.phantoms,
    )


def _cells(study: ReportRun, row: Mapping[Any, Any]) -> list[str]:
    """The printed cells of one comparison, one for each word of ``HEADER``."""
    metric = PRINTED[row["metric"]]
    scaled = (metric.factor * row[key] for key in ("difference", "low", "high"))
    gap, low, high = (
        "undefined" if math.isnan(value) else f"{value:+.{metric.digits}f}" for value in scaled
    )
    seeds, seeds_other = row["seeds"], row["seeds_other"]
    return [
        layout.task_title(study, row["task"]),
        f"{100 * row['ratio']:g} %",
        metric.title,
        study.series_title(row["reference"], row["reference_variant"]),
        study.series_title(row["other"], row["variant"]),
        f"{gap} [{low}, {high}]",
        _p_text(row["p"]),
        _p_text(row["p_holm"]),
        "yes" if is_clear(row) else "no",
        row["test"],
        str(row["cases"]),
        str(seeds) if seeds == seeds_other else f"{seeds} and {seeds_other}",
    ]


def _p_text(p: float) -> str:
    if math.isnan(p):
        return "undefined"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


@dataclass(frozen=True)
class _Comparer:
    """Answers questions from the scores (Dice) and the probabilities (classification)."""

    study: ReportRun
    dice: Mapping[tuple[Any, ...], Side]
    probabilities: Mapping[tuple[Any, ...], Side]
    draws: Draws

    def answer(self, question: Question) -> Comparison | None:
        """The comparison; ``None`` where one of the two has not run or no case is common."""
        averaged = [task.name for task in layout.average_tasks(self.study)]
        tasks = averaged if question.task == ALL_TASKS else [question.task]
        pairs = [pair for task in tasks if (pair := self._pair(question, task))]
        seeds = {(a.seeds, b.seeds) for a, b in pairs}
        # An average is that of tasks which all have the same seeds.
        if len(pairs) < len(tasks) or len(seeds) != 1:
            return None
        a, b = pairs[0]
        paired = a.seeds == b.seeds
        if a.target is None:
            values = [(a.values, b.values) for a, b in pairs]
            return compare_mean_dice(values, self.draws, paired=paired)
        both = Pairing(a.target, a.values[..., 0], b.values[..., 0], paired)
        return (compare_auc if question.metric == "auc" else compare_accuracy)(both, self.draws)

    def _pair(self, question: Question, task: str) -> tuple[Side, Side] | None:
        """Both sides on their common cases."""
        sides = self.dice if question.metric == "dice" else self.probabilities
        ratio = round(question.ratio, 9)
        # Our full method and the methods of Table 5's references stand in Tables 1 and 2.
        stage = "label_ratio" if question.stage == "label_ratio" else "finetune"
        stage = "beyond" if question.reference[1] else stage
        a = sides.get((stage, task, *question.reference, ratio))
        b = sides.get((question.stage, task, *question.other, ratio))
        if a is None or b is None:
            return None
        cases, labels = np.intersect1d(a.cases, b.cases), np.intersect1d(a.labels, b.labels)
        return (a.part(cases, labels), b.part(cases, labels)) if cases.size else None


def _sides(frame: pd.DataFrame) -> dict[tuple[Any, ...], Side]:
    """(stage, task, method, variant, ratio) → the scores, from a frame of case, label, value."""
    rounded = frame.assign(ratio=frame["ratio"].astype(float).round(9))
    sides = ((key, _side(group)) for key, group in rounded.groupby(_SIDE_KEYS, sort=False))
    return {tuple(key): side for key, side in sides if side.cases.size}


def _side(frame: pd.DataFrame) -> Side:
    """Cases that every seed has; the first value counts where a case occurs twice."""
    frame = frame.drop_duplicates(["seed", "case", "label"])
    seeds, seed = np.unique(frame["seed"].to_numpy(dtype=np.int64), return_inverse=True)
    cases, case = np.unique(frame["case"].to_numpy(dtype=str), return_inverse=True)
    labels, label = np.unique(frame["label"].to_numpy(dtype=str), return_inverse=True)
    values = np.full((len(seeds), len(cases), len(labels)), np.nan)
    values[seed, case, label] = frame["value"].to_numpy(dtype=np.float64)
    present = np.zeros(values.shape[:2], dtype=bool)
    present[seed, case] = True
    kept = present.all(axis=0)
    target = None
    if "target" in frame:
        target = np.zeros(len(cases))
        target[case] = frame["target"].to_numpy(dtype=np.float64)
        target = target[kept]
    return Side(tuple(map(int, seeds)), cases[kept], labels, values[:, kept], target)
