"""Calibration, scores of single cases and their page."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.helpers import fake_study
from tests.helpers.fake_study import Context
from tests.helpers.own_study import own
from voxseq.base.errors import IntegrityError
from voxseq.report.cases import (
    CASE_COLUMNS,
    case_scores,
    class_summary,
    collect_worst,
    short_names,
    worst_of,
)
from voxseq.report.figures.reliability import BINS, calibration, calibrations, reliability_figure
from voxseq.report.figures.strip import GAP, PANEL, make_strip
from voxseq.report.figures.style import Palette, styled
from voxseq.report.pages import cases as cases_page
from voxseq.report.slices import Slices, read_slices, slice_dice, window_of


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
    scores = [read_slices(context.inputs[run] / "worst.npz").score for run in runs]
    worst = collect_worst(context.config, context.inputs)
    item = worst["task07_pancreas", "ours"]
    assert (item.score, item.seed) == (min(scores), int(np.argmin(scores)))
    assert ("ricord", "ours") not in worst


def slices_of(image: np.ndarray, truth: np.ndarray, **changes: Any) -> Slices:
    facts: dict[str, Any] = {
        "prediction": np.zeros_like(truth),
        "numbers": tuple(range(3, 3 + image.shape[2])),
        "main": 0,
        "depth": 40,
        "spacing": (1.0, 1.0, 2.0),
        "oriented": True,
        "case": "a",
        **changes,
    }
    return Slices(image, truth, **facts)


def frames(item: Slices, *, phantoms: bool = False) -> list[np.ndarray]:
    """Each frame of a strip as (height, width, 3)."""
    strip = make_strip(item, phantoms=phantoms)
    with Image.open(io.BytesIO(strip.webp)) as image:
        assert image.size == (item.count * (strip.width + GAP) - GAP, strip.height)
        pixels = np.asarray(image.convert("RGB")).astype(int)
    return [pixels[:, i * (strip.width + GAP) :][:, : strip.width] for i in range(item.count)]


def test_a_strip_has_a_frame_for_each_slice() -> None:
    image = np.zeros((40, 40, 2), np.float32)
    truth = np.zeros((40, 40, 2), np.int64)
    # On the patient's right (RAS+: high x) and in front (high y): on the left and above.
    image[26:32, 26:32, 1] = truth[26:32, 26:32, 1] = 1
    first, second = frames(slices_of(image, truth, main=1))
    assert first.shape[1] == 2 * PANEL + GAP
    inner = slice(30, PANEL - 30)
    assert not np.array_equal(first[inner, :PANEL], second[inner, :PANEL])
    (y, x) = (index.mean() for index in np.nonzero(second[inner, inner].min(axis=2) > 230))
    assert (x, y) < (90, 90)
    # The true class is outlined beside the image, and no more than that.
    beside = second[inner, PANEL + GAP + 30 : -30].min(axis=2) > 230
    assert 20 < beside.sum() < (second[inner, inner].min(axis=2) > 230).sum() + 200
    mirrored = frames(slices_of(image, truth, oriented=False))[1]
    (_, x) = (index.mean() for index in np.nonzero(mirrored[inner, inner].min(axis=2) > 230))
    assert x > 40


def test_a_strip_keeps_the_proportions_of_millimetres() -> None:
    image = np.ones((20, 20, 1), np.float32)
    image[:, 10:] = 0
    wide = frames(slices_of(image, np.array(1), spacing=(2.0, 1.0, 1.0)))[0]
    bright = wide.min(axis=2) > 200
    # The lower half of 20 mm by 40 mm.
    assert bright[:, PANEL // 2].sum() == pytest.approx(PANEL / 4, abs=4)
    assert bright[PANEL // 2 + 20].sum() > 0.9 * PANEL


def test_a_strip_of_phantoms_says_so_above_every_frame() -> None:
    item = slices_of(np.random.default_rng(0).random((16, 16, 3)).astype(np.float32), np.array(1))
    plain, said = frames(item), frames(item, phantoms=True)
    extra = said[0].shape[0] - plain[0].shape[0]
    assert extra > 10
    for frame in said:
        head = frame[:extra]
        assert ((head[..., 0] > head[..., 2] + 60).sum(), head[0].min()) > (100, 200)
    again = make_strip(item, phantoms=True).webp
    assert again == make_strip(item, phantoms=True).webp


def test_broken_slices_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "worst.npz"
    image, flat = np.zeros((4, 4, 2), np.float32), np.zeros((4, 4, 2), np.uint8)
    facts = {"numbers": [3, 5], "main": 1, "depth": 9, "spacing": [1, 1, 2], "oriented": False}
    whole = {"image": image, "truth": flat, "prediction": flat, "case": "a", **facts}
    number = {"truth": np.uint8(1), "prediction": np.uint8(0)}
    for changes, reason in (
        ({"prediction": flat[:2]}, "one shape"),
        ({"truth": np.uint8(1)}, "one shape"),
        ({"image": image[..., 0], **number}, "one shape"),
        ({"numbers": [3]}, "one shape"),
        ({"main": 2}, "one shape"),
        ({"score": "high"}, r"worst\.npz"),
        ({"spacing": [1, 1]}, r"worst\.npz"),
    ):
        np.savez(path, **{**whole, **changes})
        with pytest.raises(IntegrityError, match=reason):
            read_slices(path)
    np.savez(path, **{name: whole[name] for name in whole if name != "depth"})
    with pytest.raises(IntegrityError, match=r"worst\.npz"):
        read_slices(path)
    path.write_bytes(b"PK")
    with pytest.raises(IntegrityError, match=r"worst\.npz"):
        read_slices(path)
    np.savez(path, **{**whole, **number, "score": 0.5})
    found = read_slices(path, 3)
    assert (found.truth, found.seed, found.score, found.place) == (1, 3, 0.5, "slice 6 of 9")


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
    worst = collect_worst(context.config, context.inputs)
    strips = {
        key: make_strip(item, phantoms=False) for key, item in worst.items() if key[0] == "ricord"
    }
    page = cases_page.render_cases(context.config, cases, strips)
    assert page.count("<img ") == page.count("no run has kept a picture") == 1
    # ViT has not run; the slider of ours ends at its last slice.
    assert page.count('<input type="range"') == 1
    last = strips["ricord", "ours"].item.count - 1
    assert f'min="0" max="{last}" value="0"' in page
    assert "<b>ViT</b><span>missing</span>" in page
    assert "<span>Pixels 1.5 × 1.5 mm, slices 3 mm apart</span>" in page
    hidden = 2 * fake_study.CASES - 1 - 7
    assert f"{hidden} rows with higher scores are left out" in page
    summary = class_summary(cases).set_index(["method", "label"]).loc[("ours", "pancreas")]
    shown = [f"{100 * summary[key]:.1f}" for key in ("mean", "median", "worst")]
    cells = "</td><td>".join(["pancreas", str(summary["cases"]), *shown])
    assert f"<th>AR (autoregressive)</th><td>{cells}</td>" in page
    assert "<th>ViT</th><td>COVID-19</td><td>missing</td>" in page
    assert "Mean over methods" in page


@pytest.mark.parametrize(
    ("volumes", "text"),
    [
        ([10.0, 12.0], "organ: HD95 4.5 mm, 12 ml, true 10 ml (+20 %)"),
        ([10.0, 0.0], "organ: not found, true volume 10 ml"),
        ([0.0, 3.0], "organ: 3 ml, the truth has none"),
        ([0.0, 0.0], None),
    ],
)
def test_a_caption_has_distance_and_volumes(volumes: list[float], text: str | None) -> None:
    context = own(("mask",), ("ours",), seeds=(0,))
    task = context.tasks["mask"].model_copy(update={"labels": ("organ",)})
    item = slices_of(
        np.ones((8, 8, 1), np.float32), np.ones((8, 8, 1), np.int64), oriented=False,
        score=0.5, seed=3, hd95=(4.5,), volumes=np.array(volumes)[:, None],
    )  # fmt: skip
    study = context.model_copy(update={"tasks": {"mask": task}})
    strips = {("mask", "ours"): make_strip(item, phantoms=False)}
    page = cases_page.render_cases(study, pd.DataFrame(columns=list(CASE_COLUMNS)), strips)
    lines = re.findall("<span>(.*?)</span>", page)
    pixels = ["Pixels 1 × 1 mm, slices 2 mm apart", "The file states no orientation"]
    assert lines == ["a", "Dice 50.0 % (seed 3)", *([text] if text else []), *pixels]
