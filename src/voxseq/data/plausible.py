"""Whether intensities are plausible: for the modality, as published, and beside the rest of a set.

Every rule speaks of numbers that an image of its kind does not hold, and names them. Air is about
-1000 HU, lung -850, fat -100, water 0, bone up to 2000; metal reaches 30,000. Cut to an organ or
clipped to a window, a CT has no air; that alone is nothing odd.
"""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxseq.catalogue import DataSet
from voxseq.config.data import TaskDataConfig
from voxseq.data.volume import Array, Remark

Row = Mapping[str, Any]
#: Of a row of the examination, beside the columns of the index: see :func:`quantiles`.
QUANTILES = "quantiles"
#: Voxels that are looked at along every axis.
_SIDE = 64
#: Half per cent by half per cent, and finer at the ends.
_PROBABILITIES = np.array(
    [*(0.0, 0.0005, 0.001, 0.002), *np.linspace(0.005, 0.995, 199), *(0.998, 0.999, 0.9995, 1.0)]
)
#: Share of voxels that is no accident.
_SOME = 0.001
#: Low ends further apart are not of one zero: those of air and of dark lung differ by less.
_GAP = 300.0
#: MRI has no unit: within one published set, scales differ by 300.
_MAGNITUDE = 1000
#: Share of voxels inside a window below which an image lies at its edges.
LEAST_INSIDE = 0.005


