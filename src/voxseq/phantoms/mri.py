"""MRI: skull-stripped brains in several aligned contrasts, and the left atrium.

Frames: RAS+ in mm, origin between the thalami, or in the heart. Every contrast of a brain is
painted from the same anatomy; only the intensity of each tissue differs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from voxseq.phantoms.shapes import Canvas, Field, Mask, Pose, Rng, Shape, Spacing, rician, union

Tissues = Mapping[str, tuple[float, ...]]

_BRAIN_POSE = Pose(turn=0.08, size=0.04, whole=0.0, shift=2.5, amplitude=2.2, smooth=18.0)
_HEART_POSE = Pose(turn=0.10, size=0.05, whole=0.05, shift=3.0, amplitude=2.0, smooth=16.0)
#: Standard deviation in mm of the place of the field of view around a heart.
_HEART_JITTER = 8.0
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


class Cohort(NamedTuple):
    """One kind of tumour of BraTS 2023."""

    lesions: tuple[int, int]  #: smallest and largest number of lesions
    radius: tuple[float, float]  #: smallest and largest radius in mm of the whole lesion
    place: str  #: "lobe", "edge" (at the surface) or "stem"
    #: share of the radius of oedema, enhancing rim and necrotic core; 0: none
    parts: tuple[float, float, float]
    noise: float  #: standard deviation, as a share of the mean signal


COHORTS = {
    "GLI": Cohort((1, 1), (22, 34), "lobe", (1.0, 0.62, 0.42), 0.035),
    "MEN": Cohort((1, 1), (16, 26), "edge", (1.15, 0.9, 0.0), 0.03),
    "MET": Cohort((2, 3), (13, 19), "lobe", (1.0, 0.55, 0.25), 0.03),
    "PED": Cohort((1, 1), (17, 24), "stem", (1.0, 0.3, 0.0), 0.04),
    "SSA": Cohort((1, 1), (26, 38), "lobe", (1.0, 0.6, 0.45), 0.07),
}


class Brain(Canvas):
    """A canvas with the intensities of one head's tissues, one for each contrast."""

    levels: dict[str, tuple[float, ...]]

    def textured(self, tissue: str, share: float) -> tuple[Field, ...]:
        """Intensities of a tissue that vary by a share of their mean."""
        grain = 1 + np.float32(share) * self.noise(5.0)
        return tuple((v * grain).astype(np.float32) for v in self.levels[tissue])

    def fill(self, tissue: str, distance: Field) -> None:
        """Paint a shape in one tissue."""
        self.paint(tissue, distance, self.levels[tissue])


def brain(rng: Rng, shape: Shape, spacing: Spacing, tissues: Tissues) -> Brain:
    """Paint a healthy brain in as many contrasts as ``tissues`` has intensities."""
    points = _BRAIN_POSE.points(rng, shape, spacing, (0, -6, -2))
    canvas = Brain.blank(rng, points, spacing, (0.0,) * len(tissues["white"]))
    canvas.levels = {}
    for tissue, values in tissues.items():
        gains = np.exp(rng.normal(0, 0.03, 8))
        canvas.levels[tissue] = tuple(float(v * s) for v, s in zip(values, gains, strict=False))
    _cerebrum(canvas)
    _deep(canvas)
    _hindbrain(canvas)
    return canvas


def tumours(canvas: Canvas, cohort: Cohort) -> NDArray[np.uint8]:
    """Paint the tumours of one cohort; returns labels (X, Y, Z): 1 necrotic core, 2 oedema,
    3 enhancing tumour."""
    rng, labels = canvas.rng, np.zeros(canvas.shape, dtype=np.uint8)
    head = canvas.owner > 0
    for _ in range(int(rng.integers(cohort.lesions[0], cohort.lesions[1] + 1))):
        where = canvas.pick(_places(canvas, cohort.place), 8.0)
        radius = float(rng.uniform(*cohort.radius))
        rough = canvas.noise(7.0)
        whole = canvas.ellipsoid(where, (radius,) * 3)
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


