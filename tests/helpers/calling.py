"""Commands that are called as from a shell, and what they print."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from voxseq.cli import main as cli


@dataclass(frozen=True)
class Called:
    """Status of a command and what it printed."""

    status: int
    out: str
    err: str


#: Calls the entry point with some words; the status has to be the keyword ``status``, else 0.
Call = Callable[..., Called]


def caller(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """The entry point, as from a shell."""

    def called(*words: str | Path, status: int = 0) -> Called:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["voxseq", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        printed = capsys.readouterr()
        done = Called(int(stop.value.code or 0), printed.out, printed.err)
        assert done.status == status, done
        return done

    return called
