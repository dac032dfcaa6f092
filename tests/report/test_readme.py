"""README.md and results/README.md, which `voxseq readme` makes of the results."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from voxseq.base.errors import DataError
from voxseq.cli.readme import PAGE_HEAD, PLACES, pages, results_page, with_small_tables
from voxseq.cli.small_table import HEADER, small_table
from voxseq.config.data import PHANTOMS
from voxseq.report.sheet import Block, Cell, Column, Row, Sheet, write_sheets

SCRATCH, PRETRAINED = "From scratch", "Self-supervised pre-training"


def cell(mean: float, **options: object) -> Cell:
    return Cell(5, 5, mean, mean - 2, mean + 2, **options)  # type: ignore[arg-type]


def sheets() -> tuple[Sheet, ...]:
    """Table 1 with the average of two tasks, and Table 3 with a tenth of the labels."""
    titles = ("UNETR", "3D UNet", "MAE3D", "SimCLR", "AR (autoregressive)")
    groups = (SCRATCH, SCRATCH, PRETRAINED, PRETRAINED, PRETRAINED)
    marks = ("below", "above", "unclear", "unclear", "")
    spleen = Column("Spleen", "spleen", "dice", paper="task09_spleen", seeds=5, cases=48)
    la = Column("LA", "la", "dice", paper="la", seeds=5, cases=48)
    average = Column("Average", "", "dice", seeds=5, detail="of 2 tasks (MSD)")
    accuracy = Column("LA", "la", "accuracy", paper="la", seeds=5, cases=48)
    columns = (spleen, la, average, accuracy)
    first = tuple(
        Row(title, tuple(cell(60 + n, mark=mark) for _ in columns), group)  # type: ignore[arg-type]
        for n, (title, group, mark) in enumerate(zip(titles, groups, marks, strict=True))
    )
    few = (la, Column("10 % of labels", "la", "dice", ratio=0.1, seeds=5, cases=48))
    third = (
        Row("UNETR", (cell(60), cell(50)), SCRATCH),
        Row("MAE3D", (Cell(0, 5), Cell(0, 5)), PRETRAINED),
        Row("AR (autoregressive)", (cell(64), cell(55)), PRETRAINED),
    )
    return (
        Sheet("table1", "Scores", (Block("", columns, first),), number=1, phantoms=True),
        Sheet("table3", "Fewer", (Block("LA", few, third),), number=3, phantoms=True),
    )


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone with the results of a study."""
    results = tmp_path / "results/study"
    (results / "tables").mkdir(parents=True)
    write_sheets(results / "tables/tables.json", sheets(), {})
    (results / "tables/table1.md").write_text(f"**{PHANTOMS}**\n\n## Table 1\n\n| a |\n")
    (results / "tables/claims.md").write_text(f"**{PHANTOMS}**\n\n## Claims\n\n- note\n")
    (results / "tables/collapse.md").write_text("## Collapse\n")
    (results / "tables/differences.csv").write_text(
        "table,task,ratio,metric,other,variant,difference,low,high\n"
        "1,la,1,dice,unetr,,0.04,0.01,0.07\n"
        "1,la,1,dice,unetr,frozen,0.5,0.5,0.5\n"
        "1,,1,dice,unetr,,-0.01,-0.03,0.01\n"
        "3,la,0.1,dice,unetr,,0.05,nan,nan\n"
    )
    (results / "tables/claims.csv").write_text(
        "claim,claim_verdict\nC1,supported\nC2,cannot tell\nC2,cannot tell\nC3,cannot tell\n"
    )
    (tmp_path / "README.md").write_text("x\n<!-- study -->\nold\n<!-- /study -->\ny\n")
    return tmp_path


