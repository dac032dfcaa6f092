"""Tables are pure functions of the runs' scores; nothing missing is ever blank or zero."""

from __future__ import annotations

import csv
import io
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.helpers import fake_study
from tests.helpers.fake_study import Context
from voxseq.base.errors import IntegrityError
from voxseq.cli import show
from voxseq.config.report_run import METRICS, ReportRun
from voxseq.config.studies import AblationVariant
from voxseq.report import writers
from voxseq.report.results import collect, missing_runs, run_means
from voxseq.report.sheet import Cell, Column, Row, Sheet, read_sheets, summarise
from voxseq.report.tables import layout
from voxseq.report.tables.inputs import TableInputs, table_inputs
from voxseq.report.tables.paper import in_percent, paper_values
from voxseq.report.tables.run import all_tables

MISSING = ("task10_colon/ours", "finetune/la/ours/s2", "finetune/task08_hepaticvessel")
DECATHLON = tuple(name for name in fake_study.demo().tasks if name.startswith("task"))
BEYOND = {"tasks": ("la", "nodule"), "beyond": ("la", "nodule"), "ablation": ()}


def inputs_of(context: Context) -> TableInputs:
    study = context.config
    return table_inputs(study, collect(study, context.inputs), context.inputs)


def tables_of(context: Context) -> tuple[Sheet, ...]:
    return all_tables(inputs_of(context))


def planned(study: ReportRun) -> tuple[Sheet, ...]:
    """The tables of a study of which nothing has run."""
    return tables_of(Context(study, Path(), {}))


def cells(table: Sheet) -> Iterator[tuple[Row, Column, Cell]]:
    for block in table.blocks:
        for row in block.rows:
            for column, cell in block.pairs(row):
                yield row, column, cell


def cell(table: Sheet, row: str, column: str, metric: str = "dice", ratio: float = 1.0) -> Cell:
    found = [
        k
        for r, c, k in cells(table)
        if (r.title, c.metric, c.ratio) == (row, metric, ratio) and column in (c.task, c.title)
    ]
    assert len(found) == 1, (row, column, metric)
    return found[0]


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    return fake_study.build(tmp_path_factory.mktemp("study"), missing=MISSING)


@pytest.fixture(scope="module")
def inputs(context: Context) -> TableInputs:
    return inputs_of(context)


@pytest.fixture(scope="module")
def tables(inputs: TableInputs) -> tuple[Sheet, ...]:
    return all_tables(inputs)


def test_rows_and_columns_are_the_papers(tables: tuple[Sheet, ...]) -> None:
    assert [table.number for table in tables] == [1, 2, 3, 4]
    pretrained = ["SimCLR", "MoCo v3", "DINO", "PCRLv2", "MAE3D", "MedCoSS", "Ours"]
    rows = [[row.title for row in table.blocks[0].rows] for table in tables]
    assert rows[0] == ["UNETR", "3D UNet", *pretrained]
    assert rows[1] == ["ResNet", "ViT", *pretrained]
    assert [c.title.split()[0] for c in tables[0].blocks[0].columns] == [
        *("Task03", "Task06", "Task07", "Task08", "Task09", "Task10", "LA", "Average"),
    ]
    assert [(c.title, c.metric) for c in tables[1].blocks[0].columns] == [
        *(("RICORD", "auc"), ("RICORD", "accuracy")),
        *(("LIDC nodule", "auc"), ("LIDC nodule", "accuracy")),
    ]
    assert [len(block.columns) for block in tables[2].blocks] == [4, 4, 4]
    assert len(rows[3]) == 8


def test_dice_is_the_mean_over_cases_then_classes_then_seeds(
    context: Context, tables: tuple[Sheet, ...]
) -> None:
    values = []
    for seed in (0, 1, 2):
        folder = context.inputs[f"finetune/task07_pancreas/ours/s{seed}"]
        frame = pd.read_csv(folder / "scores.csv")
        assert frame["value"].isna().sum() == 1
        values.append(np.mean([g["value"].mean() for _, g in frame.groupby("label")]))
    found = cell(tables[0], "Ours", "task07_pancreas")
    assert found.mean == pytest.approx(100 * np.mean(values), abs=1e-9)
    assert found.sd == pytest.approx(100 * np.std(values, ddof=1), abs=1e-9)
    assert (found.n, found.planned, found.status) == (3, 3, "complete")


