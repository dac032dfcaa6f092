"""The record that says a data set's folder is complete: written last, inside the folder."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from voxseq.base.digest import digest
from voxseq.base.errors import IntegrityError
from voxseq.base.files import write_json
from voxseq.catalogue import DataSet
from voxseq.catalogue.model import RemoteFile
from voxseq.fetch.disk import reading
from voxseq.fetch.notes import parse_note

#: Name of the record in the data set's folder.
RECORD = ".voxseq-fetch.json"

#: Who vouches that the bytes are right: a checksum of the catalogue, the MD5 sums that a bucket
#: lists, a stated length only, the user's account client, or nobody.
Vouched = Literal["checksum", "bucket", "length", "client", "nothing"]


@dataclass(frozen=True)
class Fetched:
    """What was fetched for one :class:`RemoteFile`.

    Attributes:
        id: word for the remote file, from :func:`unit_id`.
        url: its address in the catalogue.
        path: where it went, relative to the data set's folder.
        archive: kind of archive that was unpacked.
        source: address that was read, another one where a fallback was used.
        checksum: that of the file or archive as it arrived; "" for many objects.
        vouched: who says that this is right.
        size: bytes that arrived.
        files: files in the data set's folder.
        bytes: their bytes.
    """

    id: str
    url: str
    path: str
    archive: str
    source: str
    checksum: str
    vouched: Vouched
    size: int
    files: int
    bytes: int


@dataclass(frozen=True)
class Record:
    """A complete data set.

    Attributes:
        dataset: its name.
        version: the release that the catalogue named.
        fetched: what was fetched, in the catalogue's order.
        lists: files of the package that were put beside.
    """

    dataset: str
    version: str
    fetched: tuple[Fetched, ...]
    lists: tuple[str, ...] = ()

    def is_of(self, dataset: DataSet) -> bool:
        """Whether it records what the catalogue names now."""
        wanted = {unit_id(file) for file in units(dataset)}
        return self.dataset == dataset.name and {item.id for item in self.fetched} == wanted


def units(dataset: DataSet) -> tuple[RemoteFile, ...]:
    """What there is to fetch: files, and what an account's client fetches as ``client:name``."""
    clients = tuple(RemoteFile(url=name) for name in dataset.client)
    return tuple(dict.fromkeys((*dataset.files, *clients)))


def unit_id(file: RemoteFile) -> str:
    """A short word for what is fetched and where it goes."""
    return digest([file.url, file.path, file.checksum, file.archive, file.strip])


def write_record(folder: Path, record: Record) -> None:
    """Write the record of ``folder``."""
    write_json(folder / RECORD, {"format": 1, **asdict(record)})


def read_record(folder: Path) -> Record | None:
    """The record of a data set's folder; None for a folder that was not fetched.

    Raises:
        IntegrityError: the record is damaged.
        ResourceError: the machine does not hand it out.
    """
    path = folder / RECORD
    with reading(path):
        if not path.exists():
            return None
        content = path.read_bytes()
    try:
        return parse_note(content, Record)
    except ValidationError as error:
        reason = error.errors(include_url=False, include_input=False)[0]["msg"]
        raise IntegrityError(
            f"{path}: cannot be read ({reason})",
            "remove this file to use the folder as your own, or the folder to fetch it again",
        ) from None
