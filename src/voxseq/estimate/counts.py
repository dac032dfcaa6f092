"""Costs of one item, which are counted once for each method and network and kept in a file."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from pydantic_core import to_jsonable_python

from voxseq.base.digest import digest
from voxseq.base.errors import VoxseqError
from voxseq.base.files import read_json, sha256, write_json
from voxseq.estimate.work import Work
from voxseq.plan.code_versions import PACKAGE

#: Where counts are kept, below the working directory.
COUNTS = Path(".voxseq/counts.json")
_LIBRARIES = ("torch", "monai")


class Counts:
    """Counted costs, from a file where they are of the present code and libraries.

    Args:
        path: the file; None keeps nothing. PyTorch is imported only to count what it lacks.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        sources = [sha256(source) for source in sorted(PACKAGE.rglob("*.py"))]
        self._code = digest([*sources, *map(version, _LIBRARIES)])
        self._found: dict[str, Work] = {}
        self._is_new = False
        if path is not None and path.is_file():
            with suppress(VoxseqError, OSError, ValueError, TypeError, KeyError):
                content = read_json(path)
                if content["code"] == self._code:
                    self._found = {key: Work(**value) for key, value in content["counts"].items()}

    def keep(self) -> None:
        """Write counts that the file lacks; a folder that cannot be written costs time alone."""
        if self._path is not None and self._is_new:
            counts = {key: asdict(work) for key, work in self._found.items()}
            with suppress(VoxseqError, OSError):
                write_json(self._path, {"code": self._code, "counts": counts})

    def work(self, what: Literal["pretraining", "network", "encoder"], *question: Any) -> Work:
        """What that function of :mod:`voxseq.estimate.count` gives for these arguments."""
        key = digest([what, to_jsonable_python(question)])
        if key not in self._found:
            from voxseq.estimate import count

            self._found[key] = getattr(count, what)(*question)
            self._is_new = True
        return self._found[key]
