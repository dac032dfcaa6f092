"""``voxseq data verify``: what is wrong with the data sets, or with what was made of them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from voxseq.base.errors import DataError
from voxseq.cli.options import load, overlay_option, params_option, resolve_root, root_option

if TYPE_CHECKING:
    from voxseq.config import Config
    from voxseq.data.verify.report import Finding, Report

#: Findings of one data set that are printed; --json has all.
_SHOWN = 40
#: Stages whose results ``--store`` checks.
_STORES = ("download", "preprocess", "sequences")


@click.command()
@click.argument("names", nargs=-1)
@root_option
@click.option(
    "--workers", type=click.IntRange(0), default=0, help="Processes that read images beside this."
)
@params_option
@overlay_option
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.option(
    "--store", is_flag=True, help="Check finished results against their checksums instead."
)
def verify(
    names: tuple[str, ...],
    root: Path | None,
    workers: int,
    params: Path,
    overlays: tuple[Path, ...],
    as_json: bool,
    store: bool,
) -> None:
    """Check data sets before training: all of the configuration, or those NAMED.

    Reads every image. Ends with status 1 when there are faults.
    """
    config = _configured(params, overlays, needed=store or not names)
    if store and config is not None:
        _verify_store(config, as_json)
        return
    place = resolve_root(root, params, overlays)
    if place is None or not place.is_dir():
        raise DataError(
            "there is no data root to check" if place is None else f"{place} does not exist",
            "name the folder of the data sets with --root, VOXSEQ_DATA or data.root",
        )
    report = _report(names, place, config, workers)
    _print(report.as_json() if as_json else None, report.findings, report.summary())
    if report.faults:
        sys.exit(1)


def _configured(params: Path, overlays: tuple[Path, ...], *, needed: bool) -> Config | None:
    """The configuration; None where there is none and the names alone are enough."""
    if not needed and not params.exists():
        return None
    return load(params, overlays)


def _report(names: tuple[str, ...], root: Path, config: Config | None, workers: int) -> Report:
    from voxseq.config.data import DataConfig
    from voxseq.config.runs import TaskNeeds
    from voxseq.data.verify.check import Usage, verify

    tasks: dict[str, TaskNeeds] = {}
    sources, optional = None, set[str]()
    if config is not None:
        for task in config.finetune.tasks.values():
            tasks[task.dataset] = TaskNeeds(type=task.type, labels=len(task.labels))
        sources = [source.dataset for source in config.sequences.sources]
        kept = {s.dataset for s in config.sequences.sources if not s.optional}
        optional = set(sources) - kept - set(tasks)
        names = names or tuple(dict.fromkeys((*sources, *tasks)))
    chosen = {name: task for name, task in tasks.items() if name in names}
    data = DataConfig() if config is None else config.data
    return verify(names, root, Usage.of(names, data, chosen, sources, optional), workers)


def _print(as_json: dict[str, Any] | None, findings: list[Finding], summary: str) -> None:
    if as_json is not None:
        click.echo(json.dumps(as_json, indent=2, ensure_ascii=False))
        return
    shown: dict[str, int] = {}
    for finding in sorted(findings, key=lambda f: (f.dataset, f.severity)):
        shown[finding.dataset] = shown.get(finding.dataset, 0) + 1
        if shown[finding.dataset] > _SHOWN:
            continue
        click.echo(f"{finding.severity:8} {finding.dataset}  {finding.file}")
        click.echo(f"         {finding.reason}")
        click.echo(f"         next: {finding.next}")
    for dataset, count in sorted(shown.items()):
        if count > _SHOWN:
            click.echo(f"{dataset}: {count - _SHOWN} more findings, --json prints all")
    click.echo(summary)


def _verify_store(config: Config, as_json: bool) -> None:
    """Compare the files of finished runs with the checksums in their markers."""
    from voxseq.engine.markers import problem
    from voxseq.engine.workspace import Workspace
    from voxseq.plan import build_plan

    workspace = Workspace(Path.cwd(), build_plan(config))
    faults: list[dict[str, str]] = []
    finished = planned = 0
    for run in workspace.plan.runs.values():
        if run.stage not in _STORES:
            continue
        planned += 1
        marker = workspace.marker(run)
        if not marker.exists():
            continue
        finished += 1
        reason = problem(marker, thorough=True)
        if reason is not None:
            folder = marker.parent.relative_to(workspace.root)
            remedy = f"remove {folder}, then: snakemake --cores all {run.stage}"
            faults.append({"run": run.id, "reason": reason, "next": remedy})
    counts = {"planned": planned, "finished": finished}
    if as_json:
        click.echo(json.dumps({**counts, "faults": faults}, indent=2))
    else:
        for fault in faults:
            click.echo(f"fault    {fault['run']}")
            click.echo(f"         {fault['reason']}")
            click.echo(f"         next: {fault['next']}")
        click.echo(f"{finished} of {planned} results are there: {len(faults)} faults")
    if faults:
        sys.exit(1)
