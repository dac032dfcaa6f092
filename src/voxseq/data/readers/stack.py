"""From the slices of one series to a volume: their order, their grid, and what is wrong with them.

Every order of slices passes the same checks. Tolerances: directions agree within
:data:`_DIRECTION`, pixel spacings within :data:`_SPACING` of their length; slices lie in a line
within :data:`_IN_PLANE` of a pixel, and at even distances within :data:`_EVEN` of a step
(:data:`_NAMED` is used and named), or within what rounding of positions to 0.1 mm moves them.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

import numpy as np

from voxseq.base.errors import DataError
from voxseq.data.readers.dicom import SliceHeader
from voxseq.data.volume import Array, Remark, affine_of_lps, scaling_affine

Order = Literal["position", "instance"]

#: By so much directions of slices may differ, and the product of a slice's two from 1.
_DIRECTION, _SKEW = 5e-3, 0.05
#: Share of a pixel's length by which those of other slices may differ.
_SPACING = 1e-3
#: Rounding of two positions to 0.1 mm.
_ROUNDED = 0.101
#: Pixels by which slices may lie off their line.
_IN_PLANE = 0.25
#: Shares of a step by which slices may lie off even distances: used as even; and named.
_EVEN, _NAMED = 0.05, 0.1
#: A step between slices larger than this many usual steps is a missing slice.
_GAP, _REPEAT = 1.5, 0.1
#: Share of steps back by which repeated numbers are of several passes, and the mean length of a
#: run in which numbers mean something.
_BACK, _SHORTEST = 0.4, 3
#: Pixels by which a stack may lean before it is a tilt, and the largest tilt.
_LEAN, _STEEPEST = 0.5, 45.0


@dataclass(frozen=True)
class Stack:
    """Slices in order, and the grid that they make.

    Attributes:
        slices: in order.
        affine: (4, 4) of (column, row, slice) by position, of (row, column, slice) by number.
        shifts: (slices, 2) pixels along rows and columns by which the slices of a tilted gantry
            lie off the grid; None without a tilt.
        remarks: on what is odd and used all the same.
    """

    slices: tuple[SliceHeader, ...]
    affine: Array
    shifts: Array | None
    remarks: tuple[Remark, ...]


def arrange(slices: Sequence[SliceHeader], place: str, order: Order) -> Stack:
    """Put the slices of one series in order.

    Args:
        slices: all of them.
        place: of the series, for messages.
        order: along the normal of the slices, with the affine that the files state; or by
            InstanceNumber as published for RICORD, with no orientation.

    Raises:
        DataError: a file cannot be understood; the slices are not of one stack, or one is missing
            or repeated.
    """
    if not slices:
        raise DataError(f"{place}: no DICOM slice found", "look for its files")
    _check_each(slices)
    _check_equal(slices, place)
    if order == "instance":
        _check_numbers(slices, place)
        if not any(s.position or s.orientation for s in slices):
            ordered = sorted(slices, key=_number)
            return Stack(tuple(ordered), _published_affine(ordered), None, ())
    normal = _normal(slices, place)
    depth = np.array([s.position for s in slices]) @ normal
    ranks = np.argsort(depth, kind="stable")
    ordered = [slices[i] for i in ranks]
    remarks = _check_steps(ordered, depth[ranks], place)
    lean = _lean(ordered, normal, place)
    steepness = math.degrees(math.atan2(float(np.linalg.norm(lean)), _step(depth)))
    if steepness > _STEEPEST:
        raise DataError(
            f"{place}: the slices lie {steepness:.0f} degrees off their normal",
            "their positions contradict their orientation; leave the series out",
        )
    drift = _in_pixels(ordered[0], lean[None] * (len(ordered) - 1))
    is_tilted = bool(np.abs(drift).max() > _LEAN)
    tilt = f"the gantry was tilted by {steepness:.1f} degrees: the grid has no right angles"
    if order == "instance":
        if is_tilted:
            remarks.append(Remark(place, f"{tilt}; used as published", "nothing to do"))
        numbered = sorted(slices, key=_number)
        if numbered not in (ordered, ordered[::-1]):
            raise DataError(
                f"{place}: the order of InstanceNumber is not that of the positions",
                "look at both in its files, or leave the series out",
            )
        return Stack(tuple(numbered), _published_affine(numbered), None, tuple(remarks))
    if not is_tilted:
        return Stack(tuple(ordered), _affine(ordered, normal), None, tuple(remarks))
    shown = f"{tilt}; resampled to planes {_step(depth):.3g} mm apart"
    remarks.append(Remark(place, shown, "nothing to do where the gantry was tilted"))
    return _sheared(ordered, normal, lean, remarks)


def is_axial(item: SliceHeader) -> bool:
    """Whether a slice is nearer to axial than to coronal or sagittal; True if unstated."""
    if item.orientation is None:
        return True
    normal = np.abs(np.cross(item.orientation[:3], item.orientation[3:]))
    return bool(np.argmax(normal) == 2)


def _number(item: SliceHeader) -> tuple[int, str]:
    return item.instance or 0, item.path


def _step(depth: Array) -> float:
    """Mean distance of the slices along their normal."""
    return float(np.ptp(depth)) / max(len(depth) - 1, 1)


def _check_each(slices: Sequence[SliceHeader]) -> None:
    for item in slices:
        if item.fault:
            raise DataError(f"{item.path}: {item.fault}", "look at its header, or leave it out")
        if item.is_colour:
            raise DataError(f"{item.path}: pixels of {item.photometric}, expected one grey slice")
        if item.spacing is None:
            raise DataError(
                f"{item.path}: PixelSpacing is missing, so that the spacing is unknown",
                "leave the series out, or add it to its files",
            )
        if min(item.spacing) <= 0:
            raise DataError(
                f"{item.path}: a spacing of {item.spacing} mm, expected numbers above 0",
                "leave the series out",
            )


def _check_equal(slices: Sequence[SliceHeader], place: str) -> None:
    """Refuse slices of which some have another size, kind of pixels, spacing or orientation."""

    def check(what: str, value: Callable[[SliceHeader], object], odd: Collection[int]) -> None:
        if odd:
            usual = next(n for n in range(len(slices)) if n not in odd)
            other = min(odd)
            raise DataError(
                f"{place}: slices differ in {what}: {value(slices[usual])} in "
                f"{_name(slices[usual])}, {value(slices[other])} in {_name(slices[other])}",
                "look whether slices of several series are mixed; leave the series out",
            )

    check("rows and columns", lambda s: s.size, _other(slices, lambda s: s.size))
    check(
        "PhotometricInterpretation",
        lambda s: s.photometric,
        _other(slices, lambda s: s.photometric),
    )
    reference = np.array(slices[0].spacing)
    spacings = np.array([s.spacing for s in slices])
    odd = np.flatnonzero((np.abs(spacings - reference) > _SPACING * reference).any(axis=1))
    check("PixelSpacing", lambda s: s.spacing, odd.tolist())
    directions = [s.orientation for s in slices if s.orientation is not None]
    if directions:
        away = np.abs(np.array(directions) - directions[0]).max(axis=1) > _DIRECTION
        known = [n for n, s in enumerate(slices) if s.orientation is not None]
        odd = np.array(known)[away]
        check("ImageOrientationPatient", lambda s: s.orientation, odd.tolist())


def _name(item: SliceHeader) -> str:
    name = PurePosixPath(item.path).name
    return f"{name}, frame {item.frame + 1}" if item.frames > 1 else name


def _other(slices: Sequence[SliceHeader], value: Callable[[SliceHeader], object]) -> list[int]:
    """Numbers of the slices whose value is not the most frequent one."""
    values = [value(item) for item in slices]
    usual = Counter(values).most_common(1)[0][0]
    return [number for number, found in enumerate(values) if found != usual]


def _check_numbers(slices: Sequence[SliceHeader], place: str) -> None:
    """Refuse numbers that give no order; without positions they tell of missing slices too."""
    for item in slices:
        if item.instance is None:
            raise DataError(
                f"{item.path}: InstanceNumber is missing or no number",
                "the slices are placed by it; leave the series out",
            )
    numbers = sorted(_number(item)[0] for item in slices)
    steps = np.diff(numbers)
    if (steps == 0).any():
        repeated = numbers[int(np.argmin(steps))]
        raise DataError(
            f"{place}: several slices have the InstanceNumber {repeated}",
            "look whether slices of several passes are mixed; leave the series out",
        )
    is_placed = all(s.position and s.orientation for s in slices)
    if not is_placed and len(steps) and steps.max() > 1:
        after = numbers[int(np.argmax(steps))]
        raise DataError(f"{place}: the slice after InstanceNumber {after} is missing", _LOOK)


#: What to do about missing slices.
_LOOK = "look for it among the files; leave the series out without it"


def _normal(slices: Sequence[SliceHeader], place: str) -> Array:
    """Unit vector along which the slices are put in order."""
    directions = slices[0].orientation
    if directions is None or any(s.position is None or s.orientation is None for s in slices):
        raise DataError(
            f"{place}: ImagePositionPatient or ImageOrientationPatient is missing",
            "the slices cannot be put in order; leave the series out",
        )
    normal: Array = np.cross(directions[:3], directions[3:])
    if not abs(float(np.linalg.norm(normal)) - 1.0) < _SKEW:
        raise DataError(
            f"{place}: ImageOrientationPatient {[*directions]} is not of two directions at right "
            "angles",
            "leave the series out",
        )
    return normal


def steps_fault(depth: Array) -> str:
    """What is wrong with the distances of slices; "" where they are even, or nearly so.

    Args:
        depth: (slices,) mm along their normal, rising.
    """
    steps = np.diff(depth)
    if not len(steps):
        return ""
    usual = _usual(steps)
    if usual <= 0 or steps.min() < _REPEAT * usual:
        return "several slices lie at the same place"
    if steps.max() > _GAP * usual:
        return f"a slice is missing (step of {steps.max():g} mm, usually {usual:g} mm)"
    off = _off(depth)
    if off > max(2 * _ROUNDED, _NAMED * _step(depth)):
        return f"uneven steps between slices, of {steps.min():.4g} to {steps.max():.4g} mm"
    return ""


def _usual(steps: Array) -> float:
    """The middle one; of two the smaller, because their mean is neither."""
    return float(np.sort(steps)[(len(steps) - 1) // 2])


def _off(depth: Array) -> float:
    """Distance in mm by which slices lie off even places."""
    return float(np.abs(depth - np.linspace(depth[0], depth[-1], len(depth))).max())


def _check_steps(ordered: Sequence[SliceHeader], depth: Array, place: str) -> list[Remark]:
    fault = steps_fault(depth)
    if fault:
        steps = np.diff(depth)
        worst = int(np.argmax(np.abs(steps - _usual(steps))))
        pair = ordered[worst], ordered[worst + 1]
        between = " and ".join(_name(item) for item in pair)
        passes = [dict(item.passes)["acquisition"] for item in pair]
        other = f", AcquisitionNumber {' and '.join(passes)}" if len({*passes}) > 1 else ""
        raise DataError(f"{place}: {fault}, at {between}{other}", _LOOK)
    if ordered[0].modality == "CT":
        count = interleaved([item.instance for item in ordered])
        if count > 1:
            raise DataError(
                f"{place}: InstanceNumber runs through the body {count} times: {count} phases or "
                "passes of one series lie between each other",
                "keep the slices of one of them, or leave the series out",
            )
    remarks = []
    off, step = _off(depth), _step(depth)
    if off > max(_ROUNDED, _EVEN * step):
        steps = np.diff(depth)
        shown = f"uneven steps between slices, of {steps.min():.4g} to {steps.max():.4g} mm"
        reason = f"{shown}: up to {off:.2g} mm off, taken as even"
        remarks.append(Remark(place, reason, "look at its positions for slices of another series"))
    stated = ordered[0].step or ordered[0].thickness
    numbers = [item.instance or 0 for item in ordered]
    jumps = np.abs(np.diff(numbers))
    if len(jumps) and (jumps > 1).all() and 0 < _GAP * stated < step:
        reason = f"slices are {step:.3g} mm apart where {stated:g} mm are stated, and not numbered"
        reason = f"{reason} one by one: some seem to be missing between them"
        remarks.append(Remark(place, reason, "look for the others; nothing to do without them"))
    return remarks


def interleaved(numbers: Sequence[int | None]) -> int:
    """How many runs of InstanceNumber lie between each other, in order of position.

    1 where there is one, or where the numbers say nothing of the order.
    """
    known = [n for n in numbers if n is not None]
    count = Counter(known)
    if len(known) < len(numbers) or len(count) < 2:
        return 1
    most = max(count.values())
    if most > 1:
        # Numbers that are used again: one run after the other has few steps back.
        steps = np.sign(np.diff(known))
        forward = 1 if (steps > 0).sum() >= (steps < 0).sum() else -1
        is_between = (steps != forward).mean() > _BACK
        return most if is_between and most * len(count) < 1.5 * len(known) else 1
    runs = _monotone(np.argsort(known).tolist())
    if min(len(run) for run in runs) < 2 or len(runs) * _SHORTEST > len(known):
        return 1
    spans = sorted((min(run), max(run)) for run in runs)
    crosses = any(b[0] < a[1] for a, b in itertools.pairwise(spans))
    return len(runs) if crosses else 1


def _monotone(places: Sequence[int]) -> list[list[int]]:
    """Divide a sequence into runs that rise or fall throughout."""
    runs: list[list[int]] = [[places[0]]]
    for place in places[1:]:
        run = runs[-1]
        if len(run) > 1 and (place > run[-1]) != (run[-1] > run[-2]):
            runs.append([place])
        else:
            run.append(place)
    return runs


def _lean(ordered: Sequence[SliceHeader], normal: Array, place: str) -> Array:
    """Vector in the plane, in mm, by which each slice lies beside the one before."""
    places = np.array([item.position for item in ordered])
    flat = places - np.outer(places @ normal, normal) / (normal @ normal)
    lean: Array = (flat[-1] - flat[0]) / max(len(flat) - 1, 1)
    line = flat[0] + np.outer(np.arange(len(flat)), lean)
    off = np.linalg.norm(flat - line, axis=1)
    pixel = min(ordered[0].spacing or (1.0,))
    if off.max() > max(_ROUNDED, _IN_PLANE * pixel):
        raise DataError(
            f"{place}: slices are displaced in their plane, by up to {off.max():.3g} mm "
            f"({_name(ordered[int(np.argmax(off))])})",
            "look at ImagePositionPatient, and whether slices of several series are mixed",
        )
    return lean


def _in_pixels(item: SliceHeader, vectors: Array) -> Array:
    """(n, 3) vectors in mm as (n, 2) pixels along rows and columns: row number, column number."""
    assert item.orientation is not None and item.spacing is not None
    column, row = np.array(item.orientation[:3]), np.array(item.orientation[3:])
    return np.stack([vectors @ row / item.spacing[0], vectors @ column / item.spacing[1]], axis=1)


def _affine(ordered: Sequence[SliceHeader], normal: Array) -> Array:
    """Affine (4, 4) of (column, row, slice) in the RAS+ world of NIfTI."""
    assert ordered[0].spacing is not None and ordered[0].orientation is not None
    row, column = ordered[0].spacing
    directions = np.array(ordered[0].orientation)
    first, last, count = np.array(ordered[0].position), np.array(ordered[-1].position), len(ordered)
    step = (last - first) / (count - 1) if count > 1 else normal * (ordered[0].thickness or 1.0)
    axes = np.column_stack([directions[:3] * column, directions[3:] * row, step])
    return affine_of_lps(axes, first)


def _published_affine(ordered: Sequence[SliceHeader]) -> Array:
    """Affine (4, 4) of (row, column, slice) without an orientation."""
    assert ordered[0].spacing is not None
    row, column = ordered[0].spacing
    positions = [item.position for item in ordered[:2]]
    step = 0.0
    if len(positions) == 2 and positions[0] is not None and positions[1] is not None:
        step = float(np.linalg.norm(np.subtract(positions[1], positions[0])))
    return scaling_affine((row, column, step if step > 0 else ordered[0].thickness or 1.0))


def _sheared(
    ordered: Sequence[SliceHeader], normal: Array, lean: Array, remarks: Sequence[Remark]
) -> Stack:
    """The right-angled grid that holds all slices of a tilted gantry."""
    count = len(ordered)
    shifts = _in_pixels(ordered[0], np.outer(np.arange(count), lean))
    least = shifts.min(axis=0)
    affine = _affine(ordered, normal)
    # The step without its part in the plane, and the corner of the grid that holds all slices.
    in_world = np.diag([-1.0, -1.0, 1.0])
    affine[:3, 2] -= in_world @ lean
    affine[:3, 3] += affine[:3, 0] * least[1] + affine[:3, 1] * least[0]
    return Stack(tuple(ordered), affine, shifts - least, tuple(remarks))
