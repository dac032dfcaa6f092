"""What one remote file needs: a plain file, an archive, a prefix, an account's client."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import unquote, urlsplit

from voxseq.base.digest import digest
from voxseq.base.errors import DataError, IntegrityError, ResourceError, VoxseqError
from voxseq.catalogue import DataSet
from voxseq.catalogue.model import RemoteFile
from voxseq.fetch import accounts
from voxseq.fetch.checksum import verify
from voxseq.fetch.content import START, require_no_page
from voxseq.fetch.disk import reading
from voxseq.fetch.meter import Meter
from voxseq.fetch.paths import is_left_out, safe_path
from voxseq.fetch.record import Fetched, Vouched, unit_id
from voxseq.fetch.remote import Remote
from voxseq.fetch.services import Object, Services
from voxseq.fetch.staging import Staging
from voxseq.fetch.transfer import Client, UnreachableError
from voxseq.fetch.unpack import Unpacked, unpack

#: What the Synapse client writes beside the files, different in every folder.
_MANIFEST = "SYNAPSE_METADATA_MANIFEST"
#: Times the catalogue's size of the whole data set that one file of unstated size may have: its
#: publishers round, and some mean GiB.
_TOLERANCE = 1.25


@dataclass(frozen=True)
class Task:
    """Work of one thread.

    Attributes:
        run: does it.
        size: bytes to fetch; None where unknown.
        have: bytes of them that are here.
        is_archive: whether they are unpacked and then removed.
    """

    run: Callable[[Meter], None]
    size: int | None
    have: int = 0
    is_archive: bool = False


@dataclass(frozen=True)
class Plan:
    """Tasks of one remote file, and what is known about it when they are done."""

    tasks: tuple[Task, ...]
    finish: Callable[[], Fetched]


class Obtainer:
    """Plans the remote files of one data set."""

    def __init__(
        self, dataset: DataSet, staging: Staging, client: Client, services: Services
    ) -> None:
        self._dataset = dataset
        self._staging = staging
        self._client = client
        self._services = services
        #: Why the buckets cannot be reached, once that is known: not every series need wait for it.
        self._no_buckets: UnreachableError | None = None

    def plan(self, file: RemoteFile) -> Plan:
        """What has to be done for ``file``; asks buckets what they hold.

        Raises:
            DataError: a bucket cannot be listed and there is no other way.
        """
        if accounts.is_account(file.url):
            return self._by_client(file)
        if file.url.endswith("/"):
            return self._below(file)
        if file.archive:
            return self._archive(file, self._remote(file))
        return self._plain(file)

    def _remote(self, file: RemoteFile) -> Remote:
        stated = self._dataset.size
        return Remote(
            self._services.address(file.url),
            file.size,
            file.checksum,
            name=f"x.{file.archive}" if file.archive else file.path,
            most=None if stated is None else int(_TOLERANCE * stated),
        )

    def _part(self, url: str) -> Path:
        return self._staging.parts / f"{digest(url)}.part"

    def _plain(self, file: RemoteFile) -> Plan:
        unit, remote = unit_id(file), self._remote(file)
        path = safe_path(
            file.path or unquote(PurePosixPath(urlsplit(file.url).path).name), file.url
        )
        tree, seen = self._staging.tree(unit), ""
        shutil.rmtree(tree, ignore_errors=True)

        def run(meter: Meter) -> None:
            nonlocal seen
            seen = self._receive(remote, tree / path, meter)

        def finish() -> Fetched:
            size = (tree / path).stat().st_size
            named = replace(file, path=path.as_posix())
            item = _fetched(named, remote.url, seen, _vouched(file), size, Unpacked(1, size))
            return replace(item, id=unit)

        return Plan((Task(run, file.size, _length(self._part(remote.url))),), finish)

    def _receive(self, remote: Remote, target: Path, meter: Meter) -> str:
        part = self._part(remote.url)
        seen = self._client.download(remote, part, meter)
        target.parent.mkdir(parents=True, exist_ok=True)
        part.replace(target)
        return seen

    def _archive(self, file: RemoteFile, remote: Remote, *, is_series: bool = False) -> Plan:
        """An archive; ``is_series``: TCIA's zip of a series, as a stand-in for ``file``."""
        unit = unit_id(file)
        archive = self._staging.parts / f"{unit}.archive"
        shutil.rmtree(self._staging.tree(unit), ignore_errors=True)
        seen, held = "", Unpacked(0, 0)

        def run(meter: Meter) -> None:
            nonlocal seen, held
            if archive.exists():
                seen = self._checked(archive, remote)
            else:
                seen = self._receive(remote, archive, meter)
            held = self._unpack(file, archive, remote.url, is_series)

        def finish() -> Fetched:
            size = archive.stat().st_size
            vouched: Vouched = "nothing" if is_series else _vouched(file)
            archive.unlink()
            return _fetched(file, remote.url, seen, vouched, size, held)

        have = _length(archive) or _length(self._part(remote.url))
        return Plan((Task(run, remote.size, have, is_archive=True),), finish)

    def _checked(self, archive: Path, remote: Remote) -> str:
        """Checksum of an archive that an earlier call has fetched."""
        try:
            return verify(archive, remote.url, remote.size, remote.checksum, self._client.going)
        except IntegrityError:
            archive.unlink()
            raise

    def _unpack(self, file: RemoteFile, archive: Path, url: str, is_series: bool) -> Unpacked:
        unit = unit_id(file)
        growing = self._staging.unpacking(unit)
        shutil.rmtree(growing, ignore_errors=True)
        try:
            held = unpack(
                archive,
                file.archive or "zip",
                growing / safe_path(file.path, file.url),
                origin=url,
                limit=file.unpacked_size,
                strip=file.strip,
                stopped=self._client.stop.is_set,
            )
            if is_series and file.objects is not None:
                _require_slices(growing, file.objects, url)
        except VoxseqError as error:
            shutil.rmtree(growing, ignore_errors=True)
            if not isinstance(error, ResourceError):
                archive.unlink()
            raise
        self._publish(growing, unit)
        return held

    def _publish(self, growing: Path, unit: str) -> None:
        tree = self._staging.tree(unit)
        tree.parent.mkdir(parents=True, exist_ok=True)
        growing.rename(tree)

    def _below(self, file: RemoteFile) -> Plan:
        """Objects of a bucket below a prefix; a series that it does not give comes from TCIA."""
        if self._no_buckets is not None and file.series_uid:
            return self._from_tcia(file, self._no_buckets)
        try:
            objects = self._services.objects(self._client, file.url)
            _require_objects(file, len(objects))
        except DataError as error:
            if not file.series_uid:
                raise
            if isinstance(error, UnreachableError):
                self._no_buckets = error
            return self._from_tcia(file, error)
        folder = self._staging.tree(unit_id(file)) / safe_path(file.path, file.url)
        tasks = [self._object(item, folder / item.path) for item in objects]

        def finish() -> Fetched:
            size = sum(item.remote.size or 0 for item in objects)
            return _fetched(
                file, file.url, "", _listed(objects), size, Unpacked(len(objects), size)
            )

        return Plan(tuple(tasks), finish)

    def _object(self, item: Object, target: Path) -> Task:
        def run(meter: Meter) -> None:
            # A file has its name only when it is complete and checked.
            if _length(target) != item.remote.size or not target.exists():
                self._receive(item.remote, target, meter)

        have = _length(target) or _length(self._part(item.remote.url))
        return Task(run, item.remote.size, have)

    def _from_tcia(self, file: RemoteFile, reason: DataError) -> Plan:
        remote = Remote(self._services.series(file.series_uid), name="series.zip")
        plan = self._archive(file, remote, is_series=True)
        (task,) = plan.tasks

        def run(meter: Meter) -> None:
            try:
                task.run(meter)
            except DataError as error:
                raise type(error)(f"{reason.what}; and {error.what}", error.hint) from None

        return Plan((Task(run, None, task.have, is_archive=True),), plan.finish)

    def _by_client(self, file: RemoteFile) -> Plan:
        unit = unit_id(file)
        folder, growing = self._staging.client(unit), self._staging.unpacking(unit)
        shutil.rmtree(self._staging.tree(unit), ignore_errors=True)

        def run(meter: Meter) -> None:
            accounts.download(file.url, folder, self._dataset)
            self._client.going()
            shutil.rmtree(growing, ignore_errors=True)
            for path in sorted(p for p in folder.rglob("*") if p.is_file()):
                self._place(file, path, path.relative_to(folder), growing)
            if not growing.exists():
                raise DataError(f"{file.url}: the client fetched no file", "check your access")
            self._publish(growing, unit)

        def finish() -> Fetched:
            held = _measured(self._staging.tree(unit))
            size = _measured(folder).bytes
            shutil.rmtree(folder)
            return _fetched(file, file.url, "", "client", size, held)

        return Plan((Task(run, None),), finish)

    def _place(self, file: RemoteFile, path: Path, relative: Path, growing: Path) -> None:
        """Unpack or link one file of a client's folder into the tree."""
        if is_left_out(PurePosixPath(relative)) or path.name.startswith(_MANIFEST):
            return
        with reading(path), path.open("rb") as content:
            require_no_page(content.read(START), path.name, f"{file.url}, {relative}")
        if path.suffix != ".zip":
            target = growing / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            _link(path, target)
            return
        # A competition is one archive; of several, each has a folder of its own name.
        strip = "" if file.url.startswith("kaggle:") else path.stem
        stage = growing.with_name(f"{growing.name}-archive")
        shutil.rmtree(stage, ignore_errors=True)
        origin = f"{file.url}, {relative}"
        stopped = self._client.stop.is_set
        unpack(path, "zip", stage, origin=origin, strip=strip, stopped=stopped)
        if strip:
            growing.mkdir(parents=True, exist_ok=True)
        stage.rename(growing / strip)


