"""Small sources of every kind of sequence, taken in as a study does, and a sampler of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.large_index import with_draws
from benchmarks.material import in_ras, table_row
from voxseq.config import Config
from voxseq.data.index import INDEX, SCHEMA, write_table
from voxseq.data.store import StoreWriter
from voxseq.data.volume import Entry
from voxseq.plan.context import RunContext
from voxseq.sequences import build
from voxseq.sequences.sampler import SequenceSampler

#: An image and what is known of it.
Scan = tuple[Entry, NDArray[Any]]


def sampler_of(
    folder: Path, config: Config, sources: Mapping[str, Iterable[Scan]], draws: float
) -> SequenceSampler:
    """Store the scans, build the index and open a sampler of all kinds.

    Args:
        folder: an empty folder.
        config: whose ``sequences.sources`` are the data sets of ``sources``.
        sources: data set → its scans.
        draws: share of the draws of lesions.
    """
    inputs = {}
    for dataset, scans in sources.items():
        store, download = folder / "store" / dataset, folder / "download" / dataset
        inputs |= {f"preprocess/source/{dataset}": store, f"download/{dataset}": download}
        for place in (store, download):
            place.mkdir(parents=True)
        _store(dataset, scans, config, store, download)
    index = folder / "index"
    index.mkdir()
    settings = with_draws(config.sequences, draws)
    build.execute(RunContext("sequences/all", settings, index, folder / "state", inputs, None))
    stores = {dataset: folder / "store" / dataset for dataset in sources}
    kinds = tuple(sorted({s.kind for s in config.sequences.sources}))
    return SequenceSampler(index, stores, config.sequences, kinds, 0)


def _store(
    dataset: str, scans: Iterable[Scan], config: Config, store: Path, download: Path
) -> None:
    writer = StoreWriter(store, config.store)
    rows = []
    for key, (entry, array) in enumerate(scans):
        row = table_row(in_ras(array), entry)
        row["volume_id"] = f"{dataset}/{entry.subject}/{entry.image}"
        writer.add(key, array, None, row)
        rows.append(row)
    writer.close()
    write_table(download / INDEX, [{k: r[k] for k in SCHEMA.names} for r in rows], SCHEMA)


def entries(
    kind: str, contrasts: tuple[str, ...], centre: tuple[int, int], count: int
) -> Iterator[Entry]:
    """What is known of the images of a source.

    Args:
        kind: of its sequences.
        contrasts: of the images of a subject, where the kind is "contrast".
        centre: of the lesions, where it is "semantic".
        count: of images, subjects, or lesions of each of eight categories.
    """
    if kind == "contrast":
        for n in range(count):
            for contrast in contrasts:
                yield Entry(f"s{n}", contrast, "", modality="MRI", contrast=contrast, group=f"s{n}")
    elif kind == "semantic":
        for category in range(1, 9):
            for n in range(count):
                yield Entry(
                    f"c{category}n{n}", "0", "", modality="CT", label=category, centre=centre
                )
    else:
        for n in range(count):
            yield Entry(f"s{n}", "0", "", modality="CT")


def noise(shape: tuple[int, int, int], seed: int) -> NDArray[np.int16]:
    """Nothing but the noise of a scanner."""
    return np.rint(np.random.default_rng(seed).normal(0, 300, shape)).astype(np.int16)
