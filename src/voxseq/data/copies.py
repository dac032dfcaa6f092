"""Copies of stores on a local disk, for trainings that would read them over a network.

All jobs of a machine share them. A copy is a folder with the store's tables, as many of its shards
as there is room for, and links to the others; its name tells what it is a copy of. Copies that no
job reads make room for new ones, the one that was used longest ago first.
"""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from typing import IO

from voxseq.base.digest import digest
from voxseq.base.errors import VoxseqError
from voxseq.base.files import atomic_path, size_of
from voxseq.base.locks import LockHeldError, alone, exclusive, share
from voxseq.data.packed import COPIES
from voxseq.data.shards import PLACES, SHARDS
from voxseq.data.store import TABLE

_LOG = logging.getLogger("voxseq.copies")
_IN_USE = "in-use.lock"
#: Of the disk, one byte in so many is left free.
_SPARE = 20
#: Held until the process ends, so that no other job removes what this one reads.
_held: list[IO[str]] = []


def local_copy(store: Path, staging: str | None) -> Path:
    """Copy a store to a local disk, as far as there is room.

    A disk that fails costs no more than the advantage: the store is then read where it is.

    Args:
        store: folder of the store.
        staging: ``execution.staging``.

    Returns:
        The folder to read the store from: the copy, or the store.
    """
    if staging is None:
        return store
    place = os.path.expandvars(staging)
    if "$" in place or not Path(place).is_absolute():
        _LOG.warning("execution.staging: %s is no absolute path here, nothing is copied", staging)
        return store
    root = Path(place) / COPIES
    try:
        with exclusive(root / "copying.lock", f"copying {store}"):
            return _copied(store.resolve(), root)
    except (OSError, VoxseqError, LockHeldError) as error:
        _LOG.warning("%s is read where it is, not copied to %s: %s", store, root, error)
        return store


def _copied(store: Path, root: Path) -> Path:
    sizes = {path: path.stat().st_size for path in sorted(store.glob(SHARDS))}
    tables = [store / TABLE, store / PLACES]
    states = [[p.name, p.stat().st_size, p.stat().st_mtime_ns] for p in (*sizes, *tables)]
    copy = root / digest([str(store), states])
    _held.append(share(copy / _IN_USE))
    os.utime(copy / _IN_USE)
    for cut_off in copy.glob(".*.tmp"):
        cut_off.unlink()
    missing = [path for path, size in sizes.items() if not _is_whole(copy / path.name, size)]
    _make_room(root, sum(sizes[path] for path in missing))
    for table in tables:
        _copy(table, copy / table.name)
    linked = 0
    for path in missing:
        if sizes[path] <= _room(root):
            _copy(path, copy / path.name)
        else:
            (copy / path.name).unlink(missing_ok=True)
            (copy / path.name).symlink_to(path)
            linked += 1
    _LOG.info(
        "%s: of %d shards %d are copied to %s, %d were there, no room for %d",
        *(store, len(sizes), len(missing) - linked, copy, len(sizes) - len(missing), linked),
    )
    return copy


def _copy(path: Path, target: Path) -> None:
    size = path.stat().st_size
    with atomic_path(target) as temporary:
        shutil.copyfile(path, temporary)
        if temporary.stat().st_size != size:
            raise OSError(f"{path} was cut off while it was copied")


def _is_whole(path: Path, size: int) -> bool:
    return not path.is_symlink() and size_of(path) == size


def _make_room(root: Path, needed: int) -> None:
    """Remove copies that no job reads until there is room, or none is left."""
    locks = sorted(root.glob(f"*/{_IN_USE}"), key=lambda lock: lock.stat().st_mtime_ns)
    for lock in locks:
        if needed <= _room(root):
            return
        with alone(lock, "removing this copy") as is_unused:
            if is_unused:
                _LOG.info("%s: removed, to make room", lock.parent)
                shutil.rmtree(lock.parent)


def _room(root: Path) -> int:
    disk = shutil.disk_usage(root)
    return disk.free - disk.total // _SPARE
