"""Classes and numbers of a user's table: words become class numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from voxseq.base.lists import examples


def class_numbers(words: Iterable[str], classes: Sequence[str]) -> Mapping[str, int]:
    """Number of each word for a class; words that are no class are left out.

    Args:
        words: as they stand in a table; "" is none.
        classes: names of the classes in the order of their numbers. Words are compared without
            case; whole numbers below their count stand for themselves. Without names, whole
            numbers that begin at 0 stand for themselves, and others are numbered in sorted order.
    """
    found = sorted({word for word in words if word}, key=lambda word: (word.casefold(), word))
    numbers = {word: _whole(word) for word in found}
    are_numbers = all(number is not None for number in numbers.values())
    if classes:
        named = {name.casefold(): number for number, name in enumerate(classes)}
        known = {word: named[word.casefold()] for word in found if word.casefold() in named}
        if known or not are_numbers:
            return known
        return {w: n for w, n in numbers.items() if n is not None and n < len(classes)}
    if are_numbers:
        held = sorted({number for number in numbers.values() if number is not None})
        order = {n: n if held[:1] == [0] else place for place, n in enumerate(held)}
        return {w: order[n] for w, n in numbers.items() if n is not None}
    names = list(dict.fromkeys(word.casefold() for word in found))
    return {word: names.index(word.casefold()) for word in found}


def class_names(numbers: Mapping[str, int], classes: Sequence[str]) -> dict[int, str]:
    """Name of each class by its number."""
    if classes:
        return dict(enumerate(classes))
    return {number: word for word, number in sorted(numbers.items(), key=_second, reverse=True)}


def not_a_class(word: str, classes: Sequence[str]) -> str:
    """Reason why a word of a table stands for no class."""
    if not word:
        return "has no class"
    return f"its class {word!r} is none of {examples(list(classes))}"


def number_of(word: str) -> float | None:
    """A finite number, also with a comma for the decimal point; None where it is none."""
    try:
        number = float(word.replace(",", ".") if word.count(",") == 1 else word)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _second(item: tuple[str, int]) -> tuple[int, str]:
    return item[1], item[0]


def _whole(word: str) -> int | None:
    number = number_of(word)
    return int(number) if number is not None and number == int(number) and number >= 0 else None
