"""Differences from the reference method: who is compared with whom, by what, on which cases."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from tests.helpers import fake_study
from tests.helpers.fake_study import Context
from tests.helpers.own_study import own
from voxseq.evaluation.comparison import APART, OVER_SEEDS, PAIR, POOLED, Comparison
from voxseq.evaluation.statistics import compare, compare_auc, compare_average, holm
from voxseq.report.results import collect, run_means
from voxseq.report.tables.differences import compare_rows, differences_sheet
from voxseq.report.tables.rows import RowKey, RowScores, row_scores
from voxseq.report.writers import to_markdown


def scores_of(context: Context) -> RowScores:
    study = context.config
    return row_scores(study, collect(study, context.inputs), context.inputs)


def compared(context: Context) -> pd.DataFrame:
    return compare_rows(scores_of(context))


def mean_of(means: pd.DataFrame, **keys: Any) -> pd.Series[float]:
    chosen = [means[name] == value for name, value in {"ratio": 1.0, **keys}.items()]
    return means.loc[np.logical_and.reduce(chosen), "value"]


def row_of(table: pd.DataFrame, **keys: Any) -> dict[str, Any]:
    chosen = [table[name] == value for name, value in keys.items()]
    (row,) = table[np.logical_and.reduce(chosen)].to_dict("records")
    return row


def is_row(row: dict[str, Any], wanted: Comparison) -> bool:
    names = ("difference", "low", "high", "p", "df")
    same = [row[name] == pytest.approx(getattr(wanted, name), nan_ok=True) for name in names]
    return all(same) and (row["test"], row["seeds"]) == (wanted.test, wanted.seeds)


def edit(context: Context, run: str, file: str, change: Callable[[dict[str, str]], None]) -> None:
    """Change every line of a run's table."""
    path = context.inputs[run] / file
    with path.open(newline="") as handle:
        lines = list(csv.DictReader(handle))
    for line in lines:
        change(line)
    fake_study.write_csv(path, list(lines[0]), [list(line.values()) for line in lines])


@pytest.mark.slow
def test_differences_cover_every_pair_and_match_the_tables(tmp_path: Path) -> None:
    context = fake_study.build(
        tmp_path,
        tasks=("task06_lung", "la", "ricord"),
        missing=("label_ratio/la/unetr/r10_", "ablation/finetune/ricord/no_random_start"),
    )
    table = compared(context)
    sizes = table.groupby(["table", "stage", "task"]).size().to_dict()
    assert sizes == {
        **{(1, "finetune", "task06_lung"): 1, (1, "finetune", "la"): 1, (1, "finetune", ""): 1},
        **{(2, "finetune", "ricord"): 2, (3, "finetune", "la"): 1, (3, "label_ratio", "la"): 2},
        **{(3, "finetune", "ricord"): 2, (3, "label_ratio", "ricord"): 6},
        **{(4, "ablation", "task06_lung"): 7, (4, "ablation", "ricord"): 12},
    }
    means = run_means(collect(context.config, context.inputs))
    for row in table[table["task"] != ""].to_dict("records"):
        keys = {name: row[name] for name in ("task", "metric", "ratio")}
        ours = mean_of(means, method="ours", variant="", **keys).mean()
        other = mean_of(means, method=row["other"], variant=row["variant"], **keys).mean()
        assert row["difference"] == pytest.approx(ours - other, abs=2e-6)
        assert row["low"] < row["difference"] < row["high"]
    average = table[table["task"] == ""]["difference"].item()
    dice = table[(table["table"] == 1) & (table["task"] != "")]["difference"]
    assert average == pytest.approx(dice.mean())
    assert table.equals(compared(context))
    text = to_markdown(differences_sheet(context.config, table))
    assert text.count("\n| ") == len(table) + 2 * table["table"].nunique()
    assert "missing" in to_markdown(differences_sheet(context.config, table.iloc[:0]))


