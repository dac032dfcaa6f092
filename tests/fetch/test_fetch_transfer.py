"""Single files: what is asked again, what continues, what is refused."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers import ROOT
from tests.helpers.packing import HASTY, contents, dataset, git_blob, md5
from tests.helpers.servers import Fault, Server, running
from voxseq.base.errors import DataError, IntegrityError, ResourceError
from voxseq.catalogue import RemoteFile
from voxseq.fetch import FetchResult, RetryPolicy, fetch, transfer

CONTENT = bytes(range(256)) * 5000
PATH = "/nodulemnist3d.npz"


def call(url: str, root: Path, retry: RetryPolicy = HASTY, **file: object) -> FetchResult:
    remote = RemoteFile(url, path="nodulemnist3d.npz", **file)  # type: ignore[arg-type]
    return fetch(dataset([remote]), root, retry=retry)


def arrived(root: Path) -> bool:
    """Whether the data set's folder is there, with exactly the right file."""
    folder = root / "nodule"
    if not folder.exists():
        return False
    assert {**contents(folder), ".voxseq-fetch.json": b""} == {
        "nodulemnist3d.npz": CONTENT,
        ".voxseq-fetch.json": b"",
    }
    assert not (root / ".voxseq-fetch").exists()
    return True


def test_a_file_is_fetched_once(server: Server, tmp_path: Path) -> None:
    url = server.put(PATH, CONTENT)
    first = call(url, tmp_path, checksum=md5(CONTENT))
    assert first.state == "fetched"
    assert arrived(tmp_path)
    assert not first.weak
    second = call(url, tmp_path, checksum=md5(CONTENT))
    assert second.state == "complete"
    assert second.record == first.record
    assert len(server.requests) == 1
    # Nothing personal, and nothing that a server could compress.
    assert server.requests[0].headers["accept-encoding"] == "identity"
    assert "authorization" not in server.requests[0].headers


