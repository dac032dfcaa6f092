"""Pre-training steps at the paper's size against the rate of a matrix product."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.flops import counted, prepare, share_of_product
from benchmarks.harness import (
    MEMORY_ROUNDS,
    ROUNDS,
    Row,
    faster,
    give_back,
    in_process,
    in_turn,
    smaller,
    timed,
)
from benchmarks.material import paper_config, typical_step
from voxseq.base.random import numpy_generator, torch_generator
from voxseq.config.registry import METHODS, pretrained
from voxseq.models.attention import prefix_mask
from voxseq.models.patches import normalised_targets
from voxseq.pretrain.batching import Stream
from voxseq.pretrain.methods.ours import AutoregressiveMethod
from voxseq.pretrain.run import method_class
from voxseq.sequences.sampler import SequenceSampler
from voxseq.training.optimiser import adamw

#: Share of the matrix product's rate that our method is to reach.
TARGET = 0.92
#: Items of a batch. With few of them the update of all weights weighs more than in a real training,
#: whose batch is 288; with many the measurement takes long.
_OURS = 4
#: Batch and rounds of the other methods, which have no target and of which some see an item often.
_OTHERS, _FEW = 2, 2


class Step:
    """A whole training step of a method but for its data: loss, gradients and the update."""

    def __init__(self, name: str, batch_size: int) -> None:
        config = paper_config()
        row = METHODS[name]
        assert row.settings is not None
        settings = row.settings.model_validate(config.pretrain.methods[name])
        method = method_class(name)(settings, config.encoder, config.sequences, 0)
        data = cast(SequenceSampler, Modalities(batch_size))
        method.begin(1000, data)
        self.method = method
        self.number = 0
        if isinstance(method, AutoregressiveMethod):
            self.number = typical_step(method, batch_size)
        self.optimiser = adamw(method.parameter_groups(settings.optimiser), settings.optimiser)
        # The data do not matter to the arithmetic.
        rng = np.random.default_rng(0)
        volumes = rng.random((batch_size, 1, *config.sequences.volume_shape), dtype=np.float32)
        drawn = np.stack([method.batching.draw(_stream(slot)) for slot in range(batch_size)])
        is_ct = np.ones(batch_size, bool)
        self.batch = method.batching.views(torch.from_numpy(volumes), drawn, is_ct)

    def __call__(self) -> None:
        """All of the step."""
        generator = torch_generator(0, "method", self.number)
        loss = self.method(self.batch, 0, generator)["loss"]
        loss.backward()
        self.method.before_update(0, self.optimiser.param_groups)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.method.after_step(0, 1000)


class Modalities:
    """The modalities of so many items, in the place of the sampler: nothing is read."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def numbers(self, modality: str) -> NDArray[np.int64]:
        """Items of a modality."""
        return np.arange(self.count)[modality == "MRI" :: 2]


def _stream(slot: int) -> Stream:
    return lambda view: numpy_generator(0, "views", 0, slot, view)


class Plain(nn.Module):
    """Our method's network of torch's own layers, as one would write it down."""

    def __init__(self, ours: AutoregressiveMethod) -> None:
        super().__init__()
        config = ours.backbone.config
        self.ours = [ours]
        self.embed = nn.Conv3d(1, config.width, config.patch_size, stride=config.patch_size)
        self.start = nn.Parameter(torch.zeros(config.width))
        self.positions = nn.Parameter(torch.zeros(ours.length, config.width), requires_grad=False)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                config.width,
                config.heads,
                config.mlp_width,
                0.0,
                functional.gelu,
                batch_first=True,
                norm_first=True,
            )
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, math.prod(config.patch_size))
        self.heads = config.heads

    def forward(self, volume: Tensor, generator: torch.Generator) -> Tensor:
        """Loss of volumes (B, 1, X, Y, Z)."""
        (ours,) = self.ours
        prefix = ours.draw_prefix(len(volume), generator)
        tokens = self.embed(volume).flatten(2).transpose(1, 2) + self.positions
        tokens = tokens[:, ours.order][:, :-1]
        states = torch.cat([self.start.expand(len(volume), 1, -1), tokens], dim=1)
        hidden = ~prefix_mask(prefix, ours.length - 1).expand(-1, self.heads, -1, -1).flatten(0, 1)
        for block in self.blocks:
            states = block(states, src_mask=hidden)
        prediction = self.head(self.norm(states))
        patches = ours.sequence(volume)
        errors = (prediction.float() - normalised_targets(patches)).square().mean(dim=-1)
        scored = torch.arange(patches.shape[1], device=prefix.device) >= prefix[:, None]
        return torch.where(scored, errors, 0.0).sum() / scored.sum()


def run() -> Iterator[Row]:
    """All rows of this module."""
    prepare()
    yield from _beside_plain()
    for name in pretrained():
        size, rounds = (_OURS, ROUNDS) if name == "ours" else (_OTHERS, _FEW)
        step = Step(name, size)
        flops = counted(step)
        note = f"ViT-B, 512 tokens of 16³, batch {size}, {flops / 1e9:.0f} GFLOP a step"
        target = TARGET if name == "ours" else None
        yield share_of_product(f"pre-training step: {name}", step, flops, target, note, rounds)


def _beside_plain() -> Iterator[Row]:
    """Time and memory of our step beside those of the same network of torch's layers."""
    memory: dict[str, list[float]] = {"ours": [], "other": []}
    seconds: dict[str, list[float]] = {"ours": [], "other": []}
    for names in in_turn(MEMORY_ROUNDS, list(memory)):
        for name in names:
            # How tightly arrays lie differs from process to process, so each round has new ones.
            grown, taken = in_process(partial(second_step, plain=name == "other"), "spawn")
            memory[name].append(grown)
            seconds[name].append(taken)
    note = f"ViT-B, 512 tokens of 16³, batch {_OTHERS}"
    against = "nn.TransformerEncoderLayer"
    yield faster("pre-training step, ours", against, seconds, None, note)
    note += "; a new process: weights, optimiser, two steps"
    yield smaller("memory of it", against, memory, 1.0, "MiB", note)


def second_step(*, plain: bool) -> float:
    """Seconds of the second step of a training from nothing.

    Args:
        plain: with torch's layers instead of ours.
    """
    prepare()
    step = plain_step() if plain else Step("ours", _OTHERS)
    # What building leaves behind is no part of the training.
    give_back()
    step()
    return timed(step)


def plain_step() -> Callable[[], None]:
    """The step of :class:`Plain`, on the data of ours."""
    step = Step("ours", _OTHERS)
    assert isinstance(step.method, AutoregressiveMethod)
    network = Plain(step.method)
    optimiser = torch.optim.AdamW(network.parameters())
    volume, number = step.batch["volume"], step.number
    # Of ours, prefixes and tokens are needed; its weights would count as memory of the other.
    step.method.backbone.to("meta")

    def work() -> None:
        network(volume, torch_generator(0, "method", number)).backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return work