def test_missing_and_partial_cells(context: Context, tables: tuple[Sheet, ...]) -> None:
    expected = {
        **{("Ours", "task10_colon"): "missing", ("SimCLR", "la"): "missing"},
        **{("Ours", "la"): "partial", ("Ours", "Average"): "missing"},
    }
    assert {key: cell(tables[0], *key).status for key in expected} == expected
    assert any(note.startswith("†") for note in tables[0].notes)
    missing = missing_runs(context.config, collect(context.config, context.inputs))
    assert {run.task for run in missing} == {"task10_colon", "la", "task08_hepaticvessel"}


def test_marks_say_on_which_side_of_ours_a_row_clearly_lies(
    inputs: TableInputs, tables: tuple[Sheet, ...]
) -> None:
    assert cell(tables[0], "UNETR", "task03_liver").mark == "below"
    assert cell(tables[0], "Ours", "task03_liver").mark == ""
    assert cell(tables[0], "SimCLR", "task03_liver").mark == ""
    for table in tables:
        compared = [c for c in table.cells if c.mark]
        family = inputs.differences[inputs.differences["table"] == table.number]
        assert len(compared) == len(family) > 0
        clear = (family["p_holm"] < 0.05) & (family["low"] * family["high"] > 0)
        assert sum(c.mark in ("above", "below") for c in compared) == clear.sum()
        assert sorted(c.p_holm or 0 for c in compared) == pytest.approx(sorted(family["p_holm"]))
        assert f"{len(family)} comparisons" in writers.to_markdown(table)


def test_every_format_prints_every_cell(tables: tuple[Sheet, ...]) -> None:
    for table in tables:
        statuses = [c.status for c in table.cells]
        missing, brackets = statuses.count("missing"), sum(c.paper is not None for c in table.cells)
        below = sum(c.mark == "below" for c in table.cells)
        rows = list(csv.DictReader(io.StringIO(writers.to_csv(table))))
        assert [row["status"] for row in rows] == statuses
        assert [row["mark"] for row in rows] == [c.mark or "none" for c in table.cells]
        assert sum(row["mean"] == "missing" for row in rows) == missing
        assert all(row[key] for row in rows for key in ("mean", "sd", "n", "paper", "status"))
        markdown = writers.to_markdown(table)
        body = "".join(line for line in markdown.splitlines() if line.startswith("| "))
        counts = [body.count(word) for word in ("missing", "[", "▼", "|  |")]
        assert counts == [missing, brackets, below, 0]
        latex = writers.to_latex(table)
        assert latex.isascii()
        assert latex.count(" {[") == brackets


def test_sheets_are_read_as_they_were_written(tables: tuple[Sheet, ...], tmp_path: Path) -> None:
    path = tmp_path / "tables.json"
    content = json.dumps({"sheets": 3})
    for broken in ("", "{", "[]", content):
        path.write_text(broken)
        with pytest.raises(IntegrityError, match=r"tables\.json cannot be read"):
            read_sheets(path)
    Context(fake_study.part(tasks=("la",)), tmp_path, {}).make("tables")
    assert all(
        c.mean is None for t in read_sheets(tmp_path / "tables/tables.json") for c in t.cells
    )


def test_one_seed_has_no_sd_and_undefined_is_said() -> None:
    for values, planned_seeds, factor, metric, text in (
        ([0.5], 1, 100.0, "dice", "50.00 ± – (n=1)"),
        ([math.nan], 1, 1.0, "auc", "undefined (n=1)"),
        ([], 3, 1.0, "auc", "missing"),
        ([0.0, 0.0], 2, 1.0, "dice", "0.00 ± 0.00 (n=2)"),
    ):
        assert summarise(values, planned_seeds, factor, None).printed(metric) == text


