"""A study of a user's own data, from the configuration to the sequences of pre-training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers import ROOT, own_sets, trees
from voxseq.base.errors import DataError
from voxseq.base.files import read_json
from voxseq.config import load_config
from voxseq.data.index import read_rows
from voxseq.data.store import VolumeStore
from voxseq.engine.workspace import Workspace
from voxseq.plan import Plan, build_plan

#: The demo's sizes, but crops that fit the tiny images.
SMALL: dict[str, Any] = {
    "scale": "own",
    "results": "results/own",
    "sequences": {"spatial": {"crops_per_volume": 2}, "validation_every": 4},
    "pretrain": {"methods!": {"ours": {}}},
    "label_ratio": {"tasks": []},
    "ablation": {"tasks": [], "variants!": {}},
    "beyond!": {},
}


def planned(sets: Any, sources: list[str], tasks: Any) -> Plan:
    """The plan of a study of own data sets."""
    overlay = {
        **SMALL,
        "data": {"sets": sets},
        "sequences": {
            **SMALL["sequences"],
            "sources!": [{"dataset": name, "kind": "spatial"} for name in sources],
        },
        "finetune": {"tasks!": tasks},
    }
    return build_plan(load_config(ROOT / "params.yaml", [overlay]))


def task_like(kind: str, **changes: Any) -> dict[str, Any]:
    """A task of the demo of this type, with changes."""
    tasks = load_config(ROOT / "params.yaml").model_dump(mode="json")["finetune"]["tasks"]
    task = next(t for t in tasks.values() if t["type"] == kind)
    task["data"] |= {"merge_labels": {}}
    return {**task, **changes}


def do(plan: Plan, folder: Path) -> Workspace:
    """Do the stages before the trainings."""
    workspace = Workspace(folder, plan)
    for stage in ("download", "preprocess", "sequences"):
        for job in plan.of_stage(stage):
            workspace.execute(job)
    return workspace


def test_own_images_become_stores_and_sequences(tmp_path: Path) -> None:
    shape = (26, 25, 24)
    cases = [f"c{n}" for n in range(6)]
    for n in range(4):
        trees.write_nifti(tmp_path / f"ct/p{n}.nii.gz", trees.image(shape, seed=90 + n))
    raw = own_sets.nnunet(tmp_path / "raw", cases)
    for n, case in enumerate(cases):
        trees.write_nifti(raw / f"imagesTr/{case}_0000.nii.gz", trees.image(shape, seed=n))
        organ = np.zeros(shape, np.uint8)
        organ[4:20, 4:20, 4:20] = 1
        trees.write_nifti(raw / f"labelsTr/{case}.nii.gz", organ)
    split = {"train": cases[:4], "val": [cases[4]], "test": [cases[5]]}
    (raw / "mine.json").write_text(json.dumps(split))
    sets = {
        "scans": {"folder": str(tmp_path / "ct"), "layout": "files", "modality": "CT"},
        "organs": {
            "folder": str(raw),
            "layout": "nnunet",
            "modality": "CT",
            "options": {"splits": "mine.json"},
        },
    }
    task = task_like("segmentation", dataset="organs", labels=["kidney"], class_weights=None)
    plan = planned(sets, ["scans", "organs"], {"kidney": task})
    workspace = do(plan, tmp_path / "work")

    def folder(name: str) -> Path:
        return workspace.folder(plan.runs[name])

    assert {row["split"] for row in read_rows(folder("download/scans"))} == {"train"}
    facts = read_json(folder("download/organs") / "summary.json")
    assert facts["images"] == {"train": 4, "val": 1, "test": 1}
    assert facts["labels"] == {"1": "kidney"}
    assert len(VolumeStore(folder("preprocess/source/scans"))) == 4
    # Validation and test images of the task are kept out of pre-training.
    assert len(VolumeStore(folder("preprocess/source/organs"))) == 4
    assert len(VolumeStore(folder("preprocess/task/kidney"))) == 6
    assert (folder("sequences/all") / "run.json").parent.is_dir()
    # No file holds the place of the user's images.
    for path in (tmp_path / "work/artifacts").rglob("*.json"):
        assert str(tmp_path) not in path.read_text(), path


def test_classes_of_a_table(tmp_path: Path) -> None:
    parts = ["train", "val", "test"]
    rows = [[f"{n}.nii.gz", "sick" if n % 2 else "well", parts[n // 4]] for n in range(12)]
    folder = own_sets.table(tmp_path / "table", ["image", "class", "split"], rows)
    facts = {
        "folder": str(folder),
        "layout": "table",
        "modality": "CT",
        "options": {"file": "cases.csv"},
    }
    task = task_like("classification", dataset="clinic", labels=["well", "sick"])
    task["data"] |= {"window": [-1000, 1000], "normalise": "window", "scale": 1.0}
    plan = planned({"clinic": facts}, ["clinic"], {"outcome": task})
    workspace = Workspace(tmp_path / "work", plan)
    workspace.execute(plan.jobs["download", "clinic"])
    found = read_rows(workspace.folder(plan.runs["download/clinic"]))
    # In the order of the task's labels, not of the alphabet.
    assert {row["subject"]: row["label"] for row in found} == {
        str(n): int(n % 2) for n in range(12)
    }


def test_a_missing_folder_stops_the_study_with_its_key(tmp_path: Path) -> None:
    facts = {"folder": "nowhere", "layout": "files", "modality": "CT"}
    task = task_like("segmentation", dataset="scans", labels=["kidney"], class_weights=None)
    plan = planned({"scans": facts}, ["scans"], {"kidney": task})
    with pytest.raises(DataError, match=r"data\.sets\.scans\.folder: .*nowhere does not exist"):
        Workspace(tmp_path, plan).execute(plan.jobs["download", "scans"])
