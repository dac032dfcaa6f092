"""Problems of a configuration, one key at a time, with file and line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from voxseq.base.errors import ConfigError
from voxseq.config.base import fault_of
from voxseq.config.reading import Document, KeyPath
from voxseq.config.unknown import UNKNOWN, said_of_unknown

#: Longest part of a value that a message repeats, and most problems that it lists.
_SHOWN, _LISTED = 80, 12
#: Longest text anywhere: a path.
_LONGEST = 4096
#: With these begin pydantic's names of the kinds that a value may be of, and ours.
_KINDS = ("_", "function-after[", "tuple[")
_KEY = re.compile(r"[A-Za-z0-9_.]+")
#: Keys of ``finetune`` that lie below those of each task: ``defaults`` by type, and ``networks``.
_TASK_DEPTH = 3


class Sources:
    """File and line of every key, where :func:`voxseq.config.overlay.merge` lays files over others.

    Args:
        name: what messages call the whole.
        documents: the base and what is laid over it, in turn; places of those that were not read
            from a file are unknown.
    """

    def __init__(self, name: str, documents: Sequence[Mapping[str, Any]] = ()) -> None:
        self.name = name
        self._documents = [d for d in reversed(documents) if isinstance(d, Document)]

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
        for one in same:
            places = (document.place(one) for document in self._documents)
            if found := next((place for place in places if place is not None), ""):
                return found
        return ""

    def place(self, path: KeyPath, kind: str = "") -> str:
        """The same of a key, or of the nearest one above it."""
        above = (self.exact(path[:length], kind) for length in range(len(path), 0, -1))
        return next((found for found in above if found), "")


@dataclass(frozen=True)
class Problem:
    """One key, and the problem with its value.

    Attributes:
        key: dotted, as it stands in the file; empty where several keys are concerned.
        text: value, reason, and what was expected.
        kind: type of the task that the key belongs to; empty for other keys.
    """

    key: str
    text: str
    kind: str = ""

    def line(self, sources: Sources) -> str:
        """The problem as one line of a message."""
        words = self.text if not self.key else f"{self.key}: {self.text}"
        path = tuple(self.key.split(".")) if self.key else ()
        # A check of several keys names the first of them in its text.
        first = _KEY.match(self.text)
        named = (*path, *first[0].rstrip(".").split(".")) if first else path
        place = sources.exact(named, self.kind) or sources.place(path, self.kind)
        return f"  {words}" + (f" [{place}]" if place else "")


def refuse(problems: Iterable[Problem], sources: Sources, hint: str = "") -> None:
    """Raise a :class:`ConfigError` that lists the problems, if there is any."""
    lines = list(dict.fromkeys(problem.line(sources) for problem in problems))
    if not lines:
        return
    more = len(lines) - _LISTED
    shown = [*lines[:_LISTED], *([f"  and {more} more"] if more > 0 else [])]
    raise ConfigError(
        "\n".join([f"{sources.name} is not a valid configuration:", *shown]),
        hint or "correct these keys; `voxseq config show --all` prints every key with its value",
    )


def of_validation(
    error: ValidationError, model: type[BaseModel], above: str = ""
) -> Iterator[Problem]:
    """Problems that a model found.

    Args:
        error: of the model.
        model: which it is.
        above: dotted key of what was validated; empty for the whole configuration.
    """
    for item in error.errors():
        # Names of the kinds that a value may be of are no level of the file. Of a key that is no
        # name pydantic says "[key]" besides; an empty one has to be seen.
        named = (str(part) for part in item["loc"] if part != "[key]")
        below = (part or "''" for part in named if not part.startswith(_KINDS))
        parts = [*([above] if above else []), *below]
        kind = ""
        if parts[:2] == ["finetune", "tasks"] and len(parts) > 3:
            # The task's type, by which its model is chosen, is not a level of the file.
            kind = parts.pop(3)
        given = item["input"]
        shown = "" if isinstance(given, Mapping) else f" (given: {_short(repr(given))})"
        said = item["msg"].removeprefix("Value error, ")
        if item["type"] in UNKNOWN and parts:
            said = said_of_unknown(model, parts[1:] if above else parts)
        yield Problem(".".join(parts), f"{said}{shown}", kind)


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def of_texts(content: Any, path: KeyPath = ()) -> Iterator[Problem]:
    """Texts and keys, wherever they stand, that no line of a table or a file can hold."""
    if isinstance(content, str):
        key, found = ".".join(path), fault_of(content)
        if found:
            yield Problem(key, f"{found} (given: {_short(ascii(content))})")
        elif len(content) > _LONGEST:
            yield Problem(
                key,
                f"a text of {len(content)} characters, expected at most {_LONGEST} "
                f"(given: {_short(repr(content))})",
            )
    elif isinstance(content, Mapping):
        for key, value in content.items():
            found = fault_of(key) if isinstance(key, str) else ""
            if found:
                yield Problem(".".join(path), f"{found} (key: {_short(ascii(key))})")
            else:
                yield from of_texts(value, (*path, str(key)))
    elif isinstance(content, Sequence) and not isinstance(content, bytes):
        for number, value in enumerate(content):
            yield from of_texts(value, (*path, str(number)))
