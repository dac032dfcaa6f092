"""Carry out the runs of a plan: folders, markers, and the attic for results no longer wanted.

A run is finished when its marker ``run-<fingerprint>.json`` exists in its folder. It is written
last and says which files belong to the run, with size and SHA-256. Results are made in a folder of
their own and put in place whole, so nobody ever sees half of a run. A job's marker follows those
of its runs; the workflow looks at job markers only. Time stamps decide nothing.

Results that a changed configuration makes stale are not deleted: they move to the attic, by
fingerprint, and come back with the configuration.

A process may outlive the workflow that started it. A lock for each run keeps two from doing the
same one, and a job says that it is finished only while all its runs are.
"""

from __future__ import annotations

import importlib
import logging
import os
import socket
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from voxseq.base.checksums import Memory
from voxseq.base.errors import IntegrityError, ResourceError
from voxseq.base.failures import failures_named
from voxseq.base.files import named, write_json
from voxseq.base.folders import move, remove, remove_empty, strays
from voxseq.base.locks import Owner, alone, exclusive, owner_of
from voxseq.base.logs import log_file
from voxseq.base.progress import RECORD, recorded
from voxseq.config.data import PHANTOMS
from voxseq.config.execution import DeviceConfig, TrainingResources
from voxseq.config.place import FOLDERS
from voxseq.engine import markers
from voxseq.engine.journal import LOG, keep_record, remember
from voxseq.engine.markers import RUN_MARKERS, below, problem, verified
from voxseq.engine.publishing import Difference, compare, publish, require_declared
from voxseq.plan import STAGES, Job, Plan, Run
from voxseq.plan.actions import ACTIONS
from voxseq.plan.context import RunContext
from voxseq.plan.outputs import COSTS

_LOG = logging.getLogger("voxseq.engine.workspace")
#: Makes the costs from the records of runs; no run of its own.
MAKE_COSTS = "voxseq.report.tables.cost:execute_costs"


