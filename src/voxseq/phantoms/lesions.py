"""Lesions: tumours of organs, the eight lesion types of DeepLesion, and nodules in small crops.

The nodules are those of NoduleMNIST3D: smooth ones are benign, spiculated ones malignant.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from voxseq.phantoms import shapes as sh
from voxseq.phantoms.shapes import Canvas, Field, Mask, Rng, Vector


class LesionType(NamedTuple):
    """One type of lesion: its place, size, form and texture."""

    region: tuple[float, float, float]  #: middle of the imaged part of the torso, in mm
    hosts: tuple[str, ...]  #: structures that the lesion grows in
    radius: tuple[float, float]  #: smallest and largest radius in mm
    values: tuple[float, float]  #: HU of its inside, smallest and largest mean
    texture: tuple[float, float]  #: amplitude in HU and scale in mm of what varies inside
    rough: float  #: amplitude in mm of the irregularity of its outline
    rim: float  #: HU added to an outer shell, as in ring enhancement


#: HU of grey values 0 and 255.
GREY_RANGE = (-1000.0, 400.0)
SIDE = 28
#: Distance in mm to a shape that is to leave a voxel alone.
FAR = 1000.0
#: By Coarse_lesion_type of DeepLesion.
LESION_TYPES = {
    1: LesionType((0, -45, 20), ("spine",), (8, 12), (420, 620), (150, 3.0), 1.5, 0),
    2: LesionType((0, 20, -10), ("cavity", "bowel"), (10, 16), (60, 90), (10, 5.0), 1.5, 10),
    3: LesionType((0, 8, 150), ("mediastinum",), (9, 15), (55, 85), (8, 6.0), 2.0, 0),
    4: LesionType((45, 10, 30), ("liver",), (9, 17), (35, 65), (9, 4.0), 2.0, 35),
    5: LesionType((56, -4, 130), ("lung_right",), (6, 13), (-20, 50), (22, 4.0), 2.5, 0),
    6: LesionType(
        (0, -36, -18), ("kidney_right", "kidney_left"), (9, 14), (2, 24), (4, 4.0), 0.5, 25
    ),
    7: LesionType((70, -20, -60), ("muscle", "fat"), (8, 14), (20, 50), (12, 2.5), 3.5, -15),
    8: LesionType((0, 5, -155), ("cavity", "uterus"), (11, 18), (35, 75), (32, 6.0), 3.0, 20),
}


def blob(canvas: Canvas, centre: Vector, radius: float, rough: float) -> Field:
    """Signed distance (mm) to a rounded lesion with an irregular outline."""
    radii = canvas.about((radius,) * 3, 0.12)
    turn = sh.rotation(canvas.rng.uniform(0, np.pi, 3))
    return canvas.ellipsoid(centre, radii, turn) + np.float32(rough) * canvas.noise(4.5)


def spiculated(canvas: Canvas, centre: Vector, radius: float, spikes: int) -> Field:
    """Signed distance (mm) to a lobulated core from which thin spikes radiate."""
    shape = blob(canvas, centre, radius, 0.22 * radius)
    for _ in range(spikes):
        heading = canvas.rng.normal(size=3)
        heading /= np.linalg.norm(heading)
        tip = np.asarray(centre) + heading * radius * canvas.rng.uniform(1.5, 2.2)
        base = max(0.22 * radius, 0.45 * canvas.width)
        spike = sh.capsule(canvas.points, centre, tip, (base * 1.4, 0.35 * base)).distance
        shape = np.minimum(shape, spike)
    return np.asarray(shape, dtype=np.float32)


def tumour(
    canvas: Canvas,
    name: str,
    centre: Vector,
    radius: float,
    value: float,
    smallest: int,
    spared: Mask | None = None,
) -> None:
    """Paint a heterogeneous tumour.

    Args:
        canvas: with the organs.
        name: structure that owns its voxels.
        centre: mm.
        radius: mean radius in mm; it grows until the tumour owns ``smallest`` voxels.
        value: mean HU.
        smallest: number of voxels.
        spared: voxels (X, Y, Z) that are left as they are.
    """
    inside = 9 * canvas.noise(4.0)
    necrosis = canvas.noise(5.0)
    shape = blob(canvas, centre, radius, 0.16 * radius)
    if spared is not None:
        shape = np.where(spared, np.float32(FAR), shape)
    grown = 0.0
    while np.count_nonzero(shape - grown < 0) < smallest and grown < 60:
        grown += 0.5
    shape = shape - grown
    core = np.clip((-shape - 0.45 * radius) / 4, 0, 1) * np.clip(necrosis, 0, 1)
    canvas.paint(name, shape, value + inside - 26 * core)


def typed_lesion(canvas: Canvas, number: int) -> Mask | None:
    """Paint a lesion of one DeepLesion type; None where no host tissue is on the canvas.

    Returns:
        Its voxels (X, Y, Z).
    """
    kind, rng = LESION_TYPES[number], canvas.rng
    hosts = canvas.mask(*kind.hosts) & ~canvas.mask("lesion")
    if not hosts.any():
        return None
    centre = canvas.pick(hosts, 14.0)
    radius = float(rng.uniform(*kind.radius))
    if number == 5 and rng.random() < 0.5:
        shape = spiculated(canvas, centre, 0.8 * radius, 7)
    else:
        shape = blob(canvas, centre, radius, kind.rough)
    for _ in range(2 if number == 3 else 0):
        beside = centre + rng.normal(0, 0.9 * radius, 3)
        shape = np.minimum(shape, blob(canvas, beside, 0.6 * radius, kind.rough))
    # However rough its outline, a lesion has a middle.
    shape = np.minimum(shape, canvas.ellipsoid(centre, (0.5 * radius,) * 3))
    amplitude, scale = kind.texture
    inside = float(rng.uniform(*kind.values)) + amplitude * canvas.noise(scale)
    shell = np.exp(-(((shape + 2.5) / 2.2) ** 2))
    canvas.paint("lesion", shape, np.asarray(inside + kind.rim * shell, dtype=np.float32))
    return shape < 0


def nodule(rng: Rng, malignant: bool) -> NDArray[np.uint8]:
    """A cube of 28³ voxels of 1 mm around a nodule, grey values 0..255.

    Beside it is one of the other kind, so that a histogram tells little: the one in the middle
    counts.
    """
    spacing = (1.0, 1.0, 1.0)
    points = sh.warp(rng, sh.grid_points((SIDE,) * 3, spacing), spacing, amplitude=0.5, smooth=5.0)
    lung = float(rng.normal(-850, 35))
    canvas = Canvas.blank(rng, points, spacing, (lung,))
    canvas.values[0] += 22 * canvas.noise(2.0)
    for _ in range(int(rng.integers(1, 4))):
        start, heading = rng.uniform(-14, 14, 3), rng.normal(size=3)
        branches = sh.tree(rng, start, heading, 13, float(rng.uniform(0.8, 1.6)), generations=3)
        canvas.paint("vessel", sh.tree_distance(points, branches), 20.0)
    radius = _radius(rng, malignant)
    if rng.random() < 0.35:
        _pleura(canvas, radius)
    beside = float(rng.uniform(11, 15)) * sh.rotation(rng.uniform(0, 2 * np.pi, 3))[0]
    _NODULES[not malignant](canvas, beside, _radius(rng, not malignant))
    _NODULES[malignant](canvas, rng.normal(0, 0.8, 3), radius)
    image = canvas.values[0] + float(rng.uniform(12, 30)) * sh.noise(rng, canvas.shape, 0.6)
    low, high = GREY_RANGE
    grey = np.round(np.clip((image - low) / (high - low), 0, 1) * 255)
    return np.asarray(grey, dtype=np.uint8)


def _radius(rng: Rng, malignant: bool) -> float:
    """In mm."""
    return float(np.clip(rng.normal(6.4 if malignant else 5.5, 1.5), 3.2, 9.5))


def _pleura(canvas: Canvas, radius: float) -> None:
    normal = sh.rotation(canvas.rng.uniform(0, 2 * np.pi, 3))[0]
    plane = sum(n * p for n, p in zip(normal, canvas.points, strict=True))
    bulge = (canvas.points**2).sum(0) / 160
    wall = radius + float(canvas.rng.uniform(0.5, 5)) - np.asarray(plane, dtype=np.float32) + bulge
    canvas.paint("pleura", wall.astype(np.float32), 45.0)
    canvas.paint("rib", (np.abs(wall + 6) - 2.5).astype(np.float32), 330.0)


def _benign(canvas: Canvas, centre: Vector, radius: float) -> None:
    rng = canvas.rng
    shape = blob(canvas, centre, radius, 0.25)
    canvas.paint("nodule", shape, float(rng.uniform(-40, 90)) + 14 * canvas.noise(2.5))
    if rng.random() < 0.2:
        canvas.paint("calcium", shape + 0.55 * radius, float(rng.uniform(220, 420)))
    if rng.random() < 0.35:
        # A feeding vessel is no sign of malignancy.
        end = centre + 13 * sh.rotation(rng.uniform(0, 2 * np.pi, 3))[0]
        canvas.paint("nodule", canvas.tube([centre, end], (1.6, 1.0)), 20.0)


def _malignant(canvas: Canvas, centre: Vector, radius: float) -> None:
    rng = canvas.rng
    spikes = int(rng.integers(4, 12)) if rng.random() < 0.8 else 0
    shape = spiculated(canvas, centre, 0.86 * radius, spikes)
    if rng.random() < 0.75:
        haze = shape - float(rng.uniform(1.5, 3))
        canvas.paint("", haze, float(rng.uniform(-620, -420)), edge=2.0)
    canvas.paint("nodule", shape, float(rng.uniform(-70, 60)) + 30 * canvas.noise(2.0))
    if rng.random() < 0.2:
        cavity = centre + rng.normal(0, 0.2 * radius, 3)
        canvas.paint("", blob(canvas, cavity, 0.3 * radius, 0.3), -700.0)


#: Whether malignant → what paints it.
_NODULES = {False: _benign, True: _malignant}
