"""h5 files that are wrong in one way each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tests.helpers.bad_metaimage import SECRET
from tests.helpers.bad_nifti import NAN, SHAPE, Case, trees

_CUBE = np.zeros(SHAPE, np.float32)
_LABEL = trees.label(SHAPE)


def h5(**datasets: Any) -> Callable[[Path, Path], None]:
    """An h5 file whose parts are made by functions of (file, folder outside)."""

    def make(path: Path, outside: Path) -> None:
        with h5py.File(path, "w") as file:
            parts = {"image": _sound_image, "label": _sound_label, **datasets}
            for name, part in parts.items():
                if part is not None:
                    part(file, outside, name)

    return make


def _sound_image(file: h5py.File, _: Path, name: str) -> None:
    file[name] = trees.image(SHAPE, 4).astype(np.float32) / 300


def _sound_label(file: h5py.File, _: Path, name: str) -> None:
    file[name] = _LABEL


def values(array: Any) -> Callable[[h5py.File, Path, str], None]:
    """A part with these values."""

    def make(file: h5py.File, _: Path, name: str) -> None:
        file[name] = array

    return make


def _external_link(file: h5py.File, outside: Path, name: str) -> None:
    file[name] = h5py.ExternalLink(str(outside / "secret.h5"), "/image")


def _soft_link(file: h5py.File, outside: Path, name: str) -> None:
    file["way out"] = h5py.ExternalLink(str(outside / "secret.h5"), "/image")
    file[name] = h5py.SoftLink("/way out")


def _dangling(file: h5py.File, _: Path, name: str) -> None:
    file[name] = h5py.SoftLink("/nowhere")


def _external_storage(file: h5py.File, outside: Path, name: str) -> None:
    file.create_dataset(
        name, SHAPE, np.int16, external=[(str(outside / SECRET), 0, h5py.h5f.UNLIMITED)]
    )


def _virtual(file: h5py.File, outside: Path, name: str) -> None:
    layout = h5py.VirtualLayout(SHAPE, np.float32)
    layout[...] = h5py.VirtualSource(str(outside / "secret.h5"), "image", SHAPE)
    file.create_virtual_dataset(name, layout)


def _unwritten(file: h5py.File, _: Path, name: str) -> None:
    """Four terabytes of zeros in a file of a few kilobytes."""
    file.create_dataset(name, (10_000,) * 3, np.float32, chunks=(64, 64, 64))


def _group(file: h5py.File, _: Path, name: str) -> None:
    file.create_group(name)


def _objects(file: h5py.File, _: Path, name: str) -> None:
    file.create_dataset(name, (2, 2, 2), h5py.vlen_dtype(np.float32))


#: Cases in UA-MT's layout. A maker gets the file's path and a folder outside the data set.
H5_FILES: Mapping[str, Case] = {
    "no image": (h5(image=None), 'no array "image"'),
    "no label": (h5(label=None), 'no array "label"'),
    "a group in place of the image": (h5(image=_group), "no array"),
    "a link to another file": (h5(image=_external_link), "link"),
    "a link to a link to another file": (h5(image=_soft_link), "link"),
    "a link to nowhere": h5(image=_dangling),
    "voxels in another file": (h5(image=_external_storage), "another file"),
    "a view of another file": (h5(image=_virtual), "another file"),
    "words": h5(image=values(np.full(SHAPE, b"word"))),
    "objects": h5(image=_objects),
    "complex numbers": h5(image=values(_CUBE + 1j)),
    "records": h5(image=values(np.zeros(SHAPE, [("a", "i2"), ("b", "f4")]))),
    "two axes": (h5(image=values(_CUBE[0])), "three axes"),
    "no axes": (h5(image=values(3.0)), "three axes"),
    "an axis of length 0": h5(image=values(_CUBE[:0])),
    "terabytes that were never written": (h5(image=_unwritten), "voxels"),
    "a label of another shape": (h5(label=values(_LABEL[:, :, :5])), "shape"),
    "a class too many": (h5(label=values(_LABEL * 3)), "unknown label values"),
    "NaN": (h5(image=values(_CUBE * NAN)), "NaN"),
    "an empty file": lambda path, _: path.write_bytes(b""),
    "a text": lambda path, _: path.write_text("no h5"),
    "half a file": lambda path, out: (h5()(path, out), path.write_bytes(path.read_bytes()[:1500])),
}
