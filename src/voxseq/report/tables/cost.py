"""What every row of the tables cost: seconds, memory and parameters.

Costs differ from machine to machine and from call to call. They are therefore in no run's results,
which two calls make alike to the byte: they are made from the records of this folder whenever the
tables are published.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from voxseq.base.errors import IntegrityError
from voxseq.base.files import write_text
from voxseq.config.registry import METHODS
from voxseq.report.escape import latex_text, markdown_text
from voxseq.report.render import (
    frame_to_csv,
    latex_caption,
    latex_head,
    markdown_grid,
    markdown_head,
    markdown_notes,
)
from voxseq.report.results import read_record
from voxseq.report.study import REFERENCE, Run, Study, title_of
from voxseq.report.tables.layout import ABLATION_GROUP, PRETRAINED_GROUP, SCRATCH_GROUP

if TYPE_CHECKING:
    from voxseq.plan.context import RunContext

FOLDER = "cost"
COST = "cost.json"
#: In place of costs where the trainings were done elsewhere, as in a clone with pulled results.
NOT_RECORDED = "Not available: the trainings were done elsewhere, and their costs are not pulled."
MISSING = "missing"
NOT_APPLICABLE = "–"
HEADER = (
    *("Row", "Pre-training (s)", "Fine-tunings", "Mean of one (s)", "All (s)"),
    *("Peak memory, pre-training (MB)", "Peak memory, fine-tuning (MB)"),
    *("Parameters, encoder", "Parameters, pre-training"),
    *("Parameters, segmentation", "Parameters, classification"),
)
COLUMNS = (
    *("group", "row", "pretraining_seconds", "finetunings", "finetuning_seconds_mean"),
    *("finetuning_seconds_total", "pretraining_peak_memory_mb", "finetuning_peak_memory_mb"),
    *("encoder_parameters", "pretraining_parameters"),
    *("segmentation_parameters", "classification_parameters"),
)
NOTES = (
    "Seconds and memory were measured on the machine that ran the study, with whatever else ran on "
    "it, and differ from call to call. Seconds are those of training, without start and imports.",
    "Peak memory: largest resident memory of the process, maximum over the runs of the row; runs "
    "that shared a process share its peak.",
    "Fine-tunings: runs of the row in Tables 1–3, of its variant in Tables 4 and 5. A dash: the "
    "row has no such part; missing: not run, or not recorded.",
)
Number = float | int | None


@dataclass(frozen=True)
class CostRow:
    """Cost of one row; numbers in the order of ``HEADER``, ``None`` where not recorded.

    Attributes:
        group: heading above the row.
        numbers: name of ``COLUMNS`` → value; a name is absent where the row has no such part.
    """

    group: str
    title: str
    numbers: Mapping[str, Number]

    @property
    def cells(self) -> tuple[str, ...]:
        """The printed cells, one for each word of ``HEADER``."""
        return (self.title, *(_text(self.numbers, name) for name in COLUMNS[2:]))


def execute_costs(context: RunContext) -> None:
    """Write cost/ into ``context.out``: three formats of the table, and a page."""
    from voxseq.report.pages.cost_page import render_costs

    study = Study.from_config(context.config)
    rows = cost_rows(study, context.inputs, context.records)
    folder = context.out / FOLDER
    is_recorded = any((record / COST).is_file() for record in context.records.values())
    write(folder, rows, is_recorded=is_recorded, phantoms=study.phantoms)
    page = render_costs(study, rows if is_recorded else (), context.records)
    write_text(folder / "index.html", page)


def cost_rows(
    study: Study, inputs: Mapping[str, Path], records: Mapping[str, Path]
) -> tuple[CostRow, ...]:
    """One row for every method, every ablation variant and every row of Table 5.

    Args:
        study: what was planned.
        inputs: run id → folder, for summary.json.
        records: run id → folder of its record, for cost.json.
    """
    rows: list[tuple[str, str, str, str, tuple[str, ...]]] = []
    for method in study.methods:
        known = METHODS.get(method)
        scratch = known is not None and not known.is_pretrained
        group = SCRATCH_GROUP if scratch else PRETRAINED_GROUP
        rows.append((group, title_of(method), method, "", ("finetune", "label_ratio")))
    for variant, settings in study.ablation.items():
        rows.append((ABLATION_GROUP, settings.title, REFERENCE, variant, ("ablation",)))
    rows += [(row.group, row.title, *row.series, ("beyond",)) for row in study.beyond]
    return tuple(
        CostRow(group, title, _numbers(study, inputs, records, method, variant, stages))
        for group, title, method, variant, stages in rows
    )


def numbers_of(folders: Mapping[str, Path], run: str, file: str) -> dict[str, float]:
    """The numbers of a run's JSON record; none where it is missing or damaged.

    Costs are made anew at any start of the workflow, and must not keep it from mending that run.
    """
    try:
        record = read_record(folders, run, file)
    except IntegrityError:
        return {}
    return {name: value for name, value in record.items() if isinstance(value, int | float)}


def write(
    folder: Path, rows: Iterable[CostRow], *, is_recorded: bool = True, phantoms: bool = False
) -> None:
    """Write cost.csv, cost.md and cost.tex."""
    rows = tuple(rows)
    table = [
        (row.group, row.title, *(_plain(row.numbers, name) for name in COLUMNS[2:])) for row in rows
    ]
    frame = pd.DataFrame(table, columns=list(COLUMNS), dtype=object)
    write_text(folder / "cost.csv", frame_to_csv(frame, phantoms=phantoms))
    notes = NOTES if is_recorded else (NOT_RECORDED, *NOTES)
    write_text(folder / "cost.md", to_markdown(rows, notes, phantoms=phantoms))
    write_text(folder / "cost.tex", to_latex(rows, notes, phantoms=phantoms))


def to_markdown(
    rows: Sequence[CostRow], notes: Sequence[str] = NOTES, *, phantoms: bool = False
) -> str:
    """One grid a group, with notes."""
    lines = markdown_head("Cost", phantoms=phantoms)
    for group in dict.fromkeys(row.group for row in rows):
        chosen = [row.cells for row in rows if row.group == group]
        lines += [f"### {markdown_text(group)}", "", *markdown_grid(HEADER, chosen), ""]
    return "\n".join([*lines, *markdown_notes(notes)]) + "\n"


def to_latex(
    rows: Sequence[CostRow], notes: Sequence[str] = NOTES, *, phantoms: bool = False
) -> str:
    """A LaTeX table for booktabs and graphicx."""
    lines = [
        *latex_head(phantoms=phantoms),
        "% needs \\usepackage{booktabs} and \\usepackage{graphicx}",
        r"\begin{table}[t]",
        r"  \centering",
        rf"  \caption{{{latex_caption('Cost', phantoms=phantoms)}}}",
        r"  \label{tab:voxseq-cost}",
        r"  \resizebox{\linewidth}{!}{%",
        rf"  \begin{{tabular}}{{l{'r' * (len(HEADER) - 1)}}}",
        r"    \toprule",
        f"    {' & '.join(map(latex_text, HEADER))} \\\\",
    ]
    for group in dict.fromkeys(row.group for row in rows):
        lines += [
            r"    \midrule",
            rf"    \multicolumn{{{len(HEADER)}}}{{l}}{{\textit{{{latex_text(group)}}}}} \\",
        ]
        chosen = [row.cells for row in rows if row.group == group]
        lines += [f"    {' & '.join(map(latex_text, cells))} \\\\" for cells in chosen]
    lines += [r"    \bottomrule", r"  \end{tabular}}", r"  \par\smallskip\footnotesize\raggedright"]
    return "\n".join([*lines, *(f"  {latex_text(n)}\\par" for n in notes), r"\end{table}"]) + "\n"


def _numbers(
    study: Study,
    inputs: Mapping[str, Path],
    records: Mapping[str, Path],
    method: str,
    variant: str,
    stages: tuple[str, ...],
) -> dict[str, Number]:
    """The parts of a row: its own pre-training, if it has one, and its fine-tunings."""
    numbers: dict[str, Number] = {}
    for pretrain in study.pretrain_runs:
        # A variant of the ablation and one of Table 5 may have the same name.
        other = {"ablation", "beyond"} - set(stages)
        if pretrain.id.split("/")[0] in other:
            continue
        if (pretrain.method, pretrain.variant) == (method, variant):
            cost = numbers_of(records, pretrain.id, COST)
            summary = numbers_of(inputs, pretrain.id, "summary.json")
            numbers["pretraining_seconds"] = cost.get("seconds")
            numbers["pretraining_peak_memory_mb"] = cost.get("peak_memory_mb")
            numbers["pretraining_parameters"] = summary.get("parameters")
            numbers["encoder_parameters"] = summary.get("encoder_parameters")
    runs = [
        run
        for run in study.runs
        if (run.method, run.variant) == (method, variant) and run.stage in stages
    ]
    if runs:
        numbers |= _finetuning(study, inputs, records, runs)
    return numbers


def _finetuning(
    study: Study, inputs: Mapping[str, Path], records: Mapping[str, Path], runs: Sequence[Run]
) -> dict[str, Number]:
    costs = [cost for run in runs if (cost := numbers_of(records, run.id, COST))]
    seconds = [float(cost["seconds"]) for cost in costs if "seconds" in cost]
    memory = [float(cost["peak_memory_mb"]) for cost in costs if "peak_memory_mb" in cost]
    numbers: dict[str, Number] = {
        "finetunings": len(costs),
        "finetuning_seconds_mean": sum(seconds) / len(seconds) if seconds else None,
        "finetuning_seconds_total": sum(seconds) if seconds else None,
        "finetuning_peak_memory_mb": max(memory, default=None),
    }
    for kind in ("segmentation", "classification"):
        chosen = [run for run in runs if study.tasks[run.task].type == kind]
        if chosen:
            summaries = (numbers_of(inputs, run.id, "summary.json") for run in chosen)
            first: Mapping[str, Any] = next((s for s in summaries if s), {})
            numbers[f"{kind}_parameters"] = first.get("parameters")
            if "encoder_parameters" in first:
                numbers["encoder_parameters"] = first["encoder_parameters"]
    return numbers


def _text(numbers: Mapping[str, Number], name: str) -> str:
    if name not in numbers:
        return NOT_APPLICABLE
    value = numbers[name]
    if value is None:
        return MISSING
    return f"{value:.1f}" if name.endswith(("seconds", "mean", "total")) else f"{value:,.0f}"


def _plain(numbers: Mapping[str, Number], name: str) -> float | int | str:
    value = numbers.get(name)
    if value is None:
        return MISSING if name in numbers else "n/a"
    return value
