"""What a launcher such as torchrun tells the processes that it starts, in environment variables."""

from __future__ import annotations

import os
import re

from voxseq.base.errors import ConfigError

_SIZE, _HERE, _RANKS = "WORLD_SIZE", "LOCAL_WORLD_SIZE", ("RANK", "LOCAL_RANK")
_MOST_DIGITS = 9


def processes() -> int:
    """How many processes do this job together; one where no launcher has started it.

    Raises:
        ConfigError: a variable that launchers set has an impossible value; it is named.
    """
    size = _number(_SIZE, 1, None)
    for name in _RANKS:
        # Libraries read these whatever the size is.
        if size > 1 or name in os.environ:
            _number(name, 0, None)
    if size == 1:
        return 1
    _number("RANK", 0, size - 1)
    _number("LOCAL_RANK", 0, processes_here(size) - 1)
    _number("MASTER_PORT", 1, 65535)
    if not os.environ.get("MASTER_ADDR", "").strip():
        raise _impossible("MASTER_ADDR", "the address of the first process")
    return size


def processes_here(size: int) -> int:
    """How many of ``size`` processes are on this node.

    Raises:
        ConfigError: the variable has an impossible value.
    """
    if size == 1 or _HERE not in os.environ:
        return size
    here = _number(_HERE, 1, size)
    if size % here:
        raise _impossible(_HERE, f"a divisor of {_SIZE}, {size}")
    return here


def _number(name: str, lowest: int, highest: int | None) -> int:
    """A whole number from the environment; 1 for WORLD_SIZE where it is not set."""
    text = os.environ.get(name, "1" if name == _SIZE else "")
    until = f"from {lowest} to {highest}" if highest is not None else f"of at least {lowest}"
    # What int() takes besides, such as ² or 1_000, no launcher sets.
    if not re.fullmatch(rf"[0-9]{{1,{_MOST_DIGITS}}}", text):
        raise _impossible(name, f"a whole number {until}")
    number = int(text)
    if number < lowest or (highest is not None and number > highest):
        raise _impossible(name, f"a whole number {until}")
    return number


def _impossible(name: str, expected: str) -> ConfigError:
    given = os.environ.get(name)
    shown = "is not set" if given is None else f"is {given[:80]!r}"
    return ConfigError(
        f"the environment variable {name} {shown}, expected {expected}",
        f"start the processes by torchrun, which sets it, or one alone: unset {name}",
    )
