"""Studies of a user's own data, of any shape: they end well and say nothing of the paper."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.helpers import fake_study
from tests.helpers.fake_study import Context
from tests.helpers.own_study import METHOD_NAMES, OUTSIDE, TASKS, own
from tests.report.test_tables import cell, inputs_of, tables_of
from voxseq.base.errors import IntegrityError
from voxseq.cli import show
from voxseq.config.report_run import MAIN_TABLES, METRICS, ReportRun, ReportTask
from voxseq.plan.outputs import lasting, table_numbers
from voxseq.report import writers
from voxseq.report.cases import case_scores, collect_worst, worst_of
from voxseq.report.figures.confusion import confusion
from voxseq.report.figures.regression import mean_predictions
from voxseq.report.metrics import PRINTED, printed, sentence
from voxseq.report.predictions import class_columns, read_predictions
from voxseq.report.results import collect, run_means
from voxseq.report.sheet import Sheet, read_sheets
from voxseq.report.tables.run import all_tables
from voxseq.report.tables.structures import structures_frame

#: What no file of such a study says; a page's pictures are text that says nothing.
FORBIDDEN = re.compile(r"\bn/a\b|\bpaper\b|\bphantoms?\b|\bOurs\b|\bTable \d|\bFigure \d|NaN")
PICTURE = re.compile(r"data:image/\w+;base64,[^\"]+")
#: Names of fields, and words of docs/statistics that are no claim about a study.
ALLOWED = re.compile(r'"papers":false')
SHAPES: dict[str, dict[str, Any]] = {
    "pre-training only": {"tasks": (), "methods": ("ours", "mae3d")},
    "one method, one task": {"tasks": ("organs",), "methods": ("unetr",), "seeds": (0,)},
    "no comparison": {"tasks": ("grade",), "methods": ("vit", "resnet")},
    "from elsewhere": {"tasks": ("mask", "age"), "methods": ("unetr", "vit", "authors")},
    "regression": {"tasks": ("age", "index"), "methods": ("vit", "ours"), "ratios": ("age",)},
    "classes": {"tasks": ("grade", "sick"), "methods": ("vit", "ours"), "beyond": ("grade",)},
    "all": {"ratios": ("organs",), "ablation": ("grade", "age"), "beyond": ("sick",)},
}


def made(folder: Path, study: ReportRun, *stages: str, missing: Sequence[str] = ()) -> Context:
    context = fake_study.build(folder, study, steps=20, missing=missing)
    context.make(*stages)
    return context


def check(context: Context, *stages: str) -> None:
    """Exactly the declared files are there, and none says what no such study should."""
    written = {str(p.relative_to(context.out)) for p in context.out.rglob("*") if p.is_file()}
    assert written == {name for stage in stages for name in lasting(stage, context.config)}
    for name in sorted(name for name in written if not name.endswith(".png")):
        text = PICTURE.sub("", (context.out / name).read_text(encoding="utf-8"))
        found = FORBIDDEN.search(ALLOWED.sub("", text))
        assert found is None, (name, text[max(found.start() - 80, 0) : found.end() + 80])


@st.composite
def studies(draw: st.DrawFn) -> tuple[ReportRun, tuple[str, ...]]:
    """A study of any shape, and words in the names of runs that are missing."""
    methods = tuple(draw(st.lists(st.sampled_from(METHOD_NAMES), min_size=1, unique=True)))
    tasks = tuple(draw(st.lists(st.sampled_from([*TASKS]), unique=True, max_size=4)))
    study = own(tasks, methods, seeds=(0,))
    tasks = tuple(t for t in tasks if study.methods_of(study.tasks[t].type))
    some = st.lists(st.sampled_from(tasks), unique=True, max_size=2) if tasks else st.just([])
    parts = {name: tuple(draw(some)) for name in ("ratios", "ablation", "beyond")}
    seeds = draw(st.sampled_from([(0,), (0, 3)]))
    missing = draw(st.sampled_from([(), ("s0",), ("ours",), *((task,) for task in tasks)]))
    return own(tasks, methods, seeds=seeds, **parts), missing


@pytest.mark.slow
@settings(
    max_examples=15, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
@given(shape=studies())
@example(shape=(own(**SHAPES["pre-training only"]), ()))
@example(shape=(own(**SHAPES["from elsewhere"]), ("authors/s0",)))
@example(shape=(own(**SHAPES["all"]), ()))
def test_a_study_of_any_shape_ends_well(shape: tuple[ReportRun, tuple[str, ...]]) -> None:
    study, missing = shape
    with TemporaryDirectory() as folder:
        check(made(Path(folder), study, "tables", "figures", missing=missing), "tables", "figures")


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_tables_of_a_study_say_nothing_of_the_paper(shape: dict[str, Any], tmp_path: Path) -> None:
    context = made(tmp_path, own(**shape), "tables")
    check(context, "tables")
    numbers = table_numbers(context.config)
    context.make("costs")
    shown = show.printed(context.out, numbers)
    assert "n/a" not in shown
    costs = context.out / "cost"
    assert not any("n/a" in path.read_text() for path in costs.iterdir())
    # Of the types that a study lacks nothing is said.
    types = {task.type for task in context.config.tasks.values()}
    for kind in MAIN_TABLES:
        assert (f"{kind}_parameters" in (costs / "cost.csv").read_text()) == (kind in types)


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    study = own(methods=("unetr", "vit", "authors", "ours"), seeds=(0, 1, 2))
    return fake_study.build(tmp_path_factory.mktemp("own"), study, steps=20)


@pytest.fixture(scope="module")
def tables(context: Context) -> dict[int, Sheet]:
    return {table.number: table for table in tables_of(context)}


@pytest.mark.slow
def test_rows_and_columns_of_own_tasks(tables: dict[int, Sheet]) -> None:
    assert [table.heading.split(":")[0] for table in tables.values()] == [
        *("Segmentation", "Classification", "Regression"),
    ]
    rows = [(row.group, row.title) for row in tables[6].blocks[0].rows]
    assert rows == [
        ("From scratch", "ViT"),
        ("Encoders from elsewhere", OUTSIDE["authors"]),
        ("Self-supervised pre-training", "AR (autoregressive)"),
    ]
    headers = {n: [c.header[:2] for c in t.blocks[0].columns] for n, t in tables.items()}
    assert headers[1] == [
        *(("Three organs", "Dice %"), ("Three organs", "Surface Dice %")),
        *(("Three organs", "HD95 mm"), ("One mask", "Dice %"), ("Average", "Dice %")),
    ]
    assert headers[6][0] == ("Age at scan", "MAE years")
    assert headers[6][3] == ("Some index", "MAE")
    units = {line.split(",")[7] for line in writers.to_csv(tables[6]).splitlines()[1:]}
    assert units == {"years", "none"}
    assert writers.to_latex(tables[6]).isascii()


@pytest.mark.parametrize("metric", PRINTED)
def test_the_best_of_a_column_is_the_best_in_the_metrics_direction(
    metric: str, tables: dict[int, Sheet]
) -> None:
    blocks = [block for table in tables.values() for block in table.blocks]
    for block in blocks:
        for place, column in enumerate(block.columns):
            if column.metric == metric:
                cells = [row.cells[place] for row in block.rows]
                means = [one.mean for one in cells if one.mean is not None]
                best = min(means) if metric in ("hd95", "mae") else max(means)
                assert [one.mean for one in cells if one.best] == [best]


def test_marks_say_better_and_worse_where_lower_is_better(tmp_path: Path) -> None:
    """Ours has the highest Dice of the made-up scores, and HD95 falls with it."""
    study = own(("organs", "age", "sick"), ("unetr", "vit", "ours"), seeds=range(5))
    context = fake_study.build(tmp_path, study, steps=20)
    inputs = inputs_of(context)
    tables = {table.number: table for table in all_tables(inputs)}
    for metric in ("dice", "hd95"):
        assert cell(tables[1], "UNETR", "organs", metric).mark == "below"
    found = inputs.differences
    organs = found[found["task"] == "organs"]
    gaps = {metric: set(np.sign(part)) for metric, part in organs.groupby("metric")["difference"]}
    assert gaps == {"dice": {1.0}, "surface_dice": {1.0}, "hd95": {-1.0}}
    notes = " ".join(tables[1].notes)
    assert "Lower is better: HD95." in notes
    assert "better, worse than AR (autoregressive)" in notes
    assert any(note.endswith("there are no marks: R², correlation.") for note in tables[6].notes)
    assert set(found["metric"]) == {
        *METRICS["segmentation"],
        *METRICS["regression"],
        "auc",
        "accuracy",
    }
    marked = set(found.loc[found["p"].notna(), "metric"])
    assert marked == {*METRICS["segmentation"], "auc", "accuracy", "mae"}


def test_differences_of_new_metrics_are_those_of_the_cells(
    context: Context, tables: dict[int, Sheet]
) -> None:
    found = inputs_of(context).differences
    titles = {name: context.config.title_of(name) for name in context.config.methods}
    for row in found[found["metric"].isin(["mae", "accuracy"])].to_dict("records"):
        own_cell = cell(tables[row["table"]], titles["ours"], row["task"], row["metric"])
        other = cell(tables[row["table"]], titles[row["other"]], row["task"], row["metric"])
        gap = (own_cell.mean or 0) - (other.mean or 0)
        # What was predicted of a case has six digits in the file of a seed.
        assert row["difference"] == pytest.approx(gap, abs=1e-5)


@pytest.mark.parametrize(
    ("methods", "reference"),
    [
        (("unetr", "authors", "mae3d", "ours"), "ours"),
        (("unetr", "mae3d", "authors"), "mae3d"),
        (("unetr", "authors"), "authors"),
        (("unetr", "unet3d"), None),
    ],
)
def test_rows_are_compared_with_the_first_encoder_where_ours_is_not(
    methods: tuple[str, ...], reference: str | None, tmp_path: Path
) -> None:
    context = made(tmp_path, own(("mask",), methods), "tables")
    assert context.config.reference == reference
    path = context.out / "tables/differences.csv"
    assert path.exists() == (reference is not None)
    if reference is not None:
        assert set(pd.read_csv(path)["reference"]) == {reference}


def test_the_score_of_a_run_is_that_of_the_whole_split(context: Context) -> None:
    """The AUC of single classes is no part of the run's, whatever their number."""
    run = "finetune/grade/ours/s0"
    raw = pd.read_csv(context.inputs[run] / "scores.csv", keep_default_na=False)
    assert (raw["label"] != "").sum() == 4
    raw.loc[raw["label"] != "", "value"] = 0.1
    raw["run"], raw["stage"], raw["task"], raw["method"] = run, "finetune", "grade", "ours"
    raw["variant"], raw["ratio"], raw["seed"] = "", 1.0, 0
    means = run_means(raw).set_index("metric")["value"]
    assert means["auc"] == raw.loc[(raw["metric"] == "auc") & (raw["label"] == ""), "value"].item()


