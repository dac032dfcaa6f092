"""The report page: all tables and figures in one HTML file; single cases have their own page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxseq.report import collapse, cost, markup, statistics
from voxseq.report.collect import missing_runs, read_record, run_file
from voxseq.report.escape import html_text
from voxseq.report.exclusions import exclusion_html, exclusion_record
from voxseq.report.markup import Picture, Section
from voxseq.report.render import to_html
from voxseq.report.study import Study

if TYPE_CHECKING:
    import pandas as pd

    from voxseq.report.collapse import CollapseRow
    from voxseq.report.cost import CostRow
    from voxseq.report.tables import Table

_STAGES = {
    "pretrain": "Pre-training",
    "finetune": "Fine-tuning",
    "label_ratio": "Fewer labels",
    "ablation": "Ablation",
    "beyond": "Beyond the paper",
}
_SHOWN_WARNINGS = 20
#: File name of the page of single cases, beside this page.
CASES_PAGE = "cases.html"


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
        exclusion: which images pre-training was not shown; see :mod:`voxseq.report.exclusions`.
    """

    stages: tuple[StageFacts, ...]
    sizes: Mapping[str, tuple[int | None, int | None, int | None]]
    warnings: tuple[str, ...]
    exclusion: Mapping[str, Any]


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
    return Facts(stages, _sizes(study, inputs), tuple(warnings), exclusion_record(inputs))


@dataclass(frozen=True)
class Content:
    """What the page shows.

    Attributes:
        differences: frame of ``statistics.differences``.
    """

    study: Study
    facts: Facts
    tables: Sequence[Table]
    differences: pd.DataFrame
    collapse: Sequence[CollapseRow]
    cost: Sequence[CostRow]
    pictures: Sequence[Picture]


def render_page(content: Content) -> str:
    """Fill page.html. Every text is escaped; figures are embedded; nothing is fetched."""
    facts, study = content.facts, content.study
    sections = [
        *(
            Section(f"table{t.number}", f"Table {t.number}", _table_title(t), to_html(t))
            for t in content.tables
        ),
        Section(
            "differences",
            "Differences",
            "Rows against their references",
            _differences(study, content.differences),
        ),
        Section("collapse", "Collapse", "Collapse of pre-training", _collapse(content.collapse)),
        Section("cost", "Cost", "Cost", _cost(content.cost)),
        *(
            Section(f"picture{i}", p.title.split(". ")[0], p.title, markup.picture(p))
            for i, p in enumerate(content.pictures, start=1)
        ),
    ]
    stages = markup.grid(
        ("Stage", "Runs finished", "Hours in total", "Peak memory of a run (MB)"),
        [_stage_row(stage) for stage in facts.stages],
    )
    sizes = markup.grid(
        ("Task", "Training", "Validation", "Test"),
        [(title, *map(_count, sizes)) for title, sizes in facts.sizes.items()],
    )
    front = [
        _warnings(facts.warnings, content.collapse),
        f"<h2>Runs</h2>\n{stages}",
        f"<h2>Cases of each task</h2>\n{sizes}",
        f"<h2>Images kept out of pre-training</h2>\n{exclusion_html(facts.exclusion)}",
    ]
    scale, seeds = html_text(study.scale), html_text(", ".join(map(str, study.seeds)))
    return markup.page(
        title=f"voxseq report: {study.scale}",
        lead=f"<p>Scale: <b>{scale}</b>. Fine-tuning seeds: {seeds}.</p>",
        links=[*markup.links(sections), (CASES_PAGE, "Single cases")],
        body="\n".join([*front, *map(markup.section, sections)]),
        phantoms=study.phantoms,
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


def _warnings(warnings: Sequence[str], rows: Iterable[CollapseRow]) -> str:
    found = [f"collapsed: {row.title}" for row in rows if row.verdict == "collapsed"]
    found += warnings
    if not found:
        return '<p class="good">Every planned run has finished.</p>'
    items = [f"<li>{html_text(text)}</li>" for text in found[:_SHOWN_WARNINGS]]
    if len(found) > _SHOWN_WARNINGS:
        items.append(f"<li>and {len(found) - _SHOWN_WARNINGS} more</li>")
    return f'<div class="bad"><b>{len(found)} warnings</b><ul>{"".join(items)}</ul></div>'


def _table_title(table: Table) -> str:
    return f"Table {table.number}. {table.title}"


def _differences(study: Study, differences: pd.DataFrame) -> str:
    """One folded table for each table of the study: together they have hundreds of rows."""
    notes = markup.notes(statistics.notes(study))
    if differences.empty:
        return f"<p>missing: no pair of methods has run.</p>\n{notes}"
    parts = []
    for number, chosen in differences.groupby("table"):
        records = chosen.to_dict("records")
        clear = sum(statistics.is_clear(row) for row in records)
        rows = [statistics.markdown_row(study, row) for row in records]
        summary = f"Table {number}: {len(rows)} comparisons, {clear} of them clear"
        parts.append(markup.folded(summary, markup.grid(statistics.HEADER, rows)))
    return "\n".join([*parts, notes])


def _collapse(rows: Sequence[CollapseRow]) -> str:
    if not rows:
        return "<p>This study pre-trains nothing.</p>"
    cells = [row.cells for row in rows]
    return markup.grid(collapse.HEADER, cells) + markup.notes(collapse.notes())


def _cost(rows: Sequence[CostRow]) -> str:
    parts = []
    for group in dict.fromkeys(row.group for row in rows):
        chosen = [row.cells for row in rows if row.group == group]
        parts += [f"<h3>{html_text(group)}</h3>", markup.grid(cost.HEADER, chosen)]
    return "\n".join([*parts, markup.notes(cost.NOTES)])


def _count(value: int | None) -> str:
    return "not known" if value is None else str(value)
