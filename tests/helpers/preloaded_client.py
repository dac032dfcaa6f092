"""Stands for ``python`` and the programs that preloaded.py knows.

The words, the environment and the standard streams go to the server, which forks a process for
them. Signals are passed on, and the status is that of the forked process. Anything but a module
that the server knows is given to the real program. The server writes this file behind one line for
each of REAL_BIN, the folder of the real programs, and SOCKET.
"""

import json
import os
import signal
import socket
import sys
from pathlib import Path

PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def main() -> None:
    name, words = Path(sys.argv[0]).name, sys.argv[1:]
    if name.startswith("python") and words[:1] == ["-m"]:
        name, words = words[1], words[2:]
    if name not in ("voxseq", "snakemake", "dvc", "pytest"):
        real = f"{REAL_BIN}/{Path(sys.argv[0]).name}"  # noqa: F821
        os.execv(real, [real, *sys.argv[1:]])  # noqa: S606
    ignored = [n for n in PASSED_ON if signal.getsignal(n) == signal.SIG_IGN]
    request = {
        **{"name": name, "words": words, "cwd": str(Path.cwd()), "environ": dict(os.environ)},
        **{"bin": str(Path(sys.argv[0]).absolute().parent), "ignored": ignored},
    }
    content = json.dumps(request).encode()
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(SOCKET)  # noqa: F821
        socket.send_fds(server, [len(content).to_bytes(8, "big")], [0, 1, 2])
        server.sendall(content)
        for number in set(PASSED_ON).difference(ignored):
            signal.signal(number, lambda number, _: server.sendall(bytes([number])))
        answer = server.recv(16)
    status = int(answer or b"1")
    if status < 0:
        signal.signal(-status, signal.SIG_DFL) if -status != signal.SIGKILL else None
        os.kill(os.getpid(), -status)
    sys.exit(status)


if __name__ == "__main__":
    main()
