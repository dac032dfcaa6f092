"""Grids as headers state them: how far two of them lie apart, and what is odd about one.

Readers add what only their format can say, such as two forms of one NIfTI file that disagree.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from voxseq.data.volume import Array, Remark, Volume

#: Grids whose corners lie further apart than this share of a voxel's shortest side are two grids.
GRID_TOLERANCE = 0.5
#: Below this share, differences are rounding; between the two they are named.
ROUNDING = 0.05
#: Spacing in mm beyond which a header is more likely wrong than the scan unusual.
SPACING = (0.05, 20.0)
#: Degrees by which axes may miss the right angle: rounded directions do by less.
RIGHT_ANGLE = 0.5
#: No scanner tilts further, in degrees.
LARGEST_SHEAR = 35.0
#: Relative difference of two statements of a spacing: many headers keep two digits.
SPACING_TOLERANCE = 0.03
#: The next step for an odd header.
COMPARE = "compare the header with its source: correct it, or leave the file out if it is wrong"


def corner_distance(one: Array, two: Array, shape: Sequence[int]) -> float:
    """Largest distance in mm, along an axis of the world, of the corners of two grids.

    Args:
        one: affine (4, 4).
        two: affine (4, 4).
        shape: voxels of both.
    """
    corners = np.array([[*c, 1] for c in itertools.product(*[(0, n - 1) for n in shape])]).T
    with np.errstate(invalid="ignore"):
        return float(np.abs((one - two) @ corners)[:3].max())


def shear(affine: Array) -> float:
    """Degrees by which the axes of a grid (4, 4) miss the right angle, at most."""
    axes = affine[:3, :3] / np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    cosines = [abs(float(axes[:, i] @ axes[:, j])) for i, j in ((0, 1), (0, 2), (1, 2))]
    return float(np.degrees(np.arcsin(min(max(cosines), 1.0))))


def in_ras(affine: Array, shape: Sequence[int]) -> tuple[Array, tuple[int, ...]]:
    """Affine and shape of a grid after its axes are turned to right, anterior, superior."""
    from nibabel import orientations  # late: who reads a store needs none

    turned = orientations.io_orientation(affine)
    sides = [0, 0, 0]
    for axis, target in enumerate(turned[:, 0]):
        sides[int(target)] = int(shape[axis])
    return affine @ orientations.inv_ornt_aff(turned, shape), tuple(sides)


def grid_remarks(volume: Volume, path: str) -> list[Remark]:
    """What is odd about the grid of an image that can be used."""
    shape, spacing = volume.array.shape, volume.spacing
    remarks = []
    if min(spacing) < SPACING[0] or max(spacing) > SPACING[1]:
        usual = f"expected {SPACING[0]:g} to {SPACING[1]:g}"
        reason = f"suspicious spacing, {product(spacing)} mm: {usual}"
        remarks.append(Remark(path, reason, COMPARE))
    if min(shape) < 2:
        remarks.append(Remark(path, f"a single slice, shape {product(shape)}", COMPARE))
    angle = shear(volume.affine)
    if angle > RIGHT_ANGLE:
        reason = (
            f"its grid is sheared, axes miss the right angle by {angle:.1f} degrees: it is used as "
            "if they did not"
        )
        remedy = (
            "resample it to a grid with right angles, such as by "
            "nibabel.processing.resample_to_output, its label likewise"
        )
        remarks.append(Remark(path, reason, remedy))
    return remarks


def product(numbers: Sequence[float]) -> str:
    """Numbers of axes in words, such as "0.8 x 0.8 x 5"."""
    return " x ".join(f"{n:g}" for n in numbers)
