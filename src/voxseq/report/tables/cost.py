"""Cost of every row of the tables: seconds, memory and parameters.

Costs differ from machine to machine and from call to call. They are therefore in no run's results,
which two calls make alike to the byte: they are made from the records of this folder whenever the
tables are published.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from voxseq.base.errors import IntegrityError
from voxseq.base.files import write_text
from voxseq.config.report_run import REFERENCE, ReportRun
from voxseq.report.reading import read_record
from voxseq.report.sheet import NOT_APPLICABLE, Block, Sheet, text_block
from voxseq.report.tables.layout import ABLATION_GROUP, group_of
from voxseq.report.writers import frame_to_csv, notes, to_html, write

if TYPE_CHECKING:
    from voxseq.plan.context import RunContext

#: Number in cost.csv → its header in the other formats.
HEADERS: Mapping[str, str] = {
    "pretraining_seconds": "Pre-training (s)",
    "finetunings": "Fine-tunings",
    "finetuning_seconds_mean": "Mean of one (s)",
    "finetuning_seconds_total": "All (s)",
    "pretraining_peak_memory_mb": "Peak memory, pre-training (MB)",
    "finetuning_peak_memory_mb": "Peak memory, fine-tuning (MB)",
    "encoder_parameters": "Parameters, encoder",
    "pretraining_parameters": "Parameters, pre-training",
    "segmentation_parameters": "Parameters, segmentation",
    "classification_parameters": "Parameters, classification",
    "regression_parameters": "Parameters, regression",
}
#: Where a row has no such part: in a study with tasks of the paper, and in any other.
ABSENT, _NONE = "n/a", "none"
#: Numbers of a run: the first two of its record, the others of its summary.
_NUMBERS = ("seconds", "peak_memory_mb", "parameters", "encoder_parameters")


def execute_costs(context: RunContext[ReportRun]) -> None:
    """Write cost/ into ``context.out``: three formats of the table, and a page."""
    study = context.config
    runs = run_costs(study, context.inputs, context.records)
    frame = cost_frame(study, runs)
    folder = context.out / "cost"
    write_text(folder / "cost.csv", frame_to_csv(frame, phantoms=study.phantoms))
    is_recorded = any((record / "cost.json").is_file() for record in context.records.values())
    sheet = cost_sheet(study, frame, is_recorded=is_recorded)
    write(sheet, folder, ("md", "tex"))
    stages = _stages(study, runs) if is_recorded else None
    write_text(folder / "index.html", to_html("cost.html", study=study, sheet=sheet, stages=stages))


def run_costs(
    study: ReportRun, inputs: Mapping[str, Path], records: Mapping[str, Path]
) -> pd.DataFrame:
    """Costs of every planned run, NaN where they are not recorded.

    Args:
        study: what was planned.
        inputs: run id → folder, for summary.json.
        records: run id → folder of its record, for cost.json.

    Returns:
        Run id as index; stage, method, variant, kind (type of the task, or "pretraining"),
        seconds, peak_memory_mb, parameters, encoder_parameters, and is_recorded.
    """
    planned = [(run, "pretraining") for run in study.pretrain_runs]
    planned += [(run, study.tasks[run.task].type) for run in study.runs]  # type: ignore[misc]
    rows = []
    for run, kind in planned:
        cost, summary = (
            _record(records, run.id, "cost.json"),
            _record(inputs, run.id, "summary.json"),
        )
        numbers = {name: {**summary, **cost}.get(name) for name in _NUMBERS}
        head = {"run": run.id, "stage": run.stage, "method": run.method, "variant": run.variant}
        rows.append({**head, "kind": kind, **numbers, "is_recorded": bool(cost)})
    columns = ["run", "stage", "method", "variant", "kind", *_NUMBERS, "is_recorded"]
    return (
        pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(_NUMBERS, float)).set_index("run")
    )


def cost_frame(study: ReportRun, runs: pd.DataFrame) -> pd.DataFrame:
    """One row for every method, every ablation variant and every row of Table 5.

    Args:
        study: what was planned.
        runs: frame of ``run_costs``.

    Returns:
        Columns group, row and the keys of ``HEADERS``: a number, "missing" where it is not
        recorded, or ``ABSENT`` where the row has no such part. Parameters of regressions are left
        out where there are none. In a study without tasks of the paper every such column is, and
        ``ABSENT`` is the word "none".
    """
    rows = [(group_of(m), study.title_of(m), (m, ""), "finetune") for m in study.methods]
    for variant, settings in study.ablation.items():
        rows.append((ABLATION_GROUP, settings.title, (REFERENCE, variant), "ablation"))
    rows += [(row.group, row.title, row.series, "beyond") for row in study.beyond]
    # Runs of the same row; a variant of the ablation and one of Table 5 may have the same name.
    part = runs["stage"].replace({"pretrain": "finetune", "label_ratio": "finetune"})
    lines = []
    for group, title, (method, variant), stage in rows:
        is_row = (runs["method"] == method) & (runs["variant"] == variant) & (part == stage)
        numbers = _numbers(runs[is_row])
        lines.append((group, title, *(numbers.get(name, ABSENT) for name in HEADERS)))
    frame = pd.DataFrame(lines, columns=["group", "row", *HEADERS], dtype=object)
    needless = ["regression_parameters"] if study.is_papers else [*HEADERS]
    frame = frame.drop(columns=[name for name in needless if (frame[name] == ABSENT).all()])
    return frame if study.is_papers else frame.replace(ABSENT, _NONE)


def cost_sheet(study: ReportRun, frame: pd.DataFrame, *, is_recorded: bool = True) -> Sheet:
    """The costs as one block per group of rows."""
    names = [name for name in HEADERS if name in frame]
    header = ("Row", *(HEADERS[name] for name in names))
    blocks: list[Block] = []
    for group, part in frame.groupby("group", sort=False):
        rows = [
            (row["row"], *(_text(name, row[name]) for name in names))
            for row in part.to_dict("records")
        ]
        blocks.append(text_block(str(group), header, rows))
    lines = notes("notes_cost.txt", is_recorded=is_recorded, papers=study.is_papers)
    return Sheet("cost", "Cost", tuple(blocks), lines, phantoms=study.phantoms)


def _record(folders: Mapping[str, Path], run: str, file: str) -> dict[str, float]:
    """The numbers of a run's JSON record; none where it is missing or damaged.

    Costs are made anew at any start of the workflow, and must not keep it from mending that run.
    """
    try:
        record = read_record(folders, run, file)
    except IntegrityError:
        return {}
    return {name: value for name, value in record.items() if isinstance(value, int | float)}


def _numbers(runs: pd.DataFrame) -> dict[str, Any]:
    """The numbers of a row from its own runs."""
    numbers: dict[str, Any] = {}
    is_pretraining = runs["kind"] == "pretraining"
    trained = runs[is_pretraining]
    if len(trained):
        numbers |= {
            "pretraining_seconds": trained["seconds"].mean(),
            "pretraining_peak_memory_mb": trained["peak_memory_mb"].max(),
            # All seeds have as many weights.
            "pretraining_parameters": trained["parameters"].max(),
            "encoder_parameters": trained["encoder_parameters"].max(),
        }
    tuned = runs[~is_pretraining]
    if len(tuned):
        numbers |= {
            "finetunings": int(tuned["is_recorded"].sum()),
            "finetuning_seconds_mean": tuned["seconds"].mean(),
            "finetuning_seconds_total": tuned["seconds"].sum(min_count=1),
            "finetuning_peak_memory_mb": tuned["peak_memory_mb"].max(),
        }
    for kind, part in tuned.groupby("kind"):
        first = part.bfill().iloc[0]
        numbers[f"{kind}_parameters"] = first["parameters"]
        if pd.notna(first["encoder_parameters"]):
            numbers["encoder_parameters"] = first["encoder_parameters"]
    return {name: "missing" if pd.isna(value) else value for name, value in numbers.items()}


def _stages(study: ReportRun, runs: pd.DataFrame) -> Block:
    """Runs, hours and memory of each stage that trains."""
    header = ("Stage", "Runs recorded", "Hours in total", "Peak memory of a run (MB)")
    rows = []
    for title, ids in study.stages().items():
        chosen = runs.loc[ids].fillna(0.0)
        counted = f"{chosen['is_recorded'].sum()} of {len(ids)}"
        hours, memory = chosen["seconds"].sum() / 3600, chosen["peak_memory_mb"].max()
        rows.append((title, counted, f"{hours:.2f}", f"{memory:.0f}"))
    return text_block("", header, rows)


def _text(name: str, value: float | str) -> str:
    if isinstance(value, str):
        return NOT_APPLICABLE if value in (ABSENT, _NONE) else value
    return f"{value:.1f}" if name.endswith(("seconds", "mean", "total")) else f"{value:,.0f}"
