"""Stage "figures": Figures 1 and 2, what was predicted, heat map, curves, and the two pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.figure import Figure

from voxseq.base.files import write_text
from voxseq.config.report_run import ReportRun
from voxseq.plan.outputs import CASES_PAGE, CURVES, INDEX_PAGE, PLOTS, lasting
from voxseq.report.cases import case_scores, collect_worst
from voxseq.report.figures.confusion import confusion_figure
from voxseq.report.figures.curves import curves_page, label_ratio_figure
from voxseq.report.figures.figure1 import first_figure
from voxseq.report.figures.figure2 import collect_slices, figure2
from voxseq.report.figures.heatmap import heatmap_figure
from voxseq.report.figures.regression import regression_figure
from voxseq.report.figures.reliability import calibrations, reliability_figure
from voxseq.report.figures.strip import make_strip
from voxseq.report.figures.style import Palette, save, styled
from voxseq.report.pages.cases import render_cases
from voxseq.report.pages.index import render_index
from voxseq.report.reading import read_csv
from voxseq.report.results import TABLES_RUN, read_differences, read_means
from voxseq.report.seeds.agree import seeds_of, with_further
from voxseq.report.tables.curves import CURVE_COLUMNS, RATIO_COLUMNS, validation_curves
from voxseq.report.writers import frame_to_csv

if TYPE_CHECKING:
    from voxseq.plan.context import RunContext


def execute_figures(context: RunContext[ReportRun]) -> None:
    """Write the figures and pages that the study has into ``context.out``."""
    study = with_further(context.config, seeds_of(context.config, context.inputs))
    published = lasting("figures", study)
    summary, bins = calibrations(study, context.inputs)
    frames = {"figures/calibration.csv": summary, "figures/calibration_bins.csv": bins}
    for name in (name for name in frames if name in published):
        write_text(context.out / name, frame_to_csv(frames[name], phantoms=study.phantoms))
    pictures = {}
    with styled():
        for stem, draw in _drawings(study, context.inputs, summary, bins).items():
            name = f"figures/{stem}.png"
            figure = draw() if name in published else None
            if figure is not None:
                save(figure, context.out / name, study.report.dpi, phantoms=study.phantoms)
                pictures[stem] = (context.out / name).read_bytes()
    has_cases = CASES_PAGE in published
    page = render_index(study, context.inputs, pictures, has_cases=has_cases)
    write_text(context.out / INDEX_PAGE, page)
    if has_cases:
        worst = collect_worst(study, context.inputs)
        strips = {key: make_strip(item, phantoms=study.phantoms) for key, item in worst.items()}
        page = render_cases(study, case_scores(study, context.inputs), strips)
        write_text(context.out / CASES_PAGE, page)


def _drawings(
    study: ReportRun, inputs: Mapping[str, Path], summary: pd.DataFrame, bins: pd.DataFrame
) -> dict[str, Callable[[], Figure | None]]:
    """File stem of each figure → the function that draws it, in the order of the page."""
    palette, tables = Palette(study.methods), inputs[TABLES_RUN]
    losses = read_csv(tables / PLOTS[0], CURVE_COLUMNS)
    ratios = read_csv(tables / PLOTS[2], RATIO_COLUMNS)
    scores = validation_curves(study, inputs)
    return {
        "figure1": lambda: first_figure(study, inputs),
        "figure2": lambda: figure2(study, collect_slices(study, inputs)),
        "regression": lambda: regression_figure(study, inputs, palette),
        "confusion": lambda: confusion_figure(study, inputs),
        "heatmap": lambda: heatmap_figure(study, read_means(inputs), read_differences(inputs)),
        "label_ratio": lambda: label_ratio_figure(study, ratios, palette),
        "reliability": lambda: reliability_figure(study, summary, bins, palette),
        **{
            stem: partial(curves_page, study, losses, scores, palette, stage=stage)
            for stem, stage in CURVES.items()
        },
    }
