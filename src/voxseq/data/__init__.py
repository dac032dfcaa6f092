"""Data sets: catalogue, readers, checks, splits, and the store of prepared volumes."""
