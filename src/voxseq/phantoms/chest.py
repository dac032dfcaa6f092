"""Lungs, heart and airways of the CT torso, and the findings of the pulmonary data sets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from voxseq.phantoms.canvas import Canvas
from voxseq.phantoms.shapes import (
    Branch,
    Field,
    blur,
    ellipsoid,
    noise,
    tree,
    tree_distance,
    tube,
    union,
)

LUNG_CENTRES = {"lung_right": (58.0, -4.0, 130.0), "lung_left": (-58.0, -6.0, 132.0)}
LUNG_RADII = (47.0, 66.0, 92.0)


@dataclass(frozen=True)
class ChestFindings:
    """What is wrong with a chest.

    Attributes:
        ground_glass: added HU of hazy patches, 0 for none (the finding of COVID-19 pneumonia).
        extent: share of the lung that each kind of haze covers.
        congestion: added HU of haze around the hila, as in oedema; looks alike but lies elsewhere.
        dependent: HU gradient (per 100 mm) towards the back, as in shallow inspiration.
        emboli: whether clots fill parts of the pulmonary arteries.
        scars: dense bands and consolidated spots that occur with and without pneumonia.
    """

    ground_glass: float = 0.0
    extent: float = 0.0
    congestion: float = 0.0
    dependent: float = 60.0
    emboli: bool = False
    scars: int = 0


def paint(
    rng: np.random.Generator, canvas: Canvas, lung: float, arterial: float, found: ChestFindings
) -> None:
    """Paint everything above the diaphragm."""
    if canvas.points[2].max() < 35:
        return
    _mediastinum(rng, canvas)
    density = _parenchyma(rng, canvas, lung, found)
    for name, centre in LUNG_CENTRES.items():
        where = [float(c + s) for c, s in zip(centre, rng.normal(0, 3, 3), strict=True)]
        radii = np.asarray(LUNG_RADII) * np.exp(rng.normal(0, 0.05, 3))
        shape = ellipsoid(canvas.points, where, [float(r) for r in radii])
        medial = 12 + 10 * np.cos((canvas.points[2] - 110) / 40)
        shape = np.maximum(shape, medial - np.abs(canvas.points[0]))
        canvas.paint(name, shape, density)
        branches = lung_vessels(rng, centre)
        vessels = tree_distance(canvas.points, branches, shape < -1.5)
        canvas.paint("", vessels, 30 + 160 * arterial, edge=1.2)
    if found.scars:
        _scars(rng, canvas, found.scars)
    _heart(rng, canvas, arterial)
    _hilum(rng, canvas, arterial, found.emboli)
    _neck(rng, canvas, arterial)


def lung_vessels(rng: np.random.Generator, centre: tuple[float, float, float]) -> list[Branch]:
    """Pulmonary vessels (mm) that fan out from the hilum of one lung."""
    side = float(np.sign(centre[0]))
    hilum = (side * 26.0, -8.0, 122.0)
    branches: list[Branch] = []
    for heading in ((0.5, 0.7, 0.8), (0.9, -0.1, 0.1), (0.5, -0.5, -0.9), (0.6, -0.8, 0.5)):
        turned = np.asarray((side * heading[0], heading[1], heading[2])) + rng.normal(0, 0.15, 3)
        branches += tree(rng, hilum, turned, length=26, radius=4.4, generations=3)
    return branches


def _parenchyma(
    rng: np.random.Generator, canvas: Canvas, lung: float, found: ChestFindings
) -> Field:
    fine = noise(rng, canvas.shape, canvas.scale(2.5))
    lobules = noise(rng, canvas.shape, canvas.scale(7.0))
    density = lung + 16 * fine + 12 * lobules - found.dependent * canvas.points[1] / 100
    for amount, peripheral in ((found.ground_glass, True), (found.congestion, False)):
        if amount > 0:
            patches = haze(rng, canvas, found.extent, peripheral)
            density = density + patches * (amount + 45 * fine)
    return np.asarray(density, dtype=np.float32)


def haze(rng: np.random.Generator, canvas: Canvas, extent: float, peripheral: bool) -> Field:
    """Hazy patches (0..1) that cover about ``extent`` of the lungs: along the pleura and towards
    the back (ground-glass opacity of COVID-19), or around the hila (congestion)."""
    patches = noise(rng, canvas.shape, canvas.scale(9.0))
    shapes = [ellipsoid(canvas.points, c, LUNG_RADII) for c in LUNG_CENTRES.values()]
    lungs = union(*shapes)
    if not (lungs < 0).any():
        return np.zeros(canvas.shape, dtype=np.float32)
    if peripheral:
        where = np.exp(-(((lungs + 9) / 14) ** 2)) - 0.006 * canvas.points[1]
    else:
        x, y, z = canvas.points
        hilum = np.sqrt((np.abs(x) - 34) ** 2 + (y + 4) ** 2 + ((z - 126) / 1.6) ** 2)
        where = 1.4 * np.exp(-((hilum / 26) ** 2))
    score = patches + 1.4 * where
    threshold = float(np.quantile(score[lungs < 0], 1 - extent))
    return np.asarray(1 / (1 + np.exp(-(score - threshold) / 0.22)), dtype=np.float32)


def _scars(rng: np.random.Generator, canvas: Canvas, count: int) -> None:
    """Bands and small dense spots, a distractor for whoever measures mean density."""
    lungs = canvas.mask("lung_right", "lung_left")
    for _ in range(count if lungs.any() else 0):
        where = canvas.pick(rng, lungs, 8.0)
        if rng.random() < 0.5:
            shape = ellipsoid(canvas.points, where, rng.uniform(4, 10, 3).tolist())
            canvas.paint("", shape, float(rng.uniform(-80, 40)), edge=1.3)
        else:
            end = where + rng.normal(0, 22, 3)
            band = tube(canvas.points, [where, end], (3.0, 2.0)).distance
            canvas.paint("", band, float(rng.uniform(-300, -50)), edge=1.3)


def _mediastinum(rng: np.random.Generator, canvas: Canvas) -> None:
    middle = ellipsoid(canvas.points, (0, 5, 140), (36, 66, 90))
    canvas.paint("mediastinum", middle, -70 + 12 * noise(rng, canvas.shape, canvas.scale(5.0)))


def _heart(rng: np.random.Generator, canvas: Canvas, arterial: float) -> None:
    if not canvas.near((-16, 26, 108), 50):
        return
    centre = [float(c) for c in np.asarray((-16, 26, 108)) + rng.normal(0, 3, 3)]
    muscle = ellipsoid(canvas.points, centre, (42, 38, 38))
    fibres = noise(rng, canvas.shape, canvas.scale(3.0))
    canvas.paint("heart", muscle, 55 + 45 * arterial + 6 * fibres)
    pools = (
        ((-26, 18, 104), (21, 18, 24)),
        ((6, 36, 104), (19, 16, 25)),
        ((-10, 0, 118), (24, 14, 15)),
    )
    for pool, radii in pools:
        moved = np.asarray(pool) + np.asarray(centre) - (-16, 26, 108)
        chamber = ellipsoid(canvas.points, moved, radii) + 1.2 * fibres
        canvas.paint("chamber", np.maximum(chamber, muscle + 3), 44 + 190 * arterial)


def _hilum(rng: np.random.Generator, canvas: Canvas, arterial: float, emboli: bool) -> None:
    if not canvas.near((0, 0, 150), 190):
        return
    points = canvas.points
    arch = tube(points, [(8, 30, 140), (4, 32, 168), (-10, 8, 178), (-13, -26, 160)], (12,) * 4)
    canvas.paint("aorta", arch.distance, 44 + 200 * arterial)
    arteries = union(
        tube(points, [(-8, 32, 140), (-10, 14, 150), (-34, -6, 146)], (11, 10, 8)).distance,
        tube(points, [(-8, 16, 148), (18, 4, 142), (38, -4, 136)], (9, 9, 7)).distance,
    )
    canvas.paint("pulmonary_artery", arteries, 42 + 260 * arterial)
    airway = union(
        tube(points, [(0, -8, 340), (0, -10, 160)], (8, 8)).distance,
        tube(points, [(0, -10, 162), (34, -12, 138)], (6.5, 5)).distance,
        tube(points, [(0, -10, 162), (-34, -12, 140)], (6, 4.5)).distance,
    )
    canvas.paint("", airway - 2.0, 20.0)
    canvas.paint("airway", airway, -960.0)
    if emboli:
        clot = blur(rng.standard_normal(canvas.shape, dtype=np.float32), canvas.scale(6.0))
        share = np.clip(clot / max(float(clot.std()), 1e-6) - 0.4, 0, 1)
        canvas.paint("", np.maximum(arteries + 1.5, 0.3 - share), 55.0)


def _neck(rng: np.random.Generator, canvas: Canvas, arterial: float) -> None:
    if not canvas.near((0, -12, 270), 60):
        return
    blood = 45 + 190 * arterial
    for side in (-1, 1):
        sway = rng.normal(0, 2, 2)
        path = [(side * 14, -4, 185), (side * 24 + sway[0], -12 + sway[1], 330)]
        canvas.paint("carotid", tube(canvas.points, path, (5.5, 5.0)).distance, blood)
        beside = [(a + side * 10, b + 3, c) for a, b, c in path]
        canvas.paint("jugular", tube(canvas.points, beside, (6.0, 6.5)).distance, 0.8 * blood)
        thyroid = ellipsoid(canvas.points, (side * 15, -2, 250), (8, 10, 20))
        canvas.paint("thyroid", thyroid, 105 + 8 * noise(rng, canvas.shape, canvas.scale(3.0)))
