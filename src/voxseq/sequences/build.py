"""Building the sequence index: which crops of which volumes form sequences.

The index names stores, rows and boxes; voxels stay in the volume store. One table a kind:

- ``spatial.parquet``: one row a crop, along which the window slides when it is read;
- ``contrast.parquet``: one row a place, with the rows of the aligned contrasts;
- ``semantic_items.parquet`` and ``semantic.parquet``: lesion crops, and draws of several distinct
  crops of one category.

Counts follow the published code (AR-SSL4M): 50 crops a volume, a third
fewer where the volume is thinner than the crop, 100 places a subject, 20,000 draws a category.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from voxseq.data.download import read_index
from voxseq.errors import DataError
from voxseq.files import atomic_path, write_json
from voxseq.runs import RunContext
from voxseq.training.seeding import entropy

_LOG = logging.getLogger("voxseq.sequences")

AXES = ("x", "y", "z")
Integers = NDArray[np.int64]


def execute(context: RunContext) -> None:
    """Write the sequence index of all sources; see :func:`voxseq.plan.build_plan` for the keys.

    Raises:
        DataError: a kind of sequence for which no source has usable volumes.
    """
    config = context.config
    held_out = held_out_images(context.inputs)
    sources = sorted({s["dataset"] for s in config["sources"]})
    volumes, excluded = _usable_volumes(context.inputs, sources, held_out)
    _write_csv(context.out / "excluded.csv", excluded)
    counts: dict[str, int] = {"excluded": len(excluded)}
    for kind in ("spatial", "contrast", "semantic"):
        names = [s["dataset"] for s in config["sources"] if s["kind"] == kind]
        if not names:
            continue
        chosen = volumes[volumes["dataset"].isin(names)].reset_index(drop=True)
        tables = _BUILDERS[kind](chosen, config)
        for name, unmarked in tables.items():
            table = with_validation(unmarked, int(config["validation_every"]))
            counts[name] = len(table)
            _write_parquet(context.out / f"{name}.parquet", table)
        if not counts[kind]:
            raise DataError(
                f"no {kind} sequence can be built from {', '.join(names)}",
                f"look at set_aside.csv of these data sets and at {context.out / 'excluded.csv'}",
            )
    write_json(context.out / "sources.json", sources)
    write_json(context.out / "summary.json", counts)
    _LOG.info("sequences: %s", ", ".join(f"{name} {n}" for name, n in counts.items()))


def held_out_images(inputs: Mapping[str, Path]) -> pd.DataFrame:
    """Validation and test images of every task: columns dataset, subject, content_hash."""
    parts = []
    for name, folder in inputs.items():
        if name.startswith("download/"):
            index = read_index(folder)
            index = index[index["split"].isin(["val", "test"])]
            parts.append(
                pd.DataFrame(
                    {
                        "dataset": name.removeprefix("download/"),
                        "subject": index["subject"].astype(str),
                        "content_hash": index["content_hash"],
                    }
                )
            )
    columns = ["dataset", "subject", "content_hash"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def _usable_volumes(
    inputs: Mapping[str, Path], sources: list[str], held_out: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of the sources' stores that pre-training may see, and those it may not."""
    subjects = set(zip(held_out["dataset"], held_out["subject"], strict=True))
    hashes = set(held_out["content_hash"])
    parts = []
    for number, dataset in enumerate(sources):
        table = pd.read_parquet(inputs[f"preprocess/source/{dataset}"] / "store.parquet")
        parts.append(table.assign(dataset=dataset, store=number, row=np.arange(len(table))))
    volumes = pd.concat(parts, ignore_index=True)
    reason = pd.Series("", index=volumes.index, dtype=object)
    people = list(zip(volumes["dataset"], volumes["subject"].astype(str), strict=True))
    copies = volumes["content_hash"].isin(hashes).to_numpy(bool)
    copied = {person for person, copy in zip(people, copies, strict=True) if copy}
    reason[[p in copied for p in people]] = "subject of an image that a task holds out"
    reason[copies] = "same voxels as a held-out image of a task"
    reason[[p in subjects for p in people]] = "held-out subject of a task"
    reason[volumes["split"].isin(["val", "test"])] = "held out by the data set's own lists"
    excluded = volumes.loc[reason != "", ["dataset", "volume_id", "subject"]].assign(
        reason=reason[reason != ""]
    )
    return volumes[reason == ""].reset_index(drop=True), excluded


def _shape(row: Any) -> tuple[int, int, int]:
    return (int(row.p_x), int(row.p_y), int(row.p_z))


def random_boxes(
    shape: tuple[int, int, int],
    crop: tuple[int, int, int],
    count: int,
    generator: np.random.Generator,
) -> Integers:
    """Boxes of ``crop`` voxels at uniform places; an axis shorter than the crop is taken whole.

    Returns:
        (count, 6): start x, y, z and extent x, y, z.
    """
    extent = np.minimum(shape, crop)
    start = generator.integers(0, np.asarray(shape) - extent + 1, size=(count, 3))
    return np.concatenate([start, np.broadcast_to(extent, (count, 3))], axis=1)


