"""Fetching a data set: look at its folder, fetch what is missing, put it into place."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from voxseq.base.errors import DataError
from voxseq.catalogue import DataSet
from voxseq.catalogue import lists as package_lists
from voxseq.fetch.http import Client
from voxseq.fetch.meter import in_words
from voxseq.fetch.record import Fetched, Record, read_record
from voxseq.fetch.services import Services
from voxseq.fetch.staging import locked
from voxseq.fetch.stream import RetryPolicy
from voxseq.fetch.work import Work

#: A data set's folder: absent; complete by its record; recorded with other files than the
#: catalogue names now; without a record, so the user's own.
State = Literal["absent", "complete", "outdated", "own"]


class AccountNeededError(DataError):
    """A data set that only the user can obtain."""


class NotOfferedError(DataError):
    """A data set that is not here, and that the workflow does not fetch by itself."""


@dataclass(frozen=True)
class FetchResult:
    """Result of a request for a data set.

    Attributes:
        folder: the data set's folder.
        state: "fetched", or why nothing was done.
        record: the fetched files, of now or earlier; None for a folder of the user's own.
    """

    folder: Path
    state: Literal["fetched", "complete", "own"]
    record: Record | None

    @property
    def weak(self) -> tuple[Fetched, ...]:
        """Files that no checksum verifies."""
        return tuple(item for item in self.record.fetched if item.is_weak) if self.record else ()


def state(dataset: DataSet, folder: Path) -> State:
    """The state of ``folder``.

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
    known = [file.size for file in dataset.files if file.size is not None]
    return sum(known) if known and len(known) == len(dataset.files) else None


def _offered_size(dataset: DataSet) -> int | None:
    """Bytes of the download by the catalogue, else by the servers; None where neither says."""
    stated = stated_size(dataset)
    if stated is not None:
        return stated
    client, services, total = Client(), Services.from_environment(), 0
    for file in dataset.files:
        size = file.size
        if size is None and not file.url.endswith("/"):
            size = client.size(services.address(file.url), has_checksum=bool(file.checksum))
        if size is None:
            return None
        total += size
    return total


def fetch(
    dataset: DataSet,
    root: Path,
    *,
    parallel: int = 2,
    retry: RetryPolicy | None = None,
    services: Services | None = None,
    most: int | None = None,
) -> FetchResult:
    """Fetch all files of a data set into ``root / dataset.folder``.

    Continues what an interrupted call has begun; does nothing where the data set is complete, and
    leaves a folder alone that was not made here.

    Args:
        dataset: row of the catalogue.
        root: the data root; made where it does not exist.
        parallel: files that are fetched at a time.
        retry: how often an address is tried again.
        services: addresses of services; None: as the environment says.
        most: bytes that may be fetched; None for any number.

    Raises:
        AccountNeededError: only the user can obtain it; the message holds the steps.
        DataError: a file cannot be had or is refused.
        IntegrityError: a file is not the expected one.
        ResourceError: the disk is full. In all cases the files that have arrived are kept.
    """
    folder = root / dataset.folder
    present = _present(dataset, folder)
    if present is not None:
        return present
    _require_way(dataset)
    with locked(folder) as staging:
        # Another process may have finished it between the two looks.
        present = _present(dataset, folder)
        if present is not None:
            staging.remove()
            return present
        addresses = services or Services.from_environment()
        client = Client(parallel, retry)
        fetched = Work(dataset, staging, client, addresses, parallel, most).run()
        lists = package_lists.files_for(dataset.lists) if dataset.lists else {}
        record = Record(dataset.name, dataset.version, fetched, tuple(lists))
        record = staging.publish(record, lists)
    return FetchResult(folder, "fetched", record)


def _present(dataset: DataSet, folder: Path) -> FetchResult | None:
    found = state(dataset, folder)
    if found == "absent":
        return None
    if found == "outdated":
        raise DataError(
            f"{folder}: was fetched for another version of the catalogue's entry {dataset.name!r}",
            "move that folder away and run the same command again, or keep it as it is",
        )
    return FetchResult(folder, found, read_record(folder))


def _require_way(dataset: DataSet) -> None:
    """Raise AccountNeededError for a data set that needs an account or work by hand."""
    if dataset.files and not dataset.client:
        return
    reason, hint = "cannot be fetched, it is obtained by hand", "do these steps"
    if dataset.client:
        reason = "needs your account, which only the official client uses"
        hint = f'`pip install -e ".[accounts]"` in the checkout installs the client; {hint}'
    steps = "".join(f"\n  {number}. {step}" for number, step in enumerate(dataset.steps, 1))
    raise AccountNeededError(f"{dataset.name}: {reason}", f"{hint}:{steps}")


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
    fetch(replace(dataset, folder=folder.name), folder.parent, most=limit_bytes)
    return True


def _not_by_itself(dataset: DataSet, limit_bytes: int) -> str:
    """Why a data set is not fetched without being asked for; "" where it may be."""
    if dataset.access in ("account", "manual") or not dataset.files:
        return "it needs an account or work by hand"
    if not limit_bytes:
        return "data.fetch_at_most_gb allows nothing to be fetched"
    size = _offered_size(dataset)
    if size is None:
        return "neither the catalogue nor the server states its size"
    if size > limit_bytes:
        return f"it has {in_words(size)}, data.fetch_at_most_gb allows {in_words(limit_bytes)}"
    return ""
