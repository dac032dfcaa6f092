"""The data sets: what they are for, how their folders look, and how to obtain them."""

from __future__ import annotations

from voxseq.catalogue import lists
from voxseq.catalogue.model import DECATHLON, Access, DataSet, RemoteFile, Role
from voxseq.catalogue.rows import CATALOGUE, count_notes, get, how_to_obtain

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
