"""Folders that a configuration names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from voxseq.base.errors import DataError

#: Folders of the results that each stage fills, alone but for ``scores``, where seeds of other
#: machines may lie as well. They exist in every study: DVC expects them.
FOLDERS: Mapping[str, tuple[str, ...]] = {
    "scores": ("scores",),
    "tables": ("tables", "plots", "cost"),
    "figures": ("figures", "report"),
}
#: Environment variable that names the folder of real data and overrides ``data.root``.
DATA_VARIABLE = "VOXSEQ_DATA"


def data_root(configured: str | None) -> Path | None:
    """The folder of real data: the environment variable, else ``data.root``, else ``None``.

    Raises:
        DataError: the folder does not exist.
    """
    if configured is None:
        return None
    given = os.environ.get(DATA_VARIABLE) or configured
    folder = Path(given).expanduser().resolve()
    if not folder.is_dir():
        raise DataError(
            f"the data folder {given} does not exist",
            f"put the data sets there, or name their folder in data.root or in {DATA_VARIABLE}; "
            "docs/datasets.md shows the layouts",
        )
    return folder
