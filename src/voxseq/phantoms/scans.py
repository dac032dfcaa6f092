"""The images of the data sets with torsos and strokes: what each shows and how it was acquired."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from voxseq.phantoms import lesions, mri
from voxseq.phantoms import shapes as sh
from voxseq.phantoms.organs import ChestFindings
from voxseq.phantoms.shapes import Canvas, Field, Mask, Rng, Shape, Spacing
from voxseq.phantoms.torso import CtStyle, scan, torso

Place = tuple[float, float, float]


class Image(NamedTuple):
    """An image (X, Y, Z) in RAS+ order, mm of a voxel, and the anatomy below it."""

    array: NDArray[Any]
    spacing: Spacing
    canvas: Canvas


@dataclass(frozen=True)
class ScannerStyle:
    """How the volumes of one CT source are taken."""

    places: tuple[Place, ...]  #: middles of the imaged regions in mm, one is drawn for each volume
    extent: tuple[float, float]  #: imaged mm along x and y, and along z
    style: CtStyle  #: scanner protocol
    slices: float = 1.0  #: share of the configured number of slices
    affected: float = 0.0  #: share of the volumes with the findings of ``style``
    lesions: float = 0.0  #: share of the volumes with a lesion of one of the types
    types: tuple[int, ...] = ()  #: types of those lesions, as in DeepLesion


_LUNGS: tuple[Place, ...] = ((56, -8, 125), (-56, -8, 125), (0, 0, 130), (50, -10, 150))
_ABDOMEN: tuple[Place, ...] = ((40, 8, 22), (-40, 4, 18), (0, 8, 5), (0, 10, -55))
_TRUNK: tuple[Place, ...] = (*_LUNGS, *_ABDOMEN, (0, 0, -130), (0, -10, 60))
_COVID = ChestFindings(ground_glass=210.0, extent=0.22, dependent=80.0, scars=2)

SOURCES = {
    "ribfrac": ScannerStyle(
        ((70, -30, 110), (-70, -30, 110), (72, 10, 130), (-72, 0, 90)), (128, 128),
        CtStyle(venous=0.05, arterial=0.0, noise=26.0, grain=0.3, lung=-820)),
    "tcia_covid19": ScannerStyle(
        _LUNGS, (144, 144), CtStyle(venous=0.0, arterial=0.0, noise=18.0, grain=0.8, found=_COVID),
        affected=0.8),
    "amos22": ScannerStyle(
        _ABDOMEN, (128, 128), CtStyle(venous=0.7, arterial=0.35), lesions=0.3, types=(2, 4, 6)),
    "abdomenct1k": ScannerStyle(
        _ABDOMEN, (112, 112), CtStyle(venous=0.95, arterial=0.15, noise=11.0),
        lesions=0.5, types=(2, 4, 6)),
    "totalsegmentator": ScannerStyle(
        _TRUNK, (144, 144), CtStyle(venous=0.6, arterial=0.4, noise=15.0),
        lesions=0.3, types=(1, 2, 3, 4, 5, 6, 7, 8)),
    "verse20": ScannerStyle(
        ((0, -36, 40), (0, -36, -40), (0, -36, 130), (8, -36, 90)), (104, 128),
        CtStyle(venous=0.2, arterial=0.1, noise=30.0, grain=0.3), lesions=0.2, types=(1,)),
    "rsna2022_csfd": ScannerStyle(
        ((0, -30, 262), (0, -30, 280), (0, -28, 248)), (120, 112),
        CtStyle(venous=0.0, arterial=0.05, noise=28.0, grain=0.3)),
    "rsna2020_ped": ScannerStyle(
        ((-10, 0, 140), (20, 0, 140), (-36, 0, 132), (0, 10, 125)), (136, 112),
        CtStyle(venous=0.2, arterial=1.2, noise=20.0, found=ChestFindings(emboli=True)),
        slices=0.875, affected=0.5),
    "stoic": ScannerStyle(
        _LUNGS, (160, 160),
        CtStyle(venous=0.05, arterial=0.05, noise=22.0, grain=0.6, lung=-810,
                found=replace(_COVID, extent=0.3)), slices=0.875, affected=0.6),
    "flare22": ScannerStyle(
        _ABDOMEN, (128, 120), CtStyle(venous=0.5, arterial=0.6, noise=17.0),
        lesions=0.4, types=(2, 4, 6)),
    "flare23": ScannerStyle(
        (*_ABDOMEN, (0, 5, -140), (30, 0, 70)), (136, 136),
        CtStyle(venous=0.75, arterial=0.2, noise=16.0, grain=0.7),
        lesions=0.8, types=(2, 4, 6, 7, 8)),
}  # fmt: skip


def source_image(name: str, seed: int, case: int, shape: Shape) -> Image:
    """One CT of a spatial source (HU, whole numbers)."""
    source = SOURCES[name]
    rng = sh.case_rng(seed, name, case)
    style = source.style.vary(rng)
    if rng.random() >= source.affected:
        style = replace(style, found=ChestFindings(dependent=style.found.dependent))
    size = (shape[0], shape[1], max(1, round(shape[2] * source.slices)))
    zoom = float(rng.uniform(0.88, 1.12))
    spacing = sh.spacing_of(size, (source.extent[0] * zoom,) * 2 + (source.extent[1] * zoom,))
    place = source.places[int(rng.integers(len(source.places)))]
    canvas = torso(rng, size, spacing, place, style)
    if rng.random() < source.lesions:
        lesions.typed_lesion(canvas, int(rng.choice(source.types)))
    return Image(scan(rng, canvas, style), spacing, canvas)


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
    _, spacing, canvas = source_image(name, seed, case, shape)
    rng, density = sh.case_rng(seed, name, case, 1), canvas.values[0]
    signal = np.zeros(canvas.shape, dtype=np.float32)
    for structure in canvas.names:
        mask = canvas.mask(structure)
        if mask.any():
            texture = 1 + 0.004 * np.clip(density - density[mask].mean(), -60, 60)
            signal = np.where(mask, _T1.get(structure, 300) * texture, signal)
    signal = sh.blur(signal.astype(np.float32), 0.5)
    bias = np.exp(0.3 * sh.noise(rng, canvas.shape, canvas.scale(60.0)))
    image = sh.rician(rng, signal * bias, float(rng.uniform(14, 28)))
    return Image(np.round(image).astype(np.float32), spacing, canvas)


def stroke_case(name: str, seed: int, case: int, shape: Shape) -> dict[str, Image]:
    """A brain with an infarct in DWI, ADC and FLAIR, and "msk", its voxels in DWI and ADC."""
    x, y, z = shape[0], shape[1], max(1, round(shape[2] * 0.75))
    images: dict[str, Image] = {}
    # The same generator twice gives the same head; FLAIR has another grid: not registered.
    for size in ((x, y, z), (round(x * 1.125), round(y * 1.125), z)):
        spacing = sh.spacing_of(size, (172, 172, 134))
        canvas = mri.brain(sh.case_rng(seed, name, case), size, spacing, mri.ISLES_TISSUES)
        voxels = mri.infarct(canvas)
        if images:
            images["FLAIR"] = Image(mri.acquire(canvas, 2, 0.04), spacing, canvas)
        else:
            images["dwi"] = Image(mri.acquire(canvas, 0, 0.05), spacing, canvas)
            images["adc"] = Image(mri.acquire(canvas, 1, 0.03), spacing, canvas)
            images["msk"] = Image(voxels.astype(np.uint8), spacing, canvas)
    return images


def _shift(rng: Rng, sd: float) -> NDArray[np.float64]:
    """Shift (mm) of a field of view along the three axes: what is where in it tells little, what is
    beside what does.
    """
    return np.clip(rng.normal(0, sd, 3), -2.2 * sd, 2.2 * sd)


def chest_image(person: Rng, visit: Rng, shape: Shape, positive: bool) -> Image:
    """Chest CT in HU of a patient with or without COVID-19 pneumonia, as in RICORD.

    Both classes have the same haze, by the same law of density and extent: along the pleura with
    the pneumonia, around the hila without it. Gradients towards the back, scars, noise and dose
    vary in both, so that a histogram tells nothing: place does.
    """
    style = CtStyle(venous=0.1, arterial=0.1, noise=22.0, lung=-825.0).vary(person)
    amount = float(person.uniform(220, 420))
    found = ChestFindings(
        ground_glass=amount if positive else 0.0,
        congestion=0.0 if positive else amount,
        extent=float(person.uniform(0.2, 0.4)),
        dependent=float(person.uniform(20, 150)),
        scars=int(person.integers(0, 5)),
    )
    style = replace(
        style,
        noise=float(visit.uniform(14, 34)),
        grain=float(visit.uniform(0.3, 0.8)),
        lung=style.lung + float(person.normal(0, 25)),
        found=found,
    )
    extent = 192.0 * float(person.uniform(0.92, 1.08))
    spacing = sh.spacing_of(shape, (extent, extent, 7.5 * shape[2]))
    where = np.array([0.0, -2.0, 132.0]) + _shift(visit, 10.0)
    canvas = torso(person, shape, spacing, where, style)
    return Image(scan(visit, canvas, style), spacing, canvas)


class Tumours(NamedTuple):
    """The tumours of a task of the decathlon, and an unlabelled decoy.

    The decoy has a tumour's law of intensity, size and shape and lies in another organ, so that
    only the surroundings tell the two apart.
    """

    hosts: tuple[str, ...]  #: structures that they grow in
    decoys: tuple[str, ...]  #: structures of which one holds the decoy
    depth: float  #: mm of the host around them
    value: tuple[float, float]  #: HU without enhancement, and of full venous enhancement
    darker: tuple[float, float]  #: HU below ``value``, smallest and largest; 0, 0: none
    radius: tuple[float, float]  #: smallest and largest radius in mm
    smallest: float = 0.003  #: share of the voxels that they need to be learnt at half resolution
    several: bool = False  #: one or two of them
    sway: float = 0.0  #: mm that they may lie beside the host

    def paint(self, canvas: Canvas, venous: float, labelled: tuple[str, ...]) -> None:
        """Paint them; they own the structure "tumour".

        Args:
            canvas: with all organs.
            venous: enhancement, 0 to 1.
            labelled: structures of the task's classes, which the decoy spares.
        """
        rng = canvas.rng
        spared = canvas.mask(*self.hosts, *labelled)
        where = decoy_place(canvas, self.decoys, spared, self.depth)
        self._paint(canvas, "decoy", where, venous, spared)
        for _ in range(int(rng.integers(1, 3)) if self.several else 1):
            where = canvas.pick(canvas.mask(*self.hosts), self.depth)
            if self.sway:
                where = where + rng.normal(0, self.sway, 3)
            self._paint(canvas, "tumour", where, venous)

    def _paint(
        self, canvas: Canvas, name: str, where: Field, venous: float, spared: Mask | None = None
    ) -> None:
        value = self.value[0] + self.value[1] * venous
        if any(self.darker):
            value -= float(canvas.rng.uniform(*self.darker))
        radius, smallest = float(canvas.rng.uniform(*self.radius)), self.smallest
        least = max(4, round(smallest * canvas.owner.size))
        lesions.tumour(canvas, name, where, radius, value, least, spared)


class LungTumours(NamedTuple):
    """A spiculated tumour with a hazy margin, and a decoy like it outside the lung."""

    decoys: tuple[str, ...]  #: structures of which one holds the decoy

    def paint(self, canvas: Canvas, venous: float, labelled: tuple[str, ...]) -> None:
        """Paint it; it owns the structure "tumour". Arguments as :meth:`Tumours.paint`."""
        lungs = canvas.mask("lung_right", "lung_left", *labelled)
        where = decoy_place(canvas, self.decoys, lungs, 14.0)
        self._paint(canvas, "decoy", where, venous, lungs)
        where = canvas.pick(canvas.mask("lung_right", "lung_left"), 14.0)
        self._paint(canvas, "tumour", where, venous)

    def _paint(
        self, canvas: Canvas, name: str, where: Field, venous: float, spared: Mask | None = None
    ) -> None:
        rng = canvas.rng
        radius = float(rng.uniform(9, 15))
        shape = lesions.spiculated(canvas, where, radius, int(rng.integers(4, 9)))
        if spared is not None:
            shape = np.where(spared, np.float32(lesions.FAR), shape)
        inside = 20 + 30 * venous + 22 * canvas.noise(4.0)
        canvas.paint("", shape - 3.0, -560.0, edge=2.0)
        canvas.paint(name, shape, inside)


#: Voxels, as a share, of which a structure needs more to hold a decoy.
_LEAST_HOST = 0.004


def decoy_place(canvas: Canvas, hosts: tuple[str, ...], spared: Mask, depth: float) -> Field:
    """A place (3,) in mm, deep inside one of the hosts that are large enough, drawn evenly.

    Without any it is anywhere outside ``spared`` (X, Y, Z).
    """
    masks = [canvas.mask(host) & ~spared for host in hosts]
    large = [mask for mask in masks if mask.mean() > _LEAST_HOST] or [~spared]
    return canvas.pick(large[int(canvas.rng.integers(len(large)))], depth)


class MsdTask(NamedTuple):
    """A task of the decathlon."""

    folder: str  #: name as released, such as "Task03_Liver"
    classes: dict[str, tuple[str, ...]]  #: foreground class → structures that show it
    region: Place  #: middle of the imaged part of the torso in mm
    style: CtStyle
    orientation: str = "RAS"  #: axis codes of the stored files
    tumours: Tumours | LungTumours | None = None

    @property
    def prefix(self) -> str:
        """Beginning of the files' names."""
        return self.folder.split("_", 1)[1].lower()


