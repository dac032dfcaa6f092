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
    pretrain = config.pretrain.model_copy(update={"methods": complete})
    return config.model_copy(update={"pretrain": pretrain})


def _check_accumulation(config: Config, origin: str) -> None:
    known = pretrained()
    able = [n for n, row in known.items() if row.settings and row.settings.accumulates]
    for name, parts in config.execution.pretrain.accumulate.items():
        if parts > 1 and name not in able:
            reason = (
                "its items meet in the loss or in statistics of the batch"
                if name in known
                else "there is no such pre-training method"
            )
            raise ConfigError(
                f"{origin}: execution.pretrain.accumulate.{name}: {reason}",
                f"possible for {', '.join(able)}; use more processes, or recompute: true, for "
                "the others",
            )
