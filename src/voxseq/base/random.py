"""Random streams that are functions of (seed, purpose, step, slot) and of nothing else.

A run that is resumed, or that reads its data with another number of workers, draws the same
numbers, because no generator lives longer than one step.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

#: Numbers from here on are no word of a seed sequence.
_WORD = 2**32


def entropy(*parts: int | str) -> list[int]:
    """Integers for a seed sequence; words enter by their CRC."""
    return [zlib.crc32(p.encode()) if isinstance(p, str) else int(p) for p in parts]


def numpy_generator(*parts: int | str) -> np.random.Generator:
    """NumPy generator of the stream that ``parts`` name."""
    words: list[int] | NDArray[np.uint32] = entropy(*parts)
    if max(words) < _WORD:
        # The same stream: NumPy would split a list into words itself, which takes longer.
        words = np.array(words, np.uint32)
    return np.random.default_rng(words)


def torch_generator(*parts: int | str, device: str = "cpu") -> torch.Generator:
    """Torch generator of the stream that ``parts`` name."""
    import torch

    state = np.random.SeedSequence(entropy(*parts)).generate_state(2, np.uint32)
    seed = int(state[0]) << 31 | int(state[1]) >> 1
    return torch.Generator(device=device).manual_seed(seed)
