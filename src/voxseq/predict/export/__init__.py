"""Encoders and trained models in forms that other programs use without voxseq."""
