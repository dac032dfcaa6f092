"""Whether pre-training collapsed: spread and rank of the features of every encoder.

An encoder has collapsed when it gives all images nearly the same features, or features that differ
along a single direction. Both statistics are of the mean over tokens of the encoder's output for
the validation images, see :mod:`voxseq.models.features`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from voxseq.base.files import write_text
from voxseq.report.escape import Markdown
from voxseq.report.render import frame_to_csv, markdown_grid, markdown_head, markdown_notes
from voxseq.report.results import read_csv, run_file
from voxseq.report.study import Study, series_title

#: The encoder ends with a layer norm, so that a feature's size is about one. Samples that differ by
#: a thousandth of that are alike for any classifier; encoders that work have 0.05 and more.
SMALLEST_SD = 1e-3
#: The effective rank is 1 where features vary along one direction and 2 for two equal ones: below
#: 2 less than two directions are in use.
SMALLEST_RANK = 2.0
HEADER = (
    *("Pre-training", "Step", "Feature sd", "Effective rank"),
    *("Last step", "Feature sd, last", "Effective rank, last", "Collapsed"),
)
COLUMNS = (
    *("run", "method", "variant", "first_step", "first_feature_sd", "first_effective_rank"),
    *("last_step", "last_feature_sd", "last_effective_rank", "verdict"),
)
NOT_LOGGED = "missing"
_METRICS = ("step", "split", "name", "value")
Verdict = Literal["collapsed", "no", "missing"]


@dataclass(frozen=True)
class CollapseRow:
    """Features of one encoder at its first and last validation; ``None`` where not logged.

    Attributes:
        run: id of the pre-training.
        title: the method, or the variant of ours, as the tables print it.
        first: (step, feature sd, effective rank).
        last: the same at the last validation.
    """

    run: str
    method: str
    variant: str
    title: str
    first: tuple[int, float, float] | None
    last: tuple[int, float, float] | None

    @property
    def reasons(self) -> tuple[str, ...]:
        """Which statistic says that the last encoder has collapsed; NaN counts as collapsed."""
        if self.last is None:
            return ()
        _, sd, rank = self.last
        small_sd = [] if sd >= SMALLEST_SD else [f"feature sd below {SMALLEST_SD:g}"]
        small_rank = [] if rank >= SMALLEST_RANK else [f"effective rank below {SMALLEST_RANK:g}"]
        return (*small_sd, *small_rank)

    @property
    def verdict(self) -> Verdict:
        """ "collapsed", "no", or "missing" where nothing was logged."""
        if self.last is None:
            return "missing"
        return "collapsed" if self.reasons else "no"

    @property
    def cells(self) -> tuple[str, ...]:
        """The printed cells, one for each word of ``HEADER``."""
        said = "YES" if self.verdict == "collapsed" else self.verdict
        why = f": {', '.join(self.reasons)}" if self.reasons else ""
        return (self.title, *_texts(self.first), *_texts(self.last), f"{said}{why}")


def collapse_rows(study: Study, inputs: Mapping[str, Path]) -> tuple[CollapseRow, ...]:
    """One row for every planned pre-training, methods first, then variants.

    Args:
        study: what was planned.
        inputs: run id → folder, for metrics.csv.
    """
    runs = sorted(study.pretrain_runs, key=lambda run: _place(study, run.method, run.variant))
    return tuple(
        CollapseRow(
            run.id,
            run.method,
            run.variant,
            series_title(study, run.method, run.variant),
            *_ends(run_file(inputs, run.id, "metrics.csv")),
        )
        for run in runs
    )


def notes() -> tuple[str, ...]:
    """How to read the rows."""
    return (
        "Feature sd: standard deviation over validation images, averaged over channels, of the "
        "encoder's mean token. Effective rank: exponential of the entropy of the singular values "
        "of the centred features, between 1 and the number of channels or images.",
        f"Collapsed: at the last validation the feature sd is below {SMALLEST_SD:g} or the "
        f"effective rank below {SMALLEST_RANK:g}. The encoder ends with a layer norm, so that a "
        "feature is about one in size.",
    )


def write(folder: Path, rows: Iterable[CollapseRow], *, phantoms: bool = False) -> None:
    """Write collapse.csv and collapse.md."""
    rows = tuple(rows)
    table = [
        (row.run, row.method, row.variant, *_numbers(row.first), *_numbers(row.last), row.verdict)
        for row in rows
    ]
    frame = pd.DataFrame(table, columns=list(COLUMNS), dtype=object)
    write_text(folder / "collapse.csv", frame_to_csv(frame, phantoms=phantoms))
    cells = [
        (*r.cells[:-1], Markdown(f"**{r.cells[-1]}**") if r.reasons else r.cells[-1]) for r in rows
    ]
    grid = markdown_grid(HEADER, cells) if rows else ["No pre-training."]
    head = markdown_head("Collapse of pre-training", phantoms=phantoms)
    lines = [*head, *grid, "", *markdown_notes(notes())]
    write_text(folder / "collapse.md", "\n".join(lines) + "\n")


Point = tuple[int, float, float]


def _ends(path: Path | None) -> tuple[Point | None, Point | None]:
    """First and last validation that logged both statistics."""
    if path is None:
        return None, None
    metrics = read_csv(path, _METRICS)
    metrics = metrics[metrics["split"] == "val"].drop_duplicates(["step", "name"], keep="last")
    wide = metrics.pivot(index="step", columns="name", values="value").sort_index()
    if not {"feature_sd", "effective_rank"} <= set(wide.columns):
        return None, None
    names = ["feature_sd", "effective_rank"]
    logged = metrics.loc[metrics["name"].isin(names), "step"].unique()
    chosen = wide.loc[wide.index.isin(logged), names]
    points = [(int(step), float(sd), float(rank)) for step, sd, rank in chosen.itertuples()]
    return points[0], points[-1]


def _place(study: Study, method: str, variant: str) -> tuple[int, int, int]:
    methods = list(study.methods)
    variants = list(study.ablation)
    return (
        bool(variant),
        methods.index(method) if method in methods else len(methods),
        variants.index(variant) if variant in variants else len(variants),
    )


def _texts(point: Point | None) -> tuple[str, str, str]:
    if point is None:
        return (NOT_LOGGED,) * 3
    step, sd, rank = point
    return str(step), f"{sd:.4g}", f"{rank:.2f}"


def _numbers(point: Point | None) -> tuple[int | float | str, ...]:
    return (NOT_LOGGED,) * 3 if point is None else point
