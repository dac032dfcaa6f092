"""The catalogue: every data set by its name, read from ``datasets.yaml``."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from voxseq.base.errors import ConfigError
from voxseq.catalogue.lists import PACKAGE, content
from voxseq.catalogue.model import DataSet

_FILE = "datasets.yaml"
_MODEL = TypeAdapter(DataSet)


def read_rows(rows: Mapping[str, Any], origin: str) -> dict[str, DataSet]:
    """Data sets from their facts, by name.

    The title is by default the name, the role "task" where the labels are for one, else "source",
    and the number of images that of the parts of a published split.

    Args:
        rows: facts by the name of the data set.
        origin: where they stand, for messages.

    Raises:
        ConfigError: naming the data set, the key and the reason.
    """
    found = {}
    for name, facts in rows.items():
        if not isinstance(facts, Mapping):
            raise _refusal(origin, name, "expected a mapping of facts")
        try:
            row = _MODEL.validate_python(completed(name, facts))
        except ValidationError as error:
            wrong = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            said = "; ".join(text.removeprefix(": ") for text in wrong)
            raise _refusal(origin, name, said.replace("Value error, ", "")) from None
        if row.volumes is None and row.parts is not None:
            row = dataclasses.replace(row, volumes=sum(row.parts))
        found[name] = row
    return _with_overlaps(found)


def completed(name: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts with the usual title and role, for the model."""
    usual = {"title": name, "role": "task" if facts.get("task") else "source"}
    return {**usual, **facts, "name": name}


def _refusal(origin: str, name: str, reason: str) -> ConfigError:
    return ConfigError(
        f"{origin}: {name}: {reason}", "correct it; docs/adding-a-dataset.md describes every key"
    )


def _with_overlaps(rows: Mapping[str, DataSet]) -> dict[str, DataSet]:
    """The same rows, each with all that share images with it, in the order of the rows."""
    return {
        name: dataclasses.replace(
            row,
            overlaps=tuple(o for o, r in rows.items() if o in row.overlaps or name in r.overlaps),
        )
        for name, row in rows.items()
    }


def _read() -> tuple[dict[str, DataSet], dict[str, list[str]]]:
    text = content(PACKAGE / _FILE)
    groups = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
    # A key with a dot holds what rows share.
    groups = {group: rows for group, rows in groups.items() if not group.startswith(".")}
    rows = {name: facts for group in groups.values() for name, facts in group.items()}
    return read_rows(rows, _FILE), {group: list(rows) for group, rows in groups.items()}


#: Every data set by its name, and the names in each group of the file.
CATALOGUE, GROUPS = _read()


def get(name: str) -> DataSet:
    """The data set called ``name``.

    Raises:
        ConfigError: there is none; the message names the nearest.
    """
    if name in CATALOGUE:
        return CATALOGUE[name]
    near = difflib.get_close_matches(name.lower(), CATALOGUE, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"the names are {', '.join(CATALOGUE)}"
    raise ConfigError(f"unknown data set {name!r}", hint)


def count_notes(dataset: DataSet, found: int) -> list[str]:
    """Notes on ``found`` images where the publisher or the paper counts others.

    Args:
        dataset: row of the catalogue.
        found: images that its layout found in the user's folder, usable or not.

    Returns:
        A sentence for each difference; none where the numbers agree or no source states one.
    """
    notes = []
    published, paper = dataset.volumes, dataset.paper_volumes
    if published is not None and found < published:
        notes.append(f"{found} of {published} published images are there")
    elif published is not None and found > published:
        notes.append(f"{found} images are there, {found - published} more than are published")
    if paper is not None and paper not in (published, found):
        notes.append(
            f"the paper states {paper} images"
            + (f", the published data set has {published}" if published is not None else "")
        )
    return notes
