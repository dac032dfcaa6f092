"""What the stage download leaves for the stages after it."""

from __future__ import annotations

from pathlib import Path

from voxseq import catalogue
from voxseq.base.files import read_json

RAW = "raw"


SUMMARY = "summary.json"


#: Note of an optional source that is not here.
LEFT_OUT = "not in the data root: left out of pre-training"


def dataset_folder(download_out: Path, data_root: Path | None, dataset: str) -> Path:
    """Folder with the files of ``dataset``: the user's, or the generated one of the run."""
    if data_root is None:
        return download_out / RAW
    return data_root / catalogue.get(dataset).folder


def is_left_out(download_out: Path) -> bool:
    """Whether a finished download run found an optional source absent."""
    return LEFT_OUT in read_json(download_out / SUMMARY)["notes"]
