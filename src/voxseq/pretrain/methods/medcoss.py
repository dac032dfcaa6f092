"""MedCoSS: masked autoencoding of CT, then of MRI while CT is rehearsed (Ye et al. 2024)."""

from __future__ import annotations

import logging
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from voxseq.base.errors import DataError
from voxseq.base.random import numpy_generator
from voxseq.config.methods.medcoss import MedCoSSSettings
from voxseq.models.encoder import EncoderOutput
from voxseq.models.initialise import seeded
from voxseq.models.patches import Grid, normalised_targets, patchify, token_grid
from voxseq.pretrain.base import PretrainMethod, StageWork
from voxseq.pretrain.batching import Batch, Batching, Stream, listed_image
from voxseq.pretrain.parts.masked import (
    MaskedDecoder,
    draw_mask,
    encode_visible,
    gather_tokens,
)
from voxseq.pretrain.parts.momentum import frozen_copy
from voxseq.pretrain.parts.rehearsal import (
    EMPTY,
    BufferSize,
    choose_buffer,
    choose_candidates,
)
from voxseq.sequences.sampler import SequenceSampler

_LOG = logging.getLogger("voxseq.pretrain")
#: The modality of each stage.
MODALITIES = ("CT", "MRI")


class MedCoSSBatching(Batching):
    """Batches of one modality: CT, then MRI in turn with CT of the rehearsal buffer.

    Attributes:
        numbers: modality → sorted list numbers of its items.
        rehearsed: list numbers in the buffer; none before stage 1.
        total_steps: length of the training.
    """

    settings: MedCoSSSettings
    drawn = np.dtype([("flips", "?", 3)])

    def build(self) -> None:
        """Nothing is known before :meth:`begin`."""
        self.total_steps = 0
        self.numbers: dict[str, NDArray[np.int64]] = {}
        self.rehearsed = np.empty(0, np.int64)
        # Of the step that was asked for last.
        self._latest: tuple[tuple[int, int], NDArray[np.int64]] = ((-1, 0), self.rehearsed)

    def begin(self, total_steps: int, data: SequenceSampler) -> None:
        """Look up which items are CT and which MRI.

        Raises:
            DataError: when one of them has no items.
        """
        self.total_steps = total_steps
        self.numbers = {modality: data.numbers(modality) for modality in MODALITIES}
        for modality, numbers in self.numbers.items():
            if not len(numbers):
                raise DataError(
                    f"MedCoSS learns from CT and then from MRI, but the training list has no "
                    f"{modality}",
                    f"add a data set of {modality} to sequences.sources, or take medcoss out of "
                    "pretrain.methods",
                )

    def source(self, step: int, size: int) -> str:
        """Where the batch of a step comes from: "CT", "MRI" or "rehearsal".

        An epoch of stage 1 has one batch for each ``size`` items of MRI and of the buffer, at
        least one of each, in an order that is shuffled for each epoch (published code).
        """
        first, second = self.settings.stages(self.total_steps)
        if step < first.stop:
            return MODALITIES[0]
        current = max(len(self.numbers[MODALITIES[1]]) // size, 1)
        rehearsed = max(len(self.rehearsed) // size, 1)
        epoch, place = divmod(step - second.start, current + rehearsed)
        order = numpy_generator(self.seed, "medcoss epoch", epoch).permutation(current + rehearsed)
        return MODALITIES[1] if order[place] < current else "rehearsal"

    def choose(
        self, data: SequenceSampler, step: int, size: int, slot: int
    ) -> tuple[int, np.random.Generator]:
        """Choose an item of the step's source, with replacement (published code)."""
        number = int(self._chosen(step, size)[slot])
        if self.source(step, size) == "rehearsal":
            return listed_image(data.seed, number)
        return number, numpy_generator(self.seed, "medcoss item", step, slot)

    def _chosen(self, step: int, size: int) -> NDArray[np.int64]:
        """The items of a batch, all from one source."""
        if self._latest[0] != (step, size):
            source = self.source(step, size)
            numbers = self.rehearsed if source == "rehearsal" else self.numbers[source]
            chosen = numpy_generator(self.seed, "medcoss batch", step).choice(numbers, size)
            self._latest = (step, size), chosen
        return self._latest[1]

    def draw(self, stream: Stream) -> NDArray[Any]:
        """Mirror half of the items, along each axis with probability 0.5 (published code)."""
        drawn = np.zeros((), self.drawn)
        rng = stream(0)
        if rng.random() < 0.5:
            drawn["flips"] = rng.random(3) < 0.5
        return drawn

    def views(self, volumes: Tensor, drawn: NDArray[Any], is_ct: NDArray[np.bool_]) -> Batch:
        """Mirror the volumes.

        Returns:
            ``volume``: (B, 1, X, Y, Z) float32; ``ct``: (B,) bool, on the CPU.
        """
        mirrored = torch.empty_like(volumes)
        for view, volume, flips in zip(mirrored, volumes, drawn["flips"], strict=True):
            view.copy_(volume.flip([1 + int(axis) for axis in np.flatnonzero(flips)]))
        return {"volume": mirrored, "ct": torch.from_numpy(is_ct)}


class MedCoSSMethod(PretrainMethod):
    """Continual pre-training in two stages.

    Stage 0 is a masked autoencoder of CT. Before stage 1 a buffer of typical CT items is chosen,
    the encoder is copied as the teacher, and the decoder gets new random weights. Stage 1 is a
    masked autoencoder of MRI; in its rehearsal batches, which hold mixed CT of the buffer, the
    encoder is to keep the teacher's features.
    """

    settings: MedCoSSSettings
    batching: MedCoSSBatching
    batching_type = MedCoSSBatching
    rehearsal: Tensor

    def build(self) -> None:
        """Make decoder and teacher."""
        self.patch_size: Grid = self.encoder_config.patch_size
        self.grid = token_grid(self.sequences.image_shape, self.patch_size)
        self.decoder = self._new_decoder(0)
        self.teacher = frozen_copy(self.backbone).eval()
        self.register_buffer("rehearsal", torch.empty(0, dtype=torch.int64))

    def _new_decoder(self, stage: int) -> MaskedDecoder:
        with seeded([self.seed, 1, stage]):
            return MaskedDecoder(self.settings, self.encoder_config, self.grid)

    def train(self, mode: bool = True) -> Self:
        """Set the training mode; the teacher stays in evaluation."""
        super().train(mode)
        self.teacher.eval()
        return self

    def begin(self, total_steps: int, data: SequenceSampler) -> None:
        """Make room for the buffer of the items of stage 0.

        Raises:
            DataError: there is no CT or no MRI.
        """
        super().begin(total_steps, data)
        room = torch.full((self.buffer_size.total,), EMPTY, dtype=torch.int64)
        self.register_buffer("rehearsal", room.to(self.rehearsal.device))

    @property
    def buffer_size(self) -> BufferSize:
        """How many items of stage 0 are rehearsed in stage 1; known after :meth:`begin`."""
        items = len(self.batching.numbers[MODALITIES[0]])
        return BufferSize.of(items, self.settings.cluster_share, self.settings.buffer_share)

    def begin_stage(
        self, number: int, data: SequenceSampler, work: StageWork | None = None
    ) -> None:
        """Before stage 1: choose the buffer, copy the teacher, renew the decoder."""
        if number == 0:
            return
        self.rehearsal.copy_(self._choose_buffer(data, work or StageWork()))
        self.inform_batching()
        self.teacher.load_state_dict(self.backbone.state_dict())
        self.decoder.load_state_dict(self._new_decoder(number).state_dict())

    def inform_batching(self) -> None:
        """Hand the list numbers in the buffer over."""
        kept = self.rehearsal.cpu().numpy()
        self.batching.rehearsed = kept[kept != EMPTY]

    def _choose_buffer(self, data: SequenceSampler, work: StageWork) -> Tensor:
        numbers = self.batching.numbers[MODALITIES[0]]
        candidates = choose_candidates(numbers, self.settings.buffer_candidates, self.seed)
        size = self.buffer_size
        buffer = choose_buffer(self.backbone, data, candidates, size, self.seed, work)
        _LOG.info(
            "rehearsal buffer: %d of %d CT items, by %d clusters of %d",
            int((buffer != EMPTY).sum()),
            len(numbers),
            size.clusters,
            len(candidates),
        )
        return buffer

    def training_loss(
        self, batch: Batch, step: int, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return ``loss``, once more under the name of the one of the two that it is.

        It is ``reconstruction``, or ``distillation`` in a rehearsal batch. Batches are of one
        modality, so CT in stage 1 comes from the buffer.
        """
        if step in self.stages(self.total_steps)[1] and bool(batch["ct"].all()):
            mixed = self.shard.local(mix(self.shard.gather(batch["volume"]), generator))
            loss = self.distillation_loss(mixed, generator)
            return {"loss": loss, "distillation": loss}
        loss = self.reconstruction_loss(batch["volume"], generator)
        return {"loss": loss, "reconstruction": loss}

    def validation_loss(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return ``loss``, that of the autoencoder on CT and MRI; the decoder knows the current."""
        return {"loss": self.reconstruction_loss(batch["volume"], generator)}

    def reconstruction_loss(self, volume: Tensor, generator: torch.Generator) -> Tensor:
        """Mean squared error of the hidden tokens' voxels, each token normalised by itself.

        Args:
            volume: (B, 1, X, Y, Z).
            generator: of the mask.
        """
        patches = patchify(volume, self.patch_size)
        mask = draw_mask(patches, self.settings.mask_ratio, generator, self.shard)
        encoded = encode_visible(self.backbone, patches, self.grid, mask)
        prediction = self.decoder(encoded, mask)
        targets = normalised_targets(gather_tokens(patches, mask.hidden))
        return nn.functional.mse_loss(prediction.float(), targets)

    def distillation_loss(self, volume: Tensor, generator: torch.Generator) -> Tensor:
        """Mean squared difference of the encoder's and the teacher's visible and start tokens.

        Both see the same visible tokens of ``volume`` (B, 1, X, Y, Z).
        """
        patches = patchify(volume, self.patch_size)
        mask = draw_mask(patches, self.settings.mask_ratio, generator, self.shard)
        student = _states(encode_visible(self.backbone, patches, self.grid, mask))
        with torch.no_grad():
            teacher = _states(encode_visible(self.teacher, patches, self.grid, mask))
        return nn.functional.mse_loss(student.float(), teacher.float())


def mix(volume: Tensor, generator: torch.Generator) -> Tensor:
    """Mix each sample with another one of its batch: share * x + (1 - share) * x_other.

    Args:
        volume: (B, 1, X, Y, Z).
        generator: of the shares, uniform over 0..1 for each sample, and of the permutation that
            names the other one, which may be the sample itself (published code).
    """
    count, device = len(volume), generator.device
    other = torch.randperm(count, generator=generator, device=device).to(volume.device)
    share = torch.rand(count, 1, 1, 1, 1, generator=generator, device=device).to(volume)
    return share * volume + (1 - share) * volume[other]


def _states(encoded: EncoderOutput) -> Tensor:
    """(B, 1 + K, C): the start token and the visible ones."""
    return torch.cat([encoded.start[:, None], encoded.tokens], dim=1)
