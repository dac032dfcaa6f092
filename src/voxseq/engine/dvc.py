"""Recording in DVC which stages are complete after a direct Snakemake run."""

from __future__ import annotations

import configparser
import contextlib
import logging
import re
import time
from pathlib import Path

import yaml

from voxseq.base.errors import VoxseqError
from voxseq.base.files import read_json, read_text
from voxseq.engine.publishing import publish_anew
from voxseq.engine.workspace import Workspace
from voxseq.plan import READS, STAGES, Plan, Stage

_LOG = logging.getLogger("voxseq.engine.dvc")
#: How long another call of DVC, such as that of a killed workflow, is waited for, in seconds.
PATIENCE = 300.0
_CONFLICT = re.compile(r"^(<{7}|\|{7}|={7}|>{7})( |$)", re.MULTILINE)


def complete_stages(root: Path, plan: Plan) -> list[Stage]:
    """Stages whose jobs are all finished. Only these may be recorded: committing the others would
    make stale results look clean.

    DVC refuses a stage without what it reads from. A stage without jobs is complete when those
    that it reads from are.
    """
    complete: list[Stage] = []
    for stage in STAGES:
        jobs = plan.of_stage(stage)
        absent = [need for need in READS[stage] if need not in complete]
        if jobs:
            absent = [need for need in absent if not (root / plan.artefacts / need).is_dir()]
        if not absent and all((root / plan.marker(job)).exists() for job in jobs):
            complete.append(stage)
    return complete


def require_complete(root: Path, plan: Plan, stage: Stage, scale: str, results: str) -> None:
    """Refuse to end a stage of DVC unless DVC is about to record the results that ``plan`` names.

    DVC reads the parameters that it records when a stage ends, and has looked up the names of the
    outputs before the first one began; in between anybody may have edited the file.

    Args:
        root: the workspace.
        plan: that of the present parameters.
        stage: the stage that ends.
        scale: the one whose artefacts DVC records.
        results: the folder of results that DVC records.

    Raises:
        VoxseqError: the parameters or the code changed while the stage was done.
    """
    again = (
        "params.yaml or the code changed while the stage was done; nothing is recorded or lost, "
        "and `dvc repro` does what is left"
    )
    if (plan.scale, plan.results) != (scale, results):
        raise VoxseqError(
            f"{stage}: DVC records scale {scale} and {results}, the parameters now name scale "
            f"{plan.scale} and {plan.results}",
            again,
        )
    workspace, jobs = Workspace(root, plan), plan.of_stage(stage)
    missing = [
        job.name
        for job in jobs
        if not (root / plan.marker(job)).exists()
        or not all(workspace.is_finished(run) for run in job.runs)
    ]
    if missing:
        shown = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
        raise VoxseqError(
            f"{stage}: {len(missing)} of the {len(jobs)} jobs that the parameters now name are "
            f"not finished: {shown}",
            again,
        )


def let_dvc_follow(root: Path, plan: Plan) -> None:
    """Let DVC version artefacts behind a link, such as on another disk.

    DVC has git ignore each output and refuses one whose ``.gitignore`` is outside of the
    repository, before it asks whether git ignores the output already. So the file beside the
    stages' folders is a link to the repository's own.

    Raises:
        VoxseqError: the link leads nowhere.
    """
    folder = root / plan.artefacts
    for place in (folder.parent, folder, *(folder / stage for stage in STAGES)):
        if place.is_symlink() and not place.exists():
            raise VoxseqError(
                f"{place} is a link to {place.readlink()}, which is not there",
                "mount that disk or make that folder; or remove the link, and artefacts are here",
            )
    if not _is_dvc_workspace(root) or folder.resolve().is_relative_to(root.resolve()):
        return
    link, own = folder / ".gitignore", (root / ".gitignore").resolve()
    if link.resolve() != own:
        folder.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(own)


def unrecorded_stages(root: Path, plan: Plan) -> list[Stage]:
    """Complete stages of which DVC has recorded other jobs, or none.

    A call that was killed after its last job leaves these. Reads DVC's files without DVC, because
    every start of the workflow asks. Results that DVC's cache does not list count as recorded:
    they were never here.
    """
    if not _is_dvc_workspace(root):
        return []
    outputs, cache = _recorded(root / "dvc.lock") or {}, _cache(root) / "files/md5"
    unrecorded = []
    for stage in complete_stages(root, plan):
        jobs = {Path(plan.marker(job)).name for job in plan.of_stage(stage)}
        found = outputs.get(f"{plan.artefacts}/{stage}")
        if found is None or _listed_jobs(cache / found[:2] / found[2:]) not in (jobs, None):
            unrecorded.append(stage)
    return unrecorded


