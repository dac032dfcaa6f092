"""The segmentation network."""

import pytest
import torch
from monai.networks.nets import unetr as monai_unetr
from torch import Tensor, nn

from voxseq.config.model import EncoderConfig
from voxseq.models.encoder import Encoder, build_encoder
from voxseq.models.initialise import seeded
from voxseq.models.unetr import UNETR


class AsMonaiViT(nn.Module):
    """Our encoder with the interface of MONAI's transformer."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, volume: Tensor) -> tuple[Tensor, list[Tensor]]:
        encoded = self.encoder(volume, taps=range(self.encoder.config.depth))
        return encoded.tokens, encoded.hidden


def test_at_16_voxels_it_is_monais_network_weight_for_weight(monkeypatch):
    config = EncoderConfig(width=24, depth=12, heads=2, mlp_width=24, patch_size=(16, 16, 16))
    with seeded(0):
        ours = UNETR(build_encoder(config, 0, pretraining=False), classes=3, feature_size=4).eval()
    shape = (48, 32, 32)
    # MONAI's own transformer is replaced in any case, and would need another package.
    monkeypatch.setattr(monai_unetr, "ViT", lambda **_: nn.Identity())
    theirs = monai_unetr.UNETR(1, 3, shape, feature_size=4, hidden_size=24, mlp_dim=24, num_heads=2)
    theirs.vit = AsMonaiViT(ours.encoder)
    decoder = {k: v for k, v in ours.state_dict().items() if not k.startswith("encoder.")}
    transformer = {f"vit.{k}": v for k, v in ours.state_dict().items() if k.startswith("encoder.")}
    theirs.load_state_dict({**decoder, **transformer}, strict=True)
    volume = torch.randn(2, 1, *shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(ours(volume), theirs.eval()(volume), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("side", "taps"), [(2, ()), (4, (2,)), (8, (1, 2)), (16, (1, 2, 3))])
def test_other_powers_of_two_and_other_volumes(side, taps):
    config = EncoderConfig(width=12, depth=4, heads=2, mlp_width=12, patch_size=(side,) * 3)
    network = UNETR(Encoder(config), classes=2, feature_size=2)
    assert network.taps == taps
    volume = torch.randn(1, 1, 2 * side, side, 3 * side)
    logits = network(volume)
    assert logits.shape == (1, 2, 2 * side, side, 3 * side)
    logits.square().sum().backward()
    unused = [name for name, p in network.named_parameters() if p.grad is None]
    assert unused == []


@pytest.mark.parametrize("patch", [(4, 4, 2), (6, 6, 6), (1, 1, 1)])
def test_other_tokens_are_refused(patch):
    config = EncoderConfig(width=12, depth=1, heads=2, mlp_width=12, patch_size=patch)
    with pytest.raises(ValueError, match="power of two"):
        UNETR(Encoder(config), classes=2)
