"""The data sets: what they are for, how their folders look, and how to obtain them."""

from __future__ import annotations

from voxseq.data.catalogue.rows import CATALOGUE, DataSet, get

__all__ = ["CATALOGUE", "DataSet", "get"]
