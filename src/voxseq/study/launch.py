"""Run a study: its file in ``studies/``, and Snakemake on it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from voxseq.base.commands import SCALES, STUDIES
from voxseq.base.errors import VoxseqError

#: What Snakemake reads in a workspace.
WORKFLOW = Path("Snakefile")
_ENDINGS = (".yaml", ".yml", ".json")
#: Requests to stop that reach this process alone; Ctrl-C reaches Snakemake by itself.
_PASSED_ON = (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


def study_file(study: str, folder: Path = STUDIES, *, scales: str = f"{SCALES}/{{}}.yaml") -> Path:
    """The configuration of a study.

    Args:
        study: name of a file in ``folder`` without its ending, or the path of a file.
        folder: of the studies.
        scales: how the command is told of a scale, whose name stands in the braces.

    Raises:
        VoxseqError: there is no such file; the message names the studies that are there.
    """
    path = Path(study) if study.endswith(_ENDINGS) else folder / f"{study}.yaml"
    if path.is_file():
        return path
    if (SCALES / f"{study}.yaml").is_file():
        raise VoxseqError(
            f"{study!r} is not a study in {folder} but a scale of params.yaml",
            f"write {scales.format(study)} instead",
        )
    known = sorted(p.stem for p in folder.glob("*.yaml"))
    there = f"studies here: {', '.join(known)}" if known else "there are no studies here yet"
    raise VoxseqError(
        f"unknown study {study!r}: {path} does not exist",
        f"{there}; `voxseq init NAME --images FOLDER` makes one",
    )


def require_workspace(folder: Path) -> None:
    """Refuse a folder without the workflow.

    Raises:
        VoxseqError: it has no Snakefile; the message names a folder above that has one.
    """
    if (folder / WORKFLOW).is_file():
        return
    above = next((p for p in folder.parents if (p / WORKFLOW).is_file()), None)
    raise VoxseqError(
        f"{folder} has no {WORKFLOW}, so it is not a workspace of voxseq",
        f"the workspace is {above}: cd there"
        if above
        else "`voxseq new FOLDER` makes one; studies/ may be moved there",
    )


def snakemake(path: Path, target: str, cores: str, options: Sequence[str] = ()) -> int:
    """Do the jobs of a study that are not finished, in the current folder.

    Ctrl-C reaches Snakemake through the terminal and other requests to stop are passed on, so that
    trainings write their checkpoints. This process ends when Snakemake has.

    Args:
        path: configuration of the study.
        target: of the workflow.
        cores: number of cores, or "all".
        options: further words for Snakemake.

    Returns:
        Status of Snakemake.
    """
    command = [
        *(sys.executable, "-m", "snakemake", "--cores", cores, *options),
        *("--configfile", str(path), "--", target),
    ]
    # Jobs find the programs of this environment, whether it is active or not.
    search = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    child = subprocess.Popen(command, env={**os.environ, "PATH": search})  # noqa: S603
    with _requests_for(child):
        status = child.wait()
    return status if status >= 0 else 128 - status


@contextmanager
def _requests_for(child: subprocess.Popen[bytes]) -> Iterator[None]:
    """Leave Ctrl-C to the child and pass other requests to stop on to it."""

    def pass_on(number: int, _: FrameType | None) -> None:
        child.send_signal(number)

    heeded = [n for n in _PASSED_ON if signal.getsignal(n) != signal.SIG_IGN]
    before = {number: signal.signal(number, pass_on) for number in heeded}
    # A handler, as a signal that is ignored would be ignored by children, too.
    before[signal.SIGINT] = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
