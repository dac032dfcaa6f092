"""The autoregressive loss on voxels."""

from __future__ import annotations

import torch
from torch import Tensor

from voxseq.models.patches import normalised_targets


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
