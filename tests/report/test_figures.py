"""Figures and the report page."""

from __future__ import annotations

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from tests.helpers import fake_study
from tests.helpers.fake_study import Context
from tests.helpers.own_study import own
from voxseq.config.report_run import title_of
from voxseq.plan.outputs import lasting
from voxseq.report.figures.curves import curves_page, label_ratio_figure
from voxseq.report.figures.figure1 import (
    Example,
    Geometry,
    figure1,
    first_figure,
    visibility,
)
from voxseq.report.figures.figure2 import collect_slices, figure2
from voxseq.report.figures.heatmap import heat_values, heatmap_figure, units
from voxseq.report.figures.style import Palette, save, styled
from voxseq.report.results import collect, read_differences, run_means
from voxseq.report.tables.curves import (
    label_ratio_curve,
    pretraining_curves,
    validation_curves,
)
from voxseq.report.tables.differences import compare_rows
from voxseq.report.tables.rows import row_scores

TASKS = ("task06_lung", "la", "ricord")


@pytest.fixture
def sampler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sequences of a made-up store, in place of those of a real one."""

    def example(
        index: Path, stores: Any, config: Any, kind: str, number: int
    ) -> tuple[np.ndarray, str]:
        seed = ("spatial", "contrast", "semantic").index(kind)
        return fake_study.phantom_volume(seed, config.volume_shape), f"set of {kind}"

    module = ModuleType("voxseq.sequences.example")
    module.example = example  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "voxseq.sequences.example", module)


def study_of(folder: Path, **options: Any) -> Context:
    context = fake_study.build(folder, **{"tasks": TASKS, "seeds": (0, 1), **options})
    context.inputs["sequences/all"] = folder / "sequences"
    return context


def means_of(context: Context) -> pd.DataFrame:
    return run_means(collect(context.config, context.inputs))


class _Checker(HTMLParser):
    """Collects what a page would fetch and checks that its tags are balanced."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in {"meta", "img", "br", "input"}:
            self.open.append(tag)
        values = {k: v or "" for k, v in attrs}
        self.fetched += [values[k] for k in ("src", "href") if k in values]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def checked(path: Path) -> str:
    """The page's text; it is well formed, fetches nothing and has no placeholder left."""
    page = path.read_text(encoding="utf-8")
    checker = _Checker()
    checker.feed(page)
    assert not checker.open
    own = (
        "data:image/png;base64,",
        "data:image/webp;base64,",
        "#",
        "index.html",
        "cases.html",
        "../cost/index.html",
    )
    assert all(x.startswith(own) for x in checker.fetched)
    assert not re.search(r"\{[{%#]", page)
    return page


@pytest.mark.slow
@pytest.mark.usefixtures("sampler")
def test_execute_writes_all_figures_and_the_page(tmp_path: Path) -> None:
    missing = ("task06_lung/ours/s1", "la/unetr/s0", "la/unetr/s1")
    context = study_of(tmp_path, missing=missing, methods=("unetr", "vit", "ours"))
    before = dict(mpl.rcParams)
    out = context.make("tables", "figures")
    assert dict(mpl.rcParams) == before
    names = {p.stem for p in (out / "figures").glob("*.png")}
    curves = {"curves", "curves_label_ratio", "curves_ablation"}
    assert names == {"figure1", "figure2", "heatmap", "label_ratio", "reliability", *curves}
    assert (out / "figures" / "calibration.csv").read_text().count("\n") == 3
    for path in (out / "figures").glob("*.png"):
        with Image.open(path) as image:
            assert min(image.size) > 100
            assert len(image.convert("RGB").getcolors(1 << 24) or []) > 20
            assert "Software" not in image.info
    page, cases = (checked(out / "report" / name) for name in ("index.html", "cases.html"))
    assert page.count("<img ") == 8
    # UNETR has none on LA.
    assert cases.count("<img ") == cases.count('type="range"') == 5
    assert "missing run: finetune/task06_lung/ours/s1" in page
    for words in ("Table 4", "Collapse of pre-training", "Cost", 'class="missing"', "comparisons"):
        assert words in page
    assert "Table 5" not in page


def test_a_study_without_runs_still_has_a_page(tmp_path: Path) -> None:
    empty = Context(fake_study.part(tasks=TASKS), tmp_path, {})
    empty.make("tables", "figures")
    page = checked(tmp_path / "report/index.html")
    for words in ("0 of", "missing", "missing: no pair of methods has run."):
        assert words in page
    cases = checked(tmp_path / "report/cases.html")
    assert cases.count("missing: no run has scores of single cases") == len(TASKS)


