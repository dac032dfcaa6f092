"""Digest of a JSON value: one short word, whatever the order of its keys."""

from __future__ import annotations

import hashlib
import json
from typing import Any

#: Number of hexadecimal digits of a fingerprint.
LENGTH = 16


def digest(value: Any) -> str:
    """Fingerprint of a JSON value; equal values give equal words whatever their key order."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:LENGTH]
