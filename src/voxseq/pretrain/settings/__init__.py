"""Settings of each pre-training method; free of torch, so that the plan can read them fast."""

from __future__ import annotations

from voxseq.pretrain.settings.base import MethodSettings
from voxseq.pretrain.settings.ours import OursSettings

__all__ = ["MethodSettings", "OursSettings"]
