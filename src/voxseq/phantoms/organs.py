"""Organs of the CT torso, each with its own shape, enhancement and texture.

The chest comes with the findings of the pulmonary data sets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from voxseq.phantoms import shapes as sh
from voxseq.phantoms.shapes import Branch, Canvas, Field, Rng

PANCREAS_PATH = ((27, 8, -16), (16, 18, -2), (-8, 16, 5), (-34, 4, 14), (-56, -10, 24))
PANCREAS_RADII = (12.0, 11.0, 8.5, 9.0, 7.5)
LUNG_CENTRES = {"lung_right": (58.0, -4.0, 130.0), "lung_left": (-58.0, -6.0, 132.0)}
LUNG_RADII = (47.0, 66.0, 92.0)
_HEART = (-16, 26, 108)
#: Blood pools of the heart: centre and radii.
_POOLS = (
    ((-26, 18, 104), (21, 18, 24)),
    ((6, 36, 104), (19, 16, 25)),
    ((-10, 0, 118), (24, 14, 15)),
)
COLON_PATH = (
    (74, -4, -125), (80, -8, -70), (82, 2, -25), (62, 40, -28), (25, 60, -50), (-20, 60, -52),
    (-60, 38, -18), (-82, -6, 2), (-86, -20, -50), (-80, -14, -110), (-52, 4, -138),
    (-12, -18, -150),
)  # fmt: skip


def paint_abdomen(canvas: Canvas, venous: float, arterial: float) -> None:
    """Paint all abdominal organs that can lie on the canvas."""
    is_above = canvas.points[2].min() > 130
    if not is_above and canvas.near((0, 0, -170), 45):
        _pelvic_organs(canvas)
    if not is_above and canvas.near((0, 20, -75), 75):
        _bowel(canvas)
    _great_vessels(canvas, venous, arterial)
    if is_above:
        return
    if canvas.near((-42, 30, 40), 40):
        _stomach(canvas)
    for side, z in ((1, -24), (-1, -14)):
        if canvas.near((side * 52, -38, z), 45):
            _kidney(canvas, side, z, venous, arterial)
    _colon(canvas)
    if canvas.near((-78, -22, 36), 48):
        _spleen(canvas, venous, arterial)
    if canvas.near((-15, 5, 5), 62):
        _pancreas(canvas, venous)
    if canvas.near((45, 10, 38), 85):
        _liver(canvas, venous)


def _bowel(canvas: Canvas) -> None:
    """Loops of small bowel: level sets of a random field inside an ellipsoid."""
    room = canvas.ellipsoid((0, 22, -75), (66, 42, 58))
    inside = np.maximum(room, (np.abs(canvas.noise(9.0)) - 0.75) * 10)
    canvas.paint("bowel", inside, 45 + 8 * canvas.noise(3.0))
    canvas.paint("bowel", inside + 5, 15.0)


def _pelvic_organs(canvas: Canvas) -> None:
    bladder = canvas.ellipsoid(canvas.jitter((0, 32, -172), 4), canvas.about((34, 27, 28)))
    canvas.paint("bladder", bladder, 45.0)
    canvas.paint("bladder", bladder + 3.5, 8.0)
    uterus = canvas.ellipsoid(canvas.jitter((4, -8, -158), 5), canvas.about((22, 18, 18)))
    canvas.paint("uterus", uterus, 72 + 9 * canvas.noise(4.0))


def _great_vessels(canvas: Canvas, venous: float, arterial: float) -> None:
    if canvas.near((-12, -28, float(canvas.points[2].mean())), 30):
        path = sh.bend(canvas.rng, (-12, -30, 190), (-4, -30, -110), 6, 4)
        aorta = canvas.tube(list(path), (11, 10.5, 10, 9.5, 9, 8))
        canvas.paint("aorta", aorta, 42 + 85 * venous + 190 * arterial)
        canvas.paint("", np.abs(aorta) - 0.4, 60 + 60 * venous)
    if canvas.near((14, -24, 0), 100):
        path = sh.bend(canvas.rng, (14, -14, 95), (14, -30, -115), 5, 3)
        canvas.paint("cava", canvas.tube(list(path), (11, 11, 10, 9.5, 9)), 40 + 80 * venous)


def _stomach(canvas: Canvas) -> None:
    body = canvas.ellipsoid(canvas.jitter((-44, 26, 46), 5), canvas.about((26, 27, 34)))
    antrum = canvas.tube([(-36, 40, 22), (2, 44, 2), (20, 30, -2)], (18, 12, 8))
    stomach = sh.union(body, antrum, blend=8)
    folds = canvas.noise(3.5)
    canvas.paint("stomach", stomach, 70 + 10 * folds)
    canvas.paint("stomach", stomach + 4 + folds, 18 + 22 * canvas.noise(6.0))
    gas_level = float(canvas.rng.uniform(36, 52))
    canvas.paint("stomach", np.maximum(stomach + 5, gas_level - canvas.points[1]), -850.0)


def _kidney(canvas: Canvas, side: int, z: float, venous: float, arterial: float) -> None:
    centre = canvas.jitter((side * 52, -40, z), 4)
    turn = sh.rotation((0.1, side * 0.25, side * 0.4))
    whole = canvas.ellipsoid(centre, canvas.about((22, 19, 37)), turn)
    pyramids = canvas.noise(4.5)
    cortex = 35 + 90 * venous + 70 * arterial
    medulla = 35 + 105 * venous - 20 * arterial
    inner = np.clip((-whole - 5) / 4, 0, 1) * (pyramids > 0)
    name = "kidney_right" if side > 0 else "kidney_left"
    canvas.paint(name, whole, (cortex + (medulla - cortex) * inner).astype(np.float32))
    hilum = [centre[0] - side * 9, centre[1] + 3, centre[2]]
    canvas.paint(name, canvas.ellipsoid(hilum, (8, 7, 17), turn), -60.0)


def _colon(canvas: Canvas) -> None:
    """A haustrated tube with a wall, gas in front and stool behind."""
    points, rng = canvas.points, canvas.rng
    path = np.asarray(COLON_PATH) + rng.normal(0, 3.5, (len(COLON_PATH), 3))
    radius = float(rng.uniform(13.5, 17))
    centre = points.reshape(3, -1).mean(1).astype(np.float64)
    reach = float(np.abs(points.reshape(3, -1) - centre[:, None]).max(1).max())
    pieces = _near_pieces(path, centre, 1.8 * reach + radius)
    if not pieces:
        return
    tubes = [sh.tube(points, [path[i], path[i + 1]], (radius, radius)) for i in pieces]
    distance = sh.union(*[t.distance for t in tubes])
    lengths = np.stack([t.along for t in tubes])
    nearest = np.argmin(np.stack([t.distance for t in tubes]), 0)
    along = np.take_along_axis(lengths, nearest[None], 0)[0]
    outer = distance + 2.2 * np.cos(2 * np.pi * along / 19.0)
    canvas.paint("colon", outer, 52 + 8 * canvas.noise(3.0))
    stool = -30 + 120 * canvas.noise(3.0)
    canvas.paint("colon", outer + 3.5, np.clip(stool, -400, 160))
    front = points[1] - float(rng.normal(0, 8)) - path[pieces].mean(0)[1]
    canvas.paint("lumen", np.maximum(outer + 3.5, -front), -880.0)


def _near_pieces(path: Field, centre: Field, reach: float) -> list[int]:
    middle = (path[:-1] + path[1:]) / 2
    half = np.linalg.norm(path[1:] - path[:-1], axis=1) / 2
    near = np.linalg.norm(middle - centre, axis=1) < reach + half
    return [int(i) for i in np.flatnonzero(near)]


def _spleen(canvas: Canvas, venous: float, arterial: float) -> None:
    centre, radii = canvas.jitter((-78, -22, 36), 4), canvas.about((20, 34, 38), 0.14)
    spleen = canvas.ellipsoid(centre, radii, sh.rotation((0.35, 0.2, 0.35)))
    notch = canvas.ellipsoid(canvas.jitter((-50, -2, 34), 4), (24, 26, 40))
    stripes = np.sin(canvas.noise(7.0) * 4)
    values = 46 + 76 * venous + (4 + 26 * arterial) * stripes + 4 * canvas.noise(2.2)
    canvas.paint("spleen", np.maximum(spleen, -notch), values)


def _pancreas(canvas: Canvas, venous: float) -> None:
    """A lobulated gland: lobules are parted by clefts of fat."""
    rng = canvas.rng
    path = np.asarray(PANCREAS_PATH) + rng.normal(0, 3.0, (5, 3))
    radii = np.asarray(PANCREAS_RADII) * np.exp(rng.normal(0, 0.1, 5)) * rng.uniform(0.95, 1.15)
    lobules = canvas.noise(3.6)
    gland = canvas.tube(list(path), [float(r) for r in radii]) + 1.2 * lobules
    clefts = np.clip(-lobules - 0.7, 0, 1.2)
    canvas.paint("pancreas", gland, 42 + 58 * venous + 7 * lobules - 55 * clefts)
    vein = canvas.tube([path[1] + (0, -11, -2), path[3] + (0, -10, 0)], (5, 3.5))
    canvas.paint("splenic_vein", vein, 45 + 110 * venous)


def _liver(canvas: Canvas, venous: float) -> None:
    right = canvas.ellipsoid(canvas.jitter((56, 2, 36), 4), canvas.about((48, 52, 54)))
    left = canvas.ellipsoid(canvas.jitter((6, 36, 44), 4), canvas.about((46, 24, 28)))
    liver = sh.union(right, left, blend=14)
    steatosis = float(np.clip(canvas.rng.normal(0, 7), -18, 8))
    grain, patches = canvas.noise(2.0), canvas.noise(14.0)
    canvas.paint("liver", liver, 56 + 52 * venous + steatosis + 4.5 * grain + 3 * patches)
    portal, hepatic = _liver_vessels(canvas)
    for branches, gain in ((portal, 1.0), (hepatic, 0.85)):
        vessel = sh.tree_distance(canvas.points, branches, liver < -1)
        canvas.paint("liver_vessel", vessel, 48 + 112 * venous * gain)
    gallbladder = canvas.ellipsoid(canvas.jitter((40, 40, 2), 3), (11, 12, 19))
    canvas.paint("gallbladder", gallbladder, 9.0)
    canvas.paint("", np.abs(gallbladder) - 0.8, 45.0)


def _liver_vessels(canvas: Canvas) -> tuple[list[Branch], list[Branch]]:
    """Portal and hepatic venous trees (mm) in the torso's frame."""
    rng = canvas.rng
    trunk = float(rng.uniform(5.6, 6.8))
    hilum = canvas.jitter((22, 14, 18), 2)
    portal = [
        *sh.tree(rng, hilum, (1.0, -0.15, 0.35), length=24, radius=trunk, generations=4),
        *sh.tree(rng, hilum, (-0.5, 0.8, 0.5), length=20, radius=0.8 * trunk, generations=3),
    ]
    dome = canvas.jitter((18, -10, 78), 2)
    hepatic: list[Branch] = []
    for heading in ((1.0, -0.2, -0.6), (0.7, 0.9, -0.7), (-0.3, 1.0, -0.5)):
        hepatic += sh.tree(rng, dome, heading, length=30, radius=0.85 * trunk, generations=3)
    return portal, hepatic


