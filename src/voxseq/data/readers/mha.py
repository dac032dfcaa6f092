"""Reading one MetaImage file (.mha) whose voxels follow its header.

Read here and not by ITK, which follows the header to any other file, hands out memory that nobody
has filled where packed voxels are damaged, and ends the process at some headers.
"""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from voxseq.data.readers.files import MOST_PACKED, check_size
from voxseq.data.volume import Array

#: Most bytes of a header, before the voxels.
_HEADER = 1 << 16
_PIECE = 1 << 22
_TYPES: Mapping[str, str] = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_WORDS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}


def read_mha(folder: Path, path: str) -> tuple[Array, Array]:
    """Voxels (X, Y, Z) and affine (4, 4) in ITK's world, LPS+, of ``folder / path``.

    Raises:
        DataError: more voxels than any image has.
        ValueError: anything else in the file that is not as specified, or not supported.
        OSError: it cannot be read.
    """
    with (folder / path).open("rb") as file:
        fields = _header(file)
        shape = _shape(fields)
        check_size(path, shape)
        dtype = _dtype(fields)
        is_packed = _flag(fields, "CompressedData")
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        voxels = _unpacked(file, fields, size) if is_packed else _stored(file, size)
    array = voxels.view(dtype).reshape(shape[::-1]).transpose(2, 1, 0)
    return array.astype(dtype.newbyteorder("="), copy=False), _affine(fields)


def _header(file: BinaryIO) -> dict[str, str]:
    """The lines up to the one that says where the voxels are; the file is left behind it."""
    fields: dict[str, str] = {}
    left = _HEADER
    while left > 0:
        line = file.readline(left)
        left -= len(line)
        key, separator, value = line.decode("latin-1").partition("=")
        if not separator or not line.endswith(b"\n"):
            raise ValueError(f"no line of a header: {line[:40]!r}")
        if key.strip() in fields:
            raise ValueError(f"{key.strip()} occurs twice")
        fields[key.strip()] = value.strip()
        if key.strip() == "ElementDataFile":
            if value.strip().upper() != "LOCAL":
                raise ValueError(f"its voxels are in {value.strip()[:80]!r}, expected LOCAL")
            return fields
    raise ValueError("no ElementDataFile in its header")


def _shape(fields: Mapping[str, str]) -> tuple[int, int, int]:
    if fields.get("NDims") != "3":
        raise ValueError(f"NDims is {fields.get('NDims')}, expected 3")
    for key, only in (("ElementNumberOfChannels", "1"), ("BinaryData", "True")):
        if fields.get(key, only).lower() != only.lower():
            raise ValueError(f"{key} is {fields[key]}, expected {only}")
    sizes = fields.get("DimSize", "").split()
    if len(sizes) != 3 or not all(s.isascii() and s.isdigit() and int(s) > 0 for s in sizes):
        raise ValueError(f"DimSize is {fields.get('DimSize')!r}, expected three numbers above 0")
    return (int(sizes[0]), int(sizes[1]), int(sizes[2]))


def _dtype(fields: Mapping[str, str]) -> np.dtype[np.generic]:
    name = fields.get("ElementType", "")
    if name not in _TYPES:
        raise ValueError(f"ElementType is {name!r}, expected one of {', '.join(_TYPES)}")
    swapped = _flag(fields, "BinaryDataByteOrderMSB") or _flag(fields, "ElementByteOrderMSB")
    return np.dtype(_TYPES[name]).newbyteorder(">" if swapped else "<")


def _flag(fields: Mapping[str, str], key: str) -> bool:
    word = fields.get(key, "False").lower()
    if word not in _WORDS:
        raise ValueError(f"{key} is {fields[key]!r}, expected True or False")
    return _WORDS[word]


def _stored(file: BinaryIO, size: int) -> Array:
    start = file.tell()
    left = file.seek(0, io.SEEK_END) - start
    if left < size:
        raise ValueError(f"{left} bytes of voxels, expected {size}")
    file.seek(start)
    return np.fromfile(file, np.uint8, size)


def _unpacked(file: BinaryIO, fields: Mapping[str, str], size: int) -> Array:
    """The voxels of a packed file; its checksum is verified."""
    packed = os.fstat(file.fileno()).st_size - file.tell()
    left = int(fields.get("CompressedDataSize", packed))
    if not 0 < left <= packed:
        raise ValueError(f"{packed} bytes of packed voxels, expected {left}")
    if size > packed * MOST_PACKED:
        raise ValueError(f"{packed} bytes cannot hold {size} of voxels")
    voxels = np.empty(size, np.uint8)
    unpacker, done = zlib.decompressobj(), 0
    while not unpacker.eof:
        piece = unpacker.unconsumed_tail or file.read(min(_PIECE, left))
        left -= 0 if unpacker.unconsumed_tail else len(piece)
        # One byte more than is wanted, to notice that there are more.
        part = unpacker.decompress(piece, min(_PIECE, size - done + 1))
        if done + len(part) > size or not (piece or part):
            raise ValueError(f"not {size} bytes of voxels, when unpacked")
        voxels[done : done + len(part)] = np.frombuffer(part, np.uint8)
        done += len(part)
    if done != size:
        raise ValueError(f"{done} bytes of voxels when unpacked, expected {size}")
    return voxels


def _affine(fields: Mapping[str, str]) -> Array:
    spacing = _numbers(fields, ("ElementSpacing", "ElementSize"), [1.0, 1.0, 1.0])
    if (spacing <= 0).any():
        raise ValueError(f"a spacing of {spacing.tolist()} mm, expected numbers above 0")
    directions = _numbers(
        fields, ("TransformMatrix", "Rotation", "Orientation"), np.eye(3).ravel().tolist()
    )
    affine = np.eye(4)
    # The file states the direction of one axis after the other.
    affine[:3, :3] = directions.reshape(3, 3).T * spacing
    affine[:3, 3] = _numbers(fields, ("Offset", "Position", "Origin"), [0.0, 0.0, 0.0])
    return affine


def _numbers(fields: Mapping[str, str], keys: Sequence[str], default: list[float]) -> Array:
    key = next((key for key in keys if key in fields), None)
    found = np.array([float(word) for word in fields[key].split()] if key else default)
    if len(found) != len(default) or not np.isfinite(found).all():
        raise ValueError(f"{key} is {fields[key or ''][:80]!r}, expected {len(default)} numbers")
    return found
