"""Stage "figures": Figures 1 and 2, training curves, the label-ratio curve, and the report page."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from matplotlib.figure import Figure

from voxseq.config.data import SequencesConfig
from voxseq.config.model import EncoderConfig
from voxseq.files import write_text
from voxseq.report import curves, statistics
from voxseq.report.collect import collect, run_means
from voxseq.report.curve_figures import curves_page, label_ratio_figure
from voxseq.report.figure1 import Example, Geometry, figure1
from voxseq.report.figure2 import collect_slices, figure2
from voxseq.report.page import Picture, facts_of, render_page
from voxseq.report.study import Study
from voxseq.report.style import Look, save, styled
from voxseq.report.tables import all_tables, source_of

if TYPE_CHECKING:
    from voxseq.runs import RunContext

_LOG = logging.getLogger("voxseq.report.figures")
SEQUENCES_RUN = "sequences/all"
SOURCE_PREFIX = "preprocess/source/"
TokenOrder = Literal["patch_major", "raster"]
_KINDS = ("spatial", "contrast", "semantic")


@dataclass(frozen=True)
class _Plan:
    """A figure to be drawn: file stem, caption, and the figure, None where it has no data."""

    stem: str
    title: str
    caption: str
    figure: Figure | None


def execute_figures(context: RunContext) -> None:
    """Write figures/*.png and report/index.html into ``context.out``."""
    study = Study.from_config(context.config)
    scores = collect(context)
    means = run_means(scores)
    pictures = []
    with styled():
        for plan in _plans(context, study, means):
            if plan.figure is None:
                _LOG.warning("%s is left out: the study has nothing to show in it", plan.title)
                continue
            path = context.out / "figures" / f"{plan.stem}.png"
            save(plan.figure, path, study.settings.dpi)
            pictures.append(Picture(plan.title, plan.caption, path.read_bytes()))
    source = source_of(context, scores, study)
    page = render_page(
        study=study,
        facts=facts_of(study, scores, context.inputs),
        tables=all_tables(source),
        differences=statistics.differences(study, scores, context.inputs),
        pictures=pictures,
    )
    write_text(context.out / "report" / "index.html", page)


def _plans(context: RunContext, study: Study, means: Any) -> list[_Plan]:
    look = Look(study.methods)
    pretrain = curves.pretraining_curves(study, context.inputs)
    validation = curves.validation_curves(study, context.inputs)
    return [
        _Plan(
            "figure1",
            "Figure 1. Patch sequences and the prefix-causal mask",
            "Middle slice of each patch of one spatial, one contrast and one semantic sequence of "
            "the study's own data. Numbers give the place of each token in the sequence.",
            _first_figure(context, study),
        ),
        _Plan(
            "figure2",
            "Figure 2. Segmentations of one test case of each task",
            "Overlays: ground truth and the prediction of each method (first seed that has run), "
            "on the same slice.",
            figure2(study, collect_slices(study, context.inputs)),
        ),
        _Plan(
            "label_ratio",
            "Label-ratio curve",
            "Test score against the share of the training labels; mean and sd over seeds. Points "
            "are shifted sideways a little to keep the bars apart.",
            label_ratio_figure(study, curves.label_ratio_curve(study, means), look),
        ),
        *(
            _Plan(
                stem,
                title,
                "Losses of every pre-training of this stage, and the validation score of every "
                "fine-tuning over its steps.",
                curves_page(study, pretrain, validation, look, stage=stage),
            )
            for stem, title, stage in (
                ("curves", "Training curves", "finetune"),
                ("curves_label_ratio", "Training curves with fewer labels", "label_ratio"),
                ("curves_ablation", "Training curves of the ablation", "ablation"),
            )
        ),
    ]


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
