"""What the examination of a data set leaves for the stages after it: ``index.parquet`` and more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from voxseq.base.errors import IntegrityError
from voxseq.base.failures import read_named
from voxseq.base.files import atomic_path
from voxseq.data.thumbnail import SIZE, packed_detail, small_pictures
from voxseq.data.volume import Entry, Volume, volume_id

if TYPE_CHECKING:
    import pandas as pd

    from voxseq.data.checks import Measured

INDEX = "index.parquet"
#: Column that is read for single images only: it takes more than all others together.
DETAIL = "detail"
#: Columns that are fields of an entry.
_TEXTS = ("subject", "image", "path", "locator", "modality", "contrast", "group", "label_path")
#: Columns of the index; lengths in voxels, spacing in mm, centre in voxels (-1: none). affine: from
#: voxel indices to mm in RAS+, row by row. Hashes: see :func:`voxseq.data.checks.content_hash`, of
#: an image of several channels one for each; minimum, maximum and pictures are of the first one;
#: label_hash is "" where no segmentation was read; value is null where there is none.
#: thumbnail and detail: see :mod:`voxseq.data.thumbnail`.
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("volume_id", *_TEXTS)),
        ("label", pa.int32()),
        ("split", pa.string()),
        *((f"shape_{axis}", pa.int32()) for axis in "xyz"),
        *((f"spacing_{axis}", pa.float64()) for axis in "xyz"),
        *((name, pa.string()) for name in ("orientation", "dtype", "content_hash", "label_hash")),
        *((name, pa.int32()) for name in ("centre_x", "centre_y")),
        *((name, pa.float64()) for name in ("minimum", "maximum")),
        ("affine", pa.list_(pa.float64(), 16)),
        ("thumbnail", pa.list_(pa.float32(), SIZE)),
        ("files", pa.list_(pa.string())),
        ("channels", pa.list_(pa.string())),
        ("value", pa.float64()),
        ("detail", pa.string()),
    ]
)


def index_row(dataset: str, entry: Entry, volume: Volume, measured: Measured) -> dict[str, Any]:
    """One row of the index; ``split`` is what the layout publishes, maybe ""."""
    shape, spacing = volume.array.shape, volume.spacing
    centre = entry.centre or (-1, -1)
    thumbnail, detail = small_pictures(volume)
    return {
        "volume_id": volume_id(dataset, entry),
        **{name: getattr(entry, name) for name in (*_TEXTS, "label", "split")},
        **{f"shape_{a}": int(n) for a, n in zip("xyz", shape, strict=True)},
        **{f"spacing_{a}": float(n) for a, n in zip("xyz", spacing, strict=True)},
        "orientation": orientation(volume),
        "dtype": str(volume.array.dtype.newbyteorder("=")),
        "content_hash": measured.content_hash,
        "label_hash": "",
        "centre_x": centre[0],
        "centre_y": centre[1],
        "minimum": measured.minimum,
        "maximum": measured.maximum,
        "affine": [float(n) for n in volume.affine.ravel()],
        "thumbnail": [float(n) for n in thumbnail],
        "files": list(entry.files),
        "channels": list(entry.channels),
        "value": entry.value,
        "detail": packed_detail(detail),
    }


def orientation(volume: Volume) -> str:
    """Directions of the axes, such as "LPS"; "" where the file states none."""
    from nibabel import aff2axcodes  # late: trainings read tables alone

    if not volume.oriented:
        return ""
    return "".join(code or "?" for code in aff2axcodes(volume.affine))


def entry_of(row: Mapping[str, Any]) -> Entry:
    """The entry that a row of the index was made from."""
    centre = (int(row["centre_x"]), int(row["centre_y"]))
    return Entry(
        **{name: row[name] for name in (*_TEXTS, "split")},
        label=int(row["label"]),
        centre=None if centre == (-1, -1) else centre,
        files=tuple(row["files"]),
        channels=tuple(row["channels"]),
        value=row["value"],
    )


def write_table(path: Path, rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> None:
    """Write rows as Parquet, the same bytes for the same rows."""
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=schema)
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_table(path: Path) -> pd.DataFrame:
    """Read a Parquet table, without the details of an index.

    Raises:
        IntegrityError: it is missing or damaged.
    """
    frame: pd.DataFrame = read_arrow(path).to_pandas()
    return frame


def read_details(examined: Path, volume_ids: Sequence[str]) -> list[str]:
    """The packed details of some images, in their order.

    Raises:
        IntegrityError: the index is missing or damaged, or has not all of these images.
    """
    path = examined / INDEX
    try:
        with read_named(path):
            table = pq.read_table(
                path,
                columns=["volume_id", DETAIL],
                filters=[("volume_id", "in", list(volume_ids))],
            )
        found = dict(zip(*(column.to_pylist() for column in table.columns), strict=True))
        return [found[name] for name in volume_ids]
    except (OSError, pa.ArrowException, KeyError) as error:
        raise IntegrityError(
            f"{path}: missing or damaged ({error})", "run the stage that makes it again"
        ) from None


def read_arrow(path: Path) -> pa.Table:
    """The same as a table of Arrow, whose columns of lists take no more memory than the numbers."""
    try:
        # Not pyarrow's read_table, which loads pandas.
        with read_named(path), pq.ParquetFile(path) as file:
            return file.read([name for name in file.schema_arrow.names if name != DETAIL])
    except (OSError, pa.ArrowException) as error:
        raise IntegrityError(
            f"{path}: missing or damaged ({error})", "run the stage that makes it again"
        ) from None


def numbers(column: pa.Array | pa.ChunkedArray) -> NDArray[Any]:
    """A column of numbers or truths without gaps, which is not copied where it can be shared.

    Arrow's own way to numpy loads pandas, which takes a training a tenth of its start.
    """
    if pa.types.is_boolean(column.type):
        return numbers(column.cast(pa.uint8())).astype(bool)
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    found: NDArray[Any] = np.from_dlpack(whole)
    return found


def read_index(examined: Path) -> pd.DataFrame:
    """The usable images of a data set, from the finished folder of its examination."""
    return read_table(examined / INDEX)


def read_rows(examined: Path) -> list[dict[str, Any]]:
    """The same as a list of rows of plain numbers, texts and lists."""
    rows: list[dict[str, Any]] = read_arrow(examined / INDEX).to_pylist()
    return rows
