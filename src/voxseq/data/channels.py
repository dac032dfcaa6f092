"""The channels of an image: files of their own, or the fourth axis of one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from voxseq.base.errors import DataError
from voxseq.base.words import several
from voxseq.data.headers import GRID_TOLERANCE, corner_distance, product
from voxseq.data.volume import Array, Entry, Volume

if TYPE_CHECKING:
    from voxseq.data.layouts import Adapter

_ONE_GRID = "resample the channels of an image to one grid"
_NAME_THEM = (
    "if they are channels, name each in options.channels, in their order, such as [T1, T2] "
    "(`voxseq init`: --channels T1,T2); else keep one of the volumes in a file of its own"
)


def read_channels(
    adapter: Adapter,
    folder: Path,
    entry: Entry,
    names: Sequence[str],
    chosen: Sequence[int] | None = None,
) -> Iterator[Volume]:
    """Yield the channels (X, Y, Z) of an image; files of their own are read one after the other.

    Args:
        adapter: of the data set's layout.
        folder: of the data set.
        entry: the image.
        names: of all channels that the data set has.
        chosen: numbers of those that are wanted; None: all.

    Raises:
        DataError: the image has another number of channels, or a file cannot be read.
    """
    numbers = range(len(names)) if chosen is None else chosen
    if not entry.channels:
        yield from split_channels(adapter.read_image(folder, entry), entry.path, names, numbers)
        return
    if len(entry.channels) != len(names):
        raise DataError(
            f"{entry.path}: the image has {len(entry.channels)} files, but the data set names "
            f"{_counted(names)}",
            "correct options.channels of the data set",
        )
    for number in numbers:
        path = entry.channels[number]
        volume = adapter.read_image(folder, replace(entry, path=path, channels=()))
        yield from split_channels(volume, path, names[number : number + 1], (0,))


def split_channels(
    volume: Volume, path: str, names: Sequence[str], chosen: Sequence[int]
) -> Iterator[Volume]:
    """Yield chosen channels (X, Y, Z) of an image (X, Y, Z) or (X, Y, Z, C), as views.

    Args:
        volume: as it was read.
        path: of the image, for messages.
        names: of the channels that it must have.
        chosen: their numbers.

    Raises:
        DataError: it has another number of channels.
    """
    shape = volume.array.shape
    if len(shape) not in (3, 4):
        raise DataError(
            f"{path}: the image has {len(shape)} axes, shape {shape}; expected three, or four of "
            "which the last has the channels",
            "convert it, or leave it out",
        )
    held = shape[3] if len(shape) == 4 else 1
    if held != len(names):
        found = f"{several(held, 'volume')} along its fourth axis" if shape[3:] else "one channel"
        raise DataError(
            f"{path}: it has {found}, shape {shape}, but options.channels of the data set names "
            f"{_counted(names)}",
            _NAME_THEM if held > 1 else "correct options.channels: the images have one channel",
        )
    if len(shape) == 3:
        yield volume
        return
    for number in chosen:
        remarks = volume.remarks if number == chosen[0] else ()
        yield replace(volume, array=volume.array[..., number], remarks=remarks)


def require_one_grid(first: Volume, other: Volume, path: str) -> None:
    """Refuse a channel that does not lie on the grid of the first one.

    Args:
        first: the first channel.
        other: another one.
        path: file or name of the other, for the message.

    Raises:
        DataError: another shape, corners further apart than half a voxel, or only one of the two
            states an orientation.
    """
    shapes = first.array.shape, other.array.shape
    if shapes[0] != shapes[1]:
        raise DataError(
            f"{path}: its shape {product(shapes[1])} is not that of the first channel, "
            f"{product(shapes[0])}",
            _ONE_GRID,
        )
    if first.oriented != other.oriented:
        lacking = "it" if first.oriented else "the first channel"
        raise DataError(
            f"{path}: whether it lies on the grid of the first channel cannot be told, as "
            f"{lacking} states no orientation",
            _ONE_GRID,
        )
    if not is_near(other, first.affine):
        distance = corner_distance(first.affine, other.affine, shapes[0])
        raise DataError(
            f"{path}: its grid is not that of the first channel, their corners are up to "
            f"{distance:.3g} mm apart",
            _ONE_GRID,
        )


def is_near(volume: Volume, affine: Array) -> bool:
    """Whether the corners of a channel lie where those of its voxels by ``affine`` (4, 4) do."""
    distance = corner_distance(volume.affine, affine, volume.array.shape)
    return distance <= GRID_TOLERANCE * min(volume.spacing)


def channel_paths(entry: Entry, names: Sequence[str]) -> list[str]:
    """What messages call each channel: its file, or the file and the channel's name."""
    if entry.channels:
        return list(entry.channels)
    return [entry.path, *(f"{entry.path}: channel {name}" for name in names[1:])]


def _counted(names: Sequence[str]) -> str:
    return "one channel" if len(names) == 1 else f"{len(names)} channels: {', '.join(names)}"
