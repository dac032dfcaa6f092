"""Results of the stage download that later stages look at, besides its index."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from voxseq import catalogue
from voxseq.base.files import read_json
from voxseq.catalogue import DataSet
from voxseq.config.sets import own_row

if TYPE_CHECKING:
    from voxseq.config.runs import ExamineRun, PrepareRun

SUMMARY = "summary.json"
#: Images that cannot be used, with the reason.
SET_ASIDE = "set_aside.csv"

#: Note of an optional source that is not here.
LEFT_OUT = "not in the data root: left out of pre-training"


def dataset_of(run: ExamineRun | PrepareRun) -> DataSet:
    """The data set of a run: the user's own one that it carries, else of the catalogue."""
    return own_row(run.dataset, run.own) if run.own else catalogue.get(run.dataset)


def dataset_folder(examined: Path, data_root: Path | None, dataset: DataSet) -> Path:
    """Folder with the files of ``dataset``: the user's, or the generated one of the run."""
    return dataset.place(data_root) or examined / "raw"


def is_left_out(examined: Path) -> bool:
    """Whether a finished examination found an optional source absent."""
    return LEFT_OUT in read_json(examined / SUMMARY)["notes"]
