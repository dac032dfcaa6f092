"""Lease of GPUs: each has one job of this machine at a time.

A lease is the lock of a file for each device. The kernel gives it back when the process ends,
whatever way that ends. Devices are those that the scheduler has left visible, in its order, and go
by their UUIDs: where a scheduler renumbers them, two jobs may both call theirs "0".
"""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import IO

from voxseq.base.errors import Interrupted, ResourceError
from voxseq.base.locks import LockHeldError, exclusive, take
from voxseq.base.stopping import stop_requests

_LOG = logging.getLogger("voxseq.gpus")
VISIBLE = "CUDA_VISIBLE_DEVICES"
#: Seconds between two looks at whether a device is free.
LOOK = 1.0
#: Seconds after which a driver that does not answer counts as absent.
_ANSWER = 60.0
#: Exit status of a job that was asked to stop and can be started again (EX_TEMPFAIL).
_RETRY = 75


def lease_gpus(what: str, count: int = 1) -> list[IO[str]]:
    """Take GPUs for this process and make them the only visible ones; wait until they are free.

    To be called before CUDA is initialised, which then looks at nothing else.

    Args:
        what: the work, for messages.
        count: how many.

    Returns:
        The files that hold the leases until they are closed; none where there is no GPU.

    Raises:
        ResourceError: fewer GPUs are visible, or the machine failed.
    """
    names = visible_gpus()
    if not names:
        return []
    if len(names) < count:
        raise ResourceError(
            f"{what} needs {count} GPUs, and {len(names)} are visible",
            f"lower execution.pretrain.processes and gpu, or see {VISIBLE} and `nvidia-smi -L`",
        )
    folder = Path(tempfile.gettempdir()) / f"voxseq-gpus-{os.getuid()}"
    # Two that wait for several would each hold what the other needs.
    alone = exclusive(folder / "several.lock", what) if count > 1 else nullcontext()
    held: dict[str, IO[str]] = {}
    with alone:
        owners = _take_free(folder, names, what, count, held)
        if owners:
            _LOG.info("%s waits for a GPU, in use by %s", what, "; ".join(owners))
        while owners:
            time.sleep(LOOK)
            owners = _take_free(folder, names, what, count, held)
    chosen = [name for name in names if name in held]
    os.environ[VISIBLE] = ",".join(chosen)
    _LOG.info("%s has %s", what, ", ".join(chosen))
    return [held[name] for name in chosen]


def _take_free(
    folder: Path, names: Sequence[str], what: str, count: int, held: dict[str, IO[str]]
) -> list[str]:
    """Add devices that are free to those that are held.

    Returns:
        Who has the others; nobody when ``count`` are held.
    """
    owners = []
    for name in names:
        if name not in held:
            try:
                held[name] = take(folder / f"{name.replace('/', '_')}.lock", what)
            except LockHeldError as error:
                owners.append(str(error.owner))
        if len(held) == count:
            return []
    return owners


def visible_gpus() -> list[str]:
    """UUIDs of the GPUs, or MIG instances, that this process may use, in the scheduler's order.

    A list in ``CUDA_VISIBLE_DEVICES`` ends, as for CUDA itself, at the first unknown entry.
    """
    there = _listed()
    asked = os.environ.get(VISIBLE)
    if asked is None:
        return [name for gpu in there for name in (gpu[1:] or gpu)]
    found: list[str] = []
    for word in asked.split(","):
        name = _named(word.strip(), there)
        if name is None:
            break
        found.append(name)
    return found


def _named(word: str, there: Sequence[Sequence[str]]) -> str | None:
    """UUID of an entry: a number, a UUID or its beginning, or a MIG instance, as it is."""
    if not there:
        return None
    if word.startswith("MIG-"):
        return word
    if re.fullmatch("[0-9]{1,4}", word):
        if int(word) >= len(there):
            return None
        gpu, *instances = there[int(word)]
        # The number of a GPU that is divided means its first instance.
        return instances[0] if instances else gpu
    matching = [gpu[0] for gpu in there if word and gpu[0].startswith(word)]
    return matching[0] if len(matching) == 1 else None


def _listed() -> list[list[str]]:
    """For each GPU its UUID, followed by those of its MIG instances; none without a driver."""
    try:
        said = subprocess.run(
            ["nvidia-smi", "-L"],  # noqa: S607 - where the driver has put it
            capture_output=True,
            text=True,
            check=True,
            timeout=_ANSWER,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    gpus: list[list[str]] = []
    for line in said.splitlines():
        found = re.search(r"\(UUID: ([^)\s]+)\)", line)
        if found is None:
            continue
        if line.startswith("GPU "):
            gpus.append([found[1]])
        elif gpus:
            gpus[-1].append(found[1])
    return gpus


def main(words: Sequence[str]) -> None:
    """Become a command that has COUNT GPUs, for all of its processes: COUNT COMMAND ARGUMENT…"""
    count, *command = words
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        with stop_requests():
            leases = lease_gpus("a training of several processes", int(count))
    except Interrupted as request:
        _LOG.info("%s", request)
        sys.exit(_RETRY)
    except ResourceError as error:
        sys.exit(f"error: {error}")
    for lease in leases:
        os.set_inheritable(lease.fileno(), True)
    os.execvp(command[0], command)  # noqa: S606 - it is what was asked for


if __name__ == "__main__":
    main(sys.argv[1:])