def quantiles(array: Array) -> list[float]:
    """Values of an image (X, Y, Z) below which given shares of its voxels lie.

    They are values that occur, of every n-th voxel along each axis, so that at most 64 count.
    """
    grid = tuple(slice(step // 2, None, step) for step in (-(-n // _SIDE) for n in array.shape))
    values = np.quantile(array[grid].astype(np.float64), _PROBABILITIES, method="inverted_cdf")
    return [float(value) for value in values]


@dataclass(frozen=True, eq=False)
class Intensities:
    """The distribution of one image's intensities.

    Attributes:
        minimum: of all voxels.
        maximum: of all voxels.
        at: quantiles, see :func:`quantiles`.
    """

    minimum: float
    maximum: float
    at: NDArray[np.float64]

    @classmethod
    def of(cls, row: Row) -> Intensities:
        """By its row of the examination."""
        return cls(row["minimum"], row["maximum"], np.array(row[QUANTILES]))

    def below(self, value: float) -> float:
        """Share of voxels below ``value``."""
        index = int(np.searchsorted(self.at, value, side="left"))
        return 1.0 if index == len(self.at) else float(_PROBABILITIES[max(index - 1, 0)])

    def share(self, low: float, high: float) -> float:
        """Share of voxels from ``low`` to below ``high``."""
        return self.below(high) - self.below(low)

    def quantile(self, share: float) -> float:
        """Value below which ``share`` of the voxels lie."""
        return float(np.interp(share, _PROBABILITIES, self.at))

    @property
    def span(self) -> float:
        """Largest value minus smallest."""
        return self.maximum - self.minimum

    @cached_property
    def padding(self) -> float:
        """Share of a value far below everything else."""
        above = self.at[self.at > self.at[0]]
        return self.below(above[0]) if len(above) and above[0] - self.at[0] > _GAP else 0.0

    @cached_property
    def low(self) -> float:
        """The first percentile, without padding."""
        return self.quantile(self.padding + 0.01 * (1 - self.padding))

    @cached_property
    def moments(self) -> tuple[float, float]:
        """Mean and standard deviation, nearly."""
        inner = self.at[4:-4]
        return float(inner.mean()), float(inner.std())


# Rules for one image: the reason why its intensities are odd, or "".


def _scaled(image: Intensities) -> str:
    """Few numbers where Hounsfield units have thousands."""
    shown = f"values from {image.minimum:.4g} to {image.maximum:.4g}"
    if image.span <= 30:
        return f"{shown}: scaled or normalised, not Hounsfield units (HU) or stored values"
    if image.minimum >= 0 and 240 < image.maximum <= 255:
        return f"{shown}, as of a picture of 8 bits: not Hounsfield units (HU) or stored values"
    return ""


def _beyond(image: Intensities) -> str:
    """Numbers below air or above metal."""
    low, high = image.below(-1200), 1 - image.below(32_000)
    if low >= _SOME:
        return (
            f"{low:.{1 if low < 0.01 else 0}%} of the voxels lie below -1200 HU, half of these at "
            f"{image.quantile(low / 2):g} or less: padding, wrapped numbers or another zero, as "
            "air is about -1000 HU"
        )
    if high >= _SOME:
        return (
            f"{high:.1%} of the voxels lie above 32,000, half of these at "
            f"{image.quantile(1 - high / 2):g} or more: padding, or negative numbers wrapped to "
            "the end of 16 bits, as metal ends before"
        )
    return ""


def _stored(image: Intensities) -> str:
    """Air near 0 and tissue near 1000: the zero of stored values."""
    tissue = image.share(800, 1300)
    if (
        image.share(-1100, -200) - image.padding < 0.01
        and image.share(-250, -30) < 0.01
        and tissue >= 0.1
        and tissue > image.share(200, 800)
    ):
        return (
            f"the lowest values are about {image.low:g}, where air is -1000 HU, and {tissue:.0%} "
            "of the voxels lie from 800 to 1300, where tissue is -200 to 200: stored values "
            "without their rescale intercept, not Hounsfield units (HU)"
        )
    if image.minimum >= 0 and image.maximum > 300:
        return (
            f"no value below 0 (from {image.minimum:g} to {image.maximum:g}), where air is -1000 "
            "and fat -100 HU: stored or scaled values, not Hounsfield units (HU)"
        )
    return ""


def _not_zscored(image: Intensities) -> str:
    """Published crops of z-scored images have means up to 1.7 and deviations of 0.7 to 1.7."""
    mean, deviation = image.moments
    if (
        image.minimum < 0 < image.maximum
        and image.span >= 2.5
        and abs(mean) <= 4
        and 0.25 <= deviation <= 4
    ):
        return ""
    return (
        f"not normalised as published: mean {mean:.3g}, standard deviation {deviation:.3g}, values "
        f"from {image.minimum:.4g} to {image.maximum:.4g}, where z-scores have mean 0 and standard "
        "deviation 1"
    )


def _not_uint8(image: Intensities) -> str:
    if image.minimum >= 0 and 1 < image.maximum <= 255:
        return ""
    return (
        f"values from {image.minimum:.4g} to {image.maximum:.4g}, where 0 to 255 are published: "
        "not normalised as published"
    )


def _wrapped(image: Intensities) -> str:
    """Both ends of 16 bits and nothing between them."""
    top, between = 1 - image.below(60_000), image.share(20_000, 60_000)
    if image.maximum < 65_536 and top >= _SOME and between == 0:
        return (
            f"{top:.1%} of the voxels lie from 60,000 to {image.maximum:g} and none from 20,000: "
            "negative numbers wrapped to the end of 16 bits"
        )
    if image.below(-20_000) >= _SOME and image.share(-20_000, 20_000) < image.below(-20_000):
        return (
            f"values from {image.minimum:g} to {image.maximum:g}, {image.below(-20_000):.1%} of "
            "them below -20,000: numbers that wrapped at the end of 16 bits, or padding"
        )
    return ""


# Rules for the images of one modality and contrast: index and reason.
Odd = Iterator[tuple[int, str]]


def _odd_hu(images: Sequence[Intensities]) -> Odd:
    """Yield images whose low end or span no part of a body gives, where others have air."""
    usual = statistics.median(image.low for image in images)
    spans = [image.quantile(0.999) - image.quantile(0.001) for image in images]
    span = statistics.median(spans)
    for index, image in enumerate(images):
        is_piled = image.share(image.low - 32, image.low + 32) >= 0.05
        if usual < -700 and is_piled and (-600 < image.low < -200 or image.low > 150):
            yield (
                index,
                f"its lowest values pile up at {image.low:g}, where the other images have air at "
                f"{usual:g}: another zero or scale, not Hounsfield units (HU)",
            )
        elif spans[index] < span / 8:
            yield (
                index,
                f"99.8 % of its values span {spans[index]:.4g}, those of the other images "
                f"{span:.4g} (median): scaled, or clipped to a window",
            )


def _odd_stored(images: Sequence[Intensities]) -> Odd:
    """Yield images whose stored values begin elsewhere than those of the most."""
    order = sorted(range(len(images)), key=lambda index: images[index].low)
    groups: list[list[int]] = []
    for index in order:
        if not groups or images[index].low - images[groups[-1][-1]].low > _GAP:
            groups.append([])
        groups[-1].append(index)
    largest = max(len(group) for group in groups)
    usual = [group for group in groups if len(group) == largest]
    lows = " or ".join(f"{statistics.median(images[i].low for i in g):g}" for g in usual)
    for group in groups:
        if group in usual and len(usual) == 1:
            continue
        for index in group:
            yield (
                index,
                f"stored values begin at {images[index].low:g}, those of {largest} of "
                f"{len(images)} images at {lows}: their rescale intercepts differ",
            )


def _odd_scale(images: Sequence[Intensities]) -> Odd:
    """Yield images of another order of magnitude than the most."""
    spans = [image.quantile(0.99) - image.quantile(0.01) for image in images]
    spans = [span or image.span for span, image in zip(spans, images, strict=True)]
    usual = statistics.median(spans)
    for index, span in enumerate(spans):
        # What is normalised spans 1 or some standard deviations, what is not hundreds.
        is_normalised = min(span, usual) <= 15 and max(span, usual) >= 60
        if is_normalised or not 1 / _MAGNITUDE <= span / usual <= _MAGNITUDE:
            yield (
                index,
                f"98 % of its values span {span:.3g}, those of the other images {usual:.3g} "
                "(median): not normalised as the others",
            )


@dataclass(frozen=True)
class _Promise:
    """What intensities should be.

    Attributes:
        single: rules for one image; the first reason counts.
        next: what to look at.
        among: rule for the images of one modality and contrast, if any.
        fewest: images that tell something of the rest of the set.
    """

    single: Sequence[Callable[[Intensities], str]]
    next: str
    among: Callable[[Sequence[Intensities]], Odd] | None = None
    fewest: int = 3


_LEAVE = "or leave the file out"
_PROMISES: Mapping[str, _Promise] = {
    "hu": _Promise(
        (_scaled, _beyond, _stored),
        f"compare with the source: bring the image to HU, padding to -1000, {_LEAVE}",
        _odd_hu,
    ),
    "stored": _Promise(
        (_scaled, _beyond),
        "look at RescaleIntercept of the series: one window fits one zero; bring them to one, "
        "or leave the series out",
        _odd_stored,
        fewest=2,
    ),
    "zscore": _Promise(
        (_not_zscored,),
        f"subtract the image's mean and divide by its standard deviation, {_LEAVE}",
    ),
    "uint8": _Promise(
        (_not_uint8,),
        f"bring the images to 0 to 255, by which the task's scale divides, {_LEAVE}",
    ),
    "any": _Promise(
        (_wrapped,), f"compare with the source: bring them to one scale, {_LEAVE}", _odd_scale
    ),
}


def remarks(dataset: DataSet, rows: Sequence[Row]) -> list[Remark]:
    """What is odd about intensities: one remark for each file, and rule.

    Args:
        dataset: row of the catalogue, which tells what is published.
        rows: of the examination, of the usable images.
    """
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    # Arrays of a user's npz file are in any unit.
    usual = {} if dataset.own and dataset.layout == "medmnist" else {"CT": "hu"}
    for row in rows:
        # The contrast of a CT is that of its planes; its unit is the same.
        contrast = "" if row["modality"] == "CT" else row["contrast"]
        groups[row["modality"], contrast].append(row)
    found: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
    for (modality, _), members in groups.items():
        promise = _PROMISES[dataset.intensities or usual.get(modality, "any")]
        images = [Intensities.of(row) for row in members]
        reasons = [next(filter(None, (r(i) for r in promise.single)), "") for i in images]
        if promise.among and len(images) >= promise.fewest:
            for index, reason in promise.among(images):
                reasons[index] = reasons[index] or reason
        for row, reason in zip(members, reasons, strict=True):
            if reason:
                found[row["path"]].append((row["volume_id"], reason, promise.next))
    per_file = Counter(row["path"] for row in rows)
    return [_together(path, odd, per_file[path]) for path, odd in found.items()]


def _together(path: str, odd: Sequence[tuple[str, str, str]], count: int) -> Remark:
    """One remark on the images of a file: some files hold a whole data set."""
    name, reason, remedy = odd[0]
    where = "" if count == 1 else f"{len(odd)} of its {count} images, such as {name}: "
    return Remark(path, f"{where}{reason}", remedy)


def outside_window(rows: Sequence[Row], data: TaskDataConfig) -> Iterator[tuple[str, str]]:
    """Yield path and reason of images that lie at the edges of a task's window of intensities.

    Args:
        rows: of the examination, of the usable images.
        data: how the task prepares them.
    """
    if data.first_window is None or data.channels is not None:
        # The rows tell of the first channel of a file alone.
        return
    low, high = (end * data.scale for end in data.first_window)
    for row in rows:
        image = Intensities.of(row)
        if image.share(np.nextafter(low, high), high) < LEAST_INSIDE - 1e-9:
            yield (
                row["path"],
                f"fewer than {LEAST_INSIDE:.1%} of its voxels lie inside the task's window "
                f"{low:g} to {high:g}, {image.below(low):.0%} below it: prepared, it would be "
                "black and white",
            )
