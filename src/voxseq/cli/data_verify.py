"""``voxseq data verify``: check data sets before training, or the stores made of them."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from voxseq.base.commands import STUDIES, to_make
from voxseq.base.errors import DataError
from voxseq.cli.options import load, overlay_option, params_option, resolve_root, root_option

if TYPE_CHECKING:
    from voxseq.catalogue import DataSet
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
    # Without a configuration the names alone are enough.
    is_needed = store or not names or params.exists()
    config = load(params, overlays) if is_needed else None
    if store and config is not None:
        _verify_store(config, overlays, as_json)
        return
    if config is not None:
        _require_known(names, config, params, overlays)
    place = resolve_root(root, params, overlays)
    if not (place and place.is_dir()) and _needs_root(names, config):
        raise DataError(
            "there is no data root to check" if place is None else f"{place} does not exist",
            "name the folder of the data sets with --root, VOXSEQ_DATA or data.root",
        )
    report = _report(names, place, config, workers)
    if as_json:
        click.echo(json.dumps(report.as_json(), indent=2, ensure_ascii=False))
    else:
        _print(report.findings)
        click.echo(report.summary())
    if report.faults:
        sys.exit(1)


def _require_known(
    names: tuple[str, ...], config: Config, params: Path, overlays: tuple[Path, ...]
) -> None:
    """Refuse a name that neither the catalogue nor the configuration has."""
    from voxseq.catalogue import CATALOGUE
    from voxseq.catalogue import get as row_of

    for name in names:
        if name in CATALOGUE or name in config.data.sets:
            continue
        study = STUDIES / f"{name}.yaml"
        if overlays or not study.is_file():
            row_of(name)
        raise DataError(
            f"no data set {name} in {params}", f"name the study it belongs to: --overlay {study}"
        )


def _needs_root(names: tuple[str, ...], config: Config | None) -> bool:
    """Whether a data set of the catalogue is to be checked."""
    if config is None:
        return True
    asked = names or {source.dataset for source in config.sequences.sources} | {
        task.dataset for task in config.finetune.tasks.values()
    }
    return not set(asked) <= set(config.data.sets)


def _report(
    names: tuple[str, ...], root: Path | None, config: Config | None, workers: int
) -> Report:
    from voxseq.config.data import TaskDataConfig
    from voxseq.config.datasets import DataConfig
    from voxseq.config.runs import TaskNeeds
    from voxseq.data.verify.check import Usage, verify
    from voxseq.plan.data import needs_of, own_set, unmerged

    tasks: dict[str, TaskNeeds] = {}
    recipes: dict[str, TaskDataConfig] = {}
    own: dict[str, DataSet] = {}
    sources, optional = None, set[str]()
    if config is not None:
        for task in config.finetune.tasks.values():
            tasks[task.dataset] = needs_of(task)
            recipes[task.dataset] = task.data
        for name, row in config.data.sets.items():
            used = [t for t in config.finetune.tasks.values() if t.dataset == name]
            own[name] = own_set(row, used[-1] if used else None)
            if used:
                tasks[name] = unmerged(tasks[name], row, used[-1])
        sources = [source.dataset for source in config.sequences.sources]
        kept = {s.dataset for s in config.sequences.sources if not s.optional}
        optional = set(sources) - kept - set(tasks)
        names = names or tuple(dict.fromkeys((*sources, *tasks)))
    chosen = {name: task for name, task in tasks.items() if name in names}
    data = DataConfig() if config is None else config.data
    usage = Usage.of(names, data, chosen, sources, optional, recipes, own)
    return verify(names, root, usage, workers)


def _print(findings: list[Finding]) -> None:
    shown: Counter[str] = Counter()
    for finding in sorted(findings, key=lambda f: (f.dataset, f.severity)):
        shown[finding.dataset] += 1
        if shown[finding.dataset] <= _SHOWN:
            where = f"{finding.severity:8} {finding.dataset}  {finding.file}"
            click.echo(f"{where}\n         {finding.reason}\n         next: {finding.next}")
    for dataset, count in sorted(shown.items()):
        if count > _SHOWN:
            click.echo(f"{dataset}: {count - _SHOWN} more findings, --json prints all")


def _verify_store(config: Config, overlays: tuple[Path, ...], as_json: bool) -> None:
    """Compare the files of finished runs with the checksums in their markers."""
    from voxseq.engine.markers import problem
    from voxseq.engine.workspace import Workspace
    from voxseq.plan import build_plan

    workspace = Workspace(Path.cwd(), build_plan(config))
    planned = [run for run in workspace.plan.runs.values() if run.stage in _STORES]
    finished = [run for run in planned if workspace.marker(run).exists()]
    faults = []
    for run in finished:
        anew = workspace.memory(run).checksums_anew
        reason = problem(workspace.marker(run), run.id, anew)
        if reason is not None:
            folder = workspace.folder(run).relative_to(workspace.root)
            remedy = f"remove {folder}, then: {to_make(run.stage, overlays=overlays)}"
            faults.append({"run": run.id, "reason": reason, "next": remedy})
    if as_json:
        counts = {"planned": len(planned), "finished": len(finished)}
        click.echo(json.dumps({**counts, "faults": faults}, indent=2))
    else:
        for fault in faults:
            click.echo(f"fault    {fault['run']}\n         {fault['reason']}")
            click.echo(f"         next: {fault['next']}")
        click.echo(f"{len(finished)} of {len(planned)} results are there: {len(faults)} faults")
    if faults:
        sys.exit(1)
