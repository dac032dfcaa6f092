"""Layers computed piece by piece of the batch, batch norms included; few activations are kept.

Samples interact in a batch norm alone, through its mean and its variance. With these known, rows
pass it independently, so a batch can be computed in pieces of a few rows: forward, and again in the
backward pass, where the gradient needs two sums over the batch besides. What is kept is the input
of each batch norm. The same computation serves norms over the rows of several processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

#: Makes the context in which layers compute.
Precision = Callable[[], AbstractContextManager[Any]]
#: Most numbers in the input of a piece: half a GB in 16 bits.
PIECE = 2**28


def in_pieces(layers: Sequence[nn.Module], inputs: Tensor) -> Tensor:
    """Apply layers in training, and keep the inputs of batch norms alone for the backward pass.

    Loss and gradients are those of the layers themselves but for rounding; batch norms update
    their statistics once.

    Args:
        layers: applied one after the other; none but batch norms may let samples interact.
        inputs: (B, …).
    """
    for segment in _segments(layers):
        inputs = _apply(segment, inputs)
    return inputs


def normalised(norm: _BatchNorm, inputs: Tensor) -> Tensor:
    """Batch norm in training of (B, C, …), over the rows of all processes, equally many in each.

    It keeps its input for the backward pass, and needs one collective call in each direction.
    """
    return _apply(_Segment(norm, ()), inputs)


@dataclass(frozen=True)
class _Segment:
    """A batch norm, or none, and the layers up to the next one."""

    norm: _BatchNorm | None
    layers: tuple[nn.Module, ...]

    def rows(self, inputs: Tensor) -> Iterator[slice]:
        """Rows of each piece; a norm alone is computed at once."""
        count = len(inputs)
        size = max(PIECE * count // inputs.numel(), 1) if self.layers else count
        for first in range(0, count, size):
            yield slice(first, min(first + size, count))

    def compute(self, rows: Tensor) -> Tensor:
        """Outputs of the layers for some rows."""
        for layer in self.layers:
            rows = layer(rows)
        return rows

    def parameters(self) -> list[nn.Parameter]:
        """The trained parameters of the layers; the norm's own are apart."""
        found = [p for layer in self.layers for p in layer.parameters()]
        return [parameter for parameter in found if parameter.requires_grad]


@dataclass(frozen=True)
class _Known:
    """A batch norm with the statistics of its batch: (C,) each, in single precision at least."""

    mean: Tensor
    variance: Tensor
    weight: Tensor
    bias: Tensor
    eps: float

    def normalise(self, rows: Tensor) -> Tensor:
        """Normalise (B, C, …) by channel."""
        return functional.batch_norm(
            rows, self.mean, self.variance, self.weight, self.bias, False, 0.0, self.eps
        )

    def gradient(self, outer: Tensor, rows: Tensor, sums: Tensor, count: int) -> Tensor:
        """Gradient of the input, in single precision at least.

        Args:
            outer: gradient (B, C, …) of the normalised rows.
            rows: the input.
            sums: (2, C): over the whole batch, of that gradient times the input normalised without
                weights, and of that gradient.
            count: values of a channel in the whole batch.
        """
        shape = (1, -1, *[1] * (rows.ndim - 2))
        deviation = torch.rsqrt(self.variance + self.eps)
        slope, constant = sums / count
        centred = rows.to(deviation.dtype) - self.mean.view(shape)
        centred = centred * (slope * deviation).view(shape) + constant.view(shape)
        result: Tensor = (outer - centred) * (deviation * self.weight).view(shape)
        return result


class _Pieces(torch.autograd.Function):
    """A segment: its input is kept, all else is computed again."""

    @staticmethod
    def forward(
        ctx: Any,
        segment: _Segment,
        inputs: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        *parameters: Tensor,
    ) -> Tensor:
        ctx.segment, ctx.parameters = segment, parameters
        ctx.precision = _precision(inputs.device.type)
        statistics = () if segment.norm is None else _statistics(segment, inputs)
        ctx.save_for_backward(inputs, weight, bias, *statistics)
        known = _known(segment, weight, bias, *statistics)
        result: Tensor | None = None
        with ctx.precision():
            for rows in segment.rows(inputs):
                given = inputs[rows] if known is None else known.normalise(inputs[rows])
                piece = segment.compute(given)
                del given
                if len(piece) == len(inputs):
                    return piece
                if result is None:
                    result = piece.new_empty(len(inputs), *piece.shape[1:])
                result[rows] = piece
        assert result is not None
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight, bias, *statistics = ctx.saved_tensors
        segment: _Segment = ctx.segment
        known = _known(segment, weight, bias, *statistics)
        found = torch.empty_like(inputs)
        sums: list[Tensor] = []
        for rows in segment.rows(inputs):
            found[rows], *parts = _differentiated(
                segment, inputs[rows], known, ctx.parameters, gradient[rows], ctx.precision
            )
            sums = [a + b for a, b in zip(sums, parts, strict=True)] if sums else parts
        if known is None:
            return None, found, None, None, *sums
        total = _summed(torch.stack(sums[:2]))
        count = inputs.numel() // inputs.shape[1] * _world_size()
        for rows in segment.rows(inputs):
            found[rows] = known.gradient(found[rows], inputs[rows], total, count)
        slope, shift, *others = sums
        return (
            None,
            found,
            None if weight is None else slope,
            None if bias is None else shift,
            *others,
        )


