"""Servers that send too much, too slowly, from elsewhere, or something else."""

from __future__ import annotations

import json
import shutil
import ssl
from pathlib import Path

import pytest

from tests.fetch.test_fetch_transfer import CONTENT, PATH, arrived, call
from tests.helpers.hostile import certificate, drips, says, wire
from tests.helpers.packing import HASTY, contents, dataset, md5
from tests.helpers.servers import Server
from voxseq.base.errors import DataError, IntegrityError, ResourceError
from voxseq.catalogue import RemoteFile
from voxseq.fetch import RetryPolicy, fetch, provide

OK = b"HTTP/1.1 200 OK\r\n"
CLOSE = b"Connection: close\r\n\r\n"
#: One attempt, and a window of a tenth of a second.
BRISK = RetryPolicy(1, 0.001, 0.5, 0.2, 0.3, 1e6, 0.1)


def nothing_kept(root: Path) -> bool:
    left = contents(root) if root.exists() else {}
    return not [name for name in left if not name.endswith(".lock")]


def test_no_more_than_the_catalogue_states_is_taken(tmp_path: Path) -> None:
    with (
        wire(drips(OK + CLOSE, bytes(50_000), 0.001)) as server,
        pytest.raises(IntegrityError, match="more than the 100 bytes") as error,
    ):
        call(f"{server.base}/n.npz", tmp_path, size=100)
    assert server.base in error.value.what
    assert error.value.hint
    assert nothing_kept(tmp_path)


def test_a_file_in_chunks_without_end(tmp_path: Path) -> None:
    head = OK + b"Transfer-Encoding: chunked\r\n\r\n"
    piece = b"c350\r\n" + bytes(50_000) + b"\r\n"
    with wire(drips(head, piece, 0.001)) as server, pytest.raises(IntegrityError, match="the 100"):
        call(f"{server.base}/n.npz", tmp_path, size=100)


def test_a_part_that_is_longer_than_it_says(server: Server, tmp_path: Path) -> None:
    """The length of the whole comes from the first answer; the second one does not end."""
    from tests.helpers.servers import Fault

    url = server.put(PATH, CONTENT)
    server.faults[PATH] = [Fault(drop=1000), Fault(503)]
    with pytest.raises(DataError, match="503"):
        call(url, tmp_path)
    place, total = f"bytes 1000-{len(CONTENT) - 1}/{len(CONTENT)}", len(CONTENT)
    head = b"HTTP/1.1 206 Partial\r\nContent-Range: " + place.encode() + b"\r\n" + CLOSE
    with wire(drips(head, bytes(50_000), 0.001)) as other:
        for note in tmp_path.rglob("*.part.json"):
            moved = json.loads(note.read_text()) | {"url": f"{other.base}{PATH}"}
            note.write_text(json.dumps(moved))
            note.rename(note.with_name(f"{_digest(moved['url'])}.part.json"))
            part = note.with_suffix("")
            part.rename(part.with_name(f"{_digest(moved['url'])}.part"))
        with pytest.raises(IntegrityError, match=f"more than the {total} bytes"):
            call(f"{other.base}{PATH}", tmp_path)


def _digest(url: str) -> str:
    from voxseq.base.digest import digest

    return digest(url)


def test_without_any_length_the_disk_is_not_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=500_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with (
        wire(drips(OK + CLOSE, bytes(50_000), 0.001)) as server,
        pytest.raises(ResourceError, match="states no length"),
    ):
        call(f"{server.base}/n.npz", tmp_path)
    assert nothing_kept(tmp_path)


def test_the_catalogues_size_of_the_whole_bounds_each_file(tmp_path: Path) -> None:
    for head in (OK + CLOSE, OK + b"Content-Length: 2000000\r\n" + CLOSE):
        with (
            wire(drips(head, bytes(50_000), 0.001)) as server,
            pytest.raises(DataError, match=r"more than the 1\.2 MB"),
        ):
            fetch(
                dataset([RemoteFile(f"{server.base}/n.npz", "n.npz")], size=1_000_000),
                tmp_path,
                retry=HASTY,
            )


def test_what_the_workflow_fetches_is_bounded(tmp_path: Path) -> None:
    """The first answer states a small size, the second one none."""
    answers = [OK + b"Content-Length: 10\r\n" + CLOSE, OK + CLOSE]
    endless = drips(b"", bytes(50_000), 0.001)

    def script(sock: object, asked: bytes) -> None:
        sock.sendall(answers.pop(0))  # type: ignore[attr-defined]
        endless(sock, asked)  # type: ignore[arg-type]

    with (
        wire(script) as server,
        pytest.raises(DataError, match=r"more than the 300\.0 kB.*fetch_at_most_gb"),
    ):
        provide(dataset([RemoteFile(f"{server.base}/n.npz", "n.npz")]), tmp_path / "n", 300_000)


