from __future__ import annotations

from pathlib import Path

import pytest

from voxseq.base.errors import DataError
from voxseq.cli.readme import with_tables


def test_rows_replace_what_stands_between_the_marks(tmp_path: Path) -> None:
    (tmp_path / "table2.md").write_text("## Table 2\n\n| a |\n| - |\n| 1 |\n\n- note\n")
    before = "x\n<!-- table 2 -->\nold\n<!-- end -->\ny\n"
    once = with_tables(before, tmp_path)
    assert once == "x\n<!-- table 2 -->\n\n| a |\n| - |\n| 1 |\n\n<!-- end -->\ny\n"
    assert with_tables(once, tmp_path) == once


def test_blocks_of_a_table_keep_their_headings_apart(tmp_path: Path) -> None:
    grid = "| a |\n| - |\n| {} |\n"
    content = f"## T\n\n### One\n\n{grid.format(1)}\n### Two\n\n{grid.format(2)}\n- note\n"
    (tmp_path / "table5.md").write_text(content)
    (tmp_path / "collapse.md").write_text("## C\n\n| b |\n")
    text = with_tables(
        "<!-- table 5 -->\n<!-- end -->\n<!-- table collapse -->\n<!-- end -->\n", tmp_path
    )
    first, second = text.split("<!-- table collapse -->")
    assert first == (
        "<!-- table 5 -->\n\n**One**\n\n| a |\n| - |\n| 1 |\n\n**Two**\n\n"
        "| a |\n| - |\n| 2 |\n\n<!-- end -->\n"
    )
    assert "| b |" in second


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"table2\.md"):
        with_tables("<!-- table 2 -->\n<!-- end -->", tmp_path)


def test_the_readme_shows_the_committed_tables(root: Path) -> None:
    text = (root / "README.md").read_text(encoding="utf-8")
    assert all(f"<!-- table {number} -->" in text for number in (1, 2, 3, 4))
    assert with_tables(text, root / "results/tables") == text
