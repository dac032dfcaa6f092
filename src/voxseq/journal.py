"""How a run went: its log, seconds, memory and the versions of packages.

These differ from call to call. They are kept apart from results, which two calls make alike.
"""

from __future__ import annotations

import json
import logging
import platform
import shutil
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from voxseq.files import atomic_path, write_json

_LOG = logging.getLogger("voxseq.journal")
#: Files of a run's state that are kept.
KEPT = ("log.txt", "progress.json", "cost.json")
#: Packages whose versions are recorded with every run.
_PACKAGES = ("torch", "monai", "numpy", "scipy", "nibabel", "blosc2", "scikit-learn", "voxseq")


def keep_record(state: Path, record: Path) -> None:
    """Keep how a run went.

    Args:
        state: folder in which the run wrote its log, progress and cost.
        record: folder for the record; an earlier one of the same run is replaced.
    """
    write_json(record / "environment.json", environment())
    for name in KEPT:
        if (state / name).exists():
            with atomic_path(record / name) as temporary:
                shutil.copyfile(state / name, temporary)


def environment() -> dict[str, str]:
    """Versions of Python, of the packages that decide results, and the kind of machine."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed as a package"
    return found


def remember(history: Path, run_id: str, fingerprint: str, seconds: float) -> None:
    """Add a line about a computed run to the history, for people; nothing reads it."""
    line = {
        "run": run_id,
        "fingerprint": fingerprint,
        "seconds": round(seconds, 1),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    try:
        with history.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(line) + "\n")
    except OSError as error:
        _LOG.warning("%s lacks %s: %s", history, run_id, error)
