"""Image files with the same bytes for the same content: no time stamps, no file names inside."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import h5py
import nibabel
import numpy as np
import SimpleITK
from numpy.typing import NDArray
from PIL import Image

from voxseq.base.failures import write_named
from voxseq.phantoms.shapes import Spacing

Array = NDArray[Any]
P = ParamSpec("P")


def written(write: Callable[P, None]) -> Callable[P, None]:
    """A writer of the path that is its first argument, whose failures name that file."""

    @wraps(write)
    def named(*args: P.args, **kwargs: P.kwargs) -> None:
        with write_named(Path(str(args[0]))):
            write(*args, **kwargs)

    return named


@written
def write_nifti(
    path: Path,
    array: Array,
    spacing: Spacing,
    orientation: str = "RAS",
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> None:
    """Write a .nii.gz whose voxels are stored in ``orientation``.

    Args:
        path: the new file.
        array: (X, Y, Z) in RAS+ order; its dtype is kept.
        spacing: mm of a voxel along x, y and z.
        orientation: axis codes of the stored array, such as "LPS".
        origin: position in mm of the first voxel, RAS+.
    """
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = origin
    wanted = nibabel.orientations.axcodes2ornt(tuple(orientation))
    change = nibabel.orientations.ornt_transform(
        nibabel.orientations.axcodes2ornt(("R", "A", "S")), wanted
    )
    stored = np.ascontiguousarray(nibabel.orientations.apply_orientation(array, change))
    back = nibabel.orientations.inv_ornt_aff(change, array.shape)
    image = nibabel.Nifti1Image(stored, affine @ back)
    image.header.set_xyzt_units("mm", "sec")
    image.set_sform(image.affine, code=1)
    image.set_qform(image.affine, code=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        path.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", compresslevel=4, fileobj=raw, mtime=0) as packed,
    ):
        packed.write(image.to_bytes())


@written
def write_mha(path: Path, array: Array, spacing: Spacing) -> None:
    """Write a compressed MetaImage; ``array`` (X, Y, Z) in RAS+ order is stored as LPS+."""
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array[::-1, ::-1].T))
    image.SetSpacing([float(s) for s in spacing])
    path.parent.mkdir(parents=True, exist_ok=True)
    SimpleITK.WriteImage(image, str(path), useCompression=True)


@written
def write_png16(path: Path, slice_hu: Array, offset: int = 32768) -> None:
    """Write one slice (X, Y) in RAS+ order as a 16-bit PNG of HU + ``offset``: rows run to the
    back, columns to the patient's left."""
    pixels = np.round(slice_hu[::-1, ::-1].T + offset).clip(0, 65535).astype(np.uint16)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(pixels)).save(path, format="PNG", compress_level=4)


@written
def write_h5(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays as gzip-compressed data sets of an h5 file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", track_order=False) as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, compression="gzip", track_times=False)


@written
def write_npz(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write a compressed npz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


@written
def write_text(path: Path, text: str) -> None:
    """Write text with Unix line ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Write JSON, keys in the given order."""
    write_text(path, json.dumps(value, indent=1) + "\n")


@written
def write_table(
    path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]], delimiter: str = ","
) -> None:
    """Write a delimited table; cells that hold the delimiter are quoted."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


@written
def write_apple_double(path: Path) -> None:
    """Write the ``._`` companion that macOS leaves in archives: not an image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes.fromhex("00051607000200004d6163204f5320582020202020202020") + bytes(96))
