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

from voxseq import catalogue
from voxseq.catalogue import DataSet, RemoteFile
from voxseq.fetch import RetryPolicy

#: Patient enough for a local server, and without a wait.
HASTY = RetryPolicy(attempts=3, first=0.001, longest=0.5, connect=2.0, read=2.0)


def dataset(files: Iterable[RemoteFile], name: str = "nodule", **changes: Any) -> DataSet:
    """A row of the catalogue with other files, of which no size is stated."""
    settings = {"files": tuple(files), "size": None, "lists": "", "steps": (), **changes}
    return replace(catalogue.get(name), **settings)


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


def tar(files: Mapping[str, bytes], mode: str = "w") -> bytes:
    """A tar of these files; names are taken as they are."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
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
