"""Notes that a download leaves for later calls: JSON files of one record each."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from voxseq.fetch.disk import reading

T = TypeVar("T")


def parse_note(content: bytes, kind: type[T]) -> T:
    """A note from its JSON.

    Raises:
        ValueError: it is no JSON, nested too deeply, or not of this kind.
    """
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    parsed: T = adapter.validate_json(content, strict=True)
    return parsed


def read_note(path: Path, kind: type[T]) -> T | None:
    """A note; None where there is none and where it is damaged: what it vouched for is not done.

    Raises:
        ResourceError: the machine does not hand the file out, so nobody knows what it holds.
    """
    with reading(path):
        if not path.is_file():
            return None
        content = path.read_bytes()
    try:
        return parse_note(content, kind)
    except ValidationError:
        return None
