"""Notes of a download, and the record in a data set's folder that says that it is complete."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AliasChoices, Field, TypeAdapter, ValidationError

from voxseq.base.digest import digest
from voxseq.base.errors import IntegrityError
from voxseq.base.failures import read_named
from voxseq.base.files import write_json
from voxseq.catalogue import DataSet
from voxseq.catalogue.model import RemoteFile

T = TypeVar("T")
#: Name of the record in the data set's folder.
RECORD = ".voxseq-fetch.json"

#: Evidence that the bytes are right: a checksum of the catalogue, the MD5 sums that a bucket lists,
#: a stated length only, the client of the user's account (in old records), or nothing.
VerifiedBy = Literal["checksum", "bucket", "length", "client", "nothing"]


@dataclass(frozen=True)
class Fetched:
    """Facts of one fetched :class:`RemoteFile`.

    Attributes:
        id: word for the remote file, from :func:`unit_id`.
        url: its address in the catalogue.
        path: its place, relative to the data set's folder.
        archive: kind of archive that was unpacked.
        source: address that was read, another one where a fallback was used.
        checksum: that of the file or archive as it arrived; "" for many objects.
        verified_by: evidence that this is right; "vouched" in older records.
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
    verified_by: Annotated[
        VerifiedBy, Field(validation_alias=AliasChoices("verified_by", "vouched"))
    ]
    size: int
    files: int
    bytes: int

    @property
    def is_weak(self) -> bool:
        """Whether no checksum shows that this is right."""
        return self.verified_by in ("length", "nothing")


@dataclass(frozen=True)
class Record:
    """A complete data set.

    Attributes:
        dataset: its name.
        version: the release that the catalogue named.
        fetched: its remote files, in the catalogue's order.
        lists: files of the package that were put beside.
    """

    dataset: str
    version: str
    fetched: tuple[Fetched, ...]
    lists: tuple[str, ...] = ()

    def is_of(self, dataset: DataSet) -> bool:
        """Whether it records the files that the catalogue names now."""
        wanted = {unit_id(file) for file in units(dataset)}
        return self.dataset == dataset.name and {item.id for item in self.fetched} == wanted


def units(dataset: DataSet) -> tuple[RemoteFile, ...]:
    """The remote files, and what an account's client fetches as ``client:name``."""
    clients = tuple(RemoteFile(url=name) for name in dataset.client)
    return tuple(dict.fromkeys((*dataset.files, *clients)))


def unit_id(file: RemoteFile) -> str:
    """A short word for what is fetched and where it goes."""
    return digest([file.url, file.path, file.checksum, file.archive, file.strip])


def _read(path: Path, kind: type[T]) -> T | None:
    """The content of a JSON file; None where there is none.

    Raises:
        ValidationError: it is damaged.
        ResourceError: the machine failed, so nobody knows its content.
    """
    with read_named(path):
        if not path.is_file():
            return None
        content = path.read_bytes()
    adapter: TypeAdapter[T] = TypeAdapter(kind)
    return adapter.validate_json(content, strict=True)


def read_note(path: Path, kind: type[T]) -> T | None:
    """A note; None where there is none, or a damaged one, so that its work is done again."""
    try:
        return _read(path, kind)
    except ValidationError:
        return None


def write_record(folder: Path, record: Record) -> None:
    """Write the record of ``folder``."""
    write_json(folder / RECORD, {"format": 1, **asdict(record)})


def read_record(folder: Path) -> Record | None:
    """The record of a data set's folder; None for a folder that was not fetched.

    Raises:
        IntegrityError: the record is damaged.
    """
    try:
        return _read(folder / RECORD, Record)
    except ValidationError as error:
        reason = error.errors(include_url=False, include_input=False)[0]["msg"]
        raise IntegrityError(
            f"{folder / RECORD}: cannot be read ({reason})",
            "remove this file to use the folder as your own, or the folder to fetch it again",
        ) from None
