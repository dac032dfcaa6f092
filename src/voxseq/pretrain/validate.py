"""Validating the settings of the pre-training methods, each by its own model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from voxseq.config.load import explain
from voxseq.config.root import Config
from voxseq.errors import ConfigError
from voxseq.methods import pretrained


def validate_methods(config: Config, origin: str) -> Config:
    """Validate the settings of every pre-training method and fill in their defaults.

    Raises:
        ConfigError: an unknown method or a setting that its model refuses.
    """
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
    _check_accumulation(config, origin)
    _check_sharding(config, origin)
    pretrain = config.pretrain.model_copy(update={"methods": complete})
    return config.model_copy(update={"pretrain": pretrain})


def _check_accumulation(config: Config, origin: str) -> None:
    known = pretrained()
    able = [n for n, row in known.items() if row.settings and row.settings.accumulates]
    for name, parts in config.execution.pretrain.accumulate.items():
        if parts > 1 and name not in able:
            reason = "its items meet in the loss or in statistics of the batch"
            raise ConfigError(
                f"{origin}: execution.pretrain.accumulate.{name}: {_why(name, reason)}",
                f"possible for {', '.join(able)}; use more processes, or recompute: true, for "
                "the others",
            )


def _check_sharding(config: Config, origin: str) -> None:
    able = [n for n, row in pretrained().items() if row.settings and row.settings.shards]
    for name in config.execution.pretrain.sharded:
        if name not in able:
            reason = "weights are used outside of its forward pass, or left out of some steps"
            raise ConfigError(
                f"{origin}: execution.pretrain.sharded: {name}: {_why(name, reason)}",
                f"possible for {', '.join(able)}; recompute: true saves memory for the others",
            )
    if config.execution.pretrain.sharded and config.pretrain.precision == "16-mixed":
        raise ConfigError(
            f"{origin}: execution.pretrain.sharded and pretrain.precision 16-mixed exclude each "
            "other: losses cannot be scaled where weights are divided",
            "set pretrain.precision to bf16-mixed",
        )


def _why(name: str, reason: str) -> str:
    return reason if name in pretrained() else "there is no such pre-training method"
