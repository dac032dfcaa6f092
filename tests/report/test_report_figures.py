"""Figures and the report page."""

from __future__ import annotations

import io
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image

from tests.helpers import fake_study
from voxseq.base.errors import IntegrityError
from voxseq.plan.outputs import lasting
from voxseq.report.figures.curve_figures import curves_page, label_ratio_figure
from voxseq.report.figures.figure1 import Example, Geometry, figure1, visibility
from voxseq.report.figures.figure2 import collect_slices, figure2
from voxseq.report.figures.heatmap import HeatColumn, heat_columns, heatmap_figure
from voxseq.report.figures.slices import read_slice, slice_dice, window_of
from voxseq.report.figures.style import Look, new_figure, save, small_png, styled
from voxseq.report.results import collect, run_means
from voxseq.report.run import execute_figures, execute_tables
from voxseq.report.study import Study, title_of
from voxseq.report.tables.curves import (
    label_ratio_curve,
    pretraining_curves,
    thin,
    validation_curves,
)

TASKS = ("task06_lung", "la", "ricord")


@pytest.fixture
def sampler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sequences of a made-up store, in place of those of a real one."""

    def example(
        index: Path, stores: Any, config: Any, kind: str, number: int
    ) -> tuple[np.ndarray, str]:
        seed = ("spatial", "contrast", "semantic").index(kind)
        return fake_study.phantom_volume(seed, config.volume_shape), f"set of {kind}"

    module = ModuleType("voxseq.sequences.sampler")
    module.example = example  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "voxseq.sequences.sampler", module)


def study_of(folder: Path, **options: Any) -> fake_study.Context:
    context = fake_study.build(folder, tasks=TASKS, seeds=(0, 1), **options)
    context.inputs["sequences/all"] = folder / "sequences"
    context.config["report"]["dpi"] = 50
    return context


class _Checker(HTMLParser):
    """Collects what a page would fetch and checks that its tags are balanced."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in {"meta", "img", "br"}:
            self.open.append(tag)
        values = {k: v or "" for k, v in attrs}
        self.fetched += [values[k] for k in ("src", "href") if k in values]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.slow
@pytest.mark.usefixtures("sampler")
def test_execute_writes_all_figures_and_the_page(tmp_path: Path) -> None:
    pytest.importorskip("voxseq.models.patches")
    context = study_of(tmp_path, missing=("task06_lung/ours/r100/s1",))
    before = dict(mpl.rcParams)
    execute_figures(context)  # type: ignore[arg-type]
    assert dict(mpl.rcParams) == before
    names = {p.stem for p in (context.out / "figures").glob("*.png")}
    curves = {"curves", "curves_label_ratio", "curves_ablation"}
    assert names == {"figure1", "figure2", "heatmap", "label_ratio", "reliability", *curves}
    assert (context.out / "figures" / "calibration.csv").read_text().count("\n") == 3
    for path in (context.out / "figures").glob("*.png"):
        with Image.open(path) as image:
            assert min(image.size) > 100
            assert len(image.convert("RGB").getcolors(1 << 24) or []) > 20
            assert "Software" not in image.info
    page, cases = (_checked(context.out / "report" / n) for n in ("index.html", "cases.html"))
    assert len(re.findall("<img ", page)) == 8
    assert len(re.findall("<img ", cases)) == len(TASKS)
    assert "missing run: finetune/task06_lung/ours/r100/s1" in page
    for heading in ("Table 4", "Collapse of pre-training", "Cost"):
        assert heading in page
    assert "Table 5" not in page


def _checked(path: Path) -> str:
    """The page's text; it is well formed, fetches nothing and has no placeholder left."""
    page = path.read_text(encoding="utf-8")
    checker = _Checker()
    checker.feed(page)
    assert not checker.open
    own = ("data:image/png;base64,", "#", "index.html", "cases.html", "../cost/index.html")
    assert all(x.startswith(own) for x in checker.fetched)
    assert "$" not in re.sub(r"base64,[^\"]*", "", page)
    return page


def test_a_study_without_runs_still_has_a_page(tmp_path: Path) -> None:
    context = study_of(tmp_path)
    empty = fake_study.Context(context.config, tmp_path / "empty", {})
    execute_figures(empty)  # type: ignore[arg-type]
    page = (empty.out / "report" / "index.html").read_text(encoding="utf-8")
    assert "0 of" in page
    assert "missing" in page
    cases = _checked(empty.out / "report" / "cases.html")
    assert cases.count("missing: no run has scores of single cases") == len(TASKS)


def test_figure_files_are_the_same_bytes(tmp_path: Path) -> None:
    geometry = Geometry(2, (2, 2, 2), (0, 2, 4, 6, 1, 3, 5, 7))
    example = Example("spatial", fake_study.phantom_volume(0, (8, 8, 8)), "a")
    for name in ("a.png", "b.png"):
        with styled():
            save(figure1([example], geometry, 3), tmp_path / name, 60)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


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
    for bad, prefix, reason in (
        (Geometry(2, (1, 2, 2), (0, 0, 1, 3)), 1, "permutation"),
        (geometry, 4, "prefix"),
        (Geometry(2, (3, 2, 2), tuple(range(12))), 1, "multiple"),
    ):
        with pytest.raises(ValueError, match=reason), styled():
            figure1([example], bad, prefix)


