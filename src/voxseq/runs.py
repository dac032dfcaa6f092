"""Doing the runs of a plan: folders, markers, and what happens to what is no longer wanted.

A run is finished when its marker ``run-<fingerprint>.json`` exists in its folder. It is written
last and says which files belong to the run, with size and SHA-256. A job's marker follows those
of its runs; the workflow looks at job markers only. Time stamps decide nothing.

What a changed configuration makes stale is not deleted: it moves to the attic, by fingerprint, and
comes back when the configuration does.
"""

from __future__ import annotations

import hashlib
import importlib
import logging
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from voxseq.errors import DataError, IntegrityError, Interrupted
from voxseq.files import atomic_path, read_json, write_json
from voxseq.plan import Job, Plan, Run

_LOG = logging.getLogger("voxseq.runs")

#: Environment variable that names the folder of real data and overrides ``data.root``.
DATA_VARIABLE = "VOXSEQ_DATA"

#: Action → function that does it.
ACTIONS: Mapping[str, str] = {
    "download": "voxseq.data.download:execute",
    "preprocess": "voxseq.data.preprocess:execute",
    "sequences": "voxseq.sequences.build:execute",
    "pretrain": "voxseq.pretrain.run:execute",
    "finetune": "voxseq.finetune.run:execute",
    "probe": "voxseq.finetune.probe:execute",
    "baseline": "voxseq.finetune.baselines:execute",
    "tables": "voxseq.report.run:execute_tables",
    "figures": "voxseq.report.run:execute_figures",
}
#: What a stage's run publishes in the results folder.
PUBLISHED: Mapping[str, tuple[str, ...]] = {
    "tables": ("tables", "plots", "cost", "metrics.json"),
    "figures": ("figures", "report"),
}
#: Files of a run folder that differ from call to call and are in no marker.
VOLATILE = frozenset(
    {
        *("log.txt", "progress.json", "environment.json"),
        *("cost.json", "cost.csv", "cost.md", "cost.tex"),
    }
)
#: Packages whose versions are recorded with every run.
_PACKAGES = ("torch", "monai", "numpy", "scipy", "nibabel", "blosc2", "scikit-learn", "voxseq")


@dataclass(frozen=True)
class RunContext:
    """What a stage function gets; see :class:`voxseq.plan.Run` for the fields in common.

    Attributes:
        out: empty folder for the results.
        state: folder for log, progress and checkpoints; it survives failures.
        inputs: run id → folder of each run this one depends on.
        data_root: the user's folder of real data; ``None`` where phantoms are generated.
        workers: processes that work beside this one; they change no result.
        fetch_bytes: largest data set that may be fetched without being asked for by name.
    """

    run_id: str
    config: Mapping[str, Any]
    out: Path
    state: Path
    inputs: Mapping[str, Path]
    data_root: Path | None
    workers: int = 0
    fetch_bytes: int = 0


