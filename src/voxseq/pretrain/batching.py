"""How a method draws its samples and what views it makes of them, without its networks."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voxseq.base.random import numpy_generator
from voxseq.config.data import SequencesConfig
from voxseq.config.methods import MethodSettings
from voxseq.sequences.assemble import assemble
from voxseq.sequences.raw import Raw
from voxseq.sequences.sampler import SequenceSampler
from voxseq.training.batches import stepwise
from voxseq.training.distributed import WHOLE, BatchShard
from voxseq.training.rows import Arrays, Field, Rows

Batch = dict[str, Tensor]
#: Number of a view → the generator of what is random about that view of an item.
Stream = Callable[[int], np.random.Generator]


class Batching:
    """The data side of a method: which items a batch has, and the views of them.

    It is no module and holds no tensor of one: worker processes get a copy, and may touch neither
    weights nor a device. They draw, as a few numbers, what is random about the views of an item;
    the voxels of the views are made by :meth:`views` in the process that trains, on its device.

    Args:
        settings: the method's own configuration.
        sequences: shape and order of the volumes.
        seed: of the method.

    Attributes:
        needs: which view of the data the method is fed.
        drawn: type of what :meth:`draw` gives, without fields where nothing is drawn.
    """

    needs: Literal["sequence", "image"] = "image"
    drawn: np.dtype[Any] = np.dtype([])

    def __init__(self, settings: MethodSettings, sequences: SequencesConfig, seed: int) -> None:
        self.settings = settings
        self.sequences = sequences
        self.seed = seed
        self.build()

    def build(self) -> None:
        """Derive from the settings what does not change."""

    def begin(self, total_steps: int, data: SequenceSampler) -> None:
        """As :meth:`voxseq.pretrain.base.PretrainMethod.begin`, which calls it first."""

    def choose(
        self, data: SequenceSampler, step: int, size: int, slot: int
    ) -> tuple[int, np.random.Generator]:
        """Choose the item of one place of a batch, as a function of step and place, and of the
        state at the beginning of the stage.

        Args:
            data: all training items.
            step: number of the batch.
            size: number of items in the whole batch.
            slot: place in the batch.

        Returns:
            The item's number in the training list, and the generator with which it is read.
        """
        return data.choose(step, size, slot)

    def draw(self, stream: Stream) -> NDArray[Any]:
        """Draw what is random about the views of one item.

        Args:
            stream: the item's own; nothing else is random.

        Returns:
            A record of type :attr:`drawn`, shape ().
        """
        del stream
        return np.zeros((), self.drawn)

    def views(self, volumes: Tensor, drawn: NDArray[Any], is_ct: NDArray[np.bool_]) -> Batch:
        """Make the batch that the method's losses take.

        Args:
            volumes: (B, 1, X, Y, Z) float32 in 0..1, on any device.
            drawn: (B,) records of :meth:`draw`.
            is_ct: (B,) whether each is CT.

        Returns:
            Entries with the sample (or sample and view) as first axis, on the same device;
            ``volume``, the volumes as they are, by default.
        """
        del drawn, is_ct
        return {"volume": volumes}


@dataclass(frozen=True)
class ItemRows(Rows):
    """This process's rows of the batches of a pre-training, as raw voxels; see :func:`volumes_of`.

    Attributes:
        size: samples of the whole batch.
        shard: the rows of this process; it reads no others.
    """

    batching: Batching
    sampler: SequenceSampler
    seed: int
    size: int
    shard: BatchShard = WHOLE

    @cached_property
    def _slots(self) -> list[int]:
        """Places in the whole batch of this process's rows."""
        own: list[int] = self.shard.local(torch.arange(self.size)).tolist()
        return own

    @property
    def count(self) -> int:  # type: ignore[override]
        """Rows of this process."""
        return len(self._slots)

    @cached_property
    def layout(self) -> Mapping[str, Field]:  # type: ignore[override]
        """Voxels as they are stored, their header, what was drawn for the views, and the id."""
        sequences = self.batching.needs == "sequence"
        return self._layout(self.sampler.row_bytes(sequences=sequences))

    def _layout(self, size: int) -> dict[str, Field]:
        return {
            "voxels": Field((size,), "uint8"),
            "header": Field((self.sampler.header.itemsize,), "uint8"),
            "drawn": Field((self.batching.drawn.itemsize,), "uint8"),
            "ids": Field((), "int64"),
        }

    def fill(self, step: int, row: int, out: Arrays) -> None:
        """Choose, read and draw one item."""
        slot = self._slots[row]
        number, generator = self.batching.choose(self.sampler, step, self.size, slot)
        raw = self.sampler.raw(number, generator, sequences=self.batching.needs == "sequence")
        self._write(raw, lambda view: numpy_generator(self.seed, "views", step, slot, view), out)

    def held_out(self, items: Sequence[Raw], first: int) -> Batch:
        """Rows of validation items, the same ones each time.

        Args:
            items: of :meth:`SequenceSampler.validation`.
            first: number of the first of them.
        """
        size = max(self.sampler.bytes_of(raw) for raw in items)
        batch = {
            name: np.zeros((len(items), *field.shape), field.dtype)
            for name, field in self._layout(size).items()
        }
        for row, raw in enumerate(items):
            out = {name: values[row, ...] for name, values in batch.items()}

            def stream(view: int, number: int = first + row) -> np.random.Generator:
                return numpy_generator(self.seed, "validation views", number, view)

            self._write(raw, stream, out)
        return {name: torch.from_numpy(values) for name, values in batch.items()}

    def _write(self, raw: Raw, stream: Stream, out: Arrays) -> None:
        # What lay here before may have had more parts.
        out["header"][...] = 0
        header = out["header"].view(self.sampler.header)[0]
        self.sampler.read_into(raw, out["voxels"], header)
        if self.batching.drawn.itemsize:
            out["drawn"].view(self.batching.drawn)[0] = self.batching.draw(stream)
        out["ids"][...] = raw.number


