from __future__ import annotations

from pathlib import Path

import pytest

from voxseq.errors import DataError
from voxseq.report.readme import with_tables


def test_rows_replace_what_stands_between_the_marks(tmp_path: Path) -> None:
    (tmp_path / "table2.md").write_text("## Table 2\n\n| a |\n| - |\n| 1 |\n\n- note\n")
    before = "x\n<!-- table 2 -->\nold\n<!-- end -->\ny\n"
    once = with_tables(before, tmp_path)
    assert once == "x\n<!-- table 2 -->\n\n| a |\n| - |\n| 1 |\n\n<!-- end -->\ny\n"
    assert with_tables(once, tmp_path) == once


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"table2\.md"):
        with_tables("<!-- table 2 -->\n<!-- end -->", tmp_path)


def test_the_readme_shows_the_committed_tables(root: Path) -> None:
    text = (root / "README.md").read_text(encoding="utf-8")
    assert text.count("<!-- table") == 4
    assert with_tables(text, root / "results/tables") == text
