"""Numbers with their nouns, for messages."""

from __future__ import annotations


def several(count: int, noun: str) -> str:
    """A number of things, such as "1 image", "2 images", "0 processes"."""
    if count == 1:
        return f"1 {noun}"
    return f"{count} {noun}{'es' if noun.endswith(('s', 'ch')) else 's'}"


def were(count: int) -> str:
    """The verb that goes with a number of things."""
    return "was" if count == 1 else "were"
