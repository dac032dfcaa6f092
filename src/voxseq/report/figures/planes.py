"""One image in three planes with its segmentation: what a prediction looks like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import nibabel as nib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from voxseq.base.errors import DataError
from voxseq.data.volume import Volume
from voxseq.report.figures.drawing import (
    ENDS,
    TRUTH,
    class_colour,
    show_scale,
    show_sides,
    show_slice,
)
from voxseq.report.figures.style import bare, new_figure

#: Plane → the axes of a RAS+ grid to the right, upwards, and across.
_PLANES = {"axial": (0, 1, 2), "coronal": (0, 2, 1), "sagittal": (1, 2, 0)}
_SIDE, _FOOT = 3.0, 0.55
#: Grid vectors may differ by as much as this, in mm, between an image and its labels.
_NEAR = 1e-2


@dataclass(frozen=True, eq=False)
class _Upright:
    """Arrays of one grid whose axes lead to the right, to the front and upwards (RAS+)."""

    image: NDArray[np.float32]
    labels: NDArray[np.int64]
    truth: NDArray[np.int64] | None
    spacing: NDArray[np.float64]
    oriented: bool


def planes_figure(
    image: Volume,
    labels: Volume,
    truth: Volume | None = None,
    *,
    title: str = "",
    names: Sequence[str] = (),
) -> Figure:
    """Axial, coronal and sagittal slice through the middle of what is labelled.

    Classes are filled; the border of the true ones is white. As radiologists look at it, the
    patient's right is on the left. Where a file states no orientation, no letters say so.

    Args:
        image: (X, Y, Z); the first channel of several is shown.
        labels: class indices on the image's grid.
        truth: the true ones.
        title: above the planes.
        names: of the classes 1, 2, …; by default their numbers.

    Raises:
        DataError: the grids differ.
    """
    found = _upright(image, labels, truth)
    marked = found.labels if found.labels.any() or found.truth is None else found.truth
    middle = _middle(marked > 0)
    figure = new_figure(3 * _SIDE, _SIDE + _FOOT)
    if title:
        figure.suptitle(title, fontsize=10)
    for axes, plane in zip(figure.subplots(1, 3), _PLANES, strict=True):
        _show_plane(axes, found, plane, middle)
    present = [int(label) for label in np.unique(found.labels) if label > 0]
    lines = [(class_colour(label), _name(names, label)) for label in present]
    handles = [Line2D([], [], color=colour, linewidth=3, label=name) for colour, name in lines]
    if found.truth is not None:
        edge = [withStroke(linewidth=5, foreground="black")]
        handles.append(Line2D([], [], color=TRUTH, linewidth=3, label="truth", path_effects=edge))
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8)
    return figure


def _name(names: Sequence[str], label: int) -> str:
    return names[label - 1] if 0 < label <= len(names) else f"class {label}"


def _upright(image: Volume, labels: Volume, truth: Volume | None) -> _Upright:
    for other, what in ((labels, "labels"), (truth, "true labels")):
        if other is None:
            continue
        same = other.array.shape[:3] == image.array.shape[:3]
        if not same or not np.allclose(other.affine, image.affine, atol=_NEAR):
            raise DataError(
                f"the {what} {other.array.shape[:3]} are not on the image's grid "
                f"{image.array.shape[:3]}, or have another position",
                "give the image that these labels were made for",
            )
    turn = nib.io_orientation(image.affine)

    def turned(volume: Volume) -> NDArray[np.float64]:
        array = volume.array if volume.array.ndim == 3 else volume.array[..., 0]
        made: NDArray[np.float64] = nib.apply_orientation(array, turn)
        return made

    order = np.argsort(turn[:, 0])
    return _Upright(
        turned(image).astype(np.float32),
        turned(labels).astype(np.int64),
        None if truth is None else turned(truth).astype(np.int64),
        np.asarray(image.spacing)[order],
        image.oriented,
    )


def _middle(marked: NDArray[np.bool_]) -> tuple[int, ...]:
    """The voxel in which each axis has its largest marked slice; the centre where none is."""
    if not marked.any():
        return tuple(size // 2 for size in marked.shape)
    others = ((1, 2), (0, 2), (0, 1))
    return tuple(int(np.argmax(marked.sum(axis=rest))) for rest in others)


def _show_plane(axes: Axes, found: _Upright, plane: str, middle: tuple[int, ...]) -> None:
    right, up, across = _PLANES[plane]

    def cut(array: NDArray[np.generic]) -> NDArray[np.generic]:
        return np.moveaxis(array, (right, up, across), (0, 1, 2))[:, :, middle[across]]

    truth = None if found.truth is None else cut(found.truth)
    show_slice(axes, cut(found.image), cut(found.labels), truth)  # type: ignore[arg-type]
    axes.set_aspect(found.spacing[up] / found.spacing[right])
    bare(axes)
    size = found.image.shape[across]
    axes.set_title(f"{plane}, slice {middle[across] + 1} of {size}", fontsize=8)
    # Seen from the feet and from the front: the patient's right is on the left.
    is_mirrored = found.oriented and right == 0
    if is_mirrored:
        axes.invert_xaxis()
    if found.oriented:
        left, end = ENDS[right][::-1] if is_mirrored else ENDS[right]
        show_sides(axes, left, end, ENDS[up][1])
    show_scale(axes, found.image.shape[right] * found.spacing[right])
