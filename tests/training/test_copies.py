"""The order in which batches travel to a device, with stand-ins for its streams."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
import torch

from tests.helpers.fake_streams import record_streams
from tests.helpers.toy import Toy, ToyRows, equal, make_batch
from voxseq.training import copies
from voxseq.training.batches import stepwise
from voxseq.training.copies import travelling
from voxseq.training.rows import Batch

CUDA = torch.device("cuda")


class Moved:
    """A tensor on the device, as far as it is asked."""

    is_cuda = True

    def __init__(self, number: int, log: list[tuple[str, int]]) -> None:
        self.number, self.log = number, log

    def record_stream(self, stream: Any) -> None:
        self.log.append(("memory is kept for computation", self.number))


class Moving(Toy):
    """One whose weights are on the device, which hands out its copies."""

    def __init__(self, log: list[tuple[str, int]]) -> None:
        super().__init__()
        self.log = log

    def parameters(self, recurse: bool = True) -> Any:
        yield torch.empty(0, device="meta")

    def transfer(self, batch: Batch, device: torch.device) -> Any:
        assert device == CUDA
        number = int(batch["number"])
        return {"number": Moved(number, self.log), "ids": batch["number"].clone()}


def numbered(log: list[tuple[str, int]], count: int) -> Generator[Batch, None, None]:
    """Batches in memory that is written to when the next one is asked for."""
    memory = torch.zeros(1)
    try:
        for number in range(count):
            log.append(("rows are asked for", number))
            memory.fill_(number)
            yield {"number": memory}
        log.append(("rows are asked for", count))
    finally:
        log.append(("rows are closed", 0))


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_the_next_batch_is_copied_while_one_is_computed(
    monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    log = record_streams(monkeypatch)
    given = copies._ahead(numbered(log, count), Moving(log), CUDA)
    for number, batch in enumerate(given):
        assert int(batch["ids"]) == number
        log.append(("batch is computed", number))
    expected: list[tuple[str, int]] = []
    for number in range(count + 1):
        expected += [("rows are asked for", number)]
        if number < count:
            expected += [("copy begins", number)]
        else:
            expected += [("rows are closed", 0)]
        if number:
            expected += [
                ("computation waits for copy", number - 1),
                ("memory is kept for computation", number - 1),
                ("batch is computed", number - 1),
            ]
        if number < count:
            # Asking for more rows writes to the memory that it is copied from.
            expected += [("copy is awaited", number)]
    assert log == expected


def test_batches_on_a_device_go_that_way_and_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    log = record_streams(monkeypatch)
    trainable = Moving(log)
    monkeypatch.setattr(
        trainable, "parameters", lambda: iter([type("Weight", (), {"device": CUDA})()])
    )
    batches = travelling(numbered(log, 9), trainable)
    assert int(next(batches)["ids"]) == 0
    assert ("copy begins", 1) in log
    batches.close()
    assert log[-1] == ("rows are closed", 0)


@pytest.mark.parametrize("workers", [0, 1])
def test_on_the_cpu_batches_are_handed_through(workers: int) -> None:
    rows: list[Batch] = []

    def seen() -> Generator[Batch, None, None]:
        for batch in stepwise(ToyRows(), 0, 4, workers):
            rows.append(batch)
            yield batch

    for step, batch in enumerate(travelling(seen(), Toy())):
        assert equal(batch, make_batch(step))
        # No copy: the same memory.
        assert all(batch[name].data_ptr() == rows[-1][name].data_ptr() for name in batch)
    assert step == 3
