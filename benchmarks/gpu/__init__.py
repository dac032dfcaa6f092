"""One prepared check of everything that only a GPU can show; ``python -m benchmarks.gpu``."""

from __future__ import annotations

import os

# Parts are forks of a process that must not initialise CUDA: whether a GPU is there is asked of its
# driver's management library.
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
