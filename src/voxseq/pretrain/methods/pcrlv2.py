"""PCRLv2: restoration and comparison at several scales of a decoder (Zhou et al. 2023)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor, nn

from voxseq.config.methods.pcrlv2 import SCALES, PCRLv2Settings
from voxseq.pretrain.base import PretrainMethod
from voxseq.pretrain.batching import Batch, Batching, Stream
from voxseq.training.pieces import in_pieces
from voxseq.training.schedule import half_cosine
from voxseq.transforms.pcrlv2 import (
    LARGE_SIDE,
    SMALL_SIDE,
    Corruption,
    box_near,
    overlapping_boxes,
    resample,
    view_matrix,
)

#: Most items of a validation's forward pass; more take memory and save no time.
VALIDATION_ROWS = 32


def _convolutions(inside: int, outside: int) -> list[nn.Module]:
    return [
        nn.Conv3d(inside, outside, 3, padding=1, bias=False),
        nn.BatchNorm3d(outside),
        nn.ReLU(inplace=True),
    ]


def _full(values: Tensor) -> Tensor:
    """The same in float32 at least: half precision would round losses and restored voxels."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


class Decoder(nn.Module):
    """From the last tokens alone to full resolution: no skip connection passes the bottleneck.

    Tokens of 2^k voxels need k stages, each a transposed convolution and two convolutions. From
    three stages on the scales are the outputs of the first three; with fewer, the token grid,
    after two convolutions, is the first scale.

    Attributes:
        recomputes: whether activations are computed again in the backward pass, in pieces.
    """

    def __init__(self, width: int, stages: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.recomputes = False
        has_stem = stages < SCALES
        wanted = stages + has_stem
        self.parts = nn.ModuleList()
        before = width
        for number, after in enumerate(channels[:wanted]):
            is_stage = number > 0 or not has_stem
            first: list[nn.Module] = [nn.ConvTranspose3d(before, after, 2, stride=2)]
            part = first + _convolutions(after, after) if is_stage else _convolutions(before, after)
            self.parts.append(nn.Sequential(*part, *_convolutions(after, after)))
            before = after
        self.channels = tuple(channels[: min(SCALES, wanted)])
        self.out = nn.Conv3d(before, 1, 1)

    def forward(self, bottleneck: Tensor, depth: int) -> list[Tensor]:
        """Features of the first ``depth`` scales; (B, C, x, y, z) is the grid of tokens."""
        features = []
        for part in list(self.parts)[:depth]:
            bottleneck = self._apply_layers(cast(nn.Sequential, part), bottleneck)
            features.append(bottleneck)
        return features

    def restore(self, features: Tensor) -> Tensor:
        """The view in 0..1, at full resolution, from the features of the last scale."""
        left = [layer for part in list(self.parts)[SCALES:] for layer in cast(nn.Sequential, part)]
        return torch.sigmoid(_full(self._apply_layers([*left, self.out], features)))

    def _apply_layers(self, layers: Iterable[nn.Module], inputs: Tensor) -> Tensor:
        # Without training samples do not interact, and those who want pieces make them.
        if self.recomputes and self.training:
            return in_pieces(list(layers), inputs)
        for layer in layers:
            inputs = layer(inputs)
        return inputs


class ScaleHeads(nn.Module):
    """Projection, prediction and restoration at one scale (published code)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.projection = nn.BatchNorm1d(channels)
        self.predictor = nn.Sequential(
            nn.Linear(channels, 2 * channels),
            nn.BatchNorm1d(2 * channels),
            nn.ReLU(inplace=True),
            nn.Linear(2 * channels, channels),
        )
        self.restoration = nn.Sequential(nn.Conv3d(channels, 1, 3, padding=1), nn.BatchNorm3d(1))

    def embed(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Projection z and prediction p of features (B, C, x, y, z), each (B, C)."""
        projected = self.projection(features.mean(dim=(2, 3, 4)))
        return projected, self.predictor(projected)

    def restore(self, features: Tensor, shape: Sequence[int]) -> Tensor:
        """The view in 0..1, (B, 1, *shape), from features of a coarser grid."""
        coarse = torch.sigmoid(_full(self.restoration(features)))
        return F.interpolate(coarse, size=tuple(shape), mode="trilinear", align_corners=False)


Embedding = tuple[Tensor, Tensor]


def agreement(one: Embedding, other: Embedding) -> Tensor:
    """Symmetric negative cosine similarity; the projection that is predicted gets no gradient.

    Args:
        one: z and p of a view, each (B, C).
        other: those of another view.
    """
    (z1, p1), (z2, p2) = ((_full(z), _full(p)) for z, p in (one, other))
    forth = F.cosine_similarity(p1, z2.detach(), dim=1).mean()
    back = F.cosine_similarity(p2, z1.detach(), dim=1).mean()
    return -0.5 * (forth + back)


def restoration_weight(step: int, total: int) -> float:
    """Weight β of the coarse restoration: half a cosine from 1 to 0."""
    length = max(total, 1)
    return half_cosine(1.0, 0.0, min(step, length), length)


class PCRLv2Batching(Batching):
    """Two corrupted large views of each volume, and small ones near them."""

    settings: PCRLv2Settings

    def build(self) -> None:
        """Make the corruption of large and of small views."""
        options = self.settings
        self.corrupt_global = Corruption(
            options.global_shape,
            options.blur,
            LARGE_SIDE,
            options.noise,
            options.swaps,
            options.swap_block,
        )
        self.corrupt_local = Corruption(
            options.local_shape, options.blur, SMALL_SIDE, options.noise
        )
        large, small = self.corrupt_global.drawn, self.corrupt_local.drawn
        count = options.local_views
        self.drawn = np.dtype(
            [
                *(("large", large, 2), ("large_matrix", "<f8", (2, 3, 4))),
                *(("small", small, (count,)), ("small_matrix", "<f8", (count, 3, 4))),
            ]
        )

    def draw(self, stream: Stream) -> NDArray[Any]:
        """Draw the boxes of all views together, then each view from its own stream."""
        options = self.settings
        drawn = np.zeros((), self.drawn)
        boxes = stream(0)
        pair = overlapping_boxes(options.global_side, options.overlap, boxes)
        near = [box_near(pair, options.local_side, boxes) for _ in range(options.local_views)]
        number = 0
        for name, found, corruption in (
            ("large", pair, self.corrupt_global),
            ("small", near, self.corrupt_local),
        ):
            for view, box in enumerate(found):
                number += 1
                rng = stream(number)
                drawn[f"{name}_matrix"][view] = view_matrix(box, rng)
                drawn[name][view] = corruption.draw(rng)
        return drawn

    def views(self, volumes: Tensor, drawn: NDArray[Any], is_ct: NDArray[np.bool_]) -> Batch:
        """Make the views.

        Returns:
            ``first`` and ``second``: corrupted large views (B, 1, *global_shape); ``target``: the
            first one before corruption, in 0..1; ``local``: (B, local_views, 1, *local_shape).
        """
        del is_ct
        options = self.settings
        first, second = (
            resample(volumes, drawn["large_matrix"][:, view], options.global_shape)
            for view in range(2)
        )
        local = self.corrupt_local(
            resample(volumes, drawn["small_matrix"], options.local_shape).flatten(0, 1),
            drawn["small"].reshape(-1),
        )
        return {
            "first": self.corrupt_global(first, drawn["large"][:, 0]),
            "second": self.corrupt_global(second, drawn["large"][:, 1]),
            "target": first,
            "local": local.view(len(volumes), -1, 1, *options.local_shape),
        }


class PCRLv2Method(PretrainMethod):
    """Restore a corrupted view, and let views of one scan agree, at scales drawn for each step.

    One encoder and one decoder see all views: there is no moving average. Tokens are cubes whose
    side is a power of two.
    """

    settings: PCRLv2Settings
    batching_type = PCRLv2Batching

    def build(self) -> None:
        """Make the decoder and the heads of its scales."""
        stages = self.encoder_config.patch_size[0].bit_length() - 1
        channels = self.settings.decoder_channels
        self.decoder = Decoder(self.encoder_config.width, stages, channels)
        self.heads = nn.ModuleList(ScaleHeads(c) for c in self.decoder.channels)

    def recompute(self) -> None:
        """Compute the activations of the decoder again too, in pieces of the batch."""
        super().recompute()
        self.decoder.recomputes = True

    def features(self, views: Tensor, depth: int) -> list[Tensor]:
        """Decoder features of views (B, 1, X, Y, Z), from the encoder's last tokens alone."""
        grid = self.backbone.grid(views)
        tokens = self.backbone(views).tokens.transpose(1, 2)
        features: list[Tensor] = self.decoder(tokens.reshape(*tokens.shape[:2], *grid), depth)
        return features

    def draw_scales(self, generator: torch.Generator) -> tuple[int, list[list[int]]]:
        """The scale of the large views' loss, and one for each pair of small and large view."""
        count = len(self.heads)
        whole = int(torch.randint(count, (), generator=generator, device=generator.device))
        pairs = torch.randint(
            count, (self.settings.local_views, 2), generator=generator, device=generator.device
        )
        return whole, pairs.tolist()

    def training_loss(
        self, batch: Batch, step: int, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return ``loss`` and its parts: ``restoration``, ``coarse``, ``large``, ``small``."""
        weight = restoration_weight(step, self.total_steps)
        return self._loss(batch, weight, self.draw_scales(generator))

    def validation_loss(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the same with the coarse restoration always at weight 1, row by row.

        Outside training samples do not interact, so a few at a time give the same mean.
        """
        scales = self.draw_scales(generator)
        rows = len(batch["target"])
        means: dict[str, Tensor] = {}
        for first in range(0, rows, VALIDATION_ROWS):
            piece = {n: v[first : first + VALIDATION_ROWS] for n, v in batch.items()}
            weight = len(piece["target"]) / rows
            for name, value in self._loss(piece, 1.0, scales).items():
                means[name] = means.get(name, 0.0) + weight * value
        return means

    def _loss(
        self, batch: Batch, weight: float, scales: tuple[int, list[list[int]]]
    ) -> dict[str, Tensor]:
        scale, pairs = scales
        deepest = 1 + max(scale, *(s for pair in pairs for s in pair))
        first = self.features(batch["first"], len(self.heads))
        second = self.features(batch["second"], deepest)
        local = self.features(batch["local"].flatten(0, 1), deepest)
        large = [self._embeddings(views) for views in (first, second)]
        small = self._embeddings(local)
        parts = [
            agreement(_every(small[s], i, self.settings.local_views), large[which][s])
            for i, pair in enumerate(pairs)
            for which, s in enumerate(pair)
        ]
        target = batch["target"]
        restored = self.decoder.restore(first[-1])
        coarse = self.scale_heads[scale].restore(first[scale], target.shape[2:])
        losses = {
            "restoration": F.mse_loss(restored, target),
            "coarse": F.mse_loss(coarse, target),
            "large": agreement(large[0][scale], large[1][scale]),
            "small": torch.stack(parts).mean(),
        }
        total = losses["restoration"] + losses["large"] + losses["small"]
        return {"loss": total + weight * losses["coarse"], **losses}

    def _embeddings(self, features: Sequence[Tensor]) -> list[Embedding]:
        pairs = zip(self.scale_heads, features, strict=False)
        return [head.embed(feature) for head, feature in pairs]

    @property
    def scale_heads(self) -> list[ScaleHeads]:
        """The heads, the deepest scale first."""
        return [cast(ScaleHeads, head) for head in self.heads]


def _every(embedding: Embedding, first: int, step: int) -> Embedding:
    """Rows ``first``, ``first + step``, … of an embedding."""
    projected, predicted = embedding
    return projected[first::step], predicted[first::step]
