"""Operations of each pre-training method, for one item of a batch.

The one place where the arithmetic of a method is written down: a function for each, by its name in
:data:`METHOD_WORK`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from voxseq.config.base import Shape3
from voxseq.config.data import SequencesConfig
from voxseq.config.methods.base import MethodSettings
from voxseq.config.methods.dino import DINOSettings
from voxseq.config.methods.mae3d import MAE3DSettings
from voxseq.config.methods.masked import MaskedSettings
from voxseq.config.methods.medcoss import MedCoSSSettings
from voxseq.config.methods.moco_v3 import MoCoV3Settings
from voxseq.config.methods.ours import OursSettings
from voxseq.config.methods.pcrlv2 import PCRLv2Settings
from voxseq.config.methods.simclr import SimCLRSettings
from voxseq.config.model import EncoderConfig
from voxseq.config.registry import METHODS
from voxseq.estimate.operations import (
    FIRST,
    FROZEN,
    FULL,
    Work,
    blocks,
    convolution,
    double_convolution,
    encoder,
    matrix,
    tokens_of,
    total,
)

#: Scales of PCRLv2's decoder that carry losses.
SCALES = 3
#: Global views of DINO and PCRLv2, views of the contrastive methods.
PAIR = 2


def pretrain_work(
    method: str,
    settings: Mapping[str, Any],
    config: EncoderConfig,
    sequences: SequencesConfig,
    rehearsed: float = 0.0,
) -> Work:
    """Cost of one item in one training step.

    Args:
        method: its name.
        settings: its own, as the plan holds them.
        config: geometry of the encoder.
        sequences: shape of the volumes.
        rehearsed: of MedCoSS, the share of its steps that are rehearsal.

    A method without a formula in :data:`METHOD_WORK` is taken for :func:`plain`.
    """
    model = METHODS[method].settings
    assert model is not None
    own = model.model_validate(settings)
    if isinstance(own, MedCoSSSettings):
        return medcoss(own, config, sequences.volume_shape, rehearsed)
    return METHOD_WORK.get(method, plain)(own, config, sequences.volume_shape)


def plain(settings: MethodSettings, config: EncoderConfig, shape: Shape3) -> Work:
    """One pass of the encoder over all tokens of a volume, forward and backward, without heads."""
    return encoder(config, [tokens_of(shape, config)])


def ours(settings: OursSettings, config: EncoderConfig, shape: Shape3) -> Work:
    """Start token and all tokens but the last are encoded; a linear head predicts scored tokens."""
    length = tokens_of(shape, config)
    # The prefix is uniform over 0..L-1.
    scored = length if settings.attention == "causal" else (length + 1) / 2
    head = matrix(scored, config.width, math.prod(config.patch_size))
    return encoder(config, [length - 1], wanted=scored) + head


def simclr(settings: SimCLRSettings, config: EncoderConfig, shape: Shape3) -> Work:
    """Two views; three-layer projector on the mean token."""
    views = [tokens_of(settings.view_shape, config)] * PAIR
    widths = (config.width, config.width, config.width, settings.output_width)
    return encoder(config, views) + _perceptron(PAIR, widths)


def moco_v3(settings: MoCoV3Settings, config: EncoderConfig, shape: Shape3) -> Work:
    """Two views through both encoders; patch weights are frozen, keys have no backward pass."""
    views = [tokens_of(settings.view_shape, config)] * PAIR
    hidden, output = settings.hidden_width, settings.output_width
    projector = _perceptron(PAIR, (config.width, hidden, hidden, output))
    predictor = _perceptron(PAIR, (output, hidden, output))
    query = encoder(config, views, embedding_passes=FROZEN)
    return query + projector + predictor + (query + projector).frozen()


def dino(settings: DINOSettings, config: EncoderConfig, shape: Shape3) -> Work:
    """The student sees all views, the teacher the global ones; losses over pairs of views."""
    large = [tokens_of(settings.global_shape, config)] * PAIR
    small = [tokens_of(settings.local_shape, config)] * settings.local_views
    hidden, output = settings.hidden_width, settings.output_width
    widths = (config.width, hidden, hidden, settings.bottleneck_width, output)
    views = PAIR + settings.local_views
    student = encoder(config, [*large, *small]) + _perceptron(views, widths)
    teacher = (encoder(config, large) + _perceptron(PAIR, widths)).frozen()
    forward = 2.0 * PAIR * views * output
    return student + teacher + Work(forward, 0.0, FIRST * forward, 0.0)


def pcrlv2(settings: PCRLv2Settings, config: EncoderConfig, shape: Shape3) -> Work:
    """All views pass encoder and decoder, the first one up to full resolution.

    The scales of the losses are drawn; with three scales and six local views the third is among
    them in 99.5 % of the steps, and is counted always.
    """
    large = tokens_of(settings.global_shape, config)
    small = tokens_of(settings.local_shape, config)
    stages = config.patch_size[0].bit_length() - 1
    has_stem = stages < SCALES
    made = encoder(config, [large] * PAIR + [small] * settings.local_views)
    before, grid = config.width, large
    most = PAIR * large + settings.local_views * small
    heads = []
    for number, after in enumerate(settings.decoder_channels[: stages + has_stem]):
        # Voxels of all views that come as far as this part.
        voxels = most if number < SCALES else large
        if number > 0 or not has_stem:
            made += convolution(voxels, 8, before, after)
            most, large, voxels, grid = 8 * most, 8 * large, 8 * voxels, 8 * grid
            made += double_convolution(voxels, after, after)
        else:
            made += double_convolution(voxels, before, after)
        if number < SCALES:
            views = PAIR + settings.local_views
            made += _perceptron(views, (after, 2 * after, after))
            heads.append(convolution(grid, 27, after, 1))
        before = after
    made += convolution(large, 1, before, 1)
    # One of the restorations is drawn in each step.
    return made + total(heads).times(1 / len(heads))


def mae3d(settings: MAE3DSettings, config: EncoderConfig, shape: Shape3) -> Work:
    """The encoder sees the visible tokens of a crop, the decoder all of them."""
    return _masked(settings, config, tokens_of(settings.crop_shape, config))


def medcoss(
    settings: MedCoSSSettings, config: EncoderConfig, shape: Shape3, rehearsed: float = 0.0
) -> Work:
    """A masked autoencoder, or in rehearsal steps the encoder and its frozen teacher."""
    length = tokens_of(shape, config)
    visible = encoder(config, [visible_count(length, settings.mask_ratio)])
    autoencoder = _masked(settings, config, length)
    distillation = visible + visible.frozen()
    mixed = autoencoder.times(1 - rehearsed) + distillation.times(rehearsed)
    parameters = autoencoder.parameters + visible.parameters
    return Work(
        mixed.matrix,
        mixed.convolution,
        mixed.matrix_training,
        mixed.convolution_training,
        parameters,
        autoencoder.trained,
    )


METHOD_WORK: Mapping[str, Callable[[Any, EncoderConfig, Shape3], Work]] = {
    "simclr": simclr,
    "moco_v3": moco_v3,
    "dino": dino,
    "pcrlv2": pcrlv2,
    "mae3d": mae3d,
    "medcoss": medcoss,
    "ours": ours,
}


def visible_count(length: int, ratio: float) -> int:
    """Visible tokens of so many, as the masked methods count them; at least one on each side."""
    return min(max(int(round(length * (1 - ratio), 6)), 1), length - 1)


def _masked(settings: MaskedSettings, config: EncoderConfig, length: int) -> Work:
    visible = visible_count(length, settings.mask_ratio)
    width, voxels = settings.decoder_width, math.prod(config.patch_size)
    parts = [
        encoder(config, [visible]),
        matrix(visible + 1, config.width, width),
        blocks([length + 1], width, settings.decoder_depth, 4 * width),
        matrix(length - visible, width, voxels),
    ]
    return total(parts)


def _perceptron(rows: float, widths: Sequence[int], passes: int = FULL) -> Work:
    return total(matrix(rows, a, b, passes) for a, b in pairwise(widths))
