"""What the catalogue says about one data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["source", "task", "both"]
#: How a data set is obtained: plain HTTP; an anonymous bucket; The Cancer Imaging Archive's API
#: without a login; the user's own account with an official client; or by hand.
Access = Literal["open", "bucket", "tcia", "account", "manual"]


#: Collection of the Medical Segmentation Decathlon's tasks.
DECATHLON = "MSD"


@dataclass(frozen=True)
class RemoteFile:
    """One file of a data set that can be fetched.

    Attributes:
        url: ``https://…``, or ``s3://bucket/key``; a key that ends in "/" stands for all objects
            below it.
        path: where it goes, relative to the data set's folder; of an archive, the folder it is
            unpacked into ("" for the data set's own).
        checksum: ``md5:…``, ``sha256:…`` or ``git:…`` (SHA-1 of a git blob); "" where no source
            states one.
        size: bytes, None where no source states them.
        archive: kind of archive that is unpacked and then removed; "" for a plain file.
        strip: folder at the top of the archive whose content is taken without it; "": everything
            is taken as it is packed.
        unpacked_size: most bytes that unpacking may write; None: ten times the archive.
        objects: files below a key that ends in "/"; None where no source states it.
        series_uid: SeriesInstanceUID of the DICOM series that lies at the address, by which other
            services know it; "" for what is no series.
    """

    url: str
    path: str = ""
    checksum: str = ""
    size: int | None = None
    archive: Literal["", "zip", "tar"] = ""
    unpacked_size: int | None = None
    strip: str = ""
    objects: int | None = None
    series_uid: str = ""


@dataclass(frozen=True)
class DataSet:
    """One row of the catalogue.

    Attributes:
        name: key in configurations.
        title: name in tables and documents.
        role: what it may serve as: pre-training source, downstream task, or both.
        modality: "CT" or "MRI"; "CT and MRI" where the adapter tells them apart.
        adapter: reader of the layout, a module of :mod:`voxseq.data.layouts`.
        folder: its place below the user's data root.
        citation: publication.
        licence: licence of the images.
        source: where it is published.
        version: release the study uses.
        access: how to obtain it.
        layout: paths below the folder that are read; "…/" stands for any folders, or none.
        classes: names of the foreground classes of a segmentation, or of all classes.
        task: type of the downstream task that its labels are for; "" where any or none is known.
        kinds: kinds of pre-training sequence that can be made of it.
        size: bytes of the download, as exact as its source; None where no source states them.
        volumes: images that the adapter finds in the whole data set; None where unconfirmed.
        paper_volumes: images that the paper states; None where it states no number.
        files: what can be fetched without an account, in order. They may be a part of the data
            set; ``steps`` then names the rest.
        lists: package data that belongs into the folder, a name of
            :func:`voxseq.catalogue.lists.files_for`; "" for none.
        client: what an official client fetches with the user's own account:
            ``kaggle:<competition>`` or ``synapse:<id>``.
        terms: what its publishers ask of users before the images are fetched; "" for nothing.
        steps: what the user does by hand, with or without an account, one sentence each.
        options: what the adapter needs to know besides.
        collection: collection of tasks that it is one of; "" for none.
        overlaps: data sets with which it shares images.
        unconfirmed: facts of this row that no source settles.
        note: traps.
    """

    name: str
    title: str
    role: Role
    modality: str
    adapter: str
    folder: str
    citation: str
    licence: str
    source: str
    version: str
    access: Access
    layout: str
    classes: tuple[str, ...] = ()
    task: Literal["", "segmentation", "classification"] = ""
    kinds: tuple[Literal["spatial", "contrast", "semantic"], ...] = ("spatial",)
    size: int | None = None
    volumes: int | None = None
    paper_volumes: int | None = None
    files: tuple[RemoteFile, ...] = ()
    lists: str = ""
    client: tuple[str, ...] = ()
    terms: str = ""
    steps: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    collection: str = ""
    overlaps: tuple[str, ...] = ()
    unconfirmed: tuple[str, ...] = ()
    note: str = ""
