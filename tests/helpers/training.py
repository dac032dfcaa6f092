"""A short training of any method on generated volumes, for the test of each method."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from voxseq.base.random import numpy_generator, torch_generator
from voxseq.config.data import SequencesConfig
from voxseq.config.model import OptimiserConfig
from voxseq.pretrain.base import PretrainMethod
from voxseq.pretrain.batching import ItemRows, views_of, volumes_of
from voxseq.pretrain.run import staged_batches
from voxseq.sequences.raw import Box, Raw, header_type
from voxseq.sequences.sampler import SequenceSampler
from voxseq.transforms.spatial import Item

SEED = 11
SIDE = 16
OPTIMISER = OptimiserConfig(lr=1e-3, weight_decay=0.01)


def phantom(seed: int, side: int = SIDE) -> np.ndarray:
    """Some ellipsoids of their own brightness on a slope, with noise: (X, Y, Z) float32, 0..1."""
    rng = np.random.default_rng([seed, 1])
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, side)] * 3, indexing="ij"))
    volume = 0.15 + 0.1 * np.tensordot(rng.uniform(-1, 1, 3), grid, 1)
    for _ in range(4):
        centre, radii = rng.uniform(-0.6, 0.6, (3, 1, 1, 1)), rng.uniform(0.2, 0.7, (3, 1, 1, 1))
        inside = (((grid - centre) / radii) ** 2).sum(axis=0) < 1
        volume[inside] = rng.uniform(0.1, 1.0)
    return np.clip(volume + rng.normal(0, 0.02, volume.shape), 0, 1).astype(np.float32)


def phantom_items(count: int = 32) -> list[Item]:
    """Phantoms as the sampler hands them out, "CT" and "MRI" in turn."""
    return [
        Item(phantom(number), "spatial", "phantom", number, ("CT", "MRI")[number % 2])
        for number in range(count)
    ]


class _Memory:
    """What a sampler uses of a store, over volumes in memory."""

    def __init__(self, items: Sequence[Item]) -> None:
        self.items = items

    def dtype(self, index: int) -> np.dtype[Any]:
        return np.dtype(np.float32)

    def crop_into(self, index: int, start: Any, shape: Any, out: np.ndarray) -> None:
        out[...] = self.items[index].volume


class PhantomSampler(SequenceSampler):
    """A sampler over phantoms in memory, which are drawn in turn.

    Attributes:
        read_numbers: of the items that were read, in their order.
    """

    def __init__(self, size: int = 32) -> None:
        self.seed = SEED
        self.items = phantom_items(size)
        self.config = SequencesConfig()
        self.header = header_type(self.config.length)
        self.read_numbers: list[int] = []

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (len(self.items),)

    def __len__(self) -> int:
        return len(self.items)

    def choose(self, step: int, size: int, slot: int) -> tuple[int, np.random.Generator]:
        generator = numpy_generator(self.seed, "sequence", step, slot)
        return (step * size + slot) % len(self), generator

    def numbers(self, modality: str) -> np.ndarray:
        found = [item.id for item in self.items if item.modality == modality]
        return np.array(found, dtype=np.int64)

    def raw(self, number: int, generator: np.random.Generator, *, sequences: bool = False) -> Raw:
        shape = self.items[number].volume.shape
        box = Box(0, number, (0, 0, 0), shape, 0.0, 1.0)
        return Raw([box], shape, number=number, ct=self.items[number].modality == "CT")

    def read_into(self, raw: Raw, voxels: Any, header: Any) -> None:
        self.read_numbers.append(raw.number)
        super().read_into(raw, voxels, header)

    def row_bytes(self, *, sequences: bool) -> int:
        return max(item.volume.nbytes for item in self.items)

    def validation(self, count: int, *, sequences: bool = True) -> list[Raw]:
        return [self.raw(number, np.random.default_rng(0)) for number in range(count)]

    def _store(self, number: int) -> Any:
        return _Memory(self.items)


def phantom_sampler(size: int = 32) -> PhantomSampler:
    """Stand-in for the sampler of all training items."""
    return PhantomSampler(size)


def views(method: PretrainMethod, items: Sequence[Item], seed: int = 0) -> dict[str, Tensor]:
    """The batch that a method makes of some items."""
    drawn = [
        method.batching.draw(lambda view, number=number: numpy_generator(seed, number, view))
        for number in range(len(items))
    ]
    volumes = torch.from_numpy(np.stack([item.volume for item in items]))[:, None]
    is_ct = np.array([item.modality == "CT" for item in items])
    return method.batching.views(volumes, np.stack(drawn), is_ct)


def batch_of(
    method: PretrainMethod, data: SequenceSampler, step: int, size: int, seed: int = SEED
) -> dict[str, Tensor]:
    """The batch of a step as a training makes it."""
    rows = ItemRows(method.batching, data, seed, size)(step)
    volumes = volumes_of(rows, data.header, data.config)
    return views_of(rows, volumes, data.header, method.batching)


def make_optimiser(method: PretrainMethod, config: OptimiserConfig) -> torch.optim.AdamW:
    """The optimiser of a real run."""
    return torch.optim.AdamW(method.parameter_groups(config), lr=config.lr, betas=config.betas)


def train(
    method: PretrainMethod,
    optimiser: torch.optim.Optimizer,
    data: SequenceSampler,
    steps: range,
    total: int,
    *,
    batch_size: int,
    clip_norm: float | None = None,
) -> list[float]:
    """Train for some steps of ``total`` as the loop does, stages and hooks included.

    Returns:
        The loss of each step.
    """

    task = SimpleNamespace(
        method=method,
        steps=total,
        rows=ItemRows(method.batching, data, SEED, batch_size),
        begin_stage=lambda number, workers: method.begin_stage(number, data),
        parameters=method.parameters,
        transfer=lambda batch, device: batch,
    )
    losses = []
    source = staged_batches(cast(Any, task), optimiser, steps.start, 0)
    for step in steps:
        rows = next(source)
        given = views_of(
            rows, volumes_of(rows, data.header, data.config), data.header, method.batching
        )
        method.train()
        loss = method(given, step, torch_generator(SEED, "method", step))["loss"]
        loss.backward()
        method.before_update(step, optimiser.param_groups)
        if clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(method.parameters(), clip_norm)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        method.after_step(step, total)
        losses.append(float(loss.detach()))
    return losses


def loss_falls(
    method: PretrainMethod,
    steps: int = 60,
    size: int = 32,
    *,
    batch_size: int = 16,
    optimiser: OptimiserConfig = OPTIMISER,
) -> tuple[float, float]:
    """Train a fresh method on ``size`` phantoms at a constant learning rate.

    Returns:
        The mean loss of the first and of the last fifth of the steps.
    """
    data = phantom_sampler(size)
    method.begin(steps, data)
    losses = train(
        method,
        make_optimiser(method, optimiser),
        data,
        range(steps),
        steps,
        batch_size=batch_size,
        clip_norm=optimiser.clip_norm,
    )
    assert np.isfinite(losses).all()
    part = max(1, steps // 5)
    return float(np.mean(losses[:part])), float(np.mean(losses[-part:]))


def resumes_exactly(
    make: Callable[[], PretrainMethod],
    steps: int = 6,
    stops: Sequence[int] | None = None,
    *,
    size: int = 16,
    batch_size: int = 4,
    optimiser: OptimiserConfig = OPTIMISER,
) -> None:
    """Assert that a training which is cut and resumed from its state ends as the straight one.

    Args:
        make: a fresh method, always the same.
        steps: of the whole training.
        stops: steps after which it is cut; by default every one.
    """

    def fresh() -> tuple[PretrainMethod, torch.optim.AdamW, SequenceSampler]:
        data, method = phantom_sampler(size), make()
        method.begin(steps, data)
        return method, make_optimiser(method, optimiser), data

    def run(parts: tuple[Any, ...], span: range) -> list[float]:
        return train(*parts, span, steps, batch_size=batch_size)

    straight = fresh()
    expected = run(straight, range(steps))
    for stop in range(1, steps) if stops is None else stops:
        first, second = fresh(), fresh()
        losses = run(first, range(stop))
        saved = io.BytesIO()
        torch.save({"model": first[0].state_dict(), "optimiser": first[1].state_dict()}, saved)
        saved.seek(0)
        loaded = torch.load(saved, weights_only=True)
        second[0].load_state_dict(loaded["model"])
        second[1].load_state_dict(loaded["optimiser"])
        losses += run(second, range(stop, steps))
        assert losses == expected, f"losses differ after a cut at step {stop}"
        resumed = second[0].state_dict()
        assert resumed.keys() == straight[0].state_dict().keys()
        for name, value in straight[0].state_dict().items():
            assert torch.equal(value, resumed[name]), f"{name} differs after a cut at step {stop}"
