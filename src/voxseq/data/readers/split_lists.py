"""A user's own lists of training, validation and test subjects."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from voxseq.base.errors import DataError
from voxseq.base.files import read_json, read_text
from voxseq.base.lists import examples, find, table
from voxseq.catalogue import DataSet
from voxseq.catalogue.splits import TEST, TRAIN, VAL
from voxseq.data.readers.globs import case_of
from voxseq.data.volume import Entry, Remark, Scan

#: Words for the parts, in small letters.
_PARTS: Mapping[str, str] = {
    **dict.fromkeys(("train", "training", "tr"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev"), VAL),
    **dict.fromkeys(("test", "testing", "ts", "holdout"), TEST),
}
#: List of a layout that is used where the folder has it and no other is named.
_USUAL: Mapping[str, str] = {"nnunet": "splits_final.json"}
_NEXT = "correct the list; docs/own-data.md shows the forms that it may have"


def divided(found: Scan, folder: Path, dataset: DataSet) -> Scan:
    """Fill in the part of every entry of an own data set by its list, where it has one.

    Images that the list does not name are left out. Without a test part, the validation part
    becomes it: a later stage holds a validation part out of training.

    Args:
        found: what its layout lists.
        folder: of the data set.
        dataset: ``options.splits`` names the list, ``options.fold`` one of its folds; of nnU-Net's
            layout, ``splits_final.json`` is the list where there is one.

    Raises:
        DataError: the list cannot be understood, names nobody who is here, or puts a subject into
            two parts.
    """
    entries = found.entries
    usual = _USUAL.get(dataset.layout, "")
    named = dataset.options.get("splits")
    path = folder / Path(named).expanduser() if named else folder / usual
    if not named and not (usual and path.is_file()):
        return _settled(found, f"data.sets.{dataset.name}")
    label = named or usual
    known = _subjects(entries)
    chosen: dict[str, str] = {}
    absent = []
    for name, part in _read(path, label, dataset.options.get("fold", 0)):
        near = find(name, known)
        if near is None:
            absent.append(name)
            continue
        subject = known[near]
        if chosen.setdefault(subject, part) != part:
            raise _in_two(label, subject, chosen[subject], part)
    if not chosen:
        raise DataError(
            f"{label}: none of its {len(absent)} subjects is here, such as "
            f"{examples(absent, known)}; here are {examples(sorted({*known.values()}))}",
            _NEXT,
        )
    used = tuple(
        dataclasses.replace(entry, split=chosen[entry.subject])
        for entry in entries
        if entry.subject in chosen
    )
    left = sorted({entry.subject for entry in entries} - {*chosen})
    remarks = list(found.remarks)
    if left:
        reason = f"{len(left)} subjects are not used, as {label} does not name them: "
        remarks.append(Remark("", reason + examples(left), "add them to the list, or leave them"))
    listed = dataclasses.replace(
        found, entries=used, remarks=tuple(remarks), absent=(*found.absent, *absent)
    )
    return _settled(listed, label)


def _subjects(entries: Sequence[Entry]) -> dict[str, str]:
    """Subject by every name that a list may have for it: its own, of a file, of a path."""
    known: dict[str, set[str]] = {}
    for entry in entries:
        for name in (entry.path, case_of(entry.path)):
            known.setdefault(name, set()).add(entry.subject)
    found = {name: next(iter(of)) for name, of in known.items() if len(of) == 1}
    return found | {entry.subject: entry.subject for entry in entries}


def _settled(found: Scan, label: str) -> Scan:
    """Check parts that are filled in; without a test part, the validation part becomes it.

    Raises:
        DataError: a subject is in two parts, or some images have a part and others none.
    """
    parts: dict[str, str] = {}
    for entry in found.entries:
        if parts.setdefault(entry.subject, entry.split) != entry.split:
            raise _in_two(label, entry.subject, parts[entry.subject], entry.split)
    held = {*parts.values()}
    if "" in held and held != {""}:
        lacking = [subject for subject, part in parts.items() if not part]
        raise DataError(
            f"{label}: {len(lacking)} subjects have no part of the split, such as "
            f"{examples(lacking)}, while others have one",
            "fill in a part for all of them, or for none",
        )
    if TEST in held or VAL not in held:
        return found
    moved = tuple(
        dataclasses.replace(e, split=TEST) if e.split == VAL else e for e in found.entries
    )
    note = (
        f"{label} has no test part: its validation part is the test, and training cases are held "
        "out for validation"
    )
    return dataclasses.replace(found, entries=moved, notes=(*found.notes, note))


def part_of(word: str) -> str | None:
    """The part that a word stands for; None where it stands for none."""
    return _PARTS.get(word.strip().casefold())


def _in_two(label: str, subject: str, one: str, other: str) -> DataError:
    parts = " and ".join(part or "no part" for part in (one, other))
    return DataError(
        f"{label}: the subject {subject} is in two parts of the split, {parts}",
        "put all images of a subject into one part",
    )


def _read(path: Path, label: str, fold: int) -> list[tuple[str, str]]:
    """Names and parts of a list.

    Raises:
        DataError: it is missing, or cannot be understood.
    """
    try:
        if path.suffix.lower() == ".json":
            return list(_of_json(read_json(path), label, fold))
        return list(_of_table(read_text(path), label))
    except FileNotFoundError:
        raise DataError(f"{label}: there is no such file in the data set's folder", _NEXT) from None
    except (OSError, ValueError) as error:
        raise DataError(f"{label}: cannot be read ({error})", _NEXT) from None


def _of_json(held: Any, label: str, fold: int) -> Iterable[tuple[str, str]]:
    if isinstance(held, list):
        if not 0 <= fold < len(held):
            raise DataError(f"{label}: options.fold is {fold}, but it has {len(held)} folds", _NEXT)
        held = held[fold]
    if not isinstance(held, Mapping) or not held:
        raise DataError(f"{label}: expected parts with their subjects, or a list of folds", _NEXT)
    for key, value in held.items():
        if isinstance(value, list):
            part = _known(str(key), label)
            yield from ((str(name), part) for name in value)
        else:
            yield str(key), _known(str(value), label)


def _of_table(text: str, label: str) -> Iterable[tuple[str, str]]:
    for number, row in enumerate(table(text)):
        cells = [cell for cell in row if cell]
        cells = cells[0].rsplit(maxsplit=1) if len(cells) == 1 else cells
        if len(cells) == 2 and part_of(cells[1]):
            yield cells[0], _known(cells[1], label)
        elif number:
            raise DataError(
                f"{label}: {' '.join(row)[:80]!r} is not a subject and its part, such as "
                "patient1,train",
                _NEXT,
            )


def _known(word: str, label: str) -> str:
    part = part_of(word)
    if part is None:
        raise DataError(f"{label}: {word[:40]!r} is no part; expected train, val or test", _NEXT)
    return part
