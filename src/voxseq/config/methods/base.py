"""Base of the settings of every pre-training method."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import Field, model_validator

from voxseq.config.base import Model, Shape3
from voxseq.config.data import SequencesConfig
from voxseq.config.model import EncoderConfig, OptimiserConfig

#: Key below a method's settings, and what is wrong with its value; several keys have none.
Misfit = tuple[str, str]


@dataclass(frozen=True)
class Surroundings:
    """The rest of the configuration that a method's settings must agree with.

    Attributes:
        encoder: geometry of the encoder.
        sequences: shape of the volumes that methods are fed.
        steps: length of the training.
        batch_size: items of a step, in all processes together: so many does a loss or a batch norm
            see, because they are gathered.
        modalities: of the sources, "CT" or "MRI".
    """

    encoder: EncoderConfig
    sequences: SequencesConfig
    steps: int
    batch_size: int
    modalities: frozenset[str]

    def grid(self, key: str, shape: Shape3) -> Iterator[Misfit]:
        """A box that cannot be cut into tokens."""
        found = self.encoder.misfit(shape)
        if found:
            yield key, found


class MethodSettings(Model):
    """Settings of every method.

    Attributes:
        accumulates: whether the loss of a batch is the mean of the losses of its parts, so that
            they can be computed one after the other.
        least_batch: items without which the loss or a batch norm says nothing.
        batch_reason: why.
    """

    accumulates: ClassVar[bool] = False
    least_batch: ClassVar[int] = 1
    batch_reason: ClassVar[str] = ""

    optimiser: OptimiserConfig = Field(
        description="laid over the method's own defaults: a key that is left out keeps them"
    )

    @model_validator(mode="before")
    @classmethod
    def _over_own_defaults(cls, content: Any) -> Any:
        """Lay ``optimiser`` over the method's default, of which a part may be given."""
        default = cls.model_fields["optimiser"].default
        if not isinstance(content, Mapping) or not isinstance(default, OptimiserConfig):
            return content
        given = content.get("optimiser")
        if not isinstance(given, Mapping):
            return content
        return {**content, "optimiser": {**default.model_dump(), **given}}

    def misfits(self, around: Surroundings) -> Iterator[Misfit]:
        """Settings that cannot work with the rest of the configuration.

        Methods add their own to these.
        """
        shortest = min(len(stage) for stage in self.stages(around.steps))
        if self.optimiser.warmup_steps > shortest:
            yield (
                "optimiser.warmup_steps",
                f"{self.optimiser.warmup_steps} exceeds the {shortest} steps of the training"
                f"{'' if shortest == around.steps else ' stage'} (pretrain.steps {around.steps}); "
                "expected no more",
            )
        if self.optimiser.layer_decay is not None:
            yield (
                "optimiser.layer_decay",
                f"{self.optimiser.layer_decay}: pre-training starts from random weights and has "
                "no layer-wise decay; expected null",
            )
        if around.batch_size < self.least_batch:
            yield (
                "",
                f"pretrain.batch_size {around.batch_size}: {self.batch_reason}; expected "
                f"{self.least_batch} or more",
            )

    def stages(self, steps: int) -> tuple[range, ...]:
        """The steps of each stage of the training, one after the other; most methods have one."""
        return (range(steps),)
