"""Which images show the same picture: the one notion of splits, exclusion and ``verify``.

A copy that was stored in another orientation or type, resampled, windowed, or cut by a few voxels
has another content hash. It is found in two steps. A pair is a candidate when its thumbnails, or
the ranks in them, correlate by :data:`CANDIDATE` and the lengths of the sides differ by at most
:data:`SIDE_TOLERANCE`. It is confirmed when the details, laid upon each other, correlate by
:data:`SAME_PICTURE` on the mean of small neighbourhoods inside the bodies. Outlines count for
nothing there: those of different heads in one space are alike. A correlation within a neighbourhood
does not see a window or another scale. What this finds and what it misses is measured in
``docs/leakage.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, stats

from voxseq.data.thumbnail import DETAIL_SIDE, SIZE, Bytes, Floats, unpacked_detail

if TYPE_CHECKING:
    import pandas as pd

Integers = NDArray[np.int64]
#: Least correlation of the thumbnails, or of their ranks, of a candidate.
CANDIDATE = 0.85
#: Largest relative difference of the lengths of their sides: cutting moves them.
SIDE_TOLERANCE = 0.12
#: Least mean correlation of the details: of different persons at most 0.74 is known.
SAME_PICTURE = 0.8
#: Candidates of one image that are compared in detail: those whose coarse details are most alike.
_MOST = 8
#: Images whose thumbnails are compared with all others at a time.
_BLOCK = 1024
#: Levels of a detail up to which a box may be background, and least variance of a neighbourhood.
_BACKGROUND, _FLAT = 12, 6.0
#: A body that fills less than this share of the boxes is too small to be looked at alone.
_LEAST_BODY = 0.02
#: Fewer neighbourhoods than this, or than this share of the body, prove nothing: an image that is
#: cut to white and air shows its outlines only. Windows of real CT leave a share of 0.62 and more.
_LEAST_BOXES, _LEAST_SHARE = 100, 0.4
#: Sides that differ by less than two times this, in boxes, leave nothing to shift.
_NO_SHIFT = 0.1
#: Steps of the search for the shift, and the step in boxes that ends it.
_STEPS, _LAST_STEP = 8, 0.02
#: Where voxels differ in size by more than this share, and the larger ones exceed a box, both
#: details are blurred, by this many of the larger voxels.
_SAME_SPACING, _BLUR = 0.1, 0.35
#: Boxes along a side of the neighbourhoods whose mean is taken off before details are aligned.
_SMOOTH = 5


@dataclass(frozen=True, eq=False)
class Pictures:
    """Thumbnails, sizes and details of n images.

    Attributes:
        thumbnails: (n, 512).
        sides: (n, 3) lengths in mm along right, anterior, superior; along the stored axes where
            the file states no orientation.
        counts: (n, 3) voxels along the same axes.
        persons: data set and subject, or another key; images of one person are not compared.
        details: gives the details (32, 32, 32) of the images with these numbers.
    """

    thumbnails: Floats
    sides: NDArray[np.float64]
    counts: Integers
    persons: Sequence[Hashable]
    details: Callable[[Sequence[int]], Sequence[Bytes]]

    def __len__(self) -> int:
        return len(self.thumbnails)


def pictures(
    index: pd.DataFrame,
    persons: Sequence[Hashable],
    packed: Callable[[Sequence[int]], Sequence[str]] | None = None,
) -> Pictures:
    """Pictures of the rows of an index, or of a store's table.

    Args:
        index: with the columns of the index, ``detail`` only where ``packed`` is None.
        persons: of the rows.
        packed: gives the column ``detail`` of the rows with these numbers.
    """
    if packed is None:

        def packed(numbers: Sequence[int]) -> Sequence[str]:
            return [index["detail"].iloc[number] for number in numbers]

    read = packed

    def details(numbers: Sequence[int]) -> list[Bytes]:
        return [unpacked_detail(text) for text in read(numbers)]

    if index.empty:
        return Pictures(
            np.zeros((0, SIZE), np.float32),
            np.zeros((0, 3)),
            np.zeros((0, 3), np.int64),
            (),
            details,
        )
    counts = index[["shape_x", "shape_y", "shape_z"]].to_numpy(np.int64)
    sides = counts * index[["spacing_x", "spacing_y", "spacing_z"]].to_numpy(float)
    # Stored axis that runs along each of right, anterior, superior; as stored where unknown.
    turns = (nibabel.orientations.axcodes2ornt(str(c) or "RAS") for c in index["orientation"])
    axes = np.array([np.argsort(turn[:, 0]) for turn in turns])
    return Pictures(
        np.stack(index["thumbnail"].to_list()).astype(np.float32),
        np.take_along_axis(sides, axes, axis=1),
        np.take_along_axis(counts, axes, axis=1),
        persons,
        details,
    )


def copies(sources: Pictures, held_out: Pictures) -> tuple[Integers, Floats]:
    """Which held-out picture each source shows.

    Returns:
        For every source the most similar of the held-out images that pass as its copy, -1 for
        none, and the correlation of their details, 0 for none; both (n,).
    """
    nearest = np.full(len(sources), -1, np.int64)
    highest = np.zeros(len(sources), np.float32)
    for one, other, correlation in _matches(sources, held_out, _candidates(sources, held_out)):
        if correlation > highest[one]:
            nearest[one], highest[one] = other, correlation
    return nearest, highest


def repeated(images: Pictures) -> list[tuple[int, int, float]]:
    """Pairs of images of different persons that show one picture.

    Returns:
        Both indices, the smaller first, and the correlation of their details.
    """
    pairs = ((one, others[others > one]) for one, others in _candidates(images, images))
    return list(_matches(images, images, pairs))


def detail_correlation(
    one: Bytes,
    other: Bytes,
    sides: tuple[Sequence[float], Sequence[float]],
    counts: tuple[Sequence[int], Sequence[int]],
) -> float:
    """How alike two details are, laid upon each other: mean correlation of neighbourhoods.

    Args:
        one: (32, 32, 32).
        other: the same of the other image.
        sides: lengths of both images in mm; their difference is how far they may be shifted.
        counts: voxels of both images along their sides; a coarser one shows nothing finer.

    Returns:
        The mean, over the neighbourhoods of 3 x 3 x 3 boxes that lie in both bodies and are flat
        in none, of the correlation of both; 0 where there are too few.
    """
    x, y, shown = _aligned(one, other, sides)
    body = ndimage.binary_erosion(
        shown & (x > _BACKGROUND) & (y > _BACKGROUND), np.ones((3, 3, 3), bool), border_value=1
    )
    if body.mean() < _LEAST_BODY:
        body = shown
    lengths, numbers = np.asarray(sides, float), np.asarray(counts)
    spacing = lengths / numbers
    differs = np.ptp(spacing, axis=0) > _SAME_SPACING * spacing.max(axis=0)
    voxel = DETAIL_SIDE / numbers.min(axis=0)
    blur = np.where(differs & (voxel > 1), _BLUR * voxel, 0.0)
    x, y = (ndimage.gaussian_filter(detail, blur, mode="nearest") for detail in (x, y))
    mean_x, mean_y = _blurred(x, 3), _blurred(y, 3)
    variance_x, variance_y = _blurred(x * x, 3) - mean_x**2, _blurred(y * y, 3) - mean_y**2
    looked_at = body & (variance_x > _FLAT) & (variance_y > _FLAT)
    if np.count_nonzero(looked_at) < max(_LEAST_BOXES, _LEAST_SHARE * np.count_nonzero(body)):
        return 0.0
    covariance = (_blurred(x * y, 3) - mean_x * mean_y)[looked_at]
    spread = np.sqrt(variance_x[looked_at] * variance_y[looked_at])
    return float(np.mean(covariance / spread, dtype=np.float64))


def _candidates(left: Pictures, right: Pictures) -> Iterator[tuple[int, Integers]]:
    """Number of an image on the left, and those on the right that may show its picture."""
    ranks = [_ranks(images.thumbnails) for images in (left, right)]
    persons = {person: number for number, person in enumerate({*left.persons, *right.persons})}
    who, whose = (
        np.array([persons[p] for p in images.persons], np.int64) for images in (left, right)
    )
    for start in range(0, len(left), _BLOCK):
        part = slice(start, start + _BLOCK)
        product = np.maximum(
            left.thumbnails[part] @ right.thumbnails.T, ranks[0][part] @ ranks[1].T
        )
        for offset, found in enumerate(product >= np.float32(CANDIDATE * SIZE)):
            number = start + offset
            others = np.flatnonzero(found & (whose != who[number]))
            one, other = left.sides[number], right.sides[others]
            fits = np.abs(one - other) <= SIDE_TOLERANCE * np.maximum(one, other)
            if fits.all(axis=1).any():
                yield number, others[fits.all(axis=1)]


def _ranks(thumbnails: Floats) -> Floats:
    """Ranks (n, 512) of the boxes of each thumbnail, minus mean, over standard deviation."""
    if not len(thumbnails):
        return thumbnails
    ranks = stats.rankdata(thumbnails, axis=1) - (SIZE + 1) / 2
    spread = ranks.std(axis=1, keepdims=True)
    result: Floats = (ranks / np.where(spread > 0, spread, 1)).astype(np.float32)
    return result


def _matches(
    left: Pictures, right: Pictures, candidates: Iterable[tuple[int, Integers]]
) -> Iterator[tuple[int, int, float]]:
    """Indices in both sets and correlation of the candidates that are confirmed."""
    pairs = [(one, others) for one, others in candidates if len(others)]
    ours = _loaded(left, {one for one, _ in pairs})
    theirs = _loaded(right, {int(n) for _, others in pairs for n in others})
    has_many = any(len(others) > _MOST for _, others in pairs)
    coarse = {n: _coarse(detail) for n, detail in theirs.items()} if has_many else {}
    for one, others in pairs:
        chosen = others
        if len(others) > _MOST:
            alike = np.stack([coarse[int(n)] for n in others]) @ _coarse(ours[one])
            chosen = np.sort(others[np.argsort(-alike, kind="stable")[:_MOST]])
        for other in chosen.tolist():
            sides = (left.sides[one].tolist(), right.sides[other].tolist())
            counts = (left.counts[one].tolist(), right.counts[other].tolist())
            correlation = detail_correlation(ours[one], theirs[other], sides, counts)
            if correlation >= SAME_PICTURE:
                yield one, other, correlation


def _loaded(images: Pictures, numbers: Iterable[int]) -> Mapping[int, Bytes]:
    wanted = sorted(numbers)
    return dict(zip(wanted, images.details(wanted), strict=True)) if wanted else {}


def _coarse(detail: Bytes) -> Floats:
    """A detail at half its resolution, without its slow changes, of length 1: (4096,)."""
    half = detail.reshape((DETAIL_SIDE // 2, 2) * 3).mean(axis=(1, 3, 5), dtype=np.float32)
    values = _sharp(half).ravel()
    result: Floats = values / max(float(np.linalg.norm(values)), 1e-6)
    return result


def _blurred(array: Floats, side: int) -> Floats:
    result: Floats = ndimage.uniform_filter(array, side, mode="nearest")
    return result


def _sharp(array: Floats) -> Floats:
    return array - _blurred(array, _SMOOTH)


def _aligned(
    one: Bytes, other: Bytes, sides: tuple[Sequence[float], Sequence[float]]
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Both details on one grid, and which of its boxes lie in both.

    The sides say how their scales differ. Where a copy was cut is not known: the shift that fits
    best is searched by Gauss-Newton steps (Lucas and Kanade, 1981), both images moving half of it.
    """
    x, y = one.astype(np.float32), other.astype(np.float32)
    lengths = np.asarray(sides, float)
    middle = lengths.mean(axis=0)
    # In boxes of the common grid.
    most = np.abs(lengths[0] - lengths[1]) / 2 / middle * DETAIL_SIDE
    if (most < _NO_SHIFT).all():
        return x, y, np.ones(x.shape, bool)
    most = 1.15 * most + _NO_SHIFT
    scales = middle / lengths
    sharp_x, sharp_y = _sharp(x), _sharp(y)
    shift = np.zeros(3)
    for _ in range(_STEPS):
        moved_x, moved_y, shown = _moved(sharp_x, sharp_y, scales, shift)
        slopes = np.array(np.gradient((moved_x + moved_y) / 2), np.float64)[:, shown]
        step = np.linalg.solve(
            slopes @ slopes.T + 1e-3 * np.eye(3), slopes @ (moved_x - moved_y)[shown]
        )
        shift = np.clip(shift + np.clip(step, -1, 1), -most, most)
        if np.abs(step).max() < _LAST_STEP:
            break
    return _moved(x, y, scales, shift)


