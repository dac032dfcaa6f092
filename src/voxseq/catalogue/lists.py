"""Published lists that come with the package: identifiers, checksums and splits, no images.

``published_lists/README.md`` names their sources. A list is read when it is first asked for.
"""

from __future__ import annotations

import csv
import io
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from urllib.parse import quote

from voxseq.base.errors import IntegrityError
from voxseq.base.failures import read_named
from voxseq.catalogue.model import RemoteFile

#: Files that belong into a data set's own folder, by the name of the set of lists.
_SPLITS = {
    "la": ("train.list", "test.list"),
    "ricord": ("RICORD_train.txt", "RICORD_val.txt", "RICORD_test.txt"),
}
_UA_MT = "https://raw.githubusercontent.com/yulequan/UA-MT/88ed29ad794f877122e542a7fa9505a76fa83515"
_LA_FOLDER = "2018LA_Seg_Training Set"


def files_for(name: str) -> dict[str, bytes]:
    """Content of the lists ``name``, by the path relative to the data set's folder.

    Raises:
        ValueError: there are no lists of this name.
    """
    if name not in _SPLITS:
        raise ValueError(f"no lists {name!r}, expected one of {', '.join(_SPLITS)}")
    return {path: _content(name, path) for path in _SPLITS[name]}


@cache
def la_files() -> tuple[RemoteFile, ...]:
    """The 100 left-atrium MRIs at the commit of UA-MT whose blobs are listed."""
    place = f"data/{quote(_LA_FOLDER)}"
    return tuple(
        RemoteFile(
            url=f"{_UA_MT}/{place}/{row['id']}/mri_norm2.h5",
            path=f"{_LA_FOLDER}/{row['id']}/mri_norm2.h5",
            checksum=f"git:{row['git_blob_sha1']}",
            size=int(row["bytes"]),
        )
        for row in _table("la", "h5_blobs.tsv")
    )


@cache
def ricord_files() -> tuple[RemoteFile, ...]:
    """The 330 series of the RICORD lists in the Imaging Data Commons, a folder each."""
    return tuple(
        RemoteFile(
            url=row["series_aws_url"].removesuffix("*"),
            path=f"{_collection(row['collection_id'])}/{row['SeriesInstanceUID']}",
            # The table states megabytes with six decimals, which is the byte.
            size=round(float(row["size_MB"]) * 1_000_000),
            objects=int(row["instanceCount"]),
            series_uid=row["SeriesInstanceUID"],
        )
        for row in _table("ricord_series_map.tsv")
    )


@cache
def deeplesion_files() -> tuple[RemoteFile, ...]:
    """The 56 archives of DeepLesion's slices; each unpacks into ``Images_png``."""
    return tuple(
        RemoteFile(url=row["url"], checksum=f"md5:{row['md5']}", archive="zip")
        for row in _table("deeplesion_zips.tsv")
    )


def _collection(name: str) -> str:
    """Name of a collection at The Cancer Imaging Archive, from that in the Data Commons."""
    return name.upper().replace("_", "-")


def _table(*path: str) -> list[dict[str, str]]:
    text = _content(*path).decode("utf-8")
    return list(csv.DictReader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE))


def _content(*path: str) -> bytes:
    item: Traversable = files("voxseq.catalogue").joinpath("published_lists", *path)
    try:
        with read_named(Path(str(item))):
            return item.read_bytes()
    except OSError as error:
        raise IntegrityError(
            f"the list {'/'.join(path)} is missing from the package ({error})",
            "install voxseq again",
        ) from None
