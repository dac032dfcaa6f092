"""What the adapters hand over: volumes, and entries that point at them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]
#: Contrast of a CT series whose slices are not axial.
REFORMATTED = "reformatted"
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Remark:
    """Something odd about a file that is used, or left out without loss of an image.

    Attributes:
        path: the file or folder, relative to the data set's folder; "" is that folder.
        reason: the evidence.
        next: what to look at or to do.
    """

    path: str
    reason: str
    next: str


@dataclass(frozen=True, eq=False)
class Volume:
    """One image or label on its own voxel grid.

    Attributes:
        array: voxels (X, Y, Z); as read, (X, Y, Z, C) where a file has a fourth axis.
        affine: (4, 4) float64, voxel indices to millimetres in the RAS+ world of NIfTI.
        oriented: whether the file states a patient orientation. Arrays without one (h5, npz, PNG,
            RICORD as published) keep their axis order; only their spacing is known.
        remarks: of the reader.
    """

    array: Array
    affine: Array
    oriented: bool = True
    remarks: tuple[Remark, ...] = ()

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Millimetres between voxel centres along (x, y, z)."""
        x, y, z = np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0))
        return (float(x), float(y), float(z))


def scaling_affine(spacing: tuple[float, float, float]) -> Array:
    """Affine (4, 4) of a grid with ``spacing`` in mm along the axes and no known orientation."""
    return np.diag([*spacing, 1.0]).astype(np.float64)


def affine_of_lps(axes: ArrayLike, origin: ArrayLike) -> Array:
    """Affine (4, 4) of a grid that is given in the LPS+ world of DICOM and ITK.

    Args:
        axes: (3, 3); column i is the step in mm from voxel to voxel along axis i.
        origin: (3,) centre of the first voxel in mm.
    """
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = axes, origin
    return _LPS_TO_RAS @ affine


@dataclass(frozen=True)
class Entry:
    """One image that an adapter found; nothing of its voxels has been read.

    Attributes:
        subject: person (or, where the data set does not tell, case); splits are made by it.
        image: name, unique within the subject.
        path: file or series folder, relative to the data set's folder.
        locator: what the adapter needs to find the image inside ``path``.
        files: of an image that consists of several, such as the slices of a series, relative to
            ``path``; empty where ``path`` or ``locator`` say enough.
        channels: files of an image of several channels, in their order, relative to the data set's
            folder; ``path`` is the first of them. Empty where ``path`` holds all.
        modality: "CT", "MRI", or "" where unknown.
        contrast: MRI contrast, or "reformatted" for a CT series whose slices are not axial.
        label_path: file of the segmentation, relative; "" without one.
        label: class or lesion category; -1 without one.
        value: number that a regression predicts, finite; None without one.
        split: "train", "val" or "test" where the layout publishes its lists, else "".
        centre: centre of the lesion's box along the first two axes, in voxels.
        group: aligned images of one place share it.
    """

    subject: str
    image: str
    path: str
    locator: str = ""
    modality: str = ""
    contrast: str = ""
    label_path: str = ""
    label: int = -1
    split: str = ""
    centre: tuple[int, int] | None = None
    group: str = ""
    files: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    value: float | None = None

    @property
    def paths(self) -> tuple[str, ...]:
        """Its files, or the one that holds it, relative to the data set's folder."""
        if self.channels:
            return self.channels
        place = "" if self.path == "." else f"{self.path}/"
        return tuple(f"{place}{name}" for name in self.files) or (self.path,)


@dataclass(frozen=True)
class Scan:
    """What a folder holds.

    Attributes:
        entries: images to read and check.
        rejected: images that are unusable for what the layout itself says, with the reason.
        absent: images that a published list names and the folder lacks; no fault, as users may
            hold a part of a data set.
        notes: other observations for the summary.
        remarks: on files that are no images, or on several images.
        labels: value → name of each class, where the layout says so; of a segmentation without the
            background. None where it says nothing.
        ignore: label value of voxels that count for nothing; None without one.
    """

    entries: tuple[Entry, ...]
    rejected: tuple[tuple[Entry, str], ...] = ()
    absent: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    remarks: tuple[Remark, ...] = ()
    labels: Mapping[int, str] | None = None
    ignore: int | None = None

    def __len__(self) -> int:
        return len(self.entries) + len(self.rejected)


def volume_id(dataset: str, entry: Entry) -> str:
    """Name of an image that no other image of any data set has."""
    return f"{dataset}/{entry.subject}/{entry.image}"
