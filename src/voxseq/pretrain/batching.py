"""How a method draws its samples and makes batches of them: plain data, for worker processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from voxseq.base.random import numpy_generator
from voxseq.config.data import SequencesConfig
from voxseq.config.methods import MethodSettings
from voxseq.sequences.sampler import SequenceSampler
from voxseq.training.distributed import WHOLE, BatchShard, shard_of
from voxseq.transforms.spatial import Item

Batch = dict[str, Tensor]


def stack(items: Sequence[Item]) -> Tensor:
    """Volumes of items as one tensor (B, 1, X, Y, Z) float32."""
    volume = np.stack([item.volume for item in items])[:, None]
    return torch.from_numpy(np.ascontiguousarray(volume, dtype=np.float32))


class Batching:
    """The data side of a method: which items a batch has, and the views of them.

    It is no module and holds no tensor of one: worker processes get a copy, and may touch neither
    weights nor a device. All random numbers come from the generators that are handed in, or from
    streams that are functions of the seed and the step.

    Args:
        settings: the method's own configuration.
        sequences: shape and order of the volumes.
        seed: of the method.

    Attributes:
        needs: which view of the data the method is fed.
        per_sample: whether :meth:`collate` makes every row from its item alone and draws nothing.
            Then each process reads its own items only; otherwise all make the global batch, because
            its views are drawn from one stream.
    """

    needs: Literal["sequence", "image"] = "image"
    per_sample: ClassVar[bool] = False

    def __init__(self, settings: MethodSettings, sequences: SequencesConfig, seed: int) -> None:
        self.settings = settings
        self.sequences = sequences
        self.seed = seed
        self.build()

    def build(self) -> None:
        """Derive from the settings what does not change."""

    def begin(self, total_steps: int, data: SequenceSampler) -> None:
        """As :meth:`voxseq.pretrain.base.PretrainMethod.begin`, which calls it first."""

    def draw(
        self, data: SequenceSampler, step: int, size: int, slots: Sequence[int] | None = None
    ) -> list[Item]:
        """Choose the items of one batch, as a function of the step and of the state at the
        beginning of the stage.

        Args:
            data: all training items.
            step: number of the batch.
            size: number of items in the whole batch.
            slots: places in the batch whose items are wanted, where :attr:`per_sample` holds.
        """
        return data.batch(step, size, slots, sequences=self.needs == "sequence")

    def collate(self, items: Sequence[Item], rng: np.random.Generator) -> Batch:
        """Make a batch; methods with several views make them here.

        Args:
            items: samples of equal shape.
            rng: stream of this batch, for augmentation.

        Returns:
            ``volume``: (B, 1, X, Y, Z) float32; other methods return their own tensors, each with
            the sample (or sample and view) as first axis.
        """
        del rng
        return {"volume": stack(items)}


@dataclass(frozen=True)
class StepBatches:
    """This process's rows of the batch of a step; the batch is a function of seed and step.

    Attributes:
        size: samples of the whole batch.
        shard: the rows of this process. Views that are drawn from one stream need the whole batch.
    """

    batching: Batching
    sampler: SequenceSampler
    seed: int
    size: int
    shard: BatchShard = WHOLE

    def __call__(self, step: int) -> Batch:
        """Rows of one step with their ``ids``; each tensor owns its storage."""
        if self.batching.per_sample:
            own = self.shard.local(torch.arange(self.size)).tolist()
            items = self.batching.draw(self.sampler, step, self.size, own)
            return self.collated(items, "views", step)
        items = self.batching.draw(self.sampler, step, self.size)
        whole = self.collated(items, "views", step)
        if self.shard.parts == 1:
            return whole
        # A view would carry the whole batch along: to the main process, and in its memory.
        return {name: rows.clone() for name, rows in shard_of(whole, self.shard).items()}

    def collated(self, items: list[Item], purpose: str, number: int) -> Batch:
        """A batch of these items, with views from the stream of a purpose and a number."""
        batch = self.batching.collate(items, numpy_generator(self.seed, purpose, number))
        return batch | {"ids": torch.tensor([item.id for item in items])}