def _listed_jobs(listing: Path) -> set[str] | None:
    """Names of the job markers in a folder that DVC has recorded; ``None``: it does not tell."""
    try:
        paths = [entry["relpath"] for entry in read_json(listing)]
        return {path.removeprefix("jobs/") for path in paths if path.startswith("jobs/")}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def record_stages(root: Path, plan: Plan) -> list[Stage]:
    """Record complete stages in DVC; do nothing outside a DVC workspace.

    Returns:
        The recorded stages.

    Raises:
        VoxseqError: DVC refused.
    """
    stages = complete_stages(root, plan)
    if not _is_dvc_workspace(root) or not stages:
        _LOG.info("not a DVC workspace under version control: nothing is recorded")
        return []
    let_dvc_follow(root, plan)
    workspace = Workspace(root, plan)
    for line in publish_anew(workspace):
        # DVC would record the hole.
        _LOG.warning("%s", line)
    workspace.prune(tuple(stages))
    lock = root / "dvc.lock"
    if _recorded(lock) is None:
        # DVC writes it in place. All that is complete is recorded again.
        _LOG.warning("dvc.lock is damaged, as by a killed call, and is made anew")
        lock.unlink()
    # Late: it takes seconds, and every start of the workflow imports this module.
    from dvc.exceptions import DvcException
    from dvc.lock import LockError

    until = time.monotonic() + PATIENCE
    while True:
        try:
            commit(root, stages)
            return stages
        except (DvcException, OSError) as error:
            if not isinstance(error, LockError) or time.monotonic() > until:
                raise VoxseqError(
                    f"DVC did not record {', '.join(stages)}: {error}",
                    "the results are complete; `voxseq record` records them later",
                ) from error
        _LOG.info("waiting for another call of DVC in this folder")
        time.sleep(1.0)


def commit(root: Path, stages: list[Stage]) -> None:
    """``dvc commit --force`` of several stages, for which dvc.lock is read and written once.

    The command does both for each stage, and the file holds all parameters of all stages: seconds
    each.

    Raises:
        dvc.exceptions.DvcException: DVC refuses; a ``LockError`` while another call is at work.
        OSError: nothing can be written.
    """
    from dvc.dvcfile import load_file
    from dvc.repo import Repo, lock_repo

    # What `dvc commit` says of its own file is no news here.
    logging.getLogger("dvc").setLevel(logging.WARNING)
    # DVC looks for names of files from the working folder.
    with contextlib.chdir(root), Repo() as repo, lock_repo(repo):
        pipeline = load_file(repo, "dvc.yaml")
        declared = pipeline.stages
        chosen = [declared[stage] for stage in stages]
        for stage in chosen:
            stage.save()
            stage.commit()
        pipeline.dump_stages(chosen, update_pipeline=False)


def _is_dvc_workspace(root: Path) -> bool:
    return (root / ".dvc").is_dir() and (root / ".git").exists()


def _recorded(lock: Path) -> dict[str, str] | None:
    """Output of a stage → its hash in dvc.lock; ``None`` when the file is damaged.

    Raises:
        VoxseqError: the file cannot be read, or holds the conflict of a merge.
    """
    try:
        text = read_text(lock)
    except FileNotFoundError:
        return {}
    except ValueError:
        return None
    if _CONFLICT.search(text):
        raise VoxseqError(
            f"{lock.name} holds a conflict that git left",
            "take one side (`git checkout HEAD dvc.lock`), then `voxseq record` records what is "
            "here; no result depends on that file",
        )
    if not text.endswith("\n"):
        return None
    try:
        # The loader in C: the file grows with the parameters and is read at every start.
        stages = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))["stages"]  # noqa: S506
        return {
            out["path"]: out["md5"] for stage in stages.values() for out in stage.get("outs", [])
        }
    except (yaml.YAMLError, AttributeError, KeyError, TypeError, RecursionError):
        return None


def _cache(root: Path) -> Path:
    """Folder of DVC's cache: ``cache.dir`` of its configuration, seen from that file."""
    folder = root / ".dvc/cache"
    for name in ("config", "config.local"):
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read(root / ".dvc" / name, encoding="utf-8")
            folder = root / ".dvc" / parser.get("cache", "dir", fallback=str(folder)).strip("'\"")
        except configparser.Error as error:
            _LOG.debug("the configuration of DVC cannot be read: %s", error)
    return folder