def test_fewer_labels_have_the_rows_that_are_trained_with_them(tmp_path: Path) -> None:
    study = own(("age",), ("vit", "resnet", "ours"), ratios=("age",))
    runs = [run for run in study.runs if (run.stage, run.method) != ("label_ratio", "vit")]
    context = fake_study.build(tmp_path, study.model_copy(update={"runs": tuple(runs)}), steps=20)
    three = next(table for table in tables_of(context) if table.number == 3)
    assert [row.title for row in three.blocks[0].rows] == ["ResNet", "AR (autoregressive)"]
    assert all(one.status == "complete" for one in three.cells)


def test_scores_of_structures_by_hand(context: Context) -> None:
    study = context.config
    frame = structures_frame(study, collect(study, context.inputs), context.inputs)
    found = frame.set_index(["task", "method", "label", "metric"])
    files = [
        pd.read_csv(context.inputs[f"finetune/organs/ours/s{seed}"] / "scores.csv")
        for seed in (0, 1, 2)
    ]
    for metric, count in (("dice", 11), ("surface_dice", 11), ("hd95", 10)):
        joined = pd.concat(files)
        mine = joined[(joined["label"] == "spleen") & (joined["metric"] == metric)]
        cases = mine.groupby("case")["value"].mean()
        row = found.loc[("organs", "ours", "spleen", metric)]
        assert row["mean"] == pytest.approx(cases.mean())
        assert row["median"] == pytest.approx(cases.median())
        assert row["cases"] == count == cases.notna().sum()
    predictions = read_predictions(study, study.tasks["grade"], context.inputs)
    mine = predictions[(predictions["method"] == "ours") & (predictions["target"] == 2)]
    right = mine[class_columns(study.tasks["grade"])].to_numpy().argmax(axis=1) == 2
    row = found.loc[("grade", "ours", "high, grade", "recall")]
    assert (row["mean"], row["cases"]) == (pytest.approx(right.mean()), 10)
    assert set(found.loc["sick"].reset_index()["metric"]) == {"recall"}


