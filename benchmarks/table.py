"""The groups of measurements, and the table that is made of their rows."""

from __future__ import annotations

import importlib
import os
import platform
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness import Row, Unmeasured
from voxseq.base.environment import environment

GROUPS = (
    "engine",
    "inference",
    "loading",
    "feeding",
    "series",
    "segmentation",
    "nnunet",
    "demo_step",
    "steps",
    "growth",
)
_COLUMNS = ("what", "against", "ours", "other", "unit", "ratio", "lowest to highest", "n", "target")
_HEAD = (
    f"| {' | '.join(_COLUMNS)} | met | sizes |",
    "|---|---|--:|--:|---|--:|---|--:|---|---|---|",
)


def measured(group: str, demo: Path) -> list[Row | Unmeasured]:
    """The rows of one group, each printed as soon as it is known."""
    module = importlib.import_module(f"benchmarks.{group}")
    rows = []
    for row in module.run(demo) if group == "engine" else module.run():
        print(line(row), flush=True)
        rows.append(row)
    return rows


def line(row: Row | Unmeasured) -> str:
    """A row in a line of text."""
    if isinstance(row, Unmeasured):
        return f"{row.name:48} not measured, needs {row.needs}"
    verdict = {True: "met", False: "MISSED", None: ""}[row.is_met]
    return f"{row.name:48} {row.ratio:8.3g} ({row.low:.3g} to {row.high:.3g}) {verdict}".rstrip()


def document(rows: Sequence[Row | Unmeasured], about: Sequence[str], seconds: float) -> str:
    """The table as a page."""
    lines = [
        "# Measurements",
        "",
        f"Written by `make bench` in {seconds / 60:.0f} minutes. "
        "[Performance](../docs/performance.md) explains the rows. A ratio is the median over n "
        "rounds; beside it are the lowest and the highest ratio of a round.",
        "",
        *(f"- {text}" for text in about),
        "",
        *_HEAD,
    ]
    for r in rows:
        if isinstance(r, Unmeasured):
            lines.append(f"| {r.name} | | | | | | | | | not measured | needs {r.needs} |")
            continue
        sign = "≥" if r.better == "at least" else "≤"
        target = "" if r.target is None else f"{sign} {r.target:.3g}"
        met = {True: "yes", False: "**no**", None: ""}[r.is_met]
        lines.append(
            f"| {r.name} | {r.against} | {r.ours:.4g} | {r.other:.4g} | {r.unit} | {r.ratio:.3g} "
            f"| {r.low:.3g} to {r.high:.3g} | {r.rounds} | {target} | {met} | {r.note} |"
        )
    return "\n".join(lines) + "\n"


def machine(others: float) -> list[str]:
    """What was measured on: processor, memory, other work, versions."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = ", ".join(f"{name} {version}" for name, version in environment().items())
    return [
        f"{os.cpu_count()} cores of {_processor()}, {memory:.0f} GiB of memory",
        f"processes that wanted a core between the groups, this one not counted: {others:.1f}",
        versions,
    ]


def others() -> float:
    """Mean number of runnable processes over the last minute."""
    return max(os.getloadavg()[0] - 1, 0.0)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((text.split(":")[1].strip() for text in lines if "model name" in text), "unknown")
