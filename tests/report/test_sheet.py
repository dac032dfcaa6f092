"""Sheets are read as they were written."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from voxseq.base.errors import IntegrityError
from voxseq.report.sheet import Block, Cell, Column, Row, Sheet, read_sheets, write_sheets


def sheet_of(*cells: Cell) -> Sheet:
    rows = tuple(Row(str(number), (cell,)) for number, cell in enumerate(cells))
    return Sheet("table1", "A title", (Block("", (Column("LA", "la", "dice"),), rows),), ("a",), 1)


def test_sheets_are_read_as_they_were_written(tmp_path: Path) -> None:
    cell = Cell(3, 3, 80.0, 79.0, math.inf, "83.1", best=True, mark="above", p_holm=0.01)
    sheets = (sheet_of(cell, Cell(planned=3), Cell(exists=False), Cell(text="a text")), sheet_of())
    write_sheets(tmp_path / "a.json", sheets, {"data": "phantoms"})
    assert read_sheets(tmp_path / "a.json") == sheets


def test_an_undefined_score_is_not_a_missing_one(tmp_path: Path) -> None:
    undefined = Cell(3, 3, math.nan)
    write_sheets(tmp_path / "a.json", [sheet_of(undefined, Cell(planned=3))], {})
    one, other = read_sheets(tmp_path / "a.json")[0].cells
    assert [one.printed("dice"), other.printed("dice")] == ["undefined", "missing"]
    assert one.printed("dice") == undefined.printed("dice")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"sheets": 1}', '{"data": "phantoms"}'])
def test_other_files_are_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(IntegrityError, match=r"a\.json cannot be read"):
        read_sheets(tmp_path / "a.json")
