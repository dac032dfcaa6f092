"""Measurements against what a user would take instead; see docs/performance.md."""
