"""Buckets: their addresses, long lists of objects, and lists that are wrong or do not end."""

from __future__ import annotations

import socket
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from tests.helpers.hostile import drips, wire
from tests.helpers.packing import HASTY, ITEM, LISTING, Bucket, contents, dataset, listing, md5, tar
from tests.helpers.servers import Server
from voxseq.base.errors import DataError, IntegrityError
from voxseq.catalogue import DataSet, RemoteFile
from voxseq.fetch import FetchResult, Services, fetch
from voxseq.fetch.http import Client

#: All objects of a bucket below a prefix.
ROW = dataset([RemoteFile("s3://b/p/", path="x")])


def get(services: Services | str, root: Path, row: DataSet = ROW) -> FetchResult:
    where = services if isinstance(services, Services) else Services(services)
    return fetch(row, root, retry=HASTY, services=where)


def test_the_addresses_of_amazon() -> None:
    amazon = Services.from_environment()
    assert amazon.address("s3://bucket/a b/c+d") == ("https://bucket.s3.amazonaws.com/a%20b/c%2Bd")
    assert amazon.address("https://x/y") == "https://x/y"
    assert amazon.series("1.2.3") == (
        "https://nbia.cancerimagingarchive.net/nbia-api/services/v4/getImage"
        "?NewFileNames=Yes&SeriesInstanceUID=1.2.3"
    )


def test_services_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOXSEQ_S3_ENDPOINT", "http://localhost:9/")
    monkeypatch.setenv("VOXSEQ_NBIA_URL", "http://localhost:8/api/")
    here = Services.from_environment()
    assert here.address("s3://b/k") == "http://localhost:9/b/k"
    assert here.series("1").startswith("http://localhost:8/api/getImage?")


def test_more_objects_than_a_page_of_the_list(
    bucket: Bucket, services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one less than expected, which is added later."""
    for number in range(6):
        bucket.put(f"data/mha/{number}.mha", bytes([number]))
    asked = []
    text = Client.text

    def small_pages(self: Client, url: str) -> bytes:
        asked.append(url)
        return text(self, f"{url}&max-keys=3")

    monkeypatch.setattr(Client, "text", small_pages)
    row = dataset([RemoteFile(f"s3://{bucket.name}/data/mha/", "data/mha", objects=7)])
    with pytest.raises(DataError, match="6 objects, expected 7"):
        get(services, tmp_path, row)
    bucket.put("data/mha/6.mha", bytes([6]))
    asked.clear()
    get(services, tmp_path, row)
    assert len(asked) == 3
    got = contents(tmp_path / "nodule/data/mha")
    assert got == {f"{n}.mha": bytes([n]) for n in range(7)}


def test_an_object_of_a_bucket_with_its_checksum(
    bucket: Bucket, services: Services, tmp_path: Path
) -> None:
    content = tar({"dataset.json": b"{}"})
    bucket.put("Task09.tar", content)
    url = f"s3://{bucket.name}/Task09.tar"
    file = RemoteFile(url, checksum=md5(content), archive="tar")
    get(services, tmp_path, dataset([file]))
    assert (tmp_path / "nodule" / "dataset.json").exists()
    wrong = replace(file, checksum=md5(b"other"))
    with pytest.raises(IntegrityError, match="the checksum is"):
        get(services, tmp_path / "wrong", dataset([wrong]))
    with pytest.raises(DataError, match="no object is there"):
        empty = dataset([RemoteFile(f"s3://{bucket.name}/none/", path="x")])
        get(services, tmp_path / "none", empty)


def test_a_bucket_that_does_not_exist(services: Services, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="404"):
        get(services, tmp_path)


def test_an_object_other_than_its_listing(server: Server, tmp_path: Path) -> None:
    listing(server, ("one", 3, md5(b"one")[4:]), ("two", 3, "parts-2"))
    server.put("/b/p/one", b"bad")
    server.put("/b/p/two", b"two")
    with pytest.raises(IntegrityError, match="the checksum is"):
        get(server.base, tmp_path)
    server.put("/b/p/one", b"one")
    server.requests.clear()
    result = get(server.base, tmp_path)
    # The object that was right is not asked for again.
    assert [r.path for r in server.requests] == ["/b?list-type=2&prefix=p/", "/b/p/one"]
    assert [item.verified_by for item in result.weak] == ["length"]


SIZES = ["", "-5", "1.5", "1_0", "²", "9" * 5000, "1e3", "0x10", "None"]


@pytest.mark.parametrize(
    ("items", "reason"),
    [
        *(([ITEM.format("one", s, "x-2")], r"list states (no|the) size.*'p/one'") for s in SIZES),
        (["<Contents><Key>p/one</Key></Contents>"], "states no size"),
        (["<Contents><Size>1</Size></Contents>"], "not below that address"),
        (["<Contents><Key>other/one</Key><Size>1</Size></Contents>"], "not below that address"),
        ([ITEM.format("../../out", 1, "x-2")], "leads out"),
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
    listing(server, *items)
    with pytest.raises(DataError, match=reason) as error:
        get(server.base, tmp_path)
    assert error.value.hint
    assert ("VOXSEQ_S3_ENDPOINT" in error.value.hint) == ("bucket's list" in error.value.what)
    assert len(server.requests) == 1


EMPTY = LISTING.format("")


@pytest.mark.parametrize(
    "answer",
    [
        "<html><p>hello",
        "<Error><Code>NoSuchBucket</Code></Error>",
        *(
            EMPTY.replace('"1.0"', f'"1.0" encoding="{code}"')
            for code in ("no-such-code", "utf-32", "shift_jis")
        ),
    ],
)
def test_an_answer_that_is_no_listing(server: Server, tmp_path: Path, answer: str) -> None:
    server.put("/b?list-type=2&prefix=p/", answer.encode())
    with pytest.raises(DataError, match=r"no list of a bucket|no object is there") as error:
        get(server.base, tmp_path)
    assert ("no object" in error.value.what) <= ("shift_jis" in answer)


@pytest.mark.parametrize("tokens", ["same", "new"])
def test_a_list_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokens: str) -> None:
    monkeypatch.setattr("voxseq.fetch.services._MOST_PAGES", 5)
    numbers = count()

    def script(sock: socket.socket, _: bytes) -> None:
        token = next(numbers) if tokens == "new" else 7
        body = LISTING.format(f"<NextContinuationToken>{token}</NextContinuationToken>").encode()
        head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
        sock.sendall(head + body)

    with wire(script) as server:
        with pytest.raises(DataError, match="does not end"):
            get(server.base, tmp_path)
        assert len(server.asked) == (2 if tokens == "same" else 6)


def test_an_object_that_does_not_end(tmp_path: Path) -> None:
    """The list says how much of it is taken."""

    def script(sock: socket.socket, asked: bytes) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        if b"list-type" in asked:
            sock.sendall(LISTING.format(ITEM.format("one", 3, "x-2")).encode())
        else:
            drips(b"", bytes(10_000), 0.001)(sock, asked)

    with wire(script) as server, pytest.raises(IntegrityError, match="more than the 3 bytes"):
        get(server.base, tmp_path)
