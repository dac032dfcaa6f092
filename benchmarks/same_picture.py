"""Which copies are found and which different persons are taken for one: docs/leakage.md.

Every image is altered in the ways below, and compared with itself and with all others of its kind.

    python benchmarks/same_picture.py --data ../shared/realdata

The highest correlations of even- and of odd-numbered images stand beside each other.
"""

from __future__ import annotations

import argparse
import functools
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import SimpleITK
from scipy import ndimage

from voxseq import catalogue
from voxseq.config import load_config
from voxseq.data import grid, layouts, same_picture
from voxseq.data.checks import Measured
from voxseq.data.index import index_row
from voxseq.data.same_picture import SAME_PICTURE, Pictures, pictures, repeated
from voxseq.data.volume import Array, Entry, Volume, scaling_affine
from voxseq.phantoms import generate
from voxseq.plan import build_plan

ROOT = Path(__file__).resolve().parents[1]
#: Kind of image → data sets of the catalogue.
KINDS = {
    "head MRI": ("brats23",),
    "CT": ("task09_spleen", "totalsegmentator", "dicom_ct"),
    "left atrium": ("la",),
    "hippocampus": ("task04_hippocampus",),
    "nodules 28³": ("nodule",),
}
PHANTOMS = "phantoms"
#: One of so many images is altered.
STEPS = {"left atrium": 2, "nodules 28³": 4, PHANTOMS: 8}
Change = Callable[[Volume], Volume]


@dataclass(frozen=True, eq=False)
class Image:
    """One image, and whom it shows."""

    kind: str
    person: str
    volume: Volume


def real(data: Path) -> Iterator[Image]:
    """The images of a folder like the shared real data, in RAS."""
    with tempfile.TemporaryDirectory() as folder:
        for kind, names in KINDS.items():
            for dataset in map(catalogue.get, names):
                place = Path(folder) / dataset.folder
                place.parent.mkdir(parents=True, exist_ok=True)
                source = data / dataset.folder
                if not place.exists() and source.exists():
                    place.symlink_to(source.resolve(), target_is_directory=True)
                yield from _images(kind, dataset, place)


def phantoms() -> Iterator[Image]:
    """The phantoms of the demo."""
    plan = build_plan(load_config(ROOT / "params.yaml"))
    for name, run in plan.runs.items():
        if name.startswith("download/") and run.config.phantoms is not None:
            dataset = catalogue.get(run.config.dataset)
            with tempfile.TemporaryDirectory() as folder:
                place = Path(folder) / "data"
                generate(dataset.name, place, run.config.phantoms)
                yield from _images(PHANTOMS, dataset, place)


def _images(kind: str, dataset: catalogue.DataSet, place: Path) -> Iterator[Image]:
    layout = layouts.get(dataset.layout)
    for entry in layout.scan(place, dataset).entries:
        volume = layout.read_image(place, entry)
        array, spacing = grid.to_ras(volume)
        turned = Volume(np.array(array, np.float32), scaling_affine(spacing))
        yield Image(kind, f"{dataset.name}/{entry.subject}", turned)


# What is done to copies


def _same_grid(change: Callable[[Array], Array]) -> Change:
    return lambda volume: Volume(change(volume.array), volume.affine)


def _resampled(*factors: float) -> Change:
    def change(volume: Volume) -> Volume:
        shape = tuple(
            max(round(n * f), 1) for n, f in zip(volume.array.shape, factors, strict=True)
        )
        spacing = np.array(volume.spacing) * volume.array.shape / np.array(shape)
        return Volume(grid.linear(volume.array, shape), scaling_affine(tuple(spacing)))

    return change


def _cut(first: tuple[int, int, int], last: tuple[int, int, int]) -> Change:
    box = tuple(slice(f, -n or None) for f, n in zip(first, last, strict=True))
    return _same_grid(lambda array: array[box])


def _noisy(share: float) -> Change:
    def change(array: Array) -> Array:
        noise = np.random.default_rng(0).normal(0, share * array.std(), array.shape)
        return (array + noise).astype(np.float32)

    return _same_grid(change)


def _clipped(*percentiles: float) -> Change:
    return _same_grid(lambda array: np.clip(array, *np.percentile(array, percentiles)))


