"""Studies of every shape end, and publish exactly what they declare."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.flavours import FLAVOURS
from tests.helpers.study import COMMANDS, Study

pytestmark = pytest.mark.slow

#: Not among the faults: each engine, and each part of a study both with and without it.
SHORT = {
    ("pre-training only", "snakemake"),
    ("one method", "dvc"),
    ("scratch only, no sources", "snakemake"),
}


CASES = [
    pytest.param(
        name,
        engine,
        id=f"{name}-{engine}",
        marks=() if (name, engine) in SHORT else pytest.mark.faults,
    )
    for name in FLAVOURS
    for engine in COMMANDS
]


@pytest.mark.parametrize(("name", "engine"), CASES)
def test_a_study_of_any_shape_ends_with_what_it_declares(
    finished: Study, tmp_path: Path, name: str, engine: str
) -> None:
    """What the shape has in common with the tiny study is there already."""
    study = finished.copy(tmp_path / "study")
    study.lay(FLAVOURS[name])
    study.run(engine)
    assert set(study.published()) == study.declared()
    study.assert_nothing_to_do()
    study.assert_whole()
    shown = study.voxseq("tables")
    tables = {path.stem for path in (study.root / "results/tiny/tables").glob("table*.csv")}
    assert {f"table{number}" for number in range(1, 6) if f"Table {number}. " in shown} == tables
    assert study.voxseq("where").rstrip().endswith("jobs finished")
