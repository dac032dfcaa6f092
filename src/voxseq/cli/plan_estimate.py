"""Print the estimate of a plan as a table on the terminal or in docs/scaling.md."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from voxseq.base.commands import SCALES
from voxseq.base.errors import VoxseqError
from voxseq.cli.plan_tables import Section

#: The scale without an overlay.
DEMO = "demo"
#: Columns where the output is not a terminal, and of warnings.
WIDTH = 100
_BLOCK = re.compile(r"(<!-- estimate: (\w+) (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


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


def print_sections(parts: Sequence[Section]) -> None:
    """Print all tables."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False, markup=False)
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