def test_beyond_the_paper_every_row_stands_beside_its_reference(tmp_path: Path) -> None:
    missing = ("beyond/finetune/la/ours_scratch_recipe",)
    context = fake_study.build(tmp_path, missing=missing, ratios=(), **BEYOND)
    one, _, table = tables_of(context)
    assert [block.heading for block in table.blocks] == [
        *("Token order", "Recipe and weights", "Frozen encoder", "Trivial baselines"),
    ]
    assert [c.metric for c in table.blocks[0].columns] == ["dice", "auc", "accuracy"]
    shape = "Mean shape of the training labels"
    named = {row.title: row.reference for block in table.blocks for row in block.rows}
    assert named["ViT, random weights"] == "Frozen encoder: Ours"
    assert (named[shape], named["Ours"]) == ("Ours", "")
    ours, mean_shape = cell(one, "Ours", "la"), cell(table, shape, "la")
    assert (mean_shape.n, mean_shape.planned, mean_shape.sd) == (1, 1, None)
    assert mean_shape.reference == pytest.approx(ours.mean)
    assert cell(table, "Majority class", "la").status == "not applicable"
    vit = cell(table, "ViT, random weights", "nodule", "auc")
    assert vit.reference == pytest.approx(cell(table, "Ours", "nodule", "auc").mean)
    gone = cell(table, "Ours, recipe for random weights", "la")
    assert (gone.status, gone.planned) == ("missing", 3)
    text = writers.to_markdown(table)
    assert f"missing [{ours.mean:.2f}]" in text
    assert "Compared with" in text
    assert "n/a" not in "".join(x for x in text.splitlines() if x.startswith("|"))


def test_a_variant_of_two_tables_has_its_own_runs_in_each(tmp_path: Path) -> None:
    """The ablation, too, may have a variant that is called "raster"."""
    study = fake_study.part(tasks=("la", "ricord", "nodule"), beyond=("nodule",), ratios=())
    text = study.model_dump_json().replace("no_random_start", "raster")
    context = fake_study.build(tmp_path, ReportRun.model_validate_json(text))
    tables = {table.number: table for table in tables_of(context)}
    assert cell(tables[4], "no random start", "ricord", "auc").n == 3
    assert cell(tables[5], "Ours, tokens in raster order", "nodule", "auc").n == 3


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
        (1, "Ours", "la", "dice", 1.0, "91.57"),
        (1, "Ours", "Average", "dice", 1.0, "70.88"),
        (2, "ResNet", "nodule", "accuracy", 1.0, "0.8440"),
        (2, "ViT", "ricord", "accuracy", 1.0, "0.7381"),
        (2, "MoCo v3", "ricord", "auc", 1.0, "0.8446"),
        *((3, "Ours", "la", "dice", r, v) for r, v in ((1.0, "91.57"), (0.5, "90.39"))),
        *((3, "Ours", "la", "dice", r, v) for r, v in ((0.25, "87.41"), (0.1, "83.65"))),
        (3, "Ours", "ricord", "auc", 0.1, "0.8054"),
        (3, "UNETR", "la", "dice", 1.0, None),
        (4, "Full method (stride 2)", "task06_lung", "dice", 1.0, "65.29"),
        (4, "stride 12", "ricord", "auc", 1.0, "0.8988"),
        (4, "no sequences", "task06_lung", "dice", 1.0, "58.80"),
        (4, "stride 4", "ricord", "accuracy", 1.0, None),
    ):
        assert cell(tables[number - 1], row, column, metric, ratio).paper == value
    assert "missing [70.88]" in writers.to_markdown(tables[0])


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
    papers = [cell(table, "Ours", c).paper for c in ("task03_liver", "Average", "task06_lung")]
    assert papers == [None, None, "65.29"]


