"""Abdominal organs of the CT torso, each with its own shape, enhancement and texture."""

from __future__ import annotations

import numpy as np

from voxseq.phantoms.canvas import Canvas
from voxseq.phantoms.shapes import (
    Branch,
    Field,
    bend,
    ellipsoid,
    noise,
    rotation,
    tree,
    tree_distance,
    tube,
    union,
)

PANCREAS_PATH = ((27, 8, -16), (16, 18, -2), (-8, 16, 5), (-34, 4, 14), (-56, -10, 24))
PANCREAS_RADII = (12.0, 11.0, 8.5, 9.0, 7.5)
COLON_PATH = (
    (74, -4, -125), (80, -8, -70), (82, 2, -25), (62, 40, -28), (25, 60, -50), (-20, 60, -52),
    (-60, 38, -18), (-82, -6, 2), (-86, -20, -50), (-80, -14, -110), (-52, 4, -138),
    (-12, -18, -150),
)  # fmt: skip


def paint(rng: np.random.Generator, canvas: Canvas, venous: float, arterial: float) -> None:
    """Paint all abdominal organs that can lie on the canvas."""
    if canvas.points[2].min() > 130:
        _great_vessels(rng, canvas, venous, arterial)
        return
    _pelvic_organs(rng, canvas)
    _bowel(rng, canvas)
    _great_vessels(rng, canvas, venous, arterial)
    _stomach(rng, canvas)
    _kidneys(rng, canvas, venous, arterial)
    _colon(rng, canvas)
    _spleen(rng, canvas, venous, arterial)
    _pancreas(rng, canvas, venous)
    _liver(rng, canvas, venous)


def _jitter(rng: np.random.Generator, centre: tuple[float, ...], mm: float) -> list[float]:
    return [float(c + s) for c, s in zip(centre, rng.normal(0, mm, 3), strict=True)]


def _radii(rng: np.random.Generator, radii: tuple[float, ...], share: float = 0.09) -> list[float]:
    return [float(r * s) for r, s in zip(radii, np.exp(rng.normal(0, share, 3)), strict=True)]


def _bowel(rng: np.random.Generator, canvas: Canvas) -> None:
    """Loops of small bowel: level sets of a random field inside an ellipsoid."""
    if not canvas.near((0, 20, -75), 75):
        return
    room = ellipsoid(canvas.points, (0, 22, -75), (66, 42, 58))
    loops = (np.abs(noise(rng, canvas.shape, canvas.scale(9.0))) - 0.75) * 10
    wall = 45 + 8 * noise(rng, canvas.shape, canvas.scale(3.0))
    inside = np.maximum(room, loops)
    canvas.paint("bowel", inside, wall)
    canvas.paint("bowel", inside + 5, 15.0)


def _pelvic_organs(rng: np.random.Generator, canvas: Canvas) -> None:
    if not canvas.near((0, 0, -170), 45):
        return
    bladder = ellipsoid(canvas.points, _jitter(rng, (0, 32, -172), 4), _radii(rng, (34, 27, 28)))
    canvas.paint("bladder", bladder, 45.0)
    canvas.paint("bladder", bladder + 3.5, 8.0)
    uterus = ellipsoid(canvas.points, _jitter(rng, (4, -8, -158), 5), _radii(rng, (22, 18, 18)))
    fibres = noise(rng, canvas.shape, canvas.scale(4.0))
    canvas.paint("uterus", uterus, 72 + 9 * fibres)


def _great_vessels(
    rng: np.random.Generator, canvas: Canvas, venous: float, arterial: float
) -> None:
    if canvas.near((-12, -28, float(canvas.points[2].mean())), 30):
        path = bend(rng, (-12, -30, 190), (-4, -30, -110), 6, 4)
        aorta = tube(canvas.points, list(path), (11, 10.5, 10, 9.5, 9, 8)).distance
        canvas.paint("aorta", aorta, 42 + 85 * venous + 190 * arterial)
        canvas.paint("", np.abs(aorta) - 0.4, 60 + 60 * venous)
    if canvas.near((14, -24, 0), 100):
        path = bend(rng, (14, -14, 95), (14, -30, -115), 5, 3)
        cava = tube(canvas.points, list(path), (11, 11, 10, 9.5, 9)).distance
        canvas.paint("cava", cava, 40 + 80 * venous)


