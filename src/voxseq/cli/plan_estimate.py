"""Print the estimate of a plan as a table on the terminal or in docs/scaling.md."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from voxseq.base.errors import VoxseqError
from voxseq.config import Config
from voxseq.config.amounts import content, sequence_counts
from voxseq.config.execution import Resources
from voxseq.estimate.estimate import Estimate, Totals, wall_hours
from voxseq.estimate.run_cost import Packing
from voxseq.plan import STAGES, Run

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


def sections(config: Config, estimate: Estimate, stage: str | None = None) -> list[Section]:
    """Everything that is told, table by table; ``stage`` leaves one row of the first."""
    stages = [s for s in STAGES if stage in (None, s) and estimate.plan.of_stage(s)]
    rows = [_totals_row(name, estimate.totals(name)) for name in stages]
    if stage is None:
        rows.append(_totals_row("total", estimate.totals()))
    first = Section(
        "stages",
        f"expected for scale {estimate.plan.scale}",
        ("stage", "jobs", "runs", "EFLOP", "GPU hours", "downloaded", "written"),
        tuple(rows),
    )
    if stage is not None:
        return [first]
    return [
        first,
        _pretrainings(config, estimate),
        _finetunings(estimate),
        _days(estimate),
        _resources(config),
        _assumptions(config, estimate),
    ]


def _totals_row(name: str, row: Totals) -> tuple[str, ...]:
    numbers = (_number(row.exaflop), _number(row.gpu_hours))
    sizes = (_bytes(row.downloaded), _bytes(row.written))
    return (name, f"{row.jobs:,}", f"{row.runs:,}", *numbers, *sizes)


def _pretrainings(config: Config, estimate: Estimate) -> Section:
    volume = math.prod(config.sequences.volume_shape) * estimate.assumptions.packing.ct
    rows = []
    for run in estimate.runs("pretrain"):
        cost, hours = estimate.costs[run.id], estimate.hours(run)
        rate = cost.items / (3600 * hours)
        rows.append(
            (
                f"{run.id} *" if cost.is_plain else run.id,
                _number(cost.operations / cost.items / 1e9),
                _number(hours),
                _number(rate),
                _bytes(rate * volume),
                _bytes(cost.checkpoint),
            )
        )
    return Section(
        "pretrain",
        "pre-trainings, each on one GPU; a checkpoint is there while one is under way",
        ("run", "GFLOP/item", "GPU hours", "items/s", "read/s", "checkpoint"),
        tuple(rows),
    )


def _finetunings(estimate: Estimate) -> Section:
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in estimate.runs("finetune"):
        groups.setdefault((run.config.task, run.config.network), []).append(run)
    rows = [
        (
            f"{task}, {network}",
            f"{len(runs)}",
            f"{runs[0].config.recipe.steps:,}",
            # That of a run whose whole network is trained.
            _number(max(map(estimate.hours, runs))),
        )
        for (task, network), runs in groups.items()
    ]
    return Section(
        "finetune",
        "fine-tuning, of all stages",
        ("task and network", "runs", "steps", "GPU hours per run"),
        tuple(rows),
    )


def _days(estimate: Estimate) -> Section:
    spent, hours = estimate.totals().gpu_hours, estimate.job_hours()
    rows = []
    for gpus in GPUS:
        wall = wall_hours(estimate.plan, hours, gpus)
        use = spent / (gpus * wall) if wall else 0.0
        even = spent / gpus / 24
        rows.append((f"{gpus}", _number(wall / 24), f"{100 * use:.0f} %", _number(even)))
    return Section(
        "days",
        "days until all is done, a GPU for each job; time for data, reading and waiting left out",
        ("GPUs", "days", "GPUs busy", "days if all work were divided evenly"),
        tuple(rows),
    )


def _resources(config: Config) -> Section:
    rows = []
    for kind, asked in config.execution:
        if not isinstance(asked, Resources):
            continue
        memory = _bytes(1e6 * asked.mem_mb)
        numbers = (f"{n}" for n in (asked.gpu, asked.threads, asked.workers))
        rows.append((kind, *numbers, memory, f"{asked.runtime / 60:g} h"))
    return Section(
        "resources",
        "what one job asks for (execution)",
        ("kind", "GPUs", "threads", "workers", "memory", "time limit"),
        tuple(rows),
    )


def _assumptions(config: Config, estimate: Estimate) -> Section:
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
        *((f"{kind} sequences", f"{n:,}") for kind, n in sequence_counts(config).items()),
        ("assumed, not in the catalogue", _assumed(config, estimate)),
    ]
    if any(cost.is_plain for cost in estimate.costs.values()):
        counted = "one pass of the encoder over a whole volume, heads left out"
        rows.append(("* a method that cannot be counted", counted))
    return Section("assumptions", "what this rests on", ("assumption", "value"), tuple(rows))


def _packing(packing: Packing) -> str:
    names = [f.name for f in fields(packing) if f.name != "foreground"]
    return ", ".join(f"{name.replace('_', ' ')} {getattr(packing, name):g}" for name in names)


def _assumed(config: Config, estimate: Estimate) -> str:
    parts: dict[str, list[str]] = {}
    for dataset in sorted(run.config.dataset for run in estimate.runs("download")):
        for name in content(dataset, config).assumed if config.data.root is not None else ():
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
