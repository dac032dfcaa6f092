"""Floating-point operations of every network and method, from its configuration.

A multiply-add counts as two operations. Counted are matrix products, attention and convolutions;
norms, activations and losses are left out, which is under 2 % at paper scale. Linear maps cost as
much again for the gradient of their weights, and again for that of their input: a training pass is
three forward passes, two where no input gradient is wanted, one where nothing is trained.

Tests hold these formulas against PyTorch's own counter. Nothing here imports torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Self

from voxseq.config.base import Shape3
from voxseq.config.model import EncoderConfig

#: Forward, weight gradient, input gradient.
FULL, FIRST, FROZEN = 3, 2, 1


@dataclass(frozen=True)
class Work:
    """Cost of one pass; matrix products and convolutions apart, for they run at different rates.

    Attributes:
        matrix: operations of matrix products in a forward pass.
        convolution: those of convolutions.
        matrix_training: operations of matrix products, forward and backward.
        convolution_training: those of convolutions.
        parameters: weights of the maps, biases and norms left out.
        trained: those of them that learn.
    """

    matrix: float = 0.0
    convolution: float = 0.0
    matrix_training: float = 0.0
    convolution_training: float = 0.0
    parameters: float = 0.0
    trained: float = 0.0

    def __add__(self, other: Work) -> Self:
        return self._made(getattr(self, f.name) + getattr(other, f.name) for f in fields(self))

    def times(self, count: float) -> Self:
        """Operations of ``count`` passes through the same weights."""
        return self._made(
            getattr(self, f.name) * (1 if f.name in ("parameters", "trained") else count)
            for f in fields(self)
        )

    def copies(self, count: float) -> Self:
        """The same so many times, each with weights of its own."""
        return self._made(getattr(self, f.name) * count for f in fields(self))

    def frozen(self) -> Self:
        """The same without a backward pass: momentum encoders, teachers, frozen encoders."""
        return self._made(
            (self.matrix, self.convolution, self.matrix, self.convolution, self.parameters, 0.0)
        )

    @property
    def forward(self) -> float:
        """Operations of a forward pass."""
        return self.matrix + self.convolution

    @property
    def training(self) -> float:
        """Operations of a forward and a backward pass."""
        return self.matrix_training + self.convolution_training

    @classmethod
    def _made(cls, values: Iterable[float]) -> Self:
        return cls(*values)


def total(parts: Iterable[Work]) -> Work:
    """Sum of several costs."""
    return sum(parts, Work())


def matrix(rows: float, inside: int, outside: int, passes: int = FULL) -> Work:
    """Linear map of ``rows`` vectors from ``inside`` to ``outside`` channels."""
    forward = 2.0 * rows * inside * outside
    weights = float(inside * outside)
    trained = weights if passes > FROZEN else 0.0
    return Work(forward, 0.0, passes * forward, 0.0, weights, trained)


def convolution(voxels: float, kernel: int, inside: int, outside: int, passes: int = FULL) -> Work:
    """Convolution with ``kernel`` weights a channel pair.

    Args:
        voxels: of the output; of the input for a transposed convolution.
        kernel: 27 for 3 x 3 x 3.
        inside: input channels.
        outside: output channels.
        passes: as in the module's first paragraph.
    """
    forward = 2.0 * voxels * kernel * inside * outside
    weights = float(kernel * inside * outside)
    return Work(0.0, forward, 0.0, passes * forward, weights, weights)


def attention(tokens: float, width: int) -> Work:
    """Scores and their product with the values, over all pairs of tokens; a mask saves nothing."""
    forward = 4.0 * tokens**2 * width
    return Work(forward, 0.0, FULL * forward, 0.0)


def blocks(
    views: Sequence[int], width: int, depth: int, mlp_width: int, wanted: float | None = None
) -> Work:
    """Transformer blocks that see one sequence of tokens for each view.

    Args:
        views: tokens of each.
        width: channels of a token.
        depth: number of blocks.
        mlp_width: channels inside the MLP.
        wanted: tokens of all views whose outputs the last block computes; None: all.
    """
    rows = sum(views)
    mixing = matrix(rows, width, 3 * width) + total(attention(n, width) for n in views)

    def after(count: float) -> Work:
        maps = ((width, width), (width, mlp_width), (mlp_width, width))
        return total(matrix(count, *channels) for channels in maps)

    last = mixing + after(rows if wanted is None else wanted)
    return (mixing + after(rows)).copies(depth - 1) + last


def encoder(
    config: EncoderConfig,
    views: Sequence[int],
    *,
    embedding_passes: int = FIRST,
    wanted: float | None = None,
) -> Work:
    """The shared encoder on views of so many tokens each, with the start token added to each.

    ``wanted`` is as in :func:`blocks`.
    """
    embedding = matrix(sum(views), math.prod(config.patch_size), config.width, embedding_passes)
    states = [tokens + 1 for tokens in views]
    return embedding + blocks(states, config.width, config.depth, config.mlp_width, wanted)


def tokens_of(shape: Shape3, config: EncoderConfig) -> int:
    """Tokens of a volume, the start token not counted."""
    return math.prod(s // p for s, p in zip(shape, config.patch_size, strict=True))


def residual_block(voxels: float, inside: int, outside: int, passes: int = FULL) -> Work:
    """Two 3³ convolutions, and a 1³ one beside them where the channels change (MONAI)."""
    made = convolution(voxels, 27, inside, outside, passes)
    made += convolution(voxels, 27, outside, outside)
    if inside != outside:
        made += convolution(voxels, 1, inside, outside, passes)
    return made


def double_convolution(voxels: float, inside: int, outside: int, passes: int = FULL) -> Work:
    """Two 3³ convolutions one after the other."""
    first = convolution(voxels, 27, inside, outside, passes)
    return first + convolution(voxels, 27, outside, outside)
