"""The paper's own values; the only numbers of a table that no run has computed."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from decimal import Decimal
from functools import cache
from importlib import resources
from types import MappingProxyType

#: (table, row, column, metric) → value as the paper prints it, 0..1: text, so that no digit is
#: added or lost. Rows are methods, in Table 3 ours with its share of the labels ("ours 25%"), in
#: Table 4 the ablation's variants; columns are data sets, and :data:`AVERAGE`.
PaperValues = Mapping[tuple[int, str, str, str], str]
#: Column of the mean over the six tasks of the Medical Segmentation Decathlon.
AVERAGE = "average_msd"


@cache
def paper_values() -> PaperValues:
    """What stands in paper_values.csv, which names the source of every value."""
    file = resources.files("voxseq.report.tables").joinpath("paper_values.csv")
    lines = csv.DictReader(file.read_text(encoding="utf-8").splitlines())
    return MappingProxyType(
        {(int(x["table"]), x["row"], x["column"], x["metric"]): x["value"] for x in lines}
    )


def in_percent(value: str) -> str:
    """A printed value of 0..1 in percent, with the same digits."""
    return f"{Decimal(value).scaleb(2):f}"
