"""A table of images (CSV): a row per image, with its label, class, number, subject and split.

Options: ``file``, the table; ``columns``, names of its columns where they are not the usual ones
(image, label, class, target, subject, split). Several columns of images are the channels of one.
Cells are separated by commas, semicolons or tabs; paths begin at the folder of the table. A path
may be that of a folder with one DICOM series.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from voxseq.base.errors import DataError
from voxseq.base.files import read_text
from voxseq.base.lists import table
from voxseq.base.paths import ending_of, plain
from voxseq.catalogue import DataSet
from voxseq.data.layouts.dicom_tree import series_below
from voxseq.data.layouts.nifti_tree import unique
from voxseq.data.readers import any_image
from voxseq.data.readers.files import Names
from voxseq.data.readers.globs import case_of
from voxseq.data.readers.split_lists import part_of
from voxseq.data.readers.targets import class_names, class_numbers, not_a_class, number_of
from voxseq.data.volume import Entry, Scan

read_image = any_image.read_image
read_label = any_image.read_label
#: Columns by the name that they usually have.
USUAL = ("image", "label", "class", "target", "subject", "split")


@dataclass
class _Row:
    """A row of the table.

    Attributes:
        number: line, counted from the header's, which is 1; empty lines do not count.
        cells: by what the columns hold; those of several images in their order.
    """

    number: int
    images: list[str]
    cells: dict[str, str] = field(default_factory=dict)


def scan(folder: Path, dataset: DataSet) -> Scan:
    """List the images of the table; see :class:`Scan`.

    Raises:
        DataError: the table is missing, or lacks a column that is asked for; a row repeats an
            image or has an unknown part of the split; or there is no image.
    """
    name = dataset.options["file"]
    rows = _read(folder, name, dataset)
    _require_distinct(rows, name)
    classes = dataset.classes if dataset.task in ("", "classification") else ()
    numbers = class_numbers((row.cells.get("class", "") for row in rows), classes)
    reader = _Reader(folder, name, dataset, numbers, classes)
    entries: list[Entry] = []
    rejected: list[tuple[Entry, str]] = []
    for row in rows:
        entry, reason = reader.entry(row)
        if reason:
            rejected.append((entry, f"{entry.path}: {reason} ({name}, row {row.number})"))
        else:
            entries.append(entry)
    if not entries:
        first = f": {rejected[0][1]}" if rejected else ""
        raise DataError(
            f"{name}: none of its {len(rows)} rows can be used{first}",
            f"paths begin at the folder of the table, {(folder / name).parent}",
        )
    if all(not row.cells.get("subject") for row in rows):
        entries = _own_subjects(entries)
    has_classes = bool(numbers) and not any(entry.label_path for entry in entries)
    labels = class_names(numbers, classes) if has_classes else None
    return Scan(tuple(unique(entries)), tuple(rejected), labels=labels)


@dataclass(frozen=True)
class _Reader:
    """Turns rows into entries.

    Attributes:
        numbers: class number of each word.
        classes: names of the classes, where they are known.
    """

    folder: Path
    name: str
    dataset: DataSet
    numbers: Mapping[str, int]
    classes: Sequence[str]

    def entry(self, row: _Row) -> tuple[Entry, str]:
        """The image of a row; and why it cannot be used, or ""."""
        cells = row.cells
        found = [self._file(cell) for cell in row.images]
        path = found[0][0]
        entry = Entry(
            subject=plain(cells.get("subject") or case_of(path)),
            image=case_of(path),
            path=path,
            modality=self.dataset.modality,
            split=self._part(row),
            channels=tuple(path for path, _ in found) if len(found) > 1 else (),
        )
        reason = next((text for _, text in found if text), "")
        if not reason and (self.folder / path).is_dir():
            entry, reason = self._series(entry)
        if cells.get("label"):
            label, text = self._file(cells["label"])
            entry, reason = replace(entry, label_path=label), reason or text
        if "class" in cells:
            word = cells["class"]
            entry = replace(entry, label=self.numbers.get(word, -1))
            if word and word not in self.numbers:
                reason = reason or not_a_class(word, self.classes)
        if cells.get("target"):
            value = number_of(cells["target"])
            entry = replace(entry, value=value)
            if value is None:
                reason = reason or f"its target {cells['target']!r} is no number"
        return entry, reason

    def _file(self, cell: str) -> tuple[str, str]:
        """Path of a cell relative to the data set's folder, and why it cannot be read, or ""."""
        given = Path(cell.replace("\\", "/")).expanduser()
        place = os.path.normpath(self.folder / PurePosixPath(self.name).parent / given)
        inner = os.path.relpath(place, self.folder)
        path = place if inner.startswith("..") else inner
        if (self.folder / path).exists():
            return path, ""
        near = None if path == place else Names(self.folder).find(path)
        return near or path, "" if near else "the file does not exist"

    def _series(self, entry: Entry) -> tuple[Entry, str]:
        """The DICOM series in a folder."""
        inner = series_below(self.folder / entry.path, self.dataset, lambda _: "")
        if len(inner.entries) != 1:
            return entry, f"the folder holds {len(inner.entries)} DICOM series, expected one"
        series = inner.entries[0]
        place = entry.path if series.path == "." else f"{entry.path}/{series.path}"
        return replace(entry, path=place, files=series.files, locator=series.locator), ""

    def _part(self, row: _Row) -> str:
        word = row.cells.get("split", "")
        part = part_of(word) if word else ""
        if part is None:
            raise DataError(
                f"{self.name}, row {row.number}: the split {word!r} is not known",
                "write train, val or test",
            )
        return part


