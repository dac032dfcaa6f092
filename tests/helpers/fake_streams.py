"""Streams and events of a device that is not here, which write down what is asked of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch


class Event:
    """Of a copy; the first one has number 0."""

    def __init__(self, log: list[tuple[str, int]], number: int) -> None:
        self.log, self.number = log, number

    def synchronize(self) -> None:
        self.log.append(("copy is awaited", self.number))


class Stream:
    """That of the copies, or that which computes."""

    def __init__(self, log: list[tuple[str, int]]) -> None:
        self.log = log
        self.events = 0
        self.is_current = False

    def record_event(self) -> Event:
        self.events += 1
        return Event(self.log, self.events - 1)

    def wait_event(self, event: Event) -> None:
        self.log.append(("computation waits for copy", event.number))


def record_streams(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Put stand-ins in the place of CUDA's streams.

    Returns:
        What happens, with the number of the copy.
    """
    log: list[tuple[str, int]] = []
    computing = Stream(log)

    @contextmanager
    def current(stream: Stream) -> Iterator[None]:
        stream.is_current = True
        log.append(("copy begins", stream.events))
        yield
        stream.is_current = False

    def made(device: Any) -> Stream:
        return Stream(log)

    monkeypatch.setattr(torch.cuda, "Stream", made)
    monkeypatch.setattr(torch.cuda, "stream", current)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: computing)
    return log
