"""Single files: what is asked again, what continues, what is refused."""

from __future__ import annotations

import errno
import hashlib
import shutil
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers import ROOT
from tests.helpers.packing import CONTENT, PATH, Site, contents, dataset, git_blob, md5, zipped
from tests.helpers.servers import Fault, running
from voxseq.base.errors import DataError, IntegrityError, ResourceError, VoxseqError
from voxseq.catalogue import RemoteFile
from voxseq.fetch import RECORD, RetryPolicy, content, fetch, transfer

CHECKED = {"checksum": md5(CONTENT)}
DROPPED = Fault(drop=100_000)


def test_a_file_is_fetched_once(site: Site) -> None:
    first = site.fetch(**CHECKED)
    assert first.state == "fetched"
    assert site.arrived()
    assert not first.weak
    second = site.fetch(**CHECKED)
    assert second.state == "complete"
    assert second.record == first.record
    (request,) = site.server.requests
    # Nothing personal, and nothing that a server could compress.
    assert request.headers["accept-encoding"] == "identity"
    assert "authorization" not in request.headers


def test_passwords_in_netrc_are_not_sent(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    site.fetch()
    assert "authorization" not in site.server.requests[0].headers


@pytest.mark.parametrize(
    "checksum",
    [
        md5(CONTENT),
        md5(CONTENT).upper().replace("MD5", "md5"),
        git_blob(CONTENT),
        f"sha256:{hashlib.sha256(CONTENT).hexdigest()}",
    ],
)
def test_checksums_of_all_notations(site: Site, checksum: str) -> None:
    record = site.fetch(checksum=checksum).record
    assert record is not None
    assert record.fetched[0].verified_by == "checksum"


@pytest.mark.parametrize(("facts", "by"), [({"size": len(CONTENT)}, "length"), ({}, "nothing")])
def test_without_a_checksum_the_user_is_told(site: Site, facts: dict[str, Any], by: str) -> None:
    (item,) = site.fetch(**facts).weak
    assert item.checksum == f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
    assert item.verified_by == by


def test_a_record_of_an_older_version_is_read(site: Site) -> None:
    result = site.fetch()
    path = site.folder / RECORD
    path.write_text(path.read_text().replace("verified_by", "vouched"))
    assert site.fetch() == type(result)(site.folder, "complete", result.record)


@pytest.mark.parametrize(
    ("how", "faults", "facts", "ranges"),
    [
        ({}, [DROPPED, Fault(drop=50_000)], CHECKED, ["", "bytes=100000-", "bytes=150000-"]),
        # A server that ignores ranges.
        ({"ranges": False}, [DROPPED], CHECKED, ["", "bytes=100000-"]),
        # Without validators only a checksum allows to continue.
        ({"validators": False}, [DROPPED], {}, ["", ""]),
        ({"validators": False}, [DROPPED], CHECKED, ["", "bytes=100000-"]),
        # Errors that pass.
        ({}, [Fault(500), Fault(429)], CHECKED, ["", "", ""]),
        # A connection that is reset is no fault of the disk.
        ({}, [Fault(drop=100_000, reset=True)], CHECKED, ["", "bytes=100000-"]),
    ],
)
def test_interrupted_transfers_continue(
    site: Site, how: dict[str, bool], faults: list[Fault], facts: dict[str, str], ranges: list[str]
) -> None:
    site.put(**how)
    site.fail(*faults, Fault())
    site.fetch(**facts)
    assert site.arrived()
    assert site.server.ranges() == ranges
    if how.get("validators", True) and ranges[1]:
        assert site.server.requests[1].headers["if-range"] == site.server.pages[PATH].etag


def test_a_later_call_continues(site: Site) -> None:
    site.fail(DROPPED, Fault(503))
    assert "continues where it" in site.refused(DataError, "503").hint
    site.fail()
    site.fetch()
    assert site.arrived()
    assert site.server.ranges()[-1] == "bytes=100000-"


def test_a_small_file_is_not_worth_continuing(site: Site) -> None:
    site.put(CONTENT[:1000])
    site.fail(Fault(drop=500), Fault())
    site.fetch()
    assert contents(site.folder)[PATH[1:]] == CONTENT[:1000]
    assert site.server.ranges() == ["", ""]


@pytest.mark.parametrize(
    ("status", "headers", "requests", "reason"),
    [
        (500, {}, 3, r"500.*given up after 3 attempts"),
        (429, {"Retry-After": "7200"}, 1, "asks to wait 7200 s"),
        *((status, {}, 1, str(status)) for status in (401, 403, 404, 410)),
    ],
)
def test_an_error_that_stays_is_given_up(
    site: Site, status: int, headers: dict[str, str], requests: int, reason: str
) -> None:
    site.fail(Fault(status, headers))
    hint = site.refused(DataError, reason).hint
    assert ("will not pass by itself" in hint) == (status < 429)
    assert len(site.server.requests) == requests
    site.fail()
    site.fetch()
    assert site.arrived()


def test_waits(site: Site) -> None:
    """They double up to a limit, and Retry-After is kept."""

    def gaps() -> list[float]:
        times = [request.at for request in site.server.requests]
        site.server.requests.clear()
        return [b - a for a, b in pairwise(times)]

    site.fail(Fault(500))
    site.refused(DataError, "500", retry=RetryPolicy(5, 0.05, 0.15))
    for gap, wanted in zip(gaps(), [0.05, 0.1, 0.15, 0.15], strict=True):
        assert wanted <= gap < wanted + 1.0
    site.fail(Fault(503, {"Retry-After": "1"}), Fault())
    site.fetch(retry=RetryPolicy(3, 0.001, 5.0))
    assert gaps()[0] >= 1.0


def test_no_server(site: Site) -> None:
    with running() as server:
        url = server.put(PATH, CONTENT)
    site.refused(DataError, "no answer", url)


def test_a_server_that_goes_silent(site: Site) -> None:
    site.put(block=100_000, pause=0.6)
    site.refused(DataError, "the connection broke", retry=RetryPolicy(2, 0.001, 0.1, 2.0, 0.1))
    site.put()
    site.fetch()
    assert site.arrived()


@pytest.mark.parametrize(
    ("served", "how", "facts", "reason"),
    [
        (CONTENT[::-1], {}, CHECKED, f"the checksum is {md5(CONTENT[::-1])}, .*{md5(CONTENT)}"),
        # Refused before the transfer.
        (CONTENT + b"x", {}, {"size": len(CONTENT)}, f"offers {len(CONTENT) + 1} bytes"),
        (CONTENT[:-1], {"length": False}, {"size": len(CONTENT)}, "bytes arrived"),
    ],
)
def test_wrong_bytes_are_refused_and_removed(
    site: Site, served: bytes, how: dict[str, bool], facts: dict[str, Any], reason: str
) -> None:
    site.put(served, **how)
    site.refused(IntegrityError, reason, **facts)
    assert len(site.server.requests) == 1
    assert site.keeps_nothing()
    site.put(**how)
    site.fetch(**facts)
    assert site.arrived()


@pytest.mark.parametrize("honest", [True, False])
@pytest.mark.parametrize("facts", [CHECKED, {}])
@pytest.mark.parametrize("old", [CONTENT[::-1], CONTENT * 2])
def test_a_file_that_changes_between_attempts_is_not_glued(
    site: Site, honest: bool, facts: dict[str, str], old: bytes
) -> None:
    """Neither with a server that honours If-Range nor with one that does not."""
    site.put(old)
    site.fail(Fault(drop=100_000 if old[0] else len(CONTENT) + 5), Fault(503))
    site.refused(DataError, "503", **facts)
    site.fail()
    site.put(if_range=honest)
    site.fetch(**facts)
    assert site.arrived()


def test_pieces_that_do_not_fit_are_fetched_anew(site: Site) -> None:
    """No validator, and the file changed: the checksum of the joined pieces tells."""
    site.put(CONTENT[::-1], validators=False)
    site.fail(DROPPED, Fault(503))
    site.refused(DataError, "503", **CHECKED)
    site.fail()
    site.put(validators=False)
    site.fetch(**CHECKED)
    assert site.arrived()
    assert site.server.ranges()[-2:] == ["bytes=100000-", ""]


@pytest.mark.parametrize(("progress", "works"), [(100_000, True), (100_001, False)])
def test_progress_is_counted_as_working(
    site: Site, monkeypatch: pytest.MonkeyPatch, progress: int, works: bool
) -> None:
    """A line that breaks every now and then does not use up the attempts."""
    monkeypatch.setattr("voxseq.fetch.http._PROGRESS", progress)
    site.fail(*[DROPPED] * 5, Fault())
    if works:
        site.fetch(retry=RetryPolicy(2, 0.001))
    else:
        site.refused(DataError, "given up after 2", retry=RetryPolicy(2, 0.001))
    assert site.arrived() == works


@settings(max_examples=15)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 400))), st.integers(1, 1000))
def test_any_series_of_drops_ends_with_the_right_bytes(
    faults: list[tuple[bool, int]], length: int
) -> None:
    with (
        running() as server,
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(transfer, "_WORTH_RESUMING", 0),
    ):
        site, served = Site(server, Path(folder)), (CONTENT * 3)[7 : 7 + length]
        site.put(served)
        site.fail(*(Fault(500 if e else 0, drop=n) for e, n in faults), Fault())
        site.fetch(retry=RetryPolicy(len(faults) + 1, 0.0))
        assert contents(site.folder)[PATH[1:]] == served


