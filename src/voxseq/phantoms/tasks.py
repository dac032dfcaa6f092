"""The segmentation cases of the Medical Segmentation Decathlon tasks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voxseq.phantoms import lesions
from voxseq.phantoms.canvas import Canvas
from voxseq.phantoms.shapes import Field, Shape, Spacing, case_rng, noise
from voxseq.phantoms.torso import CtStyle, scan, torso, vary

Label = NDArray[np.uint8]
#: Extent in mm of the imaged region along each axis.
EXTENT = 96.0


@dataclass(frozen=True)
class Case:
    """One labelled case: image HU and label, both (X, Y, Z) in RAS+ order; spacing in mm."""

    image: Field
    label: Label
    spacing: Spacing


@dataclass(frozen=True)
class MsdTask:
    """A task of the decathlon.

    Attributes:
        folder: name as released, such as "Task03_Liver".
        prefix: of the files.
        labels: names of the classes from 0.
        region: middle of the imaged part of the torso in mm.
        style: scanner protocol.
        orientation: axis codes of the stored files.
        label: paints what the anatomy lacks and returns the label.
    """

    folder: str
    prefix: str
    labels: tuple[str, ...]
    region: tuple[float, float, float]
    style: CtStyle
    orientation: str
    label: Callable[[np.random.Generator, Canvas, float], Label]


def msd_case(task: MsdTask, name: str, seed: int, case: int, shape: Shape) -> Case:
    """Generate one case; the same case for the same seed, whatever else is generated."""
    rng = case_rng(seed, name, case)
    zoom = rng.uniform(0.93, 1.0, 2)
    spacing = (
        round(EXTENT * zoom[0] / shape[0], 3),
        round(EXTENT * zoom[0] / shape[1], 3),
        round(EXTENT * zoom[1] / shape[2], 3),
    )
    style = vary(rng, task.style)
    where = np.asarray(task.region) + rng.normal(0, 5, 3)
    canvas = torso(rng, shape, spacing, (float(where[0]), float(where[1]), float(where[2])), style)
    label = task.label(rng, canvas, style.venous)
    return Case(scan(rng, canvas, style), label, spacing)


def _smallest(canvas: Canvas, share: float) -> int:
    """Voxels a class must have so that it can be learnt at half the resolution."""
    return max(4, round(share * canvas.owner.size))


def _classes(*masks: NDArray[np.bool_]) -> Label:
    label = np.zeros(masks[0].shape, dtype=np.uint8)
    for number, mask in enumerate(masks, start=1):
        label[mask] = number
    return label


def _liver(rng: np.random.Generator, canvas: Canvas, venous: float) -> Label:
    liver = canvas.mask("liver", "liver_vessel")
    for _ in range(int(rng.integers(1, 3))):
        where = canvas.pick(rng, canvas.mask("liver", "liver_vessel"), 16.0)
        value = 56 + 52 * venous - float(rng.uniform(38, 60))
        lesions.tumour(
            rng,
            canvas,
            where,
            float(rng.uniform(8, 15)),
            value=value,
            smallest=_smallest(canvas, 0.003),
        )
    return _classes(liver, canvas.mask("tumour"))


def _lung(rng: np.random.Generator, canvas: Canvas, venous: float) -> Label:
    lungs = canvas.mask("lung_right", "lung_left")
    where = canvas.pick(rng, lungs, 14.0)
    radius = float(rng.uniform(9, 15))
    shape = lesions.spiculated(rng, canvas, where, radius, int(rng.integers(4, 9)))
    inside = 20 + 30 * venous + 22 * noise(rng, canvas.shape, canvas.scale(4.0))
    canvas.paint("", shape - 3.0, -560.0, edge=2.0)
    canvas.paint("tumour", shape, inside)
    return _classes(canvas.mask("tumour"))


def _pancreas(rng: np.random.Generator, canvas: Canvas, venous: float) -> Label:
    gland = canvas.mask("pancreas")
    where = canvas.pick(rng, gland, 10.0)
    value = 42 + 58 * venous - float(rng.uniform(32, 48))
    lesions.tumour(
        rng,
        canvas,
        where,
        float(rng.uniform(9, 14)),
        value=value,
        smallest=_smallest(canvas, 0.003),
    )
    return _classes(canvas.mask("pancreas"), canvas.mask("tumour"))


def _vessels(rng: np.random.Generator, canvas: Canvas, venous: float) -> Label:
    where = canvas.pick(rng, canvas.mask("liver"), 16.0)
    value = 56 + 52 * venous - float(rng.uniform(38, 55))
    lesions.tumour(
        rng,
        canvas,
        where,
        float(rng.uniform(9, 15)),
        value=value,
        smallest=_smallest(canvas, 0.003),
    )
    return _classes(canvas.mask("liver_vessel"), canvas.mask("tumour"))


def _spleen(rng: np.random.Generator, canvas: Canvas, venous: float) -> Label:
    return _classes(canvas.mask("spleen"))


def _colon(rng: np.random.Generator, canvas: Canvas, venous: float) -> Label:
    wall = canvas.mask("colon", "lumen")
    where = canvas.pick(rng, wall, 14.0) + rng.normal(0, 4, 3)
    value = 66 + 36 * venous
    lesions.tumour(
        rng,
        canvas,
        where,
        float(rng.uniform(10, 15)),
        value=value,
        smallest=_smallest(canvas, 0.004),
    )
    return _classes(canvas.mask("tumour"))


_VENOUS = CtStyle(venous=0.9, arterial=0.15, noise=13.0)

MSD_TASKS = {
    "task03_liver": MsdTask(
        "Task03_Liver", "liver", ("background", "liver", "cancer"), (36, 12, 26), _VENOUS, "RAS",
        _liver,
    ),
    "task06_lung": MsdTask(
        "Task06_Lung", "lung", ("background", "cancer"), (60, -4, 126),
        CtStyle(venous=0.4, arterial=0.4, noise=24.0, grain=0.4), "LAS", _lung,
    ),
    "task07_pancreas": MsdTask(
        "Task07_Pancreas", "pancreas", ("background", "pancreas", "cancer"), (-14, 8, 6),
        CtStyle(venous=0.85, arterial=0.3, noise=12.0), "RAS", _pancreas,
    ),
    "task08_hepaticvessel": MsdTask(
        "Task08_HepaticVessel", "hepaticvessel", ("background", "Vessel", "Tumour"), (40, 10, 36),
        CtStyle(venous=1.05, arterial=0.1, noise=12.0), "RAS", _vessels,
    ),
    "task09_spleen": MsdTask(
        "Task09_Spleen", "spleen", ("background", "spleen"), (-66, -12, 32), _VENOUS, "LAS",
        _spleen,
    ),
    "task10_colon": MsdTask(
        "Task10_Colon", "colon", ("background", "colon cancer primaries"), (-80, -14, -42),
        CtStyle(venous=0.75, arterial=0.1, noise=14.0), "RAS", _colon,
    ),
}  # fmt: skip
