"""Costs of an item and memory of a step, counted once for each method and kept in a file."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic_core import to_jsonable_python

from voxseq.base.digest import digest
from voxseq.base.errors import VoxseqError
from voxseq.base.files import read_json, sha256, write_json
from voxseq.estimate.work import StepMemory, Work
from voxseq.plan.code_versions import PACKAGE

#: Where counts are kept, below the working directory.
COUNTS = Path(".voxseq/counts.json")
_LIBRARIES = ("torch", "monai")
Counted = TypeVar("Counted", Work, StepMemory)


class Counts:
    """Counted costs, from a file where they are of the present code and libraries.

    Args:
        path: the file; None keeps nothing. PyTorch is imported only to count what it lacks.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        sources = [sha256(source) for source in sorted(PACKAGE.rglob("*.py"))]
        self._code = digest([*sources, *map(version, _LIBRARIES)])
        self._found: dict[str, dict[str, Any]] = {}
        self._is_new = False
        if path is not None and path.is_file():
            with suppress(VoxseqError, OSError, ValueError, TypeError, KeyError):
                content = read_json(path)
                if content["code"] == self._code:
                    self._found = dict(content["counts"])

    def keep(self) -> None:
        """Write counts that the file lacks; a folder that cannot be written costs time alone."""
        if self._path is not None and self._is_new:
            with suppress(VoxseqError, OSError):
                write_json(self._path, {"code": self._code, "counts": self._found})

    def work(self, what: Literal["pretraining", "network", "encoder"], *question: Any) -> Work:
        """What that function of :mod:`voxseq.estimate.count` gives for these arguments."""
        return self._answer(Work, "count", what, question)

    def memory(self, what: Literal["pretraining"], *question: Any) -> StepMemory:
        """What that function of :mod:`voxseq.estimate.memory` gives for these arguments."""
        return self._answer(StepMemory, "memory", what, question)

    def _answer(
        self, kind: type[Counted], module: str, what: str, question: Sequence[Any]
    ) -> Counted:
        key = digest([module, what, to_jsonable_python(question)])
        with suppress(KeyError, TypeError):
            return kind(**self._found[key])
        found: Counted = getattr(import_module(f"voxseq.estimate.{module}"), what)(*question)
        self._found[key] = asdict(found)
        self._is_new = True
        return found
