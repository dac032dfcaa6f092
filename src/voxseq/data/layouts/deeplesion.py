"""DeepLesion: 16-bit PNG slices and ``DL_info.csv``; one entry for each lesion with a type.

``Images_png/<patient>_<study>_<series>/<slice>.png`` with HU = value - 32768. A lesion comes with
the range of slices around its key slice. The array is (row, column, slice) as the publishers' own
conversion to NIfTI makes it; boxes and spacings of the table come as (column, row). PNGs state no
orientation, so the axes are kept and the box centre stays valid.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from voxseq.base.errors import DataError
from voxseq.base.files import require_regular
from voxseq.base.paths import plain
from voxseq.catalogue import DataSet
from voxseq.data.readers.files import damaged, nothing_found, published_rows, reading, stacked
from voxseq.data.volume import Array, Entry, Scan, Volume, scaling_affine

TABLE = "DL_info.csv"
IMAGES = "Images_png"
#: Value of a PNG pixel at 0 HU.
OFFSET = 32768
#: bone, abdomen, mediastinum, liver, lung, kidney, soft tissue, pelvis
TYPES = range(1, 9)
UNLABELLED = -1
#: More slices than any range of the table has.
MOST_SLICES = 1000


def scan(folder: Path, dataset: DataSet) -> Scan:
    """List the typed lesions whose series is there; see :class:`Scan`.

    Raises:
        DataError: the table is missing or has not the published columns, or no series is there.
    """
    entries: list[Entry] = []
    rejected: list[tuple[Entry, str]] = []
    absent: list[str] = []
    count: Counter[str] = Counter()
    for number, row in enumerate(_table(folder), start=2):
        name = row["File_name"]
        count[name] += 1
        try:
            entry = _entry(row, count[name], dataset)
        except (KeyError, ValueError, TypeError, AttributeError, ArithmeticError) as error:
            path = f"{IMAGES}/{name}"
            bad = Entry("unknown", plain(f"{name}_{count[name]}"), path)
            rejected.append((bad, f"{TABLE} line {number}: cannot be understood ({error})"))
            continue
        if entry is not None and (folder / entry.path).is_dir():
            entries.append(entry)
        elif entry is not None:
            absent.append(f"{entry.subject}/{entry.image}")
    if not entries:
        raise nothing_found(folder, f"{IMAGES}/<series>/<slice>.png of typed lesions of {TABLE}")
    return Scan(tuple(entries), tuple(rejected), tuple(absent))


def read_image(folder: Path, entry: Entry) -> Volume:
    """Read the slices around the lesion, in Hounsfield units (int16)."""
    slices, row, column, step = entry.locator.split()
    first, last = (int(n) for n in slices.split("-"))
    paths = [f"{entry.path}/{number:03d}.png" for number in range(first, last + 1)]
    missing = [path for path in paths if not (folder / path).exists()]
    if missing:
        raise DataError(
            f"{missing[0]}: the file does not exist; {len(missing)} of the {len(paths)} slices "
            f"{slices} of the lesion are missing",
            "look for them; leave the lesion out without them",
        )
    array = stacked(((path, _read(folder, path)) for path in paths), len(paths))
    spacing = (float(row), float(column), float(step))
    return Volume(array.transpose(1, 2, 0), scaling_affine(spacing), oriented=False)


def _entry(row: dict[str, str], number: int, dataset: DataSet) -> Entry | None:
    kind = int(float(row["Coarse_lesion_type"]))
    if kind == UNLABELLED:
        return None
    if kind not in TYPES:
        raise ValueError(f"lesion type {kind}, expected -1 or 1 to 8")
    series, key_slice = row["File_name"].removesuffix(".png").rsplit("_", 1)
    if "/" in series or series.startswith("."):
        raise ValueError(f"file name {row['File_name']!r}")
    first, last = (int(n) for n in row["Slice_range"].split(","))
    if not 0 <= first <= last < first + MOST_SLICES:
        raise ValueError(f"slice range {first} to {last}")
    x1, y1, x2, y2 = (float(n) for n in row["Bounding_boxes"].split(","))
    spacing = [float(n) for n in row["Spacing_mm_px_"].split(",")]
    if len(spacing) != 3 or not all(0 < length < math.inf for length in spacing):
        raise ValueError(f"spacing {row['Spacing_mm_px_']!r}")
    return Entry(
        subject=series.split("_", 1)[0],
        image=f"{series}_{int(key_slice):03d}_{number}",
        path=f"{IMAGES}/{series}",
        locator=f"{first}-{last} {spacing[1]:g} {spacing[0]:g} {spacing[2]:g}",
        modality=dataset.modality,
        label=kind,
        centre=(int((y1 + y2) // 2), int((x1 + x2) // 2)),
    )


def _table(folder: Path) -> list[dict[str, str]]:
    path = folder / TABLE
    cells = published_rows(path, nothing_found(folder, f"{TABLE} and {IMAGES}"))
    header = cells[0] if cells else []
    rows = [dict(itertools.zip_longest(header, row, fillvalue="")) for row in cells[1:]]
    needed = {"File_name", "Coarse_lesion_type", "Slice_range", "Bounding_boxes", "Spacing_mm_px_"}
    missing = sorted(needed - set(rows[0] if rows else ()))
    if missing:
        raise damaged(path, f"the columns {', '.join(missing)} are missing")
    return rows


def _read(folder: Path, path: str) -> Array:
    with reading(folder, path, "PNG"):
        require_regular(folder / path)
        with Image.open(folder / path) as image:
            values = np.asarray(image)
    if values.ndim != 2 or values.dtype.kind not in "ui" or values.dtype.itemsize < 2:
        raise DataError(f"{path}: {values.dtype} pixels of shape {values.shape}, expected 16 bits")
    return (values.astype(np.int32) - OFFSET).astype(np.int16)
