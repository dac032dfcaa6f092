"""Markers: the files that say what is finished.

The marker of a run lies in the run's folder and lists its files. The marker of a job lies in
``jobs`` of its stage and names the job's runs; the workflow looks at nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from voxseq.files import read_json, write_json


def write_run_marker(path: Path, run_id: str, fingerprint: str, inputs: Mapping[str, str]) -> None:
    """Record every file beside ``path`` with size and SHA-256."""
    folder = path.parent
    files = {
        str(p.relative_to(folder)): {"bytes": p.stat().st_size, "sha256": _sha256(p)}
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }
    write_json(path, {"run": run_id, "fingerprint": fingerprint, "inputs": inputs, "files": files})


def problem(marker: Path, *, thorough: bool = False) -> str | None:
    """Why the results beside the marker of a run cannot be used; ``None`` when they can.

    Args:
        marker: the run's marker.
        thorough: also compare checksums, not only that every file has its size.
    """
    try:
        record = read_json(marker)
        files = {name: (f["bytes"], f["sha256"]) for name, f in record["files"].items()}
    except FileNotFoundError:
        return f"{marker} does not exist"
    except (AttributeError, OSError, ValueError, KeyError, TypeError) as error:
        return f"{marker} cannot be read: {error}"
    for name, (size, checksum) in files.items():
        path = marker.parent / name
        if not path.is_file():
            return f"{path} is missing"
        if path.stat().st_size != size:
            return f"{path} has {path.stat().st_size} bytes, recorded were {size}"
        if thorough and _sha256(path) != checksum:
            return f"{path} does not have its recorded checksum"
    return None


def verified(marker: Path) -> str | None:
    """:func:`problem` with checksums; the marker of damaged results is removed.

    They would count as finished otherwise, because they have their sizes.
    """
    found = problem(marker, thorough=True)
    if found is not None:
        marker.unlink(missing_ok=True)
    return found


def withdraw(jobs: Path, run_id: str) -> None:
    """Remove the markers of all jobs of a stage that say that a run is finished.

    Args:
        jobs: folder of the job markers.
        run_id: a run whose results are about to be replaced, or are not whole.
    """
    for marker in sorted(jobs.glob("*.json")):
        try:
            concerned = run_id in read_json(marker)["runs"]
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, TypeError):
            # It says nothing that could be relied on.
            concerned = True
        if concerned:
            marker.unlink(missing_ok=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
