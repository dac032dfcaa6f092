"""Pictures of predictions: the right slices, sides and sizes; labels of other grids are refused."""

from __future__ import annotations

import numpy as np
import pytest

from voxseq.base.errors import DataError
from voxseq.data.volume import Volume, scaling_affine
from voxseq.report.figures.planes import planes_figure
from voxseq.report.figures.style import styled

SHAPE = (12, 10, 8)


def volume(array: np.ndarray, affine: np.ndarray | None = None, *, oriented: bool = True) -> Volume:
    return Volume(array, np.diag([2.0, 2.0, 5.0, 1.0]) if affine is None else affine, oriented)


def labelled() -> tuple[Volume, Volume]:
    """An image whose label lies to the right, in front and above (RAS+)."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[8:11, 6:9, 5:8] = 2
    labels[8:11, 6:9, 6] = 2
    return volume(np.random.default_rng(0).normal(size=SHAPE)), volume(labels)


def texts(image: Volume, labels: Volume, truth: Volume | None = None) -> list[list[str]]:
    """Title and texts of each plane."""
    with styled():
        figure = planes_figure(image, labels, truth, names=["liver", "tumour"])
        return [[a.get_title(), *(t.get_text() for t in a.texts)] for a in figure.axes]


def test_planes_go_through_the_label_with_letters_and_a_bar() -> None:
    assert texts(*labelled()) == [
        ["axial, slice 6 of 8", "R", "L", "A", "5 mm"],
        ["coronal, slice 7 of 10", "R", "L", "S", "5 mm"],
        ["sagittal, slice 9 of 12", "P", "A", "S", "5 mm"],
    ]


@pytest.mark.parametrize("flips", [(-1, 1, 1), (-1, -1, 1), (1, -1, -1)])
def test_the_same_picture_whatever_the_order_of_voxels_in_the_file(
    flips: tuple[int, int, int],
) -> None:
    image, labels = labelled()
    step = tuple(slice(None, None, flip) for flip in flips)

    def other(one: Volume) -> Volume:
        affine = one.affine @ np.diag([*flips, 1.0])
        affine[:3, 3] = [
            (size - 1) * space if flip < 0 else 0.0
            for size, space, flip in zip(SHAPE, one.spacing, flips, strict=True)
        ]
        return Volume(one.array[step], affine)

    def drawn(*volumes: Volume) -> np.ndarray:
        with styled():
            figure = planes_figure(*volumes)
            figure.canvas.draw()
        return np.asarray(figure.canvas.buffer_rgba())  # type: ignore[attr-defined]

    assert np.array_equal(drawn(image, labels), drawn(other(image), other(labels)))


def test_without_an_orientation_no_side_is_claimed() -> None:
    array = np.zeros(SHAPE)
    one = Volume(array, scaling_affine((1.0, 1.0, 1.0)), oriented=False)
    assert texts(one, one)[0] == ["axial, slice 5 of 8", "2 mm"]


@pytest.mark.parametrize("what", ["shape", "position", "truth"])
def test_labels_of_another_grid_are_refused(what: str) -> None:
    image, labels = labelled()
    moved = volume(labels.array, image.affine + np.eye(4)[:, [3, 0, 1, 2]])
    other = volume(labels.array[1:]) if what == "shape" else moved
    with pytest.raises(DataError, match="not on the image's grid"):
        planes_figure(image, *((labels, other) if what == "truth" else (other,)))
