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
from pathlib import Path

import pytest

from tests.helpers import ROOT
from tests.helpers.hostile import drips, wire
from tests.helpers.packing import HASTY, contents, dataset, md5, zipped
from tests.helpers.servers import Fault, Server
from voxseq.base.errors import DataError
from voxseq.catalogue import DataSet, RemoteFile
from voxseq.fetch import fetch, read_record, state
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
sys.path.insert(0, {here!r})
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


def start(server: Server, root: Path, fault: str = "") -> subprocess.Popen[str]:
    """A process that fetches the data set."""
    program = CHILD.format(here=str(ROOT), fault=fault, base=server.base, root=str(root))
    return subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for(condition: object, process: subprocess.Popen[str]) -> None:
    """Until ``condition()``; fails when the process ends before."""
    for _ in range(3000):
        if condition():  # type: ignore[operator]
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    raise AssertionError("nothing happened in 30 s")


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    assert process.wait() == -signal.SIGKILL
    process.communicate()


@pytest.fixture
def published(server: Server) -> Server:
    """The server with both files."""
    server.put("/plain.bin", PLAIN)
    server.put("/a.zip", ARCHIVE)
    return server


def completes(server: Server, root: Path) -> None:
    """Nothing looks complete; the next call makes it so, and leaves nothing behind."""
    assert state(row(server.base), root / "nodule") == "absent"
    assert fetch(row(server.base), root, retry=HASTY).state == "fetched"
    found = contents(root / "nodule")
    del found[".voxseq-fetch.json"]
    assert found == {"plain.bin": PLAIN, **FILES}
    record = read_record(root / "nodule")
    assert record is not None
    assert [(item.size, item.files) for item in record.fetched] == [
        (len(PLAIN), 1),
        (len(ARCHIVE), 20),
    ]
    assert not (root / ".voxseq-fetch").exists()


def test_killed_while_downloading(published: Server, tmp_path: Path) -> None:
    published.put("/plain.bin", PLAIN, block=100_000, pause=0.1)
    process = start(published, tmp_path)
    parts = tmp_path / ".voxseq-fetch/nodule/parts"
    wait_for(lambda: any(p.stat().st_size >= 300_000 for p in parts.glob("*.part")), process)
    kill(process)
    published.put("/plain.bin", PLAIN)
    published.requests.clear()
    completes(published, tmp_path)
    (again,) = [r for r in published.requests if r.path == "/plain.bin"]
    assert int(again.headers["range"].removeprefix("bytes=").removesuffix("-")) >= 300_000


def test_killed_while_unpacking(published: Server, tmp_path: Path) -> None:
    slowly = (
        "count = unpack._Writer.count\n"
        "unpack._Writer.count = lambda *a: (time.sleep(0.1), count(*a))"
    )
    process = start(published, tmp_path, slowly)
    growing = tmp_path / ".voxseq-fetch/nodule/unpack"
    wait_for(lambda: len(list(growing.rglob("*.bin"))) >= 3, process)
    kill(process)
    published.requests.clear()
    completes(published, tmp_path)
    # The archive was complete and is not fetched again.
    assert not [r for r in published.requests if r.path == "/a.zip"]


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
def test_killed_at(published: Server, tmp_path: Path, moment: str) -> None:
    process = start(published, tmp_path, MOMENTS[moment])
    out, err = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, (out, err)
    completes(published, tmp_path)
    # Not even the worst moment makes a third transfer of a file necessary.
    asked = [request.path for request in published.requests]
    assert max(asked.count("/plain.bin"), asked.count("/a.zip")) <= 2


def test_killed_when_a_changed_file_begins(server: Server, tmp_path: Path) -> None:
    """The note of the new file never lies beside the beginning of the old one."""
    server.put("/a.zip", ARCHIVE)
    server.put("/plain.bin", PLAIN[::-1])
    server.faults["/plain.bin"] = [Fault(drop=500_000), Fault(503)]
    unchecked = (
        "import dataclasses\n"
        "sure = row\n"
        "row = lambda base: dataclasses.replace(sure(base), files=tuple(\n"
        "    dataclasses.replace(file, checksum='') for file in sure(base).files))\n"
    )
    start(server, tmp_path, unchecked).communicate(timeout=60)
    server.faults.clear()
    server.put("/plain.bin", PLAIN)
    process = start(server, tmp_path, unchecked + MOMENTS["after the note"])
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    process = start(server, tmp_path, unchecked)
    assert "finished" in process.communicate(timeout=60)[0]
    assert (tmp_path / "nodule" / "plain.bin").read_bytes() == PLAIN


def test_killed_after_it_was_put_into_place(published: Server, tmp_path: Path) -> None:
    process = start(
        published,
        tmp_path,
        "staging.shutil.rmtree = lambda path, **options: die() if Path(path).name == 'nodule.old' "
        "and (Path(path).parent.parent / 'nodule').exists() else None",
    )
    out, err = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, (out, err)
    assert state(row(published.base), tmp_path / "nodule") == "complete"
    # What was left behind is no part of a later download.
    (tmp_path / "nodule").rename(tmp_path / "moved")
    completes(published, tmp_path)


