"""Tables as plain text: what stands below them."""

from __future__ import annotations

from pathlib import Path

import pytest

from voxseq.base.files import write_csv
from voxseq.cli.show import printed

CELL = {
    "table": "1",
    "block": "Segmentation",
    "row": "UNETR",
    "reference": "none",
    "column": "kidney",
    "metric": "dice",
    "unit": "",
    "status": "complete",
    "planned": "3",
    "n": "3",
    "mean": "0.8",
    "low": "0.79",
    "high": "0.81",
    "mark": "",
}


@pytest.mark.parametrize(
    ("numbers", "columns", "said", "unsaid"),
    [
        ((1,), {}, "better or worse", "controls"),
        ((1, 5), {}, "in brackets among the controls the row that is the reference", "paper"),
        ((1,), {"paper": "none"}, "ours in Tables 1–3", "in brackets"),
        ((1,), {"paper": "83.1"}, "in brackets the paper's value;", "Table 5"),
        ((1, 5), {"paper": "83.1"}, "the paper's value, in Table 5 the row", "controls"),
    ],
)
def test_the_legend_names_what_the_tables_have(
    tmp_path: Path, numbers: tuple[int, ...], columns: dict[str, str], said: str, unsaid: str
) -> None:
    line = {**CELL, **columns}
    for number in numbers:
        path = tmp_path / f"tables/table{number}.csv"
        write_csv(path, tuple(line), [tuple({**line, "table": str(number)}.values())])
    text = printed(tmp_path, numbers)
    legend = " ".join(text[text.index("mean over seeds") :].split())
    assert said in legend
    assert unsaid not in legend