def infarct(canvas: Canvas) -> Mask:
    """Paint an ischaemic stroke lesion (ISLES contrasts); returns its voxels."""
    where = canvas.pick(canvas.mask("white", "grey"), 10.0)
    radii = canvas.rng.uniform(9, 22, 3).tolist()
    shape = canvas.ellipsoid(where, radii) + 3.0 * canvas.noise(6.0)
    shape = np.where(canvas.owner > 0, shape, 50.0).astype(np.float32)
    canvas.paint("infarct", shape, tuple(map(float, ISLES_TISSUES["infarct"])))
    return shape < 0


def acquire(canvas: Canvas, contrast: int, share: float, gain: float = 1.0) -> Field:
    """One contrast (X, Y, Z) as a scanner gives it: bias field, gain, Rician noise, 0 outside."""
    head = canvas.owner > 0
    bias = np.exp(0.10 * canvas.noise(45.0))
    signal = canvas.values[contrast] * bias * np.float32(gain)
    image = rician(canvas.rng, signal, share * float(signal[head].mean()))
    return np.where(head, np.maximum(np.round(image), 1), 0).astype(np.float32)


def _places(canvas: Canvas, place: str) -> Mask:
    x, _, z = canvas.points
    if place == "stem":
        return canvas.mask("stem")
    if place == "edge":
        return np.asarray(canvas.mask("grey") & (z > -15))
    return np.asarray(canvas.mask("white") & (np.abs(x) > 10))


def _cerebrum(canvas: Brain) -> None:
    x, _, z = canvas.points
    surface = np.maximum(canvas.ellipsoid((0, 0, 6), (65, 80, 58)), -36 - z)
    folds = np.abs(canvas.noise(6.5)) * 10
    canvas.fill("csf", surface - 1.5)
    canvas.paint("grey", surface, canvas.textured("grey", 0.04))
    ribbon = np.minimum(-surface - 6, np.maximum(folds - 5.5, -surface - 19))
    canvas.paint("white", -ribbon, canvas.textured("white", 0.03))
    canvas.fill("csf", np.maximum(np.maximum(folds - 1.9, surface), -surface - 15))
    canvas.fill("csf", np.maximum(np.abs(x) - 1.8, np.maximum(surface - 1, 14 - z)))
    sinus = [(0, 66, 28), (0, 10, 64), (0, -60, 40), (0, -78, -2)]
    canvas.fill("vessel", canvas.tube(sinus, (4,) * 4))


def _deep(canvas: Brain) -> None:
    wide = float(canvas.rng.uniform(4.5, 8.5))
    ventricle = [(8, 34, 8), (9, 2, 18), (17, -32, 12), (28, -30, -6), (30, -2, -18)]
    for side in (-1, 1):
        nuclei = union(
            canvas.ellipsoid((side * 11, -10, 3), (9, 13, 9)),
            canvas.ellipsoid((side * 25, 6, 2), (6, 15, 10)),
            canvas.tube([(side * 13, 24, 8), (side * 17, -8, 20)], (6, 3.5)),
        )
        canvas.paint("nuclei", nuclei, canvas.textured("nuclei", 0.03))
        corners = [(side * a + float(canvas.rng.normal(0, 1)), b, c) for a, b, c in ventricle]
        canvas.fill("csf", canvas.tube(corners, [wide * s for s in (0.9, 0.8, 1.2, 0.7, 0.5)]))
    canvas.fill("csf", canvas.ellipsoid((0, -4, 0), (2.5, 14, 10)))


def _hindbrain(canvas: Brain) -> None:
    cerebellum = canvas.ellipsoid((0, -52, -44), (48, 27, 22))
    canvas.fill("csf", cerebellum - 2)
    leaves = 0.5 + 0.5 * np.sin(canvas.points[2] / 1.9 + 0.8 * canvas.noise(6))
    pairs = zip(canvas.levels["white"], canvas.levels["grey"], strict=True)
    values = tuple((w + (g - w) * leaves).astype(np.float32) for w, g in pairs)
    canvas.paint("cerebellum", cerebellum, values)
    stem = canvas.tube([(0, -18, -8), (0, -22, -34), (0, -34, -75)], (13, 14, 9))
    canvas.paint("stem", stem, canvas.textured("white", 0.03))
    canvas.fill("csf", canvas.ellipsoid((0, -38, -38), (8, 4, 9)))


