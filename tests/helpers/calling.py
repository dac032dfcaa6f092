"""Commands that are called as from a shell, and what they print."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Called:
    """Status of a command and what it printed."""

    status: int
    out: str
    err: str


#: Calls the entry point with some words; the status has to be the keyword ``status``, else 0.
Call = Callable[..., Called]
