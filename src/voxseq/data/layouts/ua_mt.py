"""The left-atrium MRIs as UA-MT publishes them: one h5 file a case, and the lists of the split.

``2018LA_Seg_Training Set/<id>/mri_norm2.h5`` with ``image`` (float32, z-scored) and ``label``;
``train.list`` and ``test.list`` beside that folder or in it. Options: ``spacing`` in mm, which the
files do not state.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from voxseq.base import lists
from voxseq.base.errors import DataError
from voxseq.base.files import require_regular
from voxseq.base.paths import inside
from voxseq.catalogue import DataSet
from voxseq.data.readers.files import (
    Names,
    check_size,
    damaged,
    nothing_found,
    published_text,
    reading,
)
from voxseq.data.volume import Array, Entry, Remark, Scan, Volume, scaling_affine

FOLDERS = ("2018LA_Seg_Training Set", "2018LA_Seg_Training_Set")
FILE = "mri_norm2.h5"


def scan(folder: Path, dataset: DataSet) -> Scan:
    """List the cases of both lists that are there; see :class:`Scan`.

    Raises:
        DataError: the folder or a list is missing, or a case is listed twice.
    """
    base = next((name for name in FOLDERS if (folder / name).is_dir()), None)
    if base is None:
        raise nothing_found(folder, f"{FOLDERS[0]}/<case>/{FILE}")
    spacing = " ".join(str(value) for value in dataset.options["spacing"])
    entries, absent = [], []
    names = Names(folder)
    here = names.below(base)
    cases_of = {split: _read_list(folder, base, split, here) for split in ("train", "test")}
    listed = [case for cases in cases_of.values() for case in cases]
    twice = sorted(case for case, count in Counter(listed).items() if count > 1)
    if twice:
        raise DataError(
            f"train.list and test.list name {', '.join(twice[:5])} more than once",
            "every case belongs to one list; compare the lists with the published ones",
        )
    extra = sorted(name for name in set(here) - set(listed) if _file(names, base, name))
    remarks = []
    for split, cases in cases_of.items():
        missing = [case for case in cases if case not in here]
        if len(missing) == len(cases) and extra:
            raise _none_matches(folder, split, missing, extra)
        if missing and extra:
            reason = f"{len(missing)} of its cases are not here: {lists.examples(missing, here)}"
            remedy = f"compare its names with those of the folders in {base}"
            remarks.append(Remark(f"{split}.list", reason, remedy))
        absent += missing
        for case in (case for case in cases if case in here):
            path = _file(names, base, case) or f"{base}/{case}/{FILE}"
            entries.append(
                Entry(case, "lge", path, spacing, dataset.modality, label_path=path, split=split)
            )
    if not entries:
        raise nothing_found(folder, f"the cases of its lists as {FOLDERS[0]}/<case>/{FILE}", extra)
    notes = (f"{len(extra)} cases that no list names: {extra[:5]}",) if extra else ()
    return Scan(tuple(entries), (), tuple(absent), notes, tuple(remarks))


def read_image(folder: Path, entry: Entry) -> Volume:
    """Read the image; its axes are kept, as the files state no orientation."""
    return _volume(folder, entry, entry.path, "image")


def read_label(folder: Path, entry: Entry) -> Volume:
    """Read the segmentation from the same file."""
    return _volume(folder, entry, entry.label_path, "label")


def _volume(folder: Path, entry: Entry, path: str, key: str) -> Volume:
    x, y, z = (float(value) for value in entry.locator.split())
    array = _read(folder, path, key)
    return Volume(array, scaling_affine((x, y, z)), oriented=False)


def _read(folder: Path, path: str, key: str) -> Array:
    with reading(folder, path, "h5"):
        require_regular(folder / path)
        with h5py.File(folder / path, "r") as file:
            if key in file and not isinstance(file.get(key, getlink=True), h5py.HardLink):
                raise DataError(f'{path}: "{key}" is a link, expected an array')
            item = file.get(key)
            if not isinstance(item, h5py.Dataset):
                raise DataError(f'{path}: has no array "{key}", only {sorted(file)}')
            if item.dtype.kind not in "buif" or item.ndim != 3:
                raise DataError(
                    f'{path}: "{key}" is {item.dtype} with shape {item.shape}, expected numbers '
                    "with three axes"
                )
            if item.is_virtual or item.external:
                raise DataError(f'{path}: "{key}" lies in another file, expected it in this one')
            check_size(path, item.shape)
            return np.asarray(item[()])


def _file(names: Names, base: str, case: str) -> str | None:
    return names.find(f"{base}/{case}/{FILE}")


def _none_matches(
    folder: Path, split: str, listed: Sequence[str], here: Sequence[str]
) -> DataError:
    return DataError(
        f"{folder / split}.list: none of its {len(listed)} cases is here; it names "
        f"{lists.examples(listed, here)}, here are {lists.examples(here)}",
        "compare its names with those of the folders",
    )


def _read_list(folder: Path, base: str, split: str, here: Sequence[str]) -> list[str]:
    """Cases of a list, by the names of their folders where these are there."""
    name = f"{split}.list"
    places = (folder / name, folder / base / name)
    path = next((place for place in places if place.exists()), places[0])
    absent = DataError(
        f"{path}: the list of {split} cases is missing",
        "it is in the folder data of github.com/yulequan/UA-MT",
    )
    text = published_text(path, absent)
    try:
        listed = [inside(case, str(path)) for case in lists.names(text)]
    except ValueError as error:
        raise damaged(path, f"cannot be read ({error})") from None
    known = set(here)
    return [lists.find(case, known) or case for case in listed]
