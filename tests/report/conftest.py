from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers import fake_study, odd_texts
from voxseq.report.run import execute_costs, execute_figures, execute_tables


def published(folder: Path, *, phantoms: bool) -> Path:
    """All that a small study publishes, titles and cases being hostile where it has phantoms."""
    context = fake_study.build(
        folder,
        tasks=("task07_pancreas", "ricord"),
        seeds=(0,),
        ratio_tasks=("ricord",),
        ablation_tasks=("ricord",),
        beyond_tasks=("ricord",),
        steps=40,
    )
    settings = {"dpi": 40, "bootstrap_samples": 20}
    context.config.update(phantoms=phantoms, report=settings)
    if phantoms:
        odd_texts.spoil(context)
    execute_tables(context)  # type: ignore[arg-type]
    execute_costs(context)  # type: ignore[arg-type]
    execute_figures(context)  # type: ignore[arg-type]
    return context.out


@pytest.fixture(scope="session")
def of_phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return published(tmp_path_factory.mktemp("phantoms"), phantoms=True)


@pytest.fixture(scope="session")
def of_volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return published(tmp_path_factory.mktemp("volumes"), phantoms=False)
