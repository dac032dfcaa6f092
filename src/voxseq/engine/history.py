"""The history of a workspace, for people; nothing reads it."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from pathlib import Path

from voxseq.plan import Run

_LOG = logging.getLogger("voxseq.engine.history")


def remember(path: Path, run: Run, seconds: float) -> None:
    """Add a line for a run that was computed; without it, the run is finished all the same."""
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