@dataclass(frozen=True)
class ChestFindings:
    """Findings in a chest."""

    ground_glass: float = 0.0  #: added HU of hazy patches, the finding of COVID-19 pneumonia
    extent: float = 0.0  #: share of the lung that each kind of haze covers
    #: added HU of haze around the hila, as in oedema; looks alike but lies elsewhere
    congestion: float = 0.0
    #: HU gradient (per 100 mm) towards the back, as in shallow inspiration
    dependent: float = 60.0
    emboli: bool = False  #: whether clots fill parts of the pulmonary arteries
    scars: int = 0  #: dense bands and consolidated spots that occur with and without pneumonia


HEALTHY = ChestFindings()


def paint_chest(canvas: Canvas, lung: float, arterial: float, found: ChestFindings) -> None:
    """Paint everything above the diaphragm."""
    x, _, z = canvas.points
    if z.max() < 35:
        return
    middle = canvas.ellipsoid((0, 5, 140), (36, 66, 90))
    canvas.paint("mediastinum", middle, -70 + 12 * canvas.noise(5.0))
    density = _parenchyma(canvas, lung, found)
    for name, centre in LUNG_CENTRES.items():
        shape = canvas.ellipsoid(canvas.jitter(centre, 3), canvas.about(LUNG_RADII, 0.05))
        shape = np.maximum(shape, 12 + 10 * np.cos((z - 110) / 40) - np.abs(x))
        canvas.paint(name, shape, density)
        branches = lung_vessels(canvas.rng, centre)
        vessels = sh.tree_distance(canvas.points, branches, shape < -1.5)
        canvas.paint("", vessels, 30 + 160 * arterial, edge=1.2)
    if found.scars:
        _scars(canvas, found.scars)
    if canvas.near(_HEART, 50):
        _heart(canvas, arterial)
    if canvas.near((0, 0, 150), 190):
        _hilum(canvas, arterial, found.emboli)
    if canvas.near((0, -12, 270), 60):
        _neck(canvas, 45 + 190 * arterial)


