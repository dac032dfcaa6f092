"""The report page: one self-contained HTML file with all tables and figures."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from voxseq.report import statistics
from voxseq.report.collect import missing_runs, read_record, run_file
from voxseq.report.render import to_html
from voxseq.report.study import Study

if TYPE_CHECKING:
    import pandas as pd

    from voxseq.report.tables import Table

_STAGES = {
    "pretrain": "Pre-training",
    "finetune": "Fine-tuning",
    "label_ratio": "Fewer labels",
    "ablation": "Ablation",
}
_SHOWN_WARNINGS = 20


@dataclass(frozen=True)
class Picture:
    """One figure as PNG bytes."""

    title: str
    caption: str
    png: bytes


@dataclass(frozen=True)
class StageFacts:
    """Runs and cost of one stage; seconds and memory are sums and maxima over finished runs."""

    title: str
    finished: int
    planned: int
    seconds: float
    peak_memory_mb: float


@dataclass(frozen=True)
class Facts:
    """What the page says about the study besides its scores.

    Attributes:
        sizes: task title → cases for training (all labels), validation and test; None: not known.
        warnings: what a reader must know, such as missing runs.
    """

    stages: tuple[StageFacts, ...]
    sizes: Mapping[str, tuple[int | None, int | None, int | None]]
    warnings: tuple[str, ...]


def facts_of(study: Study, scores: pd.DataFrame, inputs: Mapping[str, Path]) -> Facts:
    """Gather runs, costs, sizes and warnings from the records of the runs."""
    missing = {run.id for run in missing_runs(study, scores)}
    absent = [
        run.id for run in study.pretrain_runs if run_file(inputs, run.id, "summary.json") is None
    ]
    planned = {"pretrain": [run.id for run in study.pretrain_runs]}
    for run in study.runs:
        planned.setdefault(run.stage, []).append(run.id)
    gone = missing | set(absent)
    stages = tuple(
        _stage(_STAGES.get(stage, stage), ids, gone, inputs)
        for stage, ids in planned.items()
        if ids
    )
    undefined = scores[(scores["value"].isna()) & (scores["metric"] != "dice")]["run"].unique()
    warnings = [f"missing run: {run}" for run in (*absent, *sorted(missing))]
    warnings += [f"a score of run {run} is undefined" for run in undefined]
    return Facts(stages, _sizes(study, inputs), tuple(warnings))


def render_page(
    *,
    study: Study,
    facts: Facts,
    tables: Sequence[Table],
    differences: pd.DataFrame,
    pictures: Sequence[Picture],
) -> str:
    """Fill page.html. Every text is escaped; figures are embedded; nothing is fetched."""
    template = Template(
        resources.files("voxseq.report").joinpath("page.html").read_text(encoding="utf-8")
    )
    links = [(f"table{t.number}", f"Table {t.number}") for t in tables]
    links += [("differences", "Differences")]
    links += [(f"picture{i}", p.title.split(". ")[0]) for i, p in enumerate(pictures, start=1)]
    return template.substitute(
        scale=html.escape(study.scale),
        links=" ".join(f'<a href="#{key}">{html.escape(text)}</a>' for key, text in links),
        warnings=_warnings(facts.warnings),
        stages=_grid(
            ("Stage", "Runs finished", "Hours in total", "Peak memory of a run (MB)"),
            [_stage_row(stage) for stage in facts.stages],
        ),
        sizes=_grid(
            ("Task", "Training", "Validation", "Test"),
            [(title, *map(_count, sizes)) for title, sizes in facts.sizes.items()],
        ),
        seeds=html.escape(", ".join(map(str, study.seeds))),
        tables="\n".join(_table(table) for table in tables),
        differences=_differences(study, differences),
        pictures="\n".join(_picture(i, p) for i, p in enumerate(pictures, start=1)),
    )


def _stage(
    title: str, ids: Sequence[str], gone: set[str], inputs: Mapping[str, Path]
) -> StageFacts:
    costs = [read_record(inputs, run, "cost.json") for run in ids]
    return StageFacts(
        title=title,
        finished=sum(run not in gone for run in ids),
        planned=len(ids),
        seconds=sum(float(cost.get("seconds", 0.0)) for cost in costs),
        peak_memory_mb=max((float(cost.get("peak_memory_mb", 0.0)) for cost in costs), default=0.0),
    )


def _sizes(
    study: Study, inputs: Mapping[str, Path]
) -> dict[str, tuple[int | None, int | None, int | None]]:
    sizes: dict[str, tuple[int | None, int | None, int | None]] = {}
    for task in study.tasks.values():
        records = (
            read_record(inputs, run.id, "summary.json")
            for run in study.runs
            if run.task == task.name and run.ratio == 1.0
        )
        record = next((r for r in records if r), {})
        n_train, n_val, n_test = (record.get(key) for key in ("n_train", "n_val", "n_test"))
        sizes[task.title] = (n_train, n_val, n_test)
    return sizes


def _stage_row(stage: StageFacts) -> tuple[str, ...]:
    return (
        stage.title,
        f"{stage.finished} of {stage.planned}",
        f"{stage.seconds / 3600:.2f}",
        f"{stage.peak_memory_mb:.0f}",
    )


def _warnings(warnings: Sequence[str]) -> str:
    if not warnings:
        return '<p class="good">Every planned run has finished.</p>'
    items = [f"<li>{html.escape(text)}</li>" for text in warnings[:_SHOWN_WARNINGS]]
    if len(warnings) > _SHOWN_WARNINGS:
        items.append(f"<li>and {len(warnings) - _SHOWN_WARNINGS} more</li>")
    return f'<div class="bad"><b>{len(warnings)} warnings</b><ul>{"".join(items)}</ul></div>'


def _grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(text)}</th>" for text in header)
    lines = []
    for row in rows:
        cells = "".join(f"<td>{html.escape(text)}</td>" for text in row[1:])
        lines.append(f"<tr><th>{html.escape(row[0])}</th>{cells}</tr>")
    body = "\n".join(lines)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="wide">{table}</div>'


def _table(table: Table) -> str:
    title = html.escape(f"Table {table.number}. {table.title}")
    return f'<section id="table{table.number}"><h2>{title}</h2>\n{to_html(table)}</section>'


def _differences(study: Study, differences: pd.DataFrame) -> str:
    rows = [statistics.markdown_row(study, row) for row in differences.to_dict("records")]
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in statistics.notes(study))
    body = _grid(statistics.HEADER, rows) if rows else "<p>missing: no pair of methods has run.</p>"
    return f'{body}\n<ul class="notes">{notes}</ul>'


def _picture(number: int, picture: Picture) -> str:
    data = base64.b64encode(picture.png).decode("ascii")
    title = html.escape(picture.title)
    return (
        f'<section id="picture{number}"><h2>{title}</h2>'
        f'<img alt="{title}" src="data:image/png;base64,{data}">'
        f"<p>{html.escape(picture.caption)}</p></section>"
    )


def _count(value: int | None) -> str:
    return "not known" if value is None else str(value)
