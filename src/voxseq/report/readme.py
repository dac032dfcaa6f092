"""The tables inside README.md, kept equal to those that the demo made."""

from __future__ import annotations

import re
from pathlib import Path

from voxseq.errors import DataError

_BLOCK = re.compile(r"(<!-- table (\d) -->\n).*?(<!-- end -->)", re.DOTALL)


def with_tables(readme: str, tables: Path) -> str:
    """Put the Markdown tables of a study into the marked places of a README.

    Args:
        readme: text with ``<!-- table N -->`` … ``<!-- end -->`` blocks.
        tables: folder of ``tableN.md``.

    Raises:
        DataError: a table is missing.
    """

    def content(match: re.Match[str]) -> str:
        path = tables / f"table{match[2]}.md"
        if not path.is_file():
            raise DataError(f"{path} does not exist", "run `make reproduce` first")
        # The README's own headings are above; the notes below the tables stay in the files.
        rows = [line for line in path.read_text(encoding="utf-8").splitlines() if line[:1] == "|"]
        return "\n".join([match[1], *rows, "", match[3]])

    return _BLOCK.sub(content, readme)
