"""Workflows whose processes have imported their libraries: a server that forks them.

Almost all that a job of a tiny study takes is the import of PyTorch, MONAI and the like, seconds in
each of dozens of processes. The server has them. It has no module of voxseq, so a process imports
the code of the checkout in which it works. Everything else (words, environment, folder, streams,
signals, status) is as in a process that was started; tests/workflow/test_scenario_hands.py compares
the results.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import inspect
import json
import logging
import os
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path
from typing import Any, NoReturn

import pydantic

MODULES = (
    *("torch", "torch._dynamo", "lightning_fabric", "monai.networks.nets", "monai.losses"),
    *("monai.transforms", "pandas", "pyarrow.parquet", "scipy.ndimage", "scipy.stats"),
    *("sklearn.ensemble", "sklearn.linear_model", "sklearn.pipeline", "sklearn.preprocessing"),
    *("matplotlib.figure", "matplotlib.style", "matplotlib.backends.backend_agg", "pydantic"),
    *("safetensors.torch", "blosc2", "h5py", "nibabel", "pydicom", "SimpleITK", "PIL.Image"),
    *("jinja2", "rich.table", "ruamel.yaml", "requests", "click", "threadpoolctl"),
    *("snakemake.cli", "snakemake.workflow", "snakemake.dag", "snakemake.scheduling.job_scheduler"),
    *("snakemake.report", "dvc.cli", "dvc.cli.parser", "dvc.repo", "dvc_data.index", "pytest"),
)
#: Programs other than voxseq's own → module and function.
PROGRAMS = {
    "snakemake": ("snakemake.cli", "main"),
    "dvc": ("dvc.cli", "main"),
    "pytest": ("pytest", "console_main"),
}
NAMES = ("python", "python3", "voxseq", *PROGRAMS)
SOCKET = "socket"


def serve(folder: Path) -> None:
    """Write the stand-ins, and fork a process per connection until standard input ends."""
    folder.mkdir(parents=True, exist_ok=True)
    client = Path(__file__).with_name("preloaded_client.py").read_text(encoding="utf-8")
    top = f"#!{sys.executable} -IS\nREAL_BIN = {str(Path(sys.executable).parent)!r}\n"
    for name in NAMES:
        (folder / name).write_text(f"{top}SOCKET = {str(folder / SOCKET)!r}\n{client}")
        (folder / name).chmod(0o755)
    # Some libraries add a handler of their own where nobody has set up logging, which voxseq has.
    placeholder = logging.NullHandler()
    logging.getLogger().addHandler(placeholder)
    for module in MODULES:
        importlib.import_module(module)
    logging.getLogger().removeHandler(placeholder)
    # With its first model pydantic looks for plugins in all installed packages.
    pydantic.create_model("First")
    # To find the module of some code, as for docstrings of fields, `inspect` goes through all.
    inspect.getmodule(compile("", "no file", "exec"))
    gc.freeze()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "starting"))
        listener.listen(64)
        # It is there when it can be used.
        (folder / "starting").rename(folder / SOCKET)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
            connection = listener.accept()[0]
            if os.fork() == 0:
                break
            connection.close()
        else:
            return
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    answer(connection)


def answer(connection: socket.socket) -> None:
    """Fork the process that is asked for; only that one returns from its module."""
    head, streams, _, _ = socket.recv_fds(connection, 8, 3)
    with connection.makefile("rb", buffering=0) as stream:
        content, size = b"", int.from_bytes(head, "big")
        while len(content) < size:
            content += stream.read(size - len(content)) or b""
    pid = os.fork()
    if pid == 0:
        connection.close()
        become(json.loads(content), streams)
        return
    for number in (0, 1, 2, *streams):
        os.close(number)
    ended = os.pidfd_open(pid)
    while ended not in (ready := select.select([connection, ended], [], [])[0]):
        if connection in ready:
            asked = connection.recv(1)
            if not asked:
                # The one who asked is dead.
                os.killpg(pid, signal.SIGKILL)
                os._exit(1)
            os.kill(pid, asked[0])
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    connection.sendall(str(status).encode())
    os._exit(0)


def become(request: dict[str, Any], streams: list[int]) -> None:
    """Run a module as a process that was started with these words."""
    os.setsid()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environ"])
    for number in request["ignored"]:
        signal.signal(number, signal.SIG_IGN)
    name, folder = request["name"], request["bin"]
    sys.executable = f"{folder}/python"
    added = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    sys.path[:0] = [request["cwd"], *(str(Path(path).absolute()) for path in added)]
    importlib.invalidate_caches()
    sys.argv = [f"{folder}/{name}", *request["words"]]
    try:
        if name == "voxseq":
            runpy.run_module(name, run_name="__main__", alter_sys=True)
        else:
            module, function = PROGRAMS[name]
            sys.exit(getattr(importlib.import_module(module), function)())
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        leave(end.code if isinstance(end.code, int) else int(end.code is not None))
    except BaseException:
        traceback.print_exc()
        leave(1)
    leave(0)


def leave(status: int) -> NoReturn:
    """End as an interpreter does, but for the second in which it frees all modules."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


@functools.cache
def preloaded() -> Path:
    """A folder for the front of PATH; its server ends with this process."""
    folder = Path(tempfile.mkdtemp(prefix="voxseq-preloaded-"))
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    server = subprocess.Popen(
        [sys.executable, __file__, folder],
        stdin=subprocess.PIPE,
        env={**environment, "OMP_NUM_THREADS": "1"},
    )

    def end() -> None:
        server.communicate()
        shutil.rmtree(folder)

    atexit.register(end)
    while not (folder / SOCKET).exists():
        assert server.poll() is None
        time.sleep(0.05)
    return folder


if __name__ == "__main__":
    del sys.path[0]
    serve(Path(sys.argv[1]))
