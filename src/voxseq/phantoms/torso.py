"""The CT torso: body wall, skeleton, and the order in which the organs are painted.

Frame: x to the patient's right, y to the front, z to the head (RAS+), in mm, origin in front of
the first lumbar vertebra. Intensities are Hounsfield units (HU).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from voxseq.phantoms import shapes as sh
from voxseq.phantoms.organs import HEALTHY, ChestFindings, paint_abdomen, paint_chest
from voxseq.phantoms.shapes import Canvas, Field, Pose, Rng, Shape, Spacing, Vector

AIR_HU = -1000.0
BODY_RADII = (128.0, 90.0)
_POSE = Pose(turn=0.07, size=0.05, whole=0.05, shift=4.0, amplitude=2.5, smooth=22.0)


@dataclass(frozen=True)
class CtStyle:
    """How a scanner and its protocol render the anatomy."""

    venous: float = 0.8  #: portal-venous enhancement, 0 (none) to 1
    arterial: float = 0.3  #: arterial enhancement, 0 to 1
    noise: float = 14.0  #: standard deviation of the noise in HU
    grain: float = 0.5  #: correlation length of the noise in voxels (reconstruction kernel)
    lung: float = -840.0  #: density of the aerated lung in HU
    found: ChestFindings = HEALTHY

    def vary(self, rng: Rng) -> CtStyle:
        """The same protocol on another patient and day."""
        return replace(
            self,
            venous=float(np.clip(self.venous + rng.normal(0, 0.1), 0, 1.2)),
            arterial=float(np.clip(self.arterial + rng.normal(0, 0.1), 0, 1.5)),
            noise=self.noise * float(rng.uniform(0.75, 1.35)),
            lung=self.lung + float(rng.normal(0, 28)),
        )


def torso(rng: Rng, shape: Shape, spacing: Spacing, centre: Vector, style: CtStyle) -> Canvas:
    """Paint a torso around ``centre`` (mm); noise is not yet added, see ``scan``."""
    points = _POSE.points(rng, shape, spacing, centre)
    canvas = Canvas.blank(rng, points, spacing, (AIR_HU,))
    _body(canvas)
    paint_chest(canvas, style.lung, style.arterial, style.found)
    paint_abdomen(canvas, style.venous, style.arterial)
    _skeleton(canvas)
    return canvas


def scan(rng: Rng, canvas: Canvas, style: CtStyle) -> Field:
    """The CT image (X, Y, Z) in HU of a painted torso, with noise, as float32 of whole numbers."""
    white = sh.noise(rng, canvas.shape)
    coarse = sh.noise(rng, canvas.shape, max(style.grain, 0.3))
    image = canvas.values[0] + style.noise * (0.6 * white + 0.8 * coarse)
    return np.asarray(np.round(np.clip(image, -1024, 3071)), dtype=np.float32)


def body_depth(points: Field) -> Field:
    """0 on the body's axis, 1 at the skin; above the shoulders the body narrows to the neck."""
    neck = np.clip((points[2] - 205) / 30, 0, 1)
    neck = neck * neck * (3 - 2 * neck)
    x = points[0] / (BODY_RADII[0] + neck * (62 - BODY_RADII[0]))
    y = (points[1] + 30 * neck) / (BODY_RADII[1] + neck * (60 - BODY_RADII[1]))
    return np.asarray((np.abs(x) ** 2.4 + np.abs(y) ** 2.4) ** (1 / 2.4), dtype=np.float32)


