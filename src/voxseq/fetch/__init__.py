"""Obtaining data sets: transfers that resume, checksums, safe unpacking, all or nothing.

- :mod:`core`: a data set from request to place; :mod:`work`: its remote files, several at a time.
- :mod:`transfer`: one file over HTTP; :mod:`http`: requests, redirects and retries;
  :mod:`services`: buckets and TCIA.
- :mod:`content`: checksums, and pages that are no file; :mod:`unpack`: archives of unknown origin;
  :mod:`paths`: names from outside.
- :mod:`staging`: where a data set grows; :mod:`record`: the proof that it is complete;
  :mod:`meter`: progress and room.
"""

from __future__ import annotations

from voxseq.fetch.core import (
    AccountNeededError,
    FetchResult,
    NotOfferedError,
    fetch,
    provide,
    state,
    stated_size,
)
from voxseq.fetch.record import RECORD, Fetched, Record, read_record
from voxseq.fetch.services import Services
from voxseq.fetch.stream import RetryPolicy

__all__ = [
    "RECORD",
    "AccountNeededError",
    "FetchResult",
    "Fetched",
    "NotOfferedError",
    "Record",
    "RetryPolicy",
    "Services",
    "fetch",
    "provide",
    "read_record",
    "state",
    "stated_size",
]
