"""A stand-in for a data-parallel training: two processes that stop together when they are asked to.

It writes a line for its rank, then sums over all ranks until one of them has got SIGUSR1; all stop
at the same step, with status 75.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist


def main() -> int:
    """Step until anybody was asked to stop; status 75 then, 1 when nobody was for a minute."""
    asked: list[bool] = []
    signal.signal(signal.SIGUSR1, lambda *_: asked.append(True))
    dist.init_process_group("gloo")
    try:
        return stopped_together(Path(sys.argv[1]), asked)
    finally:
        dist.destroy_process_group()


def stopped_together(folder: Path, asked: list[bool]) -> int:
    """The steps."""
    (folder / f"rank{dist.get_rank()}of{dist.get_world_size()}").write_text(
        os.environ.get("CUDA_VISIBLE_DEVICES", "")
    )
    for _ in range(600):
        count = torch.tensor([float(bool(asked))])
        dist.all_reduce(count)
        if count > 0:
            return 75
        time.sleep(0.1)
    return 1


if __name__ == "__main__":
    sys.exit(main())
