"""One training by several processes: each computes an equal share of every batch.

Every process draws the random numbers of the whole batch and uses those of its rows, so the batch
is the same however many share it. The mean of what the shares return is the loss of the whole
batch, and averaged gradients are its gradient. Where items of a batch meet (negatives, statistics)
rows are gathered with their gradients. In a single process nothing of this computes anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy, Strategy
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from voxseq.training import sharding
from voxseq.training.launched import processes, processes_here

Batch = dict[str, Tensor]
#: The others wait while the first process checks its inputs; lost ones are noticed at once.
TIMEOUT = timedelta(hours=6)
#: Entry of a batch that names the items it was made of, for messages; it is not divided.
IDS = "ids"


@dataclass(frozen=True)
class Share:
    """Which rows of the whole batch a forward pass has: part ``index`` of ``parts`` equal ones."""

    index: int = 0
    parts: int = 1

    def whole(self, rows: int) -> int:
        """Number of rows of the whole batch, of which ``rows`` are here."""
        return rows * self.parts

    def own(self, whole: Tensor) -> Tensor:
        """The rows of this part, of a tensor with a row for each item of the whole batch."""
        return whole if self.parts == 1 else whole.chunk(self.parts)[self.index]

    def gather(self, rows: Tensor) -> Tensor:
        """The rows of all parts, in order; gradients flow back to where the rows are from.

        Raises:
            ValueError: when the parts are not those of the processes, but come one by one.
        """
        if self.parts == 1:
            return rows
        self._require_together()
        gathered: Tensor = _Gathered.apply(rows)  # type: ignore[no-untyped-call]
        return gathered

    def mean(self, value: Tensor) -> Tensor:
        """Mean of a statistic of equally many values over all parts, without gradient."""
        if self.parts == 1:
            return value
        self._require_together()
        return _summed(value) / self.parts

    def _require_together(self) -> None:
        if self.parts != team().size:
            raise ValueError("items of different parts meet; such a batch cannot be accumulated")


WHOLE = Share()


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


class _Gathered(torch.autograd.Function):
    """Rows of all processes in the order of their ranks; gradients as of :class:`_Total`."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        parts = [rows.new_empty(rows.shape) for _ in range(team().size)]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        here = team()
        return _summed(gradient).chunk(here.size)[here.rank]


def share_of(batch: Mapping[str, Tensor], share: Share) -> Batch:
    """A part of every entry of a batch but :data:`IDS`."""
    return {name: v if name == IDS else share.own(v) for name, v in batch.items()}


@dataclass(frozen=True)
class Team:
    """The processes of this training.

    Attributes:
        rank: number of this one, from 0.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and logs for all."""
        return self.rank == 0

    def any(self, here: bool) -> bool:
        """Whether it holds in one process or more; all call this at the same point."""
        if self.size == 1:
            return here
        return _summed(torch.tensor([float(here)])).item() > 0

    def mean(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Mean of each scalar over the processes; the values themselves in a single one."""
        if self.size == 1:
            return dict(values)
        together = _summed(torch.stack([value.float() for value in values.values()]))
        return dict(zip(values, together / self.size, strict=True))

    def wait(self) -> None:
        """Wait until all processes are here."""
        # Not a barrier, which would choose a GPU by itself.
        self.any(False)

    def tell(self, number: int) -> int:
        """The number that the first process gives, in all of them."""
        told = torch.tensor([number])
        if self.size > 1:
            dist.broadcast(told, src=0)
        return int(told.item())

    def fabric(self, precision: str, units: tuple[type[nn.Module], ...] | None = None) -> Fabric:
        """What moves a training to this process's device, and averages gradients.

        Args:
            precision: as Fabric names it.
            units: weights are divided among several processes, by these kinds of modules; None:
                every process has all weights.
        """
        if self.size == 1:
            return Fabric(accelerator="auto", devices=1, precision=precision)  # type: ignore[arg-type]
        here = processes_here(self.size)
        strategy: Strategy
        if units is None:
            # A step may leave weights out, such as the decoder of another scale.
            strategy = DDPStrategy(find_unused_parameters=True)
        else:
            strategy = sharding.strategy(units, self.size)
        made = Fabric(
            accelerator="auto",
            devices=here,
            num_nodes=self.size // here,
            precision=precision,  # type: ignore[arg-type]
            strategy=strategy,
        )
        made.launch()
        return made


def team() -> Team:
    """The processes that have joined; this one alone before :func:`join`."""
    if not (dist.is_available() and dist.is_initialized()):
        return Team()
    return Team(dist.get_rank(), dist.get_world_size())


def join() -> Team:
    """Meet the other processes of this training, if it was launched with several."""
    if processes() > 1 and not dist.is_initialized():
        on_gpu = torch.cuda.is_available()
        dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=TIMEOUT)
    return team()


def leave() -> None:
    """Part from the other processes."""
    if dist.is_initialized():
        dist.destroy_process_group()


def _total(value: Tensor) -> Tensor:
    total: Tensor = _Total.apply(value)  # type: ignore[no-untyped-call]
    return total


class SynchronisedBatchNorm(_BatchNorm):
    """Batch norm over the rows of all processes, on any device.

    PyTorch's own runs on GPUs only. Weights, statistics and their names are those of the norm that
    it takes the place of, so checkpoints do not depend on the number of processes.
    """

    @classmethod
    def of(cls, norm: _BatchNorm) -> SynchronisedBatchNorm:
        """One with the very parameters and buffers of ``norm``."""
        made = cls(
            norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats
        )
        made.weight, made.bias, made.training = norm.weight, norm.bias, norm.training
        made.running_mean, made.running_var = norm.running_mean, norm.running_var
        made.num_batches_tracked = norm.num_batches_tracked
        return made

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"{input.ndim} axes: expected (B, C, …)")

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (B, C, …) by channel; every process has equally many rows."""
        self._check_input_dim(input)
        if not self.training:
            return super().forward(input)
        size = team().size
        axes = [0, *range(2, input.ndim)]
        shape = (1, -1, *[1] * (input.ndim - 2))
        values = input.to(torch.promote_types(input.dtype, torch.float32))
        mean = _total(values.mean(axes)) / size
        centred = values - mean.view(shape)
        variance = _total(centred.square().mean(axes)) / size
        self._remember(mean, variance, size * input.numel() // input.shape[1])
        normalised: Tensor = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            normalised = normalised * self.weight.view(shape) + self.bias.view(shape)
        return normalised.to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, count: int) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        factor = self.momentum
        if factor is None:
            factor = 1.0 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean), factor)
        unbiased = variance * (count / max(count - 1, 1))
        self.running_var.lerp_(unbiased.to(self.running_var), factor)


def synchronise_batch_norms(module: nn.Module) -> None:
    """Let every batch norm inside ``module`` see the rows of all processes."""
    _replace(module, _BatchNorm, SynchronisedBatchNorm.of)


def _replace(
    module: nn.Module, kind: type[_BatchNorm], make: Callable[[_BatchNorm], nn.Module]
) -> None:
    for name, child in module.named_children():
        if isinstance(child, kind):
            setattr(module, name, make(child))
        else:
            _replace(child, kind, make)