def test_two_at_once(published: Server, tmp_path: Path) -> None:
    published.put("/plain.bin", PLAIN, block=100_000, pause=0.1)
    process = start(published, tmp_path)
    wait_for(lambda: published.requests, process)
    with pytest.raises(DataError, match=f"being fetched by process {process.pid} on"):
        fetch(row(published.base), tmp_path, retry=HASTY)
    kill(process)
    published.put("/plain.bin", PLAIN)
    # The lock ended with the process.
    completes(published, tmp_path)


def test_who_waited_for_the_lock_looks_again(
    published: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other process finishes between the look at the folder and the lock."""
    from voxseq.fetch import core

    def finish_first(folder: Path) -> object:
        monkeypatch.setattr(core, "locked", locked)
        fetch(row(published.base), tmp_path, retry=HASTY)
        return locked(folder)

    monkeypatch.setattr(core, "locked", finish_first)
    assert fetch(row(published.base), tmp_path, retry=HASTY).state == "complete"
    assert len(published.requests) == 2
    assert not (tmp_path / ".voxseq-fetch").exists()


def test_interrupted_by_the_user(published: Server, tmp_path: Path) -> None:
    """Control-C ends it soon, although a thread is in the middle of a file."""
    published.put("/plain.bin", PLAIN, block=50_000, pause=0.1)
    process = start(published, tmp_path)
    parts = tmp_path / ".voxseq-fetch/nodule/parts"
    wait_for(lambda: any(p.stat().st_size >= 100_000 for p in parts.glob("*.part")), process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert "KeyboardInterrupt" in err
    published.put("/plain.bin", PLAIN)
    completes(published, tmp_path)


def test_a_root_that_cannot_be_written(published: Server, tmp_path: Path) -> None:
    (tmp_path / "root").write_bytes(b"a file")
    with pytest.raises(Exception, match="cannot be written"):
        fetch(row(published.base), tmp_path / "root", retry=HASTY)
    if os.getuid():
        tmp_path.chmod(0o500)
        with pytest.raises(Exception, match="cannot be written"):
            fetch(row(published.base), tmp_path / "other", retry=HASTY)
        tmp_path.chmod(0o700)


def test_a_changed_catalogue_drops_what_was_joined(published: Server, tmp_path: Path) -> None:
    process = start(published, tmp_path, "staging.write_record = die")
    process.communicate(timeout=60)
    other = dataset(row(published.base).files[:1])
    fetch(other, tmp_path, retry=HASTY)
    assert set(contents(tmp_path / "nodule")) == {"plain.bin", ".voxseq-fetch.json"}


@pytest.mark.parametrize("moment", ["publish", "write_record"])
def test_killed_while_remains_are_removed(published: Server, tmp_path: Path, moment: str) -> None:
    """Some of the remains are gone, some are not: none is taken for complete."""
    where = "staging.Staging." if moment == "publish" else "staging."
    start(published, tmp_path, f"{where}{moment} = die").communicate(timeout=60)
    half = (
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
    process = start(published, tmp_path, half)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert (tmp_path / ".voxseq-fetch/nodule.old").exists()
    completes(published, tmp_path)


def test_trees_that_somebody_removed_are_fetched_again(published: Server, tmp_path: Path) -> None:
    start(published, tmp_path, "staging.Staging.publish = die").communicate(timeout=60)
    shutil.rmtree(tmp_path / ".voxseq-fetch/nodule/trees")
    completes(published, tmp_path)


def test_a_changed_catalogue_keeps_what_is_still_named(published: Server, tmp_path: Path) -> None:
    process = start(published, tmp_path, "staging.Staging.publish = die")
    process.communicate(timeout=60)
    published.requests.clear()
    fetch(dataset(row(published.base).files[1:]), tmp_path, retry=HASTY)
    found = contents(tmp_path / "nodule")
    del found[".voxseq-fetch.json"]
    assert found == FILES
    assert not published.requests


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("where", ["body", "header"])
def test_asked_to_end_while_a_server_drips(tmp_path: Path, number: int, where: str) -> None:
    """It ends at once, closes the connection, and keeps what has come."""
    size = 2 * len(PLAIN)
    head = b'HTTP/1.1 200 OK\r\nETag: "a"\r\n'
    if where == "body":
        head += b"Content-Length: %d\r\n\r\n" % size + PLAIN
    with wire(drips(head)) as server:
        command = [sys.executable, "-c", COMMAND, f"{server.base}/n.npz", str(tmp_path)]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        parts = tmp_path / ".voxseq-fetch/nodule/parts"
        if where == "body":
            wait_for(
                lambda: any(p.stat().st_size >= len(PLAIN) for p in parts.glob("*.part")), process
            )
        else:
            wait_for(lambda: server.asked, process)
        process.send_signal(number)
        _, err = process.communicate(timeout=5)
        assert server.gone.wait(5)
    assert process.returncode == (130 if number == signal.SIGINT else 75)
    assert "Traceback" not in err
    assert "the same command" in err
    if where == "body":
        (part,) = parts.glob("*.part")
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
