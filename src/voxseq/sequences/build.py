"""Building the sequence index: which crops of which volumes form sequences.

The index names stores, rows and boxes, and the intensity range of each crop
(:mod:`voxseq.sequences.ranges`); voxels stay in the volume store. One table per kind:

- ``spatial.parquet``: one row per crop, along which the window slides when it is read;
- ``contrast.parquet``: one row per place, with the rows of the aligned contrasts;
- ``semantic_items.parquet`` and ``semantic.parquet``: lesion crops, and draws of several distinct
  crops of one category.

Images that a task holds out are excluded first; see :mod:`voxseq.sequences.exclusion`. A kind of
which no source is here has no table; ``left_out.json`` names it.

Counts follow the published code (AR-SSL4M): 50 crops per volume, a third fewer where the volume is
thinner than the crop, 100 places per subject, 20,000 draws per category.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from voxseq.base.errors import DataError
from voxseq.base.files import atomic_path, write_json
from voxseq.base.random import entropy
from voxseq.config.base import Shape3
from voxseq.sequences.boxes import AXES, BOX
from voxseq.sequences.exclusion import select
from voxseq.sequences.ranges import RangeFinder
from voxseq.sequences.table import LEFT_OUT

if TYPE_CHECKING:
    from voxseq.config.runs import SequencesRun
    from voxseq.plan.context import RunContext

_LOG = logging.getLogger("voxseq.sequences")

#: Columns of the place of a volume.
_PLACE = ("store", "row")
#: Random keys that are held at a time: 32 MB.
_KEYS = 1 << 22
Integers = NDArray[np.int64]


def execute(context: RunContext[SequencesRun]) -> None:
    """Write the sequence index of all sources.

    Raises:
        DataError: a kind of sequence for which no source has usable volumes.
    """
    config = context.config
    sources = sorted({s.dataset for s in config.sources})
    inputs = {
        f"{prefix}{name}": folder
        for prefix in ("download/", "preprocess/source/")
        for name, folder in context.inputs_below(prefix).items()
    }
    selection = select(inputs, sources, config.exclude, config.exclude_files)
    volumes = selection.volumes
    with atomic_path(context.out / "excluded.csv") as temporary:
        selection.excluded.to_csv(temporary, index=False, lineterminator="\n")
    write_json(context.out / "exclusion.json", selection.record)
    counts: dict[str, int] = {"excluded": len(selection.excluded)}
    here = set(selection.record["volumes"])
    left_out: dict[str, list[str]] = {"sources": sorted(set(sources) - here), "kinds": []}
    tables: dict[str, pd.DataFrame] = {}
    for kind in ("spatial", "contrast", "semantic"):
        names = [s.dataset for s in config.sources if s.kind == kind]
        if not names:
            continue
        if not here.intersection(names):
            left_out["kinds"].append(kind)
            _LOG.warning("no %s sequences: %s are not here", kind, ", ".join(names))
            continue
        chosen = volumes[volumes["dataset"].isin(names)].reset_index(drop=True)
        tables |= _BUILDERS[kind](chosen, config)
        if not len(tables[kind]):
            raise DataError(
                f"no {kind} sequence can be built from {', '.join(names)}",
                f"look at set_aside.csv of these data sets and at {context.out / 'excluded.csv'}",
            )
    folders = [context.input(f"preprocess/source/{name}") for name in sources]
    finder = RangeFinder(config, volumes, folders, context.state, context.workers)
    for name, unmarked in finder.added(tables).items():
        table = with_validation(unmarked, config.validation_every)
        counts[name] = len(table)
        with atomic_path(context.out / f"{name}.parquet") as temporary:
            table.to_parquet(temporary, index=False)
    write_json(context.out / "sources.json", sources)
    write_json(context.out / LEFT_OUT, left_out)
    write_json(context.out / "summary.json", counts)
    _LOG.info("sequences: %s", ", ".join(f"{name} {n}" for name, n in counts.items()))


def _shape(row: Any) -> Shape3:
    return (int(row.p_x), int(row.p_y), int(row.p_z))


def random_boxes(shape: Shape3, crop: Shape3, count: int, rng: np.random.Generator) -> Integers:
    """Boxes of ``crop`` voxels at uniform places; an axis shorter than the crop is taken whole.

    Returns:
        (count, 6): start x, y, z and extent x, y, z.
    """
    extent = np.minimum(shape, crop)
    start = rng.integers(0, np.asarray(shape) - extent + 1, size=(count, 3))
    return np.concatenate([start, np.broadcast_to(extent, (count, 3))], axis=1)


def _box_table(boxes: list[Integers], places: dict[str, list[int]]) -> pd.DataFrame:
    """One row per box, with the place of its volume.

    Args:
        boxes: of each volume, as from :func:`random_boxes`.
        places: column → its value for each volume.
    """
    if not boxes:
        return pd.DataFrame()
    counts = [len(part) for part in boxes]
    columns = {name: np.repeat(values, counts) for name, values in places.items()}
    columns |= zip(BOX, np.concatenate(boxes).T, strict=True)
    return pd.DataFrame(columns).astype(np.int32)


def _spatial(volumes: pd.DataFrame, config: SequencesRun) -> dict[str, pd.DataFrame]:
    crop, full = config.spatial.crop_shape, config.spatial.crops_per_volume
    boxes: list[Integers] = []
    rows = list(_rows(volumes, "volume_id", "store", "row"))
    for row in rows:
        shape = _shape(row)
        # Published: a volume thinner than the crop gives int(50 / 1.5) crops.
        count = full if shape[2] >= crop[2] else max(int(full / 1.5), 1)
        generator = np.random.default_rng(entropy(config.seed, "spatial", str(row.volume_id)))
        boxes.append(random_boxes(shape, crop, count, generator))
    places = {name: [getattr(row, name) for row in rows] for name in _PLACE}
    return {"spatial": _box_table(boxes, places)}


def _contrast(volumes: pd.DataFrame, config: SequencesRun) -> dict[str, pd.DataFrame]:
    crop, count = config.contrast.crop_shape, config.contrast.crops_per_subject
    boxes: list[Integers] = []
    chosen: list[list[Any]] = []
    for group, rows in _whole_groups(volumes, list(config.contrast.contrasts)):
        generator = np.random.default_rng(entropy(config.seed, "contrast", group))
        boxes.append(random_boxes(_shape(rows[0]), crop, count, generator))
        chosen.append(rows)
    places = {"store": [rows[0].store for rows in chosen]}
    for i in range(len(config.contrast.contrasts)):
        places[f"row_{i}"] = [rows[i].row for rows in chosen]
    return {"contrast": _box_table(boxes, places)}


def _whole_groups(volumes: pd.DataFrame, contrasts: list[str]) -> Iterator[tuple[str, list[Any]]]:
    """Groups, by data set and name, that have all contrasts in one shape, with their rows."""
    groups: dict[tuple[str, str], dict[str, Any]] = {}
    for row in _rows(volumes, "dataset", "group", "contrast", "store", "row"):
        groups.setdefault((row.dataset, row.group), {})[str(row.contrast)] = row
    for (_, group), by_contrast in sorted(groups.items(), key=itemgetter(0)):
        if any(name not in by_contrast for name in contrasts):
            _LOG.warning("%s lacks a contrast of %s; it gives no sequence", group, contrasts)
            continue
        rows = [by_contrast[name] for name in contrasts]
        shapes = {_shape(row) for row in rows}
        if len(shapes) > 1:
            _LOG.warning("%s: contrasts of different shapes %s", group, sorted(shapes))
            continue
        yield str(group), rows


def _semantic(volumes: pd.DataFrame, config: SequencesRun) -> dict[str, pd.DataFrame]:
    window, draws = config.semantic.window, config.semantic.draws_per_category
    typed = volumes[volumes["label"] >= 0]
    items = [
        (
            *(row.store, row.row, row.label),
            *lesion_box(_shape(row), (int(row.centre_x), int(row.centre_y)), window),
        )
        for row in _rows(typed, "label", "store", "row", "centre_x", "centre_y")
    ]
    table = pd.DataFrame(items, columns=[*_PLACE, "category", *BOX]).astype(np.int32)
    length = config.length
    parts = []
    for category, members in table.groupby("category", sort=True):
        if len(members) < length:
            _LOG.warning("category %s has %d lesions, too few", category, len(members))
            continue
        generator = np.random.default_rng(entropy(config.seed, "semantic", str(category)))
        chosen = members.index.to_numpy()[distinct_draws(len(members), length, draws, generator)]
        columns = {f"item_{i}": chosen[:, i].astype(np.int32) for i in range(length)}
        parts.append(pd.DataFrame({"category": np.int32(str(category)), **columns}))
    draws_table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    return {"semantic_items": table, "semantic": draws_table}


def distinct_draws(count: int, length: int, draws: int, generator: np.random.Generator) -> Integers:
    """Draw ``length`` distinct numbers below ``count``, in random order, ``draws`` times.

    Sorting random keys needs no loop over the draws. Keys are made some draws at a time, which
    bounds memory and gives the same numbers as all at once.

    Returns:
        (draws, length).
    """
    step = max(_KEYS // count, 1)
    parts = []
    for first in range(0, draws, step):
        keys = generator.random((min(step, draws - first), count))
        picks = np.argpartition(keys, length - 1, axis=1)[:, :length]
        order = np.argsort(np.take_along_axis(keys, picks, axis=1), axis=1)
        parts.append(np.take_along_axis(picks, order, axis=1))
    return np.concatenate(parts)


def lesion_box(shape: Shape3, centre: tuple[int, int], window: tuple[int, int]) -> list[int]:
    """In-plane window around a lesion over all its slices, cut at the image's borders.

    Returns:
        start x, y, z and extent x, y, z; at least one voxel along every axis.
    """
    start, extent = [], []
    for axis in range(2):
        low = min(max(centre[axis] - window[axis] // 2, 0), shape[axis] - 1)
        high = max(min(centre[axis] - window[axis] // 2 + window[axis], shape[axis]), low + 1)
        start.append(low)
        extent.append(high - low)
    return [*start, 0, *extent, shape[2]]


_BUILDERS = {"spatial": _spatial, "contrast": _contrast, "semantic": _semantic}


def with_validation(table: pd.DataFrame, every: int) -> pd.DataFrame:
    """Mark every n-th row for validation, from the first on (published: 500)."""
    return table.assign(validation=np.arange(len(table)) % every == 0)


def _rows(table: pd.DataFrame, *columns: str) -> Iterator[Any]:
    """Rows with the prepared shape and ``columns`` as attributes, whose types pandas cannot tell.

    A row of all columns would cost ten times as much.
    """
    return iter(table[[*(f"p_{a}" for a in AXES), *columns]].itertuples())
