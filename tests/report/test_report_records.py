"""Cost and collapse of the runs, and the tables as a terminal shows them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from tests.helpers import fake_study
from voxseq.base.errors import DataError
from voxseq.cli import show
from voxseq.report.run import execute_costs, execute_tables
from voxseq.report.study import Study
from voxseq.report.tables import collapse, cost

METHODS = ("unetr", "vit", "simclr", "ours")
NUMBERS = (1, 2, 3, 4, 5)


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> fake_study.Context:
    built = fake_study.build(
        tmp_path_factory.mktemp("study"),
        methods=METHODS,
        tasks=("la", "task06_lung", "ricord"),
        ratio_tasks=("la",),
        ablation_tasks=("ricord",),
        beyond_tasks=("la", "ricord"),
        seeds=(0, 1),
    )
    execute_tables(built)  # type: ignore[arg-type]
    execute_costs(built)  # type: ignore[arg-type]
    return built


def write_cost(context: fake_study.Context, run: str, seconds: float, memory: float) -> None:
    path = context.inputs[run] / "cost.json"
    path.write_text(json.dumps({"seconds": seconds, "peak_memory_mb": memory}))


def test_cost_is_summed_over_a_rows_own_runs(tmp_path: Path) -> None:
    context = fake_study.build(
        tmp_path, tasks=("la",), ratio_tasks=("la",), ablation_tasks=(), seeds=(0,)
    )
    for number, share in enumerate((100, 50, 25, 10)):
        stage = "finetune" if share == 100 else "label_ratio"
        write_cost(context, f"{stage}/la/ours/r{share}/s0", 10.0 * (number + 1), 500 + number)
    study = Study.from_config(context.config)
    rows = {
        row.title: row.numbers for row in cost.cost_rows(study, context.inputs, context.records)
    }
    ours = rows["Ours"]
    assert (ours["finetunings"], ours["finetuning_seconds_total"]) == (4, 100.0)
    assert ours["finetuning_seconds_mean"] == 25.0
    assert ours["finetuning_peak_memory_mb"] == 503
    assert (ours["pretraining_seconds"], ours["pretraining_peak_memory_mb"]) == (120.0, 950.0)
    assert (ours["encoder_parameters"], ours["segmentation_parameters"]) == (452_736, 1_000_000)
    assert "classification_parameters" not in ours
    assert "pretraining_seconds" not in rows["UNETR"]


def test_what_a_row_has_not_and_what_is_missing_are_told_apart(tmp_path: Path) -> None:
    context = fake_study.build(
        tmp_path,
        tasks=("la",),
        ratio_tasks=(),
        ablation_tasks=(),
        seeds=(0,),
        missing=("pretrain/ours", "finetune/la/unetr"),
    )
    study = Study.from_config(context.config)
    rows = cost.cost_rows(study, context.inputs, context.records)
    cost.write(tmp_path / "cost", rows)
    with (tmp_path / "cost/cost.csv").open() as handle:
        lines = {line["row"]: line for line in csv.DictReader(handle)}
    assert lines["UNETR"]["pretraining_seconds"] == "n/a"
    assert lines["Ours"]["pretraining_seconds"] == "missing"
    assert lines["UNETR"]["finetuning_seconds_mean"] == "missing"
    assert all(value for line in lines.values() for value in line.values())
    text = (tmp_path / "cost/cost.md").read_text()
    assert "| UNETR |                – |" in text
    assert "missing" in text
    assert all(len(row.cells) == len(cost.HEADER) for row in rows)


def test_cost_stays_out_of_what_is_compared(context: fake_study.Context) -> None:
    before = {p.name: p.read_bytes() for p in (context.out / "tables").iterdir()}
    write_cost(context, "finetune/la/ours/r100/s0", 9.75, 2.0)
    again = fake_study.Context(context.config, context.out.parent / "again", context.inputs)
    execute_tables(again)  # type: ignore[arg-type]
    execute_costs(again)  # type: ignore[arg-type]
    write_cost(context, "finetune/la/ours/r100/s0", 31.5, 812.0)
    assert {p.name: p.read_bytes() for p in (again.out / "tables").iterdir()} == before
    old, new = ((c.out / "cost/cost.csv").read_text() for c in (context, again))
    assert old != new


def test_damaged_and_missing_records_are_costs_that_are_not_known(tmp_path: Path) -> None:
    """They must not keep a workflow from its start, at which costs may be made anew."""
    context = fake_study.build(
        tmp_path, tasks=("la",), ratio_tasks=(), ablation_tasks=(), seeds=(0,)
    )
    (context.inputs["finetune/la/ours/r100/s0"] / "cost.json").write_text("{")
    (context.inputs["pretrain/ours"] / "summary.json").write_text('"text"')
    execute_costs(context)  # type: ignore[arg-type]
    assert "1 of 2" in (context.out / "cost/index.html").read_text()
    assert "Not available" not in (context.out / "cost/cost.md").read_text()
    for path in tmp_path.rglob("cost.json"):
        path.unlink()
    execute_costs(context)  # type: ignore[arg-type]
    for name in ("cost.md", "cost.tex", "index.html"):
        assert "Not available" in (context.out / "cost" / name).read_text()
    with (context.out / "cost/cost.csv").open() as handle:
        lines = {line["row"]: line for line in csv.DictReader(handle)}
    assert lines["Ours"]["finetuning_seconds_mean"] == "missing"


def test_cost_has_a_row_for_everything_in_the_tables(context: fake_study.Context) -> None:
    rows = cost.cost_rows(Study.from_config(context.config), context.inputs, context.records)
    expected = len(METHODS) + len(fake_study.ABLATION) + len(fake_study.BEYOND)
    assert len(rows) == expected
    text = cost.to_latex(rows)
    assert text.count("\\multicolumn") == len({row.group for row in rows})
    assert "±" not in text


def test_collapse_is_seen_at_the_last_validation(context: fake_study.Context) -> None:
    study = Study.from_config(context.config)
    rows = {row.run: row for row in collapse.collapse_rows(study, context.inputs)}
    ours, simclr = rows["pretrain/ours"], rows["pretrain/simclr"]
    assert ours.first == pytest.approx((20, 0.105, 8.4))
    assert ours.last is not None
    assert ours.last[0] == 200
    assert (ours.verdict, simclr.verdict) == ("no", "collapsed")
    assert len(simclr.reasons) == 2
    assert all(len(row.cells) == len(collapse.HEADER) for row in rows.values())
    assert next(iter(rows)) == "pretrain/simclr"
    text = (context.out / "tables/collapse.md").read_text()
    assert text.count("| **YES: ") == 1
    with (context.out / "tables/collapse.csv").open() as handle:
        verdicts = [line["verdict"] for line in csv.DictReader(handle)]
    assert sorted(verdicts) == ["collapsed", *["no"] * (len(rows) - 1)]


@pytest.mark.parametrize(
    ("sd", "rank", "verdict"),
    [
        ("0.001", "2", "no"),
        ("0.0009", "20", "collapsed"),
        ("0.2", "1.99", "collapsed"),
        ("nan", "20", "collapsed"),
        ("0", "0", "collapsed"),
    ],
)
def test_either_statistic_is_enough(sd: str, rank: str, verdict: str, tmp_path: Path) -> None:
    context = fake_study.build(tmp_path, tasks=(), ratio_tasks=(), ablation_tasks=())
    path = context.inputs["pretrain/ours"] / "metrics.csv"
    head = "step,split,name,value\n10,val,feature_sd,0.3\n10,val,effective_rank,9\n"
    path.write_text(f"{head}20,val,feature_sd,{sd}\n20,val,effective_rank,{rank}\n")
    study = Study.from_config(context.config)
    (row,) = collapse.collapse_rows(study, context.inputs)
    assert row.verdict == verdict
    path.write_text("step,split,name,value\n10,val,loss,0.3\n")
    (row,) = collapse.collapse_rows(study, context.inputs)
    assert row.verdict == "missing"
    assert row.cells[1:] == ("missing",) * 7


def test_five_tables_cost_and_collapse_are_printed(context: fake_study.Context) -> None:
    text = show.printed(context.out, NUMBERS)
    for number in (1, 2, 3, 4, 5):
        assert f"Table {number}: " in text
    assert "Cost" in text
    assert "collapsed" in text
    with (context.out / "tables/table1.csv").open() as handle:
        line = next(x for x in csv.DictReader(handle) if (x["row"], x["column"]) == _OURS)
    shown = f"{float(line['mean']):.2f} ± {float(line['sd']):.2f}"
    assert shown in next(x for x in text.splitlines() if x.startswith("Ours "))
    assert "Mean shape [Ours]" in text
    assert "(1)" in text
    assert max(map(len, text.splitlines())) < 200
    assert show.printed(context.out, NUMBERS, ascii_only=True).isascii()
    assert "\n\n\n" not in text


_OURS = ("Ours", "Left atrium")


def test_a_missing_table_is_named(context: fake_study.Context, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"table1\.csv"):
        show.printed(tmp_path, NUMBERS)


def test_studies_of_other_methods_have_all_files(tmp_path: Path) -> None:
    for name, methods in (("toy", ("unetr", "toy")), ("ours", ("ours",)), ("scratch", ("vit",))):
        context = fake_study.build(
            tmp_path / name,
            methods=methods,
            tasks=("la", "ricord"),
            ratio_tasks=("la",),
            ablation_tasks=(),
            seeds=(0,),
        )
        execute_tables(context)  # type: ignore[arg-type]
        study = Study.from_config(context.config)
        assert f"Table {study.table_numbers[-1]}" in show.printed(context.out, study.table_numbers)
        text = "".join(path.read_text() for path in context.out.glob("tables/table*.md"))
        assert ("| toy" in text) == ("toy" in methods)
        assert "▲" not in text