def _turned(volume: Volume) -> Volume:
    """Axes in another order, two of them in the other direction, as its affine says."""
    array = volume.array.transpose(2, 0, 1)[::-1, :, ::-1]
    affine = np.eye(4)
    x, y, z = volume.spacing
    affine[:3, :3] = [[0, x, 0], [0, 0, -y], [-z, 0, 0]]
    return Volume(array, affine)


#: What was done → how. Windows are in HU, for CT only.
CHANGES: dict[str, Change] = {
    "other axes and directions": _turned,
    "whole numbers 0…255": _same_grid(
        lambda a: np.rint(np.ptp(a) and 255 * (a - a.min()) / np.ptp(a))
    ),
    "square root": _same_grid(lambda a: np.sqrt(a - a.min())),
    "noise of 5 % of the standard deviation": _noisy(0.05),
    "noise of 10 %": _noisy(0.1),
    "half as many voxels along each axis": _resampled(0.5, 0.5, 0.5),
    "0.7, 0.7 and 0.4 times as many voxels": _resampled(0.7, 0.7, 0.4),
    "1.3 times as many voxels": _resampled(1.3, 1.3, 1.3),
    "clipped at percentiles 1 and 99": _clipped(1, 99),
    "clipped at percentiles 5 and 95": _clipped(5, 95),
    "one slice less at one end": _cut((0, 0, 1), (0, 0, 0)),
    "two slices less at one end, one at the other": _cut((0, 0, 2), (0, 0, 1)),
    "one voxel less at every side": _cut((1, 1, 1), (1, 1, 1)),
    "three voxels less at one end of each axis": _cut((3, 3, 3), (0, 0, 0)),
    "three voxels less at every side": _cut((3, 3, 3), (3, 3, 3)),
}
WINDOWS: dict[str, Change] = {
    f"clipped to {low}…{high} HU": _same_grid(lambda a, low=low, high=high: np.clip(a, low, high))
    for low, high in ((-1024, 1024), (-1000, 0), (-175, 250), (-57, 175))
}


# Other persons, as far as they can be made


def warped(volume: Volume, millimetres: float, seed: int) -> Volume:
    """A head with other anatomy: shifted smoothly by so much on the mean, other brightness."""
    rng = np.random.default_rng(seed)
    shape, spacing = volume.array.shape, volume.spacing
    places = [*np.meshgrid(*[np.arange(n, dtype=np.float32) for n in shape], indexing="ij")]
    for axis in range(3):
        count = [max(round(n * s / 30), 2) + 3 for n, s in zip(shape, spacing, strict=True)]
        field = _smooth(rng.normal(size=count), shape)
        places[axis] += field / field.std() * millimetres / np.sqrt(3) / spacing[axis]
    brightness = _smooth(rng.normal(size=(5, 5, 5)), shape)
    array = ndimage.map_coordinates(volume.array, places, order=1, mode="nearest")
    return Volume(array * (1 + 0.1 * brightness / brightness.std()), volume.affine)


def _smooth(coarse: Array, shape: tuple[int, ...]) -> Array:
    factors = [n / m for n, m in zip(shape, coarse.shape, strict=True)]
    return ndimage.zoom(coarse.astype(np.float32), factors, order=3)


def registered(moving: Volume, fixed: Volume) -> Volume:
    """A head brought into the space of another by an affine map."""
    one, other = (
        SimpleITK.GetImageFromArray(v.array.astype(np.float32).T) for v in (fixed, moving)
    )
    for image, volume in ((one, fixed), (other, moving)):
        image.SetSpacing(volume.spacing)
    # Several threads add in another order each time.
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    method = SimpleITK.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(0.05)
    method.SetOptimizerAsGradientDescent(1.0, 150, 1e-6, 10)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2])
    method.SetSmoothingSigmasPerLevel([2, 1])
    start = SimpleITK.CenteredTransformInitializer(
        one,
        other,
        SimpleITK.AffineTransform(3),
        SimpleITK.CenteredTransformInitializerFilter.MOMENTS,
    )
    method.SetInitialTransform(start)
    found = SimpleITK.Resample(other, one, method.Execute(one, other), SimpleITK.sitkLinear, 0.0)
    return Volume(SimpleITK.GetArrayFromImage(found).T, fixed.affine)


# Measuring


