"""The tables of docs/datasets.md, generated from the catalogue.

``voxseq data docs --write`` puts them between the markers of the page; the prose around them is
written by hand.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from voxseq.base.errors import DataError
from voxseq.catalogue import CATALOGUE, GROUPS, DataSet

PAGE = Path("docs/datasets.md")
#: What stands where no source states a fact.
UNKNOWN = "unconfirmed"
_BLOCK = re.compile(r"(<!-- catalogue: ([\w ]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_ACCESS = {"bucket": "open bucket", "tcia": "open, TCIA", "manual": "by hand"}
_Columns = Mapping[str, Callable[[DataSet], str]]


def size_text(size: int | None) -> str:
    """A size in decimal units, "unconfirmed" for None."""
    if size is None:
        return UNKNOWN
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"


def images_text(row: DataSet) -> str:
    """How many images the publisher counts, and the paper where it counts others."""
    text = UNKNOWN if row.volumes is None else f"{row.volumes:,}"
    if row.paper_volumes is not None and row.paper_volumes != row.volumes:
        text += f" (paper: {row.paper_volumes:,})"
    return text


def _checksums(row: DataSet) -> str:
    known = sum(bool(file.checksum) for file in row.files)
    return f"{known} of {len(row.files)}" if row.files else "–"


_LAYOUT: _Columns = {
    "name": lambda row: f"`{row.name}`",
    "data set": lambda row: row.title,
    "folder": lambda row: f"`{row.folder}`",
    "layout": lambda row: ", ".join(f"`{path}`" for path in row.paths),
    "modality": lambda row: row.modality,
    "classes": lambda row: ", ".join(row.classes),
    "citation": lambda row: row.citation or "–",
}
_SOURCE: _Columns = {
    "name": lambda row: f"`{row.name}`",
    "access": lambda row: _ACCESS.get(row.access, row.access),
    "where": lambda row: row.source,
    "version": lambda row: row.version,
    "licence": lambda row: row.licence,
    "download": lambda row: size_text(row.size) if row.citation else "–",
    "images": lambda row: images_text(row) if row.citation else "–",
    "checksums": _checksums,
}


def tables() -> dict[str, str]:
    """Every generated part of the page, as Markdown."""
    made: dict[str, str] = {}
    for group, names in GROUPS.items():
        rows = [CATALOGUE[name] for name in names]
        made[f"{group} layouts"] = _table(rows, _LAYOUT)
        made[f"{group} sources"] = _table(rows, _SOURCE)
        unknown = (
            f"- `{row.name}`: {'; '.join(row.unconfirmed)}." for row in rows if row.unconfirmed
        )
        made[f"{group} unconfirmed"] = "\n".join([*unknown, ""])
    return made


def _table(rows: Sequence[DataSet], columns: _Columns) -> str:
    used = {key: of for key, of in columns.items() if any(map(of, rows))}
    lines = ["| " + " | ".join(used) + " |", "|" + "---|" * len(used)]
    for row in rows:
        cells = [of(row).replace("|", "\\|") for of in used.values()]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def with_tables(page: str) -> str:
    """Put the generated tables into the marked places of the page.

    Args:
        page: text with ``<!-- catalogue: NAME -->`` … ``<!-- end -->`` blocks.

    Raises:
        DataError: a block is missing, or asks for a table that does not exist.
    """
    wanted = tables()
    named = [match[2] for match in _BLOCK.finditer(page)]
    if sorted(named) != sorted(wanted):
        raise DataError(
            f"{PAGE} has the blocks {named or 'none'}, expected each of {list(wanted)} once",
            "write `<!-- catalogue: NAME -->` and `<!-- end -->` where the tables belong",
        )
    return _BLOCK.sub(lambda match: f"{match[1]}{wanted[match[2]]}{match[3]}", page)
