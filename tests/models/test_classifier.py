"""The classification head."""

import torch

from voxseq.config.model import EncoderConfig
from voxseq.models.classifier import TokenClassifier
from voxseq.models.encoder import Encoder

CONFIG = EncoderConfig(width=12, depth=1, heads=2, mlp_width=12, patch_size=(2, 2, 2))


def test_logits_are_the_average_of_the_tokens_logits():
    network = TokenClassifier(Encoder(CONFIG), classes=3)
    volume = torch.randn(2, 1, 4, 6, 2)
    each = network.encoder(volume).tokens @ network.head.weight.T
    torch.testing.assert_close(network(volume), each.mean(dim=1), rtol=1e-5, atol=1e-6)
    assert network.head.bias is None
