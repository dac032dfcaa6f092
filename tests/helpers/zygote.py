"""A process that has imported everything, and forks a child for each command it is asked for.

A start of Python with all libraries takes seconds. A fork of a process that has them takes none, so
real processes can be killed by the hundred. Requests and answers are lines of JSON.

A request has ``root``, the folder to work in; ``argv``, the words after ``voxseq``; ``log``, a file
for the output. ``signal`` is sent ``after`` so many seconds by the parent, to the whole group of
processes if ``group``; or by the child itself at ``place``, a key of PLACES, in its ``step``. With
``act`` the process that is there ends itself ("lose me"), has no memory ("no memory"), or fills the
disk with the file ``filler`` ("no room") instead.
``fault`` lets one call on a file of ``root`` fail: of those on paths that fit ``pattern`` the call
with the number ``n``, with the error ``code``; see shim.c, which has to be loaded.
``limit_bytes`` limits the size of a file, ``memory`` the bytes that the child may use besides what
it has, ``patience`` its seconds; ``environment`` holds more variables.

The answer has ``status`` (negative: the signal that ended the child), ``seconds``, ``stopping``,
seconds from the signal to the end, and ``calls``, those that failed, or all that fit where ``n`` is
0. A child that takes longer than its patience is killed; where its
processes were is in the output.
"""

from __future__ import annotations

import ctypes
import faulthandler
import importlib
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MODULES = (
    *("voxseq.cli.main", "voxseq.engine.workspace", "voxseq.plan", "voxseq.data.examine"),
    *("voxseq.data.prepare", "voxseq.sequences.build", "voxseq.pretrain.run"),
    *("voxseq.finetune.run", "voxseq.finetune.baselines.probe", "voxseq.finetune.baselines.run"),
    *("voxseq.report.figures.run", "voxseq.report.tables.cost", "torch._dynamo"),
)


def _before(owner: Any, name: str, act: Callable[..., None]) -> None:
    """Let ``act`` happen before each call of a function."""
    real = getattr(owner, name)

    def watched(*args: Any, **kwargs: Any) -> Any:
        act(*args, **kwargs)
        return real(*args, **kwargs)

    setattr(owner, name, watched)


def _at_step(fire: Callable[[], None], step: int) -> None:
    from torch import nn

    from voxseq.training.loop import Trainable

    def act(module: nn.Module, *args: Any, **kwargs: Any) -> None:
        if isinstance(module, Trainable) and len(args) == 2 and args[1] == step:
            fire()

    _before(nn.Module, "__call__", act)


def _after_update(fire: Callable[[], None], step: int) -> None:
    """After the optimiser's step: what is left by a process that dies here is of no step."""
    from voxseq.training import loop

    real = loop._Training._update

    def update(self: Any, number: int, batch: Any) -> None:
        _before(self.trainable, "after_step", lambda done: fire() if done == step else None)
        real(self, number, batch)

    loop._Training._update = update  # type: ignore[method-assign]


def _in_batch(fire: Callable[[], None], step: int) -> None:
    """While a row of the batch is made, in whichever process."""
    from voxseq.finetune.batches import CropRows, ImageRows
    from voxseq.pretrain.batching import ItemRows

    for owner in (ItemRows, CropRows, ImageRows):
        _before(owner, "fill", lambda _, number, *__: fire() if number == step else None)


def _in_validation(fire: Callable[[], None], step: int) -> None:
    """In the validation with this number, from 0."""
    from voxseq.finetune.kinds import KINDS
    from voxseq.pretrain.run import PretrainTask

    count = iter(range(10**9))
    for owner in (PretrainTask, *(kind.training for kind in KINDS.values())):
        _before(owner, "validate", lambda _: fire() if next(count) == step else None)


def _in_stage(fire: Callable[[], None], step: int) -> None:
    """While a later stage of MedCoSS is prepared, with a part of it done."""
    from voxseq.pretrain.methods.medcoss import MedCoSSMethod

    _before(MedCoSSMethod, "_new_decoder", lambda _, stage: fire() if stage == 1 else None)


def _in_save(fire: Callable[[], None], step: int) -> None:
    """When the checkpoint with this number is half written."""
    import torch

    count = iter(range(10**9))

    def act(content: Any, file: Any) -> None:
        if next(count) == step:
            file.write(b"half of a checkpoint")
            file.flush()
            fire()

    _before(torch, "save", act)


