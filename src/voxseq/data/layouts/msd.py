"""A task of the Medical Segmentation Decathlon: ``dataset.json`` and the images it lists.

Only the labelled images, those of ``training``, are used; ``imagesTs`` has no labels. Folders of
nnU-Net are read as well; see :mod:`voxseq.data.readers.dataset_json`.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from voxseq import catalogue
from voxseq.base.paths import without_ending
from voxseq.catalogue import DataSet
from voxseq.data.readers import dataset_json, nifti
from voxseq.data.readers.class_names import label_remarks
from voxseq.data.readers.files import Names, damaged, nothing_found
from voxseq.data.readers.named_labels import named_labels
from voxseq.data.volume import Entry, Remark, Scan, Volume

_CHANNEL = re.compile(r"_\d{4}$")
_LETTERS = re.compile(r"[^a-z]")


def scan(folder: Path, dataset: DataSet) -> Scan:
    """List the images of ``training`` that are there; see :class:`Scan`.

    Raises:
        DataError: dataset.json is missing or not as specified, or none of its images exists.
    """
    content = dataset_json.read(folder, own=dataset.own)
    entries: list[Entry] = []
    absent: list[str] = []
    seen: set[str] = set()
    for case in content.cases:
        if case.name in seen:
            raise damaged(folder / dataset_json.NAME, f"{case.image} is listed more than once")
        seen.add(case.name)
        if case.is_there:
            entry = Entry(
                case.name, "image", case.image, modality=dataset.modality, label_path=case.label
            )
            entries.append(entry)
        else:
            absent.append(case.image)
    names = {name: without_ending(name) for name in Names(folder).below(dataset_json.IMAGES)}
    extra = [n for n, c in names.items() if c not in seen and _CHANNEL.sub("", c) not in seen]
    if not entries:
        expected = "the images that its dataset.json lists under training"
        raise nothing_found(folder, expected, extra, own=dataset.own)
    note = f"{len(extra)} files in imagesTr that dataset.json does not list: {extra[:5]}"
    notes = (note,) if extra else ()
    if dataset.own:
        named = named_labels(content.labels, dataset)
        remarks = (*content.remarks, *named.remarks)
        found = Scan(tuple(entries), (), tuple(absent), notes, remarks)
        return replace(found, labels=named.values, ignore=named.ignore)
    remarks = (
        *content.remarks,
        *label_remarks(content.labels, dataset.classes, dataset.title),
        *_other_task(content.name, dataset),
    )
    return Scan(tuple(entries), (), tuple(absent), notes, remarks)


def read_label(folder: Path, entry: Entry) -> Volume:
    """Read an image's segmentation."""
    return nifti.read(folder, entry.label_path)


def _other_task(name: Any, dataset: DataSet) -> list[Remark]:
    """A remark where dataset.json bears the name of another task of the catalogue."""
    stated = _LETTERS.sub("", str(name).casefold())
    if not dataset.collection or _organ(dataset) in stated:
        return []
    rows = (row for row in catalogue.CATALOGUE.values() if row.collection == dataset.collection)
    other = next((row.title for row in rows if _organ(row) in stated), None)
    if other is None:
        return []
    reason = f"its name is {name!r}, which is that of {other}, in the folder of {dataset.title}"
    return [Remark(dataset_json.NAME, reason, "put each task into the folder of its own name")]


def _organ(dataset: DataSet) -> str:
    """Letters of the part of the body that a task of the Decathlon is named after."""
    return _LETTERS.sub("", dataset.folder.rpartition("_")[2].casefold())
