"""Damaged notes count as not done; a disk that fails condemns nothing."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from tests.fetch.test_fetch_transfer import CONTENT, PATH, arrived, call
from tests.helpers.servers import Fault, Server
from voxseq.base.errors import DataError, IntegrityError, ResourceError, VoxseqError
from voxseq.fetch import content, staging


@pytest.mark.parametrize("damage", ["", "[]", "null", "{", '{"url": 5}', "[" * 200_000, "\0\xff"])
def test_a_damaged_note_of_a_transfer_begins_anew(
    server: Server, tmp_path: Path, damage: str
) -> None:
    url = server.put(PATH, CONTENT)
    server.faults[PATH] = [Fault(drop=1000), Fault(503)]
    with pytest.raises(DataError, match="503"):
        call(url, tmp_path)
    (note,) = tmp_path.rglob("*.part.json")
    note.write_bytes(damage.encode("latin-1"))
    server.faults.clear()
    call(url, tmp_path)
    assert arrived(tmp_path)
    assert server.ranges()[-1] == ""


@pytest.mark.parametrize("damage", ["", "[]", "null", "{", '{"id": 5}', "[" * 200_000, "\0\xff"])
@pytest.mark.parametrize("note", ["done/*.json", "joining.json"])
def test_a_damaged_note_counts_as_not_done(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str, note: str
) -> None:
    url = server.put(PATH, CONTENT)
    with monkeypatch.context() as patch:
        patch.setattr(staging, "write_record", _fail)
        with pytest.raises(KeyboardInterrupt):
            call(url, tmp_path)
    (path,) = (tmp_path / ".voxseq-fetch/nodule").glob(note)
    path.write_bytes(damage.encode("latin-1"))
    call(url, tmp_path)
    assert arrived(tmp_path)


def _fail(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_note_that_the_machine_cannot_read_condemns_nothing(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A passing fault of the disk: the same call later continues."""
    url = server.put(PATH, CONTENT)
    server.faults[PATH] = [Fault(drop=1000), Fault(503)]
    with pytest.raises(DataError, match="503"):
        call(url, tmp_path)
    server.faults.clear()
    with monkeypatch.context() as patch:
        _fails_to_read(patch, ".part.json")
        with pytest.raises(ResourceError, match=r"\.part\.json: cannot be read"):
            call(url, tmp_path)
    call(url, tmp_path)
    assert server.ranges()[-1] == "bytes=1000-"


@pytest.mark.parametrize("damage", ["", "[]", '{"dataset": 5}', "[" * 200_000])
def test_a_damaged_record_is_told(server: Server, tmp_path: Path, damage: str) -> None:
    url = server.put(PATH, CONTENT)
    call(url, tmp_path)
    (tmp_path / "nodule/.voxseq-fetch.json").write_text(damage)
    with pytest.raises(IntegrityError, match="cannot be read") as error:
        call(url, tmp_path)
    assert "remove this file" in error.value.hint


def test_a_record_that_the_machine_cannot_read(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server.put(PATH, CONTENT)
    call(url, tmp_path)
    _fails_to_read(monkeypatch, ".voxseq-fetch.json")
    with pytest.raises(ResourceError, match=r"nodule/\.voxseq-fetch\.json: cannot be read"):
        call(url, tmp_path)


def _fails_to_read(patch: pytest.MonkeyPatch, ending: str) -> None:
    real = Path.read_bytes

    def broken(path: Path) -> bytes:
        if path.name.endswith(ending):
            raise OSError(errno.EIO, "Input/output error")
        return real(path)

    patch.setattr(Path, "read_bytes", broken)


def test_a_file_that_the_machine_cannot_read_is_named(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And kept: the next call checks it again."""

    class Broken:
        def update(self, _: bytes) -> None:
            raise OSError(errno.EIO, "Input/output error")

    url = server.put(PATH, CONTENT)
    with monkeypatch.context() as patch:
        patch.setattr(content.hashlib, "new", lambda *_, **__: Broken())
        with pytest.raises(VoxseqError, match=r"\.part: cannot be read \(Input/output error\)"):
            call(url, tmp_path)
    call(url, tmp_path)
    assert arrived(tmp_path)
    assert len(server.requests) == 1
