from __future__ import annotations

from functools import partial
from itertools import product

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

    def __init__(self, classes: int, channels: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv3d(channels, classes, 3, padding=1)

    def forward(self, volume: Tensor) -> Tensor:
        place = torch.linspace(-1, 1, volume[0, 0].numel()).view(volume.shape[2:])
        out: Tensor = self.layer(volume + place)
        return out


def by_monai(
    network: nn.Module, image: np.ndarray, roi: tuple[int, int, int], overlap: float
) -> Tensor:
    missing = [max(r - s, 0) for r, s in zip(roi, image.shape[1:], strict=True)]
    padding = [n for axis in reversed(missing) for n in (0, axis)]
    volume = functional.pad(torch.tensor(image)[None], padding)
    with torch.no_grad():
        logits = sliding_window_inference(volume, roi, 4, network, overlap, mode="constant")
    assert isinstance(logits, Tensor)
    x, y, z = image.shape[1:]
    return logits[0, :, :x, :y, :z]


@settings(deadline=None, max_examples=150)
@given(
    SHAPES,
    WINDOWS,
    st.sampled_from([0.0, 0.25, 0.5, 0.6, 0.75, 0.9]),
    st.integers(1, 4),
    st.integers(1, 3),
)
def test_logits_are_those_of_monai(
    shape: tuple[int, int, int],
    roi: tuple[int, int, int],
    overlap: float,
    classes: int,
    channels: int,
) -> None:
    image = np.random.default_rng(0).normal(size=(channels, *shape)).astype(np.float32)
    network = Mixer(classes, channels).eval()
    found = predict_logits(network, image, roi, overlap)
    expected = by_monai(network, image, roi, overlap)
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@settings(deadline=None, max_examples=50)
@given(SHAPES, WINDOWS, st.sampled_from([0.0, 0.5, 0.75]))
def test_slabs_follow_one_another_and_are_no_thicker_than_a_window(
    shape: tuple[int, int, int], roi: tuple[int, int, int], overlap: float
) -> None:
    image = np.ones((1, *shape), np.float32)
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
    image = np.random.default_rng(0).random((1, 9, 11, 5), dtype=np.float32)
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
    image = np.random.default_rng(0).random((1, *shape), dtype=np.float32)
    logits = predict_logits(Ramp(), image, ROI, overlap)
    assert logits.shape == (2, *shape)
    np.testing.assert_allclose(logits[0].numpy(), image[0], rtol=1e-6)


def test_small_volume_lies_at_the_start_of_the_window_as_in_training() -> None:
    logits = predict_logits(Ramp(), np.ones((1, 2, 3, 1), np.float32), ROI, 0.5)
    expected = torch.arange(32.0).view(ROI)[:2, :3, :1]
    torch.testing.assert_close(logits[1], expected)


def test_image_is_not_changed_and_may_be_read_only() -> None:
    image = np.ones((1, 5, 5, 5), np.float32)
    image.setflags(write=False)
    predict_logits(Ramp(), image, ROI, 0.5)
    assert (image == 1).all()


def test_the_largest_logit_is_the_first_of_equal_ones() -> None:
    logits = torch.randint(-2, 3, (5, 3, 4, 6), generator=torch.Generator().manual_seed(0)).float()
    classes = largest(logits)
    assert classes.dtype == np.uint8
    np.testing.assert_array_equal(classes, logits.argmax(dim=0).numpy())


def test_classes_found_on_a_device_are_those_found_on_the_cpu() -> None:
    logits = torch.randint(-2, 3, (5, 3, 4, 6), generator=torch.Generator().manual_seed(0)).float()
    classes = inference._by_device(logits)
    assert classes.dtype == np.uint8
    np.testing.assert_array_equal(classes, largest(logits))


@pytest.mark.parametrize(
    ("device", "roi", "most"),
    [("cuda", (96, 96, 96), 16), ("cpu", (96, 96, 96), 1), ("cpu", (32, 32, 32), 8)],
)
def test_devices_get_many_windows_at_a_time(
    device: str, roi: tuple[int, int, int], most: int
) -> None:
    assert inference.most_windows(torch.device(device), roi) == most


class Crowded(Mixer):
    """A network whose device has no memory for more than three windows."""

    def __init__(self) -> None:
        super().__init__(2)
        self.seen: list[int] = []

    def forward(self, volume: Tensor) -> Tensor:
        self.seen.append(len(volume))
        if len(volume) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().forward(volume)


def test_a_device_without_room_gets_fewer_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.random.default_rng(0).random((1, 9, 11, 5), dtype=np.float32)
    network = Crowded()
    expected = predict_logits(Mixer(2), image, ROI, 0.5)
    monkeypatch.setattr(inference, "most_windows", lambda device, roi: 16)
    torch.testing.assert_close(predict_logits(network, image, ROI, 0.5), expected)
    # Found once for the whole volume: 20 windows at each of 4 starts.
    assert network.seen == [16, 8, 4, *[2] * 40]


def test_no_room_for_a_single_window_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Mixer, "forward", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError))
    with pytest.raises(torch.OutOfMemoryError):
        predict_logits(Mixer(2), np.ones((1, *ROI), np.float32), ROI, 0.5)


