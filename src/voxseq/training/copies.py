"""Batches on their way to the device: the next one travels while this one is computed."""

from __future__ import annotations

from collections.abc import Generator

import torch

from voxseq.training.loop import Trainable
from voxseq.training.rows import Batch


def travelling(
    batches: Generator[Batch, None, None], trainable: Trainable
) -> Generator[Batch, None, None]:
    """The batches on the device of a module's weights.

    On a CUDA GPU a stream of its own copies a batch while the one before is computed; the copy has
    long been made when the next batch is asked for, which reuses the memory.

    Args:
        batches: as :func:`voxseq.training.batches.stepwise` gives them; closed at the end.
        trainable: says how they are moved.
    """
    device = next(trainable.parameters()).device
    try:
        if device.type == "cuda":
            yield from _ahead(batches, trainable, device)
        else:
            yield from (trainable.transfer(batch, device) for batch in batches)
    finally:
        batches.close()


def _ahead(
    batches: Generator[Batch, None, None], trainable: Trainable, device: torch.device
) -> Generator[Batch, None, None]:
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    before: tuple[Batch, torch.cuda.Event] | None = None
    for batch in batches:
        with torch.cuda.stream(stream):
            moved = trainable.transfer(batch, device)
        event = stream.record_event()
        if before is not None:
            yield _arrived(*before)
        before = moved, event
        # Its memory is written to again when a batch is asked for.
        event.synchronize()
    if before is not None:
        yield _arrived(*before)


def _arrived(batch: Batch, event: torch.cuda.Event) -> Batch:
    """The batch, for the stream that computes."""
    stream = torch.cuda.current_stream()
    stream.wait_event(event)
    for value in batch.values():
        if value.is_cuda:
            # Its memory was taken for the other stream.
            value.record_stream(stream)
    return batch
