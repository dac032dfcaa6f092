"""Tables are pure functions of the runs' scores; nothing missing is ever blank or zero."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.helpers import fake_study
from voxseq.base.errors import IntegrityError
from voxseq.report import render
from voxseq.report.results import collect, missing_runs, run_means
from voxseq.report.run import execute_tables
from voxseq.report.study import Study
from voxseq.report.tables import layout
from voxseq.report.tables.run import Cell, Table, all_tables, source_of, summarise

MISSING = ("task10_colon/ours", "finetune/la/ours/r100/s2", "finetune/task08_hepaticvessel")


def tables_of(context: fake_study.Context) -> tuple[Table, ...]:
    study = Study.from_config(context.config)
    return all_tables(source_of(context, collect(context), study))


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> fake_study.Context:
    return fake_study.build(tmp_path_factory.mktemp("study"), missing=MISSING)


@pytest.fixture(scope="module")
def tables(context: fake_study.Context) -> tuple[Table, ...]:
    return tables_of(context)


def cell(table: Table, row: str, column: str, metric: str) -> Cell:
    for block in table.blocks:
        for index, candidate in enumerate(block.columns):
            if candidate.title == column and candidate.metric == metric:
                found = [r.cells[index] for r in block.rows if r.title == row]
                if found:
                    return found[0]
    raise AssertionError(f"no cell {row} × {column}")


def test_rows_and_columns_are_the_papers(tables: tuple[Table, ...]) -> None:
    assert [table.number for table in tables] == [1, 2, 3, 4]
    rows = [[row.title for row in table.blocks[0].rows] for table in tables]
    assert rows[0] == list(layout.ROWS["segmentation"])
    assert rows[1] == list(layout.ROWS["classification"])
    assert [c.title.split()[0] for c in tables[0].blocks[0].columns] == [
        *("Task03", "Task06", "Task07", "Task08", "Task09", "Task10", "Left", "Average"),
    ]
    assert [(c.title, c.metric) for c in tables[1].blocks[0].columns] == [
        ("RICORD", "auc"),
        ("RICORD", "accuracy"),
        ("LIDC-IDRI nodule", "auc"),
        ("LIDC-IDRI nodule", "accuracy"),
    ]
    assert [len(block.columns) for block in tables[2].blocks] == [4, 4, 4]
    assert len(rows[3]) == 9
    assert rows[3][-1] == "Raster token order"


def test_dice_is_the_mean_over_cases_then_classes_then_seeds(
    context: fake_study.Context, tables: tuple[Table, ...]
) -> None:
    values = []
    for seed in (0, 1, 2):
        folder = context.inputs[f"finetune/task07_pancreas/ours/r100/s{seed}"]
        frame = pd.read_csv(folder / "scores.csv")
        assert frame["value"].isna().sum() == 1
        values.append(np.mean([g["value"].mean() for _, g in frame.groupby("label")]))
    found = cell(tables[0], "Ours", "Task07 Pancreas", "dice")
    assert found.mean == pytest.approx(100 * np.mean(values), abs=1e-9)
    assert found.sd == pytest.approx(100 * np.std(values, ddof=1), abs=1e-9)
    assert (found.n, found.planned, found.status) == (3, 3, "complete")


def test_missing_and_partial_cells(tables: tuple[Table, ...]) -> None:
    assert cell(tables[0], "Ours", "Task10 Colon", "dice").status == "missing"
    assert cell(tables[0], "SimCLR", "Left atrium", "dice").status == "missing"
    assert cell(tables[0], "Ours", "Left atrium", "dice").status == "partial"
    assert cell(tables[0], "Ours", "Average", "dice").status == "missing"
    assert any(note.startswith("†") for note in tables[0].notes)


def test_marks_say_on_which_side_of_ours_a_row_clearly_lies(
    context: fake_study.Context, tables: tuple[Table, ...]
) -> None:
    study = Study.from_config(context.config)
    frame = source_of(context, collect(context), study).differences
    assert cell(tables[0], "UNETR", "Task03 Liver", "dice").mark == "below"
    assert cell(tables[0], "Ours", "Task03 Liver", "dice").mark == ""
    assert cell(tables[0], "SimCLR", "Task03 Liver", "dice").mark == ""
    for table in tables:
        compared = [c for c in table.cells if c.mark]
        family = frame[frame["table"] == table.number]
        assert len(compared) == len(family)
        clear = {"above", "below"}
        expected = (family["p_holm"] < 0.05) & (family["low"] * family["high"] > 0)
        assert sum(c.mark in clear for c in compared) == expected.sum()
        assert sorted(c.p_holm or 0 for c in compared) == pytest.approx(sorted(family["p_holm"]))
        text = render.to_markdown(table)
        rows = "".join(line for line in text.splitlines() if line.startswith("| "))
        assert rows.count("▼") == sum(c.mark == "below" for c in table.cells)
        assert render.to_latex(table).isascii()
        lines = list(csv.DictReader(io.StringIO(render.to_csv(table))))
        assert [x["mark"] for x in lines] == [c.mark or "none" for c in table.cells]
        if compared:
            assert f"{len(family)} comparisons" in text


def test_beyond_the_paper_every_row_stands_beside_its_reference(tmp_path: Path) -> None:
    context = fake_study.build(
        tmp_path,
        tasks=("la", "ricord"),
        ratio_tasks=(),
        ablation_tasks=("ricord",),
        beyond_tasks=("la", "ricord"),
        missing=("beyond/finetune/la/ours_scratch_recipe",),
    )
    tables = {table.number: table for table in tables_of(context)}
    table = tables[5]
    assert [block.heading for block in table.blocks] == [
        *("Token order", "Recipe and weights", "Frozen encoder", "Trivial baselines"),
    ]
    assert [c.metric for c in table.blocks[0].columns] == ["dice", "auc", "accuracy"]
    named = {row.title: row.reference for block in table.blocks for row in block.rows}
    assert named["Random weights"] == "Frozen encoder: Ours"
    assert (named["Mean shape"], named["Ours"]) == ("Ours", "")
    ours = cell(tables[1], "Ours", "Left atrium", "dice")
    shape = cell(table, "Mean shape", "Left atrium", "dice")
    assert (shape.n, shape.planned, shape.status, shape.sd) == (1, 1, "complete", None)
    assert shape.reference == pytest.approx(ours.mean)
    assert cell(table, "Mean shape", "RICORD", "auc").status == "not applicable"
    assert cell(table, "Random weights", "RICORD", "auc").reference == pytest.approx(
        cell(table, "Ours", "RICORD", "auc").mean
    )
    raster = cell(table, "Ours, tokens in raster order", "RICORD", "auc")
    assert raster.mean != cell(tables[4], "Raster token order", "RICORD", "auc").mean
    gone = cell(table, "Ours, recipe for random weights", "Left atrium", "dice")
    assert (gone.status, gone.planned) == ("missing", 3)
    text = render.to_markdown(table)
    assert f"missing [{ours.mean:.2f}]" in text
    assert "Compared with" in text
    assert render.to_html(table).count('colspan="') == 0
    assert "n/a" not in "".join(x for x in text.splitlines() if x.startswith("|"))


def test_every_format_prints_every_cell(tables: tuple[Table, ...]) -> None:
    for table in tables:
        count = len(table.cells)
        missing = sum(c.status == "missing" for c in table.cells)
        rows = list(csv.DictReader(io.StringIO(render.to_csv(table))))
        assert len(rows) == count
        assert sum(row["mean"] == "missing" for row in rows) == missing
        assert all(row[key] for row in rows for key in ("mean", "sd", "n", "paper", "status"))
        body = [line for line in render.to_markdown(table).splitlines() if line.startswith("| ")]
        if not count:
            continue
        brackets = sum(c.paper is not None for c in table.cells)
        assert sum(line.count("missing") for line in body) == missing
        assert "".join(body).count("[") == brackets
        assert "|  |" not in "".join(body)
        assert render.to_latex(table).count(" {[") == brackets
        assert render.to_html(table).count('class="missing"') == missing


def test_one_seed_has_no_sd_and_undefined_is_said() -> None:
    one = summarise([0.5], 1, 100.0, None)
    assert render.value_text(one, 2) == "50.00 ± – (n=1)"
    assert render.value_text(summarise([float("nan")], 1, 1.0, None), 4) == "undefined (n=1)"
    assert render.value_text(summarise([], 3, 1.0, None), 4) == "missing"
    assert render.value_text(summarise([0.0, 0.0], 2, 1.0, None), 2) == "0.00 ± 0.00 (n=2)"


def test_text_is_escaped(tmp_path: Path) -> None:
    context = fake_study.build(
        tmp_path, tasks=("la",), ratio_tasks=(), ablation_tasks=(), seeds=(0,)
    )
    context.config["tasks"]["la"]["title"] = "L_A & <b>50%</b> | x"
    table = tables_of(context)[0]
    assert r"L\_A \& \textless{}b\textgreater{}50\%" in render.to_latex(table)
    assert "&lt;b&gt;50%" in render.to_html(table)
    header = next(x for x in render.to_markdown(table).splitlines() if x.startswith("| Method"))
    assert r"\| x" in header
    assert "<b>" not in header


def test_ablation_rows_are_found_by_what_they_change(context: fake_study.Context) -> None:
    rows = layout.ablation_rows(Study.from_config(context.config))
    assert {row.paper_row: row.variant for row in rows if row.paper_row} == {
        "full": "",
        "no_sequences": "single_images",
        "no_random_start": "causal",
        "without_spatial": "no_spatial",
        "without_contrast": "no_contrast",
        "without_semantic": "no_semantic",
        # Half the full stride, as the paper's 4 of 8; stride 4 of 2 is none of the paper's.
        "stride4": "stride_1",
    }
    assert [row.variant for row in rows][6:] == ["stride_1", "stride_4", "raster"]


@pytest.mark.slow
def test_execute_writes_the_same_files_again(context: fake_study.Context, tmp_path: Path) -> None:
    outs = [tmp_path / "a", tmp_path / "b"]
    for out in outs:
        execute_tables(fake_study.Context(context.config, out, context.inputs))  # type: ignore[arg-type]
    names = sorted(str(p.relative_to(outs[0])) for p in outs[0].rglob("*") if p.is_file())
    tables = [f"tables/table{i}.{e}" for i in (1, 2, 3, 4) for e in ("csv", "md", "tex")]
    assert set(tables) <= set(names)
    expected = {"metrics.json", "plots/label_ratio.csv", "tables/differences.csv"}
    assert {*expected, "tables/collapse.md"} <= set(names)
    for name in names:
        assert (outs[0] / name).read_bytes() == (outs[1] / name).read_bytes()
    metrics = json.loads((outs[0] / "metrics.json").read_text())
    assert set(metrics["ricord"]["ours"]) == {"auc", "accuracy"}
    assert "task08_hepaticvessel" not in metrics
    assert 0 < metrics["task03_liver"]["ours"]["dice"] < 1
    scores = pd.read_csv(outs[0] / "tables/scores.csv")
    assert len(scores) == len(run_means(collect(context)))


def test_missing_runs_and_no_run_at_all(context: fake_study.Context, tmp_path: Path) -> None:
    study = Study.from_config(context.config)
    missing = missing_runs(study, collect(context))
    assert {run.task for run in missing} == {"task10_colon", "la", "task08_hepaticvessel"}
    empty = fake_study.Context(context.config, tmp_path, {})
    assert all(c.status == "missing" for t in tables_of(empty) for c in t.cells)
    execute_tables(empty)  # type: ignore[arg-type]
    assert json.loads((tmp_path / "metrics.json").read_text()) == {}


@pytest.mark.parametrize("text", ["case,label\n", "case,label,metric,value\na,b,dice,high\n"])
def test_broken_scores_are_named(text: str, tmp_path: Path) -> None:
    context = fake_study.build(
        tmp_path, tasks=("la",), ratio_tasks=(), ablation_tasks=(), seeds=(0,)
    )
    path = context.inputs["finetune/la/ours/r100/s0"] / "scores.csv"
    path.write_text(text)
    with pytest.raises(IntegrityError, match=r"scores\.csv"):
        collect(context)


def test_tables_need_neither_torch_nor_matplotlib() -> None:
    code = (
        "import sys; import voxseq.report.tables.run, voxseq.report.tables.differences; "
        "import voxseq.report.tables.curves; "
        "print([m for m in ('torch', 'matplotlib', 'monai') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