def shown(volumes: list[Volume], persons: list[str]) -> Pictures:
    """Pictures of volumes as their index would give them."""
    return pictures(pd.DataFrame([row_of(volume) for volume in volumes]), persons)


@functools.cache
def row_of(volume: Volume) -> dict[str, Any]:
    """What the index says of an image."""
    return index_row("any", Entry("subject", "scan", "path"), volume, Measured(0.0, 0.0, ""))


def compared(images: Pictures) -> list[tuple[int, int, float]]:
    """All candidates with the correlation of their details, confirmed or not."""
    same_picture.SAME_PICTURE = -2.0
    try:
        return repeated(images)
    finally:
        same_picture.SAME_PICTURE = SAME_PICTURE


def copies_of(image: Image, change: Change) -> float:
    """Correlation of an image with its altered copy, -1 where it is no candidate."""
    rows = pd.DataFrame([row_of(image.volume), row_of.__wrapped__(change(image.volume))])
    found = compared(pictures(rows, ["one", "other"]))
    return found[0][2] if found else -1.0


def cell(values: list[float]) -> str:
    """Copies found of all, and the lowest correlation of those that were candidates."""
    candidates = [value for value in values if value > -1]
    found = sum(value >= SAME_PICTURE for value in values)
    return f"{found}/{len(values)}, {min(candidates):.2f}" if candidates else f"0/{len(values)}"


def report_copies(images: list[Image]) -> None:
    """Print the table of the copies."""
    kinds = [*KINDS, PHANTOMS]
    chosen = {k: [i for i in images if i.kind == k][:: STEPS.get(k, 1)] for k in kinds}
    print(f"| what was done to the copy | {' | '.join(kinds)} |")
    print("|---" * (len(kinds) + 1) + "|")
    for name, change in (CHANGES | WINDOWS).items():
        cells = []
        for kind in kinds:
            if name in WINDOWS and kind != "CT":
                cells.append("–")
                continue
            cells.append(cell([copies_of(image, change) for image in chosen[kind]]))
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def report_persons(images: list[Image]) -> None:
    """Print how alike different persons are, the odd sources beside the even ones."""
    print("\n| | images | candidates | joined | highest, even | highest, odd |")
    print("|---|---|---|---|---|---|")
    for kind in [*KINDS, PHANTOMS]:
        of_kind = [image for image in images if image.kind == kind]
        row(kind, [i.volume for i in of_kind], [i.person for i in of_kind])
    heads = [i for i in images if i.kind == "head MRI"]
    people = sorted({i.person for i in heads})
    of = {p: [i.volume for i in heads if i.person == p] for p in people}
    if len(people) < 2:
        return
    first, second = of[people[0]], of[people[1]]
    moved = [registered(volume, second[1]) for volume in first]
    persons = [people[0]] * len(moved) + [people[1]] * len(second)
    row("stripped heads in one space", [*moved, *second], persons)
    for millimetres in (3.0, 4.5, 6.0):
        originals = [second[1], first[1], second[0], first[0]]
        changed = [warped(v, millimetres, seed) for seed, v in enumerate(originals)]
        found = [
            compared(shown([one, other], ["one", "other"]))
            for one, other in zip(originals, changed, strict=True)
        ]
        values = [pairs[0][2] for pairs in found if pairs]
        joined = sum(value >= SAME_PICTURE for value in values)
        even, odd = (f"{max(values[k::2], default=-1):.3f}" for k in (0, 1))
        name = f"heads warped by {millimetres:g} mm"
        print(f"| {name} | 8 | {len(values)} | {joined} | {even} | {odd} |")


def row(name: str, volumes: list[Volume], persons: list[str]) -> None:
    """Print one row of that table."""
    found = compared(shown(volumes, persons))
    joined = sum(value >= SAME_PICTURE for *_, value in found)
    halves = [[v for a, _, v in found if a % 2 == half] for half in (0, 1)]
    highest = [f"{max(values):.3f}" if values else "–" for values in halves]
    print(
        f"| {name} | {len(volumes)} | {len(found)} | {joined} | {' | '.join(highest)} |", flush=True
    )


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT / "../shared/realdata")
    given = parser.parse_args()
    images = [*real(given.data), *phantoms()]
    print(f"{len(images)} images", file=sys.stderr, flush=True)
    report_persons(images)
    report_copies(images)


if __name__ == "__main__":
    main()
