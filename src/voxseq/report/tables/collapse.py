"""Whether pre-training collapsed: spread and rank of the features of every encoder.

An encoder has collapsed when it gives all images nearly the same features, or features that differ
along a single direction. Both statistics are of the mean over tokens of the encoder's output for
the validation images, see :mod:`voxseq.models.features`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from voxseq.config.report_run import PretrainedRun, ReportRun
from voxseq.report.seeds.agree import seeds_of
from voxseq.report.seeds.model import TrainedRun
from voxseq.report.sheet import Cell, Sheet, text_block
from voxseq.report.writers import notes

#: The encoder ends with a layer norm, so that a feature's size is about one. Samples that differ by
#: a thousandth of that are alike for any classifier; encoders that work have 0.05 and more.
SMALLEST_SD = 1e-3
#: The effective rank is 1 where features vary along one direction and 2 for two equal ones: below
#: 2 less than two directions are in use.
SMALLEST_RANK = 2.0
HEADER = (
    *("Pre-training", "Seed", "Step", "Feature sd", "Effective rank"),
    *("Last step", "Feature sd, last", "Effective rank, last", "Collapsed"),
)
FIRST = ("first_step", "first_feature_sd", "first_effective_rank")
LAST = ("last_step", "last_feature_sd", "last_effective_rank")
COLUMNS = ("run", "method", "variant", "seed", *FIRST, *LAST, "verdict")
NOT_LOGGED = "missing"


def collapse_frame(study: ReportRun, inputs: Mapping[str, Path]) -> pd.DataFrame:
    """One row for every planned pre-training, methods first, then variants, each seed in turn.

    Args:
        study: what was planned.
        inputs: run id → folder, for the files of the seeds.

    Returns:
        Columns ``COLUMNS``: step, feature sd and effective rank at the first and last validation,
        the word "missing" where not logged; verdict is "collapsed", "no" or "missing".
    """
    order = {name: place for place, name in enumerate((*study.methods, *study.ablation))}

    def place(run: PretrainedRun) -> tuple[bool, int, int, int]:
        first, last = order.get(run.method, len(order)), order.get(run.variant, len(order))
        return bool(run.variant), first, last, run.seed

    seeds = seeds_of(study, inputs).scores
    found = {run.id: run for scores in seeds for run in scores.pretrainings}
    rows = []
    for run in sorted(study.pretrain_runs, key=place):
        points = _validations(found.get(run.id))
        first, last = (points[0], points[-1]) if points else ((NOT_LOGGED,) * 3,) * 2
        verdict = ("collapsed" if _reasons(last) else "no") if points else NOT_LOGGED
        rows.append((run.id, run.method, run.variant, run.seed, *first, *last, verdict))
    return pd.DataFrame(rows, columns=list(COLUMNS), dtype=object)


def collapse_sheet(study: ReportRun, frame: pd.DataFrame) -> Sheet:
    """The rows of ``collapse_frame`` as printed, those that have collapsed emphasised."""
    rows: list[tuple[str | Cell, ...]] = [
        (
            study.series_title(row["method"], row["variant"]),
            str(row["seed"]),
            *_texts([row[name] for name in FIRST]),
            *_texts([row[name] for name in LAST]),
            _verdict(row),
        )
        for row in frame.to_dict("records")
    ]
    block = text_block("", HEADER, rows)
    lines = notes("notes_collapse.txt", smallest_sd=SMALLEST_SD, smallest_rank=SMALLEST_RANK)
    title = "Collapse of pre-training"
    return Sheet("collapse", title, (block,), lines, phantoms=study.phantoms)


def _validations(run: TrainedRun | None) -> list[tuple[int, float, float]]:
    """Step, feature sd and effective rank of the validations that logged them."""
    points = run.validations if run is not None else ()
    return [
        (step, math.nan if sd is None else sd, math.nan if rank is None else rank)
        for step, _, sd, rank in points
        if (sd, rank) != (None, None)
    ]


def _reasons(point: Sequence[Any]) -> list[str]:
    """Which statistic says that an encoder has collapsed; NaN counts as collapsed."""
    _, sd, rank = point
    small_sd = [] if sd >= SMALLEST_SD else [f"feature sd below {SMALLEST_SD:g}"]
    small_rank = [] if rank >= SMALLEST_RANK else [f"effective rank below {SMALLEST_RANK:g}"]
    return small_sd + small_rank


def _verdict(row: Mapping[Any, Any]) -> Cell:
    if row["verdict"] != "collapsed":
        return Cell(text=row["verdict"])
    reasons = _reasons([row[name] for name in LAST])
    return Cell(text=f"YES: {', '.join(reasons)}", best=True)


def _texts(point: Sequence[Any]) -> tuple[str, ...]:
    step, sd, rank = point
    if step == NOT_LOGGED:
        return (NOT_LOGGED,) * 3
    return str(step), f"{sd:.4g}", f"{rank:.2f}"