def test_slices(tmp_path: Path) -> None:
    truth = np.array([[0, 1], [2, 2]])
    assert slice_dice(truth, truth) == 1.0
    assert slice_dice(truth, np.array([[0, 1], [2, 0]])) == pytest.approx((1 + 2 / 3) / 2)
    assert slice_dice(np.zeros((2, 2), int), truth) is None
    path = tmp_path / "example.npz"
    np.savez(path, image=np.zeros((2, 3)), truth=truth, prediction=truth)
    with pytest.raises(IntegrityError, match="one shape"):
        read_slice(path)
    path.write_bytes(b"PK")
    with pytest.raises(IntegrityError, match=r"example\.npz"):
        read_slice(path)


def test_curves_are_thinned_and_keep_their_ends(tmp_path: Path) -> None:
    assert thin(3, 10) == [0, 1, 2]
    kept = thin(1000, 7)
    assert len(kept) == 7
    assert (kept[0], kept[-1]) == (0, 999)
    context = study_of(tmp_path)
    study = Study.from_config({**context.config, "report": {"max_curve_points": 4}})
    curves = validation_curves(study, context.inputs)
    assert set(curves.groupby("run").size()) == {4}
    assert set(curves["name"]) == {"dice", "auc"}


def test_label_ratio_curve_has_a_row_for_each_share(tmp_path: Path) -> None:
    context = study_of(tmp_path)
    study = Study.from_config(context.config)
    curve = label_ratio_curve(study, run_means(collect(context)))
    ours = curve[(curve["method"] == "ours") & (curve["metric"] == "dice")]
    assert ours["ratio"].tolist() == [1.0, 0.5, 0.25, 0.1]
    assert (ours["n"] == 2).all()
    assert ours["mean"].between(1, 100).all()


def test_a_method_with_all_labels_only_has_no_label_ratio_curve(tmp_path: Path) -> None:
    context = study_of(tmp_path)
    config = context.config
    config["runs"] = [
        run for run in config["runs"] if run["method"] != "vit" or run["stage"] != "label_ratio"
    ]
    study = Study.from_config(config)
    curve = label_ratio_curve(study, run_means(collect(context)))  # type: ignore[arg-type]
    assert set(curve.loc[curve["task"] == "ricord", "method"]) == {"ours"}


def test_figures_with_every_method(tmp_path: Path) -> None:
    context = study_of(
        tmp_path, methods=fake_study.ALL_METHODS, ablation_tasks=(), missing=("dino",), steps=40
    )
    study = Study.from_config(context.config)
    means = run_means(collect(context))  # type: ignore[arg-type]
    methods = study.methods_of("segmentation")
    slices = collect_slices(study, context.inputs)
    look = Look(study.methods)
    with styled():
        drawn = figure2(study, slices)
        ratios = label_ratio_figure(study, label_ratio_curve(study, means), look)
        curves = curves_page(
            study,
            pretraining_curves(study, context.inputs),
            validation_curves(study, context.inputs),
            look,
        )
        assert heatmap_figure(study, means) is not None
    assert drawn is not None
    assert len(drawn.axes) == 2 * (2 + len(methods))
    assert {title_of(method) for method in methods} <= set(_texts(drawn))
    absent = [m for m in methods if ("la", m) not in slices]
    assert "dino" in absent
    assert _texts(drawn).count("missing") == 2 * len(absent)
    assert ratios is not None
    ran = set(means["method"])
    shown = [text.get_text() for text in ratios.legends[0].get_texts()]
    assert len(shown) == len(set(shown)) == len(ran)
    assert curves is not None
    assert "missing" in _texts(curves)


def _texts(figure: Figure) -> list[str]:
    parts = [*figure.axes, *(axes for part in figure.subfigs for axes in part.axes)]
    return [t for axes in parts for t in (axes.get_title(), *(x.get_text() for x in axes.texts))]


def test_pretraining_curves_stand_on_the_page_of_their_stage(tmp_path: Path) -> None:
    context = study_of(tmp_path, beyond_tasks=("la",), steps=40)
    context.config["pretrain_runs"].append(
        {"id": "beyond/pretrain/raster", "method": "ours", "variant": "raster", "sequences": {}}
    )
    study = Study.from_config(context.config)
    pretrain = pretraining_curves(study, context.inputs)
    validation = validation_curves(study, context.inputs)
    counts = {}
    for stage in ("finetune", "ablation", "beyond", "label_ratio"):
        with styled():
            page = curves_page(study, pretrain, validation, Look(study.methods), stage=stage)
        assert page is not None
        losses = page.subfigs[0] if len(page.subfigs) == 2 else None
        axes = [] if losses is None else [a for a in losses.axes if a.get_visible()]
        counts[stage] = len(axes)
    # The study has one method that is pre-trained and eight variants of it.
    assert counts == {"finetune": 1, "ablation": 8, "beyond": 1, "label_ratio": 0}


