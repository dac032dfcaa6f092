"""results/README.md with all wide tables, and the two small ones in README.md."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from voxseq.base.errors import DataError
from voxseq.cli.small_table import small_table
from voxseq.config.data import PHANTOMS
from voxseq.plan.outputs import SHEETS

#: Folder of results → heading of its section and the command that makes it.
SECTIONS: Mapping[str, tuple[str, str]] = {
    "results/study": ("The demo with several seeds", "make study"),
    "results/open": ("Real volumes", "make open"),
    "results/table5": ("Rows beyond the paper", "make beyond"),
    "results": ("The demo", "make reproduce"),
}
#: Place in README.md → folder of the results that it shows.
PLACES: Mapping[str, str] = {"study": "results/study", "open": "results/open"}
PAGE_HEAD = """# All tables

`voxseq readme --write` makes this page of the tables in the folders beside it.
[docs/statistics.md](../docs/statistics.md) explains the cells,
[docs/claims.md](../docs/claims.md) the verdicts."""


def pages(root: Path) -> dict[Path, str]:
    """Path → text of README.md and results/README.md as they should be.

    Raises:
        DataError: the folder is no clone with results.
    """
    path = root / "README.md"
    if not path.is_file():
        raise DataError(f"{path} does not exist", "call it in a clone of the repository")
    text = path.read_text(encoding="utf-8")
    return {root / "results/README.md": results_page(root), path: with_small_tables(text, root)}


def results_page(root: Path) -> str:
    """The page results/README.md: claims and Tables 1–5 of every study whose results are there.

    Args:
        root: folder of README.md.

    Raises:
        DataError: there are no tables at all.
    """
    sections = [
        _section(root, folder, *words)
        for folder, words in SECTIONS.items()
        if any((root / folder / "tables").glob("table*.md"))
    ]
    if not sections:
        raise DataError(f"{root / 'results'} has no tables", "run `make reproduce` first")
    return "\n".join([PAGE_HEAD, *(line for section in sections for line in section)]) + "\n"


def _section(root: Path, folder: str, title: str, command: str) -> list[str]:
    """One study: its tables with their headings one level deeper, and links to the other ones."""
    tables = root / folder / "tables"
    paths = [tables / "claims.md", *sorted(tables.glob("table*.md"))]
    shown = [path for path in paths if path.is_file()]
    bodies = [path.read_text(encoding="utf-8").splitlines() for path in shown]
    phantoms = any(f"**{PHANTOMS}**" in lines for lines in bodies)
    made = ["", f"## {title}", *(["", f"**{PHANTOMS}**"] if phantoms else []), ""]
    rest = sorted(path for path in tables.glob("*.md") if path not in shown)
    links = (f"[{path.stem}]({path.relative_to(root / 'results')})" for path in rest)
    made.append(" ".join([f"Made by `{command}`.", *(["More:", ", ".join(links)] if rest else [])]))
    for lines in bodies:
        kept = [line for line in lines if line != f"**{PHANTOMS}**"]
        deeper = [f"#{line}" if line.startswith("#") else line for line in kept]
        made += ["", *"\n".join(deeper).strip().splitlines()]
    return made


def with_small_tables(readme: str, root: Path) -> str:
    """Put the small tables into their places of a README; a study without results changes nothing.

    Args:
        readme: text with ``<!-- study -->`` … ``<!-- /study -->`` and the same of ``open``.
        root: folder of README.md.
    """
    for name, folder in PLACES.items():
        if (root / folder / SHEETS).is_file():
            first, last = f"<!-- {name} -->\n", f"<!-- /{name} -->"
            before, found, rest = readme.partition(first)
            _, end, after = rest.partition(last)
            if found and end:
                lines = "\n".join(small_table(root / folder, folder))
                readme = f"{before}{first}\n{lines}\n\n{last}{after}"
    return readme
