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

import numpy as np
import pandas as pd
import pytest

from tests.helpers import fake_study
from tests.helpers.fake_study import AR, Context
from voxseq.base.errors import IntegrityError
from voxseq.config.report_run import METRICS, ReportRun
from voxseq.report import writers
from voxseq.report.metrics import PRINTED
from voxseq.report.results import collect, missing_runs, run_means
from voxseq.report.sheet import Cell, Column, Row, Sheet, read_sheets, summarise
from voxseq.report.tables.inputs import TableInputs, table_inputs
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


def test_rows_and_columns_are_the_papers() -> None:
    tables = planned(fake_study.demo())
    assert [table.number for table in tables] == [1, 2, 3, 4, 5]
    pretrained = ["SimCLR", "MoCo v3", "DINO", "PCRLv2", "MAE3D", "MedCoSS", AR]
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


def test_rows_of_the_paper_that_are_not_planned_are_named_in_a_note() -> None:
    study = fake_study.part(tasks=("la", "task06_lung", "ricord"))
    few = {name: variant for name, variant in study.ablation.items() if name == "no_sequences"}
    one, two, three, four = planned(study.model_copy(update={"ablation": few}))
    titles = [[row.title for row in table.blocks[0].rows] for table in (one, two, three, four)]
    assert titles == [
        *(
            ["UNETR", AR],
            ["ViT", AR],
            ["UNETR", AR],
        ),
        ["Full method (stride 2)", "no sequences"],
    ]
    others = "SimCLR, MoCo v3, DINO, PCRLv2, MAE3D, MedCoSS."
    assert f"Rows of the paper that are not in this scale: 3D UNet, {others}" in one.notes
    assert f"Rows of the paper that are not in this scale: ResNet, {others}" in two.notes
    assert not any(note.startswith("Rows") for note in three.notes)
    (note,) = (note for note in four.notes if note.startswith("Rows"))
    assert "Without spatial sequences" in note
    assert "single images" not in note
    assert "missing: a planned run that has not been run." in one.notes


def test_notes_speak_of_an_interval_only_where_a_cell_has_one() -> None:
    (table,) = planned(fake_study.part(tasks=("la",), ratios=(), ablation=()))
    assert any(note.startswith("Each cell: mean over seeds; in brackets") for note in table.notes)
    assert not any("interval" in note for note in table.notes)


def test_dice_is_the_mean_over_cases_then_classes_then_seeds(
    context: Context, tables: tuple[Sheet, ...]
) -> None:
    values = []
    for seed in (0, 1, 2):
        folder = context.inputs[f"finetune/task07_pancreas/ours/s{seed}"]
        frame = pd.read_csv(folder / "scores.csv")
        assert frame["value"].isna().sum() == 1
        values.append(np.mean([g["value"].mean() for _, g in frame.groupby("label")]))
    found = cell(tables[0], AR, "task07_pancreas")
    assert found.mean == pytest.approx(100 * np.mean(values), abs=1e-9)
    assert found.low is not None and found.high is not None
    assert found.low < found.mean < found.high
    assert found.high - found.mean == pytest.approx(found.mean - found.low)
    assert (found.n, found.planned, found.status) == (3, 3, "complete")


def test_missing_and_partial_cells(context: Context, tables: tuple[Sheet, ...]) -> None:
    expected = {
        **{(AR, "task10_colon"): "missing", ("UNETR", "la"): "complete"},
        **{(AR, "la"): "partial", (AR, "Average"): "missing"},
    }
    assert {key: cell(tables[0], *key).status for key in expected} == expected
    assert any(note.startswith("†") for note in tables[0].notes)
    missing = missing_runs(context.config, collect(context.config, context.inputs))
    assert {run.task for run in missing} == {"task10_colon", "la", "task08_hepaticvessel"}


