"""Small trained models, made once for all modules of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.calling import Call, caller
from tests.helpers.trained import RECIPES, Trained, train


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
    return caller(monkeypatch, capsys)
