"""Where the keys of a merged configuration come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from voxseq.config.reading import Document, KeyPath

#: Keys of ``finetune`` that lie below those of each task: ``defaults`` by type, and ``networks``.
_TASK_DEPTH = 3


class Sources:
    """File and line of every key, where :func:`voxseq.config.merging.merge` lays files over others.

    Args:
        name: what messages call the whole.
        documents: the base and what is laid over it, in turn; places of those that were not read
            from a file are unknown.
    """

    def __init__(self, name: str, documents: Sequence[Mapping[str, Any]] = ()) -> None:
        self.name = name
        self._places: dict[KeyPath, str] = {}
        for document in documents:
            if isinstance(document, Document):
                self._lay(document, document, (), ())

    def _lay(
        self, document: Document, tree: Mapping[str, Any], path: KeyPath, written: KeyPath
    ) -> None:
        for key, value in tree.items():
            word = str(key)
            there = (*path, word.removesuffix("!"))
            if word.endswith("!") or not isinstance(value, Mapping):
                self._forget(there)
            as_written = (*written, word)
            if as_written in document.lines:
                self._places[there] = f"{document.name}, line {document.lines[as_written]}"
            if isinstance(value, Mapping):
                self._lay(document, value, there, as_written)
            elif isinstance(value, list):
                self._items(document, value, there, as_written)

    def _items(
        self, document: Document, items: Sequence[Any], path: KeyPath, written: KeyPath
    ) -> None:
        for number, item in enumerate(items):
            there, as_written = (*path, str(number)), (*written, str(number))
            if as_written in document.lines:
                self._places[there] = f"{document.name}, line {document.lines[as_written]}"
            if isinstance(item, Mapping):
                self._lay(document, item, there, as_written)
            elif isinstance(item, list):
                self._items(document, item, there, as_written)

    def _forget(self, path: KeyPath) -> None:
        for below in [place for place in self._places if place[: len(path)] == path]:
            del self._places[below]

    def exact(self, path: KeyPath, kind: str = "") -> str:
        """File and line of a key; empty where none has it.

        Args:
            path: of the key.
            kind: type of the task that the key belongs to, whose defaults may hold it.
        """
        same = [path]
        if path[:2] == ("finetune", "tasks") and len(path) > _TASK_DEPTH:
            below = path[_TASK_DEPTH:]
            same += [("finetune", "defaults", kind, *below), ("finetune", *below)]
        return next((self._places[one] for one in same if one in self._places), "")

    def place(self, path: KeyPath, kind: str = "") -> str:
        """The same of a key, or of the nearest one above it."""
        above = (self.exact(path[:length], kind) for length in range(len(path), 0, -1))
        return next((found for found in above if found), "")