def _stomach(rng: np.random.Generator, canvas: Canvas) -> None:
    if not canvas.near((-42, 30, 40), 40):
        return
    body = ellipsoid(canvas.points, _jitter(rng, (-44, 26, 46), 5), _radii(rng, (26, 27, 34)))
    antrum = tube(canvas.points, [(-36, 40, 22), (2, 44, 2), (20, 30, -2)], (18, 12, 8)).distance
    stomach = union(body, antrum, blend=8)
    folds = noise(rng, canvas.shape, canvas.scale(3.5))
    canvas.paint("stomach", stomach, 70 + 10 * folds)
    content = 18 + 22 * noise(rng, canvas.shape, canvas.scale(6.0))
    canvas.paint("stomach", stomach + 4 + folds, content)
    gas_level = float(rng.uniform(36, 52))
    canvas.paint("stomach", np.maximum(stomach + 5, gas_level - canvas.points[1]), -850.0)


def _kidneys(rng: np.random.Generator, canvas: Canvas, venous: float, arterial: float) -> None:
    for side, z in ((1, -24), (-1, -14)):
        if not canvas.near((side * 52, -38, z), 45):
            continue
        centre = _jitter(rng, (side * 52, -40, z), 4)
        turn = rotation((0.1, side * 0.25, side * 0.4))
        whole = ellipsoid(canvas.points, centre, _radii(rng, (22, 19, 37)), turn)
        pyramids = noise(rng, canvas.shape, canvas.scale(4.5))
        cortex = 35 + 90 * venous + 70 * arterial
        medulla = 35 + 105 * venous - 20 * arterial
        inner = np.clip((-whole - 5) / 4, 0, 1) * (pyramids > 0)
        name = "kidney_right" if side > 0 else "kidney_left"
        canvas.paint(name, whole, (cortex + (medulla - cortex) * inner).astype(np.float32))
        hilum = [centre[0] - side * 9, centre[1] + 3, centre[2]]
        canvas.paint(name, ellipsoid(canvas.points, hilum, (8, 7, 17), turn), -60.0)


def _colon(rng: np.random.Generator, canvas: Canvas) -> None:
    """A haustrated tube with a wall, gas in front and stool behind."""
    path = np.asarray(COLON_PATH) + rng.normal(0, 3.5, (len(COLON_PATH), 3))
    radius = float(rng.uniform(13.5, 17))
    centre = tuple(float(v) for v in canvas.points.reshape(3, -1).mean(1))
    reach = float(np.abs(canvas.points.reshape(3, -1) - np.asarray(centre)[:, None]).max(1).max())
    pieces = _near_pieces(path, np.asarray(centre), 1.8 * reach + radius)
    if not pieces:
        return
    tubes = [tube(canvas.points, [path[i], path[i + 1]], (radius, radius)) for i in pieces]
    distance = union(*[t.distance for t in tubes])
    lengths = np.stack([t.along for t in tubes])
    nearest = np.argmin(np.stack([t.distance for t in tubes]), 0)
    along = np.take_along_axis(lengths, nearest[None], 0)[0]
    outer = distance + 2.2 * np.cos(2 * np.pi * along / 19.0)
    wall = 52 + 8 * noise(rng, canvas.shape, canvas.scale(3.0))
    canvas.paint("colon", outer, wall)
    stool = -30 + 120 * noise(rng, canvas.shape, canvas.scale(3.0))
    canvas.paint("colon", outer + 3.5, np.clip(stool, -400, 160))
    front = canvas.points[1] - float(rng.normal(0, 8)) - path[pieces].mean(0)[1]
    canvas.paint("lumen", np.maximum(outer + 3.5, -front), -880.0)


def _near_pieces(path: Field, centre: Field, reach: float) -> list[int]:
    middle = (path[:-1] + path[1:]) / 2
    half = np.linalg.norm(path[1:] - path[:-1], axis=1) / 2
    near = np.linalg.norm(middle - centre, axis=1) < reach + half
    return [int(i) for i in np.flatnonzero(near)]


