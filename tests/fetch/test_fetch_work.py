"""Several files of a data set, the folder they go to, and the notes and records beside."""

from __future__ import annotations

import errno
import logging
from itertools import pairwise
from pathlib import Path

import pytest

from tests.helpers.packing import CONTENT, HASTY, PATH, Site, contents, dataset, md5
from tests.helpers.servers import Fault
from voxseq import catalogue
from voxseq.base.errors import DataError, IntegrityError, ResourceError
from voxseq.catalogue import DataSet, RemoteFile
from voxseq.fetch import RECORD, AccountNeededError, fetch, staging, state


def numbered(site: Site, count: int) -> DataSet:
    """A data set of files whose names are numbers."""
    return dataset([RemoteFile(f"{site.server.base}/{n}", path=f"{n}") for n in range(count)])


def test_one_bad_file_does_not_keep_the_others(site: Site) -> None:
    row = numbered(site, 6)
    for n in range(6):
        site.server.put(f"/{n}", CONTENT[n:])
    site.server.faults |= {"/1": [Fault(404)], "/3": [Fault(403)]}
    with pytest.raises(DataError, match=r"2 files could not be fetched(?s:.*/1)(?s:.*/3)"):
        fetch(row, site.root, parallel=1, retry=HASTY)
    site.server.faults.clear()
    site.server.requests.clear()
    fetch(row, site.root, retry=HASTY)
    assert sorted(r.path for r in site.server.requests) == ["/1", "/3"]
    assert contents(site.folder)["5"] == CONTENT[5:]


@pytest.mark.parametrize(
    ("status", "reason"), [(404, "5 files could not be fetched"), (502, "given up")]
)
def test_many_bad_files_or_a_server_that_is_down_end_the_work(
    site: Site, status: int, reason: str
) -> None:
    for n in range(50):
        site.server.faults[f"/{n}"] = [Fault(status)]
    with pytest.raises(DataError, match=reason):
        fetch(numbered(site, 50), site.root, retry=HASTY)
    assert len(site.server.requests) < 20


def test_no_more_files_at_a_time_than_asked_for(site: Site) -> None:
    for n in range(6):
        site.server.put(f"/{n}", CONTENT, block=200_000, pause=0.02)
    fetch(numbered(site, 6), site.root, parallel=1, retry=HASTY)
    times = [request.at for request in site.server.requests]
    assert all(b - a >= 0.04 for a, b in pairwise(times))


def test_a_folder_of_the_users_is_left(site: Site) -> None:
    site.folder.mkdir(parents=True)
    (site.folder / "mine").write_bytes(b"mine")
    result = site.fetch()
    assert (result.state, result.record) == ("own", None)
    assert contents(site.root) == {"nodule/mine": b"mine"}
    assert not site.server.requests


def test_an_empty_folder_is_filled(site: Site) -> None:
    site.folder.mkdir(parents=True)
    site.fetch()
    assert site.arrived()


def test_another_entry_of_the_catalogue_is_no_repetition(site: Site) -> None:
    site.fetch()
    changed = dataset([RemoteFile(site.url, path=PATH[1:], checksum=md5(CONTENT))])
    assert state(changed, site.folder) == "outdated"
    with pytest.raises(DataError, match="another version"):
        fetch(changed, site.root, retry=HASTY)
    assert site.arrived()


def test_a_path_of_the_catalogue_stays_inside(site: Site) -> None:
    with pytest.raises(DataError, match="leads out"):
        fetch(dataset([RemoteFile(site.url, path="../outside.npz")]), site.root, retry=HASTY)
    assert not list(site.root.parent.rglob("outside.npz"))


def test_a_log_tells_how_far_it_is(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("voxseq.fetch.meter.LINE_INTERVAL", 0.0)
    with caplog.at_level(logging.INFO, "voxseq.fetch"):
        site.fetch(size=len(CONTENT))
    assert [r for r in caplog.records if "1.3 MB of 1.3 MB" in r.getMessage()]


def test_the_record_names_the_file(site: Site) -> None:
    """Also where the catalogue leaves the name to the address."""
    site.server.put("/some/a file.npz?download=1", CONTENT)
    row = dataset([RemoteFile(f"{site.server.base}/some/a%20file.npz?download=1")])
    record = fetch(row, site.root, retry=HASTY).record
    assert record is not None
    assert [item.path for item in record.fetched] == ["a file.npz"]
    assert (site.folder / "a file.npz").read_bytes() == CONTENT
    assert fetch(row, site.root).state == "complete"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        *((n, "only the official client") for n in ("rsna2022_csfd", "rsna2020_ped", "brats23")),
        *((n, "by hand") for n in ("flare23", "tcia_covid19", "dicom_ct")),
    ],
)
def test_steps_that_only_the_user_can_do(name: str, reason: str, tmp_path: Path) -> None:
    row = catalogue.get(name)
    with pytest.raises(AccountNeededError, match=reason) as error:
        fetch(row, tmp_path)
    commands = {f"{client.partition(':')[0]} " for client in row.client}
    expected = [*row.steps, *commands, *(['pip install -e ".[accounts]"'] if row.client else [])]
    assert all(text in error.value.hint for text in expected)
    assert not list(tmp_path.iterdir())


DAMAGED = ["", "[]", "null", "{", '{"url": 5, "id": 5}', "[" * 200_000, "\0\xff"]


@pytest.mark.parametrize("damage", DAMAGED)
@pytest.mark.parametrize("note", ["parts/*.part.json", "done/*.json", "joining.json"])
def test_a_damaged_note_counts_as_not_done(
    site: Site, monkeypatch: pytest.MonkeyPatch, damage: str, note: str
) -> None:
    with monkeypatch.context() as patch:
        if note.startswith("parts"):
            site.fail(Fault(drop=1000), Fault(503))
            site.refused(DataError, "503")
            site.fail()
        else:
            patch.setattr(staging, "write_record", _interrupt)
            with pytest.raises(KeyboardInterrupt):
                site.fetch()
    (path,) = (site.root / ".voxseq-fetch/nodule").glob(note)
    path.write_bytes(damage.encode("latin-1"))
    site.fetch()
    assert site.arrived()
    assert site.server.ranges()[-1] == ""


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_record_is_told(site: Site, damage: str) -> None:
    site.fetch()
    (site.folder / RECORD).write_text(damage)
    with pytest.raises(IntegrityError, match="cannot be read") as error:
        site.fetch()
    assert "remove this file" in error.value.hint


@pytest.mark.parametrize("name", [".part.json", RECORD])
def test_a_note_that_the_machine_cannot_read_condemns_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A passing fault of the disk: the same call later continues."""
    if name == RECORD:
        site.fetch()
    else:
        site.fail(Fault(drop=1000), Fault(503))
        site.refused(DataError, "503")
        site.fail()
    real = Path.read_bytes

    def broken(path: Path) -> bytes:
        if path.name.endswith(name):
            raise OSError(errno.EIO, "Input/output error")
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", broken)
        with pytest.raises(ResourceError, match=rf"{name}: cannot be read".replace(".", r"\.")):
            site.fetch()
    site.fetch()
    assert site.arrived()
    assert site.server.ranges()[-1] == ("" if name == RECORD else "bytes=1000-")