@pytest.mark.slow
def test_collapsed_encoders_and_undefined_scores_are_warned_of(tmp_path: Path) -> None:
    context = fake_study.quiet(tmp_path, "ricord", methods=("simclr", "ours"), seeds=(0,))
    scores = context.inputs["finetune/ricord/ours/s0"] / "scores.csv"
    scores.write_text("case,subject,label,metric,value\n,,,auc,nan\n,,,accuracy,0.5\n")
    context.make("tables", "figures")
    page = checked(context.out / "report/index.html")
    assert "2 warnings" in page
    assert "<li>collapsed: SimCLR</li>" in page
    assert "<li>a score of run finetune/ricord/ours/s0 is undefined</li>" in page


def test_figure_files_are_the_same_bytes(tmp_path: Path) -> None:
    geometry = Geometry(2, (2, 2, 2), (0, 2, 4, 6, 1, 3, 5, 7))
    example = Example("spatial", fake_study.phantom_volume(0, (8, 8, 8)), "a")
    for name in ("a.png", "b.png"):
        with styled():
            save(figure1([example], geometry, 3), tmp_path / name, 60)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.usefixtures("sampler")
@pytest.mark.parametrize("absent", [(), ("semantic",), ("spatial", "contrast", "semantic")])
def test_kinds_without_a_source_are_left_out_of_figure_1(
    absent: tuple[str, ...], tmp_path: Path
) -> None:
    context = study_of(tmp_path, tasks=(), methods=("ours",), steps=20)
    folder = context.inputs["sequences/all"]
    folder.mkdir()
    (folder / "left_out.json").write_text(json.dumps({"kinds": absent, "sources": []}))
    with styled():
        drawn = first_figure(context.config, context.inputs)
    assert drawn is not None
    axes = drawn.subfigs[0].axes
    shown = {line.get_ylabel().splitlines()[0] for line in axes if line.get_ylabel()}
    assert shown == {"Spatial", "Contrast", "Semantic"} - {kind.capitalize() for kind in absent}
    # A patch is two tokens thick; its middle slice is in the second, whose number follows.
    assert [text.get_text() for text in axes[0].texts][:1] == (["missing"] if not shown else ["2"])


def test_visibility_is_the_mask_of_the_model() -> None:
    attention = pytest.importorskip("voxseq.models.attention")
    import torch

    for prefix in (0, 1, 5, 7):
        expected = attention.prefix_mask(torch.tensor([prefix]), 8)[0, 0].numpy()
        assert np.array_equal(visibility(prefix, 8) > 0, expected)


def test_token_numbers_follow_the_order() -> None:
    geometry = Geometry(2, (1, 2, 2), (0, 2, 1, 3))
    assert geometry.numbers.tolist() == [[[1, 3], [2, 4]]]
    example = Example("spatial", np.zeros((4, 4, 4), np.float32), "a")
    for bad, reason in (
        (Geometry(2, (1, 2, 2), (0, 0, 1, 3)), "permutation"),
        (Geometry(2, (3, 2, 2), tuple(range(12))), "multiple"),
    ):
        with pytest.raises(ValueError, match=reason), styled():
            figure1([example], bad, 1)


@pytest.mark.slow
def test_figures_with_every_method(tmp_path: Path) -> None:
    every = fake_study.demo().methods
    context = study_of(tmp_path, methods=every, ablation=(), missing=("dino",), steps=40)
    study, means, palette = context.config, means_of(context), Palette(every)
    methods, slices = study.methods_of("segmentation"), collect_slices(study, context.inputs)
    frames = (f(study, context.inputs) for f in (pretraining_curves, validation_curves))
    with styled():
        drawn = figure2(study, slices)
        ratios = label_ratio_figure(study, label_ratio_curve(study, means), palette)
        curves = curves_page(study, *frames, palette)
        heat = heatmap_figure(study, means, read_differences({}))
    assert drawn is not None
    assert heat is not None
    assert len(drawn.axes) == 2 * (2 + len(methods))
    headings = {text.replace("\n", " ") for text in _texts(drawn)}
    assert {title_of(method) for method in methods} <= headings
    absent = [m for m in methods if ("la", m) not in slices]
    assert absent == ["dino"]
    assert _texts(drawn).count("missing") == 2 * len(absent)
    assert ratios is not None
    first = ratios.axes[0]
    assert first.get_title() == "LA"
    shown = [text.get_text() for text in first.get_legend().get_texts()]
    ours, scratch, best, others = shown
    assert (ours, scratch, others) == (
        "AR (autoregressive)",
        "UNETR (random initialisation)",
        "the others",
    )
    assert best.endswith("(best of the others)")
    greys = [line for line in first.lines if line.get_color() == "#BBBBBB"]
    # Three are in colour, and DINO has not run.
    assert len(greys) == len(methods) - 4
    assert curves is not None
    # What has not run has no panel.
    titles = [axes.get_title() for axes in curves.subfigs[0].axes if axes.get_visible()]
    assert "missing" not in _texts(curves)
    assert (study.title_of("dino") in titles, study.title_of("simclr") in titles) == (False, True)


