"""Patch sequences along space, contrast and meaning: an index of boxes, read from the store."""
