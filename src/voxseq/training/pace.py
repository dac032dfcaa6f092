"""How fast a training is, and how long it waits for its data."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass
class Pace:
    """Steps of this attempt, validations and checkpoints not counted.

    Attributes:
        samples: of all processes.
        seconds: from asking for a batch to the end of its step.
        waited: of these, for the batch.
    """

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

    def done(self, samples: int) -> None:
        """A step has ended.

        Args:
            samples: of its batch, of all processes.
        """
        self.samples += samples
        self.seconds += time.monotonic() - self._began

    def numbers(self) -> dict[str, Any]:
        """For ``cost.json``; nothing before the first step of this attempt."""
        if not self.seconds:
            return {}
        return {
            "samples_per_second": round(self.samples / self.seconds, 2),
            "waiting_for_data": round(self.waited / self.seconds, 4),
        }

    def __str__(self) -> str:
        """For the log: samples a second, time spent waiting, and the peak memory of a GPU."""
        if not self.seconds:
            return "before the first step"
        shown = (
            f"{self.samples / self.seconds:.4g} samples/s, "
            f"{self.waited / self.seconds:.1%} of the time waiting for data"
        )
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            shown += f", {torch.cuda.max_memory_allocated() / 1e9:.1f} GB of the device at most"
        return shown
