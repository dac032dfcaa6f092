"""Servers that send too much, too slowly, from elsewhere, or something else."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import time
from pathlib import Path

import pytest

from tests.helpers.hostile import Script, certificate, drips, says, wire
from tests.helpers.packing import CONTENT, HASTY, PATH, Site, dataset, md5
from tests.helpers.servers import Fault
from voxseq.base.digest import digest
from voxseq.base.errors import DataError, IntegrityError, ResourceError
from voxseq.catalogue import RemoteFile
from voxseq.fetch import RetryPolicy, Services, fetch, provide

OK = b"HTTP/1.1 200 OK\r\n"
CLOSE = b"Connection: close\r\n\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
SIZED = OK + b"Content-Length: %d\r\n" % len(CONTENT)
REDIRECT = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: %s\r\n" + CLOSE
#: One attempt, and a window of a tenth of a second.
BRISK = RetryPolicy(1, 0.001, 0.5, 0.2, 0.3, 1e6, 0.1)


def floods(head: bytes) -> Script:
    return drips(head, bytes(50_000), 0.001)


def in_turn(*answers: bytes | Script) -> Script:
    """One answer after the other."""
    left = [says(answer) if isinstance(answer, bytes) else answer for answer in answers]

    def script(sock: socket.socket, asked: bytes) -> None:
        left.pop(0)(sock, asked)

    return script


@pytest.mark.parametrize(
    "script",
    [floods(OK + CLOSE), drips(CHUNKED, b"c350\r\n" + bytes(50_000) + b"\r\n", 0.001)],
)
def test_no_more_than_the_catalogue_states_is_taken(site: Site, script: Script) -> None:
    with wire(script) as server:
        site.refused(IntegrityError, "more than the 100 bytes", f"{server.base}/n.npz", size=100)
    assert site.keeps_nothing()


def test_a_part_that_is_longer_than_it_says(site: Site) -> None:
    """The length of the whole comes from the first answer; the second one does not end."""
    site.fail(Fault(drop=1000), Fault(503))
    site.refused(DataError, "503")
    total = len(CONTENT)
    place = f"Content-Range: bytes 1000-{total - 1}/{total}\r\n".encode()
    with wire(floods(b"HTTP/1.1 206 Partial\r\n" + place + CLOSE)) as other:
        url = f"{other.base}{PATH}"
        (note,) = site.root.rglob("*.part.json")
        note.write_text(json.dumps(json.loads(note.read_text()) | {"url": url}))
        note.rename(note.with_name(f"{digest(url)}.part.json"))
        part = note.with_suffix("")
        part.rename(part.with_name(f"{digest(url)}.part"))
        site.refused(IntegrityError, f"more than the {total} bytes", url)


def test_without_any_length_the_disk_is_not_filled(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")._replace(free=500_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with wire(floods(OK + CLOSE)) as server:
        site.refused(ResourceError, "states no length", f"{server.base}/n.npz")
    assert site.keeps_nothing()


@pytest.mark.parametrize("length", [b"", b"Content-Length: 2000000\r\n"])
def test_the_catalogues_size_of_the_whole_bounds_each_file(site: Site, length: bytes) -> None:
    with (
        wire(floods(OK + length + CLOSE)) as server,
        pytest.raises(DataError, match=r"more than the 1\.2 MB"),
    ):
        row = dataset([RemoteFile(f"{server.base}/n.npz", "n.npz")], download=1_000_000)
        fetch(row, site.root, retry=HASTY)


def test_what_the_workflow_fetches_is_bounded(tmp_path: Path) -> None:
    """The first answer states a small size, the second one none."""
    script = in_turn(floods(OK + b"Content-Length: 10\r\n" + CLOSE), floods(OK + CLOSE))
    with (
        wire(script) as server,
        pytest.raises(DataError, match=r"more than the 300\.0 kB.*fetch_at_most_gb"),
    ):
        provide(dataset([RemoteFile(f"{server.base}/n.npz", "n.npz")]), tmp_path / "n", 300_000)


def test_a_server_that_does_not_close_after_the_last_byte(site: Site) -> None:
    answer = says(OK + CLOSE + CONTENT)
    with wire(lambda sock, asked: (answer(sock, asked), time.sleep(1))) as server:
        site.fetch(f"{server.base}{PATH}", BRISK, size=len(CONTENT))
    assert site.arrived()


SLOW = {
    "body": OK + CLOSE,
    "body of known length": SIZED + CLOSE,
    "chunk": CHUNKED + b"fffff\r\n",
    "size of a chunk": CHUNKED,
    "trailer": CHUNKED + b"1\r\nx\r\n0\r\nA: ",
    "header": OK + b"ETag: ",
    "status": b"HTTP/1.1 200 ",
    "nothing": b"",
}


@pytest.mark.parametrize("where", SLOW)
def test_a_byte_now_and_then_is_given_up(site: Site, where: str) -> None:
    with wire(drips(SLOW[where], b"0", 0.02)) as server:
        url = f"{server.base}/n.npz"
        error = site.refused(DataError, "given up after 1 attempts", url, retry=BRISK)
        assert server.gone.wait(5)
    assert "continues where it stopped" in error.hint


def test_a_server_that_says_to_wait_for_ever(site: Site) -> None:
    with wire(drips(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.001)) as server:
        reason = "headers of the answer were not complete"
        site.refused(DataError, reason, f"{server.base}/n.npz", retry=BRISK)


def test_a_listing_that_drips(tmp_path: Path) -> None:
    row = dataset([RemoteFile("s3://b/p/", path="x")])
    with wire(drips(OK + CLOSE, b" ", 0.02)) as server, pytest.raises(DataError, match="given up"):
        fetch(row, tmp_path, retry=BRISK, services=Services(server.base))


@pytest.mark.parametrize("stated", [b"\xb2", b"1" * 5000, b"-5", b"1_0", b"", b"5, 6"])
def test_a_length_that_is_no_number(site: Site, stated: bytes) -> None:
    with wire(says(OK + b"Content-Length: " + stated + b"\r\n" + CLOSE + CONTENT)) as server:
        site.refused(DataError, r"Content-Length|the length", f"{server.base}{PATH}")
        row = dataset([RemoteFile(f"{server.base}{PATH}", "n.npz")])
        with pytest.raises(DataError):
            provide(row, site.folder, 10**9)


@pytest.mark.parametrize("value", [b"bytes \xb2-9/10", b"bytes 500-9/" + b"1" * 5000, b"", b"x"])
def test_a_range_that_is_none_begins_anew(site: Site, value: bytes) -> None:
    whole = SIZED + b'ETag: "a"\r\n\r\n'
    part = b'HTTP/1.1 206 Partial\r\nETag: "a"\r\nContent-Range: ' + value + b"\r\n" + CLOSE
    answers = in_turn(whole + CONTENT[:1000], part + CONTENT, whole + CONTENT)
    with wire(answers) as server:
        site.fetch(f"{server.base}{PATH}")
        assert [b"\r\nRange:" in asked for asked in server.asked] == [False, True, False]
    assert site.arrived()


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
def test_any_time_to_wait(site: Site, value: bytes, fails: bool) -> None:
    refusal = b"HTTP/1.1 503 Busy\r\nRetry-After: " + value + b"\r\nContent-Length: 0\r\n" + CLOSE
    with wire(in_turn(refusal, OK + CLOSE + CONTENT)) as server:
        if fails:
            site.refused(DataError, "asks to wait", f"{server.base}{PATH}")
        else:
            site.fetch(f"{server.base}{PATH}")
    assert site.arrived() != fails


@pytest.mark.parametrize("etag", [b'"a\r\n b"', b'"' + b"a" * 5000 + b'"', b'"a"\t"', b"\xb2"])
def test_a_validator_that_cannot_be_sent_back(site: Site, etag: bytes) -> None:
    whole = SIZED + b"ETag: " + etag + b"\r\n\r\n"
    with wire(in_turn(whole + CONTENT[:1000], whole + CONTENT)) as server:
        site.fetch(f"{server.base}{PATH}")
        assert b"If-Range" not in server.asked[1]
    assert site.arrived()


def test_an_answer_that_is_packed_for_the_way(site: Site) -> None:
    with wire(says(OK + b"Content-Encoding: gzip\r\n" + CLOSE + CONTENT)) as server:
        site.refused(DataError, "compresses", f"{server.base}{PATH}")
        # Labelled wrongly, as compressed archives are by some servers: the checksum tells.
        site.fetch(f"{server.base}{PATH}", checksum=md5(CONTENT))
    assert site.arrived()


def test_redirects_without_end(site: Site) -> None:
    with wire(says(REDIRECT % b"/n.npz")) as server:
        site.refused(DataError, "redirected more than 10 times", f"{server.base}/n.npz")
        assert len(server.asked) == 11


@pytest.mark.parametrize("location", [b"ftp://127.0.0.1/x", b"\xff\xfe", b"http://[::1", b"x:\x01"])
def test_a_redirect_to_no_address(site: Site, location: bytes) -> None:
    with wire(says(REDIRECT % location)) as server:
        site.refused(DataError, ".", f"{server.base}/n.npz")


def test_the_body_of_a_redirect_is_not_read(site: Site) -> None:
    with wire(floods(f"HTTP/1.1 302 Found\r\nLocation: {site.url}\r\n".encode() + CLOSE)) as other:
        site.fetch(f"{other.base}/n.npz")
        assert other.gone.wait(5)
    assert site.arrived()


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.mark.parametrize("hops", [0, 1])
def test_only_a_checksum_allows_to_leave_the_encrypted_way(
    site: Site, monkeypatch: pytest.MonkeyPatch, tls: tuple[ssl.SSLContext, Path], hops: int
) -> None:
    context, public = tls
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(public))
    places = [f"/{n}" for n in range(1, hops + 1)] + [site.url]
    with wire(
        lambda sock, asked: sock.sendall(
            REDIRECT % places[int(asked.split()[1].strip(b"/"))].encode()
        ),
        context,
    ) as other:
        for facts in ({}, {"size": len(CONTENT)}):
            reason = r"from https to 'http:.*no checksum"
            error = site.refused(DataError, reason, f"{other.base}/0", **facts)
            assert "publisher's page" in error.hint
        assert not site.server.requests
        site.fetch(f"{other.base}/0", checksum=md5(CONTENT))
    assert site.arrived()