def atrium(rng: Rng, shape: Shape, spacing: Spacing) -> tuple[Field, NDArray[np.uint8]]:
    """One heart in late gadolinium enhanced MRI, as in the 2018 Atrial Segmentation Challenge:
    image (X, Y, Z) float32, z-scored over the volume, and label 0/1.

    The blood pools enhance, the left atrium and its appendage and pulmonary vein stubs are the
    label, its wall is dark with patches of bright scar, the lungs are dark.
    """
    where = np.clip(rng.normal(0, _HEART_JITTER, 3), -2 * _HEART_JITTER, 2 * _HEART_JITTER)
    points = _HEART_POSE.points(rng, shape, spacing, where)
    canvas = Canvas.blank(rng, points, spacing, (70.0,))
    blood = float(rng.uniform(230, 330))
    _around_atrium(canvas, blood)
    label = _left_atrium(canvas, blood)
    signal = canvas.values[0] * np.exp(0.18 * canvas.noise(50.0))
    image = rician(rng, signal, float(rng.uniform(14, 30)), 0.4)
    scored = np.asarray((image - image.mean()) / image.std(), dtype=np.float32)
    return scored, label.astype(np.uint8)


def _around_atrium(canvas: Canvas, blood: float) -> None:
    strands = canvas.noise(5.0)
    canvas.paint("wall", canvas.ellipsoid((0, 6, 0), (100, 84, 200)), 150 + 30 * strands)
    for side in (-1, 1):
        vessels = np.clip(canvas.noise(3.5) - 1.2, 0, 2)
        canvas.paint("lung", canvas.ellipsoid((side * 76, -10, 5), (42, 66, 90)), 28 + 90 * vessels)
    canvas.paint("heart", canvas.ellipsoid((0, 18, -4), (54, 48, 50)), 120 + 14 * strands)
    pool = blood * float(canvas.rng.uniform(0.82, 1.08))
    swirl = 1 + 0.06 * canvas.noise(6.0)
    right = canvas.ellipsoid((34, 18, -6), (19, 22, 27))
    canvas.paint("right_atrium", right, pool * 0.92 * swirl)
    canvas.paint("ventricle", canvas.ellipsoid((6, 44, -14), (25, 17, 27)), pool * swirl)
    canvas.paint("ventricle", canvas.ellipsoid((-28, 34, -22), (17, 19, 25)), pool * swirl)
    root = canvas.tube([(2, 20, -4), (6, 22, 28), (2, 16, 60)], (12, 13, 12))
    canvas.paint("", root - 2, 110.0)
    canvas.paint("aorta", root, pool * 1.02 * swirl)
    down = canvas.tube([(-22, -42, 70), (-20, -44, -70)], (11, 10))
    canvas.paint("", down - 2, 105.0)
    canvas.paint("aorta", down, pool * 0.97 * swirl)
    canvas.paint("spine", canvas.ellipsoid((2, -62, 0), (19, 16, 120)), 135 + 25 * strands)


def _left_atrium(canvas: Canvas, blood: float) -> Mask:
    rng = canvas.rng
    radii = np.asarray(canvas.about((29, 18, 22), 0.10))
    body = canvas.ellipsoid((0, -12, 4), radii)
    stubs = []
    for side in (-1, 1):
        for height in (18, -6):
            start = np.asarray((side * 0.7 * radii[0], -14, 4 + 0.6 * height))
            end = np.asarray((side * (radii[0] + 17), -24, 4 + height)) + rng.normal(0, 2.5, 3)
            stubs.append(canvas.tube([start, end], (8.0, float(rng.uniform(5.0, 6.5)))))
    path = [(-0.7 * radii[0], -2, 8), (-radii[0] - 8, 12, 14)]
    appendage = canvas.tube(path, (9, float(rng.uniform(4, 7))))
    cavity = union(body, *stubs, appendage, blend=6) + 0.8 * canvas.noise(6.0)
    cavity = np.maximum(cavity, np.abs(canvas.points[0]) - radii[0] - 13)
    scar = np.clip(canvas.noise(6.0) - 0.3, 0, 1.5)
    canvas.paint("la_wall", cavity - 2.6, 85 + (blood + 40 - 85) * np.minimum(scar, 1))
    canvas.paint("left_atrium", cavity, blood * (1 + 0.05 * canvas.noise(7.0)))
    return canvas.mask("left_atrium")
