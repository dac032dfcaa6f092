"""Killed at any moment, a download leaves nothing that looks complete, and goes on when called.

The killed process is a real one; SIGKILL cannot be caught.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers import ROOT
from tests.helpers.hostile import drips, wire
from tests.helpers.packing import HASTY, contents, dataset, md5, zipped
from tests.helpers.servers import Fault, Server
from voxseq.base.errors import DataError, ResourceError
from voxseq.catalogue import DataSet, RemoteFile
from voxseq.fetch import RECORD, core, fetch, read_record, state
from voxseq.fetch.staging import locked

PLAIN = bytes(range(256)) * 5000
FILES = {f"images/{n}.bin": bytes([n]) * 60_000 for n in range(20)}
ARCHIVE = zipped(FILES, method=0)
#: Fetches the data set that ``row`` makes; what precedes it in the program may break it.
CHILD = """
import os, signal, sys, time
# A process that was started in the background ignores Control-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
from pathlib import Path
from tests.fetch.test_fetch_kills import HASTY, row
from voxseq import fetch as package
from voxseq.fetch import core, http, staging, transfer, unpack, work
def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)
def after(function, count=1):
    left = [count]
    def broken(*args, **kwargs):
        result = function(*args, **kwargs)
        left[0] -= 1
        if not left[0]:
            die()
        return result
    return broken
{fault}
package.fetch(row({base!r}), Path({root!r}), parallel=1, retry=HASTY)
print("finished")
"""


def row(base: str) -> DataSet:
    """One plain file and one archive."""
    return dataset(
        [
            RemoteFile(f"{base}/plain.bin", "plain.bin", md5(PLAIN)),
            RemoteFile(f"{base}/a.zip", "", md5(ARCHIVE), archive="zip"),
        ]
    )


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Until ``condition()``; fails when the process ends before."""
    for _ in range(3000):
        if condition():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    raise AssertionError("nothing happened in 30 s")


class Job:
    """Both files on the server, and processes that fetch them into a data root."""

    def __init__(self, server: Server, root: Path) -> None:
        self.server = server
        self.root = root
        self.folder = root / "nodule"
        self.staging = root / ".voxseq-fetch/nodule"
        self.row = row(server.base)
        server.put("/plain.bin", PLAIN)
        server.put("/a.zip", ARCHIVE)

    def start(self, fault: str = "") -> subprocess.Popen[str]:
        """A process that fetches the data set, broken by ``fault``."""
        program = CHILD.format(fault=fault, base=self.server.base, root=str(self.root))
        command = [sys.executable, "-c", program]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True)

    def dies(self, fault: str) -> None:
        """A process that kills itself."""
        process = self.start(fault)
        said = process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL, said

    def slowly(self, block: int = 100_000) -> None:
        """Serve the plain file slowly."""
        self.server.put("/plain.bin", PLAIN, block=block, pause=0.1)

    def has_part(self, size: int) -> bool:
        """Whether so many bytes of a file are there."""
        return any(p.stat().st_size >= size for p in self.staging.glob("parts/*.part"))

    def fetch(self) -> str:
        return fetch(self.row, self.root, retry=HASTY).state

    def completes(self) -> None:
        """Nothing looks complete; the next call makes it so, and leaves nothing behind."""
        self.server.put("/plain.bin", PLAIN)
        assert state(self.row, self.folder) == "absent"
        assert self.fetch() == "fetched"
        found = contents(self.folder)
        del found[RECORD]
        assert found == {"plain.bin": PLAIN, **FILES}
        record = read_record(self.folder)
        assert record is not None
        facts = [(item.size, item.files) for item in record.fetched]
        assert facts == [(len(PLAIN), 1), (len(ARCHIVE), 20)]
        assert not (self.root / ".voxseq-fetch").exists()


@pytest.fixture
def job(server: Server, tmp_path: Path) -> Job:
    return Job(server, tmp_path)


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    assert process.wait() == -signal.SIGKILL
    process.communicate()


