"""Markers: the files that record finished runs and jobs.

The marker of a run is in the run's folder and lists its files. The marker of a job is in ``jobs``
of its stage and names the job's runs; the workflow looks at nothing else.

Where the machine fails while a marker or a file is read, that is a ResourceError: nothing is known
then, and nothing may follow from it.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from voxseq.base.checksums import Checksums
from voxseq.base.files import files_below, named, read_json, size_of, write_json

#: Every run writes this file; a marker without it is damaged.
CONFIG = "config.json"
#: Names of the markers of runs.
RUN_MARKERS = "run-*.json"


def write_run_marker(
    path: Path, run_id: str, fingerprint: str, inputs: Mapping[str, str], checksums: Checksums
) -> None:
    """Record every file beside ``path`` with size and SHA-256."""
    folder = path.parent
    names = [str(p.relative_to(folder)) for p in files_below(folder)]
    files = {
        name: {"bytes": (folder / name).stat().st_size, "sha256": checksum}
        for name, checksum in zip(names, checksums(folder, names), strict=True)
    }
    write_json(path, {"run": run_id, "fingerprint": fingerprint, "inputs": inputs, "files": files})


def problem(
    marker: Path, run_id: str | None = None, checksums: Checksums | None = None
) -> str | None:
    """Why the results beside the marker of a run cannot be used; ``None`` when they can.

    Args:
        marker: the run's marker, whose name has the fingerprint.
        run_id: of the run, where it is known.
        checksums: finds those of files; without it only sizes are compared.

    Raises:
        ResourceError: the machine failed, so that nobody can tell.
    """
    try:
        files = _recorded(marker, run_id)
    except FileNotFoundError:
        return f"{marker} does not exist"
    except (OSError, ValueError) as error:
        return f"{marker} cannot be read: {error}"
    for name, (size, _) in files.items():
        path = marker.parent / name
        found = size_of(path)
        if found is None:
            return f"{path} is missing"
        if found != size:
            return f"{path} has {found} bytes, recorded were {size}"
    return None if checksums is None else _unlike(marker.parent, files, checksums)


def _unlike(folder: Path, files: Mapping[str, tuple[Any, Any]], checksums: Checksums) -> str | None:
    """The first file that does not have its recorded checksum, in words."""
    with closing(checksums(folder, list(files))) as found:
        for (name, (_, recorded)), checksum in zip(files.items(), found, strict=True):
            if checksum != recorded:
                return f"{folder / name} does not have its recorded checksum"
    return None


def below(folder: Path) -> list[Path]:
    """Markers of all runs below a folder; none where there is no folder.

    Raises:
        ResourceError: the machine failed.
    """
    if not folder.is_dir():
        return []
    return [path for path in files_below(folder) if fnmatch.fnmatch(path.name, RUN_MARKERS)]


def is_damaged(marker: Path) -> bool:
    """Whether the marker of a run is there and does not say which files the run has.

    The files may be sound all the same, but nobody can tell.

    Raises:
        ResourceError: the machine failed.
    """
    try:
        _recorded(marker)
    except FileNotFoundError:
        return False
    except (OSError, ValueError):
        return True
    return False


def verified(marker: Path, run_id: str | None, checksums: Checksums) -> str | None:
    """:func:`problem` with checksums; the marker of damaged results is removed.

    They would count as finished otherwise, because they have their sizes. A damaged marker stays:
    nothing counts as finished because of it.

    Raises:
        ResourceError: the machine failed; the marker stays.
    """
    found = problem(marker, run_id, checksums)
    if found is not None and not is_damaged(marker):
        marker.unlink(missing_ok=True)
    return found


def withdraw(jobs: Path, run_id: str) -> None:
    """Remove the markers of all jobs of a stage that say that a run is finished.

    Args:
        jobs: folder of the job markers.
        run_id: a run whose results are about to be replaced, or are not whole.

    Raises:
        ResourceError: the machine failed.
    """
    for marker in named(jobs, "*.json"):
        try:
            concerned = run_id in read_json(marker)["runs"]
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, TypeError):
            # It says nothing that could be relied on.
            concerned = True
        if concerned:
            marker.unlink(missing_ok=True)


def _recorded(marker: Path, run_id: str | None = None) -> dict[str, tuple[Any, Any]]:
    """Name of each file of a run → its size and SHA-256.

    Raises:
        ValueError: this is no marker of the run that its name tells.
    """
    record = read_json(marker)
    try:
        files = {name: (facts["bytes"], facts["sha256"]) for name, facts in record["files"].items()}
        run, fingerprint, inputs = (record[key] for key in ("run", "fingerprint", "inputs"))
    except (AttributeError, KeyError, TypeError, IndexError) as error:
        raise ValueError(f"{type(error).__name__} {error}") from None
    if marker.name != f"run-{fingerprint}.json" or run != (run if run_id is None else run_id):
        raise ValueError(f"it is of the run {str(run)[:80]} ({str(fingerprint)[:80]})")
    if not isinstance(run, str) or not isinstance(inputs, Mapping) or CONFIG not in files:
        raise ValueError(f"it lacks what every marker has, such as {CONFIG} among its files")
    return files