def test_a_small_table_has_a_row_for_each_task_or_average(clone: Path) -> None:
    lines = small_table(clone / "results/study", "there")
    head, _, header, _, *rows, _, notes, claims = lines
    assert head == f"**{PHANTOMS}**"
    assert header == f"| {' | '.join(HEADER)} |"
    cells = [[text.strip() for text in row.strip("|").split("|")] for row in rows]
    assert cells == [
        [
            *("LA<br>Dice %<br>5 seeds, 48 test cases", "60.0 [58.0, 62.0]", "64.0 [62.0, 66.0]"),
            *("+4.0 [+1.0, +7.0]", "clearly better", "SimCLR 63.0 [61.0, 65.0]"),
            "3D UNet 61.0 [59.0, 63.0] ▲",
        ],
        [
            *("Average<br>Dice %<br>of 2 tasks (MSD)<br>5 seeds", "60.0 [58.0, 62.0]"),
            *("64.0 [62.0, 66.0]", "-1.0 [-3.0, +1.0]", "clearly better"),
            *("SimCLR 63.0 [61.0, 65.0]", "3D UNet 61.0 [59.0, 63.0] ▲"),
        ],
        [
            *("LA, 10 % of labels<br>Dice %<br>5 seeds, 48 test cases", "50.0 [48.0, 52.0]"),
            *("55.0 [53.0, 57.0]", "+5.0", "not tested", "–", "–"),
        ],
    ]
    assert "95 %" in notes
    expected = (
        "Of the paper's 3 claims, each judged by itself: "
        "1 supported, 2 cannot tell ([all](there/tables/claims.md))."
    )
    assert claims == expected


def test_an_average_that_stands_for_no_task_is_left_out(clone: Path) -> None:
    own = Column("Kidney", "kidney", "dice", seeds=5, cases=48)
    average = Column("Average", "", "dice", seeds=5)
    row = Row("UNETR", (cell(60), cell(60)), SCRATCH)
    sheet = Sheet("table1", "Scores", (Block("", (own, average), (row,)),), number=1)
    write_sheets(clone / "results/study/tables/tables.json", (sheet,), {})
    lines = small_table(clone / "results/study", "there")
    assert [line.split("<br>")[0] for line in lines[2:-3]] == ["| Kidney"]


def test_the_small_table_takes_its_place_and_nothing_else(clone: Path) -> None:
    text = (clone / "README.md").read_text()
    once = with_small_tables(text + "<!-- open -->\nkept\n<!-- /open -->\n", clone)
    assert once.startswith(f"x\n<!-- study -->\n\n**{PHANTOMS}**\n\n| Task |")
    assert once.endswith("\n\n<!-- /study -->\ny\n<!-- open -->\nkept\n<!-- /open -->\n")
    assert "old" not in once
    assert with_small_tables(once, clone) == once


def test_the_page_of_all_tables_says_of_what_they_are_once(clone: Path) -> None:
    page = results_page(clone)
    assert page == (
        f"{PAGE_HEAD}\n\n## The demo with several seeds\n\n**{PHANTOMS}**\n\n"
        "Made by `make study`. More: [collapse](study/tables/collapse.md)\n\n"
        "### Claims\n\n- note\n\n### Table 1\n\n| a |\n"
    )


def test_a_clone_without_results_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"README\.md does not exist"):
        pages(tmp_path)
    (tmp_path / "README.md").write_text("x")
    with pytest.raises(DataError, match="has no tables"):
        pages(tmp_path)


def test_the_pages_show_the_committed_results(root: Path) -> None:
    for path, text in pages(root).items():
        assert path.read_text(encoding="utf-8") == text, "voxseq readme --write"


def test_the_readme_has_a_place_for_each_small_table_and_is_short(root: Path) -> None:
    text = (root / "README.md").read_text(encoding="utf-8")
    for name in PLACES:
        assert text.count(f"<!-- {name} -->\n") == text.count(f"<!-- /{name} -->\n") == 1
        text = re.sub(f"<!-- {name} -->.*<!-- /{name} -->", "", text, flags=re.DOTALL)
    assert len(text.splitlines()) <= 110
