"""No text of a figure lies on another one or is cut off, whatever the shape of the study."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from tests.helpers import fake_study
from tests.helpers.fake_study import Context
from voxseq.report.figures.curves import curves_page, label_ratio_figure
from voxseq.report.figures.figure1 import Example, Geometry, figure1
from voxseq.report.figures.figure2 import collect_slices, figure2
from voxseq.report.figures.heatmap import heatmap_figure
from voxseq.report.figures.reliability import calibrations, reliability_figure
from voxseq.report.figures.style import Palette, styled
from voxseq.report.results import collect, run_means
from voxseq.report.tables.curves import (
    label_ratio_curve,
    pretraining_curves,
    validation_curves,
)
from voxseq.report.tables.differences import compare_rows
from voxseq.report.tables.rows import row_scores

#: Pixels by which boxes of texts, which are larger than their letters, may overlap.
NEAR = 2.0
EVERY = fake_study.demo().methods


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    return fake_study.build(
        tmp_path_factory.mktemp("study"), tasks=("task07_pancreas", "la", "ricord", "nodule"),
        methods=EVERY, seeds=(0, 1), missing=("la/dino",), beyond=("la", "nodule"), steps=40,
    )  # fmt: skip


def hidden(figure: Figure) -> set[Text]:
    """Labels of ticks outside the limits of their axis, which are not drawn."""
    found: set[Text] = set()
    for axes in figure.findobj(Axes):
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            outside = (t for t in axis.get_major_ticks() if not low <= t.get_loc() <= high)
            found |= {label for tick in outside for label in (tick.label1, tick.label2)}
    return found


def boxes(figure: Figure) -> Iterator[tuple[str, Bbox]]:
    """Every text that is drawn, with its place in pixels."""
    figure.canvas.draw()
    for item in set(figure.findobj(Text)) - hidden(figure):
        box = item.get_window_extent()
        if item.get_visible() and item.get_text().strip() and box.width:
            yield item.get_text(), box


def overlaps(figure: Figure) -> list[tuple[str, str]]:
    found = []
    for (a, first), (b, second) in combinations(boxes(figure), 2):
        shared = Bbox.intersection(first, second)
        if shared is not None and min(shared.width, shared.height) > NEAR:
            found.append((a, b))
    return found


def cut_off(figure: Figure) -> list[str]:
    page = figure.bbox.padded(NEAR)
    return [
        text
        for text, box in boxes(figure)
        if not all(page.contains(*corner) for corner in box.corners())
    ]


def drawn(name: str, context: Context) -> Figure | None:
    study, inputs, palette = context.config, context.inputs, Palette(context.config.methods)
    scores = collect(study, inputs)
    means = run_means(scores)
    match name:
        case "heatmap":
            return heatmap_figure(study, means, compare_rows(row_scores(study, scores, inputs)))
        case "label_ratio":
            return label_ratio_figure(study, label_ratio_curve(study, means), palette)
        case "reliability":
            return reliability_figure(study, *calibrations(study, inputs), palette)
        case "figure2":
            return figure2(study, collect_slices(study, inputs))
    frames = [f(study, inputs) for f in (pretraining_curves, validation_curves)]
    return curves_page(study, *frames, palette, stage=name)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["heatmap", "label_ratio", "reliability", "figure2", "finetune", "beyond", "ablation"]
)
def test_texts_of_a_figure_stay_apart(name: str, context: Context) -> None:
    with styled():
        figure = drawn(name, context)
        assert figure is not None
        assert len(list(boxes(figure))) > 10
        assert overlaps(figure) == []
        assert cut_off(figure) == []


@pytest.mark.parametrize("kinds", [("spatial",), ("spatial", "semantic"), ()])
@pytest.mark.parametrize("length", [1, 4])
def test_texts_of_figure_1_stay_apart(kinds: tuple[str, ...], length: int) -> None:
    volume = np.zeros((16, 16, 4 * length), np.float32)
    examples = [Example(kind, volume, "A data set of thirty letters") for kind in kinds]
    geometry = Geometry(length, (2, 2, length), tuple(range(4 * length)))
    with styled():
        figure = figure1(examples, geometry, 3 * 4 * length // 8)
        assert overlaps(figure) == []
        assert cut_off(figure) == []
