"""Obtaining data sets: transfers that resume, checksums, safe unpacking, all or nothing.

- :mod:`transfer`: one file over HTTP; :mod:`services`: buckets and TCIA; :mod:`accounts`: official
  clients.
- :mod:`ask`: one request, with its redirects and its least speed; :mod:`wire`: connections that
  another thread can cut; :mod:`headers`; :mod:`pool`: threads that nobody has to wait for.
- :mod:`remote`: how much of an answer is taken; :mod:`content`: whether it can be the file.
- :mod:`unpack`: archives that nobody has vouched for; :mod:`paths`, :mod:`checksum`.
- :mod:`notes`: what calls leave for later ones; :mod:`disk`: what the disk refuses.
- :mod:`obtain`: what one remote file needs; :mod:`staging`: where a data set grows;
  :mod:`record`: what says that it is complete; :mod:`core`: all of it in order.
"""

from __future__ import annotations

from voxseq.fetch.accounts import AccountNeededError
from voxseq.fetch.core import NotOfferedError, Outcome, fetch, provide, state, stated_size
from voxseq.fetch.record import RECORD, Fetched, Record, read_record
from voxseq.fetch.services import Services
from voxseq.fetch.transfer import Patience

__all__ = [
    "RECORD",
    "AccountNeededError",
    "Fetched",
    "NotOfferedError",
    "Outcome",
    "Patience",
    "Record",
    "Services",
    "fetch",
    "provide",
    "read_record",
    "state",
    "stated_size",
]
