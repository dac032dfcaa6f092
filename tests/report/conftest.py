from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers import fake_study, odd_texts
from tests.helpers.shared import made_once
from voxseq.config.studies import ReportConfig


def published(folder: Path, *, phantoms: bool) -> Path:
    """All that a small study publishes, titles and cases being hostile where it has phantoms."""
    study = fake_study.part(
        tasks=("task07_pancreas", "ricord", "nodule"),
        methods=("unetr", "vit", "simclr", "ours"),
        seeds=(0,),
        ratios=("ricord",),
        ablation=("ricord",),
        beyond=("nodule",),
        phantoms=phantoms,
        report=ReportConfig(dpi=40),
    )
    if phantoms:
        study = odd_texts.spoilt(study)
    context = fake_study.build(folder, study, steps=40)
    if phantoms:
        odd_texts.spoil_cases(p for name, p in context.inputs.items() if "scores/" not in name)
    return context.make("tables", "costs", "figures")


@pytest.fixture(scope="session")
def of_phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For all worker processes."""

    def make(folder: Path) -> None:
        published(folder, phantoms=True)

    return made_once(tmp_path_factory, "report-on-phantoms", make) / fake_study.OUT


@pytest.fixture(scope="session")
def of_volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return published(tmp_path_factory.mktemp("volumes"), phantoms=False)
