"""Several files of a data set, and the folder they go to."""

from __future__ import annotations

import logging
from itertools import pairwise
from pathlib import Path

import pytest

from tests.fetch.test_fetch_transfer import CONTENT, PATH, arrived, call
from tests.helpers.packing import HASTY, contents, dataset, md5
from tests.helpers.servers import Fault, Server
from voxseq.base.errors import DataError, IntegrityError
from voxseq.catalogue import RemoteFile
from voxseq.fetch import fetch, read_record, state


def test_one_bad_file_does_not_keep_the_others(server: Server, tmp_path: Path) -> None:
    files = [RemoteFile(server.put(f"/{n}", CONTENT[n:]), path=f"{n}") for n in range(6)]
    server.faults["/1"] = [Fault(404)]
    server.faults["/3"] = [Fault(403)]
    with pytest.raises(DataError, match="2 files could not be fetched") as error:
        fetch(dataset(files), tmp_path, retry=HASTY)
    assert "/1" in error.value.what
    assert "/3" in error.value.what
    server.faults.clear()
    server.requests.clear()
    fetch(dataset(files), tmp_path, retry=HASTY)
    assert sorted(r.path for r in server.requests) == ["/1", "/3"]
    assert contents(tmp_path / "nodule")["5"] == CONTENT[5:]


def test_many_bad_files_end_the_work(server: Server, tmp_path: Path) -> None:
    files = [RemoteFile(f"{server.base}/{n}", path=f"{n}") for n in range(50)]
    with pytest.raises(DataError, match="5 files could not be fetched"):
        fetch(dataset(files), tmp_path, retry=HASTY)
    assert len(server.requests) < 20


def test_a_server_that_is_down_ends_the_work(server: Server, tmp_path: Path) -> None:
    files = [RemoteFile(f"{server.base}/{n}", path=f"{n}") for n in range(50)]
    for n in range(50):
        server.faults[f"/{n}"] = [Fault(502)]
    with pytest.raises(DataError, match="given up"):
        fetch(dataset(files), tmp_path, retry=HASTY)
    assert len(server.requests) < 20


def test_no_more_files_at_a_time_than_asked_for(server: Server, tmp_path: Path) -> None:
    for n in range(6):
        server.put(f"/{n}", CONTENT, block=200_000, pause=0.02)
    files = [RemoteFile(f"{server.base}/{n}", path=f"{n}") for n in range(6)]
    fetch(dataset(files), tmp_path, parallel=1, retry=HASTY)
    times = [request.at for request in server.requests]
    assert all(b - a >= 0.04 for a, b in pairwise(times))


def test_a_folder_of_the_users_is_left(server: Server, tmp_path: Path) -> None:
    url = server.put(PATH, CONTENT)
    mine = tmp_path / "nodule" / "nodulemnist3d.npz"
    mine.parent.mkdir()
    mine.write_bytes(b"mine")
    outcome = call(url, tmp_path)
    assert (outcome.state, outcome.record) == ("own", None)
    assert contents(tmp_path) == {"nodule/nodulemnist3d.npz": b"mine"}
    assert not server.requests


def test_an_empty_folder_is_filled(server: Server, tmp_path: Path) -> None:
    (tmp_path / "nodule").mkdir()
    call(server.put(PATH, CONTENT), tmp_path)
    assert arrived(tmp_path)


def test_another_entry_of_the_catalogue_is_no_repetition(server: Server, tmp_path: Path) -> None:
    url = server.put(PATH, CONTENT)
    call(url, tmp_path)
    changed = dataset([RemoteFile(url, path="nodulemnist3d.npz", checksum=md5(CONTENT))])
    assert state(changed, tmp_path / "nodule") == "outdated"
    with pytest.raises(DataError, match="another version"):
        fetch(changed, tmp_path, retry=HASTY)
    assert arrived(tmp_path)


def test_a_damaged_record_is_an_error(server: Server, tmp_path: Path) -> None:
    url = server.put(PATH, CONTENT)
    call(url, tmp_path)
    (tmp_path / "nodule" / ".voxseq-fetch.json").write_text("{")
    with pytest.raises(IntegrityError, match="cannot be read"):
        call(url, tmp_path)
    with pytest.raises(IntegrityError, match="cannot be read"):
        read_record(tmp_path / "nodule")


def test_a_path_of_the_catalogue_stays_inside(server: Server, tmp_path: Path) -> None:
    remote = RemoteFile(server.put(PATH, CONTENT), path="../outside.npz")
    with pytest.raises(DataError, match="leads out"):
        fetch(dataset([remote]), tmp_path / "root", retry=HASTY)
    assert not (tmp_path / "root" / "outside.npz").exists()


def test_a_log_tells_how_far_it_is(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("voxseq.fetch.meter.LINE_INTERVAL", 0.0)
    url = server.put(PATH, CONTENT)
    with caplog.at_level(logging.INFO, "voxseq.fetch"):
        call(url, tmp_path, size=len(CONTENT))
    lines = [r.getMessage() for r in caplog.records if "1.3 MB of 1.3 MB" in r.getMessage()]
    assert lines


def test_the_record_names_the_file(server: Server, tmp_path: Path) -> None:
    """Also where the catalogue leaves the name to the address."""
    url = server.put("/some/a%20file.npz?download=1", CONTENT)
    server.pages["/some/a file.npz?download=1"] = server.pages.pop("/some/a%20file.npz?download=1")
    outcome = fetch(dataset([RemoteFile(url)]), tmp_path, retry=HASTY)
    assert outcome.record is not None
    assert [item.path for item in outcome.record.fetched] == ["a file.npz"]
    assert (tmp_path / "nodule" / "a file.npz").read_bytes() == CONTENT
    assert fetch(dataset([RemoteFile(url)]), tmp_path).state == "complete"
