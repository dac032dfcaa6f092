"""What the engine and the command line cost beside training."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from benchmarks.harness import ROUNDS, Row, Unmeasured, figure, timed

#: Targets: seconds of a dry run and of the help, and the share of training.
DRY_RUN, HELP, TRAINING = 5.0, 0.5, 0.75
_FINISHED = "a finished demo: `make reproduce` here, or --demo with the path of one"


def run(demo: Path) -> Iterator[Row | Unmeasured]:
    """All rows of this module.

    Args:
        demo: a workspace in which the demo has been run.
    """
    yield _command("voxseq --help", [sys.executable, "-m", "voxseq", "--help"], HELP, demo)
    name, command = "snakemake -n, nothing to do", ["snakemake", "-n", "reproduce_tables"]
    if b"Nothing to be done" in _output(command, demo):
        yield _command(name, command, DRY_RUN, demo, "all runs of the demo are finished")
    else:
        yield Unmeasured(name, _FINISHED)
    yield _training_share(demo)


def _command(name: str, command: Sequence[str], target: float, folder: Path, note: str = "") -> Row:
    _output(command, folder)
    seconds = [timed(lambda: _output(command, folder)) for _ in range(ROUNDS)]
    return figure(name, "the clock", seconds, target, "s", "at most", note)


def _output(command: Sequence[str], folder: Path) -> bytes:
    finished = subprocess.run(command, cwd=folder, capture_output=True, check=True)  # noqa: S603
    return finished.stdout + finished.stderr


def _training_share(demo: Path) -> Row | Unmeasured:
    """Seconds of all trainings over the seconds of all cores between first and last job."""
    name = "whole demo, share of training"
    found = demo.glob(".voxseq/records/demo/**/cost.json")
    costs = [json.loads(path.read_text()) for path in found]
    history = demo / ".voxseq/history.jsonl"
    if not costs or not history.exists():
        return Unmeasured(name, _FINISHED)
    training = sum(cost["seconds"] for cost in costs)
    lines = [json.loads(line) for line in history.read_text().splitlines()]
    ends = [datetime.fromisoformat(line["finished"]).timestamp() for line in lines]
    begins = [end - line["seconds"] for end, line in zip(ends, lines, strict=True)]
    cores = os.cpu_count() or 1
    wall = max(ends) - min(begins)
    stamps = demo.glob("logs/demo/benchmarks/**/*.tsv")
    jobs = sum(_seconds(path) for path in stamps)
    note = (
        f"{len(costs)} trainings of {training:.0f} s together in {wall:.0f} s on {cores} cores; "
        f"seconds of all jobs {jobs:.0f}"
    )
    return figure(
        name, "wall time × cores", [training / (wall * cores)], TRAINING, "", "at least", note
    )


def _seconds(path: Path) -> float:
    with path.open(encoding="utf-8") as handle:
        return sum(float(row["s"]) for row in csv.DictReader(handle, delimiter="\t"))
