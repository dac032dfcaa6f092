"""What a run has finished for single volumes, kept so that a stopped run goes on from there.

All of it lies in the run's folder of state, which is deleted when the run is finished.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from voxseq.base.errors import ResourceError
from voxseq.base.failures import read_named, write_named
from voxseq.base.files import files_below, read_json, sha256, size_of

RECORD = "record.json"
_PARTIAL = ".partial"
#: State of files, as :func:`state_of` gives it, by their relative path.
States = Mapping[str, list[Any]]


class Journal:
    """Small results, one line of JSON each; a line that was cut off counts as not written.

    Args:
        path: file, made when the first result is added; None keeps nothing for later.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._results: dict[str, Any] = {}
        if path is None or not path.exists():
            return
        good = 0
        with read_named(path), path.open("r+b") as file:
            for line in file:
                try:
                    key, result = json.loads(line)
                except (ValueError, TypeError, RecursionError):
                    break
                if not line.endswith(b"\n") or not isinstance(result, dict):
                    break
                self._results[str(key)] = result
                good += len(line)
            # What a stopped process left of the last line is cut off.
            file.truncate(good)

    def get(self, key: str) -> Any:
        """The result of ``key``, None where there is none."""
        return self._results.get(key)

    def add(self, key: str, result: Any) -> None:
        """Keep a result."""
        self._results[key] = result
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with write_named(self.path), self.path.open("ab") as file:
                file.write(json.dumps([key, result]).encode() + b"\n")


def state_of(folder: Path, path: str) -> list[Any]:
    """Size and time of change of a file, or of every file in a folder; empty where it is not."""
    place = folder / path
    try:
        with read_named(place):
            if not place.is_dir():
                found = place.stat()
                return [found.st_size, found.st_mtime_ns]
            with os.scandir(place) as items:
                states = [(item.name, item.stat()) for item in items]
    except OSError:
        return []
    return [[name, s.st_size, s.st_mtime_ns] for name, s in sorted(states, key=lambda s: s[0])]


def require_unchanged(folder: Path, before: States) -> None:
    """Stop where a file has vanished or changed since its state was taken.

    Raises:
        ResourceError: naming it.
    """
    for path, state in before.items():
        now = state_of(folder, path)
        if now != state:
            what = "has changed" if now else "has vanished"
            raise ResourceError(
                f"{folder / path}: {what} while the data set was read",
                "wait until nobody writes there, then start again",
            )


@contextmanager
def staged(place: Path) -> Iterator[Path]:
    """Yield a new folder that becomes ``place`` when the block succeeds.

    Two processes may stage the same place: what they write is the same, and the first one counts.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{place.name}-", suffix=_PARTIAL, dir=place.parent))
    try:
        yield folder
        try:
            folder.rename(place)
        except OSError as error:
            if error.errno not in {errno.EEXIST, errno.ENOTEMPTY}:
                raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_partial(folder: Path) -> None:
    """Remove what a stopped run left half-done in ``folder``."""
    for place in folder.glob(f"*{_PARTIAL}"):
        shutil.rmtree(place, ignore_errors=True)


def write_record(folder: Path, source: str, content: Mapping[str, Any]) -> None:
    """Write the record of the files in ``folder``; the last step of a volume.

    Args:
        folder: with the volume's files.
        source: what the volume was made from, in one word.
        content: what else to keep.
    """
    files = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256(path)}
        for path in files_below(folder)
    }
    record = {"source": source, "files": files, "content": dict(content)}
    # Not forced to the disk: checksums tell when a crash of the machine took part of a volume.
    with write_named(folder / RECORD):
        (folder / RECORD).write_text(json.dumps(record), encoding="utf-8")


def finished(folder: Path, source: str) -> bool:
    """Whether ``folder`` holds a whole volume made from ``source``; if not, it is removed."""
    try:
        record = read_json(folder / RECORD)
        whole = [record["source"], type(record["content"])] == [source, dict] and all(
            size_of(folder / name) == facts["bytes"] and sha256(folder / name) == facts["sha256"]
            for name, facts in record["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        whole = False
    if not whole and folder.exists():
        shutil.rmtree(folder)
    return whole


def content(folder: Path) -> Any:
    """What else the record of a finished volume keeps."""
    return read_json(folder / RECORD)["content"]
