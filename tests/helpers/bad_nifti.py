"""NIfTI files that are wrong in one way each, made from sound ones."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.helpers import trees

#: Writes one wrong file, or a folder of a series, to a path.
Maker = Callable[..., object]
#: How something wrong is made, and words of the reason for which it is set aside.
Case = Maker | tuple[Maker, str]
SHAPE = (9, 8, 7)
#: Bytes that unpacking a bomb would give: more than a test's process may have.
BOMB = 3 << 30
NAN, INF = math.nan, math.inf

#: Field of a NIfTI-1 header: format and place.
NIFTI_FIELDS = {
    "sizeof_hdr": ("<i", 0),
    "dim": ("<8h", 40),
    "datatype": ("<h", 70),
    "bitpix": ("<h", 72),
    "pixdim": ("<8f", 76),
    "vox_offset": ("<f", 108),
    "scl_slope": ("<f", 112),
    "scl_inter": ("<f", 116),
    "xyzt_units": ("<B", 123),
    "qform_code": ("<h", 252),
    "sform_code": ("<h", 254),
    "quatern": ("<3f", 256),
    "qoffset": ("<3f", 268),
    "srow": ("<12f", 280),
    "magic": ("<4s", 344),
    "extension": ("<4s", 348),
    "esize": ("<i", 352),
}


def nifti_bytes(seed: int = 1, **fields: Any) -> bytes:
    """A NIfTI-1 file with some fields of its header replaced."""
    voxels = trees.image(SHAPE, seed).tobytes(order="F")
    header = bytearray(352)
    sound: dict[str, Any] = {
        "sizeof_hdr": 348,
        "dim": (3, *SHAPE, 1, 1, 1, 1),
        "datatype": 4,
        "bitpix": 16,
        "pixdim": (1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0),
        "vox_offset": 352.0,
        "sform_code": 1,
        "srow": (1.0, 0, 0, 0, 0, 1.0, 0, 0, 0, 0, 1.0, 0),
        "magic": b"n+1",
    }
    content = header + voxels
    for name, value in {**sound, **fields}.items():
        form, place = NIFTI_FIELDS[name]
        values = value if isinstance(value, tuple) else (value,)
        content[place : place + struct.calcsize(form)] = struct.pack(form, *values)
    return bytes(content)


def nifti(**fields: Any) -> Maker:
    """A file with these fields."""
    return lambda path: path.write_bytes(gzip.compress(nifti_bytes(**fields)))


def unoriented(**fields: Any) -> Maker:
    """The same, its grid given by pixdim alone."""
    return nifti(sform_code=0, **fields)


def voxels(array: np.ndarray, affine: np.ndarray | None = None) -> Maker:
    """A sound file with these voxels."""
    return lambda path: trees.write_nifti(path, array, affine)


def packed_zeros(count: int, wbits: int) -> bytes:
    """A stream that unpacks to ``count`` zeros, made of the same packed piece over and over."""
    packer = zlib.compressobj(9, zlib.DEFLATED, wbits)
    piece = bytes(1 << 24)
    first = packer.compress(piece) + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(piece) + packer.flush(zlib.Z_FULL_FLUSH)
    return first + again * (count // len(piece) - 1) + packer.flush()


def bomb_behind(path: Path) -> None:
    """A sound image, followed by gigabytes of zeros that pack to almost nothing."""
    member = gzip.compress(bytes(1 << 24))
    path.write_bytes(gzip.compress(nifti_bytes()) + member * (BOMB >> 24))


def changed(content: bytes, place: int, value: int) -> bytes:
    """``content`` with one byte replaced."""
    return content[:place] + bytes([value]) + content[place + 1 :]


_PACKED = gzip.compress(nifti_bytes())
_CUBE = np.zeros(SHAPE, np.float32)

#: Images of a NIfTI data set, each wrong in the way its name says, and words of the reason.
NIFTI_IMAGES: Mapping[str, Case] = {
    "dim[0] is 0": nifti(dim=(0, *SHAPE, 1, 1, 1, 1)),
    "dim[0] is 9": nifti(dim=(9, *SHAPE, 1, 1, 1, 1)),
    "dim[0] is negative": nifti(dim=(-3, *SHAPE, 1, 1, 1, 1)),
    "an axis of length 0": (nifti(dim=(3, 9, 0, 7, 1, 1, 1, 1)), "no voxels"),
    "an axis of negative length": nifti(dim=(3, 9, -8, 7, 1, 1, 1, 1)),
    "axes longer than the file": nifti(dim=(3, 9, 8, 70, 1, 1, 1, 1)),
    "axes of 32767": (nifti(dim=(3, *[32767] * 3, 1, 1, 1, 1)), "promises"),
    "seven axes whose product overflows": nifti(dim=(7, *[32767] * 7)),
    "two axes": (nifti(dim=(2, 9, 56, 1, 1, 1, 1, 1)), "2 axes"),
    "four axes": (nifti(dim=(4, 9, 8, 1, 7, 1, 1, 1)), "7 volumes along its fourth axis"),
    "an unknown type of numbers": nifti(datatype=999),
    "colours": (nifti(datatype=128, bitpix=24, dim=(3, 3, 8, 7, 1, 1, 1, 1)), "real numbers"),
    "complex numbers": (
        nifti(datatype=32, bitpix=64, dim=(3, 2, 8, 7, 1, 1, 1, 1)),
        "real numbers",
    ),
    "voxels behind the end": nifti(vox_offset=1e6),
    "voxels before the beginning": nifti(vox_offset=-400.0),
    "voxels at no number": nifti(vox_offset=NAN),
    "voxels at infinity": nifti(vox_offset=INF),
    "an infinite scale": nifti(scl_slope=INF),
    "an offset that is no number": nifti(scl_slope=1.0, scl_inter=NAN),
    "a scale beyond 32 bits": (nifti(scl_slope=3e38, scl_inter=0.0), "do not fit 32 bits"),
    "the magic of another format": nifti(magic=b"abc"),
    "a header of another length": nifti(sizeof_hdr=540),
    "a matrix of rank 2": (nifti(srow=(1.0, 0, 0, 0, 0, 1.0, 0, 0, 0, 1.0, 0, 0)), "singular"),
    "a matrix of zeros": (nifti(srow=(0.0,) * 12), "singular"),
    "a matrix with no number": (nifti(srow=(NAN, *(0.0,) * 11)), "NaN"),
    "a matrix with infinity": nifti(srow=(INF, 0, 0, 0, 0, 1.0, 0, 0, 0, 0, 1.0, 0)),
    "voxels of no extent": nifti(srow=(1e-30, 0, 0, 0, 0, 1e-30, 0, 0, 0, 0, 1e-30, 0)),
    "voxels of light years": nifti(srow=(1e30, 0, 0, 0, 0, 1e30, 0, 0, 0, 0, 1e30, 0)),
    "a spacing of zero": unoriented(pixdim=(1.0, 0.0, 1.0, 1.0, 0, 0, 0, 0)),
    "a negative spacing": (unoriented(pixdim=(1.0, -1.0, 1.0, 1.0, 0, 0, 0, 0)), "spacing"),
    "a spacing that is no number": unoriented(pixdim=(1.0, NAN, 1.0, 1.0, 0, 0, 0, 0)),
    "an infinite spacing": unoriented(pixdim=(1.0, INF, 1.0, 1.0, 0, 0, 0, 0)),
    "a rotation that is none": nifti(sform_code=0, qform_code=1, quatern=(3.0, 3.0, 3.0)),
    "a rotation of no number": nifti(sform_code=0, qform_code=1, quatern=(NAN, 0.0, 0.0)),
    "only NaN": (voxels(_CUBE * NAN), "NaN"),
    "one infinity": (voxels(_CUBE + np.where(np.indices(SHAPE).sum(0) == 3, INF, 0)), "infinite"),
    "one value everywhere": (voxels(_CUBE + 3), "every voxel"),
    "values beyond 32 bits": (voxels(np.arange(504).reshape(SHAPE) * 1e300), "do not fit"),
    "an empty file": lambda path: path.write_bytes(b""),
    "a text": lambda path: path.write_text("no image at all"),
    "a folder": lambda path: path.mkdir(),
    "half a packed file": lambda path: path.write_bytes(_PACKED[: len(_PACKED) // 2]),
    "a packed file without its end": lambda path: path.write_bytes(_PACKED[:-6]),
    "a wrong checksum": lambda path: path.write_bytes(changed(_PACKED, -6, 0)),
    "rubbish behind the packed file": lambda path: path.write_bytes(_PACKED + b"rubbish"),
    "a bomb behind the voxels": bomb_behind,
    "a header and nothing more": lambda p: p.write_bytes(gzip.compress(nifti_bytes()[:352])),
    "half a header": lambda path: path.write_bytes(gzip.compress(nifti_bytes()[:100])),
}

_LABEL = trees.label(SHAPE)
#: Labels, likewise; their images are sound.
NIFTI_LABELS: Mapping[str, Case] = {
    "a label of another shape": (voxels(trees.label((9, 8, 8))), "shape"),
    "a label of another grid": (voxels(_LABEL, np.diag([2.0, 2.0, 2.0, 1.0])), "grid"),
    "a mirrored label": (voxels(_LABEL, np.diag([-1.0, 1.0, 1.0, 1.0])), "grid"),
    "a class too many": (voxels(_LABEL * 2), "unknown label values 2"),
    "a negative class": (voxels(-_LABEL.astype(np.int16)), "unknown label values"),
    "half classes": (voxels(_LABEL * np.float32(0.5)), "whole numbers"),
    "classes that are no numbers": (voxels(_CUBE * NAN), "unknown label values"),
    "a class of 300": (voxels(_LABEL.astype(np.int16) * 300), "unknown label values"),
    "a label of four axes": (voxels(np.stack([_LABEL, _LABEL], axis=-1)), "4 axes"),
    "no label": (lambda _: None, "does not exist"),
    "a label that is a link to itself": (lambda path: path.symlink_to(path.name), "does not exist"),
    "half a label": lambda path: path.write_bytes(_PACKED[:200]),
}
