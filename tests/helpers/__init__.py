"""What several test modules share: small studies, stores, broken files, places that fail."""

from __future__ import annotations

from pathlib import Path

#: The checkout.
ROOT = Path(__file__).resolve().parents[2]
