"""Segmentation of whole volumes window by window."""

from __future__ import annotations

from typing import Any

import torch
from monai.inferers import sliding_window_inference
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from voxseq.config.base import Shape3

#: Windows per forward pass (published code).
WINDOW_BATCH = 4


def predict_logits(network: nn.Module, image: NDArray[Any], roi: Shape3, overlap: float) -> Tensor:
    """Logits of a whole volume, averaged with equal weight where windows overlap.

    A volume smaller than the window is padded with 0 at the end of its axes, as crops are in
    training, so that fixed positions keep their meaning; the padding is cut off again.

    Args:
        network: maps (B, 1, *roi) to (B, C, *roi).
        image: (X, Y, Z) on the prepared grid.
        roi: window in voxels.
        overlap: share of a window that its neighbour covers too, in [0, 1).

    Returns:
        (C, X, Y, Z) float32 on the CPU.
    """
    device = next(network.parameters()).device
    volume = torch.tensor(image, dtype=torch.float32, device=device)[None, None]
    missing = [max(r - s, 0) for r, s in zip(roi, image.shape, strict=True)]
    padding = [n for axis in reversed(missing) for n in (0, axis)]
    with torch.no_grad():
        logits = sliding_window_inference(
            functional.pad(volume, padding),
            roi_size=roi,
            sw_batch_size=WINDOW_BATCH,
            predictor=network,
            overlap=overlap,
            mode="constant",
        )
    x, y, z = image.shape
    cut: Tensor = logits[0, :, :x, :y, :z]
    return cut.float().cpu()
