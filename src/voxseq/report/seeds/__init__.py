"""Scores of single seeds: one small file each, of which tables are made."""
