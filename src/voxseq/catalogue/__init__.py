"""The data sets: what they are for, how their folders look, and how to obtain them."""

from voxseq.catalogue import lists
from voxseq.catalogue.model import DECATHLON, DataSet, RemoteFile
from voxseq.catalogue.rows import CATALOGUE, GROUPS, count_notes, get, read_rows

__all__ = [
    "CATALOGUE", "DECATHLON", "GROUPS", "DataSet", "RemoteFile", "count_notes", "get", "lists",
    "read_rows",
]  # fmt: skip
