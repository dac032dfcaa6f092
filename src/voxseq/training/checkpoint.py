"""Rolling checkpoints: atomic, loaded without unpickling, tied to one configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from voxseq.errors import IntegrityError
from voxseq.files import atomic_path

FILE = "checkpoint.pt"


def save(folder: Path, content: Mapping[str, Any], config: Mapping[str, Any]) -> Path:
    """Write the checkpoint of a run, replacing the one before it only when complete."""
    path = folder / FILE
    with atomic_path(path) as temporary:
        torch.save({**content, "config": flatten(config)}, temporary)
    return path


def load(folder: Path, config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Read the checkpoint of a run, or return ``None`` where there is none.

    Raises:
        IntegrityError: the file is damaged, or belongs to another configuration; the differing
            keys are named.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        there: dict[str, str] = content["config"]
    except Exception as error:
        raise IntegrityError(
            f"{path} cannot be read: {error}", f"delete {path} to start this run from step 0"
        ) from error
    here = flatten(config)
    differing = sorted(k for k in here.keys() | there.keys() if here.get(k) != there.get(k))
    if differing:
        shown = "; ".join(f"{k}: {there.get(k)} there, {here.get(k)} now" for k in differing[:8])
        raise IntegrityError(
            f"{path} belongs to another configuration ({shown})",
            f"restore that configuration, or delete {path} to start anew",
        )
    return content


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Dotted keys and printed values of a configuration tree."""
    flat: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = repr(list(value) if isinstance(value, tuple) else value)
    return flat
