"""The resolved configuration: every key with its value, in a file that is named by its content.

Jobs read it, so that an edit of params.yaml while the workflow runs cannot reach half of them.
:func:`voxseq.config.load_config` reads it back as the same configuration.
"""

from __future__ import annotations

from pathlib import Path

from voxseq.base.digest import digest
from voxseq.base.files import read_json, write_json
from voxseq.config.root import Config

FOLDER = Path(".voxseq/config")


def write_resolved(config: Config, folder: Path = FOLDER) -> Path:
    """Put a configuration into its file, unless the file holds it already; return the file.

    A file that was cut or changed is written anew.
    """
    content = config.model_dump(mode="json")
    word = digest(content)
    path = folder / f"{word}.json"
    if not _holds(path, word):
        write_json(path, content)
    return path


def _holds(path: Path, word: str) -> bool:
    try:
        return digest(read_json(path)) == word
    except (OSError, ValueError, RecursionError):
        return False
