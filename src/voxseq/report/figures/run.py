"""Stage "figures": Figures 1 and 2, heat map, curves, reliability plot, and the two pages."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from matplotlib.figure import Figure

from voxseq.base.files import write_text
from voxseq.config.data import SequencesConfig
from voxseq.config.model import EncoderConfig
from voxseq.plan.outputs import CASES_PAGE, INDEX_PAGE
from voxseq.report.figures import reliability
from voxseq.report.figures.curve_figures import curves_page, label_ratio_figure
from voxseq.report.figures.figure1 import Example, Geometry, figure1
from voxseq.report.figures.figure2 import collect_slices, figure2
from voxseq.report.figures.heatmap import heatmap_figure
from voxseq.report.figures.style import Look, save, small_png, styled
from voxseq.report.figures.worst_figure import worst_figure
from voxseq.report.pages.cases_page import render_cases
from voxseq.report.pages.markup import Picture
from voxseq.report.pages.page import Content, facts_of, render_page
from voxseq.report.render import frame_to_csv
from voxseq.report.results import collect
from voxseq.report.study import Study
from voxseq.report.tables.collapse import collapse_rows
from voxseq.report.tables.curves import label_ratio_curve, pretraining_curves, validation_curves
from voxseq.report.tables.run import all_tables
from voxseq.report.tables.source import source_of
from voxseq.report.tables.worst_cases import case_scores, collect_worst, short_names

if TYPE_CHECKING:
    import pandas as pd

    from voxseq.plan.context import RunContext

_LOG = logging.getLogger("voxseq.report.figures.run")
SEQUENCES_RUN = "sequences/all"
SOURCE_PREFIX = "preprocess/source/"
TokenOrder = Literal["patch_major", "raster"]
#: Resolution of the pictures of the cases page, which has one for each task.
_PAGE_DPI = 90
_KINDS = ("spatial", "contrast", "semantic")


@dataclass(frozen=True)
class _Plan:
    """A figure to be drawn: file stem, caption, and the function that draws it."""

    stem: str
    title: str
    caption: str
    draw: Callable[[], Figure | None]

    @property
    def name(self) -> str:
        """Its path in the results folder."""
        return f"figures/{self.stem}.png"


def execute_figures(context: RunContext) -> None:
    """Write the figures and pages that the study has into ``context.out``."""
    study = Study.from_config(context.config)
    scores = collect(context)
    source = source_of(context, scores, study)
    found = reliability.calibrations(study, context.inputs)
    pictures = []
    with styled():
        for plan in _plans(context, study, source.means, found):
            figure = plan.draw() if study.publishes(plan.name) else None
            if figure is None:
                _LOG.info("%s is left out: the study has nothing to show in it", plan.title)
                continue
            path = context.out / plan.name
            save(figure, path, study.settings.dpi, phantoms=study.phantoms)
            pictures.append(Picture(plan.title, plan.caption, path.read_bytes()))
    if study.publishes("figures/calibration.csv"):
        _write_calibration(context.out / "figures", study, found)
    content = Content(
        study=study,
        facts=facts_of(study, scores, context.inputs),
        tables=all_tables(source),
        differences=source.differences if study.publishes("tables/differences.csv") else None,
        collapse=collapse_rows(study, context.inputs),
        pictures=pictures,
        has_cases=study.publishes(CASES_PAGE),
    )
    write_text(context.out / INDEX_PAGE, render_page(content))
    if not study.publishes(CASES_PAGE):
        return
    cases = case_scores(study, scores, context.inputs)
    page = render_cases(study, cases, _worst_pictures(study, context.inputs, cases))
    write_text(context.out / CASES_PAGE, page)


def _plans(
    context: RunContext,
    study: Study,
    means: pd.DataFrame,
    found: Mapping[tuple[str, str], reliability.Calibration],
) -> Iterator[_Plan]:
    """The figures in the order of the page, each drawn when it is asked for."""
    look = Look(study.methods)
    yield _Plan(
        "figure1",
        "Figure 1. Patch sequences and the prefix-causal mask",
        "Middle slice of each patch of one spatial, one contrast and one semantic sequence of "
        "the study's own data. Numbers give the place of each token in the sequence.",
        lambda: _first_figure(context, study),
    )
    yield _Plan(
        "figure2",
        "Figure 2. Segmentations of one test case of each task",
        "The ground truth and the prediction of each method (first seed that has run) on the same "
        "slice; the part around the ground truth is shown.",
        lambda: figure2(study, collect_slices(study, context.inputs)),
    )
    yield _Plan(
        "heatmap",
        "Heat map of all methods and tasks",
        "Mean over seeds: Dice in % of the segmentations, AUC of the classifications. Colours run "
        "from the worst to the best of each task and cannot be compared between tasks.",
        lambda: heatmap_figure(study, means),
    )
    yield _Plan(
        "label_ratio",
        "Label-ratio curve",
        "Test score against the share of the training labels; mean and sd over seeds. Points "
        "are shifted sideways a little to keep the bars apart.",
        lambda: label_ratio_figure(study, label_ratio_curve(study, means), look),
    )
    yield _Plan(
        "reliability",
        "Reliability of the classifications",
        f"Test predictions of all seeds together in {reliability.BINS} bins of equal width: share "
        "of positive cases against mean probability; on the dashed line the two agree. Larger "
        "points and bars: more predictions. ECE: mean gap between the two, weighted by the number "
        "of predictions. Brier: mean squared difference of probability and outcome. Both are "
        "better when smaller; calibration.csv has them beside the Brier score of the base rate.",
        lambda: reliability.reliability_figure(study, found, look),
    )
    pretrain = pretraining_curves(study, context.inputs)
    validation = validation_curves(study, context.inputs)
    for stem, title, stage in (
        ("curves", "Training curves", "finetune"),
        ("curves_label_ratio", "Training curves with fewer labels", "label_ratio"),
        ("curves_ablation", "Training curves of the ablation", "ablation"),
        ("curves_beyond", "Training curves beyond the paper", "beyond"),
    ):
        yield _Plan(
            stem,
            title,
            "Losses of every pre-training of this stage, and the validation score of every "
            "fine-tuning over its steps.",
            partial(curves_page, study, pretrain, validation, look, stage=stage),
        )


def _write_calibration(
    folder: Path, study: Study, found: Mapping[tuple[str, str], reliability.Calibration]
) -> None:
    """Write the numbers behind the reliability plot."""
    summary = reliability.summary_frame(study, found)
    bins = reliability.bin_frame(study, found)
    for name, frame in (("calibration", summary), ("calibration_bins", bins)):
        write_text(folder / f"{name}.csv", frame_to_csv(frame, phantoms=study.phantoms))


def _worst_pictures(
    study: Study, inputs: Mapping[str, Path], cases: pd.DataFrame
) -> dict[str, bytes]:
    """Task → PNG of the worst case of each method."""
    worst = collect_worst(study, inputs)
    pictures = {}
    with styled():
        for task in study.tasks.values():
            names = short_names(cases.loc[cases["task"] == task.name, "case"].unique())
            figure = worst_figure(task, study.methods_of(task.type), worst, names)
            if figure is not None:
                dpi = min(study.settings.dpi, _PAGE_DPI)
                pictures[task.name] = small_png(figure, dpi, phantoms=study.phantoms)
    return pictures


def _first_figure(context: RunContext, study: Study) -> Figure | None:
    """Figure 1 from the study's own sequences; None where the study has no sequences."""
    folder = context.inputs.get(SEQUENCES_RUN)
    settings = _sequences(context.config)
    encoder = context.config.get("encoder")
    if folder is None or settings is None or encoder is None:
        return None
    from voxseq.sequences.sampler import example

    stores = source_folders(context.inputs)
    used = {source.kind for source in settings.sources}
    examples = []
    for kind in (kind for kind in _KINDS if kind in used):
        volume, caption = example(folder, stores, settings, kind, study.settings.figure_seed)
        examples.append(Example(kind, volume, caption))
    if not examples:
        return None
    order: TokenOrder = context.config.get("token_order", "patch_major")
    geometry = geometry_of(settings, EncoderConfig.model_validate(encoder), order)
    return figure1(examples, geometry, prefix=3 * len(geometry.order) // 8)


def source_folders(inputs: Mapping[str, Path]) -> dict[str, Path]:
    """Source name → its volume store, from the runs that the stage depends on."""
    return {
        run.removeprefix(SOURCE_PREFIX): Path(folder)
        for run, folder in inputs.items()
        if run.startswith(SOURCE_PREFIX)
    }


def geometry_of(sequences: SequencesConfig, encoder: EncoderConfig, order: TokenOrder) -> Geometry:
    """Token grid and order of a study's sequences."""
    from voxseq.models.patches import token_order

    x, y, z = (s // p for s, p in zip(sequences.volume_shape, encoder.patch_size, strict=True))
    permutation = token_order((x, y, z), sequences.length, order)
    return Geometry(sequences.length, (x, y, z), tuple(int(i) for i in permutation))


def _sequences(config: Mapping[str, Any]) -> SequencesConfig | None:
    """The study's sequences; None where it pre-trains nothing."""
    value = config.get("sequences")
    settings = None if value is None else SequencesConfig.model_validate(dict(value))
    return settings if settings is not None and settings.sources else None
