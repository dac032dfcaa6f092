"""The layout of DeepLesion: PNG slices, and a table of lesions with boxes and types."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from voxseq.config.data import PhantomConfig
from voxseq.phantoms import formats
from voxseq.phantoms.lesions import LESION_TYPES, Lesion, typed_lesion
from voxseq.phantoms.shapes import Shape, Spacing, case_rng
from voxseq.phantoms.torso import CtStyle, scan, torso, vary

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


@dataclass(frozen=True)
class _Part:
    """A stack of neighbouring slices of one series with one or two lesions of one type."""

    patient: int
    series: int
    first_slice: int
    kind: int
    lesions: int


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
) -> list[tuple[Any, ...]]:
    rng = case_rng(config.seed, name, number)
    shape = (2 * config.volume_shape[0], 2 * config.volume_shape[1], int(rng.integers(6, 13)))
    pixel = round(192.0 * float(rng.uniform(0.9, 1.05)) / shape[0], 3)
    spacing = (pixel, pixel, float(rng.choice([4.0, 5.0, 5.0, 6.0])))
    kind = LESION_TYPES[part.kind if part.kind > 0 else int(rng.integers(1, 9))]
    style = vary(rng, CtStyle(venous=0.7, arterial=0.3, noise=15.0))
    canvas = torso(rng, shape, spacing, kind.region, style)
    found = [typed_lesion(rng, canvas, kind) for _ in range(part.lesions)]
    image = scan(rng, canvas, style)
    series = f"{part.patient:06d}_{1:02d}_{part.series:02d}"
    for index in range(shape[2]):
        path = folder / "Images_png" / series / f"{part.first_slice + index:03d}.png"
        formats.write_png16(path, image[:, :, shape[2] - 1 - index])
    person = case_rng(config.seed, name, part.patient, 2)
    details = (person.choice(["F", "M"]), f"{int(person.integers(20, 88))}.0")
    return [
        _row(part, series, lesion, shape, spacing, details=details) for lesion in found if lesion
    ]


def _row(
    part: _Part,
    series: str,
    lesion: Lesion,
    shape: Shape,
    spacing: Spacing,
    *,
    details: tuple[str, str],
) -> tuple[Any, ...]:
    """One line of DL_info.csv; pixels count from the top left, slices from the head."""
    stack = lesion.voxels[::-1, ::-1, ::-1]
    key = int(np.argmax(stack.sum((0, 1))))
    columns = np.flatnonzero(stack[:, :, key].any(1))
    rows = np.flatnonzero(stack[:, :, key].any(0))
    box = (columns[0] - 1.0, rows[0] - 1.0, columns[-1] + 1.0, rows[-1] + 1.0)
    middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
    long, short = sorted((box[2] - box[0] - 2, box[3] - box[1] - 2), reverse=True)
    cross = (box[0] + 1, middle[1], box[2] - 1, middle[1], middle[0], box[1] + 1, middle[0],
             box[3] - 1)  # fmt: skip
    where = (middle[0] / shape[0], middle[1] / shape[1], (key + 0.5) / shape[2])
    last_slice = part.first_slice + shape[2] - 1
    subset = 1 if part.kind < 0 else 2 + part.patient % 2
    return (
        f"{series}_{part.first_slice + key:03d}.png", part.patient, 1, part.series,
        part.first_slice + key, _numbers(cross), _numbers(box), _numbers((long, short)),
        _numbers(where), part.kind, 0, f"{part.first_slice}, {last_slice}", _numbers(spacing),
        f"{shape[0]}, {shape[1]}", "-175, 275", *details, subset,
    )  # fmt: skip


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{v:g}" for v in values)
