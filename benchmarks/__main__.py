"""``python -m benchmarks``: measure, print every row, and write the table."""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import click

from benchmarks.harness import Row, Unmeasured
from benchmarks.material import ROOT
from benchmarks.table import GROUPS, document, machine, measured, others
from voxseq.base.files import write_text


@click.command()
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(GROUPS),
    help="Measure this group alone; may be given several times. The table is then only printed.",
)
@click.option(
    "--demo",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=ROOT,
    help="Workspace with a finished demo, for the rows about it (default: this one).",
)
def main(only: tuple[str, ...], demo: Path) -> None:
    """Run the benchmarks, each group in a process of its own."""
    # As the demo's jobs have it; the processes of the groups inherit it.
    os.environ["OMP_NUM_THREADS"] = "1"
    began, loads = time.monotonic(), [others()]
    rows: list[Row | Unmeasured] = []
    for group in only or GROUPS:
        start = time.monotonic()
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            found = pool.submit(measured, group, demo.resolve()).result()
        click.echo(f"{group}: {time.monotonic() - start:.0f} s")
        rows += found
        loads.append(others())
    seconds = time.monotonic() - began
    if not only:
        out = ROOT / "benchmarks/results.md"
        write_text(out, document(rows, machine(statistics.mean(loads)), seconds))
        click.echo(f"{out.relative_to(ROOT)}: {len(rows)} rows in {seconds:.0f} s")


if __name__ == "__main__":
    main()
