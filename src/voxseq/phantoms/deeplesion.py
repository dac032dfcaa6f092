"""The layout of DeepLesion: PNG slices, and a table of lesions with boxes and types."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from voxseq.config.data import PhantomConfig
from voxseq.phantoms import formats
from voxseq.phantoms.lesions import LESION_TYPES, typed_lesion
from voxseq.phantoms.shapes import Mask, Spacing, case_rng
from voxseq.phantoms.torso import CtStyle, scan, torso

HEADER = (
    "File_name", "Patient_index", "Study_index", "Series_ID", "Key_slice_index",
    "Measurement_coordinates", "Bounding_boxes", "Lesion_diameters_Pixel_",
    "Normalized_lesion_location", "Coarse_lesion_type", "Possibly_noisy", "Slice_range",
    "Spacing_mm_px_", "Image_size", "DICOM_windows", "Patient_gender", "Patient_age",
    "Train_Val_Test",
)  # fmt: skip
#: Every n-th part of a series is followed by another part of the same series.
_SECOND_PART_EVERY = 7
#: Every n-th part shows two lesions of its type, where there are two left to place.
_PAIR_EVERY = 4


class _Part(NamedTuple):
    """A stack of neighbouring slices of one series with one or two lesions of one type."""

    patient: int
    series: int
    first_slice: int
    kind: int
    lesions: int

    @property
    def folder(self) -> str:
        """Name of the series."""
        return f"{self.patient:06d}_{1:02d}_{self.series:02d}"


def deeplesion(name: str, folder: Path, config: PhantomConfig) -> None:
    """``Images_png/000001_01_01/103.png`` (16 bits, HU + 32768) and ``DL_info.csv``.

    ``lesions_per_category`` lesions of each type 1 to 8, and some rows of the training part
    without a type (−1).
    """
    rows: list[tuple[Any, ...]] = []
    for number, part in enumerate(_plan(name, config)):
        rows += _write_part(name, folder, config, number, part)
    rows.sort(key=lambda row: (row[0], row[6]))
    formats.write_table(folder / "DL_info.csv", HEADER, rows)


def _plan(name: str, config: PhantomConfig) -> Iterator[_Part]:
    rng = case_rng(config.seed, name, 1_000_000)
    left = dict.fromkeys(LESION_TYPES, config.lesions_per_category)
    left[-1] = max(1, config.lesions_per_category // 2)
    patient, series, first, index = 0, 1, 1, 0
    while any(left.values()):
        kind = int(rng.choice([k for k, n in left.items() if n]))
        lesions = 2 if left[kind] > 1 and index % _PAIR_EVERY == 1 else 1
        if index % _SECOND_PART_EVERY == 3 and patient:
            first += int(rng.integers(20, 60))
        elif index % 5 == 4 and patient:
            series, first = series + 1, int(rng.integers(1, 120))
        else:
            patient, series, first = patient + 1, 1, int(rng.integers(1, 120))
        left[kind] -= lesions
        index += 1
        yield _Part(patient, series, first, kind, lesions)


def _write_part(
    name: str, folder: Path, config: PhantomConfig, number: int, part: _Part
) -> Iterator[tuple[Any, ...]]:
    """Write the slices of a part; returns the rows of its lesions."""
    rng = case_rng(config.seed, name, number)
    shape = (2 * config.volume_shape[0], 2 * config.volume_shape[1], int(rng.integers(6, 13)))
    pixel = round(192.0 * float(rng.uniform(0.9, 1.05)) / shape[0], 3)
    spacing = (pixel, pixel, float(rng.choice([4.0, 5.0, 5.0, 6.0])))
    kind = part.kind if part.kind > 0 else int(rng.integers(1, 9))
    style = CtStyle(venous=0.7, arterial=0.3, noise=15.0).vary(rng)
    canvas = torso(rng, shape, spacing, LESION_TYPES[kind].region, style)
    found = [typed_lesion(canvas, kind) for _ in range(part.lesions)]
    image = scan(rng, canvas, style)
    for index in range(shape[2]):
        path = folder / "Images_png" / part.folder / f"{part.first_slice + index:03d}.png"
        formats.write_png16(path, image[:, :, shape[2] - 1 - index])
    person = case_rng(config.seed, name, part.patient, 2)
    details = (person.choice(["F", "M"]), f"{int(person.integers(20, 88))}.0")
    return (_row(part, lesion, spacing, details) for lesion in found if lesion is not None)


def _row(part: _Part, lesion: Mask, spacing: Spacing, details: tuple[str, str]) -> tuple[Any, ...]:
    """One line of DL_info.csv; pixels count from the top left, slices from the head."""
    stack = lesion[::-1, ::-1, ::-1]
    width, height, slices = stack.shape
    key = int(np.argmax(stack.sum((0, 1))))
    columns = np.flatnonzero(stack[:, :, key].any(1))
    rows = np.flatnonzero(stack[:, :, key].any(0))
    box = (columns[0] - 1.0, rows[0] - 1.0, columns[-1] + 1.0, rows[-1] + 1.0)
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    long, short = sorted((box[2] - box[0] - 2, box[3] - box[1] - 2), reverse=True)
    cross = (box[0] + 1, y, box[2] - 1, y, x, box[1] + 1, x, box[3] - 1)
    where = (x / width, y / height, (key + 0.5) / slices)
    key_slice, last_slice = part.first_slice + key, part.first_slice + slices - 1
    subset = 1 if part.kind < 0 else 2 + part.patient % 2
    return (
        f"{part.folder}_{key_slice:03d}.png", part.patient, 1, part.series, key_slice,
        _numbers(cross), _numbers(box), _numbers((long, short)), _numbers(where), part.kind, 0,
        f"{part.first_slice}, {last_slice}", _numbers(spacing), f"{width}, {height}", "-175, 275",
        *details, subset,
    )  # fmt: skip


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{v:g}" for v in values)
