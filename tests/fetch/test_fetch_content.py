"""Pages and nothing at all, where a file is expected."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fetch.test_fetch_hostile import nothing_kept
from tests.fetch.test_fetch_transfer import CONTENT, PATH, call
from tests.helpers.packing import HASTY, contents, dataset, md5, zipped
from tests.helpers.servers import Server
from voxseq.base.errors import DataError
from voxseq.catalogue import RemoteFile
from voxseq.fetch import fetch

PAGES = [
    b"<!DOCTYPE html><p>Please sign in",
    b"\xef\xbb\xbf \r\n<HTML><body>Login",
    "<!doctype html>".encode("utf-16"),
    b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
    b'{"status": 401, "message": "log in"}',
]


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("name", ["n.npz", "n.nii.gz", "n.mha", "n.h5"])
def test_a_page_is_not_taken_for_the_file(
    server: Server, tmp_path: Path, page: bytes, name: str
) -> None:
    url = server.put(f"/{name}", page)
    for facts in ({}, {"checksum": md5(CONTENT)}, {"size": len(CONTENT)}, {"size": len(page)}):
        row = dataset([RemoteFile(url, name, **facts)])  # type: ignore[arg-type]
        with pytest.raises(DataError, match="an account page") as error:
            fetch(row, tmp_path, retry=HASTY)
        assert url in error.value.what
        assert "open the address in a browser" in error.value.hint
        assert nothing_kept(tmp_path)


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_page_is_not_taken_for_an_archive(server: Server, tmp_path: Path, kind: str) -> None:
    row = dataset([RemoteFile(server.put("/download", PAGES[0]), archive=kind)])  # type: ignore[arg-type]
    with pytest.raises(DataError, match="an account page"):
        fetch(row, tmp_path, retry=HASTY)


def test_pages_and_messages_where_they_belong(server: Server, tmp_path: Path) -> None:
    files = {"a.html": PAGES[0], "b.json": PAGES[4], "c.xml": PAGES[3], "d.npz": zipped({"x": b""})}
    row = dataset([RemoteFile(server.put(f"/{n}", c), n) for n, c in files.items()])
    fetch(row, tmp_path, retry=HASTY)
    assert contents(tmp_path / "nodule").items() >= files.items()


@pytest.mark.parametrize("length", [True, False])
def test_an_empty_answer_is_no_file(server: Server, tmp_path: Path, length: bool) -> None:
    url = server.put(PATH, b"", length=length)
    with pytest.raises(DataError, match="the file is empty") as error:
        call(url, tmp_path)
    assert url in error.value.what
    assert nothing_kept(tmp_path)
    call(url, tmp_path, size=0)
