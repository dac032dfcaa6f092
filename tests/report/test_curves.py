"""Training curves and the score against the share of labels: their data and their figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.helpers import fake_study
from voxseq.config.studies import ReportConfig
from voxseq.report.figures.curves import curves_page, label_ratio_figure, loss_panel
from voxseq.report.figures.style import Palette, new_figure, styled
from voxseq.report.results import collect, run_means
from voxseq.report.tables.curves import (
    label_ratio_curve,
    pretraining_curves,
    smooth,
    thin,
    validation_curves,
)

TASKS = ("task06_lung", "la", "ricord")


@pytest.mark.slow
def test_curves_are_thinned_and_keep_their_ends(tmp_path: Path) -> None:
    assert thin(3, 10) == [0, 1, 2]
    kept = thin(1000, 7)
    assert (len(kept), kept[0], kept[-1]) == (7, 0, 999)
    context = fake_study.build(
        tmp_path, tasks=TASKS, seeds=(0, 1), report=ReportConfig(max_curve_points=4)
    )
    curves = validation_curves(context.config, context.inputs)
    assert set(curves.groupby("run").size()) == {4}
    assert set(curves["name"]) == {"dice", "auc"}


@pytest.mark.slow
def test_label_ratio_curve_has_a_row_for_each_planned_share(tmp_path: Path) -> None:
    context = fake_study.build(tmp_path, tasks=TASKS, seeds=(0, 1))
    curve = label_ratio_curve(context.config, run_means(collect(context.config, context.inputs)))
    ours = curve[(curve["method"] == "ours") & (curve["metric"] == "dice")]
    assert ours["ratio"].tolist() == [1.0, 0.5, 0.25, 0.1]
    assert (ours["n"] == 2).all()
    assert ours["mean"].between(1, 100).all()
    # A method that is planned with all labels only has no curve.
    runs = [run for run in context.config.runs if (run.method, run.stage) != ("vit", "label_ratio")]
    study = context.config.model_copy(update={"runs": tuple(runs)})
    curve = label_ratio_curve(study, run_means(collect(context.config, context.inputs)))
    assert set(curve.loc[curve["task"] == "ricord", "method"]) == {"ours"}


def test_losses_are_smoothed_within_each_stage() -> None:
    steps = np.arange(0, 600, 10)
    noise = np.where(steps // 10 % 2, 0.1, -0.1)
    rows = {"step": steps, "value": np.where(steps < 300, 1.0, 5.0) + noise, "split": "train"}
    with styled():
        axes = new_figure(3, 3).subplots()
        loss_panel(axes, pd.DataFrame(rows), (300,))
    lines = [np.asarray(line.get_xydata()) for line in axes.lines]
    _, first, second, mark = (line for line in lines if len(line))
    for part, level in ((first, 1.0), (second, 5.0)):
        assert np.abs(part[1:-1, 1] - level).max() < 0.06
    assert set(mark[:, 0]) == {300}


def test_few_points_are_not_smoothed() -> None:
    values = pd.Series([3.0, 1.0, 2.0])
    assert smooth(values).equals(values)
    assert smooth(pd.Series(np.arange(45.0))).iloc[20] == 20


@pytest.mark.parametrize("stage", ["finetune", "label_ratio"])
def test_a_page_of_curves_without_any_says_missing(stage: str) -> None:
    study = fake_study.part(tasks=("la",))
    empty = [f(study, {}) for f in (pretraining_curves, validation_curves)]
    palette = Palette(study.methods)
    with styled():
        page = curves_page(study, *empty, palette, stage=stage)
        ratios = label_ratio_figure(
            study, label_ratio_curve(study, run_means(pd.DataFrame())), palette
        )
    for figure in (page, ratios):
        assert figure is not None
        assert [text.get_text() for text in figure.axes[0].texts] == ["missing"]


def test_a_pre_training_in_stages_says_where_the_next_begins() -> None:
    study = fake_study.demo()
    starts = {run.id: run.stage_starts for run in study.pretrain_runs}
    assert len(starts["pretrain/medcoss/s0"]) == 1
    assert starts["pretrain/ours/s0"] == ()


@pytest.mark.slow
def test_pretraining_curves_stand_on_the_page_of_their_stage(tmp_path: Path) -> None:
    context = fake_study.build(tmp_path, tasks=TASKS, seeds=(0, 1), beyond=("la",), steps=40)
    study = context.config
    frames = [f(study, context.inputs) for f in (pretraining_curves, validation_curves)]
    counts = {}
    for stage in ("finetune", "ablation", "beyond", "label_ratio"):
        with styled():
            page = curves_page(study, *frames, Palette(study.methods), stage=stage)
        assert page is not None
        losses = page.subfigs[0] if len(page.subfigs) == 2 else None
        counts[stage] = sum(a.get_visible() for a in losses.axes) if losses is not None else 0
    # One method that is pre-trained, seven variants of it, and two more beyond the paper.
    assert counts == {"finetune": 1, "ablation": 7, "beyond": 2, "label_ratio": 0}