def _read(folder: Path, name: str, dataset: DataSet) -> list[_Row]:
    """The rows of the table, with the columns that the data set's options name.

    Raises:
        DataError: it is missing, no table, or lacks a column.
    """
    try:
        lines = table(read_text(folder / name))
    except FileNotFoundError:
        raise DataError(
            f"{folder}: there is no file {name}",
            f"correct options.file of data.sets.{dataset.name}, which begins at its folder",
        ) from None
    except (OSError, ValueError) as error:
        raise DataError(f"{name}: cannot be read ({error})", "save it as CSV in UTF-8") from None
    header = [cell.casefold() for cell in lines[0]] if lines else []
    asked = dataset.options.get("columns", {})
    places: dict[str, list[int]] = {}
    for key in USUAL:
        wanted = asked.get(key, key)  # type: ignore[call-overload]
        names = [wanted] if isinstance(wanted, str) else list(wanted)
        lacking = [n for n in names if n.casefold() not in header]
        if lacking and (key in asked or key == "image"):
            held = ", ".join(lines[0]) if lines else "no line"
            raise DataError(
                f"{name}: it has no column {lacking[0]!r}; it has {held}",
                f"correct its header, or options.columns.{key} of data.sets.{dataset.name}",
            )
        if key == "image":
            _require_channels(names, name, dataset)
        if not lacking:
            places[key] = [header.index(n.casefold()) for n in names]
    rows = []
    for number, cells in enumerate(lines[1:], start=2):
        found = {
            key: [cells[i] if i < len(cells) else "" for i in at] for key, at in places.items()
        }
        images = found.pop("image")
        if not all(images):
            raise DataError(f"{name}, row {number}: has no image", "fill it in, or remove the row")
        rows.append(_Row(number, images, {key: texts[0] for key, texts in found.items()}))
    _require_label_files(rows, name, dataset)
    return rows


def _require_channels(columns: Sequence[str], name: str, dataset: DataSet) -> None:
    """Refuse several columns of images without as many names of channels.

    Raises:
        DataError: with the option that is missing.
    """
    named = dataset.options.get("channels", columns[:1])
    if len(columns) > 1 and len(named) != len(columns):
        shown = ", ".join(columns)
        raise DataError(
            f"{name}: {len(columns)} columns of images ({shown}), but {len(named)} channels are "
            "named",
            f"write options.channels: [{shown}] of data.sets.{dataset.name}",
        )


def _require_label_files(rows: Sequence[_Row], name: str, dataset: DataSet) -> None:
    """Refuse a column of labels that holds classes, not files.

    Raises:
        DataError: with the option that helps.
    """
    words = [row.cells.get("label", "") for row in rows]
    strange = next((word for word in words if word and not ending_of(word)), None)
    if strange is not None:
        raise DataError(
            f"{name}: its column of labels holds {strange!r}, which is no file of a segmentation",
            f"for classes write options.columns: {{class: …}} of data.sets.{dataset.name} and "
            "rename the column, or point options.columns.label at another one",
        )


def _require_distinct(rows: Sequence[_Row], name: str) -> None:
    """Refuse a table that lists an image twice.

    Raises:
        DataError: naming both rows.
    """
    first: dict[str, int] = {}
    for row in rows:
        image = row.images[0]
        if first.setdefault(image, row.number) != row.number:
            raise DataError(
                f"{name}: the image {image} is in the rows {first[image]} and {row.number}",
                "remove one of them",
            )


def _own_subjects(entries: Sequence[Entry]) -> list[Entry]:
    """Without a column of subjects every image is of a subject of its own."""
    count = Counter(entry.subject for entry in entries)
    return [
        replace(entry, subject=plain(entry.path)) if count[entry.subject] > 1 else entry
        for entry in entries
    ]
