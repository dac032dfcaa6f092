"""Scenario 11: a method is taken out of the study and put back."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable

import pytest

from tests.helpers.study import COMMANDS, Study

pytestmark = [pytest.mark.slow, pytest.mark.workflow]

OTHER = {"snakemake": "dvc", "dvc": "snakemake"}


def complete_cells(tables: dict[str, bytes]) -> set[tuple[str, ...]]:
    """Cells of all tables that have a score: table, row, column, share of the labels."""
    return {
        (name, row["row"], row["column"], row.get("label_ratio", ""))
        for name, content in tables.items()
        if name.endswith(".csv")
        for row in csv.DictReader(io.StringIO(content.decode()))
        if row.get("status") == "complete"
    }


@pytest.mark.parametrize("engine", COMMANDS)
def test_a_method_is_removed_and_put_back(
    study: Study, engine: str, found: Callable[[int, str], None]
) -> None:
    began = study.runs(), study.tables()
    places = {path: (study.root / "artifacts/tiny" / path).stat().st_ino for path in began[0]}
    settings = study.params()["pretrain"]["methods"]["mae3d"]
    assert any("mae3d" in path for path in study.versioned("finetune"))

    study.change("pretrain.methods.mae3d", None)
    with study.computes(["tables/all", "figures/all"]):
        study.run(engine)
    study.assert_nothing_to_do()
    left = study.runs()
    gone = {path for path in began[0] if "mae3d" in path}
    report = {path for path in began[0] if path.startswith(("tables/", "figures/"))}
    assert len(gone) == 3
    assert set(began[0]) - set(left) == gone | report
    for stage in ("pretrain", "finetune"):
        assert not any("mae3d" in path for path in study.versioned(stage))
    for path in set(began[0]) - gone - report:
        assert (study.root / "artifacts/tiny" / path).stat().st_ino == places[path]
    cells = [complete_cells(tables) for tables in (began[1], study.tables())]
    # Tables keep the paper's rows; those of the method are missing now, all others stay.
    assert cells[1] == {cell for cell in cells[0] if "MAE3D" not in cell}
    assert len(cells[1]) < len(cells[0])

    methods = {**study.params()["pretrain"]["methods"], "mae3d": settings}
    study.change("pretrain.methods", methods)
    with study.computes([]):
        study.run(OTHER[engine])
    assert (study.runs(), study.tables()) == began
    study.assert_nothing_to_do()
    found(
        11,
        f"{engine} without a method: from {len(cells[0])} to {len(cells[1])} scores in the tables, "
        f"{len(gone)} runs no longer versioned; {OTHER[engine]} with it again: 0 runs computed",
    )
