"""Pulmonary nodules in small crops, as in NoduleMNIST3D: smooth ones are benign, spiculated ones
malignant."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from voxseq.phantoms import lesions
from voxseq.phantoms.canvas import Canvas
from voxseq.phantoms.shapes import capsule, grid_points, noise, rotation, tree, tree_distance, warp

#: HU of grey values 0 and 255.
GREY_RANGE = (-1000.0, 400.0)


def nodule(rng: np.random.Generator, malignant: bool, size: int = 28) -> NDArray[np.uint8]:
    """A cube of ``size``³ voxels of 1 mm around a nodule, grey values 0..255."""
    spacing = (28.0 / size,) * 3
    points = grid_points((size,) * 3, spacing, (0, 0, 0))
    points = warp(rng, points, spacing, amplitude=0.5, scale=5.0)
    lung = float(rng.normal(-850, 35))
    canvas = Canvas.blank(points, spacing, (lung,))
    canvas.values[0] += 22 * noise(rng, canvas.shape, canvas.scale(2.0))
    _vessels(rng, canvas)
    radius = float(np.clip(rng.normal(6.7 if malignant else 5.2, 1.5), 3.2, 9.5))
    if rng.random() < 0.35:
        _pleura(rng, canvas, radius)
    (_malignant if malignant else _benign)(rng, canvas, radius)
    image = canvas.values[0] + float(rng.uniform(12, 30)) * noise(rng, canvas.shape, 0.6)
    low, high = GREY_RANGE
    grey: NDArray[np.uint8] = np.round(np.clip((image - low) / (high - low), 0, 1) * 255).astype(
        np.uint8
    )
    return grey


def _vessels(rng: np.random.Generator, canvas: Canvas) -> None:
    for _ in range(int(rng.integers(1, 4))):
        start = rng.uniform(-14, 14, 3)
        branches = tree(
            rng,
            start,
            rng.normal(size=3),
            length=13,
            radius=float(rng.uniform(0.8, 1.6)),
            generations=3,
        )
        canvas.paint("vessel", tree_distance(canvas.points, branches), 20.0)


def _pleura(rng: np.random.Generator, canvas: Canvas, radius: float) -> None:
    normal = rotation(rng.uniform(0, 2 * np.pi, 3))[0]
    plane = sum(n * p for n, p in zip(normal, canvas.points, strict=True))
    bulge = (canvas.points**2).sum(0) / 160
    wall = radius + float(rng.uniform(0.5, 5)) - np.asarray(plane, dtype=np.float32) + bulge
    canvas.paint("pleura", wall.astype(np.float32), 45.0)
    rib = np.abs(wall + 6) - 2.5
    canvas.paint("rib", rib.astype(np.float32), 330.0)


def _benign(rng: np.random.Generator, canvas: Canvas, radius: float) -> None:
    shape = lesions.blob(rng, canvas, rng.normal(0, 0.8, 3), radius, 0.25)
    value = float(rng.uniform(-40, 90))
    canvas.paint("nodule", shape, value + 14 * noise(rng, canvas.shape, canvas.scale(2.5)))
    if rng.random() < 0.2:
        canvas.paint("calcium", shape + 0.55 * radius, float(rng.uniform(220, 420)))
    if rng.random() < 0.35:
        # A feeding vessel is no sign of malignancy.
        end = 13 * rotation(rng.uniform(0, 2 * np.pi, 3))[0]
        canvas.paint("nodule", capsule(canvas.points, (0, 0, 0), end, (1.6, 1.0)).distance, 20.0)


def _malignant(rng: np.random.Generator, canvas: Canvas, radius: float) -> None:
    centre = rng.normal(0, 0.8, 3)
    spikes = int(rng.integers(4, 12)) if rng.random() < 0.8 else 0
    shape = lesions.spiculated(rng, canvas, centre, 0.86 * radius, spikes)
    if rng.random() < 0.45:
        haze = shape - float(rng.uniform(1.5, 3))
        canvas.paint("", haze, float(rng.uniform(-620, -420)), edge=2.0)
    value = float(rng.uniform(-70, 60))
    canvas.paint("nodule", shape, value + 30 * noise(rng, canvas.shape, canvas.scale(2.0)))
    if rng.random() < 0.2:
        cavity = centre + rng.normal(0, 0.2 * radius, 3)
        canvas.paint("", lesions.blob(rng, canvas, cavity, 0.3 * radius, 0.3), -700.0)
