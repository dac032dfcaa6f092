"""Skull-stripped brains in several aligned MRI contrasts, with a lesion.

Frame: RAS+ in mm, origin between the thalami. Every contrast is painted from the same anatomy;
only the intensity of each tissue differs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voxseq.phantoms.canvas import Canvas
from voxseq.phantoms.shapes import (
    Field,
    Mask,
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

Tissues = Mapping[str, tuple[float, ...]]

#: Intensities of T1-weighted, T1 with contrast agent, T2-weighted, T2-FLAIR.
BRATS_TISSUES: Tissues = {
    "white": (640, 650, 370, 400),
    "grey": (470, 490, 560, 540),
    "nuclei": (520, 540, 450, 460),
    "csf": (190, 210, 980, 130),
    "vessel": (330, 1000, 230, 250),
    "oedema": (430, 440, 800, 880),
    "enhancing": (440, 1120, 650, 680),
    "necrosis": (290, 310, 880, 500),
}
#: Intensities of DWI (b 1000), ADC (10⁻⁶ mm²/s), FLAIR.
ISLES_TISSUES: Tissues = {
    "white": (250, 740, 390),
    "grey": (300, 850, 510),
    "nuclei": (280, 760, 450),
    "csf": (70, 2700, 120),
    "vessel": (80, 1500, 200),
    "infarct": (720, 400, 720),
}


@dataclass(frozen=True)
class Cohort:
    """One kind of tumour of BraTS 2023.

    Attributes:
        lesions: smallest and largest number of lesions.
        radius: smallest and largest radius in mm of the whole lesion.
        place: "lobe", "edge" (at the surface) or "stem".
        parts: share of the radius of oedema, enhancing rim and necrotic core; 0: none.
        noise: noise standard deviation, as a share of white matter.
    """

    lesions: tuple[int, int]
    radius: tuple[float, float]
    place: str
    parts: tuple[float, float, float]
    noise: float


COHORTS = {
    "GLI": Cohort((1, 1), (22, 34), "lobe", (1.0, 0.62, 0.42), 0.035),
    "MEN": Cohort((1, 1), (16, 26), "edge", (1.15, 0.9, 0.0), 0.03),
    "MET": Cohort((2, 3), (13, 19), "lobe", (1.0, 0.55, 0.25), 0.03),
    "PED": Cohort((1, 1), (17, 24), "stem", (1.0, 0.3, 0.0), 0.04),
    "SSA": Cohort((1, 1), (26, 38), "lobe", (1.0, 0.6, 0.45), 0.07),
}


def brain(rng: np.random.Generator, shape: Shape, spacing: Spacing, tissues: Tissues) -> Canvas:
    """Paint a healthy brain in as many contrasts as ``tissues`` has intensities."""
    turn = rotation(rng.normal(0, 0.08, 3))
    size = np.exp(rng.normal(0, 0.04, 3))[:, None, None, None]
    middle = (np.asarray((0, -6, -2)) + rng.normal(0, 2.5, 3))[:, None, None, None]
    posed = turn_points(grid_points(shape, spacing, (0, 0, 0)), turn) / size + middle
    points = warp(rng, posed.astype(np.float32), spacing, amplitude=2.2, scale=18.0)
    canvas = Canvas.blank(points, spacing, (0.0,) * len(tissues["white"]))
    levels = {k: _levels(rng, v) for k, v in tissues.items()}
    _cerebrum(rng, canvas, levels)
    _deep(rng, canvas, levels)
    _hindbrain(rng, canvas, levels)
    return canvas


def tumours(rng: np.random.Generator, canvas: Canvas, cohort: Cohort) -> NDArray[np.uint8]:
    """Paint the tumours of one cohort; returns labels (X, Y, Z): 1 necrotic core, 2 oedema,
    3 enhancing tumour."""
    labels = np.zeros(canvas.shape, dtype=np.uint8)
    head = canvas.owner > 0
    for _ in range(int(rng.integers(cohort.lesions[0], cohort.lesions[1] + 1))):
        where = canvas.pick(rng, _places(canvas, cohort.place), 8.0)
        radius = float(rng.uniform(*cohort.radius))
        rough = noise(rng, canvas.shape, canvas.scale(7.0))
        whole = ellipsoid(canvas.points, where, (radius,) * 3)
        layers = (("oedema", 2, 3.5), ("enhancing", 3, 1.5), ("necrosis", 1, 1.5))
        for (tissue, label, ragged), share in zip(layers, cohort.parts, strict=True):
            if share == 0:
                continue
            part = whole + radius * (1 - share) + ragged * rough
            part = np.where(head, part, 50.0).astype(np.float32)
            values = tuple(v * (1 + 0.05 * rough).astype(np.float32) for v in BRATS_TISSUES[tissue])
            canvas.paint(tissue, part, values)
            labels[part < 0] = label
    return labels


def infarct(rng: np.random.Generator, canvas: Canvas) -> Mask:
    """Paint an ischaemic stroke lesion (ISLES contrasts); returns its voxels."""
    where = canvas.pick(rng, canvas.mask("white", "grey"), 10.0)
    radii = rng.uniform(9, 22, 3)
    rough = noise(rng, canvas.shape, canvas.scale(6.0))
    shape = ellipsoid(canvas.points, where, [float(r) for r in radii]) + 3.0 * rough
    shape = np.where(canvas.owner > 0, shape, 50.0).astype(np.float32)
    canvas.paint("infarct", shape, tuple(float(v) for v in ISLES_TISSUES["infarct"]))
    return shape < 0


def acquire(
    rng: np.random.Generator, canvas: Canvas, contrast: int, share: float, scale: float = 1.0
) -> Field:
    """One contrast (X, Y, Z) as a scanner gives it: bias field, gain, Rician noise, 0 outside."""
    head = canvas.owner > 0
    bias = np.exp(0.10 * noise(rng, canvas.shape, canvas.scale(45.0)))
    signal = canvas.values[contrast] * bias * np.float32(scale)
    level = share * float(signal[head].mean())
    real = signal + level * rng.standard_normal(canvas.shape, dtype=np.float32)
    imaginary = level * rng.standard_normal(canvas.shape, dtype=np.float32)
    image = np.sqrt(real**2 + imaginary**2)
    return np.where(head, np.maximum(np.round(image), 1), 0).astype(np.float32)


def _levels(rng: np.random.Generator, values: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(float(v * s) for v, s in zip(values, np.exp(rng.normal(0, 0.03, 8)), strict=False))


def _places(canvas: Canvas, place: str) -> Mask:
    if place == "stem":
        return canvas.mask("stem")
    if place == "edge":
        return np.asarray(canvas.mask("grey") & (canvas.points[2] > -15))
    return np.asarray(canvas.mask("white") & (np.abs(canvas.points[0]) > 10))


def _cerebrum(
    rng: np.random.Generator, canvas: Canvas, levels: dict[str, tuple[float, ...]]
) -> None:
    x, _, z = canvas.points
    surface = ellipsoid(canvas.points, (0, 0, 6), (65, 80, 58))
    surface = np.maximum(surface, -36 - z)
    folds = np.abs(noise(rng, canvas.shape, canvas.scale(6.5))) * 10
    canvas.paint("csf", surface - 1.5, levels["csf"])
    canvas.paint("grey", surface, _textured(rng, canvas, levels["grey"], 0.04))
    ribbon = np.minimum(-surface - 6, np.maximum(folds - 5.5, -surface - 19))
    canvas.paint("white", -ribbon, _textured(rng, canvas, levels["white"], 0.03))
    sulci = np.maximum(np.maximum(folds - 1.9, surface), -surface - 15)
    canvas.paint("csf", sulci, levels["csf"])
    fissure = np.maximum(np.abs(x) - 1.8, np.maximum(surface - 1, 14 - z))
    canvas.paint("csf", fissure, levels["csf"])
    sinus = tube(canvas.points, [(0, 66, 28), (0, 10, 64), (0, -60, 40), (0, -78, -2)], (4,) * 4)
    canvas.paint("vessel", sinus.distance, levels["vessel"])


def _deep(rng: np.random.Generator, canvas: Canvas, levels: dict[str, tuple[float, ...]]) -> None:
    points = canvas.points
    wide = float(rng.uniform(4.5, 8.5))
    for side in (-1, 1):
        nuclei = union(
            ellipsoid(points, (side * 11, -10, 3), (9, 13, 9)),
            ellipsoid(points, (side * 25, 6, 2), (6, 15, 10)),
            tube(points, [(side * 13, 24, 8), (side * 17, -8, 20)], (6, 3.5)).distance,
        )
        canvas.paint("nuclei", nuclei, _textured(rng, canvas, levels["nuclei"], 0.03))
        path = [(8, 34, 8), (9, 2, 18), (17, -32, 12), (28, -30, -6), (30, -2, -18)]
        corners = [(side * a + float(rng.normal(0, 1)), b, c) for a, b, c in path]
        radii = [wide * s for s in (0.9, 0.8, 1.2, 0.7, 0.5)]
        canvas.paint("csf", tube(points, corners, radii).distance, levels["csf"])
    canvas.paint("csf", ellipsoid(points, (0, -4, 0), (2.5, 14, 10)), levels["csf"])


def _hindbrain(
    rng: np.random.Generator, canvas: Canvas, levels: dict[str, tuple[float, ...]]
) -> None:
    points = canvas.points
    cerebellum = ellipsoid(points, (0, -52, -44), (48, 27, 22))
    canvas.paint("csf", cerebellum - 2, levels["csf"])
    leaves = 0.5 + 0.5 * np.sin(points[2] / 1.9 + 0.8 * noise(rng, canvas.shape, canvas.scale(6)))
    values = tuple(
        (w + (g - w) * leaves).astype(np.float32)
        for w, g in zip(levels["white"], levels["grey"], strict=True)
    )
    canvas.paint("cerebellum", cerebellum, values)
    stem = tube(points, [(0, -18, -8), (0, -22, -34), (0, -34, -75)], (13, 14, 9)).distance
    canvas.paint("stem", stem, _textured(rng, canvas, levels["white"], 0.03))
    canvas.paint("csf", ellipsoid(points, (0, -38, -38), (8, 4, 9)), levels["csf"])


def _textured(
    rng: np.random.Generator, canvas: Canvas, values: tuple[float, ...], share: float
) -> tuple[Field, ...]:
    grain = 1 + np.float32(share) * noise(rng, canvas.shape, canvas.scale(5.0))
    return tuple((v * grain).astype(np.float32) for v in values)
