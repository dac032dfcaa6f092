"""Initial weights that depend on a seed and on nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from voxseq.models.attention import SelfAttention

if TYPE_CHECKING:
    from voxseq.models.encoder import Encoder

START_TOKEN_SD = 0.02


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


def initialise_encoder(encoder: Encoder, *, xavier_patches: bool) -> None:
    """Give an encoder its initial weights, drawn from the process-wide generator.

    Args:
        encoder: changed in place.
        xavier_patches: Xavier-uniform patch weights (pre-training); otherwise those of a
            convolution (fine-tuning from scratch). The bias is a convolution's in both cases
            (published code).
    """
    initialise_linears(encoder)
    for part in encoder.modules():
        if isinstance(part, SelfAttention):
            # Queries, keys and values are separate layers in the published code: the joint
            # matrix would have another fan-out, hence smaller weights.
            for third in part.qkv.weight.data.chunk(3):
                nn.init.xavier_uniform_(third)
    kernel, bias = encoder.patch_embedding.weight, encoder.patch_embedding.bias
    flat = kernel.data.flatten(1)
    if xavier_patches:
        nn.init.xavier_uniform_(flat)
    else:
        nn.init.kaiming_uniform_(flat, a=math.sqrt(5))
    bound = 1 / math.sqrt(flat.shape[1])
    nn.init.uniform_(bias, -bound, bound)
    nn.init.normal_(encoder.start_token, std=START_TOKEN_SD)
