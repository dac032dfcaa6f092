"""Tables as plain text: their cells, and what stands below them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from voxseq.base.errors import DataError
from voxseq.cli.show import printed
from voxseq.plan.outputs import SHEETS
from voxseq.report.sheet import Block, Cell, Column, Row, Sheet, write_sheets

CELL = Cell(n=3, planned=3, mean=80.0, low=79.0, high=81.0)


def shown(results: Path, *cells: Cell, number: int = 1, title: str = "UNETR", **facts: Any) -> str:
    """A table with a row for each cell, as it is printed."""
    rows = tuple(Row(title, (cell,)) for cell in cells)
    block = Block("Segmentation", (Column("kidney", "kidney", "dice", cases=5, seeds=3),), rows)
    sheet = Sheet(f"table{number}", "Segmentation", (block,), number=number, **facts)
    (results / SHEETS).parent.mkdir(exist_ok=True)
    write_sheets(results / SHEETS, [sheet], {})
    return printed(results, [number])


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (CELL, "80.0 ± 1.0"),
        (replace(CELL, mark="above", paper="83.1"), "80.0 ± 1.0 (83.1) ▲"),
        (replace(CELL, n=2, mark="below"), "80.0 ± 1.0† ▼"),
        # A score ends at 100 %.
        (replace(CELL, high=100.0, low=50.0, mark="above"), "80.0 [50.0, 100.0] ▲"),
        (replace(CELL, high=100.0, low=50.0, paper="83.1"), "80.0 [50.0, 100.0] (83.1)"),
        (replace(CELL, low=None, high=None), "80.0"),
        (replace(CELL, mean=float("nan"), low=None, high=None), "undefined"),
        (Cell(planned=3, paper="83.1"), "missing (83.1)"),
        (Cell(exists=False), "–"),
    ],
)
def test_a_cell_has_its_interval_and_the_papers_value(
    tmp_path: Path, cell: Cell, text: str
) -> None:
    (line,) = (x for x in shown(tmp_path, cell).splitlines() if x.startswith("UNETR"))
    assert line.removeprefix("UNETR").strip() == text


@pytest.mark.parametrize(
    ("cell", "facts", "said", "unsaid"),
    [
        (replace(CELL, mark="unclear"), {"papers": False}, "better or worse", "controls"),
        (
            *(CELL, {"papers": False, "number": 5}),
            *("in brackets among the controls the row that is the reference", "paper"),
        ),
        (replace(CELL, mark="unclear"), {}, "AR in Tables 1–3", "in brackets"),
        (replace(CELL, paper="83.1"), {}, "in brackets the paper's value", "Table 5"),
        (
            *(replace(CELL, paper="83.1"), {"number": 5}),
            *("the paper's value, in Table 5 the row", "controls"),
        ),
        (CELL, {}, "interval over seeds and test cases", "one seed"),
        (CELL, {}, "95 % interval", "▲"),
        (replace(CELL, low=70.0), {}, "where a bound of the score cuts it", "†"),
        (replace(CELL, n=2), {}, "† of fewer seeds than planned", "bound"),
        (replace(CELL, n=1, planned=1), {}, "which with one seed is over test cases", "▲"),
        (Cell(n=1, planned=1, mean=80.0), {}, "mean over seeds; no marks", "±"),
        (Cell(n=3, planned=3, mean=80.0), {}, "mean over seeds", "±"),
        (CELL, {"title": "AR (autoregressive)"}, "is the paper's method, `ours` in paths", "Ours"),
        (
            *(CELL, {"title": "AR (autoregressive)", "papers": False}),
            *("AR (autoregressive) is `ours` in paths", "paper"),
        ),
    ],
)
def test_the_legend_names_what_the_tables_have(
    tmp_path: Path, cell: Cell, facts: dict[str, Any], said: str, unsaid: str
) -> None:
    text = shown(tmp_path, cell, **facts)
    legend = " ".join(text[text.index("mean over seeds") :].split())
    assert said in legend
    assert unsaid not in legend


def test_a_table_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"tables\.json does not exist"):
        printed(tmp_path, [1])
    shown(tmp_path, CELL)
    with pytest.raises(DataError, match="has no table2, table3") as caught:
        printed(tmp_path, [1, 2, 3], make="make study")
    assert caught.value.hint == "make it anew: make study"
