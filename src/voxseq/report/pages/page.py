"""The report page: all tables and figures in one HTML file; single cases have their own page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxseq.report.escape import html_text
from voxseq.report.pages import markup
from voxseq.report.pages.exclusions import exclusion_html, exclusion_record
from voxseq.report.pages.markup import Picture, Section
from voxseq.report.render import to_html
from voxseq.report.results import missing_runs, read_record, run_file
from voxseq.report.study import Study
from voxseq.report.tables import collapse
from voxseq.report.tables import differences as statistics

if TYPE_CHECKING:
    import pandas as pd

    from voxseq.report.tables.collapse import CollapseRow
    from voxseq.report.tables.run import Table

_SHOWN_WARNINGS = 20


@dataclass(frozen=True)
class StageFacts:
    """Runs of one stage."""

    title: str
    finished: int
    planned: int


@dataclass(frozen=True)
class Facts:
    """What the page says about the study besides its scores.

    Attributes:
        sizes: task title → cases for training (all labels), validation and test; None: not known.
        warnings: what a reader must know, such as missing runs.
        exclusion: images withheld from pre-training; see :mod:`voxseq.report.pages.exclusions`.
    """

    stages: tuple[StageFacts, ...]
    sizes: Mapping[str, tuple[int | None, int | None, int | None]]
    warnings: tuple[str, ...]
    exclusion: Mapping[str, Any]


def facts_of(study: Study, scores: pd.DataFrame, inputs: Mapping[str, Path]) -> Facts:
    """Gather runs, sizes and warnings from the results of the runs."""
    missing = {run.id for run in missing_runs(study, scores)}
    absent = [
        run.id for run in study.pretrain_runs if run_file(inputs, run.id, "summary.json") is None
    ]
    gone = missing | set(absent)
    stages = tuple(
        StageFacts(title, sum(run not in gone for run in ids), len(ids))
        for title, ids in study.stages().items()
    )
    undefined = scores[(scores["value"].isna()) & (scores["metric"] != "dice")]["run"].unique()
    warnings = [f"missing run: {run}" for run in (*absent, *sorted(missing))]
    warnings += [f"a score of run {run} is undefined" for run in undefined]
    return Facts(stages, _sizes(study, inputs), tuple(warnings), exclusion_record(inputs))


@dataclass(frozen=True)
class Content:
    """What the page shows.

    Attributes:
        differences: frame of ``statistics.differences``; None where nothing is compared.
        collapse: empty for a study that pre-trains nothing.
        has_cases: whether there is a page of single cases.
    """

    study: Study
    facts: Facts
    tables: Sequence[Table]
    differences: pd.DataFrame | None
    collapse: Sequence[CollapseRow]
    pictures: Sequence[Picture]
    has_cases: bool = True


def render_page(content: Content) -> str:
    """Fill page.html. Every text is escaped; figures are embedded; nothing is fetched."""
    facts, study = content.facts, content.study
    sections = [
        *(
            Section(f"table{t.number}", f"Table {t.number}", _table_title(t), to_html(t))
            for t in content.tables
        ),
        *_comparisons(study, content.differences),
        *_collapses(content.collapse),
        *(
            Section(f"picture{i}", p.title.split(". ")[0], p.title, markup.picture(p))
            for i, p in enumerate(content.pictures, start=1)
        ),
    ]
    front = [
        _warnings(facts.warnings, content.collapse),
        f"<h2>Runs</h2>\n{_runs(facts.stages)}",
        *_cases(facts.sizes),
        f"<h2>Images kept out of pre-training</h2>\n{exclusion_html(facts.exclusion)}",
    ]
    scale, numbers = html_text(study.scale), html_text(", ".join(map(str, study.seeds)))
    seeds = f" Fine-tuning seeds: {numbers}." if study.runs else ""
    cases = [("cases.html", "Single cases")] if content.has_cases else []
    return markup.page(
        title=f"voxseq report: {study.scale}",
        lead=f"<p>Scale: <b>{scale}</b>.{seeds}</p>",
        links=[*markup.links(sections), *cases, ("../cost/index.html", "Cost")],
        body="\n".join([*front, *map(markup.section, sections)]),
        phantoms=study.phantoms,
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


def _runs(stages: Sequence[StageFacts]) -> str:
    rows = [(stage.title, f"{stage.finished} of {stage.planned}") for stage in stages]
    return markup.grid(("Stage", "Runs finished"), rows)


def _cases(sizes: Mapping[str, tuple[int | None, int | None, int | None]]) -> list[str]:
    """The numbers of cases; nothing where nothing is fine-tuned."""
    rows = [(title, *map(_count, counts)) for title, counts in sizes.items()]
    grid = markup.grid(("Task", "Training", "Validation", "Test"), rows)
    return [f"<h2>Cases of each task</h2>\n{grid}"] if rows else []


def _comparisons(study: Study, differences: pd.DataFrame | None) -> list[Section]:
    if differences is None:
        return []
    body = _differences(study, differences)
    return [Section("differences", "Differences", "Rows against their references", body)]


def _collapses(rows: Sequence[CollapseRow]) -> list[Section]:
    if not rows:
        return []
    return [Section("collapse", "Collapse", "Collapse of pre-training", _collapse(rows))]


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
    cells = [row.cells for row in rows]
    return markup.grid(collapse.HEADER, cells) + markup.notes(collapse.notes())


def _count(value: int | None) -> str:
    return "not known" if value is None else str(value)