def _in_scoring(fire: Callable[[], None], step: int) -> None:
    """When the training is over and the test split is scored."""
    from voxseq.finetune import run

    _before(run, "_score", lambda *_: fire())


def _in_probe(fire: Callable[[], None], step: int) -> None:
    """When the features of a probe are there."""
    from voxseq.finetune.baselines import probe

    _before(probe, "regress", lambda *_: fire())


PLACES = {
    "step": _at_step,
    "update": _after_update,
    "batch": _in_batch,
    "validation": _in_validation,
    "stage": _in_stage,
    "save": _in_save,
    "scoring": _in_scoring,
    "probe": _in_probe,
}


def fill(filler: Path, left: int = 0) -> None:
    """Leave so many bytes of a disk free."""
    filler.unlink(missing_ok=True)
    free = os.statvfs(filler.parent).f_bavail * os.statvfs(filler.parent).f_frsize
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(free - left, 1))


def arm(root: str, log: str, fault: dict[str, Any]) -> None:
    """Let a call on a file of the workspace fail."""
    words = (os.path.realpath(root), fault["pattern"], log + ".calls")
    folder, pattern, report = (os.fsencode(word) for word in words)
    ctypes.CDLL(None).shim_arm(folder, pattern, ctypes.c_long(fault["n"]), fault["code"], report)


def child(request: dict[str, Any]) -> None:
    """Do one command; never returns."""
    os.setsid()
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    # For wait(); the processes that prepare batches have it as well.
    faulthandler.register(signal.SIGUSR2, all_threads=True)
    os.chdir(request["root"])
    sys.argv = ["voxseq", *request["argv"]]
    os.environ.update(request.get("environment", {}))
    if "memory" in request:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + request["memory"]
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    if "limit_bytes" in request:
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["limit_bytes"],) * 2)
    if "place" in request:
        main_process = os.getpid()

        def fire() -> None:
            Path(request["log"] + ".fired").write_text(str(time.time()))
            if request.get("act") == "no memory":
                raise MemoryError
            if request.get("act") == "lose me":
                os.kill(os.getpid(), signal.SIGKILL)
            if request.get("act") == "no room":
                fill(Path(request["filler"]))
                return
            os.kill(main_process, request["signal"])
            # The process that gets the signal may be another one.
            time.sleep(0.05)

        PLACES[request["place"]](fire, request["step"])
    if "fault" in request:
        arm(request["root"], request["log"], request["fault"])
    status = 1
    try:
        from voxseq.cli.main import main

        main()
        status = 0
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        # What a process does at its end belongs to the test.
        import multiprocessing.util

        multiprocessing.util._exit_function()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def wait(pid: int, latest: float) -> int:
    """Status of a child, which says where it is and is killed when it takes longer."""
    while time.time() < latest:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status
        time.sleep(0.002)
    os.killpg(pid, signal.SIGUSR2)
    time.sleep(1)
    os.killpg(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[1]


def serve(request: dict[str, Any]) -> dict[str, Any]:
    """Fork a child, send it the signal, and say how it ended."""
    began = time.time()
    pid = os.fork()
    if pid == 0:
        child(request)
    sent = 0.0
    if "after" in request:
        time.sleep(request["after"])
        sent = time.time()
        try:
            (os.killpg if request.get("group") else os.kill)(pid, request["signal"])
        except ProcessLookupError:
            sent = 0.0
    status = wait(pid, began + request.get("patience", 300))
    ended = time.time()
    fired = Path(request["log"] + ".fired")
    if fired.exists():
        sent = float(fired.read_text())
        fired.unlink()
    report = Path(request["log"] + ".calls")
    calls = report.read_text(errors="replace").splitlines() if report.exists() else []
    report.unlink(missing_ok=True)
    return {
        "calls": calls,
        "status": os.waitstatus_to_exitcode(status),
        "seconds": ended - began,
        "stopping": ended - sent if sent else None,
    }


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = "1"
    for module in MODULES:
        importlib.import_module(module)
    import torch

    torch.set_num_threads(1)
    print(json.dumps({"status": "ready"}), flush=True)
    for line in sys.stdin:
        print(json.dumps(serve(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