def test_a_cell_without_a_test_has_no_mark(tables: tuple[Sheet, ...]) -> None:
    """With three seeds the primary contrasts alone are tested, as "no sequences" in Table 4."""
    assert cell(tables[3], "no sequences", "task06_lung").mark == "unclear"
    assert cell(tables[0], AR, "task03_liver").mark == ""
    assert cell(tables[0], "UNETR", "task03_liver").mark == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seeds", "marked", "words"),
    [
        (1, (), "No marks"),
        (3, ("Average",), "Intervals only: 3"),
        (5, ("Average", "task03_liver", "la"), "assuming"),
    ],
)
def test_seeds_decide_what_is_marked(
    seeds: int, marked: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    """UNETR is far below ours in all columns; the average is a primary contrast."""
    options = {"seeds": range(seeds), "methods": ("unetr", "simclr", "ours")}
    inputs = inputs_of(fake_study.quiet(tmp_path, *DECATHLON, "la", **options))
    (table,) = all_tables(inputs)
    found = [column.title for row, column, c in cells(table) if c.mark == "below"]
    for name in ("Average", "task03_liver", "la"):
        mark = cell(table, "UNETR", name).mark
        assert mark == ("below" if name in marked else "")
    assert (not found) == (seeds == 1)
    family = inputs.differences
    assert family["marked"].sum() == len(found)
    assert [math.isnan(p) for p in family["p_holm"]] == [
        seeds < 3 or (seeds < 5 and not primary) for primary in family["primary"]
    ]
    text = writers.to_markdown(table)
    assert words in text
    assert ("of 16 comparisons" in text) == (seeds > 1)
    assert ("of this run only" in text) == (seeds == 1)
    assert f"{seeds} seed{'s' if seeds > 1 else ''}, 12 test cases" in text


def test_every_format_prints_every_cell(tables: tuple[Sheet, ...]) -> None:
    for table in tables:
        statuses = [c.status for c in table.cells]
        missing, brackets = statuses.count("missing"), sum(c.paper is not None for c in table.cells)
        below = sum(c.mark == "below" for c in table.cells)
        rows = list(csv.DictReader(io.StringIO(writers.to_csv(table))))
        assert [row["status"] for row in rows] == statuses
        assert [row["mark"] for row in rows] == [c.mark or "none" for c in table.cells]
        assert sum(row["mean"] == "missing" for row in rows) == missing
        keys = ("mean", "low", "high", "n", "paper", "status")
        assert all(row[key] for row in rows for key in keys)
        markdown = writers.to_markdown(table)
        body = "".join(line for line in markdown.splitlines() if line.startswith("| "))
        counts = [body.count(word) for word in ("missing", "(paper ", "▼", "|  |")]
        assert counts == [missing, brackets, below, 0]
        latex = writers.to_latex(table)
        assert latex.isascii()
        assert latex.count(" {(paper ") == brackets


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


@pytest.mark.parametrize(
    ("values", "planned_seeds", "half", "metric", "text"),
    [
        ([0.5], 1, 0.125, "dice", "50.0 [37.5, 62.5]"),
        ([0.5], 2, math.nan, "dice", "50.0†"),
        ([math.nan], 1, 0.1, "auc", "undefined"),
        ([], 3, math.nan, "auc", "missing"),
        ([0.9, 1.0], 2, 0.2, "auc", "0.950 [0.750, 1.000]"),
        ([1.2, 1.3], 2, 0.5, "mae", "1.25 [0.75, 1.75]"),
    ],
)
def test_a_cell_has_its_interval(
    values: list[float], planned_seeds: int, half: float, metric: str, text: str
) -> None:
    """Shares end at 0 and 1; what has no interval is the mean alone."""
    printed = PRINTED[metric]
    made = summarise(values, planned_seeds, printed.factor, None, half, printed.bounds)
    assert made.printed(metric) == text


def test_beyond_the_paper_every_row_stands_beside_its_reference(tmp_path: Path) -> None:
    missing = ("beyond/finetune/la/ours_scratch_recipe",)
    context = fake_study.build(tmp_path, missing=missing, ratios=(), **BEYOND)
    one, _, table = tables_of(context)
    assert [block.heading for block in table.blocks] == [
        *("Token order", "Loss", "Recipe and weights", "Frozen encoder", "Trivial baselines"),
    ]
    assert [c.metric for c in table.blocks[0].columns] == ["dice", "auc", "accuracy"]
    shape = "Mean shape of the training labels"
    named = {row.title: row.reference for block in table.blocks for row in block.rows}
    assert named["ViT, random encoder (the floor)"] == f"Frozen encoder: {AR}"
    assert (named[shape], named[AR]) == (AR, "")
    ours, mean_shape = cell(one, AR, "la"), cell(table, shape, "la")
    assert (mean_shape.n, mean_shape.planned) == (3, 3)
    assert mean_shape.reference == pytest.approx(ours.mean)
    assert cell(table, "Majority class", "la").status == "not applicable"
    vit = cell(table, "ViT, random encoder (the floor)", "nodule", "auc")
    assert vit.reference == pytest.approx(cell(table, AR, "nodule", "auc").mean)
    gone = cell(table, f"{AR}, recipe for random weights", "la")
    assert (gone.status, gone.planned) == ("missing", 3)
    text = writers.to_markdown(table)
    assert f"missing (reference {ours.mean:.1f})" in text
    assert " Reference |" in text
    assert "n/a" not in "".join(x for x in text.splitlines() if x.startswith("|"))


@pytest.mark.slow
def test_a_variant_of_two_tables_has_its_own_runs_in_each(tmp_path: Path) -> None:
    """The ablation, too, may have a variant that is called "raster"."""
    study = fake_study.part(tasks=("la", "ricord", "nodule"), beyond=("nodule",), ratios=())
    text = study.model_dump_json().replace("no_random_start", "raster")
    context = fake_study.build(tmp_path, ReportRun.model_validate_json(text))
    tables = {table.number: table for table in tables_of(context)}
    assert cell(tables[4], "no random start", "ricord", "auc").n == 3
    assert cell(tables[5], f"{AR}, tokens in raster order", "nodule", "auc").n == 3


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
    first, one, two = read_sheets(context.out / "tables/tables.json")[:3]
    assert first.name == "claims"
    for table, name, factor, kind in (
        *((one, "mean_dice", 100, "segmentation"), (two, "mean_auc", 1, "classification")),
    ):
        tasks, metric = context.config.tasks_of(kind), METRICS[kind][0]
        means = [(cell(table, AR, task.name, metric).mean or 0) / factor for task in tasks]
        assert metrics[name]["ours"] == pytest.approx(np.mean(means), abs=1e-6)
        ours = [metrics["ours"][task.name] for task in tasks]
        assert ours == pytest.approx(means, abs=1e-6)


def test_no_run_at_all_is_all_missing(context: Context, tmp_path: Path) -> None:
    empty = Context(context.config, tmp_path, {})
    empty.make("tables")
    tables = [t for t in read_sheets(tmp_path / "tables/tables.json") if t.number]
    assert all(c.status == "missing" for t in tables for c in t.cells)
    assert json.loads((tmp_path / "metrics.json").read_text()) == {}


@pytest.mark.parametrize(
    "text", ["case,label\n", "case,subject,label,metric,value\na,a,b,dice,high\n"]
)
def test_broken_scores_are_named(text: str, tmp_path: Path) -> None:
    context = fake_study.quiet(tmp_path, "la", seeds=(0,))
    (context.inputs["finetune/la/ours/s0"] / "scores.csv").write_text(text)
    with pytest.raises(IntegrityError, match=r"scores\.csv"):
        context.gather()


def test_tables_need_neither_torch_nor_matplotlib() -> None:
    code = (
        "import sys; import voxseq.report.tables.run, voxseq.report.tables.cost; "
        "print([m for m in ('torch', 'matplotlib', 'monai') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
