"""The loss on voxels: of tokens that are scored, and of whole sequences."""

from __future__ import annotations

import torch
from torch import Tensor

from voxseq.models.patches import normalised_targets


def scored_rows(prefix: Tensor, length: int) -> Tensor:
    """Places of the scored tokens of a batch: token j (from 0) is scored when j >= prefix.

    Args:
        prefix: (B,) integers in 0..L-1. On the CPU, no other device has to be waited for.
        length: number of tokens L of a sequence.

    Returns:
        (R,) int64, rising, in 0..B·L - 1.
    """
    scored = torch.arange(length, device=prefix.device) >= prefix[:, None]
    return scored.flatten().nonzero()[:, 0]


def regression_loss(prediction: Tensor, patches: Tensor) -> Tensor:
    """Mean squared error of normalised voxels, over all voxels.

    Args:
        prediction: (..., V).
        patches: (..., V) voxels of the predicted tokens.

    Returns:
        Scalar, float32.
    """
    # Keeps the differences for the backward pass; functional.mse_loss keeps both of its inputs.
    return (prediction.float() - normalised_targets(patches)).square().mean()


def autoregressive_loss(prediction: Tensor, patches: Tensor, prefix: Tensor) -> Tensor:
    """Mean squared error over all scored voxels of the batch (published code).

    Token j (from 0) is scored when j >= prefix. Errors are pooled over the batch, so a sequence
    with a short prefix weighs more; the paper's equation 2 averages per sequence instead.

    Args:
        prediction: (B, L, V): entry j predicts token j, i.e. it is the output at position j,
            position 0 being the start token.
        patches: (B, L, V) voxels of the tokens, in the same order.
        prefix: (B,) integers in 0..L-1.

    Returns:
        Scalar, float32.
    """
    targets = normalised_targets(patches)
    scored = torch.arange(patches.shape[1], device=prefix.device) >= prefix[:, None]
    errors = (prediction.float() - targets).square().mean(dim=-1)
    return torch.where(scored, errors, 0.0).sum() / scored.sum()
