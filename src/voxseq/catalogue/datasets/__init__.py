"""Rows of the catalogue."""
