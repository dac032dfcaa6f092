"""A job of several processes that torchrun has started."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from voxseq.base.errors import ResourceError
from voxseq.engine.workspace import Workspace
from voxseq.plan import Job
from voxseq.training.distributed import Processes, close_processes, init_processes

#: The first process sends this when the job is done.
_DONE = -1


def execute_together(workspace: Workspace, job: Job) -> None:
    """Do a job; the first process keeps the books, and the others take part in its trainings.

    Other work than pre-training is done by the first process alone.

    Raises:
        VoxseqError: as :meth:`Workspace.execute`; a process that was lost.
    """
    processes = init_processes()
    with _lost_processes_named():
        if processes.is_first:
            _lead(workspace, job, processes)
        else:
            _follow(workspace, job, processes)
    close_processes()


def _lead(workspace: Workspace, job: Job, processes: Processes) -> None:
    if job.action == "pretrain":
        numbers = {run.id: number for number, run in enumerate(job.runs)}
        replace(workspace, announce=lambda run: processes.broadcast(numbers[run.id])).execute(job)
    else:
        workspace.execute(job)
    processes.broadcast(_DONE)


def _follow(workspace: Workspace, job: Job, processes: Processes) -> None:
    logging.getLogger("voxseq").setLevel(logging.WARNING)
    while (number := processes.broadcast(_DONE)) != _DONE:
        workspace.call(job.runs[number])


@contextmanager
def _lost_processes_named() -> Iterator[None]:
    """Turn the error of a broken connection into one that says what it means."""
    try:
        yield
    except RuntimeError as error:
        if "peer" not in str(error):
            raise
        raise ResourceError(
            f"another process of this training has ended ({str(error).splitlines()[0]})",
            "its own message, if it had the time for one, says why; start again, the training goes "
            "on from its last checkpoint",
        ) from error
