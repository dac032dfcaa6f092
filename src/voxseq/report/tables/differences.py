"""Every row of a table against its reference: paired comparisons with Holm's correction."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from voxseq.evaluation.statistics import (
    DELONG,
    WILCOXON,
    Array,
    Comparison,
    Draws,
    Pairing,
    compare_accuracy,
    compare_auc,
    compare_dice,
    compare_mean_dice,
    holm,
    smallest_p,
)
from voxseq.report.render import markdown_grid, markdown_head, markdown_notes
from voxseq.report.results import PREDICTION_COLUMNS, read_runs
from voxseq.report.study import DIGITS, FACTORS, METRIC_TITLES, REFERENCE, Study, series_title
from voxseq.report.tables import layout

#: A difference is clear below this corrected p value, if its interval leaves out zero as well.
SIGNIFICANT = 0.05
#: Stands for the average of Table 1 where a task is named.
ALL_TASKS = ""
_QUESTION = ("table", "stage", "task", "ratio", "metric")
COLUMNS = (
    *(*_QUESTION, "reference", "reference_variant", "other", "variant"),
    *("difference", "low", "high", "p", "p_holm", "test", "cases", "seeds", "seeds_other"),
)
HEADER = (
    *("Task", "Labels", "Score", "Reference", "Other", "Difference [95 % interval]"),
    *("p", "p (Holm)", "Clear", "Test", "Cases", "Seeds"),
)
_OURS = (REFERENCE, "")
_NOT_RUN = "missing: no pair of methods has run."


@dataclass(frozen=True)
class Question:
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


def differences(study: Study, scores: pd.DataFrame, inputs: Mapping[str, Path]) -> pd.DataFrame:
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
        One row a comparison, columns ``COLUMNS``; difference = reference − other in 0..1; p_holm is
        corrected over the comparisons of the table. A column of Table 3 with all labels repeats a
        comparison of Table 1 or 2, corrected anew. The task of the average of Table 1 is empty.
    """
    classification = {task.name for task in study.tasks_of("classification")}
    runs = [run for run in study.runs if run.task in classification]
    predictions = read_runs(runs, inputs, "predictions.csv", ("case", *PREDICTION_COLUMNS[1:]))
    comparer = _Comparer(
        study,
        _sides(scores[scores["metric"] == "dice"]),
        _sides(predictions.rename(columns={"probability": "value"}).assign(label="")),
        Draws(study.settings.bootstrap_samples, (study.settings.figure_seed, 7)),
    )
    rows: list[dict[str, Any]] = []
    known: dict[tuple[Any, ...], Comparison | None] = {}
    for question in questions(study):
        key = tuple(vars(question).values())[1:]
        if key not in known:
            known[key] = comparer.answer(question)
        found = known[key]
        if found is not None:
            asked = {name: getattr(question, name) for name in _QUESTION}
            names = dict(zip(COLUMNS[5:9], (*question.reference, *question.other), strict=True))
            rows.append({**asked, **names, **vars(found)})
    for table in sorted({row["table"] for row in rows}):
        family = [row for row in rows if row["table"] == table]
        for row, p in zip(family, holm([row["p"] for row in family]), strict=True):
            row["p_holm"] = p
    return pd.DataFrame(rows, columns=list(COLUMNS))


def questions(study: Study) -> Iterator[Question]:
    """The comparisons of Tables 1–5 in order, whether or not they have run."""
    if REFERENCE in study.methods:
        for table, kind in ((1, "segmentation"), (2, "classification")):
            yield from _of_methods(study, table, kind)
        yield from _of_ratios(study)
        yield from _of_ablation(study)
    yield from _beyond(study)


def _of_methods(study: Study, table: int, kind: str) -> Iterator[Question]:
    columns = [(task.name, m) for task in layout.ordered_tasks(study, kind) for m in task.metrics]
    if kind == "segmentation" and layout.average_tasks(study):
        columns.append((ALL_TASKS, "dice"))
    for name, metric in columns:
        for other in _others(study, kind):
            yield Question(table, "finetune", name, 1.0, metric, _OURS, other)


