"""``voxseq data download``: what it prints, and with which status it ends."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import pytest

from tests.helpers.packing import contents, dataset, md5
from tests.helpers.servers import Fault, Server
from voxseq import catalogue
from voxseq.catalogue import RemoteFile, rows
from voxseq.cli import main as cli
from voxseq.fetch import Fetched, RetryPolicy

NODULES = b"nodules" * 100
SPLEEN = b"spleen" * 100


@pytest.fixture(autouse=True)
def _catalogue(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The catalogue with addresses of the local server, and no account's client."""
    monkeypatch.chdir(tmp_path)
    url = server.put("/n.npz", NODULES)
    nodule = dataset([RemoteFile(url, "nodulemnist3d.npz", md5(NODULES), len(NODULES))])
    url = server.put("/verse", SPLEEN)
    verse = dataset([RemoteFile(url, "file")], "verse20", steps=("Read the README.",))
    changed = {**catalogue.CATALOGUE, "nodule": nodule, "verse20": verse}
    monkeypatch.setattr(rows, "CATALOGUE", changed)
    monkeypatch.setattr("voxseq.fetch.http.RetryPolicy", partial(RetryPolicy, attempts=1))


def call(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """Call the entry point with these words; returns the exit status."""
    monkeypatch.setattr(sys, "argv", ["voxseq", "data", "download", *map(str, words)])
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_download(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "nodule", "--root", tmp_path / "new") == 0
    folder = tmp_path / "new" / "nodule"
    assert capsys.readouterr().out == f"nodule: fetched 700 B, 1 files in {folder}\n"
    assert contents(folder)["nodulemnist3d.npz"] == NODULES
    assert call(monkeypatch, "nodule", "--root", tmp_path / "new") == 0
    assert capsys.readouterr().out == f"nodule: complete in {folder}, nothing to do\n"


def test_what_nobody_vouches_for_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "verse20", "--root", tmp_path) == 0
    out = capsys.readouterr().out
    assert "nothing vouches for http://127.0.0.1" in out
    assert "sha256:" in out
    assert "1. Read the README." in out


@pytest.mark.parametrize(
    ("source", "vouched", "words"),
    [
        ("http://a/b", "nothing", "nothing vouches"),
        ("http://a/b", "length", "only its length vouches"),
        ("https://a/b", "nothing", "only the encrypted connection (TLS) vouches"),
        ("s3://a/b/", "length", "only its length and the encrypted connection (TLS) vouch"),
    ],
)
def test_who_vouches(source: str, vouched: str, words: str) -> None:
    from voxseq.cli.data_download import _voucher

    item = Fetched("id", source, "p", "", source, "sha256:0", vouched, 1, 1, 1)  # type: ignore[arg-type]
    assert _voucher(item) == words


def test_the_root_of_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VOXSEQ_DATA", str(tmp_path / "mine"))
    assert call(monkeypatch, "nodule") == 0
    assert (tmp_path / "mine" / "nodule" / "nodulemnist3d.npz").exists()


def test_no_root(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "nodule") == 2
    assert "--root, VOXSEQ_DATA or data.root" in capsys.readouterr().err


def test_an_unknown_name_fetches_nothing(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    server: Server,
) -> None:
    assert call(monkeypatch, "nodule", "vers20", "--root", tmp_path) == 2
    assert "verse20" in capsys.readouterr().err
    assert not server.requests


def test_the_rest_is_done_before_steps_are_told(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    server: Server,
) -> None:
    server.faults["/verse"] = [Fault(404)]
    names = ("rsna2022_csfd", "flare23", "verse20", "nodule")
    assert call(monkeypatch, *names, "--root", tmp_path) == 2
    captured = capsys.readouterr()
    assert captured.out.startswith("nodule: fetched")
    errors = captured.err.split("error: ")[1:]
    assert [error.split(":")[0] for error in errors] == ["rsna2022_csfd", "flare23", "http"]
    assert 'pip install -e ".[accounts]"' in errors[0]
    assert "1. Register at" in errors[1]
    assert "Traceback" not in captured.err


def test_a_folder_of_the_users_own(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    server: Server,
) -> None:
    (tmp_path / "nodule").mkdir()
    (tmp_path / "nodule" / "mine").touch()
    assert call(monkeypatch, "nodule", "--root", tmp_path) == 0
    assert "was not made by this command: nothing was fetched" in capsys.readouterr().out
    assert not server.requests


def test_a_dry_run_asks_nobody(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    server: Server,
) -> None:
    root = tmp_path / "new"
    names = ("nodule", "verse20", "ricord", "rsna2022_csfd")
    assert call(monkeypatch, *names, "--root", root, "--dry-run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{server.base}/n.npz  700 B  {md5(NODULES)}"
    assert lines[1].startswith("nodule: 1 addresses, 700 B to fetch; ")
    assert lines[1].endswith(f"free; {root / 'nodule'}: not here")
    assert lines[2].endswith("unknown  no checksum")
    assert "verse20: 1 addresses, unknown to fetch" in lines[3]
    assert lines[4].startswith("s3://idc-open-data-cr/")
    assert "(300 objects)" in lines[4]
    assert any(line.startswith("ricord: 330 addresses, 20.3 GB to fetch") for line in lines)
    assert not server.requests
    assert not root.exists()
