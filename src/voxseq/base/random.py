"""Random streams that are functions of (seed, purpose, step, slot) and of nothing else.

A run that is resumed, or that reads its data with another number of workers, draws the same
numbers, because no generator lives longer than one step.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def entropy(*parts: int | str) -> list[int]:
    """Integers for a seed sequence; words enter by their CRC."""
    return [zlib.crc32(p.encode()) if isinstance(p, str) else int(p) for p in parts]


def numpy_generator(*parts: int | str) -> np.random.Generator:
    """NumPy generator of the stream that ``parts`` name."""
    return np.random.default_rng(entropy(*parts))


def torch_generator(*parts: int | str, device: str = "cpu") -> torch.Generator:
    """Torch generator of the stream that ``parts`` name."""
    import torch

    state = np.random.SeedSequence(entropy(*parts)).generate_state(2, np.uint32)
    seed = int(state[0]) << 31 | int(state[1]) >> 1
    return torch.Generator(device=device).manual_seed(seed)