def test_killed_while_downloading(job: Job) -> None:
    job.slowly()
    process = job.start()
    wait_for(lambda: job.has_part(300_000), process)
    kill(process)
    job.server.requests.clear()
    job.completes()
    (again,) = [r for r in job.server.requests if r.path == "/plain.bin"]
    assert int(again.headers["range"].removeprefix("bytes=").removesuffix("-")) >= 300_000


def test_killed_while_unpacking(job: Job) -> None:
    process = job.start(
        "count = unpack._Writer.count\n"
        "unpack._Writer.count = lambda *a: (time.sleep(0.1), count(*a))"
    )
    wait_for(lambda: len(list((job.staging / "unpack").rglob("*.bin"))) >= 3, process)
    kill(process)
    job.server.requests.clear()
    job.completes()
    # The archive was complete and is not fetched again.
    assert not [r for r in job.server.requests if r.path == "/a.zip"]


MOMENTS = {
    "before the first request": "http.Client.get = die",
    "after the note": "transfer._Note.write = after(transfer._Note.write)",
    "before the note of the archive": "transfer._Note.write = after(transfer._Note.write, 2)",
    "before the checksum": "transfer.Remote.verify = die",
    "before the part is named": "Path.replace = after(Path.replace, 2)",
    "before the file is noted": "staging.Staging.finish = die",
    "after the file is noted": "staging.Staging.finish = after(staging.Staging.finish)",
    "before unpacking": "work.unpack = die",
    "before the tree is named": "work.Path.rename = die",
    "after the tree is named": "work.Path.rename = after(Path.rename)",
    "before the archive is noted": (
        "finish = staging.Staging.finish\n"
        "staging.Staging.finish = lambda s, i: die() if i.archive else finish(s, i)"
    ),
    "before joining": "staging.Staging.publish = die",
    "while joining": "Path.rename = after(Path.rename, 2)",
    "before the record": "staging.write_record = die",
    "after the record": "staging.write_record = after(staging.write_record)",
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at(job: Job, moment: str) -> None:
    job.dies(MOMENTS[moment])
    job.completes()
    # Not even the worst moment makes a third transfer of a file necessary.
    asked = [request.path for request in job.server.requests]
    assert max(asked.count("/plain.bin"), asked.count("/a.zip")) <= 2


def test_killed_when_a_changed_file_begins(job: Job) -> None:
    """The note of the new file never lies beside the beginning of the old one."""
    job.server.put("/plain.bin", PLAIN[::-1])
    job.server.faults["/plain.bin"] = [Fault(drop=500_000), Fault(503)]
    unchecked = (
        "import dataclasses\n"
        "sure = row\n"
        "row = lambda base: dataclasses.replace(sure(base), files=tuple(\n"
        "    dataclasses.replace(file, checksum='') for file in sure(base).files))\n"
    )
    job.start(unchecked).communicate(timeout=60)
    job.server.faults.clear()
    job.server.put("/plain.bin", PLAIN)
    job.dies(unchecked + MOMENTS["after the note"])
    assert "finished" in job.start(unchecked).communicate(timeout=60)[0]
    assert (job.folder / "plain.bin").read_bytes() == PLAIN


def test_killed_after_it_was_put_into_place(job: Job) -> None:
    job.dies(
        "staging.shutil.rmtree = lambda path, **options: die() if Path(path).name == 'nodule.old' "
        "and (Path(path).parent.parent / 'nodule').exists() else None"
    )
    assert state(job.row, job.folder) == "complete"
    # What was left behind is no part of a later download.
    job.folder.rename(job.root / "moved")
    job.completes()


def test_two_at_once(job: Job) -> None:
    job.slowly()
    process = job.start()
    wait_for(lambda: job.server.requests, process)
    with pytest.raises(DataError, match=f"being fetched by process {process.pid} on"):
        job.fetch()
    kill(process)
    # The lock ended with the process.
    job.completes()


def test_who_waited_for_the_lock_looks_again(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other process finishes between the look at the folder and the lock."""

    def finish_first(folder: Path) -> object:
        monkeypatch.setattr(core, "locked", locked)
        job.fetch()
        return locked(folder)

    monkeypatch.setattr(core, "locked", finish_first)
    assert job.fetch() == "complete"
    assert len(job.server.requests) == 2
    assert not (job.root / ".voxseq-fetch").exists()


def test_interrupted_by_the_user(job: Job) -> None:
    """Control-C ends it soon, although a thread is in the middle of a file."""
    job.slowly(50_000)
    process = job.start()
    wait_for(lambda: job.has_part(100_000), process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert "KeyboardInterrupt" in err
    job.completes()


def test_a_root_that_cannot_be_written(job: Job) -> None:
    (job.root / "root").write_bytes(b"a file")
    with pytest.raises(ResourceError, match="cannot be written"):
        fetch(job.row, job.root / "root", retry=HASTY)
    if os.getuid():
        job.root.chmod(0o500)
        with pytest.raises(ResourceError, match="cannot be written"):
            fetch(job.row, job.root / "other", retry=HASTY)
        job.root.chmod(0o700)


@pytest.mark.parametrize(
    ("moment", "files", "requests"),
    [("staging.write_record", {"plain.bin": PLAIN}, 1), ("staging.Staging.publish", FILES, 0)],
)
def test_a_changed_catalogue_keeps_what_is_still_named(
    job: Job, moment: str, files: dict[str, bytes], requests: int
) -> None:
    """And drops the rest; trees that were joined with the rest are fetched again."""
    job.dies(f"{moment} = die")
    job.server.requests.clear()
    kept = job.row.files[:1] if requests else job.row.files[1:]
    fetch(dataset(kept), job.root, retry=HASTY)
    found = contents(job.folder)
    del found[RECORD]
    assert found == files
    assert len(job.server.requests) == requests


@pytest.mark.parametrize("moment", ["staging.Staging.publish", "staging.write_record"])
def test_killed_while_remains_are_removed(job: Job, moment: str) -> None:
    """Some of the remains are gone, some are not: none is taken for complete."""
    job.dies(f"{moment} = die")
    job.dies(
        "from voxseq.fetch.staging import Staging\n"
        "Staging.prepare = lambda self, units: self.remove()\n"
        "rmtree = staging.shutil.rmtree\n"
        "def half(path, **options):\n"
        "    if Path(path).name == 'nodule.old' and Path(path).exists():\n"
        "        for item in sorted(Path(path).rglob('*.bin')):\n"
        "            item.unlink()\n"
        "        die()\n"
        "    rmtree(path, **options)\n"
        "staging.shutil.rmtree = half\n"
    )
    assert job.staging.with_name("nodule.old").exists()
    job.completes()


def test_trees_that_somebody_removed_are_fetched_again(job: Job) -> None:
    job.dies("staging.Staging.publish = die")
    shutil.rmtree(job.staging / "trees")
    job.completes()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("where", ["body", "header"])
def test_asked_to_end_while_a_server_drips(job: Job, number: int, where: str) -> None:
    """It ends at once, closes the connection, and keeps what has come."""
    head = b'HTTP/1.1 200 OK\r\nETag: "a"\r\n'
    if where == "body":
        head += b"Content-Length: %d\r\n\r\n" % (2 * len(PLAIN)) + PLAIN
    with wire(drips(head)) as server:
        command = [sys.executable, "-c", COMMAND, f"{server.base}/n.npz", str(job.root)]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        has_begun = (lambda: job.has_part(len(PLAIN))) if where == "body" else lambda: server.asked
        wait_for(has_begun, process)
        process.send_signal(number)
        _, err = process.communicate(timeout=5)
        assert server.gone.wait(5)
    assert process.returncode == 75
    assert "Traceback" not in err
    assert "the same command" in err
    if where == "body":
        (part,) = job.staging.glob("parts/*.part")
        assert part.read_bytes().startswith(PLAIN)
        assert part.with_name(f"{part.name}.json").exists()


#: The command for one file of the catalogue.
COMMAND = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
import dataclasses
from voxseq.cli import main as cli
from voxseq import catalogue
from voxseq.catalogue import RemoteFile, rows
row = catalogue.get("nodule")
rows.CATALOGUE["nodule"] = dataclasses.replace(row, files=(RemoteFile(sys.argv[1], "n.npz"),))
sys.argv = ["voxseq", "data", "download", "nodule", "--root", sys.argv[2]]
cli.main()
"""
