"""Results of the stage download that later stages look at, besides its index."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from voxseq import catalogue
from voxseq.base.files import read_json, write_text

SUMMARY = "summary.json"
#: Images that cannot be used, with the reason.
SET_ASIDE = "set_aside.csv"

#: Note of an optional source that is not here.
LEFT_OUT = "not in the data root: left out of pre-training"


def dataset_folder(examined: Path, data_root: Path | None, dataset: str) -> Path:
    """Folder with the files of ``dataset``: the user's, or the generated one of the run."""
    return examined / "raw" if data_root is None else data_root / catalogue.get(dataset).folder


def is_left_out(examined: Path) -> bool:
    """Whether a finished examination found an optional source absent."""
    return LEFT_OUT in read_json(examined / SUMMARY)["notes"]


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write a table of texts."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    write_text(path, text.getvalue())
