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
from voxseq.data.readers.files import nothing_found
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
            raise DataError(
                f"{folder / 'dataset.json'}: {image} is listed more than once",
                "obtain the file again",
            )
        seen.add(subject)
        if not (folder / image).exists():
            absent.append(image)
            continue
        entries.append(Entry(subject, "image", image, modality=dataset.modality, label_path=label))
    if not entries:
        raise nothing_found(folder, "the images that its dataset.json lists under training")
    return Scan(tuple(entries), absent=tuple(absent), notes=tuple(_unlisted(folder, seen)))


def read_image(folder: Path, entry: Entry) -> Volume:
    """Read the image."""
    return nifti.read(folder, entry.path)


def read_label(folder: Path, entry: Entry) -> Volume | None:
    """Read its segmentation."""
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
        raise DataError(
            f'{path}: expected JSON with "training": [{{"image": …, "label": …}}, …] '
            f"({type(error).__name__}: {error})",
            "obtain the file again",
        ) from None


def _unlisted(folder: Path, listed: set[str]) -> list[str]:
    images = folder / "imagesTr"
    names = sorted(p.name for p in images.iterdir()) if images.is_dir() else []
    extra = [n for n in names if not is_junk(n) and _stem(n) not in listed]
    return [f"{len(extra)} files in imagesTr that dataset.json does not list: {extra[:5]}"] * bool(
        extra
    )


def _stem(path: str) -> str:
    name = PurePosixPath(path).name
    for suffix in (".nii.gz", ".nii"):
        name = name.removesuffix(suffix)
    return name
