"""Initial weights that depend on a seed and on nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn


@contextmanager
def seeded(seed: int | Sequence[int]) -> Iterator[None]:
    """Build modules inside this block: their weights depend on ``seed`` only.

    Constructors of torch and MONAI draw from the process-wide CPU generator; it is seeded for the
    block and put back afterwards.

    Args:
        seed: a non-negative number, or several that are mixed.
    """
    entropy = [seed] if isinstance(seed, int) else list(seed)
    mixed = int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> np.uint64(1))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(mixed)
        yield


def initialise_linears(module: nn.Module) -> None:
    """Xavier-uniform weights and zero biases for every linear layer, 1 and 0 for layer norms.

    Published code; methods call it for their heads.
    """
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.LayerNorm):
            nn.init.ones_(part.weight)
            nn.init.zeros_(part.bias)
