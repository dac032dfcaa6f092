"""Results of the stage download that later stages look at, besides its index."""

from __future__ import annotations

from pathlib import Path

from voxseq import catalogue
from voxseq.base.files import read_json

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
