"""A look at a user's images: what a study of them has to know before anything is trained.

The layout's own reader lists and reads the files. A sample of them is opened, evenly spread over
the list, so that a large data set takes no longer than a small one.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from voxseq.base.errors import DataError
from voxseq.base.failures import read_named
from voxseq.base.progress import track
from voxseq.base.words import several, were
from voxseq.catalogue import DataSet
from voxseq.data import layouts
from voxseq.data.channels import read_channels
from voxseq.data.checks import check_image, count_label
from voxseq.data.volume import Entry, Volume
from voxseq.study.modality import looks_like_ct

#: Images that are opened, at most, and voxels of one that are looked at.
SAMPLE, _VOXELS = 32, 2**18
#: Quantiles of the intensities of an image; the outer ones are those of nnU-Net's window.
QUANTILES = (0.005, 0.5, 0.995)

Shape = tuple[int, int, int]
Spacing = tuple[float, float, float]


@dataclass(frozen=True)
class ImageFacts:
    """What is known of an image that was opened.

    Attributes:
        shape: voxels along the axes.
        spacing: mm.
        quantiles: intensities at :data:`QUANTILES`.
        is_whole: whether all intensities are whole numbers.
        voxels: label value → its voxels; empty without a segmentation.
        inside: intensities at :data:`QUANTILES` inside the structures; empty where there are none.
        path: of its file, as in its entry.
    """

    shape: Shape
    spacing: Spacing
    quantiles: tuple[float, ...]
    is_whole: bool = False
    voxels: Mapping[int, int] = field(default_factory=dict)
    inside: tuple[float, ...] = ()
    path: str = ""


@dataclass(frozen=True)
class Look:
    """What was found in a data set.

    Attributes:
        dataset: its facts.
        folder: its place.
        entries: all images that the layout lists, without those that cannot be read.
        opened: facts of the images that were opened.
        unreadable: images of the sample that cannot be read: path, and reason.
        remarks: of the layout, each with the file it is about.
        names: label value or class → its name, where the data set states them.
        ignore: label value of voxels that count for nothing; None without one.
        reading: seconds of one core to read an image and its segmentation.
    """

    dataset: DataSet
    folder: Path
    entries: tuple[Entry, ...]
    opened: tuple[ImageFacts, ...]
    unreadable: tuple[tuple[str, str], ...] = ()
    remarks: tuple[str, ...] = ()
    names: Mapping[int, str] = field(default_factory=dict)
    ignore: int | None = None
    reading: float = 0.0

    @property
    def subjects(self) -> int:
        """Number of subjects."""
        return len({entry.subject for entry in self.entries})

    @cached_property
    def of_task(self) -> tuple[Entry, ...]:
        """The images that a task can use: of a segmentation those without one are left out."""
        if self.kind != "segmentation":
            return self.entries
        bare = {facts.path for facts in self.opened if not facts.voxels}
        return tuple(entry for entry in self.entries if entry.path not in bare)

    @property
    def is_whole(self) -> bool:
        """Whether all images were tried."""
        return len(self.opened) == len(self.entries)

    @property
    def channels(self) -> int:
        """Channels of an image."""
        return len(self.dataset.channels)

    @property
    def contrasts(self) -> tuple[str, ...]:
        """Names of the channels, where the data set states them."""
        return tuple(self.dataset.options.get("channels", ()))

    @cached_property
    def kind(self) -> Literal["segmentation", "classification", "regression", ""]:
        """Type of the task that the labels are for; empty where there are none."""
        if any(entry.value is not None for entry in self.entries):
            return "regression"
        if any(entry.label >= 0 for entry in self.entries):
            return "classification"
        if any(facts.voxels for facts in self.opened):
            return "segmentation"
        return ""

    @cached_property
    def shape(self) -> Shape:
        """Median number of voxels along each axis."""
        x, y, z = np.median([facts.shape for facts in self.opened], axis=0)
        return (round(float(x)), round(float(y)), round(float(z)))

    @cached_property
    def spacings(self) -> NDArray[np.float64]:
        """Spacing (images, 3) in mm of the images that were opened."""
        return np.array([facts.spacing for facts in self.opened], np.float64)

    @property
    def spacing(self) -> Spacing:
        """Median spacing along each axis in mm."""
        x, y, z = np.median(self.spacings, axis=0)
        return (float(x), float(y), float(z))

    @cached_property
    def voxels(self) -> dict[int, int]:
        """Label value → its voxels in all images that were opened, in the order of values."""
        total: Counter[int] = Counter()
        for facts in self.opened:
            total.update(facts.voxels)
        return dict(sorted(total.items()))

    @property
    def holding(self) -> dict[int, int]:
        """Label value → how many of the opened images hold it."""
        total = Counter(value for facts in self.opened for value in facts.voxels)
        return dict(sorted(total.items()))

    @property
    def classes(self) -> dict[int, int]:
        """Class of a whole image → its images."""
        return dict(sorted(Counter(e.label for e in self.entries if e.label >= 0).items()))

    @cached_property
    def structures(self) -> dict[int, str]:
        """Label value → name of each structure of a segmentation, stated or found."""
        values = {*self.names, *self.voxels} - {0, self.ignore}
        return {value: self.names.get(value, f"label {value}") for value in sorted(values)}

    @cached_property
    def groups(self) -> dict[int, str]:
        """Number → name of each class of a classification, stated or found."""
        values = sorted({*self.names, *self.classes})
        return {value: self.names.get(value, f"class {value}") for value in values}

    @property
    def is_ct(self) -> bool:
        """Whether most images look as if they held Hounsfield units."""
        hits = [looks_like_ct(f.quantiles, is_whole=f.is_whole) for f in self.opened]
        return 2 * sum(hits) > len(hits)


def look(dataset: DataSet, folder: Path, sample: int = SAMPLE) -> Look:
    """List the images of a data set and open a sample of them.

    Args:
        dataset: its facts.
        folder: its place.
        sample: most images that are opened.

    Raises:
        DataError: the folder does not hold the layout, or no image of the sample can be read.
    """
    adapter = layouts.get(dataset.layout)
    with read_named(folder):
        found = layouts.listed(dataset, folder)
    opened: list[ImageFacts] = []
    unreadable = [(entry.path, reason) for entry, reason in found.rejected]
    hints: list[str] = []
    chosen = spread(found.entries, sample)
    began = time.process_time()
    for entry in track(chosen, f"looking at {dataset.name}", len(chosen)):
        try:
            opened.append(_facts(adapter, folder, entry, dataset.channels, found.ignore))
        except DataError as error:
            unreadable.append((entry.path, error.what))
            hints.append(error.hint)
    if not opened:
        reasons = [f"  {reason}" for _, reason in unreadable[:5]]
        # One cause may have one remedy.
        remedy = hints[0] if len({*hints}) == 1 else ""
        raise DataError(
            "\n".join([f"{folder}: none of the images that were tried can be read:", *reasons]),
            remedy or "repair or convert them, or name another folder or layout (--like)",
        )
    remarks = tuple(
        f"{remark.path}: {remark.reason}".removeprefix(": ") for remark in found.remarks
    )
    return Look(
        dataset=dataset,
        folder=folder,
        entries=tuple(entry for entry in found.entries if entry.path not in dict(unreadable)),
        opened=tuple(opened),
        unreadable=tuple(unreadable),
        remarks=remarks,
        names=dict(found.labels or {}),
        ignore=found.ignore,
        reading=(time.process_time() - began) / len(opened),
    )


def spread(entries: Sequence[Entry], count: int) -> list[Entry]:
    """Up to ``count`` entries, evenly spread over the list, the first and last among them."""
    if len(entries) <= count:
        return list(entries)
    places = np.linspace(0, len(entries) - 1, count).round().astype(int)
    return [entries[place] for place in places]


def _facts(
    adapter: layouts.Adapter,
    folder: Path,
    entry: Entry,
    channels: Sequence[str],
    ignore: int | None,
) -> ImageFacts:
    """Facts of an image by its first channel, and of its segmentation."""
    image = next(read_channels(adapter, folder, entry, channels))
    check_image(image, entry.path)
    label = adapter.read_label(folder, entry)
    voxels: dict[int, int] = {}
    inside: tuple[float, ...] = ()
    if label is not None:
        voxels = count_label(label, image, entry.label_path)
        held = label.array > 0
        if ignore is not None:
            held &= label.array != ignore
        within = image.array[held]
        inside = _quantiles(_taken(within)) if within.size else ()
    taken = _taken(image.array)
    return ImageFacts(
        shape=_shape(image),
        spacing=image.spacing,
        quantiles=_quantiles(taken),
        is_whole=bool(np.array_equal(taken, np.rint(taken))),
        voxels=voxels,
        inside=inside,
        path=entry.path,
    )


def _shape(image: Volume) -> Shape:
    x, y, z = image.array.shape[-3:]
    return (int(x), int(y), int(z))


def _taken(values: NDArray[Any]) -> NDArray[np.float64]:
    """Evenly spread values, at most a quarter of a million."""
    flat = values.ravel()
    step = max(flat.size // _VOXELS, 1)
    # A prime step would do as well; an odd one does not follow rows of even length.
    return flat[:: step | 1].astype(np.float64)


def _quantiles(taken: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(value) for value in np.quantile(taken, QUANTILES))


def cells(look: Look) -> Iterator[tuple[str, str]]:
    """What was found, as lines of a table: what, and its value."""
    dataset, opened = look.dataset, look.opened
    yield "layout", dataset.layout
    subjects, tried = several(look.subjects, "subject"), len(opened)
    yield "images", f"{len(look.entries)}, of {subjects}; {tried} {were(tried)} opened"
    if look.channels > 1:
        yield "channels", ", ".join(look.contrasts) or str(look.channels)
    yield "modality", dataset.modality
    yield "voxels", _range(np.array([facts.shape for facts in opened]), look.shape, "d")
    yield "spacing (mm)", _range(look.spacings, look.spacing, ".3g")
    low, middle, high = np.median([facts.quantiles for facts in opened], axis=0)
    yield "intensities", f"{low:.4g} to {high:.4g} (0.5 and 99.5 %), median {middle:.4g}"
    total = sum(look.voxels.values())
    for value, name in ({0: "background"} | look.structures if look.voxels else {}).items():
        share = look.voxels.get(value, 0) / total
        held = several(look.holding.get(value, 0), "image")
        yield f"label {value}", f"{name}: {share:.3%}, in {held}"
    for value, name in (look.groups if look.classes else {}).items():
        yield f"class {value}", f"{name}: {several(look.classes.get(value, 0), 'image')}"
    numbers = [entry.value for entry in look.entries if entry.value is not None]
    if numbers:
        held = several(len(numbers), "image")
        yield "target", f"{min(numbers):.4g} to {max(numbers):.4g}, {held}"


def _range(values: NDArray[Any], median: Sequence[float], form: str) -> str:
    low, high = values.min(axis=0), values.max(axis=0)
    typical = " x ".join(f"{value:{form}}" for value in median)
    if np.allclose(low, high, rtol=1e-3):
        return typical
    ends = (" x ".join(f"{value:{form}}" for value in ends) for ends in (low, high))
    return f"{typical} (median; {' to '.join(ends)})"
