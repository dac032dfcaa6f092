"""Printing what a plan is expected to take, as a table on the terminal or in docs/scaling.md."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from voxseq.base.errors import VoxseqError
from voxseq.config import Config
from voxseq.config.execution import ExecutionConfig, Resources
from voxseq.estimate.estimate import Estimate, StageEstimate, wall_hours
from voxseq.estimate.run_cost import Packing
from voxseq.plan import Plan

SCALES = Path("workflow/scales")
#: The scale without an overlay.
DEMO = "demo"
#: Numbers of GPUs for which the days are told.
GPUS = (1, 8, 64, 512)
_BLOCK = re.compile(r"(<!-- estimate: (\w+) (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_UNITS = ("B", "kB", "MB", "GB", "TB")


@dataclass(frozen=True)
class Section:
    """One table: its name in the page, a title, and cells as they are printed."""

    name: str
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def overlay_of(scale: str, folder: Path = SCALES) -> tuple[Path, ...]:
    """The file that makes a scale of params.yaml; none for the demo.

    Raises:
        VoxseqError: there is no such scale; the message names those that are.
    """
    if scale == DEMO:
        return ()
    path = folder / f"{scale}.yaml"
    if not path.is_file():
        known = [DEMO, *sorted(p.stem for p in folder.glob("*.yaml"))]
        raise VoxseqError(
            f"unknown scale {scale!r}: {path} does not exist", f"choose from {', '.join(known)}"
        )
    return (path,)


def sections(
    config: Config, estimate: Estimate, plan: Plan, stage: str | None = None
) -> list[Section]:
    """Everything that is told, table by table; ``stage`` leaves one row of the first."""
    stages = [s for s in estimate.stages if stage in (None, s.stage)]
    shown = [*stages, estimate.total] if stage is None else stages
    made = [
        Section(
            "stages",
            f"expected for scale {estimate.scale}",
            ("stage", "jobs", "runs", "EFLOP", "GPU hours", "downloaded", "written"),
            tuple(_stage_row(row) for row in shown),
        )
    ]
    if stage is not None:
        return made
    return [
        *made,
        _pretrainings(estimate),
        _finetunings(estimate),
        _days(estimate, plan),
        _resources(config),
        _assumptions(estimate),
    ]


def _stage_row(row: StageEstimate) -> tuple[str, ...]:
    return (
        row.stage,
        f"{row.jobs:,}",
        f"{row.runs:,}",
        _number(row.exaflop),
        _number(row.gpu_hours),
        _bytes(row.downloaded),
        _bytes(row.written),
    )


def _pretrainings(estimate: Estimate) -> Section:
    rows = [
        (
            f"{run.run} *" if run.run in estimate.plain else run.run,
            _number(run.gigaflop),
            _number(run.gpu_hours),
            _number(run.items_per_second),
            _bytes(run.bytes_per_second),
            _bytes(run.checkpoint),
        )
        for run in estimate.pretrainings
    ]
    return Section(
        "pretrain",
        "pre-trainings, each on one GPU; a checkpoint is there while one is under way",
        ("run", "GFLOP an item", "GPU hours", "items a second", "to read a second", "checkpoint"),
        tuple(rows),
    )


def _finetunings(estimate: Estimate) -> Section:
    rows = [
        (f"{f.task}, {f.network}", f"{f.runs}", f"{f.steps:,}", _number(f.gpu_hours))
        for f in estimate.finetunings
    ]
    return Section(
        "finetune",
        "fine-tuning, of all stages",
        ("task and network", "runs", "steps", "GPU hours a run"),
        tuple(rows),
    )


def _resources(config: Config) -> Section:
    rows = []
    for kind in ExecutionConfig.model_fields:
        asked: Resources = getattr(config.execution, kind)
        memory = _bytes(1e6 * asked.mem_mb)
        numbers = (f"{n}" for n in (asked.gpu, asked.threads, asked.workers))
        rows.append((kind, *numbers, memory, f"{asked.runtime / 60:g} h"))
    return Section(
        "resources",
        "what one job asks for (execution)",
        ("kind", "GPUs", "threads", "workers", "memory", "time limit"),
        tuple(rows),
    )


def _days(estimate: Estimate, plan: Plan) -> Section:
    spent = estimate.total.gpu_hours
    rows = []
    for gpus in GPUS:
        hours = wall_hours(plan, estimate.hours, gpus)
        use = spent / (gpus * hours) if hours else 0.0
        even = spent / gpus / 24
        rows.append((f"{gpus}", _number(hours / 24), f"{100 * use:.0f} %", _number(even)))
    return Section(
        "days",
        "days until all is done, a GPU for each job; time for data, reading and waiting left out",
        ("GPUs", "days", "GPUs busy", "days if all work were divided evenly"),
        tuple(rows),
    )


def _assumptions(estimate: Estimate) -> Section:
    used = estimate.assumptions
    rows = [
        ("GPU", used.gpu),
        ("peak", f"{used.peak_tflops:g} TFLOP/s"),
        (
            "matrix products sustain",
            f"{100 * used.utilisation:.0f} % of it: {used.tflops:.4g} TFLOP/s",
        ),
        (
            "convolutions sustain",
            f"{100 * used.convolution_utilisation:.0f} %: {used.convolution_tflops:.3g} TFLOP/s",
        ),
        (
            "32-bit arithmetic",
            f"matrix products {used.single_precision:g}, convolutions "
            f"{used.convolution_single_precision:g} of that rate",
        ),
        ("bytes of a stored voxel", _packing(used.packing)),
        ("crop to the foreground", f"leaves {used.packing.foreground:g} of each side in the plane"),
        *((f"{kind} sequences", f"{n:,}") for kind, n in estimate.sequences.items()),
        ("assumed, not in the catalogue", _assumed(estimate)),
    ]
    if estimate.plain:
        counted = "one pass of the encoder over a whole volume, heads left out"
        rows.append(("* a method without a formula of its own", counted))
    return Section("assumptions", "what this rests on", ("assumption", "value"), tuple(rows))


def _packing(packing: Packing) -> str:
    names = [f.name for f in fields(packing) if f.name != "foreground"]
    return ", ".join(f"{name.replace('_', ' ')} {getattr(packing, name):g}" for name in names)


def _assumed(estimate: Estimate) -> str:
    parts: dict[str, list[str]] = {}
    for dataset, what in estimate.assumed.items():
        for name in what:
            parts.setdefault(name, []).append(dataset)
    named = [f"{name} of {', '.join(sets)}" for name, sets in parts.items()]
    return "; ".join(["shapes of images", *named])


def _number(value: float) -> str:
    """Three digits, whole numbers from 100 on."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _bytes(value: float) -> str:
    for unit in _UNITS:
        if value < 1000 or unit == _UNITS[-1]:
            return f"{value:.3g} {unit}"
        value /= 1000
    raise AssertionError