def test_a_confusion_matrix_by_hand() -> None:
    task = ReportTask(name="a", title="a", type="classification", dataset="b", labels=(*"xyz",))
    rows = [(0, 0.5, 0.3, 0.2), (0, 0.1, 0.8, 0.1), (1, 0.0, 1.0, 0.0), (1, 0.4, 0.4, 0.2)]
    frame = pd.DataFrame(rows, columns=["target", *class_columns(task)])
    expected = [[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [np.nan] * 3]
    np.testing.assert_array_equal(confusion(task, frame), expected)


def test_predictions_of_a_regression_are_averaged_over_seeds() -> None:
    columns = ["method", "case", "seed", "target", "value"]
    frame = pd.DataFrame([("m", "a", 0, 5.0, 4.0), ("m", "a", 1, 5.0, 8.0)], columns=columns)
    (row,) = mean_predictions(frame).to_dict("records")
    assert (row["value"], row["error"], row["seeds"]) == (6.0, 2.0, 2)


def test_the_worst_case_of_a_regression_has_the_largest_error(context: Context) -> None:
    study = context.config
    worst = collect_worst(study, context.inputs)["age", "ours"]
    errors = []
    for seed in (0, 1, 2):
        frame = pd.read_csv(context.inputs[f"finetune/age/ours/s{seed}"] / "predictions.csv")
        errors.append((frame["value"] - frame["target"]).abs().max())
    assert (worst.score, worst.seed) == (pytest.approx(max(errors)), int(np.argmax(errors)))
    assert abs(worst.truth - worst.prediction) == pytest.approx(worst.score)
    cases = case_scores(study, context.inputs)
    mine = cases[(cases["task"] == "age") & (cases["method"] == "ours")]
    assert set(mine["label"]) == {"age"}
    ((case, error),) = worst_of(mine, 1, errors=True)
    assert error == mine["value"].max()
    assert case == mine.loc[mine["value"].idxmax(), "case"]


@pytest.mark.parametrize(
    ("task", "text", "reason"),
    [
        (
            "grade",
            "case,subject,target,probability\na,a,0,0.5\n",
            "lacks the columns probability_none",
        ),
        ("age", "case,subject,target,probability\na,a,0,0.5\n", "lacks the columns value"),
        ("sick", "case,subject,target,probability\na,a,7,0.5\n", "none of 2 classes"),
    ],
)
def test_predictions_of_another_type_are_refused(
    task: str, text: str, reason: str, tmp_path: Path
) -> None:
    context = fake_study.build(tmp_path, own((task,), ("vit",), seeds=(0,)), steps=20)
    (context.inputs[f"finetune/{task}/vit/s0"] / "predictions.csv").write_text(text)
    context.gather()
    with pytest.raises(IntegrityError, match=reason):
        read_predictions(context.config, context.config.tasks[task], context.inputs)


def test_sheets_of_own_studies_are_read_as_they_were_written(tmp_path: Path) -> None:
    context = made(tmp_path, own(("age",), ("vit", "ours")), "tables")
    sheets = read_sheets(context.out / "tables/tables.json")
    assert [(sheet.name, sheet.key) for sheet in sheets] == [
        *(("table6", "Regression"), ("differences", "Differences"), ("collapse", "Collapse")),
    ]
    assert json.loads((context.out / "metrics.json").read_text()).keys() >= {"ours"}
    shown = show.printed(context.out, [6])
    assert shown.startswith(f"{sheets[0].title}\n")
    assert "MAE years" in shown


@pytest.mark.parametrize(
    ("value", "decimals"), [(123.4, 0), (12.34, 1), (1.234, 2), (0.0123, 4), (0.0, 3), (np.nan, 3)]
)
def test_an_error_is_printed_with_three_digits(value: float, decimals: int) -> None:
    assert printed("mae", "years").decimals(value) == decimals
    assert printed("dice", "years").header == "Dice %"


def test_metrics_in_a_sentence() -> None:
    assert sentence(["dice"]) == "Dice"
    assert sentence(["mae", "r2", "mae", "correlation"]) == (
        "mean absolute error, R² and correlation"
    )
