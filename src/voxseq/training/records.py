"""State of a training besides its weights, and the file of its metrics."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lightning_fabric.loggers.logger import Logger

from voxseq.base.files import atomic_path
from voxseq.training.loggers import log


@dataclass
class Progress:
    """State of a run besides weights and optimiser; all of it is in the checkpoint.

    Attributes:
        step: steps done.
        validation_due: whether the validation that follows ``step`` is still to be done.
        seconds: spent on them, over all attempts.
        rows: of metrics.csv.
    """

    step: int = 0
    validation_due: bool = False
    best_step: int = -1
    best_score: float | None = None
    seconds: float = 0.0
    rows: list[tuple[int, str, str, float]] = field(default_factory=list)


def record(
    progress: Progress, split: str, values: Mapping[str, float], loggers: list[Logger]
) -> None:
    """Add a row of metrics for each value at the present step, and hand them to loggers."""
    progress.rows.extend((progress.step, split, name, value) for name, value in values.items())
    log(loggers, {f"{split}/{name}": value for name, value in values.items()}, progress.step)


def write_metrics(path: Path, progress: Progress) -> None:
    """Write ``metrics.csv`` with columns step, split, name, value."""
    with atomic_path(path) as temporary, temporary.open("w", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(("step", "split", "name", "value"))
        writer.writerows((s, split, name, f"{v:.9g}") for s, split, name, v in progress.rows)
