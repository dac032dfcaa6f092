"""From the words of a command to the facts of a data set, as ``data.sets`` has them."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from voxseq.base.errors import DataError
from voxseq.base.files import read_json
from voxseq.base.paths import ending_of, files
from voxseq.data.readers import any_image
from voxseq.data.readers.dataset_json import IMAGES, LABELS, NAME
from voxseq.data.readers.globs import case_of

#: Layouts that a user may name.
LAYOUTS = ("files", "nnunet", "msd", "bids", "table", "medmnist")
#: Modality of DICOM series that have not been looked at: their headers state it. Other files have
#: this one until their intensities are known.
BOTH, UNKNOWN = "CT and MRI", "MRI"
_TABLES = (".csv", ".tsv", ".txt")
_SUBJECT = re.compile(r"sub-[A-Za-z0-9]+")


def facts_of(
    images: Path,
    labels: Path | None = None,
    *,
    like: str | None = None,
    modality: str | None = None,
    target: str | None = None,
    channels: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Facts of a data set for the configuration.

    Args:
        images: folder of the images, or a file that lists or holds them.
        labels: folder of segmentations, or a table of classes or numbers.
        like: layout; None: the one that the folder looks like.
        modality: "CT" or "MRI"; None where the user has not said it.
        target: column of the table that is to be predicted; None: the usual names.
        channels: names of the channels of an image; None: as the data set has it.

    Raises:
        DataError: something is not there, or does not go together.
    """
    found = _found(images, labels, like, modality, target)
    if channels:
        found["options"] = {**found.get("options", {}), "channels": list(channels)}
    return found


def _found(
    images: Path,
    labels: Path | None,
    like: str | None,
    modality: str | None,
    target: str | None,
) -> dict[str, Any]:
    for path in filter(None, (images, labels)):
        if not path.exists():
            raise DataError(f"{path} does not exist", "correct the path")
    table = _table(images, labels)
    layout = like or ("table" if table else _layout(images))
    facts: dict[str, Any] = {"layout": layout, "modality": modality or _modality(images, layout)}
    if layout == "table":
        if table is None:
            raise DataError("layout table needs a table", "name it: --labels cases.csv")
        return {"folder": _folder(table.parent), **facts, "options": _of_table(table, target)}
    if target is not None:
        raise DataError(
            f"--target {target} names a column, but there is no table",
            "name the table: --labels cases.csv",
        )
    if layout == "medmnist":
        return {"folder": _folder(images.parent), **facts, "options": {"file": images.name}}
    if not images.is_dir():
        raise DataError(f"{images} is no folder", f"layout {layout} needs the folder of the images")
    if layout in ("nnunet", "msd"):
        top = _top(images)
        names = channel_names(top)
        options = {"options": {"channels": names}} if len(names) > 1 else {}
        return {"folder": _folder(top), **facts, **options}
    if layout == "files":
        if labels is None:
            images, labels = _parts(images)
        if labels is not None:
            return _with_labels(images, labels, facts)
    return {"folder": _folder(images), **facts}


def _modality(images: Path, layout: str) -> str:
    if layout != "files" or not images.is_dir():
        return UNKNOWN
    return UNKNOWN if any(ending_of(p, any_image.ENDINGS) for p in files(images)) else BOTH


def _table(images: Path, labels: Path | None) -> Path | None:
    """The table among two paths; the one of the labels first."""
    for path in filter(None, (labels, images)):
        if path.is_file() and path.suffix.lower() in _TABLES:
            return path
    return None


def _layout(images: Path) -> str:
    if images.is_file():
        if images.suffix.lower() == ".npz":
            return "medmnist"
        raise DataError(
            f"{images} is neither a folder nor a table nor an npz file",
            "name the folder of the images, or a CSV file with a column image",
        )
    top = _top(images)
    if (top / NAME).is_file():
        return "nnunet" if _is_nnunet(top) else "msd"
    if any(_SUBJECT.fullmatch(place.name) for place in images.iterdir() if place.is_dir()):
        return "bids"
    return "files"


def _top(images: Path) -> Path:
    """The folder of a data set whose images are in ``imagesTr``, which may have been named."""
    return images.parent if images.name == IMAGES else images


def _is_nnunet(top: Path) -> bool:
    try:
        held = read_json(top / NAME)
    except ValueError:
        return False
    if not isinstance(held, Mapping):
        return False
    # Both list their images under the same key; nnU-Net numbers the channels of its files.
    if "channel_names" in held or "training" not in held:
        return True
    folder = top / IMAGES
    return folder.is_dir() and _has_channel(folder, 0)


def _has_channel(folder: Path, number: int) -> bool:
    """Whether files have the ending by which nnU-Net numbers channels, such as ``_0000.nii.gz``."""
    return any(f"_{number:04}." in path.name for path in folder.iterdir())


def channel_names(top: Path) -> list[str]:
    """Names of the channels in a folder's dataset.json, in their order.

    There are none where it is missing or cannot be understood, which the layout's own reader says.
    """
    try:
        held = read_json(top / NAME)
        stated = held.get("channel_names", held.get("modality", {}))
        numbered = stated.items() if isinstance(stated, Mapping) else enumerate(stated)
        return [str(name) for _, name in sorted(numbered, key=lambda item: int(item[0]))]
    except (OSError, ValueError, TypeError, AttributeError):
        return []


def _of_table(table: Path, target: str | None) -> dict[str, Any]:
    options: dict[str, Any] = {"file": table.name}
    if target is not None:
        options["columns"] = {"target": target}
    return options


def _parts(folder: Path) -> tuple[Path, Path | None]:
    """Images and segmentations of a folder laid out as nnU-Net's or the Decathlon's, whose
    ``dataset.json`` is missing; of any other the folder itself and None."""
    top = _top(folder)
    parts = top / IMAGES, top / LABELS
    if not all(map(Path.is_dir, parts)):
        return folder, None
    if _has_channel(parts[0], 1):
        raise DataError(
            f"{parts[0]} has several channels of a case, and {top / NAME} is missing",
            f"write {NAME} with their names (channel_names); docs/own-data.md shows an example",
        )
    return parts


def _with_labels(images: Path, labels: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """A tree of images beside a tree of segmentations, below the folder that holds both."""
    if labels.is_file():
        raise DataError(f"{labels} is neither a folder nor a table", "name a folder, or a CSV file")
    one, other = images.resolve(), labels.resolve()
    top = Path(os.path.commonpath([one, other]))
    options = {"labels": _glob(other.relative_to(top).as_posix(), _addition(one, other))}
    if one != top:
        options["images"] = f"{one.relative_to(top).as_posix()}/**/*"
    return {"folder": str(top), **facts, "options": options}


def _glob(folder: str, addition: str) -> str:
    place = "" if folder == "." else f"{folder}/"
    return f"{place}**/{{case}}{addition}"


def _addition(images: Path, labels: Path) -> str:
    """What stands behind the name of a case in most names of labels, such as ``_seg.nii.gz``."""
    cases = {case_of(path) for path in files(images) if ending_of(path, any_image.ENDINGS)}
    found: Counter[str] = Counter()
    for path in files(labels):
        ending, case = ending_of(path, any_image.ENDINGS), case_of(path)
        if not ending:
            continue
        fitting = [name for name in cases if case.startswith(name)]
        if fitting:
            longest = max(fitting, key=len)
            found[case.removeprefix(longest) + ending] += 1
    return found.most_common(1)[0][0] if found else ""


def _folder(path: Path) -> str:
    return str(path.resolve())