def _body(canvas: Canvas) -> None:
    x, _, z = canvas.points
    depth = body_depth(canvas.points)
    mean_radius = np.where(z > 225, np.float32(61), np.float32(sum(BODY_RADII) / 2))
    fat = canvas.rng.uniform(0.06, 0.13)
    wall = 1 - fat - canvas.rng.uniform(0.08, 0.11)
    canvas.paint("fat", (depth - 1) * mean_radius, -104 + 7 * canvas.noise(4.0))
    canvas.paint("skin", np.abs(depth - 0.99) * mean_radius - 1.5, 25.0)
    strands = canvas.noise(2.5)
    fibres = 12 * np.sin((x + z) / 2.6 + strands)
    canvas.paint("muscle", (depth - (1 - fat)) * mean_radius, 52 + fibres + 6 * strands)
    canvas.paint("cavity", (depth - wall) * mean_radius, -98 + 9 * canvas.noise(5.0))
    if x.min() < 70 and x.max() > -70:
        for side in (-1, 1):
            psoas = canvas.tube([(side * 22, -46, 10), (side * 42, -34, -130)], (9, 15))
            back = canvas.tube([(side * 25, -68, 330), (side * 25, -68, -200)], (15, 15))
            canvas.paint("muscle", sh.union(psoas, back), 52 + fibres)


def _skeleton(canvas: Canvas) -> None:
    marrow = canvas.noise(3.0)
    density = canvas.rng.uniform(130, 230)
    _spine(canvas, density + 45 * marrow, canvas.rng.uniform(0, 28))
    _ribs(canvas, canvas.rng.uniform(0, 27), 260 + 90 * marrow)
    _pelvis(canvas, 250 + 120 * marrow)


def _spine(canvas: Canvas, marrow: Field, phase: float) -> None:
    x, y, z = canvas.points
    if not canvas.near((0, -60, float(z.mean())), 40):
        return
    column = np.sqrt((x / 18) ** 2 + ((y + 44) / 15) ** 2)
    level = np.abs((z + phase) % 28 - 14)
    waist = 1 + 0.12 * (level / 14) ** 2
    body = (column / waist - 1) * 15
    disc = level > 11.0
    canvas.paint("disc", body, 80.0)
    canvas.paint("spine", np.maximum(body, level - 11.0), np.where(column > 0.82, 480, marrow))
    arch = np.abs(np.sqrt(x**2 + (y + 66) ** 2) - 11.5) - 3.0
    process = np.maximum(np.abs(x) - 4, np.abs(y + 83) - 7)
    transverse = np.maximum(np.abs(y + 68) - 4, np.abs(x) - 30)
    behind = sh.union(arch, np.maximum(sh.union(process, transverse), np.abs(level - 3) - 6))
    canvas.paint("spine", np.where(disc, np.maximum(behind, arch), behind), 0.6 * marrow + 260)
    canvas.paint("canal", np.sqrt(x**2 + (y + 66) ** 2) - 8.5, 22.0)


def _ribs(canvas: Canvas, phase: float, bone: Field) -> None:
    x, y, z = canvas.points
    if z.max() < 40:
        return
    ring = np.abs(body_depth(canvas.points) - 0.86) * 105 - 4.2
    height = z + 0.42 * y + 0.12 * np.abs(x) + phase
    band = np.abs(height % 27 - 13.5) - 5.0
    rib = np.maximum(np.maximum(ring, band), np.maximum(45 - z - 0.3 * y, z - 212))
    rib = np.maximum(rib, 26 - np.sqrt(x**2 + (y - 80) ** 2))
    canvas.paint("rib", rib, np.where(rib > -1.8, bone + 380, bone))
    canvas.paint("rib", canvas.ellipsoid((0, 79, 150), (17, 6, 75)), bone)


def _pelvis(canvas: Canvas, bone: Field) -> None:
    for side in (-1, 1):
        if canvas.near((side * 70, -30, -150), 70):
            turn = sh.rotation((0.35, side * 0.45, side * 0.7))
            wing = canvas.ellipsoid((side * 72, -28, -145), (9, 48, 50), turn)
            canvas.paint("pelvis", wing, np.where(wing > -2.5, bone + 330, bone))
    if canvas.near((0, -62, -150), 60):
        sacrum = canvas.ellipsoid((0, -62, -150), (42, 14, 45))
        canvas.paint("pelvis", sacrum, np.where(sacrum > -2.5, bone + 250, bone))
