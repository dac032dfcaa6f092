"""Small trained models, made once for all modules of this folder."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.helpers.calling import Call, Called
from tests.helpers.trained import RECIPES, Trained, train
from voxseq.cli import main as cli


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trained]:
    """A model of each type of task."""
    root = tmp_path_factory.mktemp("trained")
    return {kind: train(root / kind, kind) for kind in RECIPES}


@pytest.fixture(scope="session")
def ensemble(trained: dict[str, Trained]) -> list[Path]:
    """Three models of one task."""
    root = trained["segmentation"].images.parent
    others = [train(root, "segmentation", seed).folder for seed in (1, 2)]
    return [trained["segmentation"].folder, *others]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
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
