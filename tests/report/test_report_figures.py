"""Figures and the report page."""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import fake_study
import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from voxseq.errors import IntegrityError
from voxseq.report.collect import collect, run_means
from voxseq.report.curves import label_ratio_curve, thin, validation_curves
from voxseq.report.figure1 import Example, Geometry, figure1, visibility
from voxseq.report.figure2 import read_slice, slice_dice
from voxseq.report.run import execute_figures
from voxseq.report.study import Study
from voxseq.report.style import Look, save, styled

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
    assert names == {"figure1", "figure2", "label_ratio", *curves}
    for path in (context.out / "figures").glob("*.png"):
        with Image.open(path) as image:
            assert min(image.size) > 100
            assert len(image.convert("RGB").getcolors(1 << 24) or []) > 20
            assert "Software" not in image.info
    page = (context.out / "report" / "index.html").read_text(encoding="utf-8")
    checker = _Checker()
    checker.feed(page)
    assert not checker.open
    assert all(x.startswith(("data:image/png;base64,", "#")) for x in checker.fetched)
    assert len(re.findall("<img ", page)) == 6
    assert "missing run: finetune/task06_lung/ours/r100/s1" in page
    assert "$" not in re.sub(r"base64,[^\"]*", "", page)


def test_a_study_without_runs_still_has_a_page(tmp_path: Path) -> None:
    context = study_of(tmp_path)
    empty = fake_study.Context(context.config, tmp_path / "empty", {})
    execute_figures(empty)  # type: ignore[arg-type]
    page = (empty.out / "report" / "index.html").read_text(encoding="utf-8")
    assert "0 of" in page
    assert "missing" in page


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


def test_ours_always_has_its_own_colour() -> None:
    look = Look(["unetr", "ours", "vit"])
    assert look.colour("ours") == Look(["ours"]).colour("ours")
    assert len({look.colour(name) for name in ("unetr", "ours", "vit")}) == 3