def test_a_server_that_does_not_close_after_the_last_byte(tmp_path: Path) -> None:
    import time

    def script(sock: object, _: bytes) -> None:
        sock.sendall(OK + CLOSE + CONTENT)  # type: ignore[attr-defined]
        time.sleep(1)

    with wire(script) as server:
        call(f"{server.base}{PATH}", tmp_path, BRISK, size=len(CONTENT))
    assert arrived(tmp_path)


SLOW = {
    "body": OK + CLOSE,
    "body of known length": OK + b"Content-Length: 5000000\r\n" + CLOSE,
    "chunk": OK + b"Transfer-Encoding: chunked\r\n\r\nfffff\r\n",
    "size of a chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n",
    "trailer": OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nA: ",
    "header": OK + b"ETag: ",
    "status": b"HTTP/1.1 200 ",
    "nothing": b"",
}


@pytest.mark.parametrize("where", SLOW)
def test_a_byte_now_and_then_is_given_up(tmp_path: Path, where: str) -> None:
    with (
        wire(drips(SLOW[where], b"0", 0.02)) as server,
        pytest.raises(DataError, match="given up after 1 attempts") as error,
    ):
        call(f"{server.base}/n.npz", tmp_path, BRISK)
    assert "continues where it stopped" in error.value.hint
    assert server.gone.wait(5)


def test_a_server_that_says_to_wait_for_ever(tmp_path: Path) -> None:
    with (
        wire(drips(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.001)) as server,
        pytest.raises(DataError, match="headers of the answer were not complete"),
    ):
        call(f"{server.base}/n.npz", tmp_path, BRISK)


def test_a_listing_that_drips(tmp_path: Path) -> None:
    from voxseq.fetch import Services

    row = dataset([RemoteFile("s3://b/p/", path="x")])
    with (
        wire(drips(OK + CLOSE, b" ", 0.02)) as server,
        pytest.raises(DataError, match="given up"),
    ):
        fetch(row, tmp_path, retry=BRISK, services=Services(server.base))


HEADERS = {
    "²": b"Content-Length: \xb2",
    "many digits": b"Content-Length: " + b"1" * 5000,
    "negative": b"Content-Length: -5",
    "underscore": b"Content-Length: 1_0",
    "none": b"Content-Length: ",
    "two": b"Content-Length: 5, 6",
}


@pytest.mark.parametrize("how", HEADERS)
def test_a_length_that_is_no_number(tmp_path: Path, how: str) -> None:
    answer = OK + HEADERS[how] + b"\r\n" + CLOSE + CONTENT
    with wire(says(answer)) as server:
        with pytest.raises(DataError, match=r"Content-Length|the length") as error:
            call(f"{server.base}{PATH}", tmp_path)
        assert server.base in error.value.what
        assert error.value.hint
        row = dataset([RemoteFile(f"{server.base}{PATH}", "n.npz")])
        with pytest.raises(DataError):
            provide(row, tmp_path / "nodule", 10**9)


@pytest.mark.parametrize("value", [b"bytes \xb2-9/10", b"bytes 500-9/" + b"1" * 5000, b"", b"x"])
def test_a_range_that_is_none_begins_anew(tmp_path: Path, value: bytes) -> None:
    whole = OK + b'ETag: "a"\r\nContent-Length: %d\r\n\r\n' % len(CONTENT)
    part = b'HTTP/1.1 206 Partial\r\nETag: "a"\r\nContent-Range: ' + value + b"\r\n" + CLOSE
    answers = [whole + CONTENT[:1000], part + CONTENT, whole + CONTENT]
    with wire(lambda sock, _: sock.sendall(answers.pop(0))) as server:
        call(f"{server.base}{PATH}", tmp_path)
        assert [b"\r\nRange:" in asked for asked in server.asked] == [False, True, False]
    assert arrived(tmp_path)