def _of_ratios(study: Study) -> Iterator[Question]:
    for task in (study.tasks[name] for name in study.ratio_tasks):
        for metric, ratio in product(task.metrics, study.all_ratios):
            stage = "finetune" if ratio == 1.0 else "label_ratio"
            for other in _others(study, task.type):
                yield Question(3, stage, task.name, ratio, metric, _OURS, other)


def _of_ablation(study: Study) -> Iterator[Question]:
    for task in (study.tasks[name] for name in study.ablation_tasks):
        for metric, variant in product(task.metrics, study.ablation):
            other = (REFERENCE, variant)
            yield Question(4, "ablation", task.name, 1.0, metric, _OURS, other)


def _beyond(study: Study) -> Iterator[Question]:
    rows = [row for row in study.beyond if row.is_compared]
    for task in (study.tasks[name] for name in study.beyond_tasks):
        for metric, row in product(task.metrics, rows):
            yield Question(5, "beyond", task.name, 1.0, metric, row.reference, row.series)


def is_clear(row: Mapping[Any, Any]) -> bool:
    """Whether a comparison is clear: corrected p below 0.05, and an interval without zero.

    The test is over cases, for the seeds that were run; the interval is over cases and seeds.
    """
    return bool(row["p_holm"] < SIGNIFICANT and (row["low"] > 0 or row["high"] < 0))


def to_markdown(study: Study, table: pd.DataFrame) -> str:
    """The comparisons as one Markdown table for each table of the study, with notes."""
    lines = markdown_head("Rows against their references", phantoms=study.phantoms)
    for number in sorted(set(table["table"])):
        chosen = table[table["table"] == number]
        body = [markdown_row(study, row) for row in chosen.to_dict("records")]
        lines += [f"### Table {number}", "", *markdown_grid(HEADER, body), ""]
    lines += [] if len(table) else [_NOT_RUN, ""]
    return "\n".join([*lines, *markdown_notes(notes(study))]) + "\n"


def notes(study: Study) -> tuple[str, ...]:
    """How the comparisons were made, for a reader of the table."""
    return (
        "Difference: the reference minus the other; Dice in percentage points, AUC and ACC in "
        "0–1. Positive: the reference is better.",
        f"Interval: percentiles 2.5 and 97.5 of {study.settings.bootstrap_samples} paired "
        "bootstrap samples, drawn over test cases and seeds; with one seed over cases only.",
        f"{WILCOXON}: two-sided, over test cases, each averaged over seeds and classes. {DELONG}: "
        "for AUC, which is no mean over cases; two-sided, over test cases, averaged over seeds.",
        "Seeds: where both have the same seeds they are paired. Else the first number is the "
        "reference's, the second the other's, and each is averaged over its own seeds.",
        "p (Holm): corrected over all comparisons of the table. Clear: corrected p below "
        f"{SIGNIFICANT:g} and an interval that leaves out zero.",
    )


def markdown_row(study: Study, row: Mapping[Any, Any]) -> list[str]:
    """The printed cells of one comparison, one for each word of ``HEADER``."""
    metric = str(row["metric"])
    factor, digits = FACTORS[metric], DIGITS[metric]
    gap, low, high = (
        _signed(factor * float(row[k]), digits) for k in ("difference", "low", "high")
    )
    seeds, seeds_other = int(row["seeds"]), int(row["seeds_other"])
    task = str(row["task"])
    return [
        study.tasks[task].title if task else layout.AVERAGE,
        f"{100 * float(row['ratio']):g} %",
        METRIC_TITLES[metric],
        series_title(study, str(row["reference"]), str(row["reference_variant"])),
        series_title(study, str(row["other"]), str(row["variant"])),
        f"{gap} [{low}, {high}]",
        _p_text(float(row["p"])),
        _p_text(float(row["p_holm"])),
        "yes" if is_clear(row) else "no",
        str(row["test"]),
        str(row["cases"]),
        str(seeds) if seeds == seeds_other else f"{seeds} and {seeds_other}",
    ]


