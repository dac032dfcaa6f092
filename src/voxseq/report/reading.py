"""Reading the tables and records that runs have written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from voxseq.base.errors import IntegrityError
from voxseq.base.failures import read_named
from voxseq.base.files import read_json, size_of

#: What names a run in every frame, and what a score has besides.
KEYS = ("run", "stage", "task", "method", "variant", "ratio", "seed")
SCORE_COLUMNS = ("subject", "case", "label", "metric", "value")
_TEXTS = {*KEYS[:5], "title", "subject", "case", "label", "metric", "split", "name", "other"}


def run_file(inputs: Mapping[str, Path], run: str, file: str) -> Path | None:
    """Path of a run's file; ``None`` where the run or the file is missing."""
    path = inputs[run] / file if run in inputs else None
    return path if path is not None and size_of(path) is not None else None


def read_csv(
    path: Path,
    columns: tuple[str, ...],
    *,
    optional: tuple[str, ...] = (),
    others: bool = False,
) -> pd.DataFrame:
    """Read a table; keys of runs, case, label, metric, split and name are text.

    Args:
        path: of the table.
        columns: that it must have.
        optional: that are read where they are there.
        others: whether all others are read too.

    Raises:
        IntegrityError: the file cannot be read, lacks a column or holds text for a number.
    """
    hint = "delete the run's folder and start the workflow again"
    try:
        with read_named(path):
            frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise IntegrityError(f"{path} cannot be read: {error}", hint) from None
    lacking = [c for c in columns if c not in frame.columns]
    if lacking:
        raise IntegrityError(f"{path} lacks the columns {', '.join(lacking)}", hint)
    further = [c for c in frame.columns if c not in columns and (others or c in optional)]
    frame = frame.loc[:, [*columns, *further]]
    for name in (c for c in frame.columns if c not in _TEXTS):
        text = frame[name].str.strip().str.lower().replace({"": "nan"})
        try:
            frame[name] = [float(value) for value in text]
        except ValueError as error:
            raise IntegrityError(f"{path}: column {name}: {error}", hint) from None
    return frame


def read_record(inputs: Mapping[str, Path], run: str, file: str) -> dict[str, Any]:
    """Read a run's JSON record such as summary.json; empty where it is missing.

    Raises:
        IntegrityError: the file is not a JSON object.
    """
    path = run_file(inputs, run, file)
    if path is None:
        return {}
    try:
        value = read_json(path)
    except (OSError, ValueError) as error:
        raise IntegrityError(f"{path} cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise IntegrityError(f"{path}: expected a JSON object, found {type(value).__name__}")
    return value
