"""Lists of buckets that are wrong, or do not end."""

from __future__ import annotations

import socket
from itertools import count
from pathlib import Path

import pytest

from tests.fetch.test_fetch_layouts import ITEM, LISTING, wicked
from tests.helpers.hostile import drips, wire
from tests.helpers.packing import HASTY, dataset
from tests.helpers.servers import Server
from voxseq.base.errors import DataError, IntegrityError
from voxseq.catalogue import RemoteFile
from voxseq.fetch import Services, fetch


@pytest.mark.parametrize("size", ["", "-5", "1.5", "1_0", "²", "9" * 5000, "1e3", "0x10", "None"])
def test_an_object_without_a_usable_size(server: Server, tmp_path: Path, size: str) -> None:
    row = wicked(server, ITEM.format("one", size, "x-2"))
    with pytest.raises(DataError, match=r"list states (no|the) size.*'p/one'") as error:
        fetch(row, tmp_path, retry=HASTY, services=Services(server.base))
    assert "VOXSEQ_S3_ENDPOINT" in error.value.hint


@pytest.mark.parametrize(
    ("items", "reason"),
    [
        (["<Contents><Key>p/one</Key></Contents>"], "states no size"),
        (["<Contents><Size>1</Size></Contents>"], "not below that address"),
        (["<Contents><Key>other/one</Key><Size>1</Size></Contents>"], "not below that address"),
        ([ITEM.format("a", 1, "x"), ITEM.format("a", 1, "x")], "has 'p/a' twice"),
        ([ITEM.format("a/b", 1, "x"), ITEM.format("a//b", 1, "x")], "has 'p/a//b' twice"),
        ([ITEM.format("a", 1, "x"), ITEM.format("a/b", 1, "x")], "a file and a folder"),
        ([ITEM.format("a" * 300, 1, "x")], "a part of 300 bytes"),
        (["<IsTruncated>true</IsTruncated>", ITEM.format("a", 1, "x")], "is cut short"),
    ],
)
def test_lists_that_cannot_be(
    server: Server, tmp_path: Path, items: list[str], reason: str
) -> None:
    row = wicked(server, *items)
    with pytest.raises(DataError, match=reason) as error:
        fetch(row, tmp_path, retry=HASTY, services=Services(server.base))
    assert error.value.hint
    assert len(server.requests) == 1


@pytest.mark.parametrize("encoding", ["no-such-code", "utf-32", "shift_jis"])
def test_a_list_in_an_unknown_encoding(server: Server, tmp_path: Path, encoding: str) -> None:
    text = LISTING.format("").replace('"1.0"', f'"1.0" encoding="{encoding}"')
    server.put("/b?list-type=2&prefix=p/", text.encode())
    row = dataset([RemoteFile("s3://b/p/", path="x")])
    with pytest.raises(DataError, match=r"no list of a bucket|no object is there"):
        fetch(row, tmp_path, retry=HASTY, services=Services(server.base))


@pytest.mark.parametrize("tokens", ["same", "new"])
def test_a_list_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokens: str) -> None:
    monkeypatch.setattr("voxseq.fetch.services._MOST_PAGES", 5)
    numbers = count()

    def script(sock: socket.socket, _: bytes) -> None:
        token = next(numbers) if tokens == "new" else 7
        body = LISTING.format(f"<NextContinuationToken>{token}</NextContinuationToken>").encode()
        head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
        sock.sendall(head + body)

    row = dataset([RemoteFile("s3://b/p/", path="x")])
    with wire(script) as server:
        with pytest.raises(DataError, match="does not end"):
            fetch(row, tmp_path, retry=HASTY, services=Services(server.base))
        assert len(server.asked) == (2 if tokens == "same" else 6)


def test_an_object_that_does_not_end(tmp_path: Path) -> None:
    """The list says how much of it is taken."""
    listing = LISTING.format(ITEM.format("one", 3, "x-2")).encode()

    def script(sock: socket.socket, asked: bytes) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        if b"list-type" in asked:
            sock.sendall(listing)
        else:
            drips(b"", bytes(10_000), 0.001)(sock, asked)

    row = dataset([RemoteFile("s3://b/p/", path="x")])
    with wire(script) as server, pytest.raises(IntegrityError, match="more than the 3 bytes"):
        fetch(row, tmp_path, retry=HASTY, services=Services(server.base))
