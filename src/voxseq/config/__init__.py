"""The configuration: one validated tree that every part of voxseq reads."""

from voxseq.config.load import load_config, read_yaml
from voxseq.config.merging import merge
from voxseq.config.resolved import write_resolved
from voxseq.config.root import Config

__all__ = ["Config", "load_config", "merge", "read_yaml", "write_resolved"]