@pytest.mark.parametrize(
    ("value", "fails"),
    [
        (b"\xb2", False),
        (b"1" * 5000, True),
        (b"9999999999", True),
        (b"-7", False),
        (b"Fri, 31 Dec 99999 23:59:59 GMT", False),
        (b"Fri, 31 Dec 9999 23:59:59 GMT", True),
    ],
)
def test_any_time_to_wait(tmp_path: Path, value: bytes, fails: bool) -> None:
    refusal = b"HTTP/1.1 503 Busy\r\nRetry-After: " + value + b"\r\nContent-Length: 0\r\n" + CLOSE
    answers = [refusal, OK + CLOSE + CONTENT]
    with wire(lambda sock, _: sock.sendall(answers.pop(0))) as server:
        if fails:
            with pytest.raises(DataError, match="asks to wait"):
                call(f"{server.base}{PATH}", tmp_path)
        else:
            call(f"{server.base}{PATH}", tmp_path)
            assert arrived(tmp_path)


@pytest.mark.parametrize("etag", [b'"a\r\n b"', b'"' + b"a" * 5000 + b'"', b'"a"\t"', b"\xb2"])
def test_a_validator_that_cannot_be_sent_back(tmp_path: Path, etag: bytes) -> None:
    whole = OK + b"ETag: " + etag + b"\r\nContent-Length: %d\r\n\r\n" % len(CONTENT)
    answers = [whole + CONTENT[:1000], whole + CONTENT]
    with wire(lambda sock, _: sock.sendall(answers.pop(0))) as server:
        call(f"{server.base}{PATH}", tmp_path)
        assert b"If-Range" not in server.asked[1]
    assert arrived(tmp_path)


def test_an_answer_that_is_packed_for_the_way(tmp_path: Path) -> None:
    answer = OK + b"Content-Encoding: gzip\r\n" + CLOSE + CONTENT
    with wire(says(answer)) as server:
        with pytest.raises(DataError, match="compresses"):
            call(f"{server.base}{PATH}", tmp_path)
        # Labelled wrongly, as compressed archives are by some servers: the checksum tells.
        call(f"{server.base}{PATH}", tmp_path, checksum=md5(CONTENT))
    assert arrived(tmp_path)


def test_redirects_without_end(tmp_path: Path) -> None:
    answer = b"HTTP/1.1 302 Found\r\nLocation: /n.npz\r\nContent-Length: 0\r\n" + CLOSE
    with (
        wire(says(answer)) as server,
        pytest.raises(DataError, match="redirected more than 10 times"),
    ):
        call(f"{server.base}/n.npz", tmp_path)
    assert len(server.asked) == 11


@pytest.mark.parametrize("location", [b"ftp://127.0.0.1/x", b"\xff\xfe", b"http://[::1", b"x:\x01"])
def test_a_redirect_to_no_address(tmp_path: Path, location: bytes) -> None:
    answer = b"HTTP/1.1 302 Found\r\nLocation: " + location + b"\r\n" + CLOSE
    with wire(says(answer)) as server, pytest.raises(DataError) as error:
        call(f"{server.base}/n.npz", tmp_path)
    assert server.base in error.value.what
    assert error.value.hint


def test_the_body_of_a_redirect_is_not_read(server: Server, tmp_path: Path) -> None:
    url = server.put(PATH, CONTENT)
    head = f"HTTP/1.1 302 Found\r\nLocation: {url}\r\n".encode() + CLOSE
    with wire(drips(head, bytes(50_000), 0.001)) as other:
        call(f"{other.base}/n.npz", tmp_path)
        assert other.gone.wait(5)
    assert arrived(tmp_path)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.mark.parametrize("hops", [0, 1])
def test_only_a_checksum_allows_to_leave_the_encrypted_way(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tls: tuple[ssl.SSLContext, Path],
    hops: int,
) -> None:
    context, public = tls
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(public))
    target = server.put(PATH, CONTENT)
    places = [f"/{n}" for n in range(1, hops + 1)] + [target]

    def script(sock: object, asked: bytes) -> None:
        place = places[int(asked.split()[1].strip(b"/"))]
        sock.sendall(  # type: ignore[attr-defined]
            f"HTTP/1.1 302 Found\r\nLocation: {place}\r\nContent-Length: 0\r\n".encode() + CLOSE
        )

    with wire(script, context) as other:
        for facts in ({}, {"size": len(CONTENT)}):
            with pytest.raises(DataError, match=r"from https to 'http:.*no checksum") as error:
                call(f"{other.base}/0", tmp_path, **facts)
            assert "publisher's page" in error.value.hint
        assert not server.requests
        call(f"{other.base}/0", tmp_path, checksum=md5(CONTENT))
    assert arrived(tmp_path)
