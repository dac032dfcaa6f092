"""The configuration: one validated tree that every part of voxseq reads."""

from voxseq.config.load import load_config, read_yaml, write_resolved
from voxseq.config.overlay import merge
from voxseq.config.root import Config

__all__ = ["Config", "load_config", "merge", "read_yaml", "write_resolved"]
