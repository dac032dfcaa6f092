"""The paper's values beside ours, and the average as the paper takes it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import fake_study
from voxseq.base.errors import IntegrityError
from voxseq.cli import show
from voxseq.config import load_config
from voxseq.plan import build_plan
from voxseq.report import render
from voxseq.report.results import collect
from voxseq.report.run import execute_tables
from voxseq.report.sheet import Cell, Column, Row, Table
from voxseq.report.study import Study
from voxseq.report.tables import differences as statistics
from voxseq.report.tables.paper import in_percent, paper_values, parse
from voxseq.report.tables.run import all_tables, source_of

DECATHLON = tuple(name for name in fake_study.SEGMENTATION if name != "la")


def tables_of(context: Any) -> tuple[Table, ...]:
    return all_tables(source_of(context, collect(context), Study.from_config(context.config)))


def cells(table: Table) -> Iterator[tuple[Row, Column, Cell]]:
    for block in table.blocks:
        for row in block.rows:
            for column, cell in zip(block.columns, row.cells, strict=True):
                yield row, column, cell


def cell(table: Table, row: str, column: str, metric: str, ratio: float = 1.0) -> Cell:
    found = [
        k
        for r, c, k in cells(table)
        if (r.title, c.metric, c.ratio) == (row, metric, ratio) and column in (c.task, c.title)
    ]
    assert len(found) == 1, (row, column, metric)
    return found[0]


@pytest.fixture(scope="module")
def demo(root: Path, tmp_path_factory: pytest.TempPathFactory) -> fake_study.Context:
    """The demo as it is planned, before anything has run."""
    run = build_plan(load_config(root / "params.yaml")).runs["tables/all"]
    return fake_study.Context(dict(run.config), tmp_path_factory.mktemp("demo"), {})


def printed(table: Table) -> list[str]:
    return sorted(k.paper for _, _, k in cells(table) if k.paper is not None)


def test_every_value_of_the_paper_stands_in_the_demos_tables(demo: fake_study.Context) -> None:
    tables = tables_of(demo)
    assert [len(printed(table)) for table in tables] == [72, 36, 8, 16, 0]
    for table in tables[:4]:
        expected = [
            in_percent(value) if metric == "dice" else value
            for (number, *_, metric), value in paper_values().items()
            if number == table.number
        ]
        assert printed(table) == sorted(expected)
    one, two, three, four, _ = tables
    assert cell(one, "UNETR", "task10_colon", "dice").paper == "24.46"
    assert cell(one, "3D UNet", "task08_hepaticvessel", "dice").paper == "57.70"
    assert cell(one, "Ours", "la", "dice").paper == "91.57"
    assert cell(one, "Ours", "Average", "dice").paper == "70.88"
    assert cell(two, "ResNet", "nodule", "accuracy").paper == "0.8440"
    assert cell(two, "ViT", "ricord", "accuracy").paper == "0.7381"
    assert cell(two, "MoCo v3", "ricord", "auc").paper == "0.8446"
    shares = {1.0: "91.57", 0.5: "90.39", 0.25: "87.41", 0.1: "83.65"}
    assert {r: k.paper for r in shares if (k := cell(three, "Ours", "la", "dice", r))} == shares
    assert cell(three, "Ours", "ricord", "auc", 0.1).paper == "0.8054"
    assert cell(three, "UNETR", "la", "dice").paper is None
    assert cell(four, "Full method (stride 2)", "task06_lung", "dice").paper == "65.29"
    assert cell(four, "stride 12", "ricord", "auc").paper == "0.8988"
    assert cell(four, "no sequences", "task06_lung", "dice").paper == "58.80"
    assert cell(four, "stride 4", "ricord", "accuracy").paper is None
    text = "".join(map(render.to_markdown, tables))
    assert "missing [70.88]" in text
    assert "n/a" not in text
    assert "obtained" not in text


def test_values_are_found_by_stable_names_not_by_titles(demo: fake_study.Context) -> None:
    tasks = {
        f"my_{name}": {**task, "title": f"{i}"}
        for i, (name, task) in enumerate(demo.config["tasks"].items())
    }
    variants = {k: {**v, "title": f"row {k}"} for k, v in demo.config["ablation"].items()}
    changed = {
        **demo.config,
        "tasks": tasks,
        "ablation": variants,
        "ratio_tasks": ["my_la", "my_ricord"],
        "ablation_tasks": ["my_task06_lung", "my_ricord"],
        "beyond_tasks": [],
        "beyond": [],
        "runs": [
            {**run, "task": f"my_{run['task']}"}
            for run in demo.config["runs"]
            if run["stage"] != "beyond"
        ],
    }
    tables = tables_of(fake_study.Context(changed, demo.out, {}))
    assert [len(printed(table)) for table in tables] == [72, 36, 8, 16]


def test_of_two_variants_alike_the_one_of_the_papers_name_has_its_value(
    demo: fake_study.Context,
) -> None:
    ablation = {
        "half": {"title": "half", "stride": 1},
        "stride4": {"title": "four", "stride": 1},
        "double": {"title": "double", "stride": 4},
        "single": {"title": "single", "sequences": False},
        "two_things": {"title": "two", "sequences": False, "attention": "causal"},
    }
    table = tables_of(fake_study.Context({**demo.config, "ablation": ablation}, demo.out, {}))[3]
    shown = {row.title: k.paper for row, column, k in cells(table) if column.metric == "auc"}
    assert shown["four"] == "0.8931"
    assert shown["single"] == "0.8617"
    # The paper has no stride of twice the full one, and no row that changes two things.
    assert [shown[title] for title in ("half", "double", "two")] == [None, None, None]


def test_a_task_of_the_papers_name_on_other_data_has_no_value(demo: fake_study.Context) -> None:
    tasks = dict(demo.config["tasks"])
    tasks["task03_liver"] = {**tasks["task03_liver"], "dataset": "task04_hippocampus"}
    table = tables_of(fake_study.Context({**demo.config, "tasks": tasks}, demo.out, {}))[0]
    assert cell(table, "Ours", "task03_liver", "dice").paper is None
    # The average is over six tasks then, but not over the paper's six.
    assert cell(table, "Ours", "Average", "dice").paper is None
    assert cell(table, "Ours", "task06_lung", "dice").paper == "65.29"


def own_study(folder: Path) -> fake_study.Context:
    """Three tasks on data sets that the paper does not have."""
    names = ("task03_liver", "la", "ricord")
    context = fake_study.build(
        folder, tasks=names, seeds=(0,), ratio_tasks=("la",), ablation_tasks=("la",), steps=40
    )
    for name in names:
        context.config["tasks"][name]["dataset"] = f"own_{name}"
    return context


def test_a_study_of_other_tasks_says_nothing_of_the_paper(tmp_path: Path) -> None:
    context = own_study(tmp_path)
    tables = tables_of(context)
    for table in tables[:4]:
        assert {row.title for row, *_ in cells(table)} <= {
            *("UNETR", "ViT", "Ours", "Full method (stride 2)"),
            *(variant["title"] for variant in fake_study.ABLATION.values()),
        }
        for text in (render.to_markdown(table), render.to_latex(table), render.to_html(table)):
            assert "paper" not in text.lower()
            assert "[" not in text.replace(r"\begin{table}[t]", "")
    assert [row.cells[0].status for row in tables[3].blocks[0].rows] == ["complete"] * 9
    execute_tables(context)  # type: ignore[arg-type]
    shown = show.printed(context.out, [table.number for table in tables])
    assert "paper's" not in shown
    assert "[" not in shown


@pytest.mark.parametrize(
    ("tasks", "members", "detail"),
    [
        (fake_study.SEGMENTATION, DECATHLON, "of 6 tasks (MSD)"),
        (("la", "task06_lung", "task03_liver"), DECATHLON[:2], "of 2 tasks (MSD)"),
        (("task03_liver", "la"), ("task03_liver", "la"), "of 2 tasks"),
    ],
)
def test_the_average_is_over_the_decathlon_as_in_the_paper(
    tasks: tuple[str, ...], members: tuple[str, ...], detail: str, tmp_path: Path
) -> None:
    quiet: dict[str, Any] = {"ratio_tasks": (), "ablation_tasks": (), "steps": 40}
    context = fake_study.build(tmp_path, tasks=(*tasks, "ricord"), seeds=(0, 1), **quiet)
    table = tables_of(context)[0]
    assert table.blocks[0].columns[-1].detail == detail
    means = {
        title: [cell(table, title, name, "dice").mean or 0 for name in members]
        for title in ("Ours", "UNETR")
    }
    average = cell(table, "Ours", "Average", "dice")
    assert average.mean == pytest.approx(math.fsum(means["Ours"]) / len(members))
    assert average.n == 2
    assert (average.paper == "70.88") == (len(members) == 6)
    told = [note for note in table.notes if note.startswith("Average: over ")]
    assert len(told) == (set(tasks) != set(members))
    assert all("Left atrium" not in note for note in told)
    # The comparison behind the mark is over the same tasks.
    study = Study.from_config(context.config)
    frame = statistics.differences(study, collect(context), context.inputs)  # type: ignore[arg-type]
    found = frame[(frame["table"] == 1) & (frame["task"] == "")]
    gap = average.mean - (cell(table, "UNETR", "Average", "dice").mean or 0)
    assert 100 * found["difference"].item() == pytest.approx(gap)
    assert found["cases"].item() == len(members) * fake_study.CASES


def test_a_study_of_its_own_averages_over_all_its_segmentations(tmp_path: Path) -> None:
    table = tables_of(own_study(tmp_path))[0]
    assert table.blocks[0].columns[-1].header.startswith("Average\nDice %\nof 2 tasks")
    parts = [cell(table, "Ours", name, "dice").mean or 0 for name in ("task03_liver", "la")]
    assert cell(table, "Ours", "Average", "dice").mean == pytest.approx(sum(parts) / 2)


def test_one_task_has_no_average(tmp_path: Path) -> None:
    context = fake_study.build(
        tmp_path, tasks=("task03_liver",), seeds=(0,), ratio_tasks=(), ablation_tasks=(), steps=40
    )
    assert [c.title for c in tables_of(context)[0].blocks[0].columns] == ["Task03 Liver"]


def test_percent_keeps_the_digits() -> None:
    assert [in_percent(v) for v in ("0.5770", "0.9285", "1.0000", "0.0500", "0.9")] == [
        *("57.70", "92.85", "100.00", "5.00", "90"),
    ]


def test_every_paper_value_is_a_number_with_a_source() -> None:
    values = paper_values()
    assert len(values) == 132
    assert all(0 < float(value) < 1 and len(value) == 6 for value in values.values())
    head = "table,row,column,metric,value,source\n"
    for bad in ("2,ours,ricord,auc,0.5,", "2,ours,ricord,auc,nan,x", "2,ours,ricord,auc,x,y"):
        with pytest.raises(IntegrityError, match="line 2"):
            parse(head + bad)
    with pytest.raises(IntegrityError, match="twice"):
        parse(head + "2,ours,ricord,auc,0.5,x\n2,ours,ricord,auc,0.5,x")
