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


def write(results: Path, number: int, *lines: dict[str, str]) -> None:
    """Write a table of some cells."""
    path = results / f"tables/table{number}.csv"
    write_csv(path, tuple(lines[0]), [tuple({**x, "table": str(number)}.values()) for x in lines])


@pytest.mark.parametrize(
    ("numbers", "columns", "said", "unsaid"),
    [
        ((1,), {}, "better or worse", "controls"),
        ((1, 5), {}, "in brackets among the controls the row that is the reference", "paper"),
        ((1,), {"paper": "none"}, "AR in Tables 1–3", "in brackets"),
        ((1,), {"paper": "83.1"}, "in brackets the paper's value;", "Table 5"),
        ((1, 5), {"paper": "83.1"}, "the paper's value, in Table 5 the row", "controls"),
        ((1,), {}, "interval over seeds and test cases", "one seed"),
        ((1,), {"n": "1", "planned": "1"}, "which with one seed is over test cases", "▲"),
        ((1,), {"n": "1", "low": "none", "high": "none"}, "mean over seeds; no marks", "±"),
        ((1,), {"low": "none", "high": "none"}, "mean over seeds, (n) where", "±"),
        (
            *((1,), {"row": "AR (autoregressive)", "paper": "83.1"}),
            *("AR (autoregressive) is the paper's method, `ours` in paths", "Ours"),
        ),
        ((1,), {"row": "AR (autoregressive)"}, "AR (autoregressive) is `ours` in paths", "paper"),
    ],
)
def test_the_legend_names_what_the_tables_have(
    tmp_path: Path, numbers: tuple[int, ...], columns: dict[str, str], said: str, unsaid: str
) -> None:
    line = {**CELL, **columns}
    for number in numbers:
        write(tmp_path, number, line)
    text = printed(tmp_path, numbers)
    legend = " ".join(text[text.index("mean over seeds") :].split())
    assert said in legend
    assert unsaid not in legend
