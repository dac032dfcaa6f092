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
from tests.helpers.fake_study import Context
from voxseq.base.errors import IntegrityError
from voxseq.report.cases import case_scores, class_summary, collect_worst, short_names, worst_of
from voxseq.report.figures.reliability import BINS, calibration, calibrations, reliability_figure
from voxseq.report.figures.style import Palette, styled
from voxseq.report.figures.worst_figure import worst_figure
from voxseq.report.pages import cases as cases_page
from voxseq.report.slices import read_slice, read_worst, slice_dice, window_of


def study_of(folder: Path, **options: Any) -> Context:
    return fake_study.quiet(folder, "task07_pancreas", "ricord", seeds=(0, 1), **options)


def test_calibration_by_hand() -> None:
    probability = np.array([0.05, 0.05, 0.95, 0.42, 0.48])
    bins, scores = calibration(np.array([0, 1, 1, 0, 1]), probability)
    assert bins["predictions"].tolist() == [2, 0, 0, 0, 2, 0, 0, 0, 0, 1]
    assert bins["share_positive"][[0, 4, 9]].tolist() == [0.5, 0.5, 1.0]
    assert bins["mean_probability"][[0, 4, 9]].tolist() == pytest.approx([0.05, 0.45, 0.95])
    assert np.isnan(bins["share_positive"][1])
    squares = [0.05**2, 0.95**2, 0.05**2, 0.42**2, 0.52**2]
    expected = {"ece": (2 * 0.45 + 2 * 0.05 + 0.05) / 5, "brier": np.mean(squares)}
    assert scores == pytest.approx({**expected, "brier_base_rate": 0.6 * 0.4})


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=1, max_size=60))
def test_calibration_counts_every_prediction_once(pairs: list[tuple[bool, float]]) -> None:
    target, probability = (np.array(part, float) for part in zip(*pairs, strict=True))
    bins, scores = calibration(target, probability)
    assert len(bins) == BINS
    assert bins["predictions"].sum() == len(pairs)
    filled = bins[bins["predictions"] > 0]
    assert bins["share_positive"].notna().equals(bins["predictions"] > 0)
    assert filled["mean_probability"].between(filled["low"] - 1e-12, filled["high"] + 1e-12).all()
    # The mean over bins is the mean over predictions.
    total = (filled["predictions"] * filled["mean_probability"]).sum()
    assert total == pytest.approx(probability.sum(), abs=1e-9)
    positive = (filled["predictions"] * filled["share_positive"]).sum()
    assert positive == pytest.approx(target.sum())
    assert 0.0 <= scores["ece"] <= 1.0


@pytest.mark.parametrize(
    ("target", "probability"), [([], []), ([0, 2], [0.1, 0.2]), ([0, 1], [0.1, np.nan])]
)
def test_calibration_refuses(target: list[int], probability: list[float]) -> None:
    with pytest.raises(ValueError, match="calibration needs"):
        calibration(np.array(target), np.array(probability))


def test_calibrations_pool_the_seeds_and_leave_out_what_has_not_run(tmp_path: Path) -> None:
    context = study_of(tmp_path, missing=("ricord/vit", "ricord/ours/s1"))
    summary, _ = calibrations(context.config, context.inputs)
    assert summary[["method", "seeds"]].to_numpy().tolist() == [["ours", 1]]
    context = study_of(tmp_path / "all")
    summary, bins = calibrations(context.config, context.inputs)
    counts = ["method", "seeds", "cases", "predictions", "positives"]
    assert summary[counts].to_numpy().tolist() == [["vit", 2, 40, 80, 40], ["ours", 2, 40, 80, 40]]
    assert len(bins) == 2 * BINS
    palette = Palette(context.config.methods)
    with styled():
        for found in ((summary, bins), (summary.iloc[:0], bins.iloc[:0])):
            assert reliability_figure(context.config, *found, palette) is not None


def test_case_scores_are_means_over_seeds(tmp_path: Path) -> None:
    context = study_of(tmp_path)
    cases = case_scores(context.config, context.inputs)
    keys = ["task", "method", "label", "case"]
    row = cases.set_index(keys).loc[("task07_pancreas", "ours", "cancer", "case_03")]
    raw = [
        pd.read_csv(context.inputs[f"finetune/task07_pancreas/ours/s{seed}"] / "scores.csv")
        .set_index(["case", "label"])
        .loc[("case_03", "cancer"), "value"]
        for seed in (0, 1)
    ]
    assert row["value"] == pytest.approx(np.mean(raw))
    assert row["seeds"] == 2
    # A class that the case lacks has no row, and is not counted.
    counts = class_summary(cases).set_index(keys[:3]).loc[("task07_pancreas", "ours"), "cases"]
    assert counts.to_dict() == {"pancreas": fake_study.CASES, "cancer": fake_study.CASES - 1}


def test_a_classification_is_scored_by_the_probability_of_the_true_class(tmp_path: Path) -> None:
    context = study_of(tmp_path)
    for seed in (0, 1):
        path = context.inputs[f"finetune/ricord/ours/s{seed}"] / "predictions.csv"
        path.write_text(
            f"case,subject,target,probability\na,a,0,0.{seed + 1}\nb,b,1,0.9\nc,c,0,0.8\n"
        )
    context.gather()
    cases = case_scores(context.config, context.inputs)
    mine = cases[(cases["task"] == "ricord") & (cases["method"] == "ours")]
    assert mine.set_index("case")["value"].to_dict() == pytest.approx(
        {"a": 0.85, "b": 0.9, "c": 0.2}
    )
    assert mine.set_index("case")["label"]["b"] == "COVID-19"
    assert [case for case, _ in worst_of(mine, 2)] == ["c", "a"]


