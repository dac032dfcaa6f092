"""Settings of each pre-training method; free of torch, so that the plan can read them fast."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationError

from voxseq.config.base import Model
from voxseq.config.load import explain
from voxseq.config.model import OptimiserConfig
from voxseq.config.root import Config
from voxseq.errors import ConfigError


class MethodSettings(Model):
    """What every method has."""

    optimiser: OptimiserConfig


class OursSettings(MethodSettings):
    """Autoregressive sequence modelling (paper, section 3; optimiser of the published code)."""

    optimiser: OptimiserConfig = OptimiserConfig(lr=1e-4)
    attention: Literal["prefix", "causal"] = Field(
        "prefix", description="prefix: a random start, tokens before it see each other"
    )
    token_order: Literal["patch_major", "raster"] = Field(
        "patch_major", description="patch_major: the paper's text; raster: the published code"
    )
    sequences: bool = Field(True, description="false: single images in place of sequences")


def validate_methods(config: Config, origin: str) -> Config:
    """Validate the settings of every pre-training method and fill in their defaults.

    Raises:
        ConfigError: an unknown method or a setting that its model refuses.
    """
    from voxseq.methods import pretrained

    known = pretrained()
    complete: dict[str, Mapping[str, Any]] = {}
    for name, given in config.pretrain.methods.items():
        if name not in known:
            raise ConfigError(
                f"{origin}: pretrain.methods.{name} is no pre-training method",
                f"choose from {', '.join(known)}",
            )
        model = known[name].settings
        assert model is not None
        try:
            complete[name] = model.model_validate(given).model_dump(mode="json")
        except ValidationError as error:
            raise ConfigError(
                f"{origin}: settings of pretrain.methods.{name} are not valid:\n{explain(error)}",
                f"docs/methods/{name}.md lists every setting",
            ) from None
    pretrain = config.pretrain.model_copy(update={"methods": complete})
    return config.model_copy(update={"pretrain": pretrain})