@dataclass(frozen=True)
class Workspace:
    """The folder in which a plan is carried out."""

    root: Path
    plan: Plan
    data_root: Path | None = None
    workers: int = 0
    fetch_bytes: int = 0

    def folder(self, run: Run) -> Path:
        """Folder of a run's results."""
        return self.root / self.plan.artefacts / run.id

    def marker(self, run: Run) -> Path:
        """The file whose existence says that ``run`` is finished."""
        return self.folder(run) / f"run-{run.fingerprint}.json"

    def state(self, run: Run) -> Path:
        """Folder of a run's log, progress and checkpoints."""
        return self.root / ".voxseq/state" / self.plan.scale / run.id / run.fingerprint

    def attic(self, fingerprint: str) -> Path:
        """Where results lie that the present plan does not name."""
        return self.root / ".voxseq/attic" / self.plan.scale / fingerprint

    def is_finished(self, run: Run) -> bool:
        """Whether the results of ``run`` lie in its folder, whole."""
        return _problem(self.marker(run)) is None

    def execute(self, job: Job) -> None:
        """Do the runs of a job that are not finished, then write the job's marker.

        Raises:
            VoxseqError: an input is missing or damaged, or the work itself failed.
        """
        for run in job.runs:
            if self.is_finished(run):
                _LOG.info("%s is finished", run.id)
            elif self._restore(run):
                _LOG.info("%s: earlier results restored", run.id)
            else:
                self._compute(run)
            if run.stage in PUBLISHED:
                self._publish(run)
        path = self.root / self.plan.marker(job)
        for old in path.parent.glob(f"{job.name}-*.json"):
            old.unlink()
        write_json(path, {"job": job.name, "runs": {r.id: r.fingerprint for r in job.runs}})

    def _compute(self, run: Run) -> None:
        self._clear(run)
        inputs = {name: self._input(name) for name in run.inputs}
        out, state = self.folder(run), self.state(run)
        out.mkdir(parents=True)
        state.mkdir(parents=True, exist_ok=True)
        context = RunContext(
            run.id,
            run.config,
            out,
            state,
            inputs,
            self.data_root,
            self.workers,
            self.fetch_bytes,
        )
        with _log_file(state / "log.txt"):
            _LOG.info("%s (%s)", run.id, run.fingerprint)
            began = time.monotonic()
            _function(run.action)(context)
            _LOG.info("%s took %.1f s", run.id, time.monotonic() - began)
        write_json(out / "config.json", {"run": run.id, "config": run.config})
        write_json(out / "environment.json", environment())
        for name in ("log.txt", "progress.json"):
            if (state / name).exists():
                shutil.copyfile(state / name, out / name)
        _write_marker(self.marker(run), run, self.plan)
        shutil.rmtree(state)

    def _publish(self, run: Run) -> None:
        """Copy what people read into the results folder, which is under version control."""
        target = self.root / self.plan.results
        for name in PUBLISHED[run.stage]:
            source = self.folder(run) / name
            if source.is_dir():
                _remove(target / name)
                shutil.copytree(source, target / name)
            else:
                with atomic_path(target / name) as temporary:
                    shutil.copyfile(source, temporary)

    def _input(self, name: str) -> Path:
        run = self.plan.runs[name]
        problem = _problem(self.marker(run))
        if problem is not None:
            raise IntegrityError(
                f"{name} is needed and not usable: {problem}",
                f"run the stage {run.stage} again: snakemake --cores all {run.stage}",
            )
        return self.folder(run)

    def _clear(self, run: Run) -> None:
        """Empty the run's folder; finished results of another fingerprint go to the attic."""
        folder = self.folder(run)
        for marker in folder.glob("run-*.json"):
            self._to_attic(folder, marker.stem.removeprefix("run-"))
            break
        _remove(folder)

    def _to_attic(self, folder: Path, fingerprint: str) -> None:
        if _problem(folder / f"run-{fingerprint}.json") is not None:
            return
        target = self.attic(fingerprint)
        _remove(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        folder.replace(target)

    def _restore(self, run: Run) -> bool:
        source = self.attic(run.fingerprint)
        if _problem(source / self.marker(run).name, thorough=True) is not None:
            return False
        self._clear(run)
        self.folder(run).parent.mkdir(parents=True, exist_ok=True)
        source.replace(self.folder(run))
        return True

    def prune(self, stages: tuple[str, ...]) -> list[str]:
        """Move results that the plan no longer names out of the stages' folders.

        Returns:
            Names of the run folders that were moved.
        """
        moved = []
        wanted = {self.folder(run) for run in self.plan.runs.values()}
        jobs = {self.root / self.plan.marker(job) for job in self.plan.jobs.values()}
        for stage in stages:
            base = self.root / self.plan.artefacts / stage
            # A stage without runs still has a folder, which DVC expects of its outputs.
            base.mkdir(parents=True, exist_ok=True)
            for stray in _strays(base, wanted | {base / "jobs"}):
                # Unfinished runs have no marker; nothing of them is worth keeping.
                for marker in sorted(stray.rglob("run-*.json")):
                    moved.append(str(marker.parent.relative_to(base)))
                    self._to_attic(marker.parent, marker.stem.removeprefix("run-"))
                _remove(stray)
            for marker in sorted((base / "jobs").glob("*.json")):
                if marker not in jobs:
                    marker.unlink()
            _remove_empty(base)
        return moved


def environment() -> dict[str, str]:
    """Versions of Python, of the packages that decide results, and the kind of machine."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed as a package"
    return found


def data_root(configured: str | None) -> Path | None:
    """The folder of real data: the environment variable, else ``data.root``, else ``None``.

    Raises:
        DataError: the folder does not exist.
    """
    if configured is None:
        return None
    given = os.environ.get(DATA_VARIABLE) or configured
    folder = Path(given).expanduser().resolve()
    if not folder.is_dir():
        raise DataError(
            f"the data folder {given} does not exist",
            f"put the data sets there, or name their folder in data.root or in {DATA_VARIABLE}; "
            "docs/datasets.md shows the layouts",
        )
    return folder


def _function(action: str) -> Any:
    module, name = ACTIONS[action].split(":")
    return getattr(importlib.import_module(module), name)


def _write_marker(path: Path, run: Run, plan: Plan) -> None:
    folder = path.parent
    files = {
        str(p.relative_to(folder)): {"bytes": p.stat().st_size, "sha256": _sha256(p)}
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name not in VOLATILE
    }
    inputs = {name: plan.runs[name].fingerprint for name in run.inputs}
    write_json(
        path, {"run": run.id, "fingerprint": run.fingerprint, "inputs": inputs, "files": files}
    )


def _problem(marker: Path, *, thorough: bool = False) -> str | None:
    """Why the results beside ``marker`` cannot be used; ``None`` when they can.

    Args:
        marker: the run's marker.
        thorough: also compare checksums, not only that every file has its size.
    """
    try:
        record = read_json(marker)
        files = {name: (f["bytes"], f["sha256"]) for name, f in record["files"].items()}
    except FileNotFoundError:
        return f"{marker} does not exist"
    except (AttributeError, OSError, ValueError, KeyError, TypeError) as error:
        return f"{marker} cannot be read: {error}"
    for name, (size, checksum) in files.items():
        path = marker.parent / name
        if not path.is_file():
            return f"{path} is missing"
        if path.stat().st_size != size:
            return f"{path} has {path.stat().st_size} bytes, recorded were {size}"
        if thorough and _sha256(path) != checksum:
            return f"{path} does not have its recorded checksum"
    return None


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _strays(base: Path, wanted: set[Path]) -> Iterator[Path]:
    """Outermost folders below ``base`` that neither are nor hold nor lie in a wanted one."""
    parents = {parent for folder in wanted for parent in folder.parents}
    for path in sorted(base.iterdir()):
        if path in parents:
            yield from _strays(path, wanted)
        elif path.is_dir() and path not in wanted:
            yield path


def _remove_empty(base: Path) -> None:
    for path in sorted(base.rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()


@contextmanager
def _log_file(path: Path) -> Iterator[None]:
    """Send the log to the run's own file as well."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("voxseq")
    logger.addHandler(handler)
    try:
        yield
    except BaseException as error:
        if isinstance(error, Exception) and not isinstance(error, Interrupted):
            logger.exception("failed")
        else:
            logger.info("stopped: %s", error)
        raise
    finally:
        logger.removeHandler(handler)
        handler.close()


def setup_logging(verbose: bool = False) -> None:
    """Plain lines on standard error."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(asctime)s %(message)s",
        datefmt="%H:%M:%S",
    )
    for noisy in ("matplotlib", "PIL", "fsspec", "lightning"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
