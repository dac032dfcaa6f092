"""The catalogue: every data set by its name.

Facts about layouts, access and licences are those of the data sets' own pages and of readers that
other projects publish. What no source settles stands under ``unconfirmed``.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable

from voxseq.base.errors import ConfigError
from voxseq.catalogue.datasets import other_sources, spatial, tasks
from voxseq.catalogue.model import DataSet

#: Pairs of data sets that share images: AbdomenCT-1K was put together from others, among them MSD,
#: and FLARE from those and AbdomenCT-1K.
_SHARED = (
    ("abdomenct1k", "task03_liver"),
    ("abdomenct1k", "task07_pancreas"),
    ("abdomenct1k", "task09_spleen"),
    ("flare22", "abdomenct1k"),
    ("flare22", "task03_liver"),
    ("flare22", "task07_pancreas"),
    ("flare22", "task09_spleen"),
    ("flare23", "abdomenct1k"),
    ("flare23", "flare22"),
    ("flare23", "totalsegmentator"),
    ("flare23", "task03_liver"),
    ("flare23", "task07_pancreas"),
    ("flare23", "task09_spleen"),
)


def _with_overlaps(rows: Iterable[DataSet]) -> dict[str, DataSet]:
    found = {row.name: row for row in rows}
    for name, row in found.items():
        others = {b for a, b in _SHARED if a == name} | {a for a, b in _SHARED if b == name}
        ordered = tuple(other for other in found if other in others)
        found[name] = dataclasses.replace(row, overlaps=ordered)
    return found


#: Every data set by its name.
CATALOGUE: dict[str, DataSet] = _with_overlaps(
    (*spatial.rows(), *other_sources.rows(), *tasks.rows())
)


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
    """What to tell about ``found`` images where the publisher or the paper counts others.

    Args:
        dataset: row of the catalogue.
        found: images that its adapter found in the user's folder, usable or not.

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


def how_to_obtain(dataset: DataSet) -> list[str]:
    """The steps by which a user obtains a data set, in order, the command that fetches included."""
    command = f"voxseq data download {dataset.name}"
    if dataset.client:
        return [
            *dataset.steps,
            "Or let the official client fetch it, once the terms are accepted and your credentials "
            f'are where the client looks for them: pip install -e ".[accounts]" in the '
            f"checkout; {command}",
        ]
    terms = [dataset.terms] if dataset.terms else []
    fetching = [command] if dataset.files else []
    return [*terms, *fetching, *dataset.steps]
