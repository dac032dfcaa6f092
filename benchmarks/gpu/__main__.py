"""``python -m benchmarks.gpu``: do the check, part by part, and keep a line of each."""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
import tempfile
from pathlib import Path

import click
import torch

from benchmarks.gpu.parts import PARTS
from benchmarks.gpu.prepare import prepare
from benchmarks.gpu.runner import BUDGET, Check
from benchmarks.gpu.sizes import FULL, TINY, Size
from benchmarks.gpu.table import document, lines_of
from benchmarks.material import ROOT
from voxseq.base.environment import environment
from voxseq.base.files import write_text

_TABLE = ROOT / "benchmarks/gpu.md"


@click.command()
@click.option("--budget", default=BUDGET, help=f"Seconds of all parts (default: {BUDGET:.0f}).")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("gpu.jsonl"),
    help="File of the lines; begun anew unless --parts are asked for.",
)
@click.option("--parts", default="", help="Names of the parts to do, with commas between.")
@click.option("--device", type=click.Choice(["cuda", "cpu"]), default="cuda")
@click.option("--tiny", is_flag=True, help="Toy sizes, with which a CPU does every part.")
@click.option(
    "--prepare",
    "prepared",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write the data of the check to this folder, and do nothing else.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Folder that --prepare has written; without it the data are made first.",
)
@click.option(
    "--table",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Make benchmarks/gpu.md of these lines, and do nothing else.",
)
def main(
    budget: float,
    out: Path,
    parts: str,
    device: str,
    tiny: bool,
    prepared: Path | None,
    data: Path | None,
    table: Path | None,
) -> None:
    """Check on a GPU what only a GPU can show.

    Ends with status 0 only if every part that was done has passed.
    """
    if table is not None:
        _write_table(table)
        return
    size = TINY if tiny else FULL
    if prepared is not None:
        prepare(prepared, size)
        return
    asked = [name for name in parts.split(",") if name]
    unknown = sorted(set(asked) - {part.name for part in PARTS})
    if unknown:
        known = ", ".join(part.name for part in PARTS)
        raise click.UsageError(f"no part is called {', '.join(unknown)}; there are {known}")
    chosen = [part for part in PARTS if not asked or part.name in asked]
    if not asked:
        write_text(out, "")
    versions = {**environment(), "cuda": str(torch.version.cuda)}
    logging.basicConfig(level=logging.WARNING)
    with tempfile.TemporaryDirectory() as name:
        folder = data or Path(name)
        if data is None:
            _prepared_elsewhere(folder, size)
        passed = Check(folder, size, device, budget, versions).run(chosen, out)
    sys.exit(0 if passed else 1)


def _prepared_elsewhere(folder: Path, size: Size) -> None:
    """Prepare the data in another process: parts are forks of this one, which has no threads."""
    process = multiprocessing.get_context("fork").Process(target=prepare, args=(folder, size))
    process.start()
    process.join()
    if process.exitcode:
        raise click.ClickException("the data of the check could not be made")


def _write_table(lines: Path) -> None:
    found = lines_of(lines)
    if any(line["device"] != "cuda" for line in found):
        raise click.ClickException(f"{lines} is not of a GPU: its figures say nothing")
    if not found:
        raise click.ClickException(f"{lines} has no line")
    write_text(_TABLE, document(found))
    click.echo(os.path.relpath(_TABLE))


if __name__ == "__main__":
    main()
