"""Environment variables by which a launcher such as torchrun describes the processes it starts."""

from __future__ import annotations

import os
import re

from voxseq.base.errors import ConfigError

_SIZE, _HERE = "WORLD_SIZE", "LOCAL_WORLD_SIZE"


def world_size() -> int:
    """Number of processes of this job; 1 where no launcher has started it.

    Raises:
        ConfigError: a launcher's variable has an impossible value; it is named.
    """
    size = _number(_SIZE, 1, None) if _SIZE in os.environ else 1
    for name in ("RANK", "LOCAL_RANK"):
        # Libraries read these whatever the size is.
        if size > 1 or name in os.environ:
            _number(name, 0, None)
    if size == 1:
        return 1
    _number("RANK", 0, size - 1)
    _number("LOCAL_RANK", 0, local_world_size(size) - 1)
    _number("MASTER_PORT", 1, 65535)
    if not os.environ.get("MASTER_ADDR", "").strip():
        raise _impossible("MASTER_ADDR", "the address of the first process")
    return size


def local_world_size(size: int) -> int:
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
    text = os.environ.get(name, "")
    # At most nine digits, and none of the spellings that int() takes besides, such as ² or 1_000.
    number = int(text) if re.fullmatch("[0-9]{1,9}", text) else -1
    if number < lowest or (highest is not None and number > highest):
        until = f"from {lowest} to {highest}" if highest is not None else f"of at least {lowest}"
        raise _impossible(name, f"a whole number {until}")
    return number


def _impossible(name: str, expected: str) -> ConfigError:
    given = os.environ.get(name)
    shown = "is not set" if given is None else f"is {given[:80]!r}"
    return ConfigError(
        f"the environment variable {name} {shown}, expected {expected}",
        f"start the processes by torchrun, which sets it, or one alone: unset {name}",
    )
