"""What the settings of every pre-training method have in common."""

from __future__ import annotations

from voxseq.config.base import Model
from voxseq.config.model import OptimiserConfig


class MethodSettings(Model):
    """What every method has."""

    optimiser: OptimiserConfig
