"""Classification head on the shared encoder."""

from __future__ import annotations

from torch import Tensor, nn

from voxseq.models.encoder import Encoder


class TokenClassifier(nn.Module):
    """A linear layer without bias on every token, logits averaged (published code).

    The layer is linear, so it is applied once, to the average token; the start token takes no
    part. Its initial weights are PyTorch's own, unlike the encoder's (published code).

    Args:
        encoder: becomes part of the network under the name ``encoder``.
        classes: number of classes.
    """

    def __init__(self, encoder: Encoder, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.config.width, classes, bias=False)

    def forward(self, volume: Tensor) -> Tensor:
        """Map (B, 1, X, Y, Z) to logits (B, classes)."""
        logits: Tensor = self.head(self.encoder(volume).tokens.mean(dim=1))
        return logits
