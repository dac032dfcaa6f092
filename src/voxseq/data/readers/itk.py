"""Reading the two formats of ITK: MetaImage (.mha) and NRRD whose voxels follow their header.

The voxels are read here and not by ITK, which follows a header to any other file, hands out memory
that nobody has filled where voxels are missing or damaged, and ends the process at some headers of
MetaImage.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, BinaryIO, cast

import numpy as np
import SimpleITK as sitk  # noqa: N813

from voxseq.base.errors import DataError
from voxseq.base.files import require_regular
from voxseq.data.headers import COMPARE
from voxseq.data.readers.files import MOST_PACKED, check_size, read_exactly, reading
from voxseq.data.volume import Array, Remark, Volume, affine_of_lps

#: Most bytes of a header, before the voxels.
_HEADER = 1 << 16
_METAIMAGE_TYPES: Mapping[str, str] = {
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
_NRRD_TYPES: Mapping[str, str] = {
    **dict.fromkeys(("signed char", "int8", "int8_t"), "i1"),
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), "u1"),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int"), "i2"),
    **dict.fromkeys(("int16", "int16_t"), "i2"),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int"), "u2"),
    **dict.fromkeys(("uint16", "uint16_t"), "u2"),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), "i4"),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), "u4"),
    "float": "f4",
    "double": "f8",
}
#: Fields of NRRD by which voxels stand elsewhere than behind the header.
_ELSEWHERE = ("data file", "datafile", "byte skip", "byteskip", "line skip", "lineskip")
_FLAGS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}
#: Fields of MetaImage for one and the same; the first that is there counts.
_SPACINGS = ("ElementSpacing", "ElementSize")
_DIRECTIONS = ("TransformMatrix", "Rotation", "Orientation")
Shape = tuple[int, ...]
Keys = tuple[str, ...]


def read(folder: Path, path: str) -> Volume:
    """Read ``folder / path``, by its name a NRRD or a MetaImage file.

    Raises:
        DataError: damaged, not as specified, or not three axes of single values.
    """
    is_nrrd = path.lower().endswith((".nrrd", ".nhdr"))
    with reading(folder, path, "NRRD" if is_nrrd else "MetaImage"):
        require_regular(folder / path)
        with (folder / path).open("rb") as file:
            voxels, shape, affine, missing = (_nrrd if is_nrrd else _metaimage)(file, path)
        if affine is None:
            affine = _affine_by_itk(folder, path)
    array = voxels.reshape(shape[::-1]).transpose(2, 1, 0)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    remarks = tuple(Remark(path, reason, COMPARE) for reason in missing)
    return Volume(array, affine, remarks=remarks)


def _fields(file: BinaryIO, separator: str, last: str) -> dict[str, str]:
    """The fields of a header up to the one called ``last``; the file is left behind it."""
    fields: dict[str, str] = {}
    while file.tell() < _HEADER:
        line = file.readline(_HEADER).decode("latin-1")
        key, found, value = (part.strip() for part in line.partition(separator))
        if key.startswith("#"):
            continue
        if not line.endswith("\n") or not (found or key == last):
            raise ValueError(f"no line of a header: {line[:40]!r}")
        if key in fields:
            raise ValueError(f"{key} occurs twice")
        fields[key] = value
        if key == last:
            return fields
    raise ValueError("no end of its header")


def _metaimage(file: BinaryIO, path: str) -> tuple[Array, Shape, Array, list[str]]:
    fields = _fields(file, "=", "ElementDataFile")
    only = {"ElementDataFile": "LOCAL", "NDims": "3"}
    for key, value in {**only, "ElementNumberOfChannels": "1", "BinaryData": "True"}.items():
        if fields.get(key, "" if key in only else value).lower() != value.lower():
            raise ValueError(f"{key} is {fields.get(key, '')[:80]!r}, expected {value}")
    shape, kind = _sizes(fields, "DimSize"), fields.get("ElementType", "")
    check_size(path, shape)
    if kind not in _METAIMAGE_TYPES:
        raise ValueError(f"ElementType is {kind!r}, expected one of {', '.join(_METAIMAGE_TYPES)}")
    swapped = _flag(fields, "BinaryDataByteOrderMSB") or _flag(fields, "ElementByteOrderMSB")
    dtype = np.dtype(_METAIMAGE_TYPES[kind]).newbyteorder(">" if swapped else "<")
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    here = os.fstat(file.fileno()).st_size - file.tell()
    if not _flag(fields, "CompressedData"):
        voxels = read_exactly(file, size, here)
    else:
        packed = int(fields.get("CompressedDataSize", here))
        if not 0 < packed <= here or size > packed * MOST_PACKED:
            raise ValueError(f"{here} bytes of packed voxels, expected {packed} of {size} bytes")
        unpacker = zlib.decompressobj()
        # One byte more than is wanted, to notice that there are more and to verify the checksum.
        unpacked = unpacker.decompress(file.read(packed), size + 1)
        if len(unpacked) != size or not unpacker.eof:
            raise ValueError(f"not {size} bytes of voxels, when unpacked")
        voxels = np.frombuffer(unpacked, np.uint8)
    spacing = _numbers(fields, "1 1 1", *_SPACINGS)
    if (spacing <= 0).any():
        raise ValueError(f"a spacing of {spacing.tolist()} mm, expected numbers above 0")
    # The file states the direction of one axis after the other.
    matrix = _numbers(fields, "1 0 0 0 1 0 0 0 1", *_DIRECTIONS)
    origin = _numbers(fields, "0 0 0", "Offset", "Position", "Origin")
    missing = _missing(fields, _SPACINGS, _DIRECTIONS)
    if len({tuple(_numbers(fields, "1 1 1", key)) for key in _SPACINGS if key in fields}) > 1:
        missing.append("ElementSpacing and ElementSize disagree: the former is taken as spacing")
    affine = affine_of_lps(matrix.reshape(3, 3).T * spacing, origin)
    return voxels.view(dtype), shape, affine, missing


def _missing(fields: Mapping[str, str], spacings: Keys, directions: Keys) -> list[str]:
    """What a header does not state, and ITK makes up."""
    reasons = []
    if not any(key in fields for key in spacings):
        reasons.append(f"it states no spacing ({spacings[0]}): 1 mm is taken")
    if not any(key in fields for key in directions):
        taken = "axes are taken to run left, posterior, superior"
        reasons.append(f"it states no orientation ({directions[0]}): {taken}")
    return reasons


def _nrrd(file: BinaryIO, path: str) -> tuple[Array, Shape, None, list[str]]:
    if not file.readline(16).startswith(b"NRRD"):
        raise ValueError("it does not begin with NRRD")
    fields = {key.lower(): value for key, value in _fields(file, ":", "").items()}
    elsewhere = [key for key in _ELSEWHERE if key in fields]
    if elsewhere:
        raise ValueError(f"{elsewhere[0]!r}: its voxels do not follow the header")
    shape, kind = _sizes(fields, "sizes"), fields.get("type", "").lower()
    check_size(path, shape)
    if kind not in _NRRD_TYPES:
        raise ValueError(f"type is {kind!r}, expected one of {', '.join(_NRRD_TYPES)}")
    dtype = np.dtype(_NRRD_TYPES[kind])
    if dtype.itemsize > 1:
        dtype = np.dtype({"little": "<", "big": ">"}[fields["endian"].lower()] + dtype.str[1:])
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    here = os.fstat(file.fileno()).st_size - file.tell()
    missing = _missing(fields, ("space directions", "spacings"), ("space",))
    encoding = fields.get("encoding", "").lower()
    if encoding == "raw":
        return read_exactly(file, size, here).view(dtype), shape, None, missing
    if encoding not in ("gzip", "gz"):
        raise ValueError(f"encoding {encoding!r}, expected raw or gzip")
    stream = cast(IO[bytes], gzip.GzipFile(fileobj=file))
    voxels = read_exactly(stream, size, here * MOST_PACKED)
    # To the end, where the checksum is.
    if stream.read(1):
        raise ValueError(f"more than {size} bytes of voxels")
    return voxels.view(dtype), shape, None, missing


def _affine_by_itk(folder: Path, path: str) -> Array:
    reader = sitk.ImageFileReader()
    # By its name: otherwise any format that the content resembles would be tried.
    reader.SetImageIO("NrrdImageIO")
    reader.SetFileName(str(folder / path))
    reader.ReadImageInformation()
    axes, values = reader.GetDimension(), reader.GetNumberOfComponents()
    if axes != 3 or values != 1:
        raise DataError(f"{path}: {axes} axes and {values} values a voxel, expected 3 and 1")
    directions = np.reshape(reader.GetDirection(), (3, 3))
    return affine_of_lps(directions * np.array(reader.GetSpacing()), reader.GetOrigin())


def _sizes(fields: Mapping[str, str], key: str) -> Shape:
    sizes = fields.get(key, "").split()
    if len(sizes) != 3 or not all(s.isascii() and s.isdigit() and int(s) > 0 for s in sizes):
        raise ValueError(f"{key} is {fields.get(key)!r}, expected three numbers above 0")
    return tuple(int(size) for size in sizes)


def _flag(fields: Mapping[str, str], key: str) -> bool:
    word = fields.get(key, "False").lower()
    if word not in _FLAGS:
        raise ValueError(f"{key} is {fields[key]!r}, expected True or False")
    return _FLAGS[word]


def _numbers(fields: Mapping[str, str], default: str, *keys: str) -> Array:
    """The numbers of the first of ``keys`` that is there; as many as in ``default``."""
    text = next((fields[key] for key in keys if key in fields), default)
    found = np.array([float(word) for word in text.split()])
    if len(found) != len(default.split()) or not np.isfinite(found).all():
        raise ValueError(f"{keys[0]} is {text[:80]!r}, expected {len(default.split())} numbers")
    return found
