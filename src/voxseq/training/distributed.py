"""One training in several processes (data parallel): each computes an equal shard of every batch.

Every process draws the random numbers of the global batch and uses those of its own rows, so the
batch does not depend on the number of processes. The mean of the shards' losses is the loss of the
global batch, and averaged gradients are its gradient. Where samples interact (negatives, batch
statistics) rows are gathered with their gradients. A single process communicates nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from voxseq.config.execution import DeviceConfig
from voxseq.training.device import Accelerator, Autocast, accelerator
from voxseq.training.launched import local_world_size, world_size
from voxseq.training.pieces import normalised

Batch = dict[str, Tensor]
#: The other ranks wait while rank 0 checks its inputs; lost ones are noticed at once.
TIMEOUT = timedelta(hours=6)
#: Entry of a batch with the numbers of its items, for messages; it is not sharded.
IDS = "ids"


@dataclass(frozen=True)
class BatchShard:
    """Rows of the global batch that a forward pass has: shard ``index`` of ``parts`` equal ones."""

    index: int = 0
    parts: int = 1

    def global_size(self, rows: int) -> int:
        """Number of rows of the global batch, of which ``rows`` are in this shard."""
        return rows * self.parts

    def local(self, whole: Tensor) -> Tensor:
        """This shard's slice of a global-batch tensor."""
        return whole if self.parts == 1 else whole.chunk(self.parts)[self.index]

    def gather(self, rows: Tensor) -> Tensor:
        """The rows of all shards in order; gradients flow back to the ranks that they are from.

        Raises:
            ValueError: the shards are accumulated one by one instead of one per process.
        """
        if self.parts == 1:
            return rows
        self._require_one_per_process()
        padded = rows.new_zeros(self.parts, *rows.shape)
        padded[self.index] = rows
        return _total(padded).flatten(0, 1)

    def mean(self, value: Tensor) -> Tensor:
        """Mean over all shards of a statistic of equally many values, without gradient."""
        if self.parts == 1:
            return value
        self._require_one_per_process()
        return _summed(value) / self.parts

    def _require_one_per_process(self) -> None:
        if self.parts != processes().world_size:
            raise ValueError("samples of several shards interact; they cannot be accumulated")


WHOLE = BatchShard()


def _summed(value: Tensor) -> Tensor:
    """Sum over the processes, without gradient."""
    total = value.detach().clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total


class _Total(torch.autograd.Function):
    """Sum over the processes. Its gradient is that of the sum of the losses of all of them."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return _summed(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return _summed(gradient)


def _total(value: Tensor) -> Tensor:
    total: Tensor = _Total.apply(value)  # type: ignore[no-untyped-call]
    return total


def shard_of(batch: Mapping[str, Tensor], shard: BatchShard) -> Batch:
    """A shard of every entry of a batch but :data:`IDS`."""
    return {name: v if name == IDS else shard.local(v) for name, v in batch.items()}


@dataclass(frozen=True)
class Processes:
    """The processes of this training.

    Attributes:
        rank: number of this one, from 0.
        world_size: how many there are.
    """

    rank: int = 0
    world_size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process, of rank 0, writes files and logs for all."""
        return self.rank == 0

    def any(self, here: bool) -> bool:
        """Whether it holds on any rank; a collective call."""
        if self.world_size == 1:
            return here
        return _summed(torch.tensor([float(here)])).item() > 0

    def mean(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Mean of each scalar over the ranks; the values themselves in a single process."""
        if self.world_size == 1:
            return dict(values)
        together = _summed(torch.stack([value.float() for value in values.values()]))
        return dict(zip(values, together / self.world_size, strict=True))

    def gather(self, value: Any) -> list[Any]:
        """The values of all ranks in order, on each of them; small ones that can be pickled."""
        if self.world_size == 1:
            return [value]
        found: list[Any] = [None] * self.world_size
        dist.all_gather_object(found, value)
        return found

    def barrier(self) -> None:
        """Wait until all processes are here."""
        # Not torch's barrier, which would choose a GPU by itself.
        self.any(False)

    def broadcast(self, number: int) -> int:
        """Broadcast an integer from rank 0."""
        return int(self.broadcast_tensor(torch.tensor([number])).item())

    def broadcast_tensor(self, values: Tensor) -> Tensor:
        """Broadcast rank 0's tensor; the others give one of its shape, which is overwritten."""
        if self.world_size > 1:
            dist.broadcast(values, src=0)
        return values

    def sum(self, values: Tensor) -> Tensor:
        """Sum over the ranks, without gradient; the values themselves in a single process."""
        return values if self.world_size == 1 else _summed(values)

    def fabric(self, precision: str, device: DeviceConfig | None = None) -> Fabric:
        """Fabric on this process's device; with several processes it averages gradients (DDP).

        Args:
            precision: as Fabric names it.
            device: kind of device; by default the one that "auto" means.

        Raises:
            ConfigError: the device is not there.
        """
        kind = accelerator(device or DeviceConfig())
        mixed = precision in ("16-mixed", "bf16-mixed")
        here = local_world_size(self.world_size)
        # A step may leave weights out, such as the decoder of another scale.
        strategy = DDPStrategy(find_unused_parameters=True) if self.world_size > 1 else "auto"
        fabric = Fabric(
            accelerator=kind,
            devices=here,
            num_nodes=self.world_size // here,
            precision=None if mixed else precision,  # type: ignore[arg-type]
            plugins=Autocast(precision, kind) if mixed else None,  # type: ignore[arg-type]
            strategy=strategy,
        )
        if self.world_size > 1:
            fabric.launch()
        return fabric


def processes() -> Processes:
    """The processes of this training; this one alone before :func:`init_processes`."""
    if not (dist.is_available() and dist.is_initialized()):
        return Processes()
    return Processes(dist.get_rank(), dist.get_world_size())


def init_processes() -> Processes:
    """Initialise the process group, if this training was launched with several processes."""
    if world_size() > 1 and not dist.is_initialized():
        on_gpu = torch.cuda.is_available()
        dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=TIMEOUT)
    return processes()


def close_processes() -> None:
    """Destroy the process group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


class SynchronisedBatchNorm(_BatchNorm):
    """Batch norm over the rows of all processes, on any device; PyTorch's own needs GPUs.

    Weights, statistics and their names are those of the norm that it replaces, so checkpoints do
    not depend on the number of processes.
    """

    @classmethod
    def of(cls, norm: _BatchNorm) -> SynchronisedBatchNorm:
        """One with the very parameters, buffers and settings of ``norm``."""
        made = cls(norm.num_features)
        vars(made).update(vars(norm))
        return made

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"{input.ndim} axes: expected (B, C, …)")

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (B, C, …) by channel; every process has equally many rows."""
        self._check_input_dim(input)
        return normalised(self, input) if self.training else super().forward(input)


def synchronise_batch_norms(module: nn.Module, device: Accelerator = "cpu") -> None:
    """Replace every batch norm inside ``module`` by one over the rows of all processes.

    Args:
        module: changed in place.
        device: kind of the device that computes; on CUDA the norms are PyTorch's own.
    """
    if device == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
        return
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, _BatchNorm):
                setattr(parent, name, SynchronisedBatchNorm.of(child))
