"""A workspace with data sets of the user, some of whose files are spoilt."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tests.helpers import bad_metaimage, bad_nifti
from tests.helpers.bad_nifti import trees
from tests.helpers.places import Ended, Place, Zygote, study

#: More than reading any of these files takes, less than a bomb would fill.
MEMORY = 1 << 30
PATIENCE = 60


def task(dataset: str, *labels: str, **data: Any) -> dict[str, Any]:
    """Settings of a downstream task; one of two labels or more is a classification."""
    kind = "segmentation" if len(labels) == 1 else "classification"
    return {
        "type": kind,
        "title": dataset,
        "dataset": dataset,
        "labels": list(labels),
        "data": data,
    }


#: Spleen is read from NIfTI, STOIC from MetaImage, CT series from DICOM, LA from h5, nodules from
#: npz, DeepLesion from PNG.
SOURCES = ("stoic", "dicom_ct", "deeplesion")
CONFIG: dict[str, Any] = {
    "scale": "malformed",
    "data": {"root": "data", "min_valid_fraction": 0.01},
    "sequences": {
        "sources!": [
            {"dataset": name, "kind": "semantic" if name == "deeplesion" else "spatial"}
            for name in SOURCES
        ]
    },
    # Not MedCoSS, which needs MRI.
    "pretrain": {"methods!": {"ours": {}}},
    "finetune": {
        "tasks!": {
            "task09_spleen": task("task09_spleen", "spleen", window=[-100, 100], spacing=[2, 2, 2]),
            "la": task("la", "atrium", normalise="none"),
            "nodule": task("nodule", "benign", "malignant", normalise="none"),
            "ricord": task("ricord", "no", "yes", window=[0, 1400]),
        }
    },
    "beyond!": {"frozen": []},
}


def spoilt_study(folder: Path, zygote: Zygote) -> Place:
    """An empty workspace with a folder for data, and what no image may lead to beside it."""
    made = Place(folder, zygote, dict(_config()))
    (folder / "data").mkdir(parents=True)
    (folder / bad_metaimage.SECRET).write_bytes(trees.image(bad_nifti.SHAPE, 9).tobytes())
    with h5py.File(folder / "secret.h5", "w") as file:
        file["image"] = trees.image(bad_nifti.SHAPE, 9).astype(np.float32)
    return made


@cache
def _config() -> dict[str, Any]:
    return study(**CONFIG)


def index(place: Place, dataset: str) -> Ended:
    """Index a data set in a process of its own, with little memory and time."""
    return place.run(
        "download",
        dataset,
        memory=MEMORY,
        patience=PATIENCE,
        environment={"VOXSEQ_DATA": str(place.folder / "data")},
    )


def aside(place: Place, dataset: str) -> dict[str, tuple[str, str]]:
    """Subject → path and reason of what was set aside."""
    path = place.folder / place.plan.artefacts / "download" / dataset / "set_aside.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {row["volume_id"].split("/")[1]: (row["path"], row["reason"]) for row in rows}