@dataclass(frozen=True)
class ListedRows(Rows):
    """Single images of some items of the training list, ``count`` at a time, in their order.

    An item gives the same image each time; behind the last one rows are left as they are.
    """

    sampler: SequenceSampler
    numbers: NDArray[np.int64]
    count: int  # type: ignore[misc]

    @cached_property
    def layout(self) -> Mapping[str, Field]:  # type: ignore[override]
        """Voxels as they are stored, and their header."""
        return {
            "voxels": Field((self.sampler.row_bytes(sequences=False),), "uint8"),
            "header": Field((self.sampler.header.itemsize,), "uint8"),
        }

    def fill(self, step: int, row: int, out: Arrays) -> None:
        """Read one item."""
        place = step * self.count + row
        if place >= len(self.numbers):
            return
        raw = self.sampler.raw(*listed_image(self.sampler.seed, int(self.numbers[place])))
        self.sampler.read_into(raw, out["voxels"], out["header"].view(self.sampler.header)[0])


def listed_image(seed: int, number: int) -> tuple[int, np.random.Generator]:
    """An item's number, and the generator that always gives the same image of it.

    Args:
        seed: of the sampler.
        number: in the training list.
    """
    return number, numpy_generator(seed, "rehearsal item", number)


def read_volumes(
    sampler: SequenceSampler,
    numbers: NDArray[np.int64],
    size: int,
    workers: int = 0,
    device: torch.device | None = None,
) -> Generator[Tensor, None, None]:
    """Single images (B, 1, X, Y, Z) float32 of some items, ``size`` at a time.

    Args:
        sampler: of all training items.
        numbers: in the training list.
        size: items at a time.
        workers: processes that read them.
        device: where the volumes are made; the CPU by default.
    """
    rows = ListedRows(sampler, numbers, size)
    with closing(stepwise(rows, 0, -(-len(numbers) // size), workers)) as batches:
        for step, batch in enumerate(batches):
            own = {name: v[: len(numbers) - step * size] for name, v in batch.items()}
            own["voxels"] = own["voxels"].to(device or "cpu")
            yield volumes_of(own, sampler.header, sampler.config)


def headers_of(rows: Batch, kind: np.dtype[Any]) -> NDArray[Any]:
    """The records (B,) of raw rows."""
    found: NDArray[Any] = rows["header"].numpy().view(kind)[:, 0]
    return found


def volumes_of(rows: Batch, header: np.dtype[Any], config: SequencesConfig) -> Tensor:
    """The volumes (B, 1, X, Y, Z) float32 of raw rows, on the device of their voxels."""
    return assemble(rows["voxels"], headers_of(rows, header), config)


def views_of(rows: Batch, volumes: Tensor, header: np.dtype[Any], batching: Batching) -> Batch:
    """The batch that a method's losses take, with the items' ``ids``.

    Args:
        rows: raw ones; all but the voxels are on the CPU.
        volumes: made of them by :func:`volumes_of`.
        header: type of their records.
        batching: of the method.
    """
    kind, count = batching.drawn, len(volumes)
    drawn = rows["drawn"].numpy().view(kind)[:, 0] if kind.itemsize else np.zeros(count, kind)
    is_ct = headers_of(rows, header)["ct"].astype(bool)
    return batching.views(volumes, drawn, is_ct) | {"ids": rows["ids"]}