def test_worst_cases_are_ordered_by_their_mean_over_classes() -> None:
    rows = [("a", "x", 0.9), ("a", "y", 0.1), ("b", "x", 0.4), ("c", "x", 0.45), ("c", "y", 0.45)]
    frame = pd.DataFrame(rows, columns=["case", "label", "value"])
    assert worst_of(frame) == [("b", 0.4), ("c", 0.45), ("a", 0.5)]
    assert worst_of(frame, 1) == [("b", 0.4)]


@pytest.mark.parametrize(
    "names",
    [
        {"la/p1/image": "p1", "la/p2/image": "p2"},
        {"d/a/1": "1", "d/a/2": "2"},
        {"d/a/1": "a/1", "d/b/1/x": "b/1/x"},
        {"d/a": "d/a"},
        {},
    ],
)
def test_short_names_leave_out_what_all_cases_share(names: dict[str, str]) -> None:
    assert short_names(names) == names


@given(st.sets(st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map("/".join), min_size=1))
def test_short_names_stay_different(cases: set[str]) -> None:
    names = short_names(cases)
    assert len(set(names.values())) == len(cases)
    assert all(names.values())
    assert all(short in case for case, short in names.items())


def test_the_worst_seed_is_chosen(tmp_path: Path) -> None:
    context = study_of(tmp_path, missing=("ricord",))
    runs = [f"finetune/task07_pancreas/ours/s{seed}" for seed in (0, 1)]
    scores = [read_worst(context.inputs[run] / "worst.npz").score for run in runs]
    worst = collect_worst(context.config, context.inputs)
    item = worst["task07_pancreas", "ours"]
    assert (item.score, item.seed) == (min(scores), int(np.argmin(scores)))
    assert ("ricord", "ours") not in worst
    pancreas, ricord = context.config.tasks.values()
    with styled():
        titles = {name: name for name in ("unetr", "other", "ours")}
        figure = worst_figure(pancreas, titles, worst, {item.case: "short"})
        assert worst_figure(ricord, {"ours": "Ours"}, worst, {}) is None
    assert figure is not None
    axes = np.reshape(figure.axes, (3, 3))
    assert axes[0, 1].texts[0].get_text() == "missing"
    expected = f"Dice {100 * item.score:.1f} % (seed {item.seed})\nshort"
    assert axes[2, 2].get_xlabel() == expected


def test_broken_slices_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "worst.npz"
    image, flat = np.zeros((4, 4), np.float32), np.zeros((4, 4), np.uint8)
    whole = {"image": image, "truth": flat, "prediction": flat, "case": "a", "score": 0.5}
    for reads, changes, reason in (
        ((read_slice, read_worst), {"prediction": flat[:2]}, "one shape"),
        ((read_slice,), {"truth": np.uint8(1), "prediction": np.uint8(0)}, "one shape"),
        ((read_worst,), {"score": "high"}, r"worst\.npz"),
    ):
        np.savez(path, **{**whole, **changes})
        for read in reads:
            with pytest.raises(IntegrityError, match=reason):
                read(path)
    np.savez(path, image=image, truth=flat, prediction=flat, case="a")
    with pytest.raises(IntegrityError, match=r"worst\.npz"):
        read_worst(path)
    path.write_bytes(b"PK")
    with pytest.raises(IntegrityError, match=r"worst\.npz"):
        read_slice(path)
    np.savez(path, **{**whole, "truth": np.uint8(1), "prediction": np.uint8(0)})
    assert (read_worst(path, 3).truth, read_worst(path, 3).seed) == (1, 3)


def test_dice_of_a_slice_is_the_mean_over_its_true_classes() -> None:
    truth = np.array([[0, 1], [2, 2]])
    assert slice_dice(truth, truth) == 1.0
    assert slice_dice(truth, np.array([[0, 1], [2, 0]])) == pytest.approx((1 + 2 / 3) / 2)
    assert slice_dice(np.zeros((2, 2), int), truth) is None


@given(
    shape=st.tuples(st.integers(2, 60), st.integers(2, 60)),
    corners=st.tuples(*[st.floats(0, 1)] * 4),
)
def test_a_window_shows_the_mask_and_lies_in_the_image(
    shape: tuple[int, int], corners: tuple[float, ...]
) -> None:
    mask = np.zeros(shape, bool)
    assert mask[window_of(mask)].shape == shape
    for x, y in (corners[:2], corners[2:]):
        mask[min(int(x * shape[0]), shape[0] - 1), min(int(y * shape[1]), shape[1] - 1)] = True
    shown = mask[window_of(mask)]
    assert shown.sum() == mask.sum()
    box = max(int(np.ptp(index)) + 1 for index in np.nonzero(mask))
    if box <= min(shape):
        assert shown.shape[0] == shown.shape[1] >= min(*shape, max(2 * box, 32))


def test_the_page_of_cases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = study_of(tmp_path, missing=("vit",))
    cases = case_scores(context.config, context.inputs)
    monkeypatch.setattr(cases_page, "SHOWN", 7)
    page = cases_page.render_cases(context.config, cases, {"ricord": b"png"})
    assert page.count("<img ") == page.count("no run has kept a picture") == 1
    hidden = 2 * fake_study.CASES - 1 - 7
    assert f"{hidden} rows with higher scores are left out" in page
    summary = class_summary(cases).set_index(["method", "label"]).loc[("ours", "pancreas")]
    shown = [f"{100 * summary[key]:.1f}" for key in ("mean", "median", "worst")]
    cells = "</td><td>".join(["pancreas", str(summary["cases"]), *shown])
    assert f"<th>Ours</th><td>{cells}</td>" in page
    assert "<th>ViT</th><td>COVID-19</td><td>missing</td>" in page
    assert "Mean over methods" in page