def print_sections(parts: Sequence[Section]) -> None:
    """Print all tables."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 110, highlight=False, markup=False)
    for part in parts:
        table = Table(box=None, pad_edge=False)
        for number, name in enumerate(part.header):
            right = number > 0 and part.name != "assumptions"
            table.add_column(name, justify="right" if right else "left", overflow="fold")
        for row in part.rows:
            table.add_row(*row)
        console.print(f"{part.title}:")
        console.print(table)
        console.print()


def markdown(part: Section) -> str:
    """One table as Markdown."""
    left = part.name == "assumptions"
    rule = ["---", *(["---" if left else "---:"] * (len(part.header) - 1))]
    lines = [part.header, tuple(rule), *part.rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def with_estimate(page: str, scale: str, parts: Sequence[Section]) -> str:
    """Put the tables of a scale into the marked places of a page.

    Args:
        page: text with ``<!-- estimate: SCALE TABLE -->`` … ``<!-- end -->`` blocks; those of other
            scales stay as they are.
        scale: name of the scale.
        parts: as :func:`sections` makes them.

    Raises:
        VoxseqError: the page has no such block, or asks for a table that does not exist.
    """
    known = {part.name: markdown(part) for part in parts}
    wanted = [match[3] for match in _BLOCK.finditer(page) if match[2] == scale]
    if not wanted or set(wanted) - set(known):
        raise VoxseqError(
            f"the page has {wanted or 'no'} blocks for scale {scale}",
            f"write `<!-- estimate: {scale} TABLE -->` and `<!-- end -->` around the place of a "
            f"table; tables are {', '.join(known)}",
        )

    def content(match: re.Match[str]) -> str:
        return match[0] if match[2] != scale else f"{match[1]}{known[match[3]]}{match[4]}"

    return _BLOCK.sub(content, page)
