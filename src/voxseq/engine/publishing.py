"""The results folder: tables, figures and reports of a study, copied from the runs' folders.

Published files may be deleted, edited or merged by hand. Each file is therefore compared with the
checksum in its run's marker, and published anew where it differs.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from voxseq.base.commands import to_make
from voxseq.base.errors import IntegrityError
from voxseq.base.failures import read_named
from voxseq.base.files import atomic_path, files_below, read_json, sha256, size_of
from voxseq.config.place import FOLDERS
from voxseq.plan import Run
from voxseq.plan.outputs import COSTS, SCORES, lasting, published

if TYPE_CHECKING:
    from voxseq.engine.workspace import Workspace


@dataclass(frozen=True)
class Difference:
    """Files of a run in the results folder, relative to it, that differ from the published ones."""

    missing: tuple[str, ...] = ()
    edited: tuple[str, ...] = ()
    surplus: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.missing or self.edited or self.surplus)

    def __str__(self) -> str:
        parts = (("missing", self.missing), ("edited", self.edited), ("surplus", self.surplus))
        return "; ".join(f"{word}: {_few(names)}" for word, names in parts if names)


def require_declared(run: Run, out: Path) -> None:
    """Compare the files that a stage has written with those that it declares.

    Args:
        run: the run.
        out: its results, before anything else is put there.

    Raises:
        IntegrityError: a declared file is missing, or another one is there.
    """
    declared = set(lasting(run.stage, run.config))
    if not declared:
        return
    written = {str(path.relative_to(out)) for path in files_below(out)}
    problems = [
        *(f"{name} is declared and was not written" for name in sorted(declared - written)),
        *(f"{name} was written and is not declared" for name in sorted(written - declared)),
    ]
    if problems:
        raise IntegrityError(
            f"{run.id}: {'; '.join(problems)}",
            "this is a fault of voxseq: plan/outputs.py and the stage disagree; please report it",
        )


def compare(run: Run, marker: Path, results: Path) -> Difference:
    """Files of a finished run that are not in the results folder as they were published.

    Costs have no checksum: only their absence is noticed.
    """
    recorded: Mapping[str, Mapping[str, object]] = read_json(marker)["files"]
    missing, edited = [], []
    for name in published(run):
        path = results / name
        if size_of(path) is None:
            missing.append(name)
        elif name in recorded:
            size, checksum = recorded[name]["bytes"], recorded[name]["sha256"]
            if size_of(path) != size or sha256(path) != checksum:
                edited.append(name)
    return Difference(tuple(missing), tuple(edited), tuple(_surplus(run, results)))


def publish(run: Run, folder: Path, results: Path, found: Difference, kept: Path) -> None:
    """Make the results folder hold exactly the published files of a run.

    Args:
        run: a finished run.
        folder: its results.
        results: the study's results folder.
        found: the differences; costs are not in the run's folder and are made elsewhere.
        kept: folder for copies of files that were edited or belong to no study.
    """
    for part in FOLDERS[run.stage]:
        (results / part).mkdir(parents=True, exist_ok=True)
    for name in (*found.edited, *found.surplus):
        _copy(results / name, kept / name)
    for name in (*found.missing, *found.edited):
        if name not in COSTS.get(run.stage, ()):
            _copy(folder / name, results / name)
    for name in found.surplus:
        (results / name).unlink(missing_ok=True)


def _copy(source: Path, target: Path) -> None:
    # Contents only: files that DVC links to its cache are read-only.
    with atomic_path(target) as temporary, read_named(source):
        shutil.copyfile(source, temporary)


def _surplus(run: Run, results: Path) -> Iterator[str]:
    """Files in the stage's folders that the study does not have, hidden ones left out.

    Seeds of other machines are welcome.
    """
    if run.stage == SCORES:
        return
    declared = set(published(run))
    for part in FOLDERS[run.stage]:
        if not (results / part).is_dir():
            continue
        for path in files_below(results / part):
            name = path.relative_to(results).as_posix()
            if name not in declared and not path.name.startswith("."):
                yield name


def state_of_results(workspace: Workspace, overlays: Sequence[Path] = ()) -> list[str]:
    """One line per stage whose published files are not up to date; one for those not yet made.

    Args:
        workspace: the folder and its plan.
        overlays: files that make the study of params.yaml, for the command that is named.
    """
    said, absent, stages = list[str](), list[str](), list[str]()
    for run in workspace.reports():
        # Of the other stages there is one run.
        name = run.id if run.stage == SCORES else run.stage
        if not workspace.is_finished(run):
            absent.append(name)
            stages.append(run.stage)
        elif found := workspace.unpublished(run):
            said.append(f"{name}: {found}; the next call of the workflow publishes them anew")
    if absent:
        targets = stages if len({*stages}) == 1 else ()
        again = to_make(*dict.fromkeys(targets), overlays=overlays)
        said.append(f"{', '.join(absent)}: not made with the present parameters; `{again}` does it")
    return said


def publish_anew(workspace: Workspace, *, only_missing: bool = False) -> list[str]:
    """Publish files again that were removed from the results folder or edited there.

    Args:
        workspace: the folder and its plan.
        only_missing: leave files that are there as they are, and say that they differ.

    Returns:
        The differences, in words. Copies of edited files are kept in ``.voxseq/replaced``.
    """
    said, results = [], workspace.plan.results
    for run in filter(workspace.is_finished, workspace.reports()):
        found = workspace.unpublished(run)
        if only_missing and (found.edited or found.surplus):
            said.append(f"to be published anew in {results}: {found}")
        elif found and workspace.publish(run) is not None:
            kept = f"; earlier ones are in .voxseq/replaced/{workspace.plan.scale}"
            replaced = found.edited or found.surplus
            said.append(f"published anew in {results}: {found}{kept if replaced else ''}")
    return said


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown
