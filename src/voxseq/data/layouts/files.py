"""Any tree of NIfTI, MetaImage or NRRD files and DICOM series.

Options: ``images``, globs (default: all images, and DICOM series told apart by their headers);
``labels``, a glob with ``{case}`` or a folder; ``subject``, a regular expression that is searched
in the path (default: the case is the subject); ``exclude``, a regular expression of paths to leave
out; ``channels`` with ``{channel}`` in ``images``, for images of one file per channel; ``splits``.
Files whose names say that they are labels or masks are no images, unless ``images`` names them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from voxseq.base.errors import DataError
from voxseq.base.lists import examples
from voxseq.base.paths import ending_of, files, plain
from voxseq.catalogue import DataSet
from voxseq.data.layouts.dicom_tree import series_below
from voxseq.data.layouts.nifti_tree import LABELS, unique
from voxseq.data.readers import any_image
from voxseq.data.readers.files import nothing_found
from voxseq.data.readers.globs import Glob, case_of
from voxseq.data.volume import Entry, Remark, Scan

read_image = any_image.read_image
read_label = any_image.read_label
_NEXT = "correct options.images or options.labels of the data set"


@dataclass
class _Found:
    """Images with the names of their cases, and what is said of the other files."""

    images: list[tuple[str, Entry]] = field(default_factory=list)
    rejected: list[tuple[Entry, str]] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)
    labelled_names: list[str] = field(default_factory=list)

    def add_series(self, series: Scan) -> None:
        """Take over DICOM series; the case of one is its subject."""
        self.images += [(entry.subject, entry) for entry in series.entries]
        self.rejected += series.rejected
        self.remarks += series.remarks


def scan(folder: Path, dataset: DataSet) -> Scan:
    """List the images; see :class:`Scan`.

    Raises:
        DataError: there is none, no image has a label where labels are asked for, or several
            files are the label of one case.
    """
    options = dataset.options
    labels = _labels(folder, options.get("labels", ""))
    exclude = options.get("exclude")

    def is_image(path: str) -> bool:
        return path not in taken and not (exclude and re.search(exclude, path))

    taken = {*labels.values()}
    globs = options.get("images")
    if globs is None:
        found = _all_images(folder, dataset, is_image)
    else:
        wanted = [globs] if isinstance(globs, str) else globs
        found = _matching(folder, dataset, wanted, is_image)
    if not found.images and not found.rejected:
        expected = f"images {globs}" if globs else f"images ({', '.join(any_image.ENDINGS)}, DICOM)"
        if found.labelled_names:
            expected += ", but by their names all files are labels (options.images overrules it)"
        raise nothing_found(folder, expected, found.labelled_names, own=True)
    if "subject" not in options:
        found.images = _by_folder(found.images)
    _require_modality(found.images, dataset)
    images, remarks = _labelled(found.images, labels, options.get("labels", ""))
    entries = [_with_subject(entry, options.get("subject")) for entry in images]
    remarks = [*found.remarks, *remarks]
    return Scan(tuple(unique(entries)), tuple(found.rejected), remarks=tuple(remarks))


def _all_images(folder: Path, dataset: DataSet, is_image: Callable[[str], bool]) -> _Found:
    """Every image whose name does not say that it is a label, and every DICOM series."""
    found = _Found()
    for path in filter(is_image, files(folder)):
        if ending_of(path, any_image.ENDINGS):
            if LABELS.search(path):
                found.labelled_names.append(path)
            else:
                case = case_of(path)
                found.images.append((case, _entry(path, case, dataset)))
    found.add_series(series_below(folder, dataset, lambda _: ""))
    if found.labelled_names and found.images:
        reason = (
            f"{len(found.labelled_names)} files are not read as images, as their names are those "
            f"of labels: {examples(found.labelled_names)}"
        )
        remedy = "nothing to do if they are labels; else name the images in options.images"
        found.remarks.append(Remark("", reason, remedy))
    return found


def _matching(
    folder: Path, dataset: DataSet, globs: Iterable[str], is_image: Callable[[str], bool]
) -> _Found:
    """The images that fit a glob, and DICOM series whose folder fits one."""
    found = _Found()
    channels = dataset.options.get("channels", [])
    seen: set[str] = set()
    for text in globs:
        if "{channel}" in text:
            _by_channel(folder, dataset, text, channels, found)
            continue
        for case, path in Glob(text).below(folder):
            if path not in seen and is_image(path) and ending_of(path, any_image.ENDINGS):
                seen.add(path)
                found.images.append((case, _entry(path, case, dataset)))
    plain_globs = [Glob(text.rstrip("/")) for text in globs if "{channel}" not in text]
    if not found.images and plain_globs:

        def owner(place: str) -> str | None:
            return "" if any(glob.case(place) for glob in plain_globs) else None

        found.add_series(series_below(folder, dataset, owner))
    return found


def _by_channel(
    folder: Path, dataset: DataSet, text: str, channels: list[str], found: _Found
) -> None:
    """Images of one file per channel."""
    if not channels:
        raise DataError(
            f"options.images has {{channel}}, but the data set {dataset.name} names no channels",
            "name them in options.channels, such as [t1, t2], as they stand in the paths",
        )
    held = [dict(Glob(text.replace("{channel}", name)).below(folder)) for name in channels]
    for case in sorted(set().union(*held)):
        paths = [part.get(case, "") for part in held]
        first = next(path for path in paths if path)
        entry = _entry(first, case, dataset)
        lacking = [name for name, path in zip(channels, paths, strict=True) if not path]
        if lacking:
            reason = f"{first}: the case {case} has no file of the channel {lacking[0]}"
            found.rejected.append((entry, reason))
        else:
            several = tuple(paths) if len(paths) > 1 else ()
            found.images.append((case, replace(entry, channels=several)))


def _entry(path: str, case: str, dataset: DataSet) -> Entry:
    return Entry(plain(case), case_of(path), path, modality=dataset.modality)


def _require_modality(images: list[tuple[str, Entry]], dataset: DataSet) -> None:
    """Refuse files of unknown modality.

    Raises:
        DataError: the data set is of both, and a file is no DICOM series, which states its own.
    """
    unknown = next(
        (e.path for _, e in images if not e.files and e.modality not in ("CT", "MRI")), ""
    )
    if unknown:
        raise DataError(
            f"{unknown}: only DICOM series say whether they are CT or MRI",
            f"declare two data sets in place of {dataset.name}, each of one modality",
        )


def _by_folder(images: list[tuple[str, Entry]]) -> list[tuple[str, Entry]]:
    """Where cases repeat, as in ``patient1/ct.nii.gz``, the folder is the subject."""
    count = Counter(case for case, _ in images)
    if max(count.values(), default=1) == 1:
        return images
    return [
        (case, entry if entry.files else replace(entry, subject=_folder_of(entry)))
        for case, entry in images
    ]


def _folder_of(entry: Entry) -> str:
    place, _, name = entry.path.rpartition("/")
    return plain(place or case_of(name))


def _with_subject(entry: Entry, pattern: str | None) -> Entry:
    """The entry with the subject that a pattern finds in its path."""
    if pattern is None:
        return entry
    match = re.search(pattern, entry.path)
    if match is None or not match["subject"]:
        raise DataError(
            f"{entry.path}: options.subject finds no subject in this path",
            "correct the regular expression, or leave the file out by options.exclude",
        )
    return replace(entry, subject=plain(match["subject"]))


def _labels(folder: Path, text: str) -> dict[str, str]:
    """Path of the label of each case.

    Raises:
        DataError: several files are the label of one case.
    """
    if not text:
        return {}
    if not ending_of(text, any_image.ENDINGS) and not re.search(r"[*?{]", text):
        text = f"{text.rstrip('/')}/**/{{case}}"
    glob = Glob(text)
    found: dict[str, str] = {}
    for case, path in glob.below(folder):
        ending = ending_of(path, any_image.ENDINGS)
        if not ending:
            continue
        name = case.removesuffix(ending)
        if name in found:
            raise DataError(f"{path}: {found[name]} is a label of the case {name} too", _NEXT)
        found[name] = path
    return found


def _labelled(
    images: list[tuple[str, Entry]], labels: dict[str, str], text: str
) -> tuple[list[Entry], list[Remark]]:
    """The images with the labels of their cases, and remarks on labels without an image."""
    entries = [replace(entry, label_path=labels.get(case, "")) for case, entry in images]
    if not text:
        return entries, []
    cases = [case for case, _ in images]
    if not set(cases) & set(labels):
        shown = f"; there are {examples([*labels.values()])}" if labels else ""
        raise DataError(
            f"no image has a label: options.labels is {text}, the cases are "
            f"{examples(cases)}{shown}",
            "write {case} where the name of the case stands, such as labels/{case}.nii.gz",
        )
    lonely = [labels[case] for case in sorted(set(labels) - set(cases))]
    if not lonely:
        return entries, []
    reason = f"{len(lonely)} labels have no image: {examples(lonely)}"
    return entries, [Remark("", reason, "look for their images, or leave the labels")]
