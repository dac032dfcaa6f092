"""Cost and collapse of the runs, and the tables as a terminal shows them."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.helpers import fake_study
from tests.helpers.fake_study import AR, Context
from voxseq.cli import show
from voxseq.plan.outputs import lasting, table_numbers
from voxseq.report.tables import collapse

METHODS = ("unetr", "vit", "simclr", "ours")
NUMBERS = (1, 2, 3, 4, 5)
HEAD = "step,split,name,value"


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    built = fake_study.build(
        tmp_path_factory.mktemp("study"),
        methods=METHODS,
        tasks=("la", "nodule", "ricord"),
        ratios=("la",),
        beyond=("la", "nodule"),
        seeds=(0, 1),
    )
    built.make("tables", "costs")
    return built


def lines(path: Path, key: str) -> Mapping[str, Mapping[str, str]]:
    with path.open(encoding="utf-8") as handle:
        return {line[key]: line for line in csv.DictReader(handle)}


def write_cost(context: Context, run: str, seconds: float, memory: float) -> None:
    path = context.inputs[run] / "cost.json"
    path.write_text(json.dumps({"seconds": seconds, "peak_memory_mb": memory}))


def test_cost_is_summed_over_a_rows_own_runs(tmp_path: Path) -> None:
    context = fake_study.quiet(tmp_path, "la", ratios=("la",), seeds=(0,))
    for number, run in enumerate(("finetune/la/ours/s0", *_with_fewer_labels("r50", "r25", "r10"))):
        write_cost(context, run, 10.0 * (number + 1), 500 + number)
    rows = lines(context.make("costs") / "cost/cost.csv", "row")
    expected = {
        **{"finetunings": "4", "finetuning_seconds_total": "100", "finetuning_seconds_mean": "25"},
        **{"finetuning_peak_memory_mb": "503", "pretraining_seconds": "120"},
        **{"pretraining_peak_memory_mb": "950", "encoder_parameters": "452736"},
        **{"segmentation_parameters": "1000000", "classification_parameters": "n/a"},
    }
    assert {name: rows[AR][name] for name in expected} == expected
    assert rows["UNETR"]["pretraining_seconds"] == "n/a"


def _with_fewer_labels(*shares: str) -> list[str]:
    return [f"label_ratio/la/ours/{share}_s0" for share in shares]


def test_what_a_row_has_not_and_what_is_missing_are_told_apart(tmp_path: Path) -> None:
    context = fake_study.quiet(tmp_path, "la", seeds=(0,), missing=("pretrain/ours", "la/unetr"))
    out = context.make("costs") / "cost"
    rows = lines(out / "cost.csv", "row")
    assert rows["UNETR"]["pretraining_seconds"] == "n/a"
    assert rows[AR]["pretraining_seconds"] == "missing"
    assert rows["UNETR"]["finetuning_seconds_mean"] == "missing"
    assert all(value for line in rows.values() for value in line.values())
    text = (out / "cost.md").read_text()
    assert "| UNETR |                – |" in text
    assert "missing" in text


@pytest.mark.slow
def test_cost_stays_out_of_what_is_compared(context: Context, tmp_path: Path) -> None:
    before = {p.name: p.read_bytes() for p in (context.out / "tables").iterdir()}
    write_cost(context, "finetune/la/ours/s0", 9.75, 2.0)
    again = Context(context.config, tmp_path, dict(context.inputs))
    again.make("tables", "costs")
    write_cost(context, "finetune/la/ours/s0", 31.5, 812.0)
    assert {p.name: p.read_bytes() for p in (again.out / "tables").iterdir()} == before
    old, new = ((c.out / "cost/cost.csv").read_text() for c in (context, again))
    assert old != new


def test_damaged_and_missing_records_are_costs_that_are_not_known(tmp_path: Path) -> None:
    """They must not keep a workflow from its start, at which costs may be made anew."""
    context = fake_study.quiet(tmp_path, "la", seeds=(0,))
    (context.inputs["finetune/la/ours/s0"] / "cost.json").write_text("{")
    (context.inputs["pretrain/ours/s0"] / "summary.json").write_text('"text"')
    out = context.make("costs") / "cost"
    assert "1 of 2" in (out / "index.html").read_text()
    assert "Not available" not in (out / "cost.md").read_text()
    for path in tmp_path.rglob("cost.json"):
        path.unlink()
    context.make("costs")
    for name in ("cost.md", "cost.tex", "index.html"):
        assert "Not available" in (out / name).read_text()
    assert lines(out / "cost.csv", "row")[AR]["finetuning_seconds_mean"] == "missing"


@pytest.mark.slow
def test_cost_has_a_row_for_everything_in_the_tables(context: Context) -> None:
    study = context.config
    with (context.out / "cost/cost.csv").open(encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == len(METHODS) + len(study.ablation) + len(study.beyond)
    text = (context.out / "cost/cost.tex").read_text(encoding="utf-8")
    assert text.count("\\toprule") == len({row["group"] for row in rows})
    # The variants' own pre-training is theirs alone.
    assert {row["pretraining_seconds"] for row in rows if row["group"] == "Ablation"} == {"120"}


@pytest.mark.slow
def test_collapse_is_seen_at_the_last_validation(context: Context) -> None:
    frame = collapse.collapse_frame(context.config, context.inputs)
    assert frame["run"].tolist()[0] == "pretrain/simclr/s0"
    rows = {row["run"]: row for row in frame.to_dict("records")}
    ours, simclr = rows["pretrain/ours/s0"], rows["pretrain/simclr/s0"]
    assert [ours[name] for name in collapse.FIRST] == pytest.approx([20, 0.105, 8.4])
    assert ours["last_step"] == 200
    assert (ours["verdict"], simclr["verdict"]) == ("no", "collapsed")
    text = (context.out / "tables/collapse.md").read_text()
    assert text.count("| **YES: feature sd below 0.001, effective rank below 2** |") == 2
    verdicts = [x["verdict"] for x in lines(context.out / "tables/collapse.csv", "run").values()]
    assert sorted(verdicts) == [*["collapsed"] * 2, *["no"] * (len(rows) - 2)]


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        (("0.001", "2"), "no"),
        (("0.0009", "20"), "collapsed"),
        (("0.2", "1.99"), "collapsed"),
        (("nan", "20"), "collapsed"),
        (("0", "0"), "collapsed"),
        ((), "missing"),
    ],
)
def test_either_statistic_is_enough(values: tuple[str, ...], verdict: str, tmp_path: Path) -> None:
    context = fake_study.quiet(tmp_path, steps=5, seeds=(0,))
    first = "10,val,feature_sd,0.3\n10,val,effective_rank,9\n"
    last = "20,val,feature_sd,{}\n20,val,effective_rank,{}\n".format(*values) if values else ""
    text = f"{HEAD}\n10,val,loss,1\n{first if values else ''}{last}"
    (context.inputs["pretrain/ours/s0"] / "metrics.csv").write_text(text)
    context.gather()
    frame = collapse.collapse_frame(context.config, context.inputs)
    assert frame["verdict"].tolist() == [verdict]
    (row,) = collapse.collapse_sheet(context.config, frame).blocks[0].rows
    if not values:
        assert [cell.text for cell in row.cells] == ["0", *["missing"] * 7]


@pytest.mark.slow
def test_five_tables_cost_and_collapse_are_printed(context: Context) -> None:
    text = show.printed(context.out, NUMBERS)
    for words in (*(f"Table {number}. " for number in NUMBERS), "Cost", "Claims", "collapsed"):
        assert words in text
    with (context.out / "tables/table1.csv").open() as handle:
        line = next(x for x in csv.DictReader(handle) if (x["row"], x["column"]) == (AR, "LA"))
    low, mean, high = (float(line[name]) for name in ("low", "mean", "high"))
    shown = f"{mean:.1f} ± {(high - low) / 2:.1f}"
    assert shown in next(x for x in text.splitlines() if x.startswith(f"{AR} "))
    assert f"Mean shape of the training labels [{AR}]" in text
    assert max(map(len, text.splitlines())) < 200
    assert show.printed(context.out, NUMBERS, ascii_only=True).isascii()
    assert "\n\n\n" not in text


@pytest.mark.parametrize("methods", [("unetr", "toy"), ("ours",), ("vit",)])
def test_studies_of_other_methods_have_all_files(methods: tuple[str, ...], tmp_path: Path) -> None:
    study = fake_study.part(
        methods=methods, tasks=("la", "ricord"), ratios=("la",), ablation=(), seeds=(0,)
    )
    if "toy" in methods:
        toys = [run.model_copy(update={"method": "toy", "id": f"{run.id}x"}) for run in study.runs]
        study = study.model_copy(update={"runs": (*study.runs, *toys)})
    out = fake_study.build(tmp_path, study, steps=40).make("tables")
    numbers = table_numbers(study)
    assert f"Table {numbers[-1]}" in show.printed(out, numbers)
    text = "".join(path.read_text() for path in out.glob("tables/table*.md"))
    assert ("| toy" in text) == ("toy" in methods)
    # Without ours the first row with an encoder from elsewhere is what others are compared with.
    assert ("differences.csv" in "".join(lasting("tables", study))) == ("toy" in methods)
