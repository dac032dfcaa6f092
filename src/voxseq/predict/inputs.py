"""Which images a prediction is asked for: files, folders of files, patterns, DICOM series."""

from __future__ import annotations

import glob
import logging
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from voxseq.base.errors import DataError
from voxseq.base.failures import read_named
from voxseq.base.paths import NIFTI, ending_of, files, without_ending
from voxseq.base.words import several
from voxseq.catalogue import DataSet
from voxseq.data.channels import split_channels
from voxseq.data.checks import require_usable
from voxseq.data.layouts import dicom_tree
from voxseq.data.readers import itk, nifti
from voxseq.data.readers.dicom_volume import read_volume
from voxseq.data.volume import Entry, Volume

_LOG = logging.getLogger(__name__)
#: Endings of files that hold one image, or one channel of it.
ENDINGS = (*NIFTI, ".mha", ".nrrd")
_ONE_OF_SEVERAL = (
    "name the file of that channel, such as 'FOLDER/*_0000.nii.gz'; one along a fourth axis has to "
    "be in a file of its own, which nibabel writes: "
    "load('scan.nii.gz').slicer[..., 0].to_filename('channel.nii.gz')"
)
#: Channel of an image at the end of its name, as nnU-Net has it.
_CHANNEL = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")


@dataclass(frozen=True)
class Case:
    """One image that is asked for; nothing of its voxels has been read.

    Attributes:
        name: of its results; it may have folders.
        folder: that the paths of ``entry`` are relative to.
        entry: file, channels or slices.
        problem: why it cannot be read; "" where nothing is known to be wrong.
    """

    name: str
    folder: Path
    entry: Entry
    problem: str = ""

    @property
    def is_series(self) -> bool:
        """Whether it is a DICOM series."""
        return bool(self.entry.files)

    @property
    def paths(self) -> tuple[Path, ...]:
        """Its files: one, one for each channel, or the slices of a series."""
        return tuple(self.folder / path for path in self.entry.paths)

    @property
    def ending(self) -> str:
        """Ending of its first file; "" of a DICOM series."""
        return "" if self.is_series else ending_of(self.entry.path, ENDINGS).lower()


def find_cases(
    inputs: Sequence[str | Path],
    channels: Collection[int] = (1,),
    apart: Path | None = None,
) -> list[Case]:
    """The images that some files, folders and patterns name, each once, in their order.

    Of a folder all image files below it are taken, or its DICOM series where it has none. Files of
    several channels are told by nnU-Net's numbers at the end of their names (``_0000``, …).

    Args:
        inputs: paths, or patterns such as ``scans/*.nii.gz``.
        channels: numbers of channels that an image may have.
        apart: folder of the results; where it is below a folder of images, its files are left out.

    Raises:
        DataError: nothing is there, ``apart`` is a folder of images, or two images would have
            results of one name.
        ResourceError: the machine failed.
    """
    cases: list[Case] = []
    for given in inputs:
        for path in _existing(given):
            cases += _in_folder(path, channels, apart) if path.is_dir() else [_one_file(path)]
    if not cases:
        raise DataError("no image to predict", f"name files that end in {', '.join(ENDINGS)}")
    unique = {(case.folder / case.entry.path, case.name): case for case in cases}
    counts = Counter(case.name for case in unique.values())
    repeated = [name for name, count in counts.items() if count > 1]
    if repeated:
        places = [c.folder / c.entry.path for c in unique.values() if c.name == repeated[0]]
        raise DataError(
            f"several images have the name {repeated[0]!r}: {', '.join(map(str, places[:3]))}",
            "name the folder above them instead, whose parts the names then keep, or predict them "
            "into different folders",
        )
    return list(unique.values())


def read_channels(case: Case) -> list[Volume]:
    """Read a case: one volume for each of its channels.

    Raises:
        DataError: a file is missing, damaged or holds no image; the message names it.
        ResourceError: the machine failed.
    """
    if case.problem:
        raise DataError(case.problem)
    if case.is_series:
        volumes = [read_volume(case.folder, case.entry)]
    else:
        volumes = [part for path in case.paths for part in split(read_file(path), path.name)]
    for volume in volumes:
        require_usable(volume, case.entry.path)
    return volumes


def require_channels(volumes: Sequence[Volume], wanted: Sequence[str]) -> None:
    """Refuse an image of another number of channels than a network takes.

    Args:
        volumes: one for each channel of the image.
        wanted: names of the channels, in their order.

    Raises:
        DataError: with the way to give it the right ones.
    """
    if len(volumes) == len(wanted):
        return
    found = several(len(volumes), "channel")
    if len(wanted) == 1:
        raise DataError(f"the model takes one channel, but the image has {found}", _ONE_OF_SEVERAL)
    raise DataError(
        f"the model takes {len(wanted)} channels ({', '.join(wanted)}), but the image has {found}",
        "name one file for each channel, files that end in _0000, _0001, …, or one file with the "
        "channels along a fourth axis, in this order",
    )


