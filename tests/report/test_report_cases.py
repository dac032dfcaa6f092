"""Calibration, scores of single cases and their page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import fake_study
from voxseq.base.errors import IntegrityError
from voxseq.report.figures.reliability import (
    BINS,
    bin_frame,
    calibration,
    calibrations,
    reliability_figure,
    summary_frame,
)
from voxseq.report.figures.style import Look, styled
from voxseq.report.figures.worst_figure import worst_figure
from voxseq.report.pages import cases_page
from voxseq.report.pages.cases_page import render_cases
from voxseq.report.pages.markup import grid
from voxseq.report.results import collect
from voxseq.report.study import Study
from voxseq.report.tables.worst_cases import (
    case_scores,
    class_summary,
    collect_worst,
    read_worst,
    short_names,
    worst_of,
)

TASKS = ("task07_pancreas", "ricord")


def study_of(folder: Path, **options: Any) -> tuple[Study, fake_study.Context]:
    quiet: dict[str, Any] = {"ratio_tasks": (), "ablation_tasks": (), "steps": 40}
    context = fake_study.build(folder, tasks=TASKS, seeds=(0, 1), **quiet, **options)
    return Study.from_config(context.config), context


def test_calibration_by_hand() -> None:
    target = np.array([0, 1, 1, 0, 1])
    probability = np.array([0.05, 0.05, 0.95, 0.42, 0.48])
    found = calibration(target, probability)
    assert found.counts.tolist() == [2, 0, 0, 0, 2, 0, 0, 0, 0, 1]
    assert found.share_positive[[0, 4, 9]].tolist() == [0.5, 0.5, 1.0]
    assert found.mean_probability[[0, 4, 9]].tolist() == pytest.approx([0.05, 0.45, 0.95])
    assert np.isnan(found.share_positive[1])
    assert found.ece == pytest.approx((2 * 0.45 + 2 * 0.05 + 0.05) / 5)
    squares = [0.05**2, 0.95**2, 0.05**2, 0.42**2, 0.52**2]
    assert found.brier == pytest.approx(np.mean(squares))
    assert found.brier_base_rate == pytest.approx(0.6 * 0.4)


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=1, max_size=60))
def test_calibration_counts_every_prediction_once(pairs: list[tuple[bool, float]]) -> None:
    target = np.array([int(t) for t, _ in pairs])
    probability = np.array([p for _, p in pairs])
    found = calibration(target, probability)
    assert found.counts.sum() == len(pairs)
    assert len(found.counts) == BINS
    filled = found.counts > 0
    assert np.isfinite(found.share_positive[filled]).all()
    assert np.isnan(found.share_positive[~filled]).all()
    low, high = found.edges[:-1][filled], found.edges[1:][filled]
    mean = found.mean_probability[filled]
    assert ((mean >= low - 1e-12) & (mean <= high + 1e-12)).all()
    # The mean over bins is the mean over predictions.
    assert np.dot(found.counts[filled], mean) == pytest.approx(probability.sum(), abs=1e-9)
    assert np.dot(found.counts[filled], found.share_positive[filled]) == pytest.approx(target.sum())
    assert 0.0 <= found.ece <= 1.0


@pytest.mark.parametrize(
    ("target", "probability"), [([], []), ([0, 2], [0.1, 0.2]), ([0, 1], [0.1, np.nan])]
)
def test_calibration_refuses(target: list[int], probability: list[float]) -> None:
    with pytest.raises(ValueError, match="calibration needs"):
        calibration(np.array(target), np.array(probability))


def test_calibrations_pool_the_seeds_and_leave_out_what_has_not_run(tmp_path: Path) -> None:
    study, context = study_of(tmp_path, missing=("ricord/vit", "ricord/ours/r100/s1"))
    found = calibrations(study, context.inputs)
    assert set(found) == {("ricord", "ours")}
    assert found["ricord", "ours"].seeds == 1
    study, context = study_of(tmp_path / "all")
    found = calibrations(study, context.inputs)
    item = found["ricord", "ours"]
    assert (item.seeds, item.cases, int(item.counts.sum())) == (2, 40, 80)
    assert (item.counts > 0).sum() > 3
    table, bins = summary_frame(study, found), bin_frame(study, found)
    assert table["method"].tolist() == ["vit", "ours"]
    assert table["positives"].tolist() == [40, 40]
    assert len(bins) == 2 * BINS
    with styled():
        assert reliability_figure(study, found, Look(study.methods)) is not None
        assert reliability_figure(study, {}, Look(study.methods)) is not None


def test_case_scores_are_means_over_seeds(tmp_path: Path) -> None:
    study, context = study_of(tmp_path)
    scores = collect(context)  # type: ignore[arg-type]
    cases = case_scores(study, scores, context.inputs)
    one = {"task": "task07_pancreas", "method": "ours", "label": "cancer", "case": "case_03"}
    row = cases[np.logical_and.reduce([cases[k] == v for k, v in one.items()])]
    raw = scores[np.logical_and.reduce([scores[k] == v for k, v in one.items()])]
    assert len(row) == 1
    assert row["value"].item() == pytest.approx(raw["value"].astype(float).mean())
    assert row["seeds"].item() == 2
    # A class that the case lacks has no row, and is not counted.
    summary = class_summary(cases).set_index(["task", "method", "label"])
    assert summary.loc[("task07_pancreas", "ours", "pancreas"), "cases"] == fake_study.CASES
    assert summary.loc[("task07_pancreas", "ours", "cancer"), "cases"] == fake_study.CASES - 1


def test_a_classification_is_scored_by_the_probability_of_the_true_class(tmp_path: Path) -> None:
    study, context = study_of(tmp_path)
    for seed in (0, 1):
        run = context.inputs[f"finetune/ricord/ours/r100/s{seed}"]
        text = f"case,target,probability\na,0,0.{seed + 1}\nb,1,0.9\nc,0,0.8\n"
        (run / "predictions.csv").write_text(text)
    scores = collect(context)  # type: ignore[arg-type]
    cases = case_scores(study, scores, context.inputs)
    mine = cases[(cases["task"] == "ricord") & (cases["method"] == "ours")]
    values = dict(zip(mine["case"], mine["value"], strict=True))
    assert values == pytest.approx({"a": 0.85, "b": 0.9, "c": 0.2})
    assert dict(zip(mine["case"], mine["label"], strict=True))["b"] == "COVID-19"
    assert [case for case, _ in worst_of(mine, 2)] == ["c", "a"]


def test_worst_cases_are_ordered_by_their_mean_over_classes() -> None:
    rows = [("a", "x", 0.9), ("a", "y", 0.1), ("b", "x", 0.4), ("c", "x", 0.45), ("c", "y", 0.45)]
    frame = pd.DataFrame(rows, columns=["case", "label", "value"])
    assert worst_of(frame) == [("b", 0.4), ("c", 0.45), ("a", 0.5)]
    assert worst_of(frame, 1) == [("b", 0.4)]


def test_short_names_leave_out_what_all_cases_share() -> None:
    names = short_names(["la/p1/image", "la/p2/image"])
    assert names == {"la/p1/image": "p1", "la/p2/image": "p2"}
    assert short_names(["d/a/1", "d/a/2"]) == {"d/a/1": "1", "d/a/2": "2"}
    assert short_names(["d/a/1", "d/b/1/x"]) == {"d/a/1": "a/1", "d/b/1/x": "b/1/x"}
    assert short_names(["d/a"]) == {"d/a": "d/a"}
    assert short_names([]) == {}


@given(st.sets(st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map("/".join), min_size=1))
def test_short_names_stay_different(cases: set[str]) -> None:
    names = short_names(cases)
    assert len(set(names.values())) == len(cases)
    assert all(names.values())
    assert all(short in case for case, short in names.items())


def test_the_worst_seed_is_chosen(tmp_path: Path) -> None:
    study, context = study_of(tmp_path, missing=("ricord",))
    runs = [f"finetune/task07_pancreas/ours/r100/s{seed}" for seed in (0, 1)]
    scores = [read_worst(context.inputs[run] / "worst.npz").score for run in runs]
    worst = collect_worst(study, context.inputs)
    item = worst["task07_pancreas", "ours"]
    assert item.score == min(scores)
    assert item.seed == int(np.argmin(scores))
    assert ("ricord", "ours") not in worst
    task = study.tasks["task07_pancreas"]
    with styled():
        figure = worst_figure(task, ("unetr", "other", "ours"), worst, {item.case: "short"})
        assert worst_figure(study.tasks["ricord"], ("ours",), worst, {}) is None
    assert figure is not None
    grid_axes = np.reshape(figure.axes, (3, 3))
    assert grid_axes[0, 1].texts[0].get_text() == "missing"
    expected = f"Dice {100 * item.score:.1f} % (seed {item.seed})\nshort"
    assert grid_axes[2, 2].get_xlabel() == expected


def test_broken_worst_cases_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "worst.npz"
    image, flat = np.zeros((4, 4), np.float32), np.zeros((4, 4), np.uint8)
    np.savez(path, image=image, truth=flat, prediction=flat[:2], case="a", score=0.5)
    with pytest.raises(IntegrityError, match="one shape"):
        read_worst(path)
    np.savez(path, image=image, truth=flat, prediction=flat, case="a")
    with pytest.raises(IntegrityError, match=r"worst\.npz"):
        read_worst(path)
    np.savez(path, image=image, truth=np.uint8(1), prediction=np.uint8(0), case="a", score=0.25)
    assert read_worst(path, 3).truth == 1
    assert read_worst(path, 3).seed == 3


def test_the_page_of_cases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study, context = study_of(tmp_path, missing=("vit",))
    scores = collect(context)  # type: ignore[arg-type]
    cases = case_scores(study, scores, context.inputs)
    monkeypatch.setattr(cases_page, "SHOWN", 7)
    page = render_cases(study, cases, {"ricord": b"png"})
    assert page.count("<img ") == 1
    assert page.count("no run has kept a picture") == 1
    hidden = 2 * fake_study.CASES - 1 - 7
    assert f"{hidden} rows with higher scores are left out" in page
    summary = class_summary(cases)
    row = summary[(summary["method"] == "ours") & (summary["label"] == "pancreas")].iloc[0]
    text = [f"{100 * row[key]:.1f}" for key in ("mean", "median", "min")]
    shown = grid((), [("Ours", "pancreas", str(row["cases"]), *text)])
    assert shown[shown.index("<tbody>") + 7 : shown.index("</tbody>")] in page
    assert "<th>ViT</th><td>COVID-19</td><td>missing</td>" in page
    assert "Mean over methods" in page


def test_texts_of_a_page_are_escaped() -> None:
    assert "<b>" not in grid(("<b>",), [("<b>x", "&")])
    assert "&amp;" in grid(("a",), [("x", "&")])
