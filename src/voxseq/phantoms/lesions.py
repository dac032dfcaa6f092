"""Lesions: tumours of organs, pulmonary nodules, and the eight lesion types of DeepLesion."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from voxseq.phantoms.canvas import Canvas
from voxseq.phantoms.shapes import Field, Mask, Vector, capsule, ellipsoid, noise, rotation


@dataclass(frozen=True)
class Lesion:
    """A painted lesion: where it is (mm), how large (mm), and its voxels (X, Y, Z)."""

    centre: Field
    radius: float
    voxels: Mask


@dataclass(frozen=True)
class LesionType:
    """What makes one type of lesion: its place, size, form and inside.

    Attributes:
        number: Coarse_lesion_type of DeepLesion.
        region: middle of the imaged part of the torso, in mm.
        hosts: structures that the lesion grows in.
        radius: smallest and largest radius in mm.
        values: HU of its inside, smallest and largest mean.
        texture: amplitude in HU and scale in mm of what varies inside.
        rough: amplitude in mm of the irregularity of its outline.
        rim: HU added to an outer shell, as in ring enhancement.
    """

    number: int
    region: tuple[float, float, float]
    hosts: tuple[str, ...]
    radius: tuple[float, float]
    values: tuple[float, float]
    texture: tuple[float, float]
    rough: float
    rim: float


LESION_TYPES = {
    t.number: t
    for t in (
        LesionType(1, (0, -45, 20), ("spine",), (8, 12), (420, 620), (150, 3.0), 1.5, 0),
        LesionType(2, (0, 20, -10), ("cavity", "bowel"), (10, 16), (60, 90), (10, 5.0), 1.5, 10),
        LesionType(3, (0, 8, 150), ("mediastinum",), (9, 15), (55, 85), (8, 6.0), 2.0, 0),
        LesionType(4, (45, 10, 30), ("liver",), (9, 17), (35, 65), (9, 4.0), 2.0, 35),
        LesionType(5, (56, -4, 130), ("lung_right",), (6, 13), (-20, 50), (22, 4.0), 2.5, 0),
        LesionType(
            6, (0, -36, -18), ("kidney_right", "kidney_left"), (9, 14), (2, 24), (4, 4.0), 0.5, 25
        ),
        LesionType(7, (70, -20, -60), ("muscle", "fat"), (8, 14), (20, 50), (12, 2.5), 3.5, -15),
        LesionType(8, (0, 5, -155), ("cavity", "uterus"), (11, 18), (35, 75), (32, 6.0), 3.0, 20),
    )
}


def blob(
    rng: np.random.Generator, canvas: Canvas, centre: Vector, radius: float, rough: float
) -> Field:
    """Signed distance (mm) to a rounded lesion with an irregular outline."""
    radii = radius * np.exp(rng.normal(0, 0.12, 3))
    turn = rotation(rng.uniform(0, np.pi, 3))
    shape = ellipsoid(canvas.points, centre, [float(r) for r in radii], turn)
    return shape + np.float32(rough) * noise(rng, canvas.shape, canvas.scale(4.5))


def spiculated(
    rng: np.random.Generator, canvas: Canvas, centre: Vector, radius: float, spikes: int
) -> Field:
    """Signed distance (mm) to a lobulated core from which thin spikes radiate."""
    shape = blob(rng, canvas, centre, radius, 0.22 * radius)
    for _ in range(spikes):
        heading = rng.normal(size=3)
        heading /= np.linalg.norm(heading)
        tip = np.asarray(centre) + heading * radius * rng.uniform(1.5, 2.2)
        base = max(0.22 * radius, 0.45 * canvas.width)
        spike = capsule(canvas.points, centre, tip, (base * 1.4, 0.35 * base)).distance
        shape = np.minimum(shape, spike)
    return np.asarray(shape, dtype=np.float32)


def tumour(
    rng: np.random.Generator,
    canvas: Canvas,
    centre: Vector,
    radius: float,
    *,
    value: float,
    smallest: int,
    within: Field | None = None,
) -> Lesion:
    """Paint a heterogeneous tumour named "tumour" that owns at least ``smallest`` voxels.

    Args:
        rng: random generator of the case.
        canvas: anatomy to paint on.
        centre: its middle in mm.
        radius: wanted mean radius in mm; it grows where too few voxels result.
        value: mean HU.
        smallest: voxels that it must own.
        within: signed distance to a shape that it may not leave.
    """
    inside = 9 * noise(rng, canvas.shape, canvas.scale(4.0))
    necrosis = noise(rng, canvas.shape, canvas.scale(5.0))
    shape = blob(rng, canvas, centre, radius, 0.16 * radius)
    bounded = shape if within is None else np.maximum(shape, within)
    grown = 0.0
    while np.count_nonzero(bounded < 0) < smallest and grown < 60:
        grown += 0.5
        bounded = shape - grown if within is None else np.maximum(shape - grown, within)
    core = np.clip((-bounded - 0.45 * radius) / 4, 0, 1) * np.clip(necrosis, 0, 1)
    canvas.paint("tumour", bounded, value + inside - 26 * core)
    return Lesion(np.asarray(centre, dtype=np.float32), radius + grown, canvas.mask("tumour"))


def typed_lesion(
    rng: np.random.Generator, canvas: Canvas, kind: LesionType, depth: float = 14.0
) -> Lesion | None:
    """Paint a lesion of one DeepLesion type; None where no host tissue is on the canvas."""
    hosts = canvas.mask(*kind.hosts)
    hosts &= ~canvas.mask("lesion")
    if not hosts.any():
        return None
    centre = canvas.pick(rng, hosts, depth)
    radius = float(rng.uniform(*kind.radius))
    if kind.number == 5 and rng.random() < 0.5:
        shape = spiculated(rng, canvas, centre, 0.8 * radius, 7)
    else:
        shape = blob(rng, canvas, centre, radius, kind.rough)
    if kind.number == 3:
        for _ in range(2):
            beside = centre + rng.normal(0, 0.9 * radius, 3)
            shape = np.minimum(shape, blob(rng, canvas, beside, 0.6 * radius, kind.rough))
    # However rough its outline, a lesion has a middle.
    shape = np.minimum(shape, ellipsoid(canvas.points, centre, (0.5 * radius,) * 3))
    amplitude, scale = kind.texture
    inside = float(rng.uniform(*kind.values)) + amplitude * noise(
        rng, canvas.shape, canvas.scale(scale)
    )
    shell = np.exp(-(((shape + 2.5) / 2.2) ** 2))
    canvas.paint("lesion", shape, np.asarray(inside + kind.rim * shell, dtype=np.float32))
    return Lesion(centre, radius, shape < 0)
