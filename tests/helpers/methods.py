"""Every registered pre-training method and network, at a size that a test can train."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from tests.helpers.training import batch_of, phantom_sampler
from voxseq.config.data import SequencesConfig
from voxseq.config.methods import MethodSettings
from voxseq.config.model import EncoderConfig
from voxseq.config.registry import METHODS, pretrained
from voxseq.pretrain.base import PretrainMethod
from voxseq.sequences.sampler import SequenceSampler

NAMES = tuple(pretrained())
ENCODER = EncoderConfig(width=24, depth=2, heads=2, mlp_width=48, patch_size=(4, 4, 4))
SEQUENCES = SequencesConfig()
STEPS = 10
#: Small values of settings, by their names; all others keep their defaults.
SMALL: dict[str, Any] = {
    **{"view_shape": [8, 8, 8], "global_shape": [8, 8, 8], "crop_shape": [8, 8, 8]},
    **{"local_shape": [4, 4, 4], "local_views": 2},
    **{"hidden_width": 32, "bottleneck_width": 16, "output_width": 32},
    **{"decoder_width": 24, "decoder_depth": 1, "decoder_heads": 2},
    **{"decoder_channels": [16, 8, 8], "swap_block": [2, 2, 2], "swaps": 4},
    "optimiser": {"lr": 1e-3, "warmup_steps": 5},
}


def small_settings(name: str, **changed: Any) -> MethodSettings:
    """Settings of a method, small where :data:`SMALL` knows them."""
    model = METHODS[name].settings
    assert model is not None
    known = {key: value for key, value in SMALL.items() if key in model.model_fields}
    return model.model_validate({**known, **changed})


def make(
    name: str,
    seed: int = 0,
    *,
    steps: int = STEPS,
    data: SequenceSampler | None = None,
    encoder: EncoderConfig = ENCODER,
    **changed: Any,
) -> Any:
    """A method that has begun a training of ``steps``."""
    module, kind = METHODS[name].implementation.split(":")
    implementation = getattr(importlib.import_module(module, "voxseq.pretrain.methods"), kind)
    method = implementation(small_settings(name, **changed), encoder, SEQUENCES, seed)
    method.begin(steps, data or phantom_sampler(16))
    return method


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def losses(
    method: PretrainMethod, size: int = 4, data: SequenceSampler | None = None
) -> Iterator[dict[str, Tensor]]:
    """Losses of every step of every stage, without updates."""
    data = data or phantom_sampler(16)
    for number, steps in enumerate(method.stages(method.total_steps)):
        method.begin_stage(number, data)
        for step in steps:
            with torch.autocast("cpu", enabled=False):
                batch = batch_of(method, data, step, size)
            yield method.training_loss(batch, step, generator(step))


def copies(module: torch.nn.Module) -> dict[str, Tensor]:
    """Weights and buffers as they are now."""
    return {name: value.clone() for name, value in module.state_dict().items()}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether two states agree bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(v, other[n]) for n, v in one.items())


def move(method: PretrainMethod) -> None:
    """Shift every trained weight, as an optimiser would."""
    random = generator(9)
    with torch.no_grad():
        for parameter in method.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=random), alpha=0.1)


def unpatchify(patches: Tensor, grid: Sequence[int], patch: Sequence[int]) -> Tensor:
    """Volumes (B, 1, X, Y, Z) of tokens (B, L, V) in raster order; the inverse of patchify."""
    boxes = patches.reshape(-1, *grid, *patch).permute(0, 1, 4, 2, 5, 3, 6)
    return boxes.reshape(len(patches), 1, *(g * p for g, p in zip(grid, patch, strict=True)))
