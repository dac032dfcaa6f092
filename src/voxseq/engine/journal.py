"""How runs went, for people: log, cost and package versions of each, one line of history per run.

These differ from call to call. They are kept apart from results, which two calls make alike.
"""

from __future__ import annotations

import json
import logging
import shutil
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from voxseq.base.environment import environment
from voxseq.base.errors import ResourceError
from voxseq.base.failures import read_named
from voxseq.base.files import atomic_path, read_text, write_json
from voxseq.base.folders import remove
from voxseq.base.progress import RECORD
from voxseq.plan import Run

_LOG = logging.getLogger("voxseq.engine.journal")
#: Name of a run's own log in its state and in its record.
LOG = "log.txt"
#: Files of a run's state that are kept.
KEPT = (LOG, RECORD, "cost.json")


def keep_record(state: Path, record: Path) -> None:
    """Keep how a run went.

    Args:
        state: folder in which the run wrote its log, progress and cost.
        record: folder for the record; an earlier one of the same run is replaced.
    """
    # A killed call may have left a file under another name there.
    remove(record)
    write_json(record / "environment.json", environment())
    for name in KEPT:
        if (state / name).exists():
            with atomic_path(record / name) as temporary, read_named(state / name):
                shutil.copyfile(state / name, temporary)


def remember(path: Path, run: Run, seconds: float) -> None:
    """Add a line to the history; without it, the run is finished all the same."""
    line = {
        "run": run.id,
        "fingerprint": run.fingerprint,
        "seconds": round(seconds, 1),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    try:
        with path.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(line) + "\n")
    except OSError as error:
        _LOG.warning("%s lacks %s: %s", path, run.id, error)


def seconds_of_runs(path: Path) -> dict[str, float]:
    """Fingerprint → seconds of the last time that a run was computed here.

    Lines that cannot be read are left out: they only serve to tell how long work may take.
    """
    found: dict[str, float] = {}
    try:
        lines = read_text(path).splitlines()
    except (OSError, ValueError, ResourceError):
        return found
    for line in lines:
        with suppress(ValueError, KeyError, TypeError):
            content = json.loads(line)
            found[str(content["fingerprint"])] = float(content["seconds"])
    return found
