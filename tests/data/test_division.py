"""Dividing images into parts: when pictures are looked for, and when voxels are enough."""

from __future__ import annotations

from typing import Any

import pytest

from voxseq import catalogue
from voxseq.config.datasets import DataConfig
from voxseq.config.runs import SplitSettings
from voxseq.data import division


@pytest.mark.parametrize("pictures", [True, False])
def test_generated_images_are_compared_by_their_voxels_alone(
    pictures: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows 0 and 1 show one picture, rows 2 and 3 have the same voxels."""
    monkeypatch.setattr(division, "same_pictures", lambda rows: [(0, 1, 0.9)])
    rows: list[dict[str, Any]] = [
        {"volume_id": f"v{n}", "subject": f"s{n}", "split": "", "content_hash": f"h{min(n, 2)}"}
        for n in range(4)
    ]
    split = SplitSettings.of(DataConfig()).model_copy(update={"pictures": pictures})
    joined, aside = division.divide(rows, catalogue.get("task09_spleen"), split)
    assert joined == ([["s0", "s1"], ["s2", "s3"]] if pictures else [["s2", "s3"]])
    assert not aside
    assert rows[2]["split"] == rows[3]["split"]