def lung_vessels(rng: Rng, centre: tuple[float, float, float]) -> list[Branch]:
    """Pulmonary vessels (mm) that fan out from the hilum of one lung."""
    side = float(np.sign(centre[0]))
    hilum = (side * 26.0, -8.0, 122.0)
    branches: list[Branch] = []
    for heading in ((0.5, 0.7, 0.8), (0.9, -0.1, 0.1), (0.5, -0.5, -0.9), (0.6, -0.8, 0.5)):
        turned = np.asarray((side * heading[0], heading[1], heading[2])) + rng.normal(0, 0.15, 3)
        branches += sh.tree(rng, hilum, turned, length=26, radius=4.4, generations=3)
    return branches


def _parenchyma(canvas: Canvas, lung: float, found: ChestFindings) -> Field:
    fine = canvas.noise(2.5)
    lobules = canvas.noise(7.0)
    density = lung + 16 * fine + 12 * lobules - found.dependent * canvas.points[1] / 100
    for amount, peripheral in ((found.ground_glass, True), (found.congestion, False)):
        if amount > 0:
            patches = haze(canvas, found.extent, peripheral)
            density = density + patches * (amount + 45 * fine)
    return np.asarray(density, dtype=np.float32)


def haze(canvas: Canvas, extent: float, peripheral: bool) -> Field:
    """Hazy patches (0..1) that cover about ``extent`` of the lungs: along the pleura and towards
    the back (ground-glass opacity of COVID-19), or around the hila (congestion)."""
    x, y, z = canvas.points
    patches = canvas.noise(9.0)
    lungs = sh.union(*(canvas.ellipsoid(centre, LUNG_RADII) for centre in LUNG_CENTRES.values()))
    if not (lungs < 0).any():
        return np.zeros(canvas.shape, dtype=np.float32)
    if peripheral:
        where = np.exp(-(((lungs + 9) / 14) ** 2)) - 0.006 * y
    else:
        hilum = np.sqrt((np.abs(x) - 34) ** 2 + (y + 4) ** 2 + ((z - 126) / 1.6) ** 2)
        where = 1.4 * np.exp(-((hilum / 26) ** 2))
    score = patches + 1.4 * where
    threshold = float(np.quantile(score[lungs < 0], 1 - extent))
    return np.asarray(1 / (1 + np.exp(-(score - threshold) / 0.22)), dtype=np.float32)


