"""The folder beside a data set's place in which it grows until it is complete.

``<parent>/.voxseq-fetch/<name>/`` holds ``parts`` (transfers), ``unpack`` (unfinished archives),
``trees`` (one finished tree per remote file), ``done`` (a note on each) and ``tree`` (all of them
joined). ``tree`` is renamed into place as the last step: the data set's folder is either absent or
complete, whenever the process dies.
"""

from __future__ import annotations

import filecmp
import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path

from voxseq.base.errors import DataError, ResourceError
from voxseq.base.failures import read_named, write_named
from voxseq.base.files import write_json, write_text
from voxseq.base.locks import LockHeldError, take
from voxseq.fetch.record import Fetched, Record, read_note, write_record

_LOG = logging.getLogger("voxseq.fetch")
#: Folder beside the data sets that holds incomplete ones.
WORK = ".voxseq-fetch"


class Staging:
    """The staging folder of the data set whose place is ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder.parent / WORK / folder.name
        self.parts = self.root / "parts"
        self._done = self.root / "done"
        self._tree = self.root / "tree"
        self._joining = self.root / "joining.json"

    def tree(self, unit: str) -> Path:
        """Finished files of one remote file, laid out as in the data set's folder."""
        return self.root / "trees" / unit

    def unpacking(self, unit: str) -> Path:
        """An archive's tree before it is finished."""
        return self.root / "unpack" / unit

    def prepare(self, units: Sequence[str]) -> None:
        """Make the folder; remove remains of other files than ``units``, or already in place."""
        if self._joining.exists():
            published = not self._tree.exists()
            if published or read_note(self._joining, list[str]) != list(units):
                _LOG.info("%s: remains of another download are removed", self.root)
                self.remove()
        shutil.rmtree(self.root / "unpack", ignore_errors=True)
        self.parts.mkdir(parents=True, exist_ok=True)

    def done(self, unit: str) -> Fetched | None:
        """The note on a remote file that is complete; None for one that is not."""
        if not (self.tree(unit).exists() or self._joining.exists()):
            return None
        item = read_note(self._done / f"{unit}.json", Fetched)
        return item if item is not None and item.id == unit else None

    def finish(self, item: Fetched) -> None:
        """Note that the tree of a remote file is complete."""
        write_json(self._done / f"{item.id}.json", asdict(item))

    def publish(self, record: Record, lists: dict[str, bytes]) -> Record:
        """Join all trees, add the lists and the record, and rename the whole into place.

        Returns:
            The record, in which a file that several archives hold counts once.

        Raises:
            DataError: two remote files hold different files of one name, or the place is taken.
        """
        units = [item.id for item in record.fetched]
        # In this order: a marker without a tree says that the tree was renamed into place.
        self._tree.mkdir(exist_ok=True)
        write_json(self._joining, units)
        for unit in units:
            if self.tree(unit).exists():
                _merge(self.tree(unit), self._tree)
        for name, content in lists.items():
            if not (self._tree / name).exists():
                write_text(self._tree / name, content.decode("utf-8"))
        # Joining leaves files in a tree that another one brought too.
        left = [measured(self.tree(unit)) for unit in units]
        fetched = tuple(
            replace(item, files=item.files - count, bytes=item.bytes - size)
            for item, (count, size) in zip(record.fetched, left, strict=True)
        )
        record = replace(record, fetched=fetched)
        write_record(self._tree, record)
        try:
            if self.folder.exists():
                self.folder.rmdir()
            self._tree.rename(self.folder)
        except OSError as error:
            raise DataError(
                f"{self.folder}: cannot be put into place ({error.strerror})",
                "move that folder away and run the same command again",
            ) from None
        self.remove()
        return record

    def remove(self) -> None:
        """Remove the whole staging folder, for others in one step."""
        old = self.root.with_name(f"{self.root.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        if self.root.exists():
            # Killed half-way, a folder under its own name would pass for unfinished work.
            self.root.rename(old)
            shutil.rmtree(old, ignore_errors=True)


def measured(folder: Path) -> tuple[int, int]:
    """Number and bytes of all files below a folder."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return len(sizes), sum(sizes)


@contextmanager
def locked(folder: Path) -> Iterator[Staging]:
    """Keep others from fetching into ``folder``; the lock ends with the process that holds it.

    Raises:
        DataError: another process fetches this data set.
        ResourceError: the place cannot be written.
    """
    work = folder.parent / WORK
    path = work / f"{folder.name}.lock"
    try:
        with write_named(work):
            lock = take(path, f"fetching {folder.name}")
            try:
                yield Staging(folder)
            finally:
                if not (work / folder.name).exists():
                    # Whoever has this file open finds the data set complete, or nothing begun.
                    path.unlink(missing_ok=True)
                    with suppress(OSError):
                        work.rmdir()
                lock.close()
    except LockHeldError as error:
        raise DataError(
            f"{folder}: is being fetched by {error.owner}", "wait for that process, or stop it"
        ) from None
    except OSError as error:
        raise ResourceError(
            f"{error.filename or work}: cannot be written ({error.strerror or error})",
            "make that place writable, or choose another with --root or VOXSEQ_DATA",
        ) from None


def _merge(source: Path, target: Path) -> None:
    """Move everything below ``source`` into ``target``.

    A file that both hold must be the same and stays in ``source``.
    """
    for item in sorted(source.iterdir()):
        place = target / item.name
        if not place.exists():
            item.rename(place)
        elif item.is_dir() and place.is_dir():
            _merge(item, place)
        else:
            with read_named(item):
                is_same = item.is_file() and place.is_file() and filecmp.cmp(item, place, False)
            if not is_same:
                raise DataError(
                    f"{place.name}: two files of the data set hold different versions of {place}",
                    "the catalogue's entry needs a folder for each of them: report this",
                )
