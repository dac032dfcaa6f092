"""One call on a file of a workspace fails, as of a busy server or a failing disk; what is lost?"""

from __future__ import annotations

import errno
import io
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.places import Ended, Place

CODES = (errno.EIO, errno.ESTALE, errno.EACCES, errno.EMFILE, errno.ENOSPC)
#: shutil closes a folder once more whose closing failed.
_REASON = re.compile("|".join(re.escape(os.strerror(c)) for c in (*CODES, errno.EBADF)))


def fail_open(monkeypatch: pytest.MonkeyPatch, path: Path, code: int, *, times: int = 1) -> None:
    """Let the next openings of a file fail in this process, and no later ones."""
    real, left = io.open, [code] * times

    def opened(name: Any, *args: Any, **kwargs: Any) -> Any:
        if left and isinstance(name, str | Path) and Path(name) == path:
            raise OSError(left[0], os.strerror(left.pop()), str(name))
        return real(name, *args, **kwargs)

    monkeypatch.setattr(io, "open", opened)


@dataclass(frozen=True)
class Fault:
    """The call with a number fails: of those on paths that fit a regular expression."""

    n: int
    code: int
    pattern: str = "."

    def __str__(self) -> str:
        where = "" if self.pattern == "." else f" on {self.pattern}"
        return f"call {self.n}{where}: {errno.errorcode[self.code]}"


def spread(count: int, most: int) -> list[int]:
    """At most so many numbers from 1 to ``count``, evenly."""
    if count <= most:
        return list(range(1, count + 1))
    return sorted({1 + round(i * (count - 1) / (most - 1)) for i in range(most)})


def calls(place: Place, *argv: str, pattern: str = ".") -> tuple[str, ...]:
    """The calls of a command that succeeds, without any failing."""
    ended = place.command(*argv, fault={"n": 0, "code": 0, "pattern": pattern})
    assert ended.status == 0, ended.said
    return ended.calls


def disturb(place: Place, fault: Fault, *argv: str) -> tuple[Ended, list[str]]:
    """Run a command with a fault; returns how it ended and what it did wrong."""
    before = finished(place)
    ended = place.command(*argv, fault=vars(fault))
    wrong = []
    if ended.status not in (0, 2):
        wrong.append(f"status {ended.status}")
    if "Traceback" in ended.output or "Exception ignored" in ended.output:
        wrong.append("a traceback")
    if ended.status == 2:
        wrong += _unsaid(ended)
    wrong += [f"lost: {name}" for name in sorted(before - finished(place))]
    wrong += place.damage()
    return ended, wrong


def finished(place: Place) -> set[str]:
    """Names of markers and of published files that are there."""
    base = place.folder / place.plan.artefacts
    found = [p for p in base.rglob("*.json") if p.match("run-*.json") or p.parent.name == "jobs"]
    found += [p for p in (place.folder / place.plan.results).rglob("*") if p.is_file()]
    return {str(p.relative_to(place.folder)) for p in found}


def _unsaid(ended: Ended) -> list[str]:
    said = f"\n{ended.output}".rpartition("\nerror: ")[2]
    failed = [Path(call.partition(" ")[2]) for call in ended.calls]
    wrong = []
    if not _REASON.search(said) and "disk is full" not in said:
        wrong.append("the reason is not said")
    # What is new, or about to go, has another name; of a folder's removal one above is named.
    is_removal = any(map(_removes, ended.calls))
    names = [
        re.sub(r"^\.(.+?)(\.\w{8}|\.old)?\.tmp$", r"\1", part.name)
        for path in failed
        for part in (path, *(path.parents if is_removal else ()))
        if part.name
    ]
    # What safetensors writes has a name of its own until it is whole.
    names += ["safetensors" for path in failed if re.fullmatch(r"\.tmp\w{6}", path.name)]
    if not any(name in said for name in names):
        wrong.append("the file is not named")
    if "start again" not in said:
        wrong.append("the next step is not said")
    return wrong


def _removes(call: str) -> bool:
    """Whether a call is one of those that remove a folder: its entries have no suffix."""
    return call.startswith(("unlink", "openat")) or (
        call.startswith("close") and not Path(call).suffix
    )


def published(place: Place) -> dict[str, bytes]:
    """Files of the results folder, without costs, which differ from call to call."""
    base = place.folder / place.plan.results
    return {
        str(p.relative_to(base)): p.read_bytes()
        for p in base.rglob("*")
        if p.is_file() and "cost" not in p.relative_to(base).parts
    }
