"""Operations of the real modules, counted by PyTorch on the meta device, which computes no values.

A multiply-add counts as two operations. Counted are matrix products, attention and convolutions;
norms, activations and losses are left out, which is under 2 % at paper scale.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import cast
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from voxseq.config.base import Shape3
from voxseq.config.model import EncoderConfig
from voxseq.config.runs import NetworkSettings, PretrainRun
from voxseq.estimate.work import Work
from voxseq.models.encoder import build_encoder
from voxseq.models.networks import build_network, freeze_encoder
from voxseq.pretrain.base import PretrainMethod
from voxseq.pretrain.batching import Batch
from voxseq.pretrain.run import build_method
from voxseq.sequences.sampler import SequenceSampler

_LOG = logging.getLogger("voxseq.estimate")
META = torch.device("meta")
#: Items that a method's views are made of; as many rows as the batch has are counted.
ITEMS = 2


def fed_shape(method: PretrainMethod) -> Shape3:
    """Voxels of the volumes that a method is fed."""
    sequences, takes = method.batching.sequences, method.batching.needs
    return sequences.volume_shape if takes == "sequence" else sequences.image_shape


def pretraining(run: PretrainRun, modality: str, step: int) -> Work:
    """Cost of one item in a step of a pre-training; its validation takes the forward pass.

    A method that the meta device cannot run, because shapes in it depend on values, counts as one
    pass of the encoder over the volume, and is marked as such.

    Args:
        run: configuration of the run.
        modality: of the step's items.
        step: its number.
    """
    with META:
        method = build_method(run)
    shape, size = fed_shape(method), run.batch_size
    try:
        method.begin(run.steps, cast(SequenceSampler, Numbers()))
        batch = batch_of(method, shape, modality, size, partial(torch.empty, device=META))
        draws = torch.Generator().manual_seed(0)
        return _work(method, lambda: method.training_loss(batch, step, draws)["loss"], size)
    except (RuntimeError, AttributeError) as error:
        _LOG.warning(
            "%s: not counted, because it does not run on PyTorch's meta device (%s); taken for one "
            "pass of the encoder. Compute indices from shapes or on the CPU, not from values",
            run.method,
            str(error).partition("\n")[0],
        )
        return replace(encoder(run.encoder, shape), plain=1.0)


def network(
    name: str,
    geometry: EncoderConfig,
    shape: Shape3,
    classes: int,
    features: int,
    settings: NetworkSettings | None,
    is_frozen: bool,
    channels: int,
) -> Work:
    """Cost of one crop or image of a shape in a network that is fine-tuned.

    The other arguments are those of :func:`voxseq.models.networks.build_network`; with
    ``is_frozen`` only what follows the encoder is trained.
    """
    with META:
        built = build_network(
            name,
            geometry,
            classes=classes,
            features=features,
            seed=0,
            settings=settings,
            in_channels=channels,
        )
    if is_frozen:
        freeze_encoder(built)
    images = torch.empty(ITEMS, channels, *shape, device=META)
    return _work(built, lambda: built(images).sum(), ITEMS)


def encoder(geometry: EncoderConfig, shape: Shape3, channels: int = 1) -> Work:
    """Cost of one image in the encoder alone."""
    with META:
        built = build_encoder(geometry, 0, pretraining=False, in_channels=channels)
    images = torch.empty(ITEMS, channels, *shape, device=META)
    return _work(built, lambda: torch.sum(built(images).tokens), ITEMS)


class Numbers:
    """Stands for the training items, of which a method asks the numbers before it begins."""

    def numbers(self, modality: str) -> NDArray[np.int64]:
        """List numbers of the items of a modality."""
        return np.arange(ITEMS)

    def __len__(self) -> int:
        return ITEMS


def batch_of(
    method: PretrainMethod, shape: Shape3, modality: str, size: int, empty: Callable[..., Tensor]
) -> Batch:
    """A batch of ``size`` items, made of two; only flags have values.

    Args:
        method: whose batch it is.
        shape: of an item's volume.
        modality: of all items.
        size: number of items.
        empty: makes a tensor without values, as :func:`torch.empty`.
    """
    batching = method.batching
    drawn = np.stack([batching.draw(np.random.default_rng) for _ in range(ITEMS)])
    volumes = torch.zeros(ITEMS, 1, *shape)
    batch = {}
    is_ct = np.full(ITEMS, modality == "CT")
    for name, rows in batching.views(volumes, drawn, is_ct).items():
        count = len(rows) * size // ITEMS
        if rows.dtype == torch.bool:
            batch[name] = rows[torch.arange(count) % len(rows)]
        else:
            batch[name] = empty(count, *rows.shape[1:], dtype=rows.dtype)
    return batch


def _work(module: nn.Module, loss: Callable[[], Tensor], items: int) -> Work:
    module.to(META)
    with (
        # The meta device has no autocast, and precision changes no count.
        patch.object(torch, "autocast", lambda *_, **__: nullcontext()),
        # Attention as matrix products, which the counter knows.
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
    ):
        value = loss()
        forward = _by_rate(counter, items)
        value.backward()  # type: ignore[no-untyped-call]
    weights = list(module.parameters())
    trained = sum(p.numel() for p in weights if p.requires_grad)
    return Work(*forward, *_by_rate(counter, items), sum(p.numel() for p in weights), trained)


def _by_rate(counter: FlopCounterMode, items: int) -> tuple[float, float]:
    """Operations of one item: of matrix products, and of convolutions."""
    counts = counter.get_flop_counts()["Global"]
    convolution = sum(count for name, count in counts.items() if "convolution" in str(name))
    return (sum(counts.values()) - convolution) / items, convolution / items
