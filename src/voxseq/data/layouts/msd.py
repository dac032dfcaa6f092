"""A task of the Medical Segmentation Decathlon: ``dataset.json`` and the images it lists.

Only the labelled images, those of ``training``, are used; ``imagesTs`` has no labels.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from voxseq.base.errors import DataError, ResourceError
from voxseq.base.files import read_json
from voxseq.base.paths import inside, is_junk
from voxseq.catalogue import DataSet
from voxseq.data.readers import nifti
from voxseq.data.readers.files import damaged, nothing_found
from voxseq.data.volume import Entry, Scan, Volume


def scan(folder: Path, dataset: DataSet) -> Scan:
    """List the images of ``training`` that are there; see :class:`Scan`.

    Raises:
        DataError: dataset.json is missing or not as specified, or none of its images exists.
    """
    entries: list[Entry] = []
    absent: list[str] = []
    seen: set[str] = set()
    for image, label in _training(folder):
        subject = _stem(image)
        if subject in seen:
            raise damaged(folder / "dataset.json", f"{image} is listed more than once")
        seen.add(subject)
        if (folder / image).exists():
            entries.append(
                Entry(subject, "image", image, modality=dataset.modality, label_path=label)
            )
        else:
            absent.append(image)
    if not entries:
        raise nothing_found(folder, "the images that its dataset.json lists under training")
    images = folder / "imagesTr"
    names = sorted(p.name for p in images.iterdir()) if images.is_dir() else []
    extra = [n for n in names if not is_junk(n) and _stem(n) not in seen]
    note = f"{len(extra)} files in imagesTr that dataset.json does not list: {extra[:5]}"
    return Scan(tuple(entries), absent=tuple(absent), notes=(note,) if extra else ())


def read_label(folder: Path, entry: Entry) -> Volume:
    """Read an image's segmentation."""
    return nifti.read(folder, entry.label_path)


def _training(folder: Path) -> list[tuple[str, str]]:
    path = folder / "dataset.json"
    if not path.exists():
        raise nothing_found(folder, "dataset.json with imagesTr and labelsTr beside it")
    try:
        content: Any = read_json(path)
        items = [(item["image"], item["label"]) for item in content["training"]]
        return [(inside(image, str(path)), inside(label, str(path))) for image, label in items]
    except (DataError, ResourceError):
        raise
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError) as error:
        expected = 'JSON with "training": [{"image": …, "label": …}, …]'
        said = f"{type(error).__name__}: {error}"
        raise damaged(path, f"expected {expected} ({said})") from None


def _stem(path: str) -> str:
    return PurePosixPath(path).name.removesuffix(".nii.gz").removesuffix(".nii")
