"""Looks at images that nobody has to read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from voxseq.catalogue import DataSet
from voxseq.data.volume import Entry
from voxseq.study import cost, machine
from voxseq.study.look import ImageFacts, Look, Shape, Spacing

Seen = Callable[..., Look]


@pytest.fixture(scope="session", autouse=True)
def _once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """This machine is measured once, and costs are counted once, not at each `voxseq init`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine, "this_machine", cache(machine.this_machine))
        patch.setattr(cost, "COUNTS", tmp_path_factory.mktemp("counts") / "counts.json")
        yield


@pytest.fixture
def seen() -> Seen:
    """Makes a look at images of one shape, spacing and share of label values."""

    def made(
        *,
        count: int = 40,
        shape: Shape = (36, 51, 35),
        spacing: Spacing = (1.0, 1.0, 1.0),
        voxels: Mapping[int, int] | None = None,
        quantiles: tuple[float, ...] = (10.0, 500.0, 900.0),
        modality: str = "MRI",
        entry: Mapping[str, Any] | None = None,
        **facts: Any,
    ) -> Look:
        values = {0: 60_000, 1: 1_600, 2: 1_600} if voxels is None else voxels
        inside = quantiles if any(values) else ()
        one = ImageFacts(shape, spacing, quantiles, voxels=values, inside=inside)
        dataset = DataSet("mine", "mine", "both", modality, "msd", "mine")
        entries = tuple(
            Entry(f"p{n}", "image", f"p{n}.nii.gz", **(entry or {})) for n in range(count)
        )
        opened = facts.pop("opened", (one,) * min(count, 8))
        return Look(dataset, Path("mine"), entries, opened, **facts)

    return made
