"""The tables inside README.md, kept equal to those that the demo made."""

from __future__ import annotations

import re
from pathlib import Path

from voxseq.base.errors import DataError

_BLOCK = re.compile(r"(<!-- table (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def with_tables(readme: str, tables: Path) -> str:
    """Put the Markdown tables of a study into the marked places of a README.

    Args:
        readme: text with ``<!-- table N -->`` … ``<!-- end -->`` blocks; N is the number of a table
            or the name of another one in the folder, such as ``collapse``.
        tables: folder of ``tableN.md``.

    Raises:
        DataError: a table is missing.
    """

    def content(match: re.Match[str]) -> str:
        name = f"table{match[2]}" if match[2].isdigit() else match[2]
        path = tables / f"{name}.md"
        if not path.is_file():
            raise DataError(f"{path} does not exist", "run `make reproduce` first")
        lines = _shown(path.read_text(encoding="utf-8").splitlines())
        return "\n".join([match[1], *lines, "", match[3]])

    return _BLOCK.sub(content, readme)


def _shown(lines: list[str]) -> list[str]:
    """Grids, and the headings of blocks in bold; the README has its own headings and no notes."""
    shown: list[str] = []
    for line in lines:
        if line.startswith("### "):
            shown += [*([""] if shown else []), f"**{line[4:]}**", ""]
        elif line.startswith("|"):
            shown.append(line)
    return shown
