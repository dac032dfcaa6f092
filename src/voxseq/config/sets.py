"""A user's own data sets: ``data.sets`` of the configuration, and what runs keep of them."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, TypeAdapter, WithJsonSchema

from voxseq.base.errors import ConfigError
from voxseq.base.files import read_json, sha256, size_of
from voxseq.catalogue import CATALOGUE, DataSet
from voxseq.catalogue.label_names import UNREADABLE, ignored_among, names_by_value
from voxseq.catalogue.model import LISTS
from voxseq.catalogue.rows import completed
from voxseq.config.base import Name
from voxseq.config.runs import OwnFacts
from voxseq.config.task_types import TaskType

#: Facts about how a published data set is obtained and what its publishers promise.
_PUBLISHED = ("access", "client", "download", "files", "lists", "phantoms", "steps", "terms")
#: Facts that decide about results; the rest is for people and for estimates.
_ACTING = ("role", "modality", "layout", "intensities", "classes", "task", "options")
#: List of some layouts that names the values of segmentations.
_LABELS = "dataset.json"
_MODEL = TypeAdapter(DataSet)


def _own_facts(facts: Any) -> Any:
    """Refuse facts that only a published data set has."""
    if isinstance(facts, Mapping):
        for key in _PUBLISHED:
            if key in facts:
                raise ValueError(f"{key}: your own data sets are not fetched; leave it out")
        folder = facts.get("folder")
        if isinstance(folder, str):
            try:
                Path(folder).expanduser()
            except RuntimeError as error:
                raise ValueError(f"folder: {folder}: {error}") from None
    return facts


def _facts_of(row: DataSet) -> dict[str, Any]:
    """The facts of a data set that are not the usual ones, as JSON values."""
    usual = completed(row.name, {"task": row.task})
    facts = _MODEL.dump_python(row, mode="json", exclude_defaults=True)
    usual |= {"own": True, "role": "both"}
    return {key: value for key, value in facts.items() if usual.get(key) != value}


#: One of ``data.sets``; its name is filled in by :func:`named_sets`.
OwnSet = Annotated[
    DataSet,
    BeforeValidator(_own_facts),
    PlainSerializer(_facts_of, return_type=dict),
    WithJsonSchema({"type": "object"}),
]
Sets = dict[Name, OwnSet]


def named_sets(sets: Any) -> Any:
    """The mapping ``data.sets`` with names, titles and roles filled in.

    Raises:
        ValueError: the catalogue has one of the names.
    """
    if not isinstance(sets, Mapping):
        return sets
    for name in sets:
        if name in CATALOGUE:
            raise ValueError(f"{name}: the catalogue has a data set of this name; choose another")
    return {name: _named(str(name), facts) for name, facts in sets.items()}


def _named(name: str, facts: Any) -> Any:
    if isinstance(facts, DataSet) or not isinstance(facts, Mapping):
        return facts
    # An own data set may serve pre-training and tasks alike, as the study uses it.
    return {**completed(name, facts), "role": facts.get("role", "both"), "own": True}


def own_facts(row: DataSet) -> OwnFacts:
    """What the runs of a study keep of an own data set; :func:`own_row` is the way back."""
    facts = _facts_of(row)
    options = {key: value for key, value in row.options.items() if key != "splits"}
    acting = {key: value for key, value in facts.items() if key in _ACTING}
    acting |= {"role": row.role, "options": options}
    place = {"folder": row.folder, "title": row.title, "splits": row.options.get("splits", "")}
    return OwnFacts(facts=acting, place=place)


def own_row(name: str, own: OwnFacts) -> DataSet:
    """The data set of a run that carries the facts of an own one."""
    options = dict(own.facts["options"])
    if own.place["splits"]:
        options["splits"] = own.place["splits"]
    facts = {**own.facts, "folder": own.place["folder"], "title": own.place["title"]}
    return _MODEL.validate_python({**_named(name, facts), "options": options})


def own_for(row: DataSet, task: TaskType | None, labels: tuple[str, ...] = ()) -> DataSet:
    """An own data set as the runs of one study take it.

    Args:
        row: one of ``data.sets``.
        task: type of the task that uses it; None: all its images are for pre-training.
        labels: names of the task's classes, where these are the values of the files.
    """
    role = row.role if row.role != "both" or task else "source"
    return dataclasses.replace(
        row, role=role, task=row.task or task or "", classes=row.classes or labels
    )


def lists_of(row: DataSet) -> dict[str, str]:
    """SHA-256 of each list that an own data set is read by, such as its table.

    Lists that are not there are left out: the stage that needs them says so.

    Raises:
        ConfigError: the list of ``options.splits`` cannot be read.
    """
    folder = row.place(None)
    assert folder is not None, "an own data set has a place"
    named = [*LISTS.get(row.layout, ())]
    if row.layout == "table":
        named.append(row.options["file"])
    found = {Path(n).name: sha256(folder / n) for n in named if size_of(folder / n) is not None}
    splits = row.options.get("splits")
    if splits is not None:
        path = splits_place(row)
        if size_of(path) is None:
            raise ConfigError(
                f"data.sets.{row.name}.options.splits: there is no file {path}",
                "correct the path, which begins at the data set's folder, or leave the key out",
            )
        found["splits"] = sha256(path)
    return found


def ignored_value(row: DataSet) -> int | None:
    """Label value of an own data set's voxels that count for nothing; None without one.

    ``options.ignore`` says so, else the label "ignore" in dataset.json. One that is missing or
    cannot be understood is left to the stage that needs it.

    Raises:
        ResourceError: the machine failed.
    """
    stated = row.options.get("ignore")
    if stated is not None or _LABELS not in LISTS.get(row.layout, ()):
        return stated
    folder = row.place(None)
    assert folder is not None, "an own data set has a place"
    try:
        return ignored_among(names_by_value(read_json(folder / _LABELS)["labels"]))
    except (OSError, *UNREADABLE):
        return None


def splits_place(row: DataSet) -> Path:
    """The file of ``options.splits``, relative to the data set's folder unless it is absolute."""
    folder = row.place(None)
    assert folder is not None, "an own data set has a place"
    return folder / Path(row.options["splits"]).expanduser()


def digest_of(lists: Mapping[str, str]) -> str:
    """One word for the content of several lists; "" where there are none."""
    text = "".join(f"{name} {value}\n" for name, value in sorted(lists.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:16] if text else ""
