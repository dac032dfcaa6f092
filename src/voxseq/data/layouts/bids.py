"""BIDS: ``sub-*/[ses-*/]anat/*_T1w.nii.gz``, with labels below ``derivatives``.

Options: ``suffix``, one or several (default T1w), each image of which is one of its own, unless
``channels`` lists the suffixes that are the channels of one image; ``labels``, the suffix of the
segmentations (default dseg) or a glob with ``{case}``; ``derivatives``, the folder below
``derivatives`` that has them; ``target``, a column of ``participants.tsv`` with a class or number.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from voxseq.base.errors import DataError
from voxseq.base.files import read_text
from voxseq.base.paths import ending_of, files
from voxseq.catalogue import DataSet
from voxseq.data.layouts.nifti_tree import unique
from voxseq.data.readers import any_image
from voxseq.data.readers.files import nothing_found
from voxseq.data.readers.globs import Glob
from voxseq.data.readers.targets import class_names, class_numbers, not_a_class, number_of
from voxseq.data.volume import Entry, Scan

read_image = any_image.read_image
read_label = any_image.read_label
PARTICIPANTS = "participants.tsv"
DERIVATIVES = "derivatives"
_IMAGE = re.compile(r"(?P<subject>sub-[^/]+)/(?:(?P<session>ses-[^/]+)/)?[^/]+/(?P<name>sub-[^/]+)")
_ENTITY = re.compile(r"([a-zA-Z]+)-([^_]+)")


@dataclass(frozen=True)
class _File:
    """A file with its entities, such as sub, ses, run, and its suffix, such as T1w."""

    path: str
    name: str
    suffix: str

    @property
    def entities(self) -> dict[str, str]:
        return dict(_ENTITY.findall(self.name))


def scan(folder: Path, dataset: DataSet) -> Scan:
    """List the images of the asked-for suffixes; see :class:`Scan`.

    Raises:
        DataError: there is none, a label is ambiguous, or participants.tsv lacks the target.
    """
    options = dataset.options
    channels = options.get("channels")
    asked = options.get("suffix", ["T1w"])
    suffixes = channels or ([asked] if isinstance(asked, str) else asked)
    found = _images(folder, suffixes)
    if not found:
        example = f"sub-01/anat/sub-01_{suffixes[0]}.nii.gz"
        raise nothing_found(folder, f"images such as {example}", own=True)
    rejected: list[tuple[Entry, str]] = []
    if channels:
        entries = _with_channels(found, channels, dataset, rejected)
    else:
        entries = [_entry(file, dataset) for file in found]
    entries = _with_labels(entries, folder, dataset)
    labels = None
    if "target" in options:
        entries, labels = _with_targets(entries, folder, dataset, rejected)
    return Scan(tuple(unique(entries)), tuple(rejected), labels=labels)


def _images(folder: Path, suffixes: Iterable[str]) -> list[_File]:
    found = []
    for path in sorted(files(folder)):
        ending = ending_of(path, any_image.ENDINGS)
        match = _IMAGE.fullmatch(path.removesuffix(ending)) if ending else None
        if match is None:
            continue
        name, _, suffix = match["name"].rpartition("_")
        if suffix in suffixes:
            found.append(_File(path, name, suffix))
    return found


def _entry(file: _File, dataset: DataSet) -> Entry:
    match = _IMAGE.match(file.path)
    assert match is not None, "it was found by this expression"
    place = [match["subject"], *([match["session"]] if match["session"] else [])]
    return Entry(
        match["subject"],
        f"{file.name}_{file.suffix}",
        file.path,
        modality=dataset.modality,
        contrast=file.suffix.lower() if dataset.modality == "MRI" else "",
        group="/".join(place),
    )


def _with_channels(
    found: Sequence[_File],
    channels: Sequence[str],
    dataset: DataSet,
    rejected: list[tuple[Entry, str]],
) -> list[Entry]:
    """One image for the files that differ in their suffix only."""
    by_name: dict[tuple[str, str], dict[str, _File]] = {}
    for file in found:
        place = file.path.rpartition("/")[0]
        by_name.setdefault((place, file.name), {})[file.suffix] = file
    entries = []
    for (_, name), held in by_name.items():
        first = next(held[suffix] for suffix in channels if suffix in held)
        entry = replace(_entry(first, dataset), image=name, contrast="")
        lacking = [suffix for suffix in channels if suffix not in held]
        if lacking:
            reason = f"{first.path}: the channel {lacking[0]} of {name} does not exist"
            rejected.append((entry, reason))
        else:
            paths = tuple(held[suffix].path for suffix in channels)
            entries.append(replace(entry, channels=paths if len(paths) > 1 else ()))
    return entries


def _with_labels(entries: list[Entry], folder: Path, dataset: DataSet) -> list[Entry]:
    if dataset.role == "source":
        return entries
    asked = dataset.options.get("labels", "dseg")
    if "{case}" in asked or "/" in asked:
        found = dict(Glob(asked).below(folder))
        return [replace(entry, label_path=found.get(entry.image, "")) for entry in entries]
    top = f"{DERIVATIVES}/{dataset.options.get('derivatives', '')}".rstrip("/")
    labels = []
    for path in sorted(files(folder / top)) if (folder / top).is_dir() else ():
        ending = ending_of(path, any_image.ENDINGS)
        name, _, suffix = path.rpartition("/")[2].removesuffix(ending).rpartition("_")
        if ending and suffix == asked:
            labels.append(_File(f"{top}/{path}", name, suffix))
    return [replace(entry, label_path=_label_of(entry, labels)) for entry in entries]


def _label_of(entry: Entry, labels: Sequence[_File]) -> str:
    """The label whose entities are those of the image, as far as both have them."""
    own = dict(_ENTITY.findall(entry.image))
    near = []
    for label in labels:
        entities = label.entities
        same = all(entities.get(key) == own.get(key) for key in ("sub", "ses"))
        if same and all(own[key] == entities[key] for key in own.keys() & entities.keys()):
            near.append(label)
    exact = [label for label in near if own.keys() <= label.entities.keys()]
    chosen = exact if exact else near
    if len(chosen) > 1:
        raise DataError(
            f"{entry.path}: {chosen[0].path} and {chosen[1].path} may both be its label",
            "name the folder in options.derivatives, or the files in options.labels, such as "
            "derivatives/manual/**/{case}_dseg.nii.gz",
        )
    return chosen[0].path if chosen else ""


def _with_targets(
    entries: list[Entry], folder: Path, dataset: DataSet, rejected: list[tuple[Entry, str]]
) -> tuple[list[Entry], dict[int, str] | None]:
    """Class or number of every subject by participants.tsv."""
    column = dataset.options["target"]
    words = _participants(folder, column, dataset)
    if dataset.task == "regression":
        kept = []
        for entry in entries:
            word = words.get(entry.subject, "")
            value = number_of(word)
            if value is None:
                reason = f"{entry.path}: its {column} in {PARTICIPANTS}, {word!r}, is no number"
                rejected.append((entry, reason))
            else:
                kept.append(replace(entry, value=value))
        return kept, None
    classes = dataset.classes if dataset.task in ("", "classification") else ()
    numbers = class_numbers(words.values(), classes)
    kept = []
    for entry in entries:
        word = words.get(entry.subject, "")
        if word in numbers:
            kept.append(replace(entry, label=numbers[word], value=number_of(word)))
        else:
            rejected.append((entry, f"{entry.path}: {not_a_class(word, classes)}"))
    return kept, class_names(numbers, classes)


def _participants(folder: Path, column: str, dataset: DataSet) -> Mapping[str, str]:
    """Words of a column of participants.tsv by subject.

    Raises:
        DataError: the file or the column is missing.
    """
    hint = f"correct options.target of data.sets.{dataset.name}, or the file"
    try:
        text = read_text(folder / PARTICIPANTS)
    except (OSError, ValueError) as error:
        raise DataError(f"{PARTICIPANTS}: cannot be read ({error})", hint) from None
    lines = [line.split("\t") for line in text.splitlines() if line.strip()]
    header = [cell.strip() for cell in lines[0]] if lines else []
    if "participant_id" not in header or column not in header:
        lacking = column if "participant_id" in header else "participant_id"
        raise DataError(
            f"{PARTICIPANTS}: it has no column {lacking!r}; it has {', '.join(header)}", hint
        )
    subject, target = header.index("participant_id"), header.index(column)
    rows = (line for line in lines[1:] if len(line) > max(subject, target))
    words = ((line[subject].strip(), line[target].strip()) for line in rows)
    return {
        name if name.startswith("sub-") else f"sub-{name}": "" if word == "n/a" else word
        for name, word in words
    }
