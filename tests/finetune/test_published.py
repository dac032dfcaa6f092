"""Fine-tuning networks, losses and learning rates against numbers of the published code."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.helpers.finetune_store import rates
from voxseq.config.model import EncoderConfig, OptimiserConfig
from voxseq.finetune.classification import class_balanced_cross_entropy
from voxseq.finetune.segmentation import DiceCrossEntropy
from voxseq.models.encoder import Encoder
from voxseq.models.networks import TokenClassifier
from voxseq.models.published import load_encoder
from voxseq.models.unetr import UNETR

#: Published name of a block's part → ours; queries, keys and values are one matrix here.
PARTS = {
    "input_layernorm": "norm1",
    "self_attn.q_proj": "attention.qkv",
    "self_attn.k_proj": "attention.qkv",
    "self_attn.v_proj": "attention.qkv",
    "self_attn.o_proj": "attention.projection",
    "post_attention_layernorm": "norm2",
    "mlp.linear1": "mlp.linear1",
    "mlp.linear2": "mlp.linear2",
}
OUTSIDE_BLOCKS = {
    "embed_tokens.weight": "start_token",
    "patchifier.proj.weight": "patch_embedding.weight",
    "patchifier.proj.bias": "patch_embedding.bias",
    "norm.weight": "norm.weight",
    "norm.bias": "norm.bias",
}


class Published:
    """One file of reference values, and the network that its weights belong to."""

    def __init__(self, path: Path) -> None:
        with np.load(path, allow_pickle=False) as file:
            self.values = {name: file[name] for name in file.files}
        self.config: dict[str, Any] = ast.literal_eval(str(self.values["config"]))
        self.image = self.tensor("input")

    def tensor(self, name: str) -> Tensor:
        return torch.from_numpy(self.values[name])

    def weights(self, prefix: str) -> dict[str, Tensor]:
        """Weights whose names begin with ``prefix``, which is cut off."""
        start = f"state/{prefix}"
        names = [name for name in self.values if name.startswith(start)]
        return {name.removeprefix(start): self.tensor(name) for name in names}

    def encoder(self, prefix: str) -> Encoder:
        geometry = {key: self.config[key] for key in ("img_size", "patch_size", "num_heads")}
        return load_encoder(
            {f"model.{name}": value for name, value in self.weights(prefix).items()}, **geometry
        ).encoder


def load_rest(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load, strictly, all weights outside the encoder."""
    encoder = {f"encoder.{k}": v for k, v in network.get_submodule("encoder").state_dict().items()}
    network.load_state_dict({**weights, **encoder}, strict=True)


def gradient_norm(network: nn.Module, *, but: str = "") -> float:
    """Norm over the gradients of all parameters whose names do not begin with ``but``."""
    chosen = [p for name, p in network.named_parameters() if not (but and name.startswith(but))]
    return float(sum(p.grad.double().square().sum() for p in chosen if p.grad is not None) ** 0.5)


def classifier(path: Path) -> tuple[TokenClassifier, Published]:
    published = Published(path)
    network = TokenClassifier(published.encoder("model."), classes=2)
    load_rest(network, {"head.weight": published.tensor("state/score.weight")})
    return network, published


def test_unetr_under_its_loss(golden: Path) -> None:
    published = Published(golden / "ft_unetr.npz")
    network = UNETR(
        published.encoder("vit."), published.config["classes"], published.config["feature_size"]
    )
    rest = published.weights("")
    load_rest(network, {name: v for name, v in rest.items() if not name.startswith("vit.")})
    logits = network(published.image)
    torch.testing.assert_close(
        logits[:, :, ::3, ::5, ::2], published.tensor("logits"), rtol=1e-5, atol=1e-5
    )
    dice, entropy = DiceCrossEntropy()(logits, published.tensor("label"))
    loss = dice + entropy
    assert loss.item() == pytest.approx(float(published.values["loss"]), rel=1e-6)
    loss.backward()
    for name, but in (("gradnorm", ""), ("gradnorm_decoder", "encoder.")):
        expected = float(published.values[name])
        assert gradient_norm(network, but=but) == pytest.approx(expected, rel=1e-5), name


@pytest.mark.parametrize("batch", ["mixed", "single"])
def test_classifier_of_ricord_under_its_loss(golden: Path, batch: str) -> None:
    network, published = classifier(golden / "ft_covid.npz")
    logits = network(published.image)
    torch.testing.assert_close(
        logits.softmax(dim=1), published.tensor("prob"), rtol=1e-5, atol=1e-6
    )
    loss = class_balanced_cross_entropy(logits, published.tensor(f"target_{batch}"))
    assert loss.item() == pytest.approx(float(published.values[f"loss_{batch}"]), rel=1e-5)
    loss.backward()
    expected = float(published.values[f"gradnorm_{batch}"])
    assert gradient_norm(network) == pytest.approx(expected, rel=1e-5)


def test_classifier_of_nodules(golden: Path) -> None:
    network, published = classifier(golden / "ft_nodule.npz")
    torch.testing.assert_close(
        network(published.image), published.tensor("logits"), rtol=1e-5, atol=1e-5
    )


def names_here(published: str) -> str:
    """Our name of a parameter, of which the published one may be a part."""
    inner = re.sub(r"^(vit|model)\.", "", published)
    if inner in OUTSIDE_BLOCKS:
        return f"encoder.{OUTSIDE_BLOCKS[inner]}"
    found = re.fullmatch(r"layers\.(\d+)\.(.+)\.(weight|bias)", inner)
    if found is not None:
        return f"encoder.blocks.{found[1]}.{PARTS[found[2]]}.{found[3]}"
    return inner.replace("score.", "head.")


@pytest.mark.parametrize(
    ("name", "decay", "depth"), [("msd", 0.75, 12), ("la", 0.9, 12), ("ricord", 0.75, 4)]
)
def test_learning_rate_and_weight_decay_of_every_parameter(
    golden: Path, name: str, decay: float, depth: int
) -> None:
    """The names decide, so a narrow network has the same."""
    geometry = EncoderConfig(width=6, depth=depth, heads=1, mlp_width=4, patch_size=(16, 16, 16))
    encoder = Encoder(geometry)
    network = TokenClassifier(encoder, 2) if name == "ricord" else UNETR(encoder, 3, 2)
    config = OptimiserConfig(
        lr=1.0, weight_decay=0.05, layer_decay=decay, decay_one_dimensional=False
    )
    found = rates(network, config, depth)
    reference = json.loads((golden / "ft_groups.json").read_text())[name]
    assert {names_here(published) for published in reference} == set(found)
    for published, expected in reference.items():
        assert found[names_here(published)] == pytest.approx(expected, rel=1e-12), published