def test_a_study_of_other_tasks_says_nothing_of_the_paper(tmp_path: Path) -> None:
    study = fake_study.part(tasks=("task06_lung", "la", "ricord"), seeds=(0,), ratios=("la",))
    tasks = {k: t.model_copy(update={"dataset": f"own_{k}"}) for k, t in study.tasks.items()}
    context = fake_study.build(tmp_path, study.model_copy(update={"tasks": tasks}), steps=40)
    tables = tables_of(context)
    average = tables[0].blocks[0].columns[-1]
    assert average.header[:3] == ("Average", "Dice %", "of 2 tasks")
    parts = [cell(tables[0], "Ours", name).mean or 0 for name in ("task06_lung", "la")]
    assert cell(tables[0], "Ours", "Average").mean == pytest.approx(sum(parts) / 2)
    titles = {"UNETR", "ViT", "Ours", "Full method (stride 2)"}
    titles |= {variant.title for variant in study.ablation.values()}
    for table in tables:
        assert {row.title for row, *_ in cells(table)} <= titles
        for text in (writers.to_markdown(table), writers.to_latex(table)):
            assert "paper" not in text.lower()
            assert "[" not in text.replace(r"\begin{table}[t]", "")
    assert [row.cells[0].status for row in tables[3].blocks[0].rows] == ["complete"] * 8
    shown = show.printed(context.make("tables"), [table.number for table in tables])
    assert "paper's" not in shown
    assert "[" not in shown


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
    average = cell(table, "Ours", "Average")
    means = [cell(table, "Ours", name).mean or 0 for name in members]
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
    assert 100 * found["difference"].item() == pytest.approx(gap)
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


@pytest.mark.slow
def test_the_same_files_are_written_again(context: Context, tmp_path: Path) -> None:
    outs = [tmp_path / "a", tmp_path / "b"]
    for out in outs:
        Context(context.config, out, dict(context.inputs)).make("tables")
    names = sorted(str(p.relative_to(outs[0])) for p in outs[0].rglob("*") if p.is_file())
    for name in names:
        assert (outs[0] / name).read_bytes() == (outs[1] / name).read_bytes()
    metrics = json.loads((outs[0] / "metrics.json").read_text())
    # A method that lacks a task has no mean over tasks.
    assert metrics["mean_auc"].keys() == {"vit", "ours"}
    assert "mean_dice" not in metrics
    assert metrics["ours"].keys() == set(context.config.tasks) - {
        *("task08_hepaticvessel", "task10_colon"),
    }
    assert metrics["pretraining_loss"]["ours"] == pytest.approx(0.586, abs=1e-3)
    scores = pd.read_csv(outs[0] / "tables/scores.csv")
    assert len(scores) == len(run_means(collect(context.config, context.inputs)))


def test_metrics_are_the_means_of_the_tables(tmp_path: Path) -> None:
    context = fake_study.quiet(tmp_path, "la", "task03_liver", "ricord", "nodule")
    metrics = json.loads((context.make("tables") / "metrics.json").read_text())
    one, two = read_sheets(context.out / "tables/tables.json")[:2]
    for table, name, factor, kind in (
        *((one, "mean_dice", 100, "segmentation"), (two, "mean_auc", 1, "classification")),
    ):
        tasks, metric = context.config.tasks_of(kind), METRICS[kind][0]
        means = [(cell(table, "Ours", task.name, metric).mean or 0) / factor for task in tasks]
        assert metrics[name]["ours"] == pytest.approx(np.mean(means), abs=1e-6)
        ours = [metrics["ours"][task.name] for task in tasks]
        assert ours == pytest.approx(means, abs=1e-6)


def test_no_run_at_all_is_all_missing(context: Context, tmp_path: Path) -> None:
    empty = Context(context.config, tmp_path, {})
    empty.make("tables")
    tables = [t for t in read_sheets(tmp_path / "tables/tables.json") if t.number]
    assert all(c.status == "missing" for t in tables for c in t.cells)
    assert json.loads((tmp_path / "metrics.json").read_text()) == {}


@pytest.mark.parametrize("text", ["case,label\n", "case,label,metric,value\na,b,dice,high\n"])
def test_broken_scores_are_named(text: str, tmp_path: Path) -> None:
    context = fake_study.quiet(tmp_path, "la", seeds=(0,))
    (context.inputs["finetune/la/ours/s0"] / "scores.csv").write_text(text)
    with pytest.raises(IntegrityError, match=r"scores\.csv"):
        collect(context.config, context.inputs)


def test_tables_need_neither_torch_nor_matplotlib() -> None:
    code = (
        "import sys; import voxseq.report.tables.run, voxseq.report.tables.cost; "
        "print([m for m in ('torch', 'matplotlib', 'monai') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
