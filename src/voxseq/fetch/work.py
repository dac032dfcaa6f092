"""Fetching the remote files of one data set, several at a time, into its staging folder."""

from __future__ import annotations

import logging
import queue
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Literal, TypeVar
from urllib.parse import unquote, urlsplit

from voxseq.base.digest import digest
from voxseq.base.errors import DataError, IntegrityError, ResourceError, VoxseqError
from voxseq.catalogue import DataSet
from voxseq.catalogue.model import RemoteFile
from voxseq.fetch.content import Remote
from voxseq.fetch.http import Client, UnreachableError
from voxseq.fetch.meter import Meter, in_words, require_space
from voxseq.fetch.paths import safe_path
from voxseq.fetch.record import Fetched, VerifiedBy, unit_id, units
from voxseq.fetch.services import Services
from voxseq.fetch.staging import Staging, measured
from voxseq.fetch.transfer import download, length
from voxseq.fetch.unpack import unpack

T = TypeVar("T")
_LOG = logging.getLogger("voxseq.fetch")
#: Files that may fail for good before the others are given up too.
_MOST_FAILURES = 5
#: Seconds to wait for threads that were asked to end.
_PARTING = 1.5
#: Times the catalogue's size of the whole data set that one file of unstated size may have: its
#: publishers round, and some mean GiB.
_TOLERANCE = 1.25


@dataclass(frozen=True)
class Transfer:
    """One file to fetch, and its place, where only a complete and checked file is put."""

    remote: Remote
    target: Path


@dataclass(frozen=True)
class TransferSet:
    """All transfers of one remote file of the catalogue.

    Attributes:
        file: the remote file.
        unit: its word, from :func:`unit_id`.
        transfers: one, or one per object of a bucket.
        source: address that is read.
        verified_by: evidence that its bytes are right.
        archive: kind of archive to unpack; "" for plain files.
        instead_of: why the bucket does not give it, of TCIA's zip of a series.
    """

    file: RemoteFile
    unit: str
    transfers: tuple[Transfer, ...]
    source: str
    verified_by: VerifiedBy
    archive: Literal["", "zip", "tar"] = ""
    instead_of: DataError | None = None


