"""The classification head."""

import pytest
import torch

from voxseq.config.model import EncoderConfig
from voxseq.models.encoder import Encoder
from voxseq.models.networks import TokenClassifier

CONFIG = EncoderConfig(width=12, depth=1, heads=2, mlp_width=12, patch_size=(2, 2, 2))


def test_logits_are_the_average_of_the_tokens_logits():
    network = TokenClassifier(Encoder(CONFIG), classes=3)
    volume = torch.randn(2, 1, 4, 6, 2)
    each = network.encoder(volume).tokens @ network.head.weight.T
    torch.testing.assert_close(network(volume), each.mean(dim=1), rtol=1e-5, atol=1e-6)
    assert network.head.bias is None


def test_weights_of_the_head_are_those_of_a_plain_linear_layer():
    """Published: PyTorch's own, uniform within 1 / sqrt(width), whatever the number of classes."""
    config = CONFIG.model_copy(update={"width": 768})
    torch.manual_seed(0)
    weight = TokenClassifier(Encoder(config), classes=2).head.weight
    assert weight.std().item() == pytest.approx(1 / (3 * 768) ** 0.5, rel=0.05)
    assert weight.abs().max().item() < 1 / 768**0.5