def _fetched(
    file: RemoteFile, source: str, seen: str, vouched: Vouched, size: int, held: Unpacked
) -> Fetched:
    return Fetched(
        unit_id(file),
        file.url,
        file.path,
        file.archive,
        source,
        seen,
        vouched,
        size,
        held.files,
        held.bytes,
    )


def _vouched(file: RemoteFile) -> Vouched:
    if file.checksum:
        return "checksum"
    return "nothing" if file.size is None else "length"


def _listed(objects: tuple[Object, ...]) -> Literal["bucket", "length"]:
    return "bucket" if all(item.remote.checksum for item in objects) else "length"


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _require_objects(file: RemoteFile, found: int) -> None:
    if file.objects is not None and found != file.objects:
        raise DataError(
            f"{file.url}: {found} objects, expected {file.objects}",
            "the bucket has changed: compare it with its publisher's page",
        )


def _require_slices(folder: Path, expected: int, url: str) -> None:
    found = sum(path.suffix == ".dcm" for path in folder.rglob("*"))
    if found != expected:
        raise DataError(
            f"{url}: the archive holds {found} slices, expected {expected}",
            "run the same command again later: it is fetched anew",
        )


def _measured(folder: Path) -> Unpacked:
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return Unpacked(len(sizes), sum(sizes))


def _link(path: Path, target: Path) -> None:
    try:
        os.link(path, target)
    except OSError:
        # Some file systems have no links.
        with reading(path), path.open("rb") as source, target.open("wb") as copy:
            shutil.copyfileobj(source, copy)