def split(volume: Volume, path: str) -> Iterator[Volume]:
    """The channels (X, Y, Z) of an image (X, Y, Z) or (X, Y, Z, C).

    Raises:
        DataError: it has another number of axes; ``path`` names it.
    """
    count = volume.array.shape[3] if volume.array.ndim == 4 else 1
    return split_channels(volume, path, [""] * count, range(count))


def read_file(path: Path) -> Volume:
    """Read one file, by its ending a NIfTI, MetaImage or NRRD file.

    Raises:
        DataError: missing, damaged, or no image; the message names the file.
        ResourceError: the machine failed.
    """
    is_nifti = ending_of(path.name, ENDINGS).lower() in NIFTI
    return (nifti.read if is_nifti else itk.read)(path.parent, path.name)


def _existing(given: str | Path) -> Iterator[Path]:
    path = Path(given).expanduser()
    with read_named(path):
        if path.exists():
            yield path
            return
    found = sorted(_matching(path)) if glob.has_magic(str(given)) else []
    if not found:
        raise DataError(
            f"{given}: no such file or folder, and no file that fits it as a pattern",
            "check the path; put patterns into quotes",
        )
    yield from found


def _matching(pattern: Path) -> list[Path]:
    """What fits a pattern, whose first parts may be plain folders."""
    parts = pattern.parts
    first = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    return list(Path(*parts[:first]).glob("/".join(parts[first:])))


def _one_file(path: Path) -> Case:
    if not ending_of(path.name, ENDINGS):
        raise DataError(
            f"{path}: not a file that holds an image (expected {', '.join(ENDINGS)})",
            "of a DICOM series name its folder",
        )
    return Case(without_ending(path.name), path.parent, Entry("", "", path.name))


def _in_folder(folder: Path, channels: Collection[int], apart: Path | None) -> list[Case]:
    found = [path for path in files(folder) if ending_of(path, ENDINGS)]
    if apart is not None:
        left_out, own = apart.resolve(), folder.resolve()
        if left_out == own:
            raise DataError(
                f"{folder}: the results would lie among the images", "name another folder for them"
            )
        # One above it may hold both.
        if own in left_out.parents:
            found = [path for path in found if left_out not in (folder / path).resolve().parents]
    return list(_grouped(folder, found, channels)) if found else _series(folder)


def _grouped(folder: Path, found: Sequence[str], channels: Collection[int]) -> Iterator[Case]:
    """Files as cases: nnU-Net's channels of one image together."""
    groups: dict[str, dict[int, str]] = defaultdict(dict)
    for path in found:
        match = _CHANNEL.fullmatch(without_ending(path))
        if match is not None:
            groups[match["case"]][int(match["channel"])] = path
    # "scan_0001" may be the first of many scans: with one channel, only "…_0000" alone tells it.
    numbered = sum(map(len, groups.values())) == len(found)
    is_dataset = numbered and all(set(group) == {0} for group in groups.values())
    most = max(channels)
    if most == 1 and not is_dataset:
        if numbered and len(groups) > 1 and len({*map(frozenset, groups.values())}) == 1:
            _LOG.warning(
                "%s: files end in _0000, _0001, … as the channels of nnU-Net's images do; the "
                "model takes one channel, and each file is taken for an image of its own. If they "
                "are channels, name those of one: 'FOLDER/*_0000.nii.gz'",
                folder,
            )
        groups = {}
    taken = {path for group in groups.values() for path in group.values()}
    for name, group in sorted(groups.items()):
        paths = tuple(path for _, path in sorted(group.items()))
        entry = Entry("", "", paths[0], channels=paths if most > 1 else ())
        problem = ""
        if set(group) not in [set(range(count)) for count in channels]:
            there = ", ".join(f"{number:04}" for number in sorted(group))
            problem = f"{name}: channels {there} are there, expected 0000 to {most - 1:04}"
        yield Case(name, folder, entry, problem)
    for path in found:
        if path not in taken:
            yield Case(without_ending(path), folder, Entry("", "", path))


def _series(folder: Path) -> list[Case]:
    """The DICOM series below a folder, named by their folders."""
    dataset = DataSet(
        name="input",
        title="input",
        role="task",
        modality="CT and MRI",
        layout="dicom_tree",
        folder=".",
    )
    try:
        scan = dicom_tree.scan(folder, dataset)
    except DataError:
        raise DataError(
            f"{folder}: no image found; expected files that end in {', '.join(ENDINGS)}, or DICOM "
            "series of CT or MRI",
            "check the path",
        ) from None
    cases = [Case(_place(folder, entry), folder, entry) for entry in scan.entries]
    counts = Counter(case.name for case in cases)
    cases = [
        replace(case, name=f"{case.name}_{case.entry.image}") if counts[case.name] > 1 else case
        for case in cases
    ]
    lost = [Case(_place(folder, e), folder, e, problem=reason) for e, reason in scan.rejected]
    return cases + lost


def _place(folder: Path, entry: Entry) -> str:
    return folder.resolve().name if entry.path == "." else entry.path
