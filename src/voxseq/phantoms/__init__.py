"""Generated 3D phantoms that stand for the data sets, written in their real layouts."""

from voxseq.phantoms.registry import NAMES, generate

__all__ = ["NAMES", "generate"]