def test_rows_of_one_network_are_compared_together(tmp_path: Path) -> None:
    """By the functions of voxseq.evaluation.statistics, on arrays that are put together by hand."""
    methods = ("unetr", "unet3d", "simclr", "dino", "ours", "vit", "resnet")
    tasks = ("la", "task07_pancreas", "task09_spleen", "nodule")
    context = fake_study.quiet(tmp_path, *tasks, methods=methods)
    table = compared(context)
    together = ("ours", "unetr", "simclr", "dino")

    def dice(task: str) -> np.ndarray:
        frames = [
            [
                pd.read_csv(context.inputs[f"finetune/{task}/{m}/s{s}"] / "scores.csv")
                for s in (0, 1, 2)
            ]
            for m in together
        ]
        wide = [
            [f.pivot(index="case", columns="label", values="value") for f in of] for of in frames
        ]
        return np.array(wide, dtype=float)

    for task in tasks[:3]:
        for name, wanted in zip(together[1:], compare(dice(task), 0), strict=True):
            found = row_of(table, task=task, other=name)
            assert is_row(found, wanted)
            assert found["test"] in (POOLED, APART)
        assert row_of(table, task=task, other="unet3d")["test"] == PAIR
    averages = compare_average([dice(task) for task in tasks[1:3]], 0)
    for name, wanted in zip(together[1:], averages, strict=True):
        assert is_row(row_of(table, task="", other=name), wanted)
    rows = ("ours", "vit", "simclr", "dino")
    frames = [
        [
            pd.read_csv(context.inputs[f"finetune/nodule/{m}/s{s}"] / "predictions.csv")
            for s in (0, 1, 2)
        ]
        for m in rows
    ]
    chances = np.array([[f["probability"] for f in of] for of in frames])
    areas = compare_auc(frames[0][0]["target"], chances, 0)
    for name, wanted in zip(rows[1:], areas, strict=True):
        assert is_row(row_of(table, task="nodule", metric="auc", other=name), wanted)
    right = ((chances > 0.5) == frames[0][0]["target"].to_numpy())[..., None].astype(float)
    for name, wanted in zip(rows[1:], compare(right, 0), strict=True):
        assert is_row(row_of(table, task="nodule", metric="accuracy", other=name), wanted)
    assert row_of(table, task="nodule", metric="auc", other="resnet")["test"] == PAIR


@pytest.mark.slow
def test_p_values_are_corrected_over_those_that_may_be_marked(tmp_path: Path) -> None:
    options = {"methods": ("unetr", "simclr", "mae3d", "ours")}
    tasks = [name for name in fake_study.demo().tasks if name.startswith("task")]
    for seeds in (3, 5):
        context = fake_study.quiet(tmp_path / str(seeds), *tasks, seeds=range(seeds), **options)
        table = compared(context)
        primary = table[table["primary"]]
        assert primary[["task", "other"]].to_numpy().tolist() == [["", "unetr"], ["", "mae3d"]]
        family = primary if seeds == 3 else table
        assert family["p_holm"].tolist() == pytest.approx(holm(family["p"].tolist()))
        assert table["p_holm"].notna().sum() == len(family)
        assert (table["marked"] == (table["p_holm"] < 0.05)).all()


@pytest.mark.slow
def test_primary_contrasts_of_the_ablation(tmp_path: Path) -> None:
    context = fake_study.build(tmp_path, tasks=("task06_lung", "ricord"), ratios=(), steps=40)
    table = compared(context)
    primary = table[table["primary"]]
    found = set(zip(primary["task"], primary["metric"], primary["variant"], strict=True))
    variants = ("no_sequences", "no_random_start")
    assert found == {
        *(("task06_lung", "dice", name) for name in variants),
        *(("ricord", "auc", name) for name in variants),
    }


@pytest.mark.slow
def test_rows_beyond_the_paper_are_compared_with_their_own_reference(tmp_path: Path) -> None:
    context = fake_study.quiet(tmp_path, "la", "nodule", beyond=("la", "nodule"))
    table = compared(context)
    table = table[table["table"] == 5]
    means = run_means(collect(context.config, context.inputs))
    assert len(table) == 25
    stages = {"": "finetune", "frozen": "beyond"}
    for row in table.to_dict("records"):
        keys = {name: row[name] for name in ("task", "metric")}
        reference, variant = row["reference"], row["reference_variant"]
        ours = mean_of(means, stage=stages[variant], method=reference, variant=variant, **keys)
        other = mean_of(means, stage="beyond", method=row["other"], variant=row["variant"], **keys)
        if len(other) == len(ours) or row["variant"] == "trivial":
            assert row["difference"] == pytest.approx(ours.mean() - other.mean(), abs=2e-6)
    # A baseline draws nothing, but each seed has phantoms and splits of its own.
    shape = row_of(table, other="mean_shape", task="la")
    assert (shape["seeds"], shape["test"]) == (3, PAIR)
    probe = row_of(table, other="vit", variant="frozen", metric="auc")
    assert (probe["seeds"], probe["test"]) == (3, PAIR)
    text = to_markdown(differences_sheet(context.config, table))
    assert "Frozen encoder: ViT, random encoder (the floor)" in text
    assert "n/a" not in text


