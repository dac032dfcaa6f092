"""The configuration: one validated tree that every part of voxseq reads."""

from voxseq.config.load import load_config, load_files, read_yaml
from voxseq.config.merging import merge
from voxseq.config.root import Config

__all__ = ["Config", "load_config", "load_files", "merge", "read_yaml"]
