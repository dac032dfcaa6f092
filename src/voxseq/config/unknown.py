"""Keys that no model has: the message names the key that may be meant."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterator, Sequence
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel

#: Types of pydantic's errors about a key too many, of models and of dataclasses.
UNKNOWN = frozenset({"extra_forbidden", "unexpected_keyword_argument"})
#: How much alike a key has to be to the one that may be meant.
_ALIKE = 0.6
_UNIONS = (Union, UnionType)


def said_of_unknown(model: type[BaseModel], path: Sequence[str]) -> str:
    """What a message says of a key that is not known.

    Args:
        model: of what was validated.
        path: keys from its top down to the unknown one.
    """
    kinds: list[Any] = [model]
    for part in path[:-1]:
        kinds = [below for kind in kinds for below in _below(kind, part)]
    known = dict.fromkeys(name for kind in kinds for name in _names(kind))
    near = difflib.get_close_matches(path[-1], known, n=1, cutoff=_ALIKE)
    return f"unknown key; did you mean `{near[0]}`?" if near else "unknown key"


def _names(kind: Any) -> Iterator[str]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield from kind.model_fields
    elif dataclasses.is_dataclass(kind):
        yield from (field.name for field in dataclasses.fields(kind))


def _below(kind: Any, key: str) -> list[Any]:
    """The kinds that the value of a key of a model, or an item of a collection, may be of."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        field = kind.model_fields.get(key)
        return [] if field is None else _alternatives(field.annotation)
    # Of a mapping or a sequence the last argument is the kind of its values.
    values = [arg for arg in get_args(kind) if arg is not Ellipsis]
    return _alternatives(values[-1]) if values else []


def _alternatives(annotation: Any) -> list[Any]:
    """The kinds of a union, out of its annotations."""
    if hasattr(annotation, "__metadata__"):
        return _alternatives(annotation.__origin__)
    if isinstance(annotation, type) or get_origin(annotation) not in _UNIONS:
        return [annotation]
    return [kind for one in get_args(annotation) for kind in _alternatives(one)]