def test_rows_with_other_seeds_are_compared_on_those_that_both_have(tmp_path: Path) -> None:
    context = fake_study.quiet(tmp_path, "la", seeds=range(4), missing=("la/unetr/s1",))
    found = row_of(compared(context), other="unetr")
    assert (found["seeds"], found["test"]) == (3, PAIR)
    means = run_means(collect(context.config, context.inputs))
    means = means[means["seed"] != 1]
    gap = mean_of(means, method="ours").mean() - mean_of(means, method="unetr").mean()
    assert found["difference"] == pytest.approx(gap)


def test_a_study_without_ours_has_no_comparison(tmp_path: Path) -> None:
    context = fake_study.quiet(tmp_path, "la", methods=("unetr", "vit"), ratios=("la",))
    assert compared(context).empty


def test_scores_that_are_no_mean_over_cases_have_an_interval_over_seeds(tmp_path: Path) -> None:
    context = fake_study.build(tmp_path, own(("age", "grade"), ("vit", "ours"), seeds=(0, 1, 2)))
    table = compared(context)
    means = run_means(collect(context.config, context.inputs))
    for task, metric in (("age", "r2"), ("age", "correlation"), ("grade", "auc")):
        found = row_of(table, task=task, metric=metric)
        sides = [
            mean_of(means, task=task, metric=metric, method=m).to_numpy() for m in ("ours", "vit")
        ]
        assert found["difference"] == pytest.approx((sides[0] - sides[1]).mean())
        assert (found["test"], math.isnan(found["p"]), found["marked"]) == (OVER_SEEDS, True, False)
        assert found["low"] < found["high"]
    assert row_of(table, task="age", metric="mae")["test"] == PAIR


def test_scans_of_a_patient_count_once(tmp_path: Path) -> None:
    """RICORD: the first two scans are of one patient, the others of patients of their own."""
    context = fake_study.quiet(tmp_path, "ricord", methods=("vit", "ours"))

    def one_patient(line: dict[str, str]) -> None:
        # Cases 0 and 2 have the same class.
        line["subject"] = "p000" if line["case"] in ("p000", "p002") else line["case"]

    for run in context.inputs:
        if run.startswith("finetune"):
            edit(context, run, "predictions.csv", one_patient)
    context.gather()
    scores = scores_of(context)
    assert scores.scans("ricord") == (fake_study.PATIENTS, fake_study.PATIENTS - 1)
    frame = pd.read_csv(context.inputs["finetune/ricord/ours/s1"] / "predictions.csv")
    patients = frame.groupby("subject")[["target", "probability"]].mean()
    area = roc_auc_score(patients["target"], patients["probability"])
    row = RowKey("finetune", "ours")
    assert scores.values("auc", "ricord", row)[1] == pytest.approx(area)
    right = ((frame["probability"] > 0.5) == frame["target"]).groupby(frame["subject"]).mean()
    assert scores.values("accuracy", "ricord", row)[1] == pytest.approx(right.mean())
    found = compared(context)
    assert set(found["cases"]) == {fake_study.PATIENTS - 1}


def test_scans_of_different_classes_are_not_averaged(tmp_path: Path) -> None:
    context = fake_study.quiet(tmp_path, "ricord", methods=("vit", "ours"))
    for run in context.inputs:
        if run.startswith("finetune"):
            edit(context, run, "predictions.csv", lambda line: line.update(subject="one"))
    context.gather()
    scores = scores_of(context)
    assert scores.scans("ricord") == (fake_study.PATIENTS, 1)
    assert set(scores.values("auc", "ricord", RowKey("finetune", "ours"))) == {1.0}


@pytest.mark.parametrize("phantoms", [False, True])
def test_phantoms_of_a_seed_are_cases_of_its_own(phantoms: bool, tmp_path: Path) -> None:
    context = fake_study.quiet(tmp_path, "la", "ricord", phantoms=phantoms)
    table = compared(context)
    times = 3 if phantoms else 1
    assert row_of(table, task="la")["cases"] == times * fake_study.CASES
    found = row_of(table, task="ricord", metric="auc")
    assert found["cases"] == times * fake_study.PATIENTS
    assert (found["test"], found["seeds"]) == (PAIR, 3)
