"""Run a study: its file in ``studies/``, and Snakemake on it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from voxseq.base.commands import STUDIES, overlays_of
from voxseq.base.errors import Interrupted, VoxseqError
from voxseq.base.stopping import SIGNALS

#: What Snakemake reads in a workspace.
WORKFLOW = Path("Snakefile")
_ENDINGS = (".yaml", ".yml", ".json")
#: What jobs take for a request to stop, and Ctrl-\, which would end this process alone.
_TO_STOP = (*SIGNALS, signal.SIGQUIT)


def study_file(study: str) -> Path:
    """The configuration of a study, or of a scale of the workspace.

    Args:
        study: name of a file in ``studies`` or ``workflow/scales`` without its ending, or the path
            of a file.

    Raises:
        VoxseqError: there is no such file; the message names the studies that are there, or the
            workspace, if it is not the current folder.
    """
    if study.endswith(_ENDINGS):
        path = Path(study)
    else:
        path = next(iter(overlays_of(study)), STUDIES / f"{study}.yaml")
    if path.is_file():
        return path
    if not STUDIES.is_dir():
        require_workspace(Path.cwd())
    known = sorted(p.stem for p in STUDIES.glob("*.yaml"))
    there = f"studies here: {', '.join(known)}" if known else "there are no studies here yet"
    raise VoxseqError(
        f"unknown study {study!r}: {path} does not exist",
        f"{there}; `voxseq init NAME --images FOLDER` makes one",
    )


def is_workspace(folder: Path) -> bool:
    """Whether Snakemake finds a workflow there."""
    return (folder / WORKFLOW).is_file()


def require_workspace(folder: Path) -> None:
    """Refuse a folder without the workflow.

    Raises:
        VoxseqError: it has no Snakefile; the message names a folder above that has one.
    """
    if is_workspace(folder):
        return
    above = next(filter(is_workspace, folder.parents), None)
    raise VoxseqError(
        f"{folder} has no {WORKFLOW}, so it is not a workspace of voxseq",
        f"the workspace is {above}: cd there"
        if above
        else "go to the folder of yours; `voxseq new FOLDER` makes one, for studies/ too",
    )


def snakemake(path: Path, target: str, cores: str, options: Sequence[str] = ()) -> int:
    """Do the jobs of a study that are not finished, in the current folder.

    Requests to stop are passed on to Snakemake and all of its jobs, so that trainings write their
    checkpoints. This process ends when Snakemake has, which waits for its jobs.

    Args:
        path: configuration of the study.
        target: of the workflow.
        cores: number of cores, or "all".
        options: further words for Snakemake.

    Returns:
        Status of Snakemake.

    Raises:
        Interrupted: it was asked to stop before everything was done.
    """
    command = [
        *(sys.executable, "-m", "snakemake", "--cores", cores, *options),
        *("--configfile", str(path), "--", target),
    ]
    # Jobs find the programs of this environment, whether it is active or not.
    search = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    with _passed_on() as requests:
        # In a session of its own a signal of the terminal reaches it through this process alone,
        # and the terminal lets it write, though it is in the background there.
        child = subprocess.Popen(  # noqa: S603
            command,
            env={**os.environ, "PATH": search},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        requests.go_to(child.pid)
        status = child.wait()
    if status and requests.made:
        raise Interrupted("stopped; the same command resumes")
    return status if status >= 0 else 128 - status


class _Requests:
    """Requests to stop, which go to a group of processes as soon as there is one.

    Attributes:
        made: the signals that have arrived.
    """

    def __init__(self) -> None:
        self.made: list[int] = []
        self._group = 0

    def go_to(self, group: int) -> None:
        """Pass on to this group what has arrived, and what will."""
        self._group = group
        for number in self.made:
            self._send(number)

    def stop(self, number: int, _: FrameType | None) -> None:
        """Handler of requests to stop."""
        self.made.append(number)
        self._send(number)

    def pause(self, number: int, _: FrameType | None) -> None:
        """Handler of Ctrl-Z: the group stands still for as long as this process does."""
        self._send(signal.SIGSTOP)
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
        signal.signal(number, self.pause)
        self._send(signal.SIGCONT)

    def _send(self, number: int) -> None:
        if self._group:
            # The group may have ended by itself.
            with suppress(ProcessLookupError):
                os.killpg(self._group, number)


@contextmanager
def _passed_on() -> Iterator[_Requests]:
    """Pass requests to stop and to pause on; those that nohup or a shell ignores stay ignored."""
    requests = _Requests()
    handlers = {**dict.fromkeys(_TO_STOP, requests.stop), signal.SIGTSTP: requests.pause}
    before = {
        number: signal.signal(number, handler)
        for number, handler in handlers.items()
        if signal.getsignal(number) != signal.SIG_IGN
    }
    try:
        yield requests
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
