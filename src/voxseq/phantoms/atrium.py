"""Late gadolinium enhanced MRI of the left atrium, as in the 2018 Atrial Segmentation Challenge."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from voxseq.phantoms.canvas import Canvas
from voxseq.phantoms.shapes import (
    Field,
    Shape,
    Spacing,
    ellipsoid,
    grid_points,
    noise,
    rotation,
    tube,
    turn_points,
    union,
    warp,
)


def atrium(
    rng: np.random.Generator, shape: Shape, spacing: Spacing
) -> tuple[Field, NDArray[np.uint8]]:
    """One heart: image (X, Y, Z) float32, z-scored over the volume, and label 0/1.

    The blood pools enhance, the left atrium and its appendage and pulmonary vein stubs are the
    label, its wall is dark with patches of bright scar, the lungs are dark.
    """
    turn = rotation(rng.normal(0, 0.10, 3))
    size = np.exp(rng.normal(0, 0.05, 3) + rng.normal(0, 0.05))[:, None, None, None]
    middle = rng.normal(0, 3.0, 3)[:, None, None, None]
    posed = turn_points(grid_points(shape, spacing, (0, 0, 0)), turn) / size + middle
    points = warp(rng, posed.astype(np.float32), spacing, amplitude=2.0, scale=16.0)
    canvas = Canvas.blank(points, spacing, (70.0,))
    blood = float(rng.uniform(230, 330))
    _surroundings(rng, canvas, blood)
    label = _left_atrium(rng, canvas, blood)
    return _acquire(rng, canvas), label.astype(np.uint8)


def _surroundings(rng: np.random.Generator, canvas: Canvas, blood: float) -> None:
    points = canvas.points
    strands = noise(rng, canvas.shape, canvas.scale(5.0))
    canvas.paint("wall", ellipsoid(points, (0, 6, 0), (100, 84, 200)), 150 + 30 * strands)
    for side in (-1, 1):
        lung = ellipsoid(points, (side * 76, -10, 5), (42, 66, 90))
        vessels = np.clip(noise(rng, canvas.shape, canvas.scale(3.5)) - 1.2, 0, 2)
        canvas.paint("lung", lung, 28 + 90 * vessels)
    canvas.paint("heart", ellipsoid(points, (0, 18, -4), (54, 48, 50)), 120 + 14 * strands)
    pool = blood * float(rng.uniform(0.82, 1.08))
    swirl = 1 + 0.06 * noise(rng, canvas.shape, canvas.scale(6.0))
    right = ellipsoid(points, (34, 18, -6), (19, 22, 27))
    canvas.paint("right_atrium", right, pool * 0.92 * swirl)
    canvas.paint("ventricle", ellipsoid(points, (6, 44, -14), (25, 17, 27)), pool * swirl)
    canvas.paint("ventricle", ellipsoid(points, (-28, 34, -22), (17, 19, 25)), pool * swirl)
    root = tube(points, [(2, 20, -4), (6, 22, 28), (2, 16, 60)], (12, 13, 12)).distance
    canvas.paint("", root - 2, 110.0)
    canvas.paint("aorta", root, pool * 1.02 * swirl)
    down = tube(points, [(-22, -42, 70), (-20, -44, -70)], (11, 10)).distance
    canvas.paint("", down - 2, 105.0)
    canvas.paint("aorta", down, pool * 0.97 * swirl)
    canvas.paint("spine", ellipsoid(points, (2, -62, 0), (19, 16, 120)), 135 + 25 * strands)


def _left_atrium(rng: np.random.Generator, canvas: Canvas, blood: float) -> NDArray[np.bool_]:
    points = canvas.points
    radii = np.asarray((29, 18, 22)) * np.exp(rng.normal(0, 0.10, 3))
    body = ellipsoid(points, (0, -12, 4), [float(r) for r in radii])
    stubs = []
    for side in (-1, 1):
        for height in (18, -6):
            start = np.asarray((side * 0.7 * radii[0], -14, 4 + 0.6 * height))
            end = np.asarray((side * (radii[0] + 17), -24, 4 + height)) + rng.normal(0, 2.5, 3)
            stubs.append(tube(points, [start, end], (8.0, float(rng.uniform(5.0, 6.5)))).distance)
    appendage = tube(
        points, [(-0.7 * radii[0], -2, 8), (-radii[0] - 8, 12, 14)], (9, float(rng.uniform(4, 7)))
    ).distance
    cavity = union(body, *stubs, appendage, blend=6)
    cavity = cavity + 0.8 * noise(rng, canvas.shape, canvas.scale(6.0))
    cavity = np.maximum(cavity, np.abs(points[0]) - radii[0] - 13)
    scar = np.clip(noise(rng, canvas.shape, canvas.scale(6.0)) - 0.3, 0, 1.5)
    canvas.paint("la_wall", cavity - 2.6, 85 + (blood + 40 - 85) * np.minimum(scar, 1))
    swirl = 1 + 0.05 * noise(rng, canvas.shape, canvas.scale(7.0))
    canvas.paint("left_atrium", cavity, blood * swirl)
    return canvas.mask("left_atrium")


def _acquire(rng: np.random.Generator, canvas: Canvas) -> Field:
    bias = np.exp(0.18 * noise(rng, canvas.shape, canvas.scale(50.0)))
    signal = canvas.values[0] * bias
    level = float(rng.uniform(14, 30))
    grain = noise(rng, canvas.shape, 0.4)
    image = np.sqrt((signal + level * grain) ** 2 + (level * noise(rng, canvas.shape)) ** 2)
    return np.asarray((image - image.mean()) / image.std(), dtype=np.float32)
