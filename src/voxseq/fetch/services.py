"""Anonymous S3 buckets and TCIA's NBIA service.

An object of a public bucket is a plain file at an address, so that only listing differs from HTTP;
botocore would add 30 MB and a second way to resume.
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
from voxseq.fetch.content import Remote
from voxseq.fetch.http import Client, shortened, whole_number
from voxseq.fetch.paths import is_left_out, safe_path

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
#: Most pages of a list; Amazon's hold 1,000 objects each, but may hold fewer.
_MOST_PAGES = 5_000


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

    def objects(self, client: Client, url: str) -> dict[PurePosixPath, Remote]:
        """All objects below ``s3://bucket/prefix/`` by their path there, sorted.

        Raises:
            DataError: the bucket refuses, holds nothing there, or does not answer as S3 does.
        """
        bucket, _, prefix = url.removeprefix(_S3).partition("/")
        found: dict[PurePosixPath, Remote] = {}
        for number, item in enumerate(self._items(client, bucket, prefix)):
            key = item["Key"]
            if number >= _MOST_OBJECTS:
                raise _bad_list(url, f"has more than {_MOST_OBJECTS:,} objects")
            if not key.startswith(prefix):
                raise _bad_list(url, f"has {shortened(key, 200)}, which is not below that address")
            path = safe_path(key.removeprefix(prefix), url)
            if key.endswith("/") or is_left_out(path):
                continue
            if path in found:
                raise _bad_list(url, f"has {shortened(key, 200)} twice")
            size, md5 = whole_number(item["Size"]), _MD5.fullmatch(item["ETag"])
            if size is None:
                said = f"the size {shortened(item['Size'])}" if item["Size"] else "no size"
                raise _bad_list(url, f"states {said} for {shortened(key, 200)}")
            address = self.address(f"{_S3}{bucket}/{key}")
            found[path] = Remote(address, size, f"md5:{md5[1]}" if md5 else "", path.name)
        for path in found:
            if any(parent in found for parent in path.parents):
                raise _bad_list(url, f"has a file and a folder named {str(path.parent)!r}")
        if not found:
            raise DataError(
                f"{url}: no object is there", "compare the address with its publisher's page"
            )
        return {path: found[path] for path in sorted(found, key=PurePosixPath.as_posix)}

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
        if root.tag.endswith("ListBucketResult"):
            return root
        reason = root.tag
    # An encoding that expat does not know is a LookupError or a ValueError.
    except (ET.ParseError, LookupError, ValueError) as error:
        reason = str(error)
    raise DataError(
        f"{url}: the answer is no list of a bucket ({reason})",
        f"compare the bucket with its publisher's page; check {S3_VARIABLE} if it is set",
    )


def _bad_list(url: str, reason: str) -> DataError:
    return DataError(
        f"{url}: the bucket's list {reason}",
        f"try again later; when it stays so, check {S3_VARIABLE} if it is set, and compare the "
        "address with its publisher's page",
    )
