"""The paper's values beside ours: found by data set, method and what a variant changes."""

from __future__ import annotations

import csv
import math
import re
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import fake_study
from tests.helpers.fake_study import AR
from tests.report.test_tables import (
    DECATHLON,
    cell,
    cells,
    inputs_of,
    planned,
    tables_of,
)
from voxseq.cli import show
from voxseq.config.studies import AblationVariant
from voxseq.report import writers
from voxseq.report.sheet import Sheet
from voxseq.report.tables import layout
from voxseq.report.tables.paper import in_percent, paper_values
from voxseq.report.tables.run import all_tables


def ablation_of(**variants: dict[str, Any]) -> dict[str, AblationVariant]:
    titled = {name: {"title": name, **changes} for name, changes in variants.items()}
    return {name: AblationVariant.model_validate(value) for name, value in titled.items()}


def test_ablation_rows_are_found_by_what_they_change() -> None:
    ablation = ablation_of(
        single={"sequences": False},
        causal={"attention": "causal"},
        **{f"no_{kind}": {"without": kind} for kind in ("spatial", "contrast", "semantic")},
        half={"stride": 1},
        stride_4={"stride": 4},
        raster={"token_order": "raster"},
        two_things={"sequences": False, "attention": "causal"},
    )
    study = fake_study.part(ablation=("task06_lung",)).model_copy(update={"ablation": ablation})
    rows = layout.ablation_rows(study)
    assert {row.paper_row: row.variant for row in rows if row.paper_row} == {
        **{"full": "", "no_sequences": "single", "no_random_start": "causal"},
        **{f"without_{kind}": f"no_{kind}" for kind in ("spatial", "contrast", "semantic")},
        # Half the full stride, as the paper's 4 of 8; stride 4 of 2 is none of the paper's.
        "stride4": "half",
    }
    assert [row.variant for row in rows][6:] == ["half", "stride_4", "raster", "two_things"]
    # Of two that are alike, the one with the paper's name has its value.
    alike = ablation_of(half={"stride": 1}, stride4={"stride": 1})
    rows = layout.ablation_rows(study.model_copy(update={"ablation": alike}))
    assert [row.variant for row in rows if row.paper_row == "stride4"] == ["stride4"]


def printed(table: Sheet) -> list[str]:
    return sorted(k.paper for _, _, k in cells(table) if k.paper is not None)


def test_every_value_of_the_paper_stands_in_the_demos_tables() -> None:
    tables = planned(fake_study.demo())
    assert [len(printed(table)) for table in tables] == [72, 36, 8, 16, 0]
    for table in tables[:4]:
        expected = [
            in_percent(value) if metric == "dice" else value
            for (number, *_, metric), value in paper_values().items()
            if number == table.number
        ]
        assert printed(table) == sorted(expected)
    for number, row, column, metric, ratio, value in (
        (1, "UNETR", "task10_colon", "dice", 1.0, "24.46"),
        (1, "3D UNet", "task08_hepaticvessel", "dice", 1.0, "57.70"),
        (1, AR, "la", "dice", 1.0, "91.57"),
        (1, AR, "Average", "dice", 1.0, "70.88"),
        (2, "ResNet", "nodule", "accuracy", 1.0, "0.8440"),
        (2, "ViT", "ricord", "accuracy", 1.0, "0.7381"),
        (2, "MoCo v3", "ricord", "auc", 1.0, "0.8446"),
        *((3, AR, "la", "dice", r, v) for r, v in ((1.0, "91.57"), (0.5, "90.39"))),
        *((3, AR, "la", "dice", r, v) for r, v in ((0.25, "87.41"), (0.1, "83.65"))),
        (3, AR, "ricord", "auc", 0.1, "0.8054"),
        (3, "UNETR", "la", "dice", 1.0, None),
        (4, "Full method (stride 2)", "task06_lung", "dice", 1.0, "65.29"),
        (4, "stride 12", "ricord", "auc", 1.0, "0.8988"),
        (4, "no sequences", "task06_lung", "dice", 1.0, "58.80"),
        (4, "stride 4", "ricord", "accuracy", 1.0, None),
    ):
        assert cell(tables[number - 1], row, column, metric, ratio).paper == value
    assert "missing (paper 70.88)" in writers.to_markdown(tables[0])