class Work:
    """Plans and fetches the remote files of one data set.

    Args:
        dataset: row of the catalogue.
        staging: where it grows.
        client: for HTTP.
        services: addresses of buckets and TCIA.
        parallel: files at a time.
        most: bytes that may be fetched; None for any number.
    """

    def __init__(
        self,
        dataset: DataSet,
        staging: Staging,
        client: Client,
        services: Services,
        parallel: int,
        most: int | None,
    ) -> None:
        self._dataset = dataset
        self._staging = staging
        self._client = client
        self._services = services
        self._parallel = parallel
        self._most = most
        self._failures: list[VoxseqError] = []
        self._threads: list[threading.Thread] = []
        #: Why the buckets cannot be reached, once that is known: not every series need wait for it.
        self._no_buckets: UnreachableError | None = None

    def run(self) -> tuple[Fetched, ...]:
        """Fetch the missing files; returns the facts of each remote file, in order."""
        wanted = units(self._dataset)
        self._staging.prepare([unit_id(file) for file in wanted])
        here = {file: self._staging.done(unit_id(file)) for file in wanted}
        missing = [file for file, item in here.items() if item is None]
        if self._most is not None:
            self._most -= sum(item.size for item in here.values() if item is not None)
        try:
            planned = dict(self._each([partial(self._plan, file) for file in missing]))
            self._fetch([planned[number] for number in sorted(planned)])
        except BaseException:
            # Also when the user or a scheduler ends the process, which waits for no server.
            self._client.stop.set()
            until = time.monotonic() + _PARTING
            for thread in self._threads:
                thread.join(max(until - time.monotonic(), 0))
            raise
        if self._failures:
            raise self._joined_failures()
        known = [self._staging.done(unit_id(file)) for file in wanted]
        return tuple(item for item in known if item is not None)

    def _fetch(self, sets: Sequence[TransferSet]) -> None:
        jobs = [(of, transfer) for of in sets for transfer in of.transfers]
        left = {of.unit: len(of.transfers) for of in sets}
        self._require_space(jobs)
        sizes = [t.remote.size for _, t in jobs if t.remote.size is not None]
        total = sum(sizes) if len(sizes) == len(jobs) else None
        _LOG.info("%s: %d files to fetch, %s", self._dataset.name, len(jobs), in_words(total))
        have = sum(self._have(transfer) for _, transfer in jobs)
        with Meter(self._dataset.name, total, have, self._most) as meter:
            meter.require_allowed(sum(sizes))
            for number, seen in self._each([partial(self._run, *job, meter) for job in jobs]):
                of, _ = jobs[number]
                left[of.unit] -= 1
                if not left[of.unit]:
                    self._finish(of, seen)

    def _require_space(self, jobs: Sequence[tuple[TransferSet, Transfer]]) -> None:
        """Files and unpacked archives stay; of the archives only those in work do."""
        missing = [
            (bool(of.archive), (t.remote.size or 0) - self._have(t), t.remote.size or 0)
            for of, t in jobs
        ]
        stay = sum(size if is_archive else rest for is_archive, rest, size in missing)
        archives = sorted((rest for is_archive, rest, _ in missing if is_archive), reverse=True)
        needed = stay + sum(archives[: self._parallel])
        require_space(self._staging.root, max(needed, 0), self._dataset.name)

    def _each(self, jobs: Sequence[Callable[[], T]]) -> Iterator[tuple[int, T]]:
        """Run jobs in threads; yield the number and result of each that succeeds, as it does.

        One bad file does not keep the others; an unreachable server, a full disk or many bad files
        do. The threads are daemons, because those of an executor keep the interpreter from ending
        while one waits for a name server.
        """
        todo: queue.SimpleQueue[tuple[int, Callable[[], T]]] = queue.SimpleQueue()
        results: queue.SimpleQueue[tuple[int, Future[T]]] = queue.SimpleQueue()
        for item in enumerate(jobs):
            todo.put(item)

        def work() -> None:
            while not self._client.stop.is_set():
                try:
                    number, job = todo.get_nowait()
                except queue.Empty:
                    return
                future: Future[T] = Future()
                try:
                    future.set_result(job())
                except BaseException as error:
                    future.set_exception(error)
                results.put((number, future))

        self._threads = [
            threading.Thread(target=work, name=f"fetch-{n}", daemon=True)
            for n in range(min(self._parallel, len(jobs)))
        ]
        for thread in self._threads:
            thread.start()
        for _ in jobs:
            number, future = results.get()
            try:
                result = future.result()
            except (ResourceError, UnreachableError):
                raise
            except VoxseqError as error:
                self._failures.append(error)
                if len(self._failures) >= _MOST_FAILURES:
                    raise self._joined_failures() from None
            else:
                yield number, result

    def _joined_failures(self) -> VoxseqError:
        """One error for all."""
        first = self._failures[0]
        if len(self._failures) == 1:
            return first
        reasons = "".join(f"\n  {error.what}" for error in self._failures)
        count = len(self._failures)
        return DataError(
            f"{self._dataset.name}: {count} files could not be fetched:{reasons}", first.hint
        )

    def _part(self, remote: Remote) -> Path:
        return self._staging.parts / f"{digest(remote.url)}.part"

    def _have(self, transfer: Transfer) -> int:
        """Bytes that an earlier call has fetched."""
        return length(transfer.target) or length(self._part(transfer.remote))

    def _plan(self, file: RemoteFile) -> TransferSet:
        """The transfers of ``file``; asks buckets for their objects.

        Raises:
            DataError: a bucket cannot be listed and there is no other way.
        """
        if file.url.endswith("/"):
            return self._below(file)
        unit, stated = unit_id(file), self._dataset.size
        remote = Remote(
            self._services.address(file.url),
            file.size,
            file.checksum,
            name=f"x.{file.archive}" if file.archive else file.path,
            most=None if stated is None else int(_TOLERANCE * stated),
        )
        verified_by: VerifiedBy = "nothing" if file.size is None else "length"
        if file.checksum:
            verified_by = "checksum"
        if file.archive:
            target = self._archive(unit)
        else:
            name = file.path or unquote(PurePosixPath(urlsplit(file.url).path).name)
            path = safe_path(name, file.url)
            file = replace(file, path=path.as_posix())
            target = self._staging.tree(unit) / path
        transfers = (Transfer(remote, target),)
        return TransferSet(file, unit, transfers, remote.url, verified_by, file.archive)

    def _archive(self, unit: str) -> Path:
        return self._staging.parts / f"{unit}.archive"

    def _below(self, file: RemoteFile) -> TransferSet:
        """Objects of a bucket below a prefix; a series that it does not give comes from TCIA."""
        unit = unit_id(file)
        try:
            if self._no_buckets is not None and file.series_uid:
                raise self._no_buckets
            objects = self._services.objects(self._client, file.url)
            if file.objects not in (None, len(objects)):
                raise DataError(
                    f"{file.url}: {len(objects)} objects, expected {file.objects}",
                    "the bucket has changed: compare it with its publisher's page",
                )
        except DataError as error:
            if not file.series_uid:
                raise
            if isinstance(error, UnreachableError):
                self._no_buckets = error
            remote = Remote(self._services.series(file.series_uid), name="series.zip")
            single = (Transfer(remote, self._archive(unit)),)
            return TransferSet(file, unit, single, remote.url, "nothing", "zip", error)
        folder = self._staging.tree(unit) / safe_path(file.path, file.url)
        is_listed = all(remote.checksum for remote in objects.values())
        transfers = tuple(Transfer(remote, folder / path) for path, remote in objects.items())
        return TransferSet(file, unit, transfers, file.url, "bucket" if is_listed else "length")

    def _run(self, of: TransferSet, transfer: Transfer, meter: Meter) -> str:
        """Fetch one file, and unpack it where it is an archive; returns its checksum."""
        try:
            seen = self._receive(of, transfer, meter)
            if of.archive:
                self._unpack(of, of.archive, transfer.target)
        except DataError as error:
            if of.instead_of is None:
                raise
            what = f"{of.instead_of.what}; and {error.what}"
            raise type(error)(what, error.hint) from None
        return seen

    def _receive(self, of: TransferSet, transfer: Transfer, meter: Meter) -> str:
        remote, target = transfer.remote, transfer.target
        if target.exists():
            is_object = of.file.url.endswith("/") and not of.archive
            if is_object and length(target) == remote.size:
                return remote.checksum
            try:
                return remote.verify(target, self._client.check)
            except (DataError, IntegrityError):
                meter.add(-length(target))
                target.unlink()
        part = self._part(remote)
        seen = download(self._client, remote, part, meter)
        target.parent.mkdir(parents=True, exist_ok=True)
        part.replace(target)
        return seen

    def _unpack(self, of: TransferSet, kind: Literal["zip", "tar"], archive: Path) -> None:
        file, tree = of.file, self._staging.tree(of.unit)
        growing = self._staging.unpacking(of.unit)
        shutil.rmtree(growing, ignore_errors=True)
        shutil.rmtree(tree, ignore_errors=True)
        try:
            unpack(
                archive,
                kind,
                growing / safe_path(file.path, file.url),
                origin=of.source,
                limit=file.unpacked_size,
                strip=file.strip,
                check=self._client.check,
            )
            slices = sum(path.suffix == ".dcm" for path in growing.rglob("*"))
            if of.instead_of is not None and file.objects not in (None, slices):
                raise DataError(
                    f"{of.source}: the archive holds {slices} slices, expected {file.objects}",
                    "run the same command again later: it is fetched anew",
                )
        except VoxseqError as error:
            shutil.rmtree(growing, ignore_errors=True)
            if not isinstance(error, ResourceError):
                archive.unlink()
            raise
        tree.parent.mkdir(parents=True, exist_ok=True)
        growing.rename(tree)

    def _finish(self, of: TransferSet, seen: str) -> None:
        """Note the facts of a complete remote file; its archive is no longer needed."""
        size = sum(length(transfer.target) for transfer in of.transfers)
        if of.archive:
            self._archive(of.unit).unlink()
        file = of.file
        facts = (of.unit, file.url, file.path, file.archive, of.source)
        checksum = "" if file.url.endswith("/") and not of.archive else seen
        held = measured(self._staging.tree(of.unit))
        self._staging.finish(Fetched(*facts, checksum, of.verified_by, size, *held))