def _differentiated(
    segment: _Segment,
    rows: Tensor,
    known: _Known | None,
    parameters: Sequence[Tensor],
    gradient: Tensor,
    precision: Precision,
) -> list[Tensor]:
    """Gradients of some rows, normalised where there is a norm, and of all weights."""
    if known is None:
        rows = rows.detach().requires_grad_()
        with torch.enable_grad(), precision():
            outputs = segment.compute(rows)
        return list(torch.autograd.grad(outputs, [rows, *parameters], gradient))
    outer: list[Tensor] = []
    with torch.enable_grad(), precision():
        normal = known.normalise(rows)
        # Its gradient in the type that it has; a layer may then change it in place.
        normal.register_hook(outer.append)  # type: ignore[no-untyped-call]
        outputs = segment.compute(normal)
    del normal
    weights = [known.weight, known.bias, *parameters]
    parts = torch.autograd.grad(outputs, weights, gradient)
    return [*outer, *parts]


def _apply(segment: _Segment, inputs: Tensor) -> Tensor:
    norm = segment.norm
    own = (None, None) if norm is None else (norm.weight, norm.bias)
    result: Tensor = _Pieces.apply(segment, inputs, *own, *segment.parameters())  # type: ignore[no-untyped-call]
    return result


def _segments(layers: Sequence[nn.Module]) -> Iterator[_Segment]:
    norm: _BatchNorm | None = None
    after: list[nn.Module] = []
    for layer in layers:
        if not isinstance(layer, _BatchNorm):
            after.append(layer)
            continue
        if norm is not None or after:
            yield _Segment(norm, tuple(after))
        norm, after = layer, []
    yield _Segment(norm, tuple(after))


def _known(
    segment: _Segment, weight: Tensor | None, bias: Tensor | None, *statistics: Tensor
) -> _Known | None:
    """The norm with its statistics, and weights whose gradient can be asked for."""
    if segment.norm is None:
        return None
    mean, variance = statistics
    scale = torch.ones_like(mean) if weight is None else weight.detach()
    shift = torch.zeros_like(mean) if bias is None else bias.detach()
    return _Known(mean, variance, scale.requires_grad_(), shift.requires_grad_(), segment.norm.eps)


def _statistics(segment: _Segment, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance (C,) of a batch, over all processes; the running ones follow."""
    axes = [0, *range(2, inputs.ndim)]
    dtype = torch.promote_types(inputs.dtype, torch.float32)
    variances, means, counts = [], [], []
    for rows in segment.rows(inputs):
        values = inputs[rows].to(dtype)
        variance, mean = torch.var_mean(values, axes, correction=0)
        variances.append(variance)
        means.append(mean)
        counts.append(values.numel() // values.shape[1])
        del values
    weights = torch.tensor(counts, dtype=dtype, device=inputs.device)[:, None] / sum(counts)
    mean, variance = _pooled(torch.stack(means), torch.stack(variances), weights)
    size = _world_size()
    if size > 1:
        # One call for both; rows of the other processes are 0 here.
        everywhere = mean.new_zeros(size, 2, len(mean))
        everywhere[dist.get_rank()] = torch.stack([mean, variance])
        means_of_all, variances_of_all = _summed(everywhere).unbind(1)
        equal = torch.full_like(means_of_all[:, :1], 1 / size)
        mean, variance = _pooled(means_of_all, variances_of_all, equal)
    assert segment.norm is not None
    _update_statistics(segment.norm, mean, variance, sum(counts) * size)
    return mean, variance


def _pooled(means: Tensor, variances: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of parts together: (N, C) each, with shares (N, 1) of all values."""
    mean = (weights * means).sum(dim=0)
    return mean, (weights * (variances + (means - mean).square())).sum(dim=0)


def _update_statistics(norm: _BatchNorm, mean: Tensor, variance: Tensor, count: int) -> None:
    if norm.running_mean is None or norm.running_var is None:
        return
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked.add_(1)
    factor = norm.momentum
    if factor is None:
        factor = 1.0 / float(norm.num_batches_tracked)
    norm.running_mean.lerp_(mean.to(norm.running_mean), factor)
    unbiased = variance * (count / max(count - 1, 1))
    norm.running_var.lerp_(unbiased.to(norm.running_var), factor)


def _precision(device: str) -> Precision:
    """Autocast as it is now. A weight that it rounds without a graph must not stay in its cache."""
    return partial(
        torch.autocast,
        device,
        dtype=torch.get_autocast_dtype(device),
        enabled=torch.is_autocast_enabled(device),
        cache_enabled=False,
    )


def _world_size() -> int:
    is_group = dist.is_available() and dist.is_initialized()
    return dist.get_world_size() if is_group else 1


def _summed(value: Tensor) -> Tensor:
    """Sum over the processes."""
    if _world_size() == 1:
        return value
    total = value.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total
