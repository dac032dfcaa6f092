"""The data sets: what they are for, how their folders look, and how to obtain them."""

from __future__ import annotations

from voxseq.data.catalogue import lists
from voxseq.data.catalogue.model import DECATHLON, Access, DataSet, RemoteFile, Role
from voxseq.data.catalogue.rows import CATALOGUE, count_notes, get, how_to_obtain

__all__ = [
    "CATALOGUE",
    "DECATHLON",
    "Access",
    "DataSet",
    "RemoteFile",
    "Role",
    "count_notes",
    "get",
    "how_to_obtain",
    "lists",
]
