"""Encoders that were trained elsewhere, read from their files as ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from voxseq.base.errors import IntegrityError
from voxseq.base.failures import read_named
from voxseq.base.files import size_of
from voxseq.config.outside import OutsideFacts
from voxseq.models.encoder import Encoder
from voxseq.models.monai_vit import from_monai
from voxseq.models.published import load_encoder as load_published
from voxseq.models.transfer import open_encoder

_HINT = "correct the path or the format; docs/exporting.md says what each format holds"
#: Keys under which checkpoints keep their tensors.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "network_weights", "net")


@dataclass(frozen=True)
class Outside:
    """An encoder that was read.

    Attributes:
        encoder: with the geometry of its file.
        origin: what the file says of itself: the record of one of ours.
        left_out: what the encoder could not hold; empty where it computes the same tokens.
    """

    encoder: Encoder
    origin: Mapping[str, Any]
    left_out: tuple[str, ...] = ()


def read_outside(path: Path, facts: OutsideFacts) -> Outside:
    """Read an encoder of any known format. Nothing in the file is executed.

    Args:
        path: safetensors, or for the formats published and monai also a file of ``torch.save``.
        facts: the format, and what the file does not tell.

    Raises:
        IntegrityError: the file is missing or damaged, or does not hold what it should; each
            tensor that is wrong is named.
        ResourceError: memory or disk failed while it was read.
    """
    if facts.format == "voxseq":
        encoder, record = open_encoder(path)
        return Outside(encoder, record)
    state = read_state(path)
    assert facts.heads is not None
    try:
        if facts.format == "published":
            return Outside(_published(state, facts.heads), {})
        chosen = {
            key.removeprefix(facts.prefix): value
            for key, value in state.items()
            if key.startswith(facts.prefix)
        }
        found = from_monai(
            chosen,
            heads=facts.heads,
            patch_size=facts.patch_size,
            image_size=facts.image_size,
            exact=facts.exact,
        )
    except ValueError as error:
        hint = _HINT
        if facts.format == "monai" and facts.exact:
            hint = f"{_HINT}, and what exact: false leaves out"
        raise IntegrityError(f"{path}: {error}", hint) from error
    encoder = Encoder(found.config)
    encoder.load_state_dict(found.state, strict=True)
    return Outside(encoder, {}, found.left_out)


def _published(state: Mapping[str, Tensor], heads: int) -> Encoder:
    kernel = state.get("model.patchifier.proj.weight")
    if kernel is None or kernel.ndim != 5:
        raise ValueError(
            "model.patchifier.proj.weight (C, 1, x, y, z) is missing: expected a checkpoint of "
            "the published code"
        )
    patch = [int(side) for side in kernel.shape[2:]]
    # Positions are computed, so one token is as good an image as any.
    return load_published(state, img_size=patch, patch_size=patch, num_heads=heads).encoder


def read_state(path: Path) -> dict[str, Tensor]:
    """Floating-point tensors of a file by name; a checkpoint's own level is unwrapped.

    Raises:
        IntegrityError: the file is missing, damaged, or holds other things than tensors.
        ResourceError: memory or disk failed while it was read.
    """
    if size_of(path) is None:
        raise IntegrityError(f"{path}: no such file", _HINT)
    try:
        with read_named(path):
            content: Any = (
                load_file(path)
                if path.suffix == ".safetensors"
                else torch.load(path, map_location="cpu", weights_only=True)
            )
    except (SafetensorError, OSError, ValueError, RuntimeError, EOFError, KeyError) as error:
        raise IntegrityError(f"{path}: not readable as weights: {error}", _HINT) from error
    except Exception as error:
        # The error of torch's safe loader is of a module that nothing here imports.
        if type(error).__name__ != "UnpicklingError":
            raise
        raise IntegrityError(
            f"{path}: it holds more than tensors, and nothing in it is executed: "
            f"{str(error).splitlines()[0]}",
            "save its weights alone where it was made: torch.save(model.state_dict(), FILE)",
        ) from error
    for name in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    if not isinstance(content, Mapping):
        raise IntegrityError(f"{path}: it holds no tensors by name", _HINT)
    tensors = {
        str(key): value.detach()
        for key, value in content.items()
        if isinstance(value, Tensor) and value.is_floating_point()
    }
    infinite = [key for key, value in tensors.items() if not bool(value.isfinite().all())]
    if infinite or not tensors:
        what = f"not finite: {', '.join(sorted(infinite))}" if infinite else "it holds no tensors"
        raise IntegrityError(f"{path}: {what}", _HINT)
    return tensors
