"""How a run went: its log, seconds, memory and the versions of packages.

These differ from call to call. They are kept apart from results, which two calls make alike.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from voxseq.base.environment import environment
from voxseq.base.failures import read_named
from voxseq.base.files import atomic_path, write_json
from voxseq.base.folders import remove

#: Files of a run's state that are kept.
KEPT = ("log.txt", "progress.json", "cost.json")


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
