"""One prepared check of everything that only a GPU can show; ``python -m benchmarks.gpu``."""