def balls(count: int) -> tuple[Tensor, Tensor]:
    """Bright balls in noise (B, 1, 16, 16, 16), and which voxels are theirs."""
    generator = torch.Generator().manual_seed(0)
    places = torch.stack(torch.meshgrid(*[torch.arange(16.0)] * 3, indexing="ij"))
    centres = 4 + 8 * torch.rand(count, 3, 1, 1, 1, generator=generator)
    inside = (places - centres).square().sum(dim=1) < 16
    noise = 0.2 * torch.randn(count, 16, 16, 16, generator=generator)
    return (inside + noise)[:, None], inside.long()


def trained_network() -> nn.Module:
    """A small network that finds them."""
    torch.manual_seed(0)
    network = nn.Sequential(
        *(nn.Conv3d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv3d(8, 2, 3, padding=1))
    )
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-2)
    volumes, classes = balls(8)
    for _ in range(40):
        optimiser.zero_grad()
        functional.cross_entropy(network(volumes), classes).backward()
        optimiser.step()
    return network.eval()


def test_half_precision_gives_the_same_classes_and_sums_in_single_precision() -> None:
    network, image = trained_network(), balls(1)[0][0].numpy()
    seen: list[torch.dtype] = []
    network.register_forward_hook(lambda module, given, out: seen.append(out.dtype))
    half = partial(torch.autocast, "cpu", dtype=torch.bfloat16)
    exact = predict_logits(network, image, (8, 8, 8), 0.5)
    rounded = predict_logits(network, image, (8, 8, 8), 0.5, half)
    assert set(seen) == {torch.float32, torch.bfloat16}
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, exact)
    agreement = float(np.mean(largest(rounded) == largest(exact)))
    assert agreement > 0.999
    # The network has learned something that a class tells.
    assert 0.02 < float(largest(exact).mean()) < 0.2


@pytest.mark.parametrize("overlap", [0.5, 0.75])
def test_gaussian_weights_are_a_product_of_bells_and_cancel_in_a_constant(overlap: float) -> None:
    shape, roi = (11, 9, 7), (6, 5, 4)
    image = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
    network = Mixer(2).eval()
    found = torch.empty(2, *shape)
    for planes, logits in iterate_logits(network, image, roi, overlap, gaussian=True):
        found[:, planes] = logits
    bells = [torch.arange(n) - (n - 1) / 2 for n in roi]
    bells = [
        torch.exp(-0.5 * (8 * b / n) ** 2).clamp(min=1e-3) for b, n in zip(bells, roi, strict=True)
    ]
    kernel = torch.einsum("x,y,z->xyz", *bells)
    sums, weights = torch.zeros(2, *shape), torch.zeros(shape)
    starts = [inference.window_starts(n, r, overlap) for n, r in zip(shape, roi, strict=True)]
    for start in set(product(*starts)):
        box = tuple(slice(s, s + r) for s, r in zip(start, roi, strict=True))
        with torch.no_grad():
            logits = network(torch.from_numpy(image[:, *box].copy())[None])[0]
        count = int(np.prod([axis.count(s) for axis, s in zip(starts, start, strict=True)]))
        sums[(slice(None), *box)] += count * logits * kernel
        weights[box] += count * kernel
    torch.testing.assert_close(found, sums / weights, rtol=1e-4, atol=1e-5)
