"""The generated phantoms go through the same readers and checks as real data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.helpers import trees
from voxseq import catalogue
from voxseq.config.data import PhantomConfig
from voxseq.config.runs import ExamineRun, PrepareRun
from voxseq.data import examine as download
from voxseq.data import prepare as preprocess
from voxseq.data.index import read_index
from voxseq.data.store import VolumeStore
from voxseq.plan.context import RunContext

#: Real data sets without a phantom.
REAL_ONLY = {"dicom_ct", "task04_hippocampus"}
SMALL = PhantomConfig(
    volume_shape=(16, 16, 16),
    source_volumes=2,
    contrast_subjects=2,
    lesions_per_category=1,
    segmentation_cases=5,
    classification_cases=(4, 2, 3),
)


def _task(name: str) -> dict[str, Any] | None:
    dataset = catalogue.get(name)
    if dataset.role == "source":
        return None
    kind = "classification" if name in {"ricord", "nodule"} else "segmentation"
    return {"type": kind, "labels": dataset.options["labels"]}


@pytest.mark.parametrize("name", sorted(set(catalogue.CATALOGUE) - REAL_ONLY))
def test_every_phantom_is_usable(name: str, tmp_path: Path) -> None:
    task = _task(name)
    examined = ExamineRun.model_validate(
        {
            "dataset": name,
            "phantoms": SMALL,
            "min_valid_fraction": 1.0,
            "split": trees.SPLIT,
            "task": task,
        }
    )
    out = tmp_path / "download"
    out.mkdir()
    download.execute(RunContext(name, examined, out, tmp_path, {}, None))
    index = read_index(out)
    facts = trees.summary(out)
    assert (facts["set_aside"], facts["listed_but_absent"]) == (0, 0)
    assert index["content_hash"].is_unique or name == "deeplesion"
    assert index.groupby("subject")["split"].nunique().max() == 1
    if task is not None:
        assert set(index["split"]) == {"train", "val", "test"}
    folder = tmp_path / "store"
    folder.mkdir()
    data = {"resize": [8, 8, 8], "normalise": "zscore", "foreground_crop": False}
    preparation = task and {"data": data, "native_labels": True, **task}
    content = {"dataset": name, "store": trees.STORE, "task": preparation}
    config = PrepareRun.model_validate(content)
    preprocess.execute(RunContext(name, config, folder, tmp_path, {f"download/{name}": out}, None))
    store = VolumeStore(folder)
    assert len(store) == len(index)
    if task is not None:
        assert store.image(0).shape == (8, 8, 8)
