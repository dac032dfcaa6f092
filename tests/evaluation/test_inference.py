from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.inferers import sliding_window_inference
from torch import Tensor, nn
from torch.nn import functional

from voxseq.evaluation import inference
from voxseq.evaluation.inference import iterate_logits, largest, predict_logits

ROI = (4, 4, 2)
SHAPES = st.tuples(*[st.integers(1, 17)] * 3)
WINDOWS = st.tuples(*[st.integers(1, 9)] * 3)


class Ramp(nn.Module):
    """Gives back the voxels, and the position of each voxel in its window."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, volume: Tensor) -> Tensor:
        assert volume.shape[2:] == ROI
        place = torch.arange(volume[0].numel(), dtype=torch.float32).view(ROI)
        return torch.cat([volume, place.expand_as(volume)], dim=1)


class Mixer(nn.Module):
    """A network whose output depends on a voxel's neighbours and place in the window."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv3d(1, classes, 3, padding=1)

    def forward(self, volume: Tensor) -> Tensor:
        place = torch.linspace(-1, 1, volume[0].numel()).view(volume.shape[2:])
        out: Tensor = self.layer(volume + place)
        return out


def by_monai(
    network: nn.Module, image: np.ndarray, roi: tuple[int, int, int], overlap: float
) -> Tensor:
    missing = [max(r - s, 0) for r, s in zip(roi, image.shape, strict=True)]
    padding = [n for axis in reversed(missing) for n in (0, axis)]
    volume = functional.pad(torch.tensor(image)[None, None], padding)
    with torch.no_grad():
        logits = sliding_window_inference(volume, roi, 4, network, overlap, mode="constant")
    assert isinstance(logits, Tensor)
    x, y, z = image.shape
    return logits[0, :, :x, :y, :z]


@settings(deadline=None, max_examples=150)
@given(SHAPES, WINDOWS, st.sampled_from([0.0, 0.25, 0.5, 0.6, 0.75, 0.9]), st.integers(1, 4))
def test_logits_are_those_of_monai(
    shape: tuple[int, int, int], roi: tuple[int, int, int], overlap: float, classes: int
) -> None:
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    network = Mixer(classes).eval()
    found = predict_logits(network, image, roi, overlap)
    expected = by_monai(network, image, roi, overlap)
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@settings(deadline=None, max_examples=50)
@given(SHAPES, WINDOWS, st.sampled_from([0.0, 0.5, 0.75]))
def test_slabs_follow_one_another_and_are_no_thicker_than_a_window(
    shape: tuple[int, int, int], roi: tuple[int, int, int], overlap: float
) -> None:
    image = np.ones(shape, np.float32)
    covered = []
    for planes, logits in iterate_logits(Mixer(2).eval(), image, roi, overlap):
        assert logits.shape == (2, planes.stop - planes.start, *shape[1:])
        assert planes.stop - planes.start <= roi[0]
        covered += range(planes.start, planes.stop)
        # The caller may do with a slab what it likes.
        logits.fill_(torch.nan)
    assert covered == list(range(shape[0]))


@pytest.mark.parametrize("voxels", [1, 3 * 32, 10_000])
def test_number_of_windows_at_a_time_changes_nothing(
    voxels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = np.random.default_rng(0).random((9, 11, 5), dtype=np.float32)
    expected = predict_logits(Mixer(3), image, ROI, 0.5)
    seen = []
    network = Mixer(3)
    network.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    monkeypatch.setattr(inference, "WINDOW_VOXELS", voxels)
    torch.testing.assert_close(predict_logits(network, image, ROI, 0.5), expected)
    # 4 starts along the first axis, 5 x 4 windows at each.
    assert sum(seen) == 4 * 5 * 4
    assert max(seen) == min(max(voxels // 32, 1), 20)


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


def test_the_largest_logit_is_the_first_of_equal_ones() -> None:
    logits = torch.randint(-2, 3, (5, 3, 4, 6), generator=torch.Generator().manual_seed(0)).float()
    classes = largest(logits)
    assert classes.dtype == np.uint8
    np.testing.assert_array_equal(classes, logits.argmax(dim=0).numpy())