_VENOUS = CtStyle(venous=0.9, arterial=0.15, noise=13.0)
_TUMOUR = ("tumour",)

MSD_TASKS = {
    "task03_liver": MsdTask(
        "Task03_Liver", {"liver": ("liver", "liver_vessel"), "cancer": _TUMOUR}, (36, 12, 26),
        _VENOUS, "RAS",
        Tumours(("liver", "liver_vessel"), ("kidney_right", "stomach", "muscle", "cavity"), 16.0,
                (56, 52), (38, 60), (8, 15), several=True),
    ),
    "task06_lung": MsdTask(
        "Task06_Lung", {"cancer": _TUMOUR}, (60, -4, 126),
        CtStyle(venous=0.4, arterial=0.4, noise=24.0, grain=0.4), "LAS",
        LungTumours(("mediastinum", "heart", "muscle", "liver")),
    ),
    "task07_pancreas": MsdTask(
        "Task07_Pancreas", {"pancreas": ("pancreas",), "cancer": _TUMOUR}, (-14, 8, 6),
        CtStyle(venous=0.85, arterial=0.3, noise=12.0), "RAS",
        Tumours(("pancreas",), ("kidney_left", "stomach", "spleen", "liver", "muscle"), 10.0,
                (42, 58), (32, 48), (9, 14)),
    ),
    "task08_hepaticvessel": MsdTask(
        "Task08_HepaticVessel", {"Vessel": ("liver_vessel",), "Tumour": _TUMOUR}, (40, 10, 36),
        CtStyle(venous=1.05, arterial=0.1, noise=12.0), "RAS",
        Tumours(("liver",), ("kidney_right", "stomach", "muscle", "cavity"), 16.0,
                (56, 52), (38, 55), (9, 15)),
    ),
    "task09_spleen": MsdTask(
        "Task09_Spleen", {"spleen": ("spleen",)}, (-66, -12, 32), _VENOUS, "LAS",
    ),
    "task10_colon": MsdTask(
        "Task10_Colon", {"colon cancer primaries": _TUMOUR}, (-80, -14, -42),
        CtStyle(venous=0.75, arterial=0.1, noise=14.0), "RAS",
        Tumours(("colon", "lumen"), ("muscle", "kidney_left", "spleen", "cavity", "bowel"), 14.0,
                (66, 36), (0, 0), (10, 15), smallest=0.004, sway=4.0),
    ),
}  # fmt: skip


def msd_case(name: str, seed: int, case: int, shape: Shape) -> tuple[Image, NDArray[np.uint8]]:
    """One case of the decathlon, image in HU and label, whatever else is generated."""
    task, rng = MSD_TASKS[name], sh.case_rng(seed, name, case)
    across, along = 96.0 * rng.uniform(0.93, 1.0, 2)
    spacing = sh.spacing_of(shape, (across, across, along))
    style = task.style.vary(rng)
    where = np.asarray(task.region) + _shift(rng, 12.0)
    canvas = torso(rng, shape, spacing, where, style)
    if task.tumours is not None:
        labelled = tuple(name for names in task.classes.values() for name in names)
        task.tumours.paint(canvas, style.venous, labelled)
    label = np.zeros(shape, dtype=np.uint8)
    for number, structures in enumerate(task.classes.values(), start=1):
        label[canvas.mask(*structures)] = number
    return Image(scan(rng, canvas, style), spacing, canvas), label