def out_of_reach(study: Study, table: pd.DataFrame) -> tuple[str, ...]:
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
    return tuple(study.tasks[name].title if name else layout.AVERAGE for name in found)


@dataclass(frozen=True)
class _Comparer:
    """Answers questions from the scores (Dice) and the probabilities (classification)."""

    study: Study
    dice: Mapping[tuple[Any, ...], Side]
    probabilities: Mapping[tuple[Any, ...], Side]
    draws: Draws

    def answer(self, question: Question) -> Comparison | None:
        """The comparison; ``None`` where one of the two has not run or no case is common."""
        if question.task == ALL_TASKS:
            tasks = [task.name for task in layout.average_tasks(self.study)]
            return self._average(question, tasks)
        found = self._pair(question, question.task)
        if found is None:
            return None
        a, b, paired = found
        if question.metric == "dice":
            return compare_dice(a.values, b.values, self.draws, paired=paired)
        assert a.target is not None
        pair = Pairing(a.target, a.values[..., 0], b.values[..., 0], paired)
        return (compare_auc if question.metric == "auc" else compare_accuracy)(pair, self.draws)

    def _average(self, question: Question, tasks: list[str]) -> Comparison | None:
        """Over several tasks, where each of them has the same seeds."""
        pairs = [self._pair(question, task) for task in tasks]
        found = [pair for pair in pairs if pair is not None]
        seeds = {(a.seeds, b.seeds) for a, b, _ in found}
        if len(found) < len(tasks) or len(seeds) != 1:
            return None
        values = [(a.values, b.values) for a, b, _ in found]
        return compare_mean_dice(values, self.draws, paired=found[0][2])

    def _pair(self, question: Question, task: str) -> tuple[Side, Side, bool] | None:
        """Both sides on their common cases, and whether their seeds are the same."""
        sides = self.dice if question.metric == "dice" else self.probabilities
        ratio = round(question.ratio, 9)
        # Our full method and the methods of Table 5's references stand in Tables 1 and 2.
        stage = "label_ratio" if question.stage == "label_ratio" else "finetune"
        stage = "beyond" if question.reference[1] else stage
        a = sides.get((stage, task, *question.reference, ratio))
        b = sides.get((question.stage, task, *question.other, ratio))
        if a is None or b is None:
            return None
        cases = np.intersect1d(a.cases, b.cases)
        if not cases.size:
            return None
        labels = np.intersect1d(a.labels, b.labels)
        return _narrow(a, cases, labels), _narrow(b, cases, labels), a.seeds == b.seeds


def _sides(frame: pd.DataFrame) -> dict[tuple[Any, ...], Side]:
    """(stage, task, method, variant, ratio) → the scores, from a frame of case, label, value."""
    keys = ["stage", "task", "method", "variant", "ratio"]
    rounded = frame.assign(ratio=frame["ratio"].astype(float).round(9))
    sides = ((key, _side(group)) for key, group in rounded.groupby(keys, sort=False))
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
    target = None
    if "target" in frame:
        target = np.zeros(len(cases))
        target[case] = frame["target"].to_numpy(dtype=np.float64)
    kept = present.all(axis=0)
    return Side(
        tuple(int(s) for s in seeds),
        cases[kept],
        labels,
        values[:, kept],
        None if target is None else target[kept],
    )


def _narrow(side: Side, cases: NDArray[Any], labels: NDArray[Any]) -> Side:
    """The given cases and labels of a side, both sorted."""
    case = np.searchsorted(side.cases, cases)
    label = np.searchsorted(side.labels, labels)
    values = side.values[:, case][:, :, label]
    target = None if side.target is None else side.target[case]
    return Side(side.seeds, cases, labels, values, target)


def _others(study: Study, kind: str) -> list[tuple[str, str]]:
    return [(method, "") for method in study.methods_of(kind) if method != REFERENCE]


def _signed(value: float, digits: int) -> str:
    return "undefined" if math.isnan(value) else f"{value:+.{digits}f}"


def _p_text(p: float) -> str:
    if math.isnan(p):
        return "undefined"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
