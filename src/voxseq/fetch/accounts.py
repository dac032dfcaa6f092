"""Data sets behind an account, by the official clients and with the user's own credentials.

The clients find the credentials where their documentation says (``~/.kaggle``,
``~/.synapseConfig`` or their environment variables). Nothing here reads, prints or stores them; of
the clients' errors only the kind is shown, because their texts may quote a request.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from voxseq.base.errors import DataError
from voxseq.catalogue import DataSet

_PACKAGES = {"kaggle": "kaggle", "synapse": "synapseclient"}


class AccountNeededError(DataError):
    """A data set that only the user can obtain."""


def is_account(url: str) -> bool:
    """Whether ``url`` names what an account's client fetches."""
    return url.partition(":")[0] in _PACKAGES


def steps(dataset: DataSet) -> str:
    """How to obtain a data set by hand, one step a line."""
    return "\n".join(f"  {number}. {step}" for number, step in enumerate(dataset.steps, 1))


def require_clients(dataset: DataSet) -> None:
    """Make sure that the clients which ``dataset`` needs are installed.

    Raises:
        AccountNeededError: one is missing.
    """
    for name in sorted({url.partition(":")[0] for url in dataset.client}):
        _load(name, dataset)


def download(url: str, folder: Path, dataset: DataSet) -> None:
    """Fetch ``kaggle:<competition>`` or ``synapse:<id>`` into ``folder``; the clients resume.

    Raises:
        AccountNeededError: the client is not installed, finds no credentials or is refused.
    """
    kind, _, name = url.partition(":")
    module = _load(kind, dataset)
    folder.mkdir(parents=True, exist_ok=True)
    actions: dict[str, Callable[[Any, str, Path], None]] = {"kaggle": _kaggle, "synapse": _synapse}
    try:
        actions[kind](module, name, folder)
    # Clients end the process when they find no credentials, and raise errors of many kinds.
    except (Exception, SystemExit) as error:
        raise _refused(dataset, url, error) from None


def _kaggle(module: Any, name: str, folder: Path) -> None:
    module.api.authenticate()
    module.api.competition_download_files(name, path=str(folder), force=False, quiet=False)


def _synapse(module: Any, name: str, folder: Path) -> None:
    session = module.Synapse()
    session.login(silent=True)
    import_module("synapseutils").syncFromSynapse(session, entity=name, path=str(folder))


def _load(kind: str, dataset: DataSet) -> Any:
    package = _PACKAGES[kind]
    try:
        return import_module(package)
    except ImportError:
        raise AccountNeededError(
            f"{dataset.name}: needs the client {package!r}, which is not installed",
            f'pip install -e ".[accounts]" in the checkout, then:\n{steps(dataset)}',
        ) from None
    # The kaggle client looks for credentials when it is imported, and may end the process.
    except (Exception, SystemExit) as error:
        raise _refused(dataset, kind, error) from None


def _refused(dataset: DataSet, what: str, error: BaseException) -> AccountNeededError:
    status = getattr(error, "status", None)
    said = type(error).__name__ + (f", status {status}" if isinstance(status, int) else "")
    return AccountNeededError(
        f"{dataset.name}: the client gave up on {what} ({said})",
        f"check your credentials and that you have accepted the terms:\n{steps(dataset)}",
    )
