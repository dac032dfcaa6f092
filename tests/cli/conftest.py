"""A folder with the demo's configuration, and the program as it is called from a shell."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from tests.helpers import ROOT
from tests.helpers.calling import Call, Called
from voxseq.cli import main as cli


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the demo's configuration, as the current one."""
    folder = tmp_path / "a study"
    folder.mkdir()
    shutil.copy(ROOT / "params.yaml", folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """The entry point, as from a shell."""

    def called(*words: str, status: int = 0) -> Called:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["voxseq", *words])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        printed = capsys.readouterr()
        done = Called(int(stop.value.code or 0), printed.out, printed.err)
        assert done.status == status, done
        return done

    return called