def test_heat_map_holds_the_means_and_tells_missing_from_not_applicable(tmp_path: Path) -> None:
    context = study_of(tmp_path, missing=("la/unetr",), ablation_tasks=())
    study = Study.from_config(context.config)
    means = run_means(collect(context))  # type: ignore[arg-type]
    lung, la, ricord = heat_columns(study, means)
    assert (lung.metric, la.metric, ricord.metric) == ("dice", "dice", "auc")
    rows = means[(means["task"] == "la") & (means["method"] == "ours") & (means["ratio"] == 1.0)]
    assert la.values[2] == pytest.approx(100 * rows["value"].mean())
    # Rows: UNETR, ViT, ours.
    assert (la.values[0], la.applies[0]) == (None, True)
    assert (la.values[1], la.applies[1]) == (None, False)
    assert (ricord.values[0], ricord.applies[0]) == (None, False)
    assert ricord.values[1] is not None


def test_heat_map_is_coloured_within_a_column() -> None:
    column = HeatColumn("a", "dice", (60.0, None, 80.0, 65.0), (True,) * 4)
    assert column.shades() == (0.0, None, 1.0, 0.25)
    assert HeatColumn("a", "auc", (0.5, 0.5), (True,) * 2).shades() == (0.5, 0.5)
    assert HeatColumn("a", "auc", (None,), (True,)).shades() == (None,)


@given(
    shape=st.tuples(st.integers(2, 60), st.integers(2, 60)),
    corners=st.tuples(*[st.floats(0, 1)] * 4),
)
def test_a_window_shows_the_mask_and_lies_in_the_image(
    shape: tuple[int, int], corners: tuple[float, ...]
) -> None:
    mask = np.zeros(shape, bool)
    for x, y in (corners[:2], corners[2:]):
        mask[min(int(x * shape[0]), shape[0] - 1), min(int(y * shape[1]), shape[1] - 1)] = True
    window = window_of(mask)
    shown = mask[window]
    assert shown.sum() == mask.sum()
    box = max(int(np.ptp(index)) + 1 for index in np.nonzero(mask))
    if box <= min(shape):
        assert shown.shape[0] == shown.shape[1]
        assert shown.shape[0] >= min(*shape, max(2 * box, 32))


def test_the_window_of_an_empty_mask_is_the_image() -> None:
    assert np.zeros((3, 5))[window_of(np.zeros((3, 5), bool))].shape == (3, 5)


def test_pictures_inside_a_page_are_small_and_the_same_bytes() -> None:
    def drawn() -> bytes:
        with styled():
            figure = new_figure(2, 2)
            figure.subplots().imshow(np.linspace(0, 1, 4096).reshape(64, 64), cmap="viridis")
            return small_png(figure, 60)

    first = drawn()
    assert first == drawn()
    with Image.open(io.BytesIO(first)) as image:
        assert image.mode == "P"
        assert image.size == (120, 120)


def test_twenty_series_can_be_told_apart() -> None:
    names = [f"m{i}" for i in range(20)]
    look = Look([*names, "ours"])
    seen = {(look.colour(n), str(look.dashes(n))) for n in [*names, "ours"]}
    assert len(seen) == 21
    assert len({look.colour(n) for n in names[:10]}) == 10
    assert all(look.width("ours") > look.width(n) for n in names)
    assert all(look.order("ours") > look.order(n) for n in names)


def test_ours_always_has_its_own_colour() -> None:
    look = Look(["unetr", "ours", "vit"])
    assert look.colour("ours") == Look(["ours"]).colour("ours")
    assert len({look.colour(name) for name in ("unetr", "ours", "vit")}) == 3


@pytest.mark.slow
@pytest.mark.usefixtures("sampler")
@pytest.mark.parametrize(
    "shape",
    [
        {"tasks": ("la",), "methods": ("unetr",)},
        {"tasks": ("ricord",), "methods": ("vit", "ours"), "seeds": (0,)},
        {"tasks": (), "methods": ("ours",)},
        {"tasks": ("ricord",), "ratio_tasks": ("ricord",), "ablation_tasks": ("ricord",)},
        {"tasks": ("la",), "methods": ("ours",), "beyond_tasks": ("la",)},
    ],
    ids=["scratch", "classification", "pre-training", "all but segmentation", "beyond"],
)
def test_a_study_of_any_shape_writes_what_it_declares(
    shape: dict[str, Any], tmp_path: Path
) -> None:
    without: dict[str, Any] = {"ratio_tasks": (), "ablation_tasks": (), "steps": 20}
    context = fake_study.build(tmp_path, **{**without, **shape})
    context.inputs["sequences/all"] = tmp_path / "sequences"
    context.config["report"]["dpi"] = 50
    for execute, stage in ((execute_tables, "tables"), (execute_figures, "figures")):
        fresh = fake_study.Context(context.config, tmp_path / stage, context.inputs)
        execute(fresh)  # type: ignore[arg-type]
        paths = (path for path in fresh.out.rglob("*") if path.is_file())
        written = {str(path.relative_to(fresh.out)) for path in paths}
        assert written == set(lasting(stage, context.config))
