"""The images of the spatial pre-training sources: what each shows and how it was acquired."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from voxseq.phantoms import brain, lesions
from voxseq.phantoms.canvas import Canvas
from voxseq.phantoms.chest import ChestFindings
from voxseq.phantoms.shapes import Field, Mask, Shape, Spacing, blur, case_rng, noise
from voxseq.phantoms.torso import CtStyle, scan, torso, vary

Place = tuple[float, float, float]


@dataclass(frozen=True)
class Source:
    """One CT source.

    Attributes:
        places: middles of the imaged regions in mm, one is drawn for each volume.
        extent: imaged mm along x and y, and along z.
        slices: share of the configured number of slices.
        style: scanner protocol.
        affected: share of the volumes with the findings of ``style``; the others have none.
        lesions: share of the volumes with a lesion of one of the types.
        types: types of those lesions, as in DeepLesion.
    """

    places: tuple[Place, ...]
    extent: tuple[float, float]
    slices: float
    style: CtStyle
    affected: float = 0.0
    lesions: float = 0.0
    types: tuple[int, ...] = ()


@dataclass(frozen=True)
class Image:
    """An image (X, Y, Z) in RAS+ order and mm of a voxel; ``canvas`` is the anatomy below it."""

    array: Field
    spacing: Spacing
    canvas: Canvas


_LUNGS: tuple[Place, ...] = ((56, -8, 125), (-56, -8, 125), (0, 0, 130), (50, -10, 150))
_ABDOMEN: tuple[Place, ...] = ((40, 8, 22), (-40, 4, 18), (0, 8, 5), (0, 10, -55))
_TRUNK: tuple[Place, ...] = (*_LUNGS, *_ABDOMEN, (0, 0, -130), (0, -10, 60))
_COVID = ChestFindings(ground_glass=210.0, extent=0.22, dependent=80.0, scars=2)

SOURCES = {
    "ribfrac": Source(
        ((70, -30, 110), (-70, -30, 110), (72, 10, 130), (-72, 0, 90)), (128, 128), 1.0,
        CtStyle(venous=0.05, arterial=0.0, noise=26.0, grain=0.3, lung=-820),
    ),
    "tcia_covid19": Source(
        _LUNGS, (144, 144), 1.0,
        CtStyle(venous=0.0, arterial=0.0, noise=18.0, grain=0.8, pathology=_COVID), affected=0.8,
    ),
    "amos22": Source(
        _ABDOMEN, (128, 128), 1.0, CtStyle(venous=0.7, arterial=0.35, noise=14.0),
        lesions=0.3, types=(2, 4, 6),
    ),
    "abdomenct1k": Source(
        _ABDOMEN, (112, 112), 1.0, CtStyle(venous=0.95, arterial=0.15, noise=11.0),
        lesions=0.5, types=(2, 4, 6),
    ),
    "totalsegmentator": Source(
        _TRUNK, (144, 144), 1.0, CtStyle(venous=0.6, arterial=0.4, noise=15.0),
        lesions=0.3, types=(1, 2, 3, 4, 5, 6, 7, 8),
    ),
    "verse20": Source(
        ((0, -36, 40), (0, -36, -40), (0, -36, 130), (8, -36, 90)), (104, 128), 1.0,
        CtStyle(venous=0.2, arterial=0.1, noise=30.0, grain=0.3), lesions=0.2, types=(1,),
    ),
    "rsna2022_csfd": Source(
        ((0, -30, 262), (0, -30, 280), (0, -28, 248)), (120, 112), 1.0,
        CtStyle(venous=0.0, arterial=0.05, noise=28.0, grain=0.3),
    ),
    "rsna2020_ped": Source(
        ((-10, 0, 140), (20, 0, 140), (-36, 0, 132), (0, 10, 125)), (136, 112), 0.875,
        CtStyle(venous=0.2, arterial=1.2, noise=20.0, pathology=ChestFindings(emboli=True)),
        affected=0.5,
    ),
    "stoic": Source(
        _LUNGS, (160, 160), 0.875,
        CtStyle(venous=0.05, arterial=0.05, noise=22.0, grain=0.6, lung=-810,
                pathology=replace(_COVID, extent=0.3)),
        affected=0.6,
    ),
    "flare22": Source(
        _ABDOMEN, (128, 120), 1.0, CtStyle(venous=0.5, arterial=0.6, noise=17.0),
        lesions=0.4, types=(2, 4, 6),
    ),
    "flare23": Source(
        (*_ABDOMEN, (0, 5, -140), (30, 0, 70)), (136, 136), 1.0,
        CtStyle(venous=0.75, arterial=0.2, noise=16.0, grain=0.7),
        lesions=0.8, types=(2, 4, 6, 7, 8),
    ),
}  # fmt: skip


def source_image(name: str, seed: int, case: int, shape: Shape) -> Image:
    """One CT of a spatial source (HU, whole numbers)."""
    source = SOURCES[name]
    rng = case_rng(seed, name, case)
    style = vary(rng, source.style)
    if rng.random() >= source.affected:
        style = replace(style, pathology=ChestFindings(dependent=style.pathology.dependent))
    size = (shape[0], shape[1], max(1, round(shape[2] * source.slices)))
    zoom = float(rng.uniform(0.88, 1.12))
    spacing = spacing_of(size, (source.extent[0] * zoom,) * 2 + (source.extent[1] * zoom,))
    place = source.places[int(rng.integers(len(source.places)))]
    canvas = torso(rng, size, spacing, place, style)
    if rng.random() < source.lesions:
        kind = int(rng.choice(source.types))
        lesions.typed_lesion(rng, canvas, lesions.LESION_TYPES[kind])
    return Image(scan(rng, canvas, style), spacing, canvas)


def spacing_of(shape: Shape, extent: tuple[float, float, float]) -> Spacing:
    """Voxel size in mm, rounded as files state it."""
    x, y, z = (round(e / n, 3) for e, n in zip(extent, shape, strict=True))
    return x, y, z


#: Relative T1-weighted signal of abdominal structures.
_T1 = {
    "fat": 800, "skin": 420, "muscle": 330, "cavity": 780, "mediastinum": 600, "lung_right": 40,
    "lung_left": 40, "heart": 380, "chamber": 520, "aorta": 560, "cava": 500, "bowel": 360,
    "stomach": 260, "kidney_right": 400, "kidney_left": 400, "colon": 300, "lumen": 30,
    "spleen": 300, "pancreas": 470, "splenic_vein": 520, "liver": 430, "liver_vessel": 540,
    "gallbladder": 200, "disc": 240, "spine": 520, "canal": 180, "rib": 260, "pelvis": 480,
    "bladder": 160, "uterus": 340, "lesion": 250,
}  # fmt: skip


def abdominal_mri(name: str, seed: int, case: int, shape: Shape) -> Image:
    """A T1-weighted abdominal MRI of the same anatomy as the CT sources, arbitrary units."""
    ct = source_image(name, seed, case, shape)
    rng = case_rng(seed, name, case, 1)
    canvas = ct.canvas
    signal = np.zeros(canvas.shape, dtype=np.float32)
    for structure in canvas.names:
        mask = canvas.mask(structure)
        if mask.any():
            mean = canvas.values[0][mask].mean()
            texture = 1 + 0.004 * np.clip(canvas.values[0] - mean, -60, 60)
            signal = np.where(mask, _T1.get(structure, 300) * texture, signal)
    signal = blur(signal.astype(np.float32), 0.5)
    bias = np.exp(0.3 * noise(rng, canvas.shape, canvas.scale(60.0)))
    level = float(rng.uniform(14, 28))
    real = signal * bias + level * noise(rng, canvas.shape)
    image = np.sqrt(real**2 + (level * noise(rng, canvas.shape)) ** 2)
    return Image(np.round(image).astype(np.float32), ct.spacing, canvas)


@dataclass(frozen=True)
class Stroke:
    """One ISLES case: contrast → image; DWI and ADC share a grid with ``mask``, FLAIR has its
    own."""

    images: dict[str, Image]
    mask: Field


def stroke_case(name: str, seed: int, case: int, shape: Shape) -> Stroke:
    """A brain with an infarct in DWI, ADC and FLAIR."""
    slices = max(1, round(shape[2] * 0.75))
    # The same generator twice gives the same head; FLAIR has another grid: not registered.
    rng = case_rng(seed, name, case)
    diffusion, spacing, voxels = _stroke(rng, (shape[0], shape[1], slices))
    dwi, adc = (brain.acquire(rng, diffusion, i, share) for i, share in ((0, 0.05), (1, 0.03)))
    again = case_rng(seed, name, case)
    larger = (round(shape[0] * 1.125), round(shape[1] * 1.125), slices)
    canvas, flair_spacing, _ = _stroke(again, larger)
    flair = brain.acquire(again, canvas, 2, 0.04)
    images = {
        "dwi": Image(dwi, spacing, diffusion),
        "adc": Image(adc, spacing, diffusion),
        "FLAIR": Image(flair, flair_spacing, canvas),
    }
    return Stroke(images, voxels.astype(np.float32))


def _stroke(rng: np.random.Generator, size: Shape) -> tuple[Canvas, Spacing, Mask]:
    spacing = spacing_of(size, (172, 172, 134))
    canvas = brain.brain(rng, size, spacing, brain.ISLES_TISSUES)
    return canvas, spacing, brain.infarct(rng, canvas)
