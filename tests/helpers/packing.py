"""Small archives and buckets of the published layouts, and data sets that name them."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.servers import Fault, Server
from voxseq import catalogue
from voxseq.base.errors import VoxseqError
from voxseq.catalogue import DataSet, RemoteFile
from voxseq.fetch import RECORD, FetchResult, RetryPolicy, fetch

#: Patient enough for a local server, and without a wait.
HASTY = RetryPolicy(attempts=3, first=0.001, longest=0.5, connect=2.0, read=2.0)


def dataset(files: Iterable[RemoteFile], name: str = "nodule", **changes: Any) -> DataSet:
    """A row of the catalogue with other files, of which no size is stated."""
    settings = {"files": tuple(files), "download": None, "lists": "", "steps": (), **changes}
    return replace(catalogue.get(name), **settings)


#: The nodules' file, and its name on the server.
CONTENT = bytes(range(256)) * 5000
PATH = "/nodulemnist3d.npz"


class Site:
    """A data set of one file on the local server, and a data root.

    Attributes:
        server: the server.
        root: the data root; it has empty room around it.
        url: address of the file.
    """

    def __init__(self, server: Server, root: Path) -> None:
        self.server = server
        self.root = root
        self.folder = root / "nodule"
        self.url = server.put(PATH, CONTENT)

    def put(self, content: bytes = CONTENT, **how: Any) -> None:
        """Serve the file in another way."""
        self.server.put(PATH, content, **how)

    def fail(self, *faults: Fault) -> None:
        """Let the next requests meet these; without any, no more."""
        self.server.faults[PATH] = list(faults)

    def fetch(self, url: str = "", retry: RetryPolicy = HASTY, **facts: Any) -> FetchResult:
        """Fetch the file."""
        remote = RemoteFile(url or self.url, path=PATH[1:], **facts)
        return fetch(dataset([remote]), self.root, retry=retry)

    def refused(
        self, error: type[VoxseqError], reason: str, url: str = "", **facts: Any
    ) -> VoxseqError:
        """The error of a file that is refused; it names the file and a next step."""
        with pytest.raises(error, match=reason) as caught:
            self.fetch(url, **facts)
        assert (url or self.url).rpartition("/")[0] in caught.value.what
        assert caught.value.hint
        assert not self.folder.exists()
        return caught.value

    def keeps_nothing(self) -> bool:
        """Whether no part of a file is left."""
        left = contents(self.root) if self.root.exists() else {}
        return all(name.endswith(".lock") for name in left)

    def arrived(self) -> bool:
        """Whether the data set's folder is there, with exactly the right file."""
        if not self.folder.exists():
            return False
        found = contents(self.folder)
        assert found.pop(RECORD)
        assert found == {PATH[1:]: CONTENT}
        assert not (self.root / ".voxseq-fetch").exists()
        return True


def md5(content: bytes) -> str:
    return f"md5:{hashlib.md5(content, usedforsecurity=False).hexdigest()}"


def git_blob(content: bytes) -> str:
    digest = hashlib.sha1(f"blob {len(content)}\0".encode() + content, usedforsecurity=False)
    return f"git:{digest.hexdigest()}"


def contents(folder: Path) -> dict[str, bytes]:
    """Bytes of every file below a folder, by its path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def tar(files: Mapping[str, bytes], mode: str = "w", **settings: Any) -> bytes:
    """A tar of these files; names are taken as they are."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, **settings) as archive:
        for name, content in files.items():
            archive.addfile(tar_entry(name, size=len(content)), io.BytesIO(content))
    return buffer.getvalue()


def tar_entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> Any:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname, entry.size = kind, link, size
    return entry


def zipped(files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip of these files; names are taken as they are."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo("x")
            # Else the constructor would mend names that are to be refused.
            info.filename = name
            info.compress_type = method
            archive.writestr(info, content)
    return buffer.getvalue()


LISTING = """<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
{}</ListBucketResult>"""
ITEM = "<Contents><Key>p/{}</Key><Size>{}</Size><ETag>&quot;{}&quot;</ETag></Contents>"


def listing(server: Server, *items: str | tuple[object, ...]) -> None:
    """Serve the list of s3://b/p/: name, size and ETag of each object, or its XML."""
    texts = [item if isinstance(item, str) else ITEM.format(*item) for item in items]
    server.put("/b?list-type=2&prefix=p/", LISTING.format("".join(texts)).encode())


@dataclass(frozen=True)
class Bucket:
    """A bucket of the local S3 server."""

    endpoint: str
    name: str

    def put(self, key: str, content: bytes) -> None:
        """Add an object."""
        client = self._client()
        if self.name not in [b["Name"] for b in client.list_buckets()["Buckets"]]:
            client.create_bucket(Bucket=self.name)
        client.put_object(Bucket=self.name, Key=key, Body=content, ACL="public-read")

    def _client(self) -> Any:
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",  # noqa: S106
        )
