"""Generated 3D phantoms that stand for the data sets, written in their real layouts."""

from __future__ import annotations

import difflib
import shutil
import tempfile
from pathlib import Path

from voxseq.base.errors import DataError
from voxseq.config.data import PhantomConfig
from voxseq.phantoms.writers import WRITERS

__all__ = ["NAMES", "generate"]

#: Names that ``generate`` accepts.
NAMES = tuple(WRITERS)


def generate(name: str, folder: Path, config: PhantomConfig) -> None:
    """Write the phantoms of one data set in the data set's real layout.

    The same name and configuration give the same files, byte for byte. The folder appears only
    when it is complete.

    Args:
        name: catalogue name of one of the pre-training sources or tasks.
        folder: the data set's own folder; it must not exist or be empty.
        config: sizes, numbers and seed.

    Raises:
        DataError: there are no phantoms of that name, or the folder is not empty.
    """
    writer = WRITERS.get(name)
    if writer is None:
        near = difflib.get_close_matches(name, NAMES, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(NAMES)}"
        raise DataError(f"there are no phantoms of data set {name!r}", hint)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(
            f"{folder}: phantoms of {name} are written to a new folder, and this one is not empty",
            "remove it or choose another",
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent))
    try:
        writer(name, unfinished, config)
        # mkdtemp makes the folder private; results are as readable as any other folder.
        unfinished.chmod(0o755)
        unfinished.replace(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
