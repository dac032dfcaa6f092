"""Tests of voxseq."""
