"""How fast a training is, and how long it waits for its data."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode


@dataclass
class Pace:
    """Steps of this attempt, validations and checkpoints not counted.

    Attributes:
        peak: operations per second that the device of this process is made for; None where that is
            not known.
        operations: of products in a step of this process; 0 until they have been counted.
        steps: done.
        samples: of all processes.
        seconds: from asking for a batch to the end of its step.
        waited: of these, for the batch.
    """

    peak: float | None = None
    operations: float = 0.0
    steps: int = 0
    samples: int = 0
    seconds: float = 0.0
    waited: float = 0.0
    _began: float = field(default=0.0, repr=False)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around asking for a batch, with which a step begins."""
        self._began = time.monotonic()
        yield
        self.waited += time.monotonic() - self._began

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Around the work of a step. That of the second one is counted, where a peak is known."""
        if self.peak is None or self.operations or not self.steps:
            yield
            return
        with FlopCounterMode(display=False) as counter:
            yield
        self.operations = float(counter.get_total_flops())

    @property
    def samples_per_second(self) -> float | None:
        """Samples a second, of all processes; None before the first step of this attempt."""
        return round(self.samples / self.seconds, 2) if self.seconds else None

    @property
    def share_of_peak(self) -> float | None:
        """Share of the device's peak that products reach over whole steps, waiting included."""
        if self.peak is None or not (self.operations and self.seconds):
            return None
        return self.operations * self.steps / self.seconds / self.peak

    def done(self, samples: int) -> None:
        """A step has ended.

        Args:
            samples: of its batch, of all processes.
        """
        self.steps += 1
        self.samples += samples
        self.seconds += time.monotonic() - self._began

    def numbers(self) -> dict[str, Any]:
        """For ``cost.json``; nothing before the first step of this attempt."""
        if not self.seconds:
            return {}
        found = {
            "samples_per_second": self.samples_per_second,
            "waiting_for_data": round(self.waited / self.seconds, 4),
        }
        share = self.share_of_peak
        return found if share is None else {**found, "share_of_peak": round(share, 4)}

    def __str__(self) -> str:
        """For the log: samples a second, time spent waiting, and the peak memory of a GPU."""
        if not self.seconds:
            return "before the first step"
        shown = (
            f"{self.samples / self.seconds:.4g} samples/s, "
            f"{self.waited / self.seconds:.1%} of the time waiting for data"
        )
        share = self.share_of_peak
        if share is not None:
            shown += f", {share:.1%} of the device's peak"
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            shown += f", {torch.cuda.max_memory_allocated() / 1e9:.1f} GB of the device at most"
        return shown
