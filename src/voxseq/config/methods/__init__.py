"""Settings of each pre-training method; free of torch, so that the plan can read them fast."""

from __future__ import annotations

from voxseq.config.methods.base import MethodSettings
from voxseq.config.methods.ours import OursSettings

__all__ = ["MethodSettings", "OursSettings"]