@dataclass(frozen=True)
class Workspace:
    """The folder in which a plan is carried out.

    ``announce`` hears which run is computed; ``apart`` sets the names of folders for work apart.
    """

    root: Path
    plan: Plan
    data_root: Path | None = None
    workers: int = 0
    fetch_bytes: int = 0
    training: TrainingResources = field(default_factory=TrainingResources)
    device: DeviceConfig = field(default_factory=DeviceConfig)
    announce: Callable[[Run], object] = lambda _: None
    apart: str = ""

    def folder(self, run: Run) -> Path:
        """Folder of a run's results."""
        return self.root / self.plan.artefacts / run.id

    def marker(self, run: Run) -> Path:
        """The file whose existence says that ``run`` is finished."""
        return self.folder(run) / f"run-{run.fingerprint}.json"

    def work(self, run: Run) -> Path:
        """Folder in which a run's results are made; no stage of DVC looks there."""
        return self._works(run.stage) / f"{_flat(run)}{self.apart}"

    def state(self, run: Run) -> Path:
        """Folder of a run's log, progress and checkpoints."""
        return self.root / ".voxseq/state" / self.plan.scale / run.id / run.fingerprint

    def record(self, run: Run) -> Path:
        """Folder of a finished run's log, cost and versions of packages, which differ from call to
        call: no engine looks there."""
        return self.root / ".voxseq/records" / self.plan.scale / run.id / run.fingerprint

    @property
    def logs(self) -> Path:
        """Folder of the workflow's logs, and of what loggers of other programs write."""
        return self.root / "logs" / self.plan.scale

    def attic(self, fingerprint: str) -> Path:
        """Folder of results that the present plan does not name."""
        return self.root / ".voxseq/attic" / self.plan.scale / fingerprint

    def lock(self, run: Run) -> Path:
        """The lock of whoever works on a run, whatever its configuration."""
        return self._locks(run.stage) / f"{_flat(run)}.lock"

    def memory(self, run: Run) -> Memory:
        """The checksums that were found of a run's files, whatever its configuration."""
        path = self.root / ".voxseq/verified" / self.plan.scale / run.stage / f"{_flat(run)}.json"
        return Memory(path, self.root / self.plan.artefacts / ".work")

    @property
    def verifications(self) -> Path:
        """Folder of the workflow's notes about the jobs that a call has verified."""
        return self.root / ".voxseq/verified" / self.plan.scale / "jobs"

    @property
    def history(self) -> Path:
        """File with one line for each run that was ever computed here."""
        return self.root / ".voxseq/history.jsonl"

    def is_finished(self, run: Run) -> bool:
        """Whether the complete results of ``run`` are in its folder."""
        return problem(self.marker(run), run.id) is None

    def execute(self, job: Job) -> None:
        """Do the runs of a job that are not finished, then write the job's marker.

        Raises:
            VoxseqError: an input is missing or damaged, or the work itself failed.
        """
        with failures_named(self.root / self.plan.artefacts):
            for run in job.runs:
                with exclusive(self.lock(run), run.id) as is_alone:
                    (self if is_alone else self._apart())._provide(run)
            self._mark(job)

    def verify(self, job: Job) -> None:
        """Compare the results of a job with their checksums, and remember that it was done.

        Raises:
            VoxseqError: a run is not finished, or its results are damaged.
        """
        with failures_named(self.root / self.plan.artefacts):
            for run in job.runs:
                self._input(run.id, thorough=True)

    def _apart(self) -> Workspace:
        """The same with folders for work that no other process uses: nothing keeps it out."""
        return replace(self, apart=f"~{socket.gethostname()}~{os.getpid()}")

    def _provide(self, run: Run) -> None:
        if self.is_finished(run) and self.publish(run) is not None:
            _LOG.info("%s is finished", run.id)
        else:
            if self._restore(run):
                _LOG.info("%s: earlier results restored", run.id)
            else:
                self._compute_or_find(run)
            self.publish(run, first=True)
        remove(self.state(run))

    def _mark(self, job: Job) -> None:
        with self._changing(job.stage):
            for run in job.runs:
                if not self.is_finished(run):
                    raise IntegrityError(
                        f"the results of {run.id} were replaced while {job.name} was done",
                        "start the workflow again; another call here had another configuration",
                    )
            path = self.root / self.plan.marker(job)
            write_json(path, {"job": job.name, "runs": {r.id: r.fingerprint for r in job.runs}})
            for old in named(path.parent, f"{job.name}-*.json"):
                if old != path:
                    old.unlink(missing_ok=True)

    def _compute_or_find(self, run: Run) -> None:
        try:
            self._compute(run)
        except (OSError, ResourceError) as error:
            # Without locks two calls may do one run; the first that ends removes its state.
            if not self.apart or not self.is_finished(run):
                raise
            _LOG.info("%s: another call has finished it in the meantime (%s)", run.id, error)

    def _compute(self, run: Run) -> None:
        # Weeks of training must not rest on a store with a flipped bit.
        for name in run.inputs:
            self._input(name, thorough=True)
        out, state = self.work(run), self.state(run)
        remove(out)
        out.mkdir(parents=True)
        state.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        with log_file(state / LOG), recorded(state / RECORD), failures_named(out):
            if self.plan.reads_phantoms(run):
                _LOG.info(PHANTOMS)
            _LOG.info("%s (%s)", run.id, run.fingerprint)
            self.announce(run)
            self.call(run)
            _LOG.info("%s took %.1f s", run.id, time.monotonic() - began)
        require_declared(run, out)
        write_json(out / "config.json", {"run": run.id, "config": run.settings})
        keep_record(state, self.record(run))
        for name in run.inputs:
            # Inputs may have been replaced by a call with another configuration.
            self._input(name)
        fingerprints = {name: self.plan.runs[name].fingerprint for name in run.inputs}
        marker = out / self.marker(run).name
        checksums = self.memory(run).checksums
        markers.write_run_marker(marker, run.id, run.fingerprint, fingerprints, checksums)
        self._put(run, out)
        remember(self.history, run, time.monotonic() - began)

    def call(self, run: Run) -> None:
        """Do the work of a run, with its folders as they are; no bookkeeping."""
        _function(ACTIONS[run.action])(self._context(run, self.work(run)))

    def _context(self, run: Run, out: Path) -> RunContext[Any]:
        inputs = {name: self.plan.runs[name] for name in run.inputs}
        folders = {name: self.folder(one) for name, one in inputs.items()}
        records = {name: self.record(one) for name, one in inputs.items()}
        given = (self.data_root, self.workers, self.fetch_bytes, self.training, self.device)
        own = (run.id, run.config, out, self.state(run), folders)
        return RunContext(*own, *given, records, run.fingerprint, self.logs)

    def _put(self, run: Run, source: Path) -> None:
        """Put finished results in their folder; those of another fingerprint go to the attic."""
        with self._changing(run.stage):
            if self.is_finished(run):
                _LOG.info("%s: another call has finished it in the meantime", run.id)
                remove(source)
                return
            # First, so that no job claims results that are gone, not even for a moment.
            markers.withdraw(self._jobs(run.stage), run.id)
            folder = self.folder(run)
            for marker in self._in_the_way(run):
                self._to_attic(marker.parent, marker)
            move(source, folder)

    def _in_the_way(self, run: Run) -> list[Path]:
        """Markers of the results in a run's place, around it and below it.

        Where phantoms give way to real images, one run takes the place of those of all seeds.
        """
        base, folder = self.root / self.plan.artefacts / run.stage, self.folder(run)
        around = [place for place in folder.parents if base in place.parents]
        found = [path for place in (*around, folder) for path in named(place, RUN_MARKERS)[:1]]
        return [*found, *(path for path in below(folder) if path.parent != folder)]

    def unpublished(self, run: Run) -> Difference:
        """Files of a finished run that are not in the results folder as they were published."""
        return compare(run, self.marker(run), self.root / self.plan.results)

    def publish(self, run: Run, *, first: bool = False) -> Difference | None:
        """Copy the published files of a finished run into the results folder.

        Args:
            run: the run; most publish nothing.
            first: its results have just been put in place, beside published files of another run.

        Returns:
            The differences there were; ``None`` where the run's own files turned out to be
            damaged, and nothing was published.
        """
        if run.stage not in FOLDERS:
            return Difference()
        with self._changing(run.stage):
            found = self.unpublished(run)
            checksums = self.memory(run).checksums
            if found and verified(self.marker(run), run.id, checksums) is not None:
                return None
            results = self.root / self.plan.results
            kept = self.root / ".voxseq/replaced" / self.plan.scale
            publish(run, self.folder(run), results, found, kept)
        if (first and run.stage in COSTS) or set(COSTS.get(run.stage, ())) & set(found.missing):
            _function(MAKE_COSTS)(self._context(run, results))
        return found

    def reports(self) -> list[Run]:
        """The runs that publish."""
        return [run for run in self.plan.runs.values() if run.stage in FOLDERS]

    def _input(self, name: str, *, thorough: bool = False) -> Path:
        run = self.plan.runs[name]
        if thorough:
            found = verified(self.marker(run), run.id, self.memory(run).checksums)
        else:
            found = problem(self.marker(run), run.id)
        if found is not None:
            with self._changing(run.stage):
                markers.withdraw(self._jobs(run.stage), run.id)
            raise IntegrityError(
                f"{name} is needed and not usable: {found}",
                f"call the workflow again, which then does the stage {run.stage} once more",
            )
        return self.folder(run)

    def _to_attic(self, folder: Path, marker: Path) -> None:
        aside = self.attic(marker.stem.removeprefix("run-"))
        # Results of a damaged marker may be sound. They are for whoever looks after it: nothing
        # takes them for whole.
        is_of_use = markers.is_damaged(marker) and problem(aside / marker.name) is not None
        if problem(marker) is None or is_of_use:
            move(folder, aside)

    def _restore(self, run: Run) -> bool:
        # Earlier results, or such as were complete but not in place when a process was killed.
        checksums = self.memory(run).checksums
        for source in (self.work(run), self.attic(run.fingerprint)):
            if problem(source / self.marker(run).name, run.id, checksums) is None:
                self._put(run, source)
                return True
        return False

    def recheck(self) -> list[str]:
        """Withdraw the markers of jobs whose results are not there, whole.

        Somebody may have deleted them, or DVC was stopped half-way through a checkout.

        Returns:
            Stage and name of the jobs that will be done again.

        Raises:
            IntegrityError: results are links into a cache of DVC that is not there.
        """
        again = []
        for job in self.plan.jobs.values():
            path = self.root / self.plan.marker(job)
            if path.is_symlink() and not path.exists():
                raise IntegrityError(
                    f"{path} is a link to a file of DVC's cache that is not there",
                    "`dvc checkout` links all results to the cache of this folder; "
                    "`dvc pull` fetches what the cache lacks",
                )
            if path.exists() and not all(self.is_finished(run) for run in job.runs):
                path.unlink(missing_ok=True)
                again.append(f"{job.stage}/{job.name}")
        return again

    def owners(self) -> list[Owner]:
        """The processes that work on single runs at the moment."""
        locks = sorted((self.root / ".voxseq/locks" / self.plan.scale).glob("*/[!.]*.lock"))
        return [owner for owner in map(owner_of, locks) if owner is not None]

    def prune(self, stages: tuple[str, ...] = STAGES) -> list[str]:
        """Move results that the plan no longer names out of the stages' folders.

        Returns:
            Names of the run folders that were moved.
        """
        moved = []
        wanted = {self.folder(run) for run in self.plan.runs.values()}
        kept = {self.root / self.plan.marker(job) for job in self.plan.jobs.values()}
        for stage in stages:
            base = self.root / self.plan.artefacts / stage
            # A stage without runs still has a folder, which DVC expects of its outputs.
            base.mkdir(parents=True, exist_ok=True)
            with self._changing(stage):
                for marker in named(self._jobs(stage), "*.json"):
                    if marker not in kept:
                        marker.unlink(missing_ok=True)
                for stray in strays(base, wanted | {self._jobs(stage)}):
                    for marker in markers.below(stray):
                        moved.append(str(marker.parent.relative_to(base)))
                        self._to_attic(marker.parent, marker)
                    remove(stray)
                remove_empty(base)
            self._clear_works(stage)
        return moved

    def _clear_works(self, stage: str) -> None:
        """Remove unfinished work of killed processes. Checkpoints are elsewhere."""
        for work in named(self._works(stage), "*"):
            with alone(self._locks(stage) / f"{work.name}.lock", "removing leftovers") as is_ours:
                if not is_ours:
                    _LOG.info("%s is left alone: somebody may be at work there", work)
                    continue
                for marker in named(work, RUN_MARKERS):
                    self._to_attic(work, marker)
                remove(work)

    def _jobs(self, stage: str) -> Path:
        return self.root / self.plan.artefacts / stage / "jobs"

    def _works(self, stage: str) -> Path:
        return self.root / self.plan.artefacts / ".work" / stage

    def _locks(self, stage: str) -> Path:
        return self.root / ".voxseq/locks" / self.plan.scale / stage

    def _changing(self, stage: str) -> AbstractContextManager[bool]:
        """Lock the results of a stage while they change; for moments only."""
        return exclusive(self._locks(stage) / ".place.lock", f"putting results of {stage} in place")


def _flat(run: Run) -> str:
    return run.id.split("/", 1)[1].replace("/", "~")


def _function(place: str) -> Any:
    module, name = place.split(":")
    return getattr(importlib.import_module(module), name)
