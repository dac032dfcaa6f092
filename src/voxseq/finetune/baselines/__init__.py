"""Trivial baselines and linear probes, which need no fine-tuning."""
