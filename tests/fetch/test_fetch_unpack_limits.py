"""Archives whose names, headers or left-out members are too much, and disks that fail."""

from __future__ import annotations

import errno
import gzip
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fetch.test_fetch_unpack import FILES, call, refused, tree
from tests.helpers.packing import tar, tar_entry, zipped
from tests.helpers.servers import Server
from voxseq.base.errors import ResourceError
from voxseq.fetch import unpack as module


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root with room around it that must stay empty."""
    folder = tmp_path / "around" / "root"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("kind", ["tar", "zip"])
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a" * 300, "a part of 300 bytes, file systems allow 255"),
        ("folder/" + "ü" * 150 + "/file", "a part of 300 bytes"),
        ("d/" * 1500 + "file", "bytes, at most 2048 are allowed"),
    ],
)
def test_names_that_are_too_long(
    server: Server, root: Path, kind: str, name: str, reason: str
) -> None:
    pack: Callable[[dict[str, bytes]], bytes] = tar if kind == "tar" else zipped
    error = refused(server, root, pack({"fine": b"1", name: b"1"}), kind, reason)
    assert "damaged" not in error.what
    assert "shorter names" in error.hint


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_names_of_the_greatest_length(server: Server, root: Path, kind: str) -> None:
    files = {"a" * 255: b"1", f"d/{'ü' * 127}": b"2"}
    call(server, root, tar(files) if kind == "tar" else zipped(files), kind)
    assert tree(root) == files


@pytest.mark.parametrize("name", ["._junk", "__MACOSX/junk", ".DS_Store"])
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_what_is_left_out_counts(server: Server, root: Path, kind: str, name: str) -> None:
    """It is unpacked on the way to the next member, though not written."""
    files = {name: bytes(3_000_000), "fine": b"1"}
    content = tar(files, "w:gz") if kind == "tar" else zipped(files)
    refused(server, root, content, kind, "unpacks to more than")


def test_left_out_members_of_a_declared_size_count(
    server: Server, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voxseq.fetch.unpack.MOST_MEMBERS", 10)
    content = tar({f"._{n}": b"" for n in range(11)} | FILES, "w:gz")
    refused(server, root, content, "tar", "more than 10 members")


def test_headers_without_end(server: Server, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voxseq.fetch.unpack._HEADERS", 1 << 20)
    header = tar_entry("pax", tarfile.XGLTYPE, size=1 << 19).tobuf(tarfile.GNU_FORMAT)
    record = b"99 comment=" + b"x" * 87 + b"\n"
    body = (record * (1 << 13))[: 1 << 19]
    refused(server, root, gzip.compress((header + body) * 100), "tar", "headers without|damaged")


def test_a_table_of_contents_that_asks_for_all_memory(
    server: Server, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voxseq.fetch.unpack._LONGEST_TABLE", 10_000)
    refused(server, root, zipped({f"{n}": b"" for n in range(1000)}), "zip", "a header of")


@pytest.mark.parametrize("kind", ["tar", "zip"])
@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EACCES])
def test_a_disk_that_fails_condemns_no_archive(
    server: Server, root: Path, monkeypatch: pytest.MonkeyPatch, kind: str, number: int
) -> None:
    content = tar(FILES) if kind == "tar" else zipped(FILES)

    class Broken(io.BytesIO):
        def read(self, _: int | None = -1) -> bytes:
            raise OSError(number, os.strerror(number))

    real = module._Bounded
    with monkeypatch.context() as patch:
        patch.setattr(module, "_Bounded", lambda _, *a: real(Broken(content), *a))
        with pytest.raises(ResourceError, match=r"\.archive: cannot be read"):
            call(server, root, content, kind)
    call(server, root, content, kind)
    assert tree(root) == FILES
    assert len(server.requests) == 1