@pytest.mark.parametrize(("seeds", "label"), [(1, "mean over"), (2, "mean ± sd over")])
def test_the_label_ratio_curve_names_a_spread_only_where_it_has_one(
    seeds: int, label: str, tmp_path: Path
) -> None:
    context = fake_study.quiet(
        tmp_path, "la", seeds=range(seeds), ratios=("la",), methods=("unetr", "ours")
    )
    study = context.config
    with styled():
        drawn = label_ratio_figure(
            study, label_ratio_curve(study, means_of(context)), Palette(study.methods)
        )
    assert drawn is not None
    assert drawn.axes[0].get_ylabel() == f"test Dice (%), {label} seeds"


def _texts(figure: Figure) -> list[str]:
    parts = [*figure.axes, *(axes for part in figure.subfigs for axes in part.axes)]
    return [t for axes in parts for t in (axes.get_title(), *(x.get_text() for x in axes.texts))]


def test_heat_map_holds_the_means_in_units_of_their_intervals(tmp_path: Path) -> None:
    context = study_of(tmp_path, missing=("la/unetr",), ablation=(), seeds=range(5))
    study = context.config
    values = heat_values(study, means_of(context))
    assert values.columns.tolist() == ["task06_lung", "la", "ricord"]
    assert values.isna().to_numpy().tolist() == [
        [False, True, True],
        [True, True, False],
        [False, False, False],
    ]
    means = means_of(context)
    rows = means[(means["task"] == "la") & (means["method"] == "ours") & (means["ratio"] == 1.0)]
    assert values.loc["ours", "la"] == pytest.approx(100 * rows["value"].mean())
    found = units(
        study, compare_rows(row_scores(study, collect(study, context.inputs), context.inputs))
    )
    assert found.loc["unetr", "task06_lung"] < -1
    # The reference itself and what has not run are not compared.
    assert found.isna().to_numpy().tolist() == [
        [False, True, True],
        [True, True, False],
        [True, True, True],
    ]


@pytest.mark.parametrize(
    ("metric", "low", "high", "expected"),
    [
        ("dice", 0.02, 0.06, -2.0),
        ("dice", -0.03, -0.01, 2.0),
        ("dice", -0.01, 0.02, 0.0),
        ("dice", 0.0, 0.02, 0.0),
        ("dice", np.nan, np.nan, np.nan),
        ("mae", 1.0, 3.0, 2.0),
    ],
)
def test_a_difference_is_counted_in_half_widths(
    metric: str, low: float, high: float, expected: float
) -> None:
    study = own(("mask", "age"), ("unetr", "resnet", "ours"), seeds=(0,))
    task, table, other = {"dice": ("mask", 1, "unetr"), "mae": ("age", 6, "resnet")}[metric]
    row = ("finetune", 1.0, "", metric, task, table, other, (low + high) / 2, low, high)
    names = ("stage", "ratio", "variant", "metric", "task", "table", "other", "difference")
    frame = pd.DataFrame([row], columns=[*names, "low", "high"])
    assert units(study, frame).loc[other, task] == pytest.approx(expected, nan_ok=True)


def test_twenty_series_can_be_told_apart() -> None:
    names = [f"m{i}" for i in range(20)]
    palette = Palette([*names, "ours"])
    lines = {name: palette.line(name) for name in (*names, "ours")}
    assert len({(x["color"], str(x["linestyle"])) for x in lines.values()}) == 21
    assert len({lines[n]["color"] for n in names[:10]}) == 10
    assert all(lines["ours"]["linewidth"] > lines[n]["linewidth"] for n in names)
    assert all(palette.order("ours") > palette.order(n) for n in names)
    assert palette.colour("ours") == Palette(["ours"]).colour("ours")


@pytest.mark.slow
@pytest.mark.usefixtures("sampler")
@pytest.mark.parametrize(
    "shape",
    [
        {"tasks": ("la",), "methods": ("unetr",)},
        {"tasks": ("ricord",), "methods": ("vit", "ours"), "seeds": (0,)},
        {"tasks": (), "methods": ("ours",)},
        {"tasks": ("ricord",), "ratios": ("ricord",), "ablation": ("ricord",)},
        {"tasks": ("la",), "methods": ("ours",), "beyond": ("la",)},
    ],
    ids=["scratch", "classification", "pre-training", "all but segmentation", "beyond"],
)
def test_a_study_of_any_shape_writes_what_it_declares(
    shape: dict[str, Any], tmp_path: Path
) -> None:
    context = study_of(tmp_path, **{"ratios": (), "ablation": (), "steps": 20, **shape})
    for stage in ("tables", "figures"):
        fresh = Context(context.config, tmp_path / stage, context.inputs)
        fresh.make(stage)
        paths = (path for path in fresh.out.rglob("*") if path.is_file())
        written = {str(path.relative_to(fresh.out)) for path in paths}
        assert written == set(lasting(stage, context.config))
