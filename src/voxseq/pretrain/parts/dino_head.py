"""Head and loss of DINO (Caron et al. 2021, sections 3.1 and 3.2; published code)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

#: Standard deviation of the initial weights of the head's first layers, and the number of hidden
#: channels for which it is published.
WEIGHT_SD = 0.02
PUBLISHED_HIDDEN = 2048


class DINOHead(nn.Module):
    """Three layers, length 1, and a layer whose weight vectors all have length 1.

    Linear layers with GELU between them and no batch norm lead to a bottleneck, which is
    L2-normalised. The last layer has no bias and is weight-normalised with its gain held at 1, so
    that outputs are cosines.

    Args:
        width: channels of the features.
        hidden: channels of the two inner layers.
        bottleneck: channels that are normalised.
        output: dimensions of the result.
    """

    def __init__(self, width: int, hidden: int, bottleneck: int, output: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, bottleneck),
        )
        deviation = WEIGHT_SD * math.sqrt(PUBLISHED_HIDDEN / hidden)
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=deviation)
                nn.init.zeros_(layer.bias)
        self.last = parametrizations.weight_norm(nn.Linear(bottleneck, output, bias=False))
        self.gain.requires_grad_(False).fill_(1.0)

    @property
    def gain(self) -> Tensor:
        """Lengths of the last layer's weight vectors: (output, 1), fixed."""
        gain: Tensor = self.last.get_parameter("parametrizations.weight.original0")
        return gain

    @property
    def direction(self) -> Tensor:
        """Weights of the last layer before they are normalised: (output, bottleneck)."""
        direction: Tensor = self.last.get_parameter("parametrizations.weight.original1")
        return direction

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, width) to (B, output), in -1..1."""
        outputs: Tensor = self.last(functional.normalize(self.layers(features), dim=-1))
        return outputs


@torch.no_grad()
def teacher_distribution(outputs: Tensor, centre: Tensor, temperature: float) -> Tensor:
    """Centre and sharpen the teacher's outputs: softmax((outputs - centre) / temperature).

    Args:
        outputs: (..., K).
        centre: (K,).
        temperature: positive.

    Returns:
        (..., K) float32, without gradient.
    """
    return functional.softmax((outputs.float() - centre) / temperature, dim=-1)


def dino_loss(student: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Mean cross-entropy over all pairs of a teacher's view and another view of the student.

    Args:
        student: (S, B, K) outputs for S views, of which the first T are the teacher's.
        targets: (T, B, K) distributions of the teacher, T <= S and S > 1.
        temperature: of the student's softmax.

    Returns:
        Scalar: -sum_k target log softmax(student / temperature), averaged over the T (S - 1)
        pairs of distinct views and over samples.

    Raises:
        ValueError: fewer than two views, more targets than views, or other shapes that differ.
    """
    views, teachers = len(student), len(targets)
    if student.shape[1:] != targets.shape[1:] or not 0 < teachers <= views or views < 2:
        raise ValueError(
            f"outputs {tuple(student.shape)}, targets {tuple(targets.shape)}: expected (S, B, K) "
            "and (T, B, K) with 0 < T <= S and S > 1"
        )
    # Mixed precision would round the products.
    with torch.autocast(student.device.type, enabled=False):
        log_probabilities = functional.log_softmax(student.float() / temperature, dim=-1)
        pairs = -torch.einsum("tbk,sbk->tsb", targets.float(), log_probabilities)
    distinct = [t * views + s for t in range(teachers) for s in range(views) if s != t]
    chosen = torch.tensor(distinct, device=pairs.device)
    return pairs.flatten(0, 1).index_select(0, chosen).mean()


def mean_entropy(distributions: Tensor) -> Tensor:
    """Entropy in nats of each distribution (..., K), averaged: 0 one-hot, ln K uniform."""
    entropies: Tensor = torch.special.entr(distributions).sum(dim=-1)
    return entropies.mean()
