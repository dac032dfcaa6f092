"""Fetching a data set: plan, transfer, unpack, join, publish."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

from voxseq.base.errors import DataError, ResourceError, VoxseqError
from voxseq.catalogue import DataSet
from voxseq.catalogue import lists as package_lists
from voxseq.fetch import accounts
from voxseq.fetch.disk import require_space
from voxseq.fetch.meter import Meter, in_words
from voxseq.fetch.obtain import Obtainer, Plan, Task
from voxseq.fetch.pool import Pool
from voxseq.fetch.record import Fetched, Record, read_record, unit_id, units
from voxseq.fetch.services import Services
from voxseq.fetch.staging import Staging, locked
from voxseq.fetch.transfer import Client, Patience, Remote, UnreachableError

__all__ = ["Outcome", "fetch", "provide", "state", "stated_size"]

T = TypeVar("T")
_LOG = logging.getLogger("voxseq.fetch")
#: Files that may fail for good before the others are given up too.
_MOST_FAILURES = 5

#: A data set's folder: absent; complete by its record; recorded with other files than the
#: catalogue names now; without a record, so the user's own.
State = Literal["absent", "complete", "outdated", "own"]


@dataclass(frozen=True)
class Outcome:
    """What became of a request.

    Attributes:
        folder: the data set's folder.
        state: "fetched", or why nothing was done.
        record: what was fetched, now or earlier; None for a folder of the user's own.
    """

    folder: Path
    state: Literal["fetched", "complete", "own"]
    record: Record | None

    @property
    def unvouched(self) -> tuple[Fetched, ...]:
        """Files that no checksum vouches for."""
        if self.record is None:
            return ()
        return tuple(i for i in self.record.fetched if i.vouched in ("length", "nothing"))


def state(dataset: DataSet, folder: Path) -> State:
    """What ``folder`` is.

    Raises:
        IntegrityError: its record cannot be read.
    """
    record = read_record(folder)
    if record is not None:
        return "complete" if record.is_of(dataset) else "outdated"
    if folder.is_dir() and not any(folder.iterdir()):
        return "absent"
    return "own" if folder.exists() or folder.is_symlink() else "absent"


def stated_size(dataset: DataSet) -> int | None:
    """Bytes of the download by the catalogue; None where it does not say."""
    if dataset.size is not None:
        return dataset.size
    sizes = [file.size for file in dataset.files]
    known = [size for size in sizes if size is not None]
    return sum(known) if known and len(known) == len(sizes) else None


def offered_size(dataset: DataSet, client: Client, services: Services) -> int | None:
    """Bytes of the download by the catalogue, else by the servers; None where neither says."""
    stated = stated_size(dataset)
    if stated is not None:
        return stated
    total = 0
    for file in dataset.files:
        size = file.size
        if size is None and not file.url.endswith("/"):
            size = client.size(Remote(services.address(file.url), checksum=file.checksum))
        if size is None:
            return None
        total += size
    return total


def fetch(
    dataset: DataSet,
    root: Path,
    *,
    parallel: int = 2,
    patience: Patience | None = None,
    services: Services | None = None,
) -> Outcome:
    """Fetch all files of a data set into ``root / dataset.folder``.

    Continues what an interrupted call has begun; does nothing where the data set is complete, and
    leaves a folder alone that was not made here.

    Args:
        dataset: row of the catalogue.
        root: the data root; made where it does not exist.
        parallel: files that are fetched at a time.
        patience: how often an address is tried again.
        services: addresses of services; None: as the environment says.

    Raises:
        AccountNeededError: only the user can obtain it; the message holds the steps.
        DataError: a file cannot be had or is refused.
        IntegrityError: a file is not the expected one.
        ResourceError: the disk is full. In all cases the files that have arrived are kept.
    """
    return _fetch_into(dataset, root / dataset.folder, parallel, patience, services)


def _fetch_into(
    dataset: DataSet,
    folder: Path,
    parallel: int = 2,
    patience: Patience | None = None,
    services: Services | None = None,
    most: int | None = None,
) -> Outcome:
    present = _present(dataset, folder)
    if present is not None:
        return present
    _require_ways(dataset)
    with locked(folder) as staging:
        # Another process may have finished it between the two looks.
        present = _present(dataset, folder)
        if present is not None:
            staging.remove()
            return present
        client = Client(parallel, patience)
        addresses = services or Services.from_environment()
        fetched = _Work(dataset, staging, client, addresses, parallel, most).run()
        lists = package_lists.files_for(dataset.lists) if dataset.lists else {}
        record = Record(dataset.name, dataset.version, fetched, tuple(lists))
        record = staging.publish(record, lists)
    return Outcome(folder, "fetched", record)


class NotOfferedError(DataError):
    """A data set that is not here, and that the workflow does not fetch by itself."""


def provide(dataset: DataSet, folder: Path, limit_bytes: int) -> bool:
    """Fetch a data set for the workflow, when it is missing and small enough to need no question.

    Args:
        dataset: row of the catalogue.
        folder: its folder; one that holds files, fetched or the user's own, is used as it is.
        limit_bytes: largest download, ``data.fetch_at_most_gb``.

    Returns:
        Whether it was fetched now.

    Raises:
        NotOfferedError: it is missing and may not be fetched without being asked for.
        DataError: fetching failed.
    """
    if state(dataset, folder) != "absent":
        return False
    reason = _not_by_itself(dataset, limit_bytes)
    if reason:
        raise NotOfferedError(
            f"{dataset.title}: the folder {folder} is missing and was not fetched: {reason}",
            f"`voxseq data show {dataset.name}` tells how to get it, "
            f"`voxseq data download {dataset.name}` fetches what can be fetched",
        )
    _fetch_into(dataset, folder, most=limit_bytes)
    return True


def _not_by_itself(dataset: DataSet, limit_bytes: int) -> str:
    """Why a data set is not fetched without being asked for; "" where it may be."""
    if dataset.access in ("account", "manual") or not dataset.files:
        return "it needs an account or work by hand"
    if not limit_bytes:
        return "data.fetch_at_most_gb allows nothing to be fetched"
    size = offered_size(dataset, Client(), Services.from_environment())
    if size is None:
        return "neither the catalogue nor the server states its size"
    if size > limit_bytes:
        return f"it has {in_words(size)}, data.fetch_at_most_gb allows {in_words(limit_bytes)}"
    return ""


def _present(dataset: DataSet, folder: Path) -> Outcome | None:
    found = state(dataset, folder)
    if found == "absent":
        return None
    if found == "outdated":
        raise DataError(
            f"{folder}: was fetched for another version of the catalogue's entry {dataset.name!r}",
            "move that folder away and run the same command again, or keep it as it is",
        )
    return Outcome(folder, found, read_record(folder))


def _require_ways(dataset: DataSet) -> None:
    if not units(dataset):
        raise accounts.AccountNeededError(
            f"{dataset.name}: cannot be fetched, it is obtained by hand",
            f"do these steps:\n{accounts.steps(dataset)}",
        )
    accounts.require_clients(dataset)


class _Work:
    """All remote files of one data set, several at a time."""

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
        self._obtainer = Obtainer(dataset, staging, client, services)
        self._parallel = parallel
        self._most = most
        self._failures: list[VoxseqError] = []

    def run(self) -> tuple[Fetched, ...]:
        """Fetch what is missing; returns what is known about each remote file, in order."""
        wanted = units(self._dataset)
        self._staging.prepare([unit_id(file) for file in wanted])
        here = {file: self._staging.done(unit_id(file)) for file in wanted}
        missing = [file for file, item in here.items() if item is None]
        if self._most is not None:
            self._most -= sum(item.size for item in here.values() if item is not None)
        pool = Pool(self._parallel)
        try:
            planned = dict(self._each(pool, [partial(self._obtainer.plan, f) for f in missing]))
            self._fetch(pool, [planned[number] for number in sorted(planned)])
        except BaseException:
            # Also when the user or a scheduler ends the process, which waits for no server.
            self._client.end()
            pool.shutdown(cancel_futures=True)
            raise
        pool.shutdown()
        if self._failures:
            raise _joined(self._failures, self._dataset)
        known = [self._staging.done(unit_id(file)) for file in wanted]
        return tuple(item for item in known if item is not None)

    def _fetch(self, pool: Pool, plans: Sequence[Plan]) -> None:
        tasks = [task for plan in plans for task in plan.tasks]
        owner = [plan for plan in plans for _ in plan.tasks]
        left = {id(plan): len(plan.tasks) for plan in plans}
        self._require_space(tasks)
        sizes = [task.size for task in tasks if task.size is not None]
        total = sum(sizes) if len(sizes) == len(tasks) else None
        _LOG.info("%s: %d files to fetch, %s", self._dataset.name, len(tasks), in_words(total))
        have = sum(task.have for task in tasks)
        with Meter(self._dataset.name, total, have, self._most) as meter:
            meter.require_allowed(sum(sizes))
            for number, _ in self._each(pool, [partial(task.run, meter) for task in tasks]):
                plan = owner[number]
                left[id(plan)] -= 1
                if not left[id(plan)]:
                    self._staging.finish(plan.finish())

    def _require_space(self, tasks: Sequence[Task]) -> None:
        """Files and unpacked archives stay; of the archives only those in work do."""
        stay = sum((task.size or 0) - (0 if task.is_archive else task.have) for task in tasks)
        archives = sorted(((t.size or 0) - t.have for t in tasks if t.is_archive), reverse=True)
        needed = stay + sum(archives[: self._parallel])
        require_space(self._staging.root, max(needed, 0), self._dataset.name)

    def _each(self, pool: Pool, jobs: Sequence[Callable[[], T]]) -> Iterator[tuple[int, T]]:
        """Yield the number and result of each job that succeeds, as it does.

        One bad file does not keep the others; a server that is down, a full disk or many bad files
        do.
        """
        futures: dict[Future[T], int] = {pool.submit(job): n for n, job in enumerate(jobs)}
        for future in as_completed(futures):
            try:
                result = future.result()
            except (ResourceError, UnreachableError):
                raise
            except VoxseqError as error:
                self._failures.append(error)
                if len(self._failures) >= _MOST_FAILURES:
                    raise _joined(self._failures, self._dataset) from None
            else:
                yield futures[future], result


def _joined(failures: Sequence[VoxseqError], dataset: DataSet) -> VoxseqError:
    """One error for several."""
    if len(failures) == 1:
        return failures[0]
    reasons = "".join(f"\n  {error.what}" for error in failures)
    return DataError(
        f"{dataset.name}: {len(failures)} files could not be fetched:{reasons}", failures[0].hint
    )
