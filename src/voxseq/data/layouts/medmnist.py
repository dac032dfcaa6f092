"""A 3D set of MedMNIST: one npz with ``{train,val,test}_{images,labels}``.

The images are (N, z, y, x), of any size and number of classes; the axes are reversed to (x, y, z),
as the published fine-tuning does. A user's own file may lack the validation part, which is then
held out of training. Options: ``file``.
"""

from __future__ import annotations

import zipfile
from functools import lru_cache
from pathlib import Path

import numpy as np

from voxseq.base.errors import DataError
from voxseq.base.files import require_regular
from voxseq.catalogue import DataSet
from voxseq.data.readers.files import check_size, damaged, nothing_found, reading
from voxseq.data.volume import Array, Entry, Scan, Volume, scaling_affine

SPLITS = ("train", "val", "test")


def scan(folder: Path, dataset: DataSet) -> Scan:
    """List the images of the three splits; see :class:`Scan`.

    Raises:
        DataError: the file is missing, damaged, or holds pickled objects; or its arrays do not
            fit together.
    """
    path = dataset.options["file"]
    if not (folder / path).exists():
        raise nothing_found(folder, path, own=dataset.own)
    entries = []
    for split in _splits(folder, path) if dataset.own else SPLITS:
        labels = _array(folder, path, f"{split}_labels")
        if labels.ndim == 2 and labels.shape[1] != 1:
            several = f"{split}_labels has {labels.shape[1]} labels per image"
            raise damaged(path, f"{several}, expected one class")
        labels = labels.reshape(-1)
        if not (np.isfinite(labels).all() and np.array_equal(labels, np.trunc(labels))):
            raise damaged(path, f"{split}_labels holds classes that are not whole numbers")
        # From the header alone: damaged voxels are found when they are read.
        with reading(folder, path, "npz"), zipfile.ZipFile(folder / path) as archive:
            shape = _shape(archive, f"{split}_images")
        count = (*shape, 0)[0]
        if dataset.own and len(shape) != 4:
            raise damaged(path, f"{split}_images has shape {shape}, expected (N, z, y, x)")
        if len(labels) != count:
            counts = f"{split}_images has {count} images but {split}_labels {len(labels)}"
            raise damaged(path, counts)
        entries += [
            Entry(
                subject=f"{split}{index:04d}",
                image="image" if dataset.own else "nodule",
                path=path,
                locator=f"{split}_images {index}",
                modality=dataset.modality,
                label=int(label),
                split=split,
            )
            for index, label in enumerate(labels.tolist())
        ]
    return Scan(tuple(entries))


def _splits(folder: Path, path: str) -> list[str]:
    """The parts that a file has.

    Raises:
        DataError: it has no training or no test images.
    """
    with reading(folder, path, "npz"):
        require_regular(folder / path)
        with np.load(folder / path, allow_pickle=False) as archive:
            names = sorted(archive)
    held = [split for split in SPLITS if f"{split}_images" in names]
    lacking = next((split for split in ("train", "test") if split not in held), None)
    if lacking is not None:
        raise damaged(path, f"has no array '{lacking}_images', only {names}")
    return held


def read_image(folder: Path, entry: Entry) -> Volume:
    """Read one image; 1 mm voxels."""
    key, index = entry.locator.split()
    images = _array(folder, entry.path, key)
    if images.ndim != 4:
        raise DataError(f"{entry.path}: {key} has shape {images.shape}, expected (N, z, y, x)")
    array = np.ascontiguousarray(images[int(index)].transpose(2, 1, 0))
    return Volume(array, scaling_affine((1.0, 1.0, 1.0)), oriented=False)


def _array(folder: Path, path: str, key: str) -> Array:
    # Size and time are part of the cache's key: a replaced file is read anew.
    with reading(folder, path, "npz"):
        state = (folder / path).stat()
    return _load(folder, path, key, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=8)
def _load(folder: Path, path: str, key: str, size: int, changed: int) -> Array:
    """Read one array; never unpickles, whatever the file holds."""
    del size, changed
    with reading(folder, path, "npz"):
        require_regular(folder / path)
        with np.load(folder / path, allow_pickle=False) as archive:
            if key not in archive:
                raise damaged(path, f"has no array {key!r}, only {sorted(archive)}")
            check_size(path, _shape(archive.zip, key))
            array: Array = archive[key]
    if array.dtype.kind not in "buif" or array.ndim == 0:
        held = f"{array.dtype} with shape {array.shape}"
        raise damaged(path, f"{key} is {held}, expected numbers")
    return array


def _shape(archive: zipfile.ZipFile, key: str) -> tuple[int, ...]:
    """Shape of an array as its header says."""
    with archive.open(f"{key}.npy") as member:
        is_first = np.lib.format.read_magic(member) == (1, 0)
        formats = np.lib.format
        read = formats.read_array_header_1_0 if is_first else formats.read_array_header_2_0
        shape, _, _ = read(member)
    if min(shape, default=0) < 0:
        raise ValueError(f"an array of shape {shape}")
    return tuple(int(n) for n in shape)
