"""Reading one NRRD file whose voxels follow its header.

ITK reads it after a look at what it would take on trust: that the voxels are in this file and in no
other, and that all of them are there. It hands out memory that nobody has filled otherwise.
"""

from __future__ import annotations

import gzip
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, BinaryIO, cast

import SimpleITK as sitk  # noqa: N813

from voxseq.base.errors import DataError
from voxseq.data.readers.files import check_size

_HEADER = 1 << 16
_PIECE = 1 << 22
#: Bytes of a voxel by the words that the format has for its type.
_BYTES: Mapping[str, int] = {
    **dict.fromkeys(("signed char", "int8", "int8_t", "uchar", "unsigned char"), 1),
    **dict.fromkeys(("uint8", "uint8_t"), 1),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int"), 2),
    **dict.fromkeys(("int16", "int16_t", "ushort", "unsigned short", "unsigned short int"), 2),
    **dict.fromkeys(("uint16", "uint16_t"), 2),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t", "uint", "unsigned int"), 4),
    **dict.fromkeys(("uint32", "uint32_t", "float"), 4),
    "double": 8,
}
_ELSEWHERE = ("data file", "datafile", "byte skip", "byteskip", "line skip", "lineskip")


def read_nrrd(folder: Path, path: str) -> sitk.Image:
    """``folder / path`` as ITK reads it.

    Raises:
        DataError: more voxels than any image has, or not three axes of single values.
        ValueError, OSError, EOFError, RuntimeError: anything else that is not as specified.
    """
    with (folder / path).open("rb") as file:
        fields = _header(file)
        sizes = [int(n) for n in fields.get("sizes", "").split()]
        check_size(path, sizes)
        kind = fields.get("type", "")
        if kind not in _BYTES or min(sizes, default=0) < 1:
            raise ValueError(f"type {kind!r} and sizes {sizes}")
        _require_voxels(file, fields.get("encoding", ""), math.prod(sizes) * _BYTES[kind])
    reader = sitk.ImageFileReader()
    # By its name: otherwise any format that the content resembles would be tried.
    reader.SetImageIO("NrrdImageIO")
    reader.SetFileName(str(folder / path))
    reader.ReadImageInformation()
    axes, values = reader.GetDimension(), reader.GetNumberOfComponents()
    if axes != 3 or values != 1:
        raise DataError(f"{path}: {axes} axes and {values} values a voxel, expected 3 and 1")
    return reader.Execute()


def _header(file: BinaryIO) -> dict[str, str]:
    """The lines up to the empty one; the file is left behind it."""
    fields: dict[str, str] = {}
    if not file.readline(16).startswith(b"NRRD"):
        raise ValueError("it does not begin with NRRD")
    while file.tell() < _HEADER:
        line = file.readline(_HEADER).decode("latin-1")
        if not line:
            break
        if not line.strip():
            return fields
        key, _, value = line.partition(":")
        if key.strip().lower() in _ELSEWHERE:
            raise ValueError(f"{line.strip()[:80]!r}: its voxels do not follow the header")
        fields[key.strip().lower()] = value.strip().lower()
    raise ValueError("no end of its header")


def _require_voxels(file: BinaryIO, encoding: str, size: int) -> None:
    if encoding == "raw":
        left = os.fstat(file.fileno()).st_size - file.tell()
    elif encoding in ("gzip", "gz"):
        left = 0
        unpacked = cast(IO[bytes], gzip.GzipFile(fileobj=file))
        while left <= size and (piece := unpacked.read(_PIECE)):
            left += len(piece)
    else:
        raise ValueError(f"encoding {encoding!r}, expected raw or gzip")
    if left < size:
        raise ValueError(f"{left} bytes of voxels, expected {size}")