def _scars(canvas: Canvas, count: int) -> None:
    """Bands and small dense spots, a distractor for whoever measures mean density."""
    rng, lungs = canvas.rng, canvas.mask("lung_right", "lung_left")
    for _ in range(count if lungs.any() else 0):
        where = canvas.pick(lungs, 8.0)
        if rng.random() < 0.5:
            spot = canvas.ellipsoid(where, rng.uniform(4, 10, 3).tolist())
            canvas.paint("", spot, float(rng.uniform(-80, 40)), edge=1.3)
        else:
            band = canvas.tube([where, where + rng.normal(0, 22, 3)], (3.0, 2.0))
            canvas.paint("", band, float(rng.uniform(-300, -50)), edge=1.3)


def _heart(canvas: Canvas, arterial: float) -> None:
    centre = canvas.jitter(_HEART, 3)
    muscle = canvas.ellipsoid(centre, (42, 38, 38))
    fibres = canvas.noise(3.0)
    canvas.paint("heart", muscle, 55 + 45 * arterial + 6 * fibres)
    for pool, radii in _POOLS:
        moved = np.asarray(pool) + np.asarray(centre) - _HEART
        chamber = canvas.ellipsoid(moved, radii) + 1.2 * fibres
        canvas.paint("chamber", np.maximum(chamber, muscle + 3), 44 + 190 * arterial)


