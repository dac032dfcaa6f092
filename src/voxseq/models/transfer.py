"""Handing an encoder from pre-training to fine-tuning, strictly and with a record.

A transfer file is a safetensors file (nothing in it is ever executed): the encoder's state, its
geometry, and a record of where it comes from.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from voxseq.base.errors import IntegrityError
from voxseq.base.failures import read_named
from voxseq.base.files import atomic_path, size_of
from voxseq.config.model import EncoderConfig
from voxseq.models.encoder import Encoder, build_encoder
from voxseq.models.initialise import seeded
from voxseq.models.networks import TokenClassifier
from voxseq.models.patches import patchify

if TYPE_CHECKING:
    from voxseq.models.unetr import UNETR

_LOG = logging.getLogger("voxseq.models.transfer")
ENCODER_FILE = "encoder.safetensors"
_FORMAT = 1
#: One metadata entry: the order of several would differ from file to file.
_KEY = "voxseq"
#: Weight of the patch embedding, (C, channels, x, y, z).
_KERNEL = "patch_embedding.weight"
#: Numbers of channels for which a transfer is proven.
_CHANNELS = (1, 2)
#: Largest difference of embedded patches, in double precision, that is rounding.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class TransferReport:
    """Result of loading an encoder.

    Attributes:
        loaded: tensors taken from the file.
        skipped: tensors of the file that were left out (always 0: transfer is strict).
        record: what was saved with the encoder.
    """

    loaded: int
    skipped: int
    record: dict[str, Any]


def save_encoder(
    path: Path, encoder: Encoder, config: EncoderConfig, record: Mapping[str, Any]
) -> None:
    """Write an encoder; the same weights and record give the same bytes.

    Args:
        path: the file, replaced as a whole.
        encoder: its state is written in float32.
        config: geometry of the encoder.
        record: plain JSON values: method, steps, fingerprint …
    """
    state = {
        key: value.detach().to("cpu", torch.float32).contiguous().clone()
        for key, value in encoder.state_dict().items()
    }
    header = {"format": _FORMAT, "encoder": config.model_dump(mode="json"), "record": dict(record)}
    text = json.dumps(header, sort_keys=True, allow_nan=False)
    with atomic_path(path) as temporary:
        save_file(state, temporary, metadata={_KEY: text})


def read_record(path: Path) -> dict[str, Any]:
    """Return geometry and record of a transfer file: keys ``format``, ``encoder``, ``record``.

    Raises:
        IntegrityError: when the file is missing, damaged or of another kind.
        ResourceError: memory or disk failed while it was read.
    """
    return _read(path)[0]


def load_encoder(path: Path, encoder: Encoder) -> TransferReport:
    """Load every tensor of a transfer file into an encoder.

    An encoder of several channels gets the kernel of the patches for each of them, divided by their
    number: an image that is the same in all channels has the tokens that it had.

    Args:
        path: written by :func:`save_encoder`.
        encoder: changed in place, and only when everything fits.

    Raises:
        IntegrityError: when the file is missing or damaged, holds another geometry (each differing
            setting is named), or its tensors are not exactly the encoder's, or not finite.
    """
    header, state = _read(path)
    _check_geometry(path, header["encoder"], encoder.config.model_dump(mode="json"))
    kernel = state.get(_KERNEL)
    if kernel is not None and kernel.ndim == 5 and kernel.shape[1] == 1:
        state[_KERNEL] = kernel.repeat(1, encoder.in_channels, 1, 1, 1) / encoder.in_channels
    _check_state(path, state, encoder.state_dict())
    encoder.load_state_dict(state, strict=True)
    _LOG.info("%s: loaded %d of %d encoder tensors, skipped 0", path, len(state), len(state))
    return TransferReport(loaded=len(state), skipped=0, record=header["record"])


def open_encoder(path: Path) -> tuple[Encoder, dict[str, Any]]:
    """The encoder of a transfer file, and its record.

    Raises:
        IntegrityError: as :func:`load_encoder`.
    """
    header, state = _read(path)
    try:
        encoder = Encoder(EncoderConfig.model_validate(header["encoder"]))
    except (KeyError, ValueError) as error:
        raise IntegrityError(
            f"{path}: its geometry cannot be: {error}", "get the file again"
        ) from error
    _check_state(path, state, encoder.state_dict())
    encoder.load_state_dict(state, strict=True)
    return encoder, header["record"]


def prove_transfer(
    config: EncoderConfig, *, segmentation: bool = True, classification: bool = True
) -> None:
    """Show, before anything is trained, that an encoder of this geometry fits downstream networks.

    A random encoder is saved and loaded into each network, of one and of two channels, whose
    forward pass must then give finite logits of the right shape; the same image in every channel
    must be embedded as the encoder of one channel embeds it.

    Raises:
        IntegrityError: when it does not fit.
        ValueError: when a network cannot be built for this geometry.
    """
    source = build_encoder(config, 0, pretraining=True)
    x, y, z = (2 * side for side in config.patch_size)
    image = torch.linspace(0.0, 1.0, x * y * z).reshape(1, 1, x, y, z)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ENCODER_FILE
        save_encoder(path, source, config, {"method": "transfer check"})
        for channels in _CHANNELS:
            for network in _networks(config, channels, segmentation, classification):
                load_encoder(path, network.encoder)
                _prove_encoder(source, network.encoder, image)
                _prove_logits(network, image.repeat(1, channels, 1, 1, 1))


def _networks(
    config: EncoderConfig, channels: int, segmentation: bool, classification: bool
) -> list[UNETR | TokenClassifier]:
    """Networks of two classes on random encoders."""
    networks: list[UNETR | TokenClassifier] = []
    with seeded(1):
        if segmentation:
            from voxseq.models.unetr import UNETR  # late: MONAI takes two seconds

            networks.append(UNETR(Encoder(config, channels), classes=2, feature_size=4))
        if classification:
            networks.append(TokenClassifier(Encoder(config, channels), classes=2))
    return networks


def _prove_encoder(source: Encoder, loaded: Encoder, image: Tensor) -> None:
    """Compare an encoder, tensor by tensor, with that of one channel from which it was loaded."""
    for key, value in loaded.state_dict().items():
        if key != _KERNEL and not torch.equal(value, source.state_dict()[key]):
            raise IntegrityError(f"transfer check: {key} differs after loading")
    # A sum over more voxels is rounded elsewhere; in double precision that does not show.
    kernels = [encoder.patch_embedding.weight.detach().double() for encoder in (source, loaded)]
    patches = [
        patchify(image.double().repeat(1, kernel.shape[1], 1, 1, 1), loaded.config.patch_size)
        for kernel in kernels
    ]
    one, several = (p @ k.flatten(1).T for p, k in zip(patches, kernels, strict=True))
    if not torch.allclose(one, several, rtol=0.0, atol=_ROUNDING):
        raise IntegrityError(f"transfer check: {_KERNEL} embeds patches otherwise after loading")


def _prove_logits(network: UNETR | TokenClassifier, volume: Tensor) -> None:
    """Refuse logits that are not finite or of another shape."""
    with torch.no_grad():
        logits = network.eval()(volume)
    if logits.shape[:2] != (1, 2) or not bool(torch.isfinite(logits).all()):
        raise IntegrityError(
            f"transfer check: {type(network).__name__} gives logits of shape "
            f"{tuple(logits.shape)}, finite: {bool(torch.isfinite(logits).all())}"
        )


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    hint = "run the pre-training that writes it again"
    if size_of(path) is None:
        raise IntegrityError(f"{path}: no such encoder file", hint)
    try:
        with read_named(path), safe_open(path, framework="pt", device="cpu") as file:
            header = json.loads((file.metadata() or {}).get(_KEY, "null"))
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise IntegrityError(f"{path}: not readable as an encoder: {error}", hint) from error
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        raise IntegrityError(f"{path}: not an encoder file of this version of voxseq", hint)
    return header, state


def _check_geometry(path: Path, saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    differing = differing_settings(saved, wanted)
    if differing:
        raise IntegrityError(
            f"{path}: encoder of another geometry ({'; '.join(differing)})",
            "use the same encoder settings in pre-training and fine-tuning",
        )


def differing_settings(saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Settings of two geometries that differ, with the value of the file and of the network."""
    return [
        f"{key}: file {saved.get(key)}, network {wanted.get(key)}"
        for key in sorted({*saved, *wanted})
        if saved.get(key) != wanted.get(key)
    ]


def _check_state(path: Path, saved: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    problems = [f"missing {key}" for key in wanted if key not in saved]
    problems += [f"unexpected {key}" for key in saved if key not in wanted]
    problems += [
        f"{key} has shape {tuple(saved[key].shape)}, expected {tuple(wanted[key].shape)}"
        for key in wanted
        if key in saved and saved[key].shape != wanted[key].shape
    ]
    problems += [f"{key} is not finite" for key in saved if not bool(saved[key].isfinite().all())]
    if problems:
        raise IntegrityError(f"{path}: tensors do not fit the encoder: {'; '.join(problems)}")
