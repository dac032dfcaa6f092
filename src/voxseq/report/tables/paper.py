"""The paper's own values; the only numbers of a table that no run has computed."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from decimal import Decimal
from importlib import resources

from voxseq.base.errors import IntegrityError

#: (table, row, column, metric) → value as the paper prints it, 0..1: text, so that no digit is
#: added or lost. Rows are methods, in Table 3 ours with its share of the labels ("ours 25%"), in
#: Table 4 the ablation's variants; columns are data sets, and :data:`AVERAGE`.
PaperValues = Mapping[tuple[int, str, str, str], str]
FILE = "paper_values.csv"
#: Column of the mean over the six tasks of the Medical Segmentation Decathlon.
AVERAGE = "average_msd"


def paper_values() -> dict[tuple[int, str, str, str], str]:
    """Read paper_values.csv, which names the source of every value.

    Raises:
        IntegrityError: a row without a number or a source, or a cell that occurs twice.
    """
    text = resources.files("voxseq.report.tables").joinpath(FILE).read_text(encoding="utf-8")
    return parse(text)


def parse(text: str) -> dict[tuple[int, str, str, str], str]:
    """Parse the text of a value file: columns table, row, column, metric, value, source."""
    values: dict[tuple[int, str, str, str], str] = {}
    for number, row in enumerate(csv.DictReader(text.splitlines()), start=2):
        try:
            key = (int(row["table"]), row["row"], row["column"], row["metric"])
            value, source = row["value"].strip(), row["source"].strip()
            finite = math.isfinite(float(value))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise IntegrityError(f"{FILE}, line {number}: not a value: {error!r}") from None
        if not source or not finite:
            raise IntegrityError(f"{FILE}, line {number}: a finite value and its source are needed")
        if key in values:
            raise IntegrityError(f"{FILE}, line {number}: {key} occurs twice")
        values[key] = value
    return values


def in_percent(value: str) -> str:
    """A printed value of 0..1 in percent, with the same digits."""
    return f"{Decimal(value).scaleb(2):f}"
