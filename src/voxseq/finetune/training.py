"""What the trainings of both kinds of task share."""

from __future__ import annotations

from typing import Self

from torch import nn

from voxseq.training.loop import Trainable


class TaskTraining(Trainable):
    """A network that is trained on a task; its frozen parts stay in evaluation mode."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def train(self, mode: bool = True) -> Self:
        """Set the mode, unless it is set: walking through hundreds of modules takes its time."""
        # The loop's wrapper sets this module's own flag ahead of the call; the network's is true.
        if self.network.training is mode:
            self.training = mode
            return self
        super().train(mode)
        for part in self.network.children():
            parameters = list(part.parameters())
            if parameters and not any(p.requires_grad for p in parameters):
                part.eval()
        return self
