"""What the settings of every pre-training method have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field, model_validator

from voxseq.config.base import Model
from voxseq.config.model import OptimiserConfig


class MethodSettings(Model):
    """What every method has.

    Attributes:
        accumulates: whether the loss of a batch is the mean of the losses of its parts, so that
            they can be computed one after the other.
        shards: whether all weights are used in every forward pass, and there alone, so that they
            can be divided among processes.
    """

    accumulates: ClassVar[bool] = False
    shards: ClassVar[bool] = False

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
