"""MetaImage files that are wrong in one way each."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

from tests.helpers.bad_nifti import SHAPE, Case, Maker, nifti_bytes, trees


def metaimage(data: bytes | None = None, **fields: str) -> Maker:
    """A MetaImage with some lines of its header replaced; "" leaves one out."""
    sound = {
        "ObjectType": "Image",
        "NDims": "3",
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": "False",
        "TransformMatrix": "1 0 0 0 1 0 0 0 1",
        "Offset": "0 0 0",
        "ElementSpacing": "1 1 1",
        "DimSize": "9 8 7",
        "ElementType": "MET_SHORT",
        "ElementDataFile": "LOCAL",
    }
    last = {"ElementDataFile": fields.get("ElementDataFile", "LOCAL")}
    lines = {**sound, **fields}
    lines.pop("ElementDataFile")
    text = "".join(f"{k} = {v}\n" for k, v in {**lines, **last}.items() if v)
    content = trees.image(SHAPE, 2).tobytes() if data is None else data
    return lambda path: path.write_bytes(text.encode() + content)


_RAW = trees.image(SHAPE, 2).tobytes()
_DEFLATED = zlib.compress(_RAW)
#: Images of a data set of MetaImages. SECRET is a sound file outside the data set's folder.
SECRET = "secret.raw"  # noqa: S105
METAIMAGES: Mapping[str, Case] = {
    "sizes that are words": metaimage(DimSize="a b c"),
    "a size too few": metaimage(DimSize="9 8"),
    "a size of 0": metaimage(DimSize="9 0 7"),
    "a negative size": metaimage(DimSize="9 -8 7"),
    "sizes beyond any memory": metaimage(DimSize="90000 80000 70000"),
    "sizes that overflow": metaimage(DimSize="4294967296 4294967296 4"),
    "more voxels than data": metaimage(DimSize="9 8 70"),
    "two axes": metaimage(NDims="2", DimSize="9 56"),
    "four axes": metaimage(NDims="4", DimSize="9 8 1 7"),
    "no axes": metaimage(NDims="0"),
    "a hundred axes": metaimage(NDims="100"),
    "data at an absolute path": (metaimage(ElementDataFile="/etc/services"), "LOCAL"),
    "data in the folder above": (metaimage(ElementDataFile=f"../../../{SECRET}"), "LOCAL"),
    "a list of data files": (metaimage(b"../../../secret.raw\n", ElementDataFile="LIST"), "LOCAL"),
    "a pattern of data files": (metaimage(ElementDataFile="slice%03d.raw 1 7 1"), "LOCAL"),
    "no data file": metaimage(b"", ElementDataFile=""),
    "no data": metaimage(b""),
    "half of the data": metaimage(_RAW[: len(_RAW) // 2]),
    "packed data cut short": metaimage(_DEFLATED[:50], CompressedData="True"),
    "packed data that are none": metaimage(b"abc" * 200, CompressedData="True"),
    "a wrong length of packed data": metaimage(
        _DEFLATED, CompressedData="True", CompressedDataSize="7"
    ),
    "a huge length of packed data": metaimage(
        _DEFLATED, CompressedData="True", CompressedDataSize=str(2**62)
    ),
    "packed data of too few voxels": metaimage(zlib.compress(_RAW[:100]), CompressedData="True"),
    "an unknown type": metaimage(ElementType="MET_POETRY"),
    "several values a voxel": metaimage(ElementNumberOfChannels="2", DimSize="9 4 7"),
    "a spacing of zero": metaimage(ElementSpacing="0 1 1"),
    "a negative spacing": metaimage(ElementSpacing="-1 1 1"),
    "a spacing that is no number": metaimage(ElementSpacing="nan 1 1"),
    "a spacing that is a word": metaimage(ElementSpacing="one 1 1"),
    "a matrix of zeros": metaimage(TransformMatrix="0 0 0 0 0 0 0 0 0"),
    "a matrix of rank 2": metaimage(TransformMatrix="1 0 0 1 0 0 0 0 1"),
    "an offset that is no number": metaimage(Offset="nan 0 0"),
    "another format under this name": lambda p: p.write_bytes(
        b"NRRD0004\ntype: short\ndimension: 3\nsizes: 9 8 7\nencoding: raw\n"
        b"endian: little\ndata file: ../../../secret.raw\n\n"
    ),
    "an empty file": lambda path: path.write_bytes(b""),
    "a text": lambda path: path.write_text("ObjectType = Poem\n"),
    "a NIfTI file under this name": lambda path: path.write_bytes(nifti_bytes()),
}
