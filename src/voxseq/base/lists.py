"""Lists of names, however an editor or a spreadsheet has saved them."""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterator, Sequence

from voxseq.base.paths import without_ending

#: Between the cells of a line; the first of these that a line has outside quotes is the separator.
_SEPARATORS = "\t;,"
#: Columns that hold the names, in order of preference.
_NAME_COLUMNS = (
    *("subject", "subject_id", "case", "case_id", "patient", "patient_id"),
    *("image", "volume", "volume_id", "name", "file_name", "filename", "file", "path", "id"),
)
#: Words by which a line is a header, whatever it has beside the column of names.
_OTHER_COLUMNS = {"label", "class", "series", "target", "split", "y"}
_QUOTED = re.compile(r'"[^"]*"')
#: By which nnU-Net names the first channel of an image.
CHANNEL = "_0000"
_SHOWN = 3


def table(text: str) -> list[list[str]]:
    """Rows of cells without quotes and blanks around them.

    Empty lines and lines that begin with # are left out. Tabs, semicolons or commas separate
    cells; blanks do where the first line is a header with a known column and has none of these.

    Raises:
        ValueError: a cell is longer than any name.
    """
    lines = [
        line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")
    ]
    separators = (_separator(line) for line in lines)
    separator = next((found for found in separators if found), None)
    words = lines[0].split() if lines else []
    is_header = len(words) > 1 and any(_loose(word) in _NAME_COLUMNS for word in words)
    if separator is None and is_header:
        return [line.split() for line in lines]
    try:
        rows = [
            next(csv.reader([line], delimiter=separator or "\t", skipinitialspace=True))
            for line in lines
        ]
    except csv.Error as error:
        raise ValueError(str(error)) from None
    cleaned = ([cell.strip().strip("'").strip() for cell in row] for row in rows)
    return [row for row in cleaned if any(row)]


def names(text: str) -> list[str]:
    """The names of a list, in its order.

    They are in the column whose header says so (subject, case, image …). Without a header they are
    in the first column; lines of unequal length, or a single one, hold names only.

    Raises:
        ValueError: as :func:`table`.
    """
    rows = table(text)
    header = [_loose(cell) for cell in rows[0]] if rows else []
    column = next((header.index(word) for word in _NAME_COLUMNS if word in header), None)
    if column is not None:
        cells = [row[column] for row in rows[1:] if len(row) > column]
    elif len(rows) == 1 or len({_length(row) for row in rows}) > 1:
        cells = [cell for row in rows for cell in row]
    else:
        cells = [row[0] for row in rows]
    return [cell for cell in cells if cell]


def is_header(line: str) -> bool:
    """Whether all words of a line are names of columns."""
    words = [_loose(word) for word in re.split(r"[\s,;]+", line.strip())]
    return all(word in _NAME_COLUMNS or word in _OTHER_COLUMNS for word in words)


def spellings(name: str) -> Iterator[str]:
    """Yield names that ``name`` may stand for, the likeliest first.

    Itself; the parts of a path from its end; each without a file's ending, and without ``_0000``.
    """
    yield name
    for part in reversed(name.replace("\\", "/").split("/")):
        bare = without_ending(part)
        yield from (part, bare, bare.removesuffix(CHANNEL))


def find(name: str, known: Collection[str]) -> str | None:
    """The known name that ``name`` stands for; None where there is none."""
    return next((found for found in spellings(name) if found in known), None)


def examples(found: Sequence[str], known: Collection[str] = ()) -> str:
    """The first three names; where a known one differs from it only in case, that one too."""
    folded = {name.casefold(): name for name in known}
    shown = []
    for name in found[:_SHOWN]:
        near = next((folded[s.casefold()] for s in spellings(name) if s.casefold() in folded), None)
        shown.append(
            f"{name} (there is {near}: case matters)" if near not in (None, name) else name
        )
    return ", ".join(shown)


def _separator(line: str) -> str | None:
    outside = _QUOTED.sub("", line)
    return next((separator for separator in _SEPARATORS if separator in outside), None)


def _length(row: Sequence[str]) -> int:
    """Number of cells up to the last that is not empty."""
    return max(number for number, cell in enumerate(row, start=1) if cell)


def _loose(cell: str) -> str:
    return re.sub(r"[\s_-]+", "_", cell.strip().strip("\"'").casefold())
