"""The result files that runs on all types of task share; the same numbers give the same bytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from voxseq.base.files import atomic_path, write_csv, write_json
from voxseq.data.task_volumes import Volumes
from voxseq.training.device import costs

if TYPE_CHECKING:
    from voxseq.config.runs import TaskRun
    from voxseq.finetune.recipe import Splits
    from voxseq.plan.context import RunContext

Array = NDArray[Any]
#: Case and its patient ("" for a whole split), label ("" where there is none), metric and value.
ScoreRow = tuple[str, str, str, str, float]
_SCORES = ("case", "subject", "label", "metric", "value")


def write_scores(path: Path, rows: Iterable[ScoreRow]) -> None:
    """Write a table of scores; an undefined one is ``nan``."""
    write_csv(path, _SCORES, [(*names, number(value)) for *names, value in rows])


def write_predictions(
    path: Path,
    volumes: Volumes,
    rows: Sequence[int],
    targets: Sequence[str],
    columns: Mapping[str, Array],
) -> None:
    """Write what was predicted of each case of the test split.

    Args:
        path: of the table.
        volumes: the store, which knows names and patients.
        rows: of the cases.
        targets: of the cases, as they are to be written.
        columns: name → (n,) predicted numbers.
    """
    values = ([number(value) for value in column] for column in columns.values())
    names, subjects = map(volumes.name, rows), map(volumes.subject, rows)
    lines = list(zip(names, subjects, targets, *values, strict=True))
    write_csv(path, ("case", "subject", "target", *columns), lines)


def number(value: float) -> str:
    """A number as the tables of a run hold it."""
    return f"{value:.9g}"


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write an npz file."""
    with atomic_path(path) as temporary, temporary.open("wb") as handle:
        np.savez(handle, **arrays)


def write_summary(
    context: RunContext[TaskRun],
    splits: Splits,
    numbers: Mapping[str, Any],
    cost: Mapping[str, Any],
) -> None:
    """Write summary.json, and cost.json of the state.

    Args:
        context: the run.
        splits: its cases.
        numbers: ``selected_by``, ``selected_step``, ``validation_score``, ``parameters`` and what
            else the kind of run has.
        cost: ``seconds`` that it took, and what else is known of its speed.
    """
    summary = context.config.model_dump(include={"task", "method", "seed", "ratio"})
    sizes = {f"n_{split}": len(rows) for split, rows in vars(splits).items()}
    write_json(context.out / "summary.json", {**summary, **sizes, **numbers})
    write_json(context.state / "cost.json", {**cost, **costs()})
