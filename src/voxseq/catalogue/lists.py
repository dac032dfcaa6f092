"""Published lists that come with the package: identifiers, checksums and splits, no images.

``published_lists/README.md`` names their sources.
"""

from __future__ import annotations

import csv
import io
from importlib.resources import files
from pathlib import Path

from voxseq.base.errors import IntegrityError
from voxseq.base.failures import read_named

#: The package's own folder; its name in a text counts all files in it as code that is used.
PACKAGE = Path(str(files("voxseq.catalogue")))
_LISTS = PACKAGE / "published_lists"
#: Files that belong into a data set's own folder, by the name of the set of lists.
_SPLITS = {
    "la": ("train.list", "test.list"),
    "ricord": ("RICORD_train.txt", "RICORD_val.txt", "RICORD_test.txt"),
}


def files_for(name: str) -> dict[str, bytes]:
    """Content of the lists ``name``, by the path relative to the data set's folder.

    Raises:
        ValueError: there are no lists of this name.
    """
    if name not in _SPLITS:
        raise ValueError(f"no lists {name!r}, expected one of {', '.join(_SPLITS)}")
    return {path: content(_LISTS / name / path) for path in _SPLITS[name]}


def table(name: str) -> list[dict[str, str]]:
    """Rows of a published table, by its columns."""
    text = content(_LISTS / name).decode("utf-8")
    return list(csv.DictReader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE))


def content(path: Path) -> bytes:
    """A file of the package.

    Raises:
        IntegrityError: it is missing.
    """
    try:
        with read_named(path):
            return path.read_bytes()
    except OSError as error:
        raise IntegrityError(
            f"{path.relative_to(PACKAGE)} is missing from the package ({error})",
            "install voxseq again",
        ) from None
