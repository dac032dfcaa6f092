"""What a part finds, written as it is found: a part that is ended leaves what it had."""

from __future__ import annotations

import json
import statistics
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Report:
    """Values, checks and what was left out, as lines of a file.

    Args:
        path: of the file, to which is appended.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def value(self, name: str, value: Any) -> None:
        """A figure or a text that is reported."""
        self._write({"kind": "value", "name": name, "value": value})

    def spread(self, name: str, values: Sequence[float]) -> float:
        """Median, lowest and highest of some figures; returns the median."""
        found = spread(values)
        self.value(name, found)
        return float(found["median"])

    def at_most(self, name: str, found: float, limit: float) -> None:
        """A figure that passes if it is no larger than ``limit``; one that is no number fails."""
        self.check(name, found <= limit, found, f"at most {limit:g}")

    def at_least(self, name: str, found: float, limit: float) -> None:
        """A figure that passes if it is no smaller than ``limit``."""
        self.check(name, found >= limit, found, f"at least {limit:g}")

    def check(self, name: str, ok: bool, found: Any, wanted: str) -> None:
        """Something that must hold."""
        self._write(
            {"kind": "check", "name": name, "ok": bool(ok), "found": found, "wanted": wanted}
        )

    def skip(self, name: str, why: str) -> None:
        """Something that is left out."""
        self._write({"kind": "skip", "name": name, "value": why})

    @contextmanager
    def guard(self, name: str) -> Iterator[None]:
        """Let an error in the block be a check that fails, so that what follows is still done."""
        try:
            yield
        # Whatever a device or a compiler raises.
        except Exception as error:
            traceback.print_exc()
            self.check(name, False, f"{type(error).__name__}: {error}"[:2000], "no error")

    def _write(self, entry: dict[str, Any]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, lowest, highest, and of how many."""
    return {
        "median": statistics.median(values),
        "lowest": min(values),
        "highest": max(values),
        "n": len(values),
    }


def gathered(path: Path) -> dict[str, Any]:
    """The values, checks and omissions of a report; a line that is cut off is left out."""
    found: dict[str, Any] = {"values": {}, "checks": [], "skipped": {}}
    if not path.exists():
        return found
    for line in path.read_text(encoding="utf-8").split("\n")[:-1]:
        entry = json.loads(line)
        kind = entry.pop("kind")
        if kind == "check":
            found["checks"].append(entry)
        else:
            found["values" if kind == "value" else "skipped"][entry["name"]] = entry["value"]
    return found
