"""Examining a folder of the user, without a stage around it."""

from __future__ import annotations

from pathlib import Path

from tests.helpers import trees
from voxseq import catalogue
from voxseq.config.datasets import DataConfig
from voxseq.config.runs import SplitSettings, TaskNeeds
from voxseq.data.examine import Examination, examine
from voxseq.data.verify.check import Usage, verify
from voxseq.data.verify.report import Finding

_SPLIT = SplitSettings.of(DataConfig())


def needs(dataset: str) -> TaskNeeds | None:
    """What the task of the catalogue's own classes needs, None of a source."""
    row = catalogue.get(dataset)
    if not row.classes:
        return None
    of = trees.CLASSIFICATION if row.task == "classification" else trees.SEGMENTATION
    return TaskNeeds.model_validate({**of, "labels": len(row.classes)})


def examined(root: Path, dataset: str) -> Examination:
    """What the stage finds in a data set below ``root``."""
    row = catalogue.get(dataset)
    return examine(row, root / row.folder, needs(dataset), _SPLIT)


def findings(root: Path, dataset: str) -> list[Finding]:
    """What ``voxseq data verify`` says of a data set below ``root``, but for published numbers."""
    report = verify([dataset], root, Usage.of([dataset], DataConfig(), {}))
    return [f for f in report.findings if "published images" not in f.reason]


def remarks(found: Examination) -> list[str]:
    """Remarks as lines."""
    return [f"{remark.path}: {remark.reason}" for remark in found.remarks]
