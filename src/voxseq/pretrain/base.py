"""The interface between a pre-training method and the training loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from voxseq.base.errors import ConfigError
from voxseq.config.data import SequencesConfig
from voxseq.config.methods import MethodSettings
from voxseq.config.model import EncoderConfig, OptimiserConfig
from voxseq.models.compiled import compile_blocks
from voxseq.models.encoder import Block, Encoder, build_encoder
from voxseq.models.initialise import seeded
from voxseq.pretrain.batching import Batch, Batching
from voxseq.sequences.sampler import SequenceSampler
from voxseq.training.distributed import WHOLE, BatchShard


@dataclass(frozen=True)
class StageWork:
    """What a method may use for long work at the beginning of a stage.

    Attributes:
        state: folder of the run's state, for files from which a stopped run goes on; ``None``
            keeps nothing.
        precision: of the training, as Fabric names it.
        read: list numbers, and how many at a time → volumes (B, 1, X, Y, Z) of single images, as
            :func:`voxseq.pretrain.batching.read_volumes` yields them; ``None``: that one, without
            worker processes.
    """

    state: Path | None = None
    precision: str = "32-true"
    read: Callable[[NDArray[np.int64], int], Generator[Tensor, None, None]] | None = None


class PretrainMethod(nn.Module, ABC):
    """A pre-training method: its networks, its view of the data and its loss.

    The constructor calls :meth:`build`, then come :meth:`begin` once; :meth:`begin_stage` before
    each stage; for each item ``batching.choose`` and ``batching.draw``, for each step
    ``batching.views``, :meth:`training_loss`,
    backward, :meth:`before_update`, the optimiser, :meth:`after_step`. All random numbers come from
    the generators that are handed in, which are functions of the seed and the step. State that must
    survive a restart is in parameters and buffers, which have their final shapes after
    :meth:`begin`.

    Args:
        settings: the method's own configuration.
        encoder_config: geometry of the encoder.
        sequences: shape and order of the volumes.
        seed: all initial weights depend on it and on nothing else.

    Attributes:
        batching: how its batches are made, without networks: worker processes get it.
        selection: which weights are kept: the last ones, or those of the smallest validation
            loss, which only makes sense where the loss is comparable between steps.
        backbone: the encoder that is trained.
        total_steps: length of the training, 0 before :meth:`begin`.
        has_static_shapes: whether tensors are padded so that steps have the same shapes.
        shard: rows of the global batch that the batch at hand has, in training. The losses of all
            shards must have the loss of the global batch as their mean: draw random numbers for
            the global batch and take the local ones; gather what samples of other shards must see.
    """

    batching_type: ClassVar[type[Batching]] = Batching
    selection: ClassVar[Literal["last", "validation_loss"]] = "last"

    def __init__(
        self,
        settings: MethodSettings,
        encoder_config: EncoderConfig,
        sequences: SequencesConfig,
        seed: int,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.encoder_config = encoder_config
        self.sequences = sequences
        self.seed = seed
        self.total_steps = 0
        self.has_static_shapes = False
        self.shard: BatchShard = WHOLE
        self.batching = self.batching_type(settings, sequences, seed)
        self.backbone = build_encoder(encoder_config, [seed, 0], pretraining=True)
        with seeded([seed, 1]):
            self.build()
        self.register_load_state_dict_post_hook(_inform_batching)  # type: ignore[no-untyped-call]

    def build(self) -> None:
        """Make the networks besides the backbone; their weights are drawn from the seed."""

    @property
    def encoder(self) -> Encoder:
        """The encoder that is transferred; another one than the backbone in some methods."""
        return self.backbone

    def recompute(self) -> None:
        """Compute activations of trained transformer blocks again in the backward pass.

        They are not kept, which saves most of the memory of a step; values are the same.
        """
        for block in self.modules():
            if isinstance(block, Block) and next(block.parameters()).requires_grad:
                block.recomputes = True

    def compile_blocks(self) -> None:
        """Compile the transformer blocks, and keep to few shapes, for each is compiled anew.

        Raises:
            ConfigError: there is no compiler.
        """
        compile_blocks(self)
        self.has_static_shapes = True

    def stages(self, steps: int) -> tuple[range, ...]:
        """The steps of each stage of the training, one after the other.

        A stage has a fresh optimiser and a learning-rate schedule of its own, and its batches are
        drawn after :meth:`begin_stage`. The settings say which stages there are.
        """
        return self.settings.stages(steps)

    def begin(self, total_steps: int, data: SequenceSampler) -> None:
        """Learn the length of the training and the data before anything else, also on resuming.

        Args:
            total_steps: of all stages together.
            data: all training items; for their number.
        """
        self.batching.begin(total_steps, data)
        self.total_steps = total_steps

    def begin_stage(
        self, number: int, data: SequenceSampler, work: StageWork | None = None
    ) -> None:
        """Called before the first batch of a stage; not again when a run resumes inside it.

        A run that is stopped during this call makes it again from what it left, so nothing that it
        sets may enter into what it computes.

        Args:
            number: of the stage, from 0.
            data: all training items.
            work: for what takes long; by default nothing is kept.
        """

    def inform_batching(self) -> None:
        """Copy what drawing needs of the parameters and buffers into :attr:`batching`.

        Called whenever a state has been loaded; where :meth:`begin_stage` changes it, it calls
        this itself.
        """

    @abstractmethod
    def training_loss(
        self, batch: Batch, step: int, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return ``loss``, the scalar to minimise, and further scalars to log."""

    def validation_loss(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return ``loss`` on held-out samples, comparable between steps, and further scalars.

        By default the training loss; override it where that updates anything or depends on the
        step.
        """
        return self.training_loss(batch, 0, generator)

    def forward(self, batch: Batch, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Same as :meth:`training_loss`, under the name that wrappers of modules call."""
        return self.training_loss(batch, step, generator)

    def parameter_groups(self, optimiser: OptimiserConfig) -> list[dict[str, Any]]:
        """Parameters with their learning rate and weight decay.

        Frozen parameters are left out. Parameters outside the backbone learn at ``decoder_lr``
        where that is set; one-dimensional ones are not decayed when
        ``decay_one_dimensional`` is false.

        Raises:
            ConfigError: for a layer decay, which belongs to fine-tuning.
        """
        if optimiser.layer_decay is not None:
            raise ConfigError(
                f"optimiser.layer_decay {optimiser.layer_decay}: pre-training starts from random "
                "weights and has no layer-wise decay",
                "set it to null",
            )
        own = {id(parameter) for parameter in self.backbone.parameters()}
        groups: dict[str, dict[str, Any]] = {}
        for parameter in self.parameters():
            if not parameter.requires_grad:
                continue
            inside = id(parameter) in own
            decayed = optimiser.decay_one_dimensional or parameter.ndim > 1
            name = f"{'encoder' if inside else 'head'}.{'decay' if decayed else 'no_decay'}"
            rate = optimiser.lr if inside else optimiser.decoder_lr or optimiser.lr
            decay = optimiser.weight_decay if decayed else 0.0
            group = groups.setdefault(
                name, {"name": name, "params": [], "lr": rate, "weight_decay": decay}
            )
            group["params"].append(parameter)
        return list(groups.values())

    def before_update(self, step: int, groups: Sequence[dict[str, Any]]) -> None:
        """Called between backward (gradients unscaled) and the optimiser's step.

        For clipping per parameter, dropping gradients of a layer for some steps, or a schedule of
        weight decay.

        Args:
            step: from 0.
            groups: the optimiser's parameter groups.
        """

    def after_step(self, step: int, total: int) -> None:
        """Called after the optimiser's step ``step`` of ``total``: moving averages and the like."""


def _inform_batching(method: PretrainMethod, _: object) -> None:
    method.inform_batching()
