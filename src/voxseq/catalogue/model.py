"""The model of a data set: a row of the catalogue, or of a user's own data sets."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    ConfigDict,
    Discriminator,
    Field,
    Strict,
    Tag,
    TypeAdapter,
    model_validator,
    with_config,
)
from pydantic.dataclasses import dataclass
from typing_extensions import TypedDict

from voxseq.catalogue.lists import table

Role = Literal["source", "task", "both"]
#: How a data set is obtained: plain HTTP; an anonymous bucket; The Cancer Imaging Archive's API
#: without a login; the user's own account with an official client; or by hand.
Access = Literal["open", "bucket", "tcia", "account", "manual"]

#: Collection of the Medical Segmentation Decathlon's tasks.
DECATHLON = "MSD"
#: Layouts, and the options that each of them needs.
LAYOUTS: Mapping[str, tuple[str, ...]] = {
    "bids": (),
    "brats23": ("contrasts",),
    "deeplesion": (),
    "dicom_tree": (),
    "files": (),
    "medmnist": ("file",),
    "metaimage": ("patterns",),
    "msd": (),
    "nifti_tree": ("patterns",),
    "nnunet": (),
    "ricord": ("values",),
    "table": ("file",),
    "ua_mt": ("spacing",),
}
#: Further options that a layout reads, and those that every layout has.
FURTHER: Mapping[str, tuple[str, ...]] = {
    "bids": ("suffix", "derivatives", "labels", "target"),
    "brats23": ("exclude",),
    "dicom_tree": ("folders",),
    "files": ("images", "labels", "subject", "exclude"),
    "metaimage": ("modalities", "label", "label_value"),
    "nifti_tree": ("modalities",),
    "nnunet": ("fold",),
    "table": ("columns",),
}
ALWAYS = ("channels", "contrasts", "ignore", "spacing", "splits", "fold")
#: Layouts that tell the modality of each image, of DICOM series by their headers.
MIXED = ("dicom_tree", "files")
#: Layouts for which a user lists the files, and where the list is: below the folder, or the option
#: that names it.
LISTS: Mapping[str, tuple[str, ...]] = {
    "bids": ("participants.tsv",),
    "msd": ("dataset.json",),
    "nnunet": ("dataset.json", "splits_final.json"),
}
_STRICT = ConfigDict(extra="forbid")


def _layout(name: str) -> str:
    if name not in LAYOUTS:
        known = ", ".join(sorted(LAYOUTS))
        raise ValueError(f"unknown layout {name!r}, expected one of {known}")
    return name


def _pattern(text: str) -> str:
    try:
        groups = re.compile(text).groupindex
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    if "subject" not in groups:
        raise ValueError("expected a group (?P<subject>…)")
    return text


def _glob(text: str) -> str:
    if not text or text.startswith(("/", "~")) or ".." in text.split("/"):
        raise ValueError("expected a path that begins at the data set's folder")
    strange = [word for word in re.findall(r"{(.*?)}", text) if word not in ("case", "channel")]
    if strange:
        raise ValueError(f"{{{strange[0]}}} means nothing, expected {{case}} or {{channel}}")
    return text


Count = Annotated[int, Strict(), Field(ge=0)]
Shape = tuple[Count, Count, Count]
Spacing = tuple[float, float, float]
#: A regular expression of relative paths that tells the subject.
Pattern = Annotated[str, AfterValidator(_pattern)]
#: Relative paths with ``*``, ``**`` and ``?``, and ``{case}`` where the name of the case stands.
Glob = Annotated[str, AfterValidator(_glob)]
#: What a column of a table holds.
Column = Literal["image", "label", "class", "target", "subject", "split"]
Globs = Glob | Annotated[list[Glob], Field(min_length=1)]


@dataclass(frozen=True, config=_STRICT)
class RemoteFile:
    """One file of a data set that can be fetched; a text is "" where no source states the fact."""

    #: ``https://…``, or ``s3://bucket/key``; a key that ends in "/" stands for all objects below it
    url: str
    #: place below the data set's folder; of an archive, the folder it is unpacked into
    path: str = ""
    checksum: str = ""  #: ``md5:…``, ``sha256:…`` or ``git:…`` (SHA-1 of a git blob)
    size: Count | None = None  #: bytes
    archive: Literal["", "zip", "tar"] = ""  #: unpacked and then removed; "": a plain file
    unpacked_size: Count | None = None  #: most bytes that unpacking writes; None: ten archives
    strip: str = ""  #: folder at the top of the archive whose content is taken without it
    objects: Count | None = None  #: number of files below a key that ends in "/"
    series_uid: str = ""  #: SeriesInstanceUID of the DICOM series at the address


@dataclass(frozen=True, config=_STRICT)
class ListedFiles(Sequence[RemoteFile]):
    """The files of a published list, which is read when they are first asked for."""

    list: str  #: name of the table
    each: Mapping[str, str]  #: fields of :class:`RemoteFile`, columns of the table in braces

    @cached_property
    def _files(self) -> tuple[RemoteFile, ...]:
        read = TypeAdapter(RemoteFile).validate_strings
        return tuple(
            read({key: text.format_map(row) for key, text in self.each.items()})
            for row in table(self.list)
        )

    def __getitem__(self, index: Any) -> Any:
        return self._files[index]

    def __len__(self) -> int:
        return len(self._files)


Files = Annotated[
    Annotated[tuple[RemoteFile, ...], Tag("files")] | Annotated[ListedFiles, Tag("list")],
    Discriminator(lambda value: "list" if isinstance(value, Mapping | ListedFiles) else "files"),
]


@with_config(_STRICT)
class Options(TypedDict, total=False):
    """Further settings of the layout; see the modules of :mod:`voxseq.data.layouts`."""

    patterns: list[Pattern]
    modalities: list[str]
    folders: Pattern
    contrasts: list[str]
    exclude: str
    label: str
    label_value: int
    spacing: Spacing
    file: str
    values: Literal["hu", "stored"]
    #: of a user's own data sets; docs/own-data.md describes them
    images: Globs
    labels: Glob
    subject: Pattern
    channels: Annotated[list[str], Field(min_length=1)]
    ignore: Annotated[int, Strict(), Field(ge=1, le=255)]
    splits: Annotated[str, Field(min_length=1)]
    fold: Count
    columns: dict[Column, str | list[str]]
    suffix: str | list[str]
    derivatives: str
    target: str


@dataclass(frozen=True, config=_STRICT)
class Assumed:
    """Facts that no publisher states as one number, for estimates alone.

    A factor of two moves disk and preparation, not the training.
    """

    shape: Shape = (512, 512, 200)  #: voxels of a typical image
    spacing: Spacing | None = None  #: mm; None: that of the options
    volumes: Count | None = None  #: images
    size: Count | None = None  #: bytes of the download


@dataclass(frozen=True, config=_STRICT)
class DataSet:
    """One data set; :func:`voxseq.catalogue.rows.read_rows` fills in name, title and role."""

    name: str  #: key in configurations
    title: str  #: name in tables and documents
    role: Role  #: pre-training source, downstream task, or both
    modality: Literal["CT", "MRI", "CT and MRI"]  #: of both, the layout tells them apart
    layout: Annotated[str, AfterValidator(_layout)]  #: a module of :mod:`voxseq.data.layouts`
    folder: str  #: place below the user's data root; of an own data set the place itself
    #: what voxels hold as published; None: Hounsfield units for CT, any numbers for MRI
    intensities: Literal["hu", "stored", "zscore", "uint8", "any"] | None = None
    paths: tuple[str, ...] = ()  #: what is read below the folder; "…/" stands for any folders
    #: kinds of pre-training sequence that can be made of it
    kinds: tuple[Literal["spatial", "contrast", "semantic"], ...] = ("spatial",)
    #: type of the downstream task that its labels are for; "" where any or none is known
    task: Literal["", "segmentation", "classification", "regression"] = ""
    classes: tuple[str, ...] = ()  #: foreground classes of a segmentation, or all classes
    collection: str = ""  #: collection of tasks that it is one of
    options: Options = Field(default_factory=Options)
    citation: str = ""  #: publication
    licence: str = ""  #: licence of the images
    source: str = ""  #: where it is published
    version: str = ""  #: release that the study uses
    access: Access = "manual"
    terms: str = ""  #: what the publishers ask of users before the images are fetched
    #: bytes of the download, as exact as its source, where the files do not state them
    download: Count | None = None
    volumes: Count | None = None  #: images that the layout finds in the whole; None: unconfirmed
    ct_volumes: Count | None = None  #: how many of them are CT, where it holds both
    paper_volumes: Count | None = None  #: images that the paper states
    images_per_subject: Count = 1  #: each of another contrast
    #: training, validation and test cases of a published split; None: divided by ratio
    parts: tuple[Count, Count, Count] | None = None
    assumed: Assumed = Field(default_factory=Assumed)
    phantoms: bool = False  #: whether :mod:`voxseq.phantoms` generates it
    #: what can be fetched without an account, in order; ``steps`` names the rest
    files: Files = ()
    lists: str = ""  #: package data for its folder: :func:`voxseq.catalogue.lists.files_for`
    #: what a client fetches with the user's account: ``kaggle:<competition>``, ``synapse:<id>``
    client: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()  #: what the user does by hand, one sentence each
    overlaps: tuple[str, ...] = ()  #: data sets that share images; one of two names the other
    unconfirmed: tuple[str, ...] = ()  #: facts of this row that no source settles
    note: str = ""  #: traps
    own: bool = False  #: whether a user declares it in the configuration; it is never fetched

    @model_validator(mode="after")
    def _options_fit(self) -> Self:
        needed = LAYOUTS[self.layout]
        known = (*needed, *FURTHER.get(self.layout, ()), *ALWAYS)
        for option in needed:
            if option not in self.options:
                raise ValueError(f"options.{option}: {self.layout} needs it")
        is_mixed = self.own and self.modality == "CT and MRI"
        if is_mixed and self.layout not in MIXED and "modalities" not in self.options:
            raise ValueError(
                f"modality: {self.layout} cannot tell CT from MRI; expected one of the two, or a "
                "data set for each"
            )
        for option in self.options:
            if option not in known:
                raise ValueError(
                    f"options.{option}: {self.layout} does not read it; it reads {', '.join(known)}"
                )
        return self

    def place(self, root: Path | None) -> Path | None:
        """Its folder, which need not exist; None where that is below a data root that is None.

        Args:
            root: the user's folder of catalogued data sets.
        """
        if self.own:
            return Path(self.folder).expanduser().absolute()
        return None if root is None else root / self.folder

    @property
    def size(self) -> int | None:
        """Bytes of the download; None where neither the publisher nor every file states them."""
        if self.download is not None or not self.files:
            return self.download
        sizes = [file.size for file in self.files]
        return None if None in sizes else sum(size or 0 for size in sizes)