def test_a_full_disk_is_told_before(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")._replace(free=1000)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: usage)
        with pytest.raises(ResourceError, match=r"needs 1.3 MB.*has 1.0 kB free"):
            site.fetch(size=len(CONTENT))
        assert not site.server.requests
        # Of unknown length: the server's answer tells.
        site.refused(ResourceError, r"needs 1.3 MB")
    site.fetch()
    assert site.arrived()


CHILD = """
import resource, sys
from pathlib import Path
from tests.helpers.packing import HASTY, dataset
from voxseq.catalogue import RemoteFile
from voxseq.fetch import fetch
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
fetch(dataset([RemoteFile(sys.argv[1], "nodulemnist3d.npz")]), Path(sys.argv[2]), retry=HASTY)
"""


def test_a_disk_that_fills_up_keeps_what_has_arrived(site: Site) -> None:
    command = [sys.executable, "-c", CHILD, site.url, str(site.root)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "ResourceError" in done.stderr
    assert ".part in" in done.stderr
    assert "would exceed the limit on the size of one file" in done.stderr
    assert not site.folder.exists()
    site.fetch()
    assert site.arrived()
    assert site.server.ranges() == ["", "bytes=300000-"]


def test_a_file_that_the_machine_cannot_read_is_named_and_kept(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = mock.Mock(**{"update.side_effect": OSError(errno.EIO, "Input/output error")})
    with monkeypatch.context() as patch:
        patch.setattr(content.hashlib, "new", lambda *_, **__: broken)
        with pytest.raises(VoxseqError, match=r"\.part: cannot be read \(Input/output error\)"):
            site.fetch()
    site.fetch()
    assert site.arrived()
    assert len(site.server.requests) == 1


PAGES = [
    b"<!DOCTYPE html><p>Please sign in",
    b"\xef\xbb\xbf \r\n<HTML><body>Login",
    "<!doctype html>".encode("utf-16"),
    b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
    b'{"status": 401, "message": "log in"}',
]


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("name", ["n.npz", "n.nii.gz", "n.mha", "n.h5"])
def test_a_page_is_not_taken_for_the_file(site: Site, page: bytes, name: str) -> None:
    url = site.server.put(f"/{name}", page)
    archives = [{"archive": kind} for kind in ("zip", "tar")] if name == "n.npz" else []
    for facts in ({}, CHECKED, {"size": len(CONTENT)}, {"size": len(page)}, *archives):
        error = site.refused(DataError, "an account page", url, **facts)
        assert "open the address in a browser" in error.hint
        assert site.keeps_nothing()


def test_pages_and_messages_where_they_belong(site: Site) -> None:
    files = {"a.html": PAGES[0], "b.json": PAGES[4], "c.xml": PAGES[3], "d.npz": zipped({"x": b""})}
    row = dataset([RemoteFile(site.server.put(f"/{n}", c), n) for n, c in files.items()])
    fetch(row, site.root)
    assert contents(site.folder).items() >= files.items()


@pytest.mark.parametrize("length", [True, False])
def test_an_empty_answer_is_no_file(site: Site, length: bool) -> None:
    site.put(b"", length=length)
    site.refused(DataError, "the file is empty")
    assert site.keeps_nothing()
    site.fetch(size=0)
