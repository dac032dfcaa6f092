"""Public names for models of the published code; see :mod:`voxseq.models.published`."""

from voxseq.models.published import load_encoder, load_pretraining_model

__all__ = ["load_encoder", "load_pretraining_model"]
