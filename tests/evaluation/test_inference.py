from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from voxseq.evaluation.inference import predict_logits

ROI = (4, 4, 2)


class Ramp(nn.Module):
    """Gives back the voxels, and the position of each voxel in its window."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, volume: Tensor) -> Tensor:
        assert volume.shape[2:] == ROI
        place = torch.arange(volume[0].numel(), dtype=torch.float32).view(ROI)
        return torch.cat([volume, place.expand_as(volume)], dim=1)


@pytest.mark.parametrize("shape", [(4, 4, 2), (9, 6, 5), (3, 7, 1)])
@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.75])
def test_every_voxel_is_covered_with_constant_weight(
    shape: tuple[int, int, int], overlap: float
) -> None:
    image = np.random.default_rng(0).random(shape, dtype=np.float32)
    logits = predict_logits(Ramp(), image, ROI, overlap)
    assert logits.shape == (2, *shape)
    np.testing.assert_allclose(logits[0].numpy(), image, rtol=1e-6)


def test_small_volume_lies_at_the_start_of_the_window_as_in_training() -> None:
    logits = predict_logits(Ramp(), np.ones((2, 3, 1), np.float32), ROI, 0.5)
    expected = torch.arange(32.0).view(ROI)[:2, :3, :1]
    torch.testing.assert_close(logits[1], expected)


def test_image_is_not_changed_and_may_be_read_only() -> None:
    image = np.ones((5, 5, 5), np.float32)
    image.setflags(write=False)
    predict_logits(Ramp(), image, ROI, 0.5)
    assert (image == 1).all()