def _box_columns(boxes: Integers) -> dict[str, NDArray[np.int32]]:
    names = [*(f"start_{a}" for a in AXES), *(f"extent_{a}" for a in AXES)]
    return {name: boxes[:, i].astype(np.int32) for i, name in enumerate(names)}


def _spatial(volumes: pd.DataFrame, config: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    crop = _triple(config["spatial"]["crop_shape"])
    full = int(config["spatial"]["crops_per_volume"])
    parts = []
    for row in _rows(volumes):
        shape = _shape(row)
        # Published: a volume thinner than the crop gives int(50 / 1.5) crops.
        count = full if shape[2] >= crop[2] else max(int(full / 1.5), 1)
        generator = np.random.default_rng(entropy(config["seed"], "spatial", str(row.volume_id)))
        boxes = random_boxes(shape, crop, count, generator)
        parts.append(
            pd.DataFrame(
                {"store": np.int32(row.store), "row": np.int32(row.row), **_box_columns(boxes)}
            )
        )
    return {"spatial": _joined(parts)}


def _contrast(volumes: pd.DataFrame, config: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    crop = _triple(config["contrast"]["crop_shape"])
    contrasts = list(config["contrast"]["contrasts"])
    parts = []
    for (_, group), images in volumes.groupby(["dataset", "group"], sort=True):
        by_contrast = {str(r.contrast): r for r in _rows(images)}
        if any(name not in by_contrast for name in contrasts):
            _LOG.warning("%s lacks a contrast of %s; it gives no sequence", group, contrasts)
            continue
        rows = [by_contrast[name] for name in contrasts]
        shapes = {_shape(row) for row in rows}
        if len(shapes) > 1:
            _LOG.warning("%s: contrasts of different shapes %s", group, sorted(shapes))
            continue
        generator = np.random.default_rng(entropy(config["seed"], "contrast", str(group)))
        count = int(config["contrast"]["crops_per_subject"])
        boxes = random_boxes(shapes.pop(), crop, count, generator)
        numbers = {f"row_{i}": np.int32(row.row) for i, row in enumerate(rows)}
        parts.append(
            pd.DataFrame({"store": np.int32(rows[0].store), **numbers, **_box_columns(boxes)})
        )
    return {"contrast": _joined(parts)}


def _semantic(volumes: pd.DataFrame, config: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    window = config["semantic"]["window"]
    items = []
    for row in _rows(volumes):
        if row.label < 0:
            continue
        box = lesion_box(_shape(row), (int(row.centre_x), int(row.centre_y)), window)
        items.append((row.store, row.row, row.label, *box))
    names = [*(f"start_{a}" for a in AXES), *(f"extent_{a}" for a in AXES)]
    table = pd.DataFrame(items, columns=["store", "row", "category", *names]).astype(np.int32)
    length = int(config["length"])
    draws = int(config["semantic"]["draws_per_category"])
    parts = []
    for category, members in table.groupby("category", sort=True):
        if len(members) < length:
            _LOG.warning("category %s has %d lesions, too few", category, len(members))
            continue
        generator = np.random.default_rng(entropy(config["seed"], "semantic", str(category)))
        # Sorting random keys draws distinct items without a loop over the draws.
        keys = generator.random((draws, len(members)))
        picks = np.argpartition(keys, length - 1, axis=1)[:, :length]
        order = np.argsort(np.take_along_axis(keys, picks, axis=1), axis=1)
        chosen = members.index.to_numpy()[np.take_along_axis(picks, order, axis=1)]
        columns = {f"item_{i}": chosen[:, i].astype(np.int32) for i in range(length)}
        parts.append(pd.DataFrame({"category": np.int32(str(category)), **columns}))
    return {"semantic_items": table, "semantic": _joined(parts)}


def lesion_box(
    shape: tuple[int, int, int], centre: tuple[int, int], window: tuple[int, int]
) -> tuple[int, ...]:
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
    return (*start, 0, *extent, shape[2])


_BUILDERS = {"spatial": _spatial, "contrast": _contrast, "semantic": _semantic}


def with_validation(table: pd.DataFrame, every: int) -> pd.DataFrame:
    """Mark every n-th row for validation, from the first on (published: 500)."""
    return table.assign(validation=np.arange(len(table)) % every == 0)


def _rows(table: pd.DataFrame) -> Iterator[Any]:
    """Rows with one attribute a column, whose types pandas cannot tell."""
    return iter(table.itertuples())


def _triple(values: Any) -> tuple[int, int, int]:
    x, y, z = (int(v) for v in values)
    return (x, y, z)


def _joined(parts: list[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _write_parquet(path: Path, table: pd.DataFrame) -> None:
    with atomic_path(path) as temporary:
        table.to_parquet(temporary, index=False)


def _write_csv(path: Path, table: pd.DataFrame) -> None:
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")
