"""A trained network on disk: the same again when loaded, and refused when damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.helpers.finetune_store import CLASSIFICATION, ENCODER, KEPT, SEGMENTATION
from voxseq.base.errors import DataError, IntegrityError, VoxseqError
from voxseq.models.bundle import (
    CARD_FILE,
    WEIGHTS_FILE,
    ModelCard,
    is_model,
    load_model,
    network_of,
    save_model,
)

#: Network, recipe, and settings of networks without the shared encoder.
NETWORKS: dict[str, tuple[dict[str, Any], dict[str, Any] | None]] = {
    "unetr": (SEGMENTATION, None),
    "unet3d": (SEGMENTATION, {"features": [4, 4, 8, 8, 8, 4], "norm": "batch"}),
    "vit": (CLASSIFICATION, None),
    "resnet": (CLASSIFICATION, {"stem": "small", "width": 0.0625}),
}


def card(network: str = "vit") -> ModelCard:
    recipe, settings = NETWORKS[network]
    return ModelCard.model_validate(
        {
            "network": network,
            "network_settings": settings,
            "encoder": ENCODER,
            "recipe": recipe,
            "data": KEPT["data"],
            "precision": "32-true",
            "task": "Toy",
            "dataset": "la",
            "run": f"finetune/toy/{network}/s0",
            "fingerprint": "0" * 12,
            "method": network,
            "seed": 3,
            "ratio": 1.0,
            "pretraining": None,
            "validation": {"score": "dice", "value": 0.5, "step": 4},
            "versions": {"voxseq": "0"},
        }
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_loaded_network_is_the_saved_one(name: str, tmp_path: Path) -> None:
    given = card(name)
    network = network_of(given)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.rand_like(parameter))
    network.train()(torch.rand(2, 1, 16, 16, 16))  # Running means of a batch norm are state too.
    network.eval()
    for folder in ("a", "b"):
        save_model(tmp_path / folder, network, given)
    for file in (CARD_FILE, WEIGHTS_FILE):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    loaded, found = load_model(tmp_path / "a")
    assert found.model_copy(update={"weights": None}) == given
    assert not loaded.training
    volume = torch.rand(1, 1, 16, 16, 16)
    with torch.no_grad():
        assert torch.equal(loaded(volume), network(volume))


def test_a_bundle_is_a_model(tmp_path: Path) -> None:
    given = card()
    save_model(tmp_path / "bundle/models", network_of(given), given)
    assert is_model(tmp_path / "bundle")
    assert load_model(tmp_path / "bundle")[1].run == given.run
    assert not is_model(tmp_path)


def _json(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        content = json.loads((folder / CARD_FILE).read_text())
        change(content)
        (folder / CARD_FILE).write_text(json.dumps(content))

    return spoil


def _weights(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    """Other tensors, with the checksum that belongs to them."""

    def spoil(folder: Path) -> None:
        state = load_file(folder / WEIGHTS_FILE)
        change(state)
        save_file(state, folder / WEIGHTS_FILE)
        _json(lambda content: content.update(weights=None))(folder)

    return spoil


def _flip(folder: Path) -> None:
    content = bytearray((folder / WEIGHTS_FILE).read_bytes())
    content[-1] ^= 1
    (folder / WEIGHTS_FILE).write_bytes(content)


SPOILT: dict[str, tuple[type[VoxseqError], str, Callable[[Path], None]]] = {
    "no description": (DataError, "no model.json", lambda f: (f / CARD_FILE).unlink()),
    "no weights": (IntegrityError, "no such file", lambda f: (f / WEIGHTS_FILE).unlink()),
    "half a description": (
        IntegrityError,
        "not readable",
        lambda f: (f / CARD_FILE).write_text('{"format": 1, "net'),
    ),
    "a list": (IntegrityError, "not a model", lambda f: (f / CARD_FILE).write_text("[1]")),
    "another format": (IntegrityError, "format 9", _json(lambda c: c.update(format=9))),
    "an unknown key": (IntegrityError, "colour", _json(lambda c: c.update(colour="red"))),
    "another geometry": (
        IntegrityError,
        "has shape",
        _json(lambda c: c["encoder"].update(width=24)),
    ),
    "a flipped bit": (IntegrityError, "SHA-256", _flip),
    "a missing tensor": (IntegrityError, "missing head", _weights(lambda s: s.pop("head.weight"))),
    "a further tensor": (
        IntegrityError,
        "unexpected x",
        _weights(lambda s: s.update(x=torch.zeros(1))),
    ),
    "weights that are not finite": (
        IntegrityError,
        "head.weight is not finite",
        _weights(lambda s: s["head.weight"].fill_(torch.nan)),
    ),
    "weights of another kind": (
        IntegrityError,
        "SHA-256",
        lambda f: (f / WEIGHTS_FILE).write_bytes(b"\x80\x04weights"),
    ),
}


@pytest.mark.parametrize("name", SPOILT)
def test_damaged_and_foreign_files_are_refused(name: str, tmp_path: Path) -> None:
    given = card()
    save_model(tmp_path, network_of(given), given)
    kind, reason, spoil = SPOILT[name]
    spoil(tmp_path)
    with pytest.raises(kind, match=reason) as error:
        load_model(tmp_path)
    assert str(tmp_path) in str(error.value)
    assert error.value.hint
