"""NIfTI files somewhere below a folder, recognised by the pattern of their path.

Options of the catalogue: ``patterns``, regular expressions for the relative path with the groups
``subject`` and, where they apply, ``image``, ``contrast`` and ``group``; ``modalities``, one per
pattern. Patterns name the published ending; files with it in capitals, unpacked ones and those
with nnU-Net's ``_0000`` before it fit as well. What only looks like an image of the data set is
named.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from voxseq.base.lists import CHANNEL
from voxseq.base.paths import IMAGES, NIFTI, ending_of, files, first_match, plain
from voxseq.catalogue import DataSet
from voxseq.data.readers.files import nothing_found
from voxseq.data.volume import Entry, Remark, Scan

#: Names of files and folders that hold segmentations.
LABELS = re.compile(
    r"label|(?<!total)seg|mask|msk|lbl|annot|derivative|pred|\bgts?\b|truth", re.IGNORECASE
)
#: Names of images in other formats and of transfers that did not end.
_LIKE_IMAGES = re.compile(
    rf"({'|'.join(map(re.escape, IMAGES))}|\.gz|\.zip)(\.(part|partial|crdownload|tmp|gz|\d+))?$",
    re.IGNORECASE,
)
_SHOWN = 3


def scan(folder: Path, dataset: DataSet, exclude: str | None = None) -> Scan:
    """List the files whose path fits a pattern, except excluded ones; see :class:`Scan`."""
    patterns = dataset.options["patterns"]
    modalities = dataset.options.get("modalities", [dataset.modality] * len(patterns))
    expected = f"files of the form {' or '.join(patterns)}"
    pairs = list(zip(patterns, modalities, strict=True))
    return matching(folder, pairs, expected, exclude, own=dataset.own)


def matching(
    folder: Path,
    patterns: Sequence[tuple[str, str]],
    expected: str,
    exclude: str | None = None,
    *,
    own: bool = False,
) -> Scan:
    """List the files whose path fits a pattern, with the modality that stands beside it.

    Args:
        folder: of the data set.
        patterns: regular expressions, as in the options, and modalities.
        expected: for the message where no file fits.
        exclude: regular expression of paths to leave out.
        own: whether the data set is one that the user declares.
    """
    expressions = [pattern for pattern, _ in patterns]
    entries: dict[str, Entry] = {}
    remarks: list[Remark] = []
    others: list[str] = []
    paths = [p for p in files(folder) if not (exclude and re.search(exclude, p))]
    published: list[tuple[str, int, re.Match[str]]] = []
    for path in sorted(paths):
        found = next(filter(None, (first_match(expressions, s) for s in _spelled(path))), None)
        if found is None:
            others.append(path)
        else:
            published.append((path, *found))
    # Files that bear the published name come first: others may be copies of them.
    for path, index, match in sorted(published, key=lambda item: item[2].string != item[0]):
        spelled = match.string
        if spelled in entries:
            remarks.append(_copy(path, entries[spelled].path))
            continue
        groups = match.groupdict("")
        entries[spelled] = Entry(
            subject=groups["subject"],
            image=groups.get("image") or PurePosixPath(spelled).name.split(".", 1)[0],
            path=path,
            modality=patterns[index][1],
            contrast=groups.get("contrast", "").lower(),
            group=groups.get("group", ""),
        )
    alike = [path for path in others if _is_alike(path, expressions)]
    images = [p for p in others if ending_of(p, IMAGES) and not LABELS.search(p)]
    if not entries:
        raise nothing_found(folder, expected, alike or images, own=own)
    names = "fits no pattern of data.sets" if own else "is not as published"
    remarks += [_misnamed(path, names) for path in alike]
    remarks += _others(sorted(set(images) - set(alike)), names)
    order = {path: number for number, path in enumerate(paths)}
    listed = sorted(entries.values(), key=lambda entry: order[entry.path])
    return Scan(tuple(unique(listed)), remarks=tuple(remarks))


def _spelled(path: str) -> Iterator[str]:
    """Yield the path, and as it would be published: with another ending, without ``_0000``."""
    yield path
    ending = ending_of(path, IMAGES)
    stem = path[: len(path) - len(ending)]
    published = NIFTI if ending.lower() in NIFTI else (ending.lower(),)
    for end in published if ending else ():
        yield stem + end
        yield stem.removesuffix(CHANNEL) + end


def _is_alike(path: str, expressions: Sequence[str]) -> bool:
    """Whether only capitals or the ending keep ``path`` from being an image of the data set."""
    match = _LIKE_IMAGES.search(path)
    spelled = [path[: match.start()] + ending for ending in IMAGES] if match else []
    return any(re.fullmatch(e, s, re.IGNORECASE) for s in spelled for e in expressions)


def _misnamed(path: str, names: str) -> Remark:
    return Remark(
        path,
        f"is not read: it looks like an image of the data set, but its name {names}",
        "rename it, or convert it to the format of the others; remove it if it is none",
    )


def _copy(path: str, other: str) -> Remark:
    reason = f"is not read: {other} is the same image by its name"
    return Remark(path, reason, "nothing to repair if they are copies; else rename one")


def _others(images: Sequence[str], names: str) -> list[Remark]:
    """One remark on images whose names fit no pattern."""
    if not images:
        return []
    shown = ", ".join(images[:_SHOWN])
    reason = f"{len(images)} images are not read, as their names {_plural(names)}: {shown}"
    return [Remark("", reason, "rename those that belong to the data set, or leave them")]


def _plural(names: str) -> str:
    return names.replace("fits", "fit").replace("is not", "are not")


def unique(entries: Sequence[Entry]) -> list[Entry]:
    """Give images of the same name (copies in several parts of a data set) distinct names."""
    count = Counter((e.subject, e.image) for e in entries)
    return [
        dataclasses.replace(e, image=plain(e.path)) if count[(e.subject, e.image)] > 1 else e
        for e in entries
    ]