def _spleen(rng: np.random.Generator, canvas: Canvas, venous: float, arterial: float) -> None:
    if not canvas.near((-78, -22, 36), 48):
        return
    turn = rotation((0.35, 0.2, 0.35))
    spleen = ellipsoid(
        canvas.points, _jitter(rng, (-78, -22, 36), 4), _radii(rng, (20, 34, 38), 0.14), turn
    )
    notch = ellipsoid(canvas.points, _jitter(rng, (-50, -2, 34), 4), (24, 26, 40))
    spleen = np.maximum(spleen, -notch)
    stripes = np.sin(noise(rng, canvas.shape, canvas.scale(7.0)) * 4)
    fine = noise(rng, canvas.shape, canvas.scale(2.2))
    values = 46 + 76 * venous + (4 + 26 * arterial) * stripes + 4 * fine
    canvas.paint("spleen", spleen, values)


def _pancreas(rng: np.random.Generator, canvas: Canvas, venous: float) -> None:
    """A lobulated gland: lobules are parted by clefts of fat."""
    if not canvas.near((-15, 5, 5), 62):
        return
    path = np.asarray(PANCREAS_PATH) + rng.normal(0, 3.0, (5, 3))
    radii = np.asarray(PANCREAS_RADII) * np.exp(rng.normal(0, 0.1, 5)) * rng.uniform(0.95, 1.15)
    lobules = noise(rng, canvas.shape, canvas.scale(3.6))
    gland = tube(canvas.points, list(path), [float(r) for r in radii]).distance + 1.2 * lobules
    clefts = np.clip(-lobules - 0.7, 0, 1.2)
    canvas.paint("pancreas", gland, 42 + 58 * venous + 7 * lobules - 55 * clefts)
    vein = tube(canvas.points, [path[1] + (0, -11, -2), path[3] + (0, -10, 0)], (5, 3.5)).distance
    canvas.paint("splenic_vein", vein, 45 + 110 * venous)


def _liver(rng: np.random.Generator, canvas: Canvas, venous: float) -> None:
    if not canvas.near((45, 10, 38), 85):
        return
    right = ellipsoid(canvas.points, _jitter(rng, (56, 2, 36), 4), _radii(rng, (48, 52, 54)))
    left = ellipsoid(canvas.points, _jitter(rng, (6, 36, 44), 4), _radii(rng, (46, 24, 28)))
    liver = union(right, left, blend=14)
    steatosis = float(np.clip(rng.normal(0, 7), -18, 8))
    grain = noise(rng, canvas.shape, canvas.scale(2.0))
    patches = noise(rng, canvas.shape, canvas.scale(14.0))
    canvas.paint("liver", liver, 56 + 52 * venous + steatosis + 4.5 * grain + 3 * patches)
    portal, hepatic = liver_vessels(rng)
    for branches, gain in ((portal, 1.0), (hepatic, 0.85)):
        vessel = tree_distance(canvas.points, branches, liver < -1)
        canvas.paint("liver_vessel", vessel, 48 + 112 * venous * gain)
    gallbladder = ellipsoid(canvas.points, _jitter(rng, (40, 40, 2), 3), (11, 12, 19))
    canvas.paint("gallbladder", gallbladder, 9.0)
    canvas.paint("", np.abs(gallbladder) - 0.8, 45.0)


def liver_vessels(rng: np.random.Generator) -> tuple[list[Branch], list[Branch]]:
    """Portal and hepatic venous trees (mm) in the torso's frame."""
    trunk = float(rng.uniform(5.6, 6.8))
    hilum = _jitter(rng, (22, 14, 18), 2)
    portal = [
        *tree(rng, hilum, (1.0, -0.15, 0.35), length=24, radius=trunk, generations=4),
        *tree(rng, hilum, (-0.5, 0.8, 0.5), length=20, radius=0.8 * trunk, generations=3),
    ]
    dome = _jitter(rng, (18, -10, 78), 2)
    hepatic: list[Branch] = []
    for heading in ((1.0, -0.2, -0.6), (0.7, 0.9, -0.7), (-0.3, 1.0, -0.5)):
        hepatic += tree(rng, dome, heading, length=30, radius=0.85 * trunk, generations=3)
    return portal, hepatic