def _hilum(canvas: Canvas, arterial: float, emboli: bool) -> None:
    arch = canvas.tube([(8, 30, 140), (4, 32, 168), (-10, 8, 178), (-13, -26, 160)], (12,) * 4)
    canvas.paint("aorta", arch, 44 + 200 * arterial)
    arteries = sh.union(
        canvas.tube([(-8, 32, 140), (-10, 14, 150), (-34, -6, 146)], (11, 10, 8)),
        canvas.tube([(-8, 16, 148), (18, 4, 142), (38, -4, 136)], (9, 9, 7)),
    )
    canvas.paint("pulmonary_artery", arteries, 42 + 260 * arterial)
    airway = sh.union(
        canvas.tube([(0, -8, 340), (0, -10, 160)], (8, 8)),
        canvas.tube([(0, -10, 162), (34, -12, 138)], (6.5, 5)),
        canvas.tube([(0, -10, 162), (-34, -12, 140)], (6, 4.5)),
    )
    canvas.paint("", airway - 2.0, 20.0)
    canvas.paint("airway", airway, -960.0)
    if emboli:
        clot = sh.blur(sh.noise(canvas.rng, canvas.shape), canvas.scale(6.0))
        share = np.clip(clot / max(float(clot.std()), 1e-6) - 0.4, 0, 1)
        canvas.paint("", np.maximum(arteries + 1.5, 0.3 - share), 55.0)


def _neck(canvas: Canvas, blood: float) -> None:
    for side in (-1, 1):
        sway = canvas.rng.normal(0, 2, 2)
        path = [(side * 14, -4, 185), (side * 24 + sway[0], -12 + sway[1], 330)]
        canvas.paint("carotid", canvas.tube(path, (5.5, 5.0)), blood)
        beside = [(a + side * 10, b + 3, c) for a, b, c in path]
        canvas.paint("jugular", canvas.tube(beside, (6.0, 6.5)), 0.8 * blood)
        thyroid = canvas.ellipsoid((side * 15, -2, 250), (8, 10, 20))
        canvas.paint("thyroid", thyroid, 105 + 8 * canvas.noise(3.0))
