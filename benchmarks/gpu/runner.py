"""Parts one after the other, each in a process of its own that a watchdog ends."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.report import Report, gathered
from benchmarks.gpu.sizes import Setting, Size

#: Seconds for which the parts' own budgets are made; another budget stretches or shortens them.
BUDGET = 480.0
#: Seconds of the whole budget below which no part is started.
_LEAST = 2.0
#: Warnings that are of no use here: about a cluster's launcher, and about what is tried on purpose.
_WARNINGS = (".*srun.*", ".*flex_attention called without torch.compile.*")


@dataclass(frozen=True)
class Part:
    """One part of the check.

    Attributes:
        name: by which it is asked for.
        seconds: its share of :data:`BUDGET`; what parts before it have left over is added.
        title: what it shows.
        work: does it.
    """

    name: str
    seconds: float
    title: str
    work: Callable[[Setting, Report], None]


@dataclass(frozen=True)
class Check:
    """A run of the check.

    Attributes:
        data: folder that :mod:`benchmarks.gpu.prepare` has written.
        size: of everything.
        device: "cuda" or "cpu".
        budget: seconds of all parts together.
        versions: of what is measured, for every line.
    """

    data: Path
    size: Size
    device: str
    budget: float
    versions: Mapping[str, str]

    def run(self, parts: Sequence[Part], out: Path) -> bool:
        """Do the parts in their order, and append a line of JSON as each one ends.

        A part that raises, fails or overruns its time is told so in its line, and the next one
        begins.

        Returns:
            Whether parts ran and every one of them passed.
        """
        # No fork of a process that has used CUDA can use it.
        assert not torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        began, spare = time.monotonic(), 0.0
        scale = self.budget / BUDGET
        outcomes = []
        for part in parts:
            left = self.budget - (time.monotonic() - began)
            if left < _LEAST:
                line = self._line(part, 0.0, None, gathered(Path(os.devnull)))
                line["skipped"]["part"] = f"{left:.0f} s of {self.budget:.0f} s were left"
            else:
                own = part.seconds * scale
                line = self._done(part, min(own + spare, left))
                spare += own - line["seconds"]
                outcomes.append(line["ok"])
            with out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
                file.flush()
                os.fsync(file.fileno())
            print(summary(line), flush=True)
        return bool(outcomes) and all(outcomes)

    def _done(self, part: Part, limit: float) -> dict[str, Any]:
        """Do a part in at most ``limit`` seconds."""
        with tempfile.TemporaryDirectory() as name:
            path, scratch = Path(name) / "report.jsonl", Path(name) / "scratch"
            scratch.mkdir()
            setting = Setting(self.data, self.size, self.device, scratch)
            # A fork: libraries are loaded once. This process must not initialise CUDA.
            process = multiprocessing.get_context("fork").Process(
                target=_child, args=(part, setting, path)
            )
            began = time.monotonic()
            process.start()
            process.join(limit)
            seconds = time.monotonic() - began
            is_over = process.is_alive()
            _end(process)
            found = gathered(path)
        error = found["values"].pop("error", None)
        if is_over:
            error = f"ended after {limit:.1f} s: its time was over"
        elif process.exitcode and error is None:
            error = f"ended with status {process.exitcode}"
        ok = error is None and all(check["ok"] for check in found["checks"])
        return self._line(part, seconds, ok, found) | {"error": error}

    def _line(
        self, part: Part, seconds: float, ok: bool | None, found: Mapping[str, Any]
    ) -> dict[str, Any]:
        return {
            "part": part.name,
            "title": part.title,
            "seconds": round(seconds, 2),
            "ok": ok,
            "device": self.device,
            "size": self.size.name,
            **found,
            "error": None,
            "versions": dict(self.versions),
        }


def summary(line: Mapping[str, Any]) -> str:
    """A line in a few words."""
    verdict = {True: "passed", False: "FAILED", None: "not run"}[line["ok"]]
    text = f"{line['part']:12} {verdict:8} {line['seconds']:6.1f} s"
    failed = [f"{c['name']}: {c['found']} ({c['wanted']})" for c in line["checks"] if not c["ok"]]
    reasons = [line["error"] or "", *failed]
    if line["ok"] is None:
        reasons.extend(line["skipped"].values())
    return "\n    ".join([text, *filter(None, reasons)])


def _child(part: Part, setting: Setting, path: Path) -> None:
    # A group of its own, so that its workers end with it.
    os.setsid()
    for words in _WARNINGS:
        warnings.filterwarnings("ignore", words)
    report = Report(path)
    try:
        part.work(setting, report)
    except BaseException as error:
        traceback.print_exc()
        report.value("error", f"{type(error).__name__}: {error}"[:2000])
        raise SystemExit(1) from None


def _end(process: BaseProcess) -> None:
    """End a part and everything that it has started."""
    assert process.pid is not None
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.join()