def test_passwords_in_netrc_are_not_sent(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    call(server.put(PATH, CONTENT), tmp_path)
    assert "authorization" not in server.requests[0].headers


@pytest.mark.parametrize(
    "checksum",
    [
        md5(CONTENT),
        md5(CONTENT).upper().replace("MD5", "md5"),
        git_blob(CONTENT),
        f"sha256:{hashlib.sha256(CONTENT).hexdigest()}",
    ],
)
def test_checksums_of_all_notations(server: Server, tmp_path: Path, checksum: str) -> None:
    url = server.put(PATH, CONTENT)
    outcome = call(url, tmp_path, checksum=checksum)
    assert outcome.record is not None
    assert outcome.record.fetched[0].verified_by == "checksum"


def test_without_a_checksum_the_user_is_told(server: Server, tmp_path: Path) -> None:
    url = server.put(PATH, CONTENT)
    (item,) = call(url, tmp_path, size=len(CONTENT)).weak
    assert item.checksum == f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
    assert item.verified_by == "length"
    (item,) = call(url, tmp_path / "other").weak
    assert item.verified_by == "nothing"


def test_a_dropped_connection_continues(server: Server, tmp_path: Path) -> None:
    url = server.put(PATH, CONTENT)
    server.faults[PATH] = [Fault(drop=100_000), Fault(drop=50_000), Fault()]
    call(url, tmp_path, checksum=md5(CONTENT))
    assert arrived(tmp_path)
    assert server.ranges() == ["", "bytes=100000-", "bytes=150000-"]
    assert server.requests[1].headers["if-range"] == server.pages[PATH].etag


def test_a_later_call_continues(server: Server, tmp_path: Path) -> None:
    url = server.put(PATH, CONTENT)
    server.faults[PATH] = [Fault(drop=100_000), Fault(503)]
    with pytest.raises(DataError, match="503") as error:
        call(url, tmp_path)
    assert url in error.value.what
    assert "continues where it" in error.value.hint
    assert not (tmp_path / "nodule").exists()
    server.faults.clear()
    call(url, tmp_path)
    assert arrived(tmp_path)
    assert server.ranges()[-1] == "bytes=100000-"


def test_a_small_file_is_not_worth_continuing(server: Server, tmp_path: Path) -> None:
    url = server.put(PATH, CONTENT[:1000])
    server.faults[PATH] = [Fault(drop=500), Fault()]
    call(url, tmp_path)
    assert contents(tmp_path / "nodule")["nodulemnist3d.npz"] == CONTENT[:1000]
    assert server.ranges() == ["", ""]


def test_an_error_that_passes(server: Server, tmp_path: Path) -> None:
    url = server.put(PATH, CONTENT)
    server.faults[PATH] = [Fault(500), Fault(429), Fault()]
    call(url, tmp_path, checksum=md5(CONTENT))
    assert arrived(tmp_path)
    assert len(server.requests) == 3


def test_an_error_that_stays_is_given_up(server: Server, tmp_path: Path) -> None:
    url = server.put(PATH, CONTENT)
    server.faults[PATH] = [Fault(500)]
    with pytest.raises(DataError, match=r"500.*given up after 3 attempts"):
        call(url, tmp_path)
    assert len(server.requests) == 3
    assert not arrived(tmp_path)
    server.faults.clear()
    call(url, tmp_path)
    assert arrived(tmp_path)


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_is_final(server: Server, tmp_path: Path, status: int) -> None:
    url = server.put(PATH, CONTENT)
    server.faults[PATH] = [Fault(status)]
    with pytest.raises(DataError, match=str(status)) as error:
        call(url, tmp_path)
    assert url in error.value.what
    assert "will not pass by itself" in error.value.hint
    assert len(server.requests) == 1
    server.faults.clear()
    call(url, tmp_path)
    assert arrived(tmp_path)


def test_retry_after_is_kept(server: Server, tmp_path: Path) -> None:
    url = server.put(PATH, CONTENT)
    server.faults[PATH] = [Fault(503, {"Retry-After": "1"}), Fault()]
    call(url, tmp_path, RetryPolicy(3, 0.001, 5.0))
    assert server.requests[1].at - server.requests[0].at >= 1.0


def test_a_server_that_asks_for_hours_is_left_in_peace(server: Server, tmp_path: Path) -> None:
    url = server.put(PATH, CONTENT)
    server.faults[PATH] = [Fault(429, {"Retry-After": "7200"})]
    with pytest.raises(DataError, match="asks to wait 7200 s"):
        call(url, tmp_path)
    assert len(server.requests) == 1


def test_waits_double_up_to_a_limit(server: Server, tmp_path: Path) -> None:
    url = server.put(PATH, CONTENT)
    server.faults[PATH] = [Fault(500)]
    with pytest.raises(DataError):
        call(url, tmp_path, RetryPolicy(5, 0.05, 0.15))
    times = [request.at for request in server.requests]
    gaps = [b - a for a, b in pairwise(times)]
    for gap, wanted in zip(gaps, [0.05, 0.1, 0.15, 0.15], strict=True):
        assert wanted <= gap < wanted + 1.0


def test_no_server(tmp_path: Path) -> None:
    with running() as server:
        url = server.put(PATH, CONTENT)
    with pytest.raises(DataError, match="no answer"):
        call(url, tmp_path)


def test_a_server_that_goes_silent(server: Server, tmp_path: Path) -> None:
    url = server.put(PATH, CONTENT, block=100_000, pause=0.6)
    with pytest.raises(DataError, match="the connection broke"):
        call(url, tmp_path, RetryPolicy(2, 0.001, 0.1, 2.0, 0.1))
    server.pages[PATH].pause = 0.0
    call(url, tmp_path)
    assert arrived(tmp_path)


def test_wrong_bytes_are_refused_and_removed(server: Server, tmp_path: Path) -> None:
    url = server.put(PATH, CONTENT[::-1])
    with pytest.raises(IntegrityError, match="the checksum is md5:") as error:
        call(url, tmp_path, checksum=md5(CONTENT))
    assert url in error.value.what
    assert md5(CONTENT) in error.value.what
    assert len(server.requests) == 1
    assert not list(tmp_path.rglob("*.part"))
    server.put(PATH, CONTENT)
    call(url, tmp_path, checksum=md5(CONTENT))
    assert arrived(tmp_path)


def test_a_length_other_than_stated_is_refused_before_the_transfer(
    server: Server, tmp_path: Path
) -> None:
    url = server.put(PATH, CONTENT + b"x")
    with pytest.raises(IntegrityError, match=f"offers {len(CONTENT) + 1} bytes"):
        call(url, tmp_path, size=len(CONTENT))
    assert not list(tmp_path.rglob("*.part"))


def test_a_file_cut_short_without_a_stated_length(server: Server, tmp_path: Path) -> None:
    url = server.put(PATH, CONTENT[:-1], length=False)
    with pytest.raises(IntegrityError, match="bytes arrived"):
        call(url, tmp_path, size=len(CONTENT))
    server.put(PATH, CONTENT, length=False)
    call(url, tmp_path, size=len(CONTENT))
    assert arrived(tmp_path)


def test_a_server_that_ignores_ranges(server: Server, tmp_path: Path) -> None:
    url = server.put(PATH, CONTENT, ranges=False)
    server.faults[PATH] = [Fault(drop=100_000), Fault()]
    call(url, tmp_path, checksum=md5(CONTENT))
    assert arrived(tmp_path)
    assert server.ranges() == ["", "bytes=100000-"]


@pytest.mark.parametrize("honest", [True, False])
@pytest.mark.parametrize("checked", [True, False])
def test_a_file_that_changes_between_attempts_is_not_glued(
    server: Server, tmp_path: Path, honest: bool, checked: bool
) -> None:
    """Neither with a server that honours If-Range nor with one that does not."""
    old = CONTENT[::-1]
    url = server.put(PATH, old)
    server.faults[PATH] = [Fault(drop=100_000), Fault(503)]
    with pytest.raises(DataError):
        call(url, tmp_path, checksum=md5(CONTENT) if checked else "")
    server.faults.clear()
    server.put(PATH, CONTENT, if_range=honest)
    call(url, tmp_path, checksum=md5(CONTENT) if checked else "")
    assert arrived(tmp_path)


def test_without_validators_only_a_checksum_allows_to_continue(
    server: Server, tmp_path: Path
) -> None:
    url = server.put(PATH, CONTENT, validators=False)
    server.faults[PATH] = [Fault(drop=100_000), Fault()]
    call(url, tmp_path)
    assert server.ranges() == ["", ""]
    assert arrived(tmp_path)
    server.requests.clear()
    server.faults[PATH] = [Fault(drop=100_000), Fault()]
    call(url, tmp_path / "checked", checksum=md5(CONTENT))
    assert server.ranges() == ["", "bytes=100000-"]


def test_pieces_that_do_not_fit_are_fetched_anew(server: Server, tmp_path: Path) -> None:
    """No validator, and the file changed: the checksum of the joined pieces tells."""
    url = server.put(PATH, CONTENT[::-1], validators=False)
    server.faults[PATH] = [Fault(drop=100_000), Fault(503)]
    with pytest.raises(DataError):
        call(url, tmp_path, checksum=md5(CONTENT))
    server.faults.clear()
    server.put(PATH, CONTENT, validators=False)
    call(url, tmp_path, checksum=md5(CONTENT))
    assert arrived(tmp_path)
    assert server.ranges()[-2:] == ["bytes=100000-", ""]


def test_a_file_that_shrank_begins_anew(server: Server, tmp_path: Path) -> None:
    url = server.put(PATH, CONTENT * 2, if_range=False)
    server.faults[PATH] = [Fault(drop=len(CONTENT) + 5), Fault(503)]
    with pytest.raises(DataError):
        call(url, tmp_path)
    server.faults.clear()
    server.put(PATH, CONTENT, if_range=False)
    call(url, tmp_path)
    assert arrived(tmp_path)


def test_progress_is_counted_as_working(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line that breaks every now and then does not use up the attempts."""
    monkeypatch.setattr("voxseq.fetch.http._PROGRESS", 100_000)
    url = server.put(PATH, CONTENT)
    server.faults[PATH] = [*(Fault(drop=100_000) for _ in range(5)), Fault()]
    call(url, tmp_path, RetryPolicy(2, 0.001))
    assert arrived(tmp_path)
    monkeypatch.setattr("voxseq.fetch.http._PROGRESS", 100_001)
    server.faults[PATH] = [*(Fault(drop=100_000) for _ in range(5)), Fault()]
    with pytest.raises(DataError, match="given up after 2"):
        call(url, tmp_path / "other", RetryPolicy(2, 0.001))


@settings(max_examples=15)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 400))), st.integers(1, 1000))
def test_any_series_of_drops_ends_with_the_right_bytes(
    faults: list[tuple[bool, int]], length: int
) -> None:
    content = (CONTENT * 3)[7 : 7 + length]
    with (
        running() as server,
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(transfer, "_WORTH_RESUMING", 0),
    ):
        url = server.put(PATH, content)
        server.faults[PATH] = [*(Fault(500 if e else 0, drop=n) for e, n in faults), Fault()]
        call(url, Path(folder), RetryPolicy(len(faults) + 1, 0.0))
        assert contents(Path(folder) / "nodule")["nodulemnist3d.npz"] == content


def test_a_full_disk_is_told_before(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server.put(PATH, CONTENT)
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: usage)
        with pytest.raises(ResourceError, match=r"needs 1.3 MB.*has 1.0 kB free"):
            call(url, tmp_path, size=len(CONTENT))
        assert not server.requests
        # Of unknown length: the server's answer tells.
        with pytest.raises(ResourceError, match=r"needs 1.3 MB"):
            call(url, tmp_path)
    call(url, tmp_path)
    assert arrived(tmp_path)


CHILD = """
import resource, sys
from pathlib import Path
from tests.helpers.packing import HASTY, dataset
from voxseq.catalogue import RemoteFile
from voxseq.fetch import fetch
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
fetch(dataset([RemoteFile(sys.argv[1], "nodulemnist3d.npz")]), Path(sys.argv[2]), retry=HASTY)
"""


def test_a_disk_that_fills_up_keeps_what_has_arrived(server: Server, tmp_path: Path) -> None:
    url = server.put(PATH, CONTENT)
    done = subprocess.run(
        [sys.executable, "-c", CHILD, url, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "ResourceError" in done.stderr
    assert ".part in" in done.stderr
    assert "would exceed the limit on the size of one file" in done.stderr
    assert not (tmp_path / "nodule").exists()
    call(url, tmp_path)
    assert arrived(tmp_path)
    assert server.ranges() == ["", "bytes=300000-"]