def _moved(
    x: Floats, y: Floats, scales: NDArray[np.float64], shift: NDArray[np.float64]
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    left, shown = _sampled(x, scales[0], -shift / 2)
    right, also_shown = _sampled(y, scales[1], shift / 2)
    return left, right, shown & also_shown


def _sampled(
    detail: Floats, scale: NDArray[np.float64], shift: NDArray[np.float64]
) -> tuple[Floats, NDArray[np.bool_]]:
    """A detail at the boxes of another grid, by cubic convolution; which of them lie in it.

    Args:
        detail: (n, n, n).
        scale: of the grid, relative to the detail, about their common centre.
        shift: of the grid, in its own boxes.
    """
    (a, in_a), (b, in_b), (c, in_c) = (
        _weights(len(detail), float(s), float(d)) for s, d in zip(scale, shift * scale, strict=True)
    )
    values = np.einsum("ia,abc->ibc", a, detail, optimize=True)
    values = np.matmul(np.matmul(b, values), c.T)
    inside: NDArray[np.bool_] = in_a[:, None, None] & in_b[:, None] & in_c
    return values, inside


def _weights(count: int, scale: float, shift: float) -> tuple[Floats, NDArray[np.bool_]]:
    """Weights (n, n) of the boxes along an axis at each place, and which places lie in them."""
    centre = (count - 1) / 2
    places = (np.arange(count) - centre) * scale + centre + shift
    inside = (places > -0.25) & (places < count - 0.75)
    places = np.clip(places, 0, count - 1)
    first = np.floor(places).astype(int)
    t = places - first
    weights = np.zeros((count, count), np.float32)
    # Keys (1981), a = -1/2.
    for offset, weight in (
        (-1, -0.5 * t + t**2 - 0.5 * t**3),
        (0, 1 - 2.5 * t**2 + 1.5 * t**3),
        (1, 0.5 * t + 2 * t**2 - 1.5 * t**3),
        (2, -0.5 * t**2 + 0.5 * t**3),
    ):
        np.add.at(weights, (np.arange(count), np.clip(first + offset, 0, count - 1)), weight)
    return weights, inside


def same_pictures(rows: Sequence[Mapping[str, Any]]) -> list[tuple[int, int, float]]:
    """:func:`repeated` of rows of one index."""
    import pandas as pd

    table = pd.DataFrame(rows)
    return repeated(pictures(table, [row["subject"] for row in rows]))
