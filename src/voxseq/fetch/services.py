"""Where files come from besides plain web servers: anonymous S3 buckets and TCIA's NBIA.

An object of a public bucket is a plain file at an address, so that listing is all that differs from
HTTP; botocore would add 30 MB and a second way to resume.
"""

from __future__ import annotations

import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import quote, urlencode

from voxseq.base.errors import DataError
from voxseq.fetch.headers import shortened, whole_number
from voxseq.fetch.paths import is_left_out, safe_path
from voxseq.fetch.remote import Remote
from voxseq.fetch.transfer import Client

#: Address of an S3 server or mirror that holds all buckets, such as http://localhost:9000.
S3_VARIABLE = "VOXSEQ_S3_ENDPOINT"
#: Address of The Cancer Imaging Archive's NBIA service.
NBIA_VARIABLE = "VOXSEQ_NBIA_URL"
NBIA = "https://nbia.cancerimagingarchive.net/nbia-api/services/v4"
_S3 = "s3://"
#: An ETag that is the MD5 of the object; that of an object uploaded in parts is not.
_MD5 = re.compile(r'"?([0-9a-f]{32})"?')
#: Most objects below one prefix; the largest of the catalogue has 2,000.
_MOST_OBJECTS = 500_000
#: Most answers with a list of them; Amazon's hold 1,000 objects each, but may hold fewer.
_MOST_PAGES = 5_000


@dataclass(frozen=True)
class Object:
    """One object of a bucket, ``path`` below the prefix that was listed."""

    path: str
    remote: Remote


@dataclass(frozen=True)
class Services:
    """Addresses of services.

    Attributes:
        s3: server of all buckets; "" for Amazon's, where each bucket has a host of its own.
        nbia: TCIA's service.
    """

    s3: str = ""
    nbia: str = NBIA

    @classmethod
    def from_environment(cls) -> Services:
        """As ``VOXSEQ_S3_ENDPOINT`` and ``VOXSEQ_NBIA_URL`` say."""
        return cls(os.environ.get(S3_VARIABLE, ""), os.environ.get(NBIA_VARIABLE) or NBIA)

    def address(self, url: str) -> str:
        """The HTTP address of ``s3://bucket/key``; another URL as it is."""
        if not url.startswith(_S3):
            return url
        bucket, _, key = url.removeprefix(_S3).partition("/")
        return f"{self._bucket(bucket)}/{quote(key)}"

    def series(self, uid: str) -> str:
        """Address of a zip archive with a DICOM series."""
        query = urlencode({"NewFileNames": "Yes", "SeriesInstanceUID": uid})
        return f"{self.nbia.rstrip('/')}/getImage?{query}"

    def objects(self, client: Client, url: str) -> tuple[Object, ...]:
        """All objects below ``s3://bucket/prefix/``, sorted by key.

        Raises:
            DataError: the bucket refuses, holds nothing there, or does not answer as S3 does.
        """
        bucket, _, prefix = url.removeprefix(_S3).partition("/")
        found: dict[PurePosixPath, Object] = {}
        for number, item in enumerate(self._items(client, bucket, prefix)):
            if number >= _MOST_OBJECTS:
                raise _bad_list(url, f"has more than {_MOST_OBJECTS:,} objects")
            path = safe_path(_below(item["Key"], prefix, url), url)
            if item["Key"].endswith("/") or is_left_out(path):
                continue
            if path in found:
                raise _bad_list(url, f"has {shortened(item['Key'], 200)} twice")
            found[path] = self._object(bucket, item, path, url)
        for path in found:
            if any(parent in found for parent in path.parents):
                raise _bad_list(url, f"has a file and a folder named {str(path.parent)!r}")
        if not found:
            raise DataError(
                f"{url}: no object is there", "compare the address with its publisher's page"
            )
        return tuple(found[path] for path in sorted(found, key=PurePosixPath.as_posix))

    def _object(self, bucket: str, item: dict[str, str], path: PurePosixPath, url: str) -> Object:
        size, md5 = whole_number(item["Size"]), _MD5.fullmatch(item["ETag"])
        if size is None:
            said = f"the size {shortened(item['Size'])}" if item["Size"] else "no size"
            raise _bad_list(url, f"states {said} for {shortened(item['Key'], 200)}")
        address = self.address(f"{_S3}{bucket}/{item['Key']}")
        return Object(
            path.as_posix(), Remote(address, size, f"md5:{md5[1]}" if md5 else "", path.name)
        )

    def _bucket(self, bucket: str) -> str:
        return (
            f"{self.s3.rstrip('/')}/{bucket}" if self.s3 else f"https://{bucket}.s3.amazonaws.com"
        )

    def _items(self, client: Client, bucket: str, prefix: str) -> Iterator[dict[str, str]]:
        """Items of ListObjectsV2, which answers with at most 1,000 at a time."""
        query = {"list-type": "2", "prefix": prefix}
        tokens: set[str] = set()
        while True:
            url = f"{self._bucket(bucket)}?{urlencode(query)}"
            root = _parse(client.text(url), url)
            for contents in root.findall("{*}Contents"):
                yield {
                    name: contents.findtext(f"{{*}}{name}") or ""
                    for name in ("Key", "Size", "ETag")
                }
            token = root.findtext("{*}NextContinuationToken")
            if not token:
                if (root.findtext("{*}IsTruncated") or "").strip().lower() == "true":
                    raise _bad_list(url, "is cut short: it says that more follows, and not where")
                return
            if token in tokens or len(tokens) >= _MOST_PAGES:
                raise _bad_list(url, "does not end: the server goes on handing out the next page")
            tokens.add(token)
            query["continuation-token"] = token


def _parse(content: bytes, url: str) -> ET.Element:
    try:
        # Expat limits how far entities may expand since version 2.4.1; the length is limited too.
        root = ET.fromstring(content)  # noqa: S314
    # An encoding that expat does not know is a LookupError or a ValueError.
    except (ET.ParseError, LookupError, ValueError) as error:
        raise _no_bucket(url, str(error)) from None
    if not root.tag.endswith("ListBucketResult"):
        raise _no_bucket(url, root.tag)
    return root


def _below(key: str, prefix: str, url: str) -> str:
    if not key.startswith(prefix):
        raise _bad_list(url, f"has {shortened(key, 200)}, which is not below that address")
    return key.removeprefix(prefix)


def _bad_list(url: str, reason: str) -> DataError:
    return DataError(
        f"{url}: the bucket's list {reason}",
        f"try again later; when it stays so, check {S3_VARIABLE} if it is set, and compare the "
        "address with its publisher's page",
    )


def _no_bucket(url: str, reason: str) -> DataError:
    return DataError(
        f"{url}: the answer is no list of a bucket ({reason})",
        f"compare the bucket with its publisher's page; check {S3_VARIABLE} if it is set",
    )