def test_values_are_found_by_data_sets_and_not_by_names_and_titles() -> None:
    demo = fake_study.demo()
    names = {name: f"my_{name}" for name in demo.tasks}
    changed = demo.model_copy(
        update={
            "tasks": {
                names[k]: t.model_copy(update={"name": names[k], "title": f"{i}"})
                for i, (k, t) in enumerate(demo.tasks.items())
            },
            **{key: tuple(names[n] for n in getattr(demo, key)) for key in ("ratio_tasks",)},
            "ablation_tasks": tuple(names[n] for n in demo.ablation_tasks),
            "runs": tuple(
                run.model_copy(update={"task": names[run.task]})
                for run in demo.runs
                if run.stage != "beyond"
            ),
            **{"beyond": (), "beyond_tasks": ()},
        }
    )
    assert [len(printed(table)) for table in planned(changed)] == [72, 36, 8, 16]
    other = demo.tasks["task03_liver"].model_copy(update={"dataset": "task04_hippocampus"})
    tasks = {**demo.tasks, "task03_liver": other}
    table = planned(demo.model_copy(update={"tasks": tasks}))[0]
    # The average is over six tasks then, but not over the paper's six.
    papers = [cell(table, AR, c).paper for c in ("task03_liver", "Average", "task06_lung")]
    assert papers == [None, None, "65.29"]


@pytest.mark.slow
def test_a_study_of_other_tasks_says_nothing_of_the_paper(tmp_path: Path) -> None:
    study = fake_study.part(tasks=("task06_lung", "la", "ricord"), seeds=(0,), ratios=("la",))
    tasks = {k: t.model_copy(update={"dataset": f"own_{k}"}) for k, t in study.tasks.items()}
    context = fake_study.build(tmp_path, study.model_copy(update={"tasks": tasks}), steps=40)
    tables = tables_of(context)
    average = tables[0].blocks[0].columns[-1]
    assert average.header[:3] == ("Average", "Dice %", "of 2 tasks")
    ours = AR
    parts = [cell(tables[0], ours, name).mean or 0 for name in ("task06_lung", "la")]
    assert cell(tables[0], ours, "Average").mean == pytest.approx(sum(parts) / 2)
    titles = {"UNETR", "ViT", ours, "Full method (stride 2)"}
    titles |= {variant.title for variant in study.ablation.values()}
    for table in tables:
        assert {row.title for row, *_ in cells(table)} <= titles
        for text in (writers.to_markdown(table), writers.to_latex(table)):
            assert "paper" not in text.lower()
            assert not re.search(r"(?i)\bours?\b|table \d", text)
        header, *lines = writers.to_csv(table).splitlines()
        assert "paper" not in header
        assert not any("n/a" in line for line in lines)
        assert all(one.paper is None for *_, one in cells(table))
    assert [row.cells[0].status for row in tables[3].blocks[0].rows] == ["complete"] * 8
    out = context.make("tables")
    shown = show.printed(out, [table.number for table in tables])
    assert not re.search(r"paper|our pre|Table \d", shown)
    assert not (out / "tables/claims.csv").exists()


@pytest.mark.parametrize(
    ("tasks", "members", "detail"),
    [
        ((*DECATHLON, "la"), DECATHLON, "of 6 tasks (MSD)"),
        (("la", "task06_lung", "task03_liver"), DECATHLON[:2], "of 2 tasks (MSD)"),
        (("task03_liver", "la"), ("task03_liver", "la"), "of 2 tasks"),
        (("task03_liver",), (), ""),
    ],
)
def test_the_average_is_over_the_decathlon_as_in_the_paper(
    tasks: tuple[str, ...], members: tuple[str, ...], detail: str, tmp_path: Path
) -> None:
    inputs = inputs_of(fake_study.quiet(tmp_path, *tasks, "ricord", seeds=(0, 1)))
    table = all_tables(inputs)[0]
    if not members:
        assert [c.title for c in table.blocks[0].columns] == ["Task03 Liver"]
        return
    assert table.blocks[0].columns[-1].detail == detail
    average = cell(table, AR, "Average")
    means = [cell(table, AR, name).mean or 0 for name in members]
    assert average.mean == pytest.approx(math.fsum(means) / len(members))
    assert average.n == 2
    assert (average.paper == "70.88") == (len(members) == 6)
    told = [note for note in table.notes if note.startswith("Average: over ")]
    assert len(told) == (set(tasks) != set(members))
    assert all("LA" not in note for note in told)
    # The comparison behind the mark is over the same tasks.
    frame = inputs.differences
    found = frame[(frame["table"] == 1) & (frame["task"] == "")]
    gap = average.mean - (cell(table, "UNETR", "Average").mean or 0)
    # Cases without a class weigh a little less there: classes are averaged in each case.
    assert 100 * found["difference"].item() == pytest.approx(gap, abs=0.05)
    assert found["cases"].item() == len(members) * fake_study.CASES


def test_every_paper_value_is_a_number_with_a_source(root: Path) -> None:
    values = paper_values()
    with (root / "src/voxseq/report/tables/paper_values.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert len(values) == len(lines) == 132
    assert all(0 < float(value) < 1 and len(value) == 6 for value in values.values())
    assert all(line["source"].strip() and None not in line.values() for line in lines)
    percents = [in_percent(v) for v in ("0.5770", "1.0000", "0.0500", "0.9")]
    assert percents == ["57.70", "100.00", "5.00", "90"]
