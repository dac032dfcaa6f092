"""Statistics of features that tell a collapsed encoder from a working one."""

from __future__ import annotations

import torch
from torch import Tensor

from voxseq.base.errors import NotFiniteError


def feature_statistics(features: Tensor) -> dict[str, float]:
    """Spread of pooled features: whether the encoder has collapsed.

    Args:
        features: (N, C), N >= 2.

    Returns:
        ``feature_sd``: standard deviation over samples, averaged over channels; 0 when all samples
        look alike. ``effective_rank``: number of directions in which features vary, the exponential
        of the entropy of the normalised singular values of the centred features (Roy and Vetterli
        2007); between 1 and min(N - 1, C), and 0 when nothing varies.

    Raises:
        ValueError: for another number of axes or a single sample.
        NotFiniteError: for features that are infinite or undefined.
    """
    if features.ndim != 2 or features.shape[0] < 2:
        raise ValueError(
            f"features of shape {tuple(features.shape)}: expected (N, C) with at least two samples"
        )
    if not torch.isfinite(features).all():
        raise NotFiniteError("the features are not finite")
    values = features.detach().float()
    deviation = float(values.std(dim=0, unbiased=True).mean())
    return {"feature_sd": deviation, "effective_rank": _effective_rank(values.double())}


def _effective_rank(values: Tensor) -> float:
    singular = torch.linalg.svdvals(values - values.mean(dim=0))
    scale = float(values.abs().max())
    if float(singular.max()) <= 1e-12 * max(scale, 1e-300) * values.numel() ** 0.5:
        return 0.0
    share = singular / singular.sum()
    share = share[share > 0]
    return float(torch.exp(-(share * share.log()).sum()))
