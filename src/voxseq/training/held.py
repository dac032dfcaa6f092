"""How many rows of batches a training holds at the same time, and the memory that they take.

Arithmetic alone: an estimate imports it without torch.
"""

from __future__ import annotations

#: Tasks that each worker has been given ahead.
TASKS_AHEAD = 2
#: Steps whose rows stay as they are besides those that are prepared: that of the training. What is
#: copied to a device is there before the next step is asked for.
STEPS_IN_USE = 1


def task_size(count: int, workers: int) -> int:
    """Rows that a worker fills at a time: small enough that all of them work at one step."""
    return max(1, -(-count // (2 * workers)))


def steps_held(count: int, workers: int) -> int:
    """Steps of which a block has the rows: the one in use, and those that are prepared ahead."""
    if not workers:
        return 1
    tasks = -(-count // task_size(count, workers))
    return STEPS_IN_USE + -(-TASKS_AHEAD * workers // tasks)


def block_bytes(count: int, row_bytes: int, workers: int) -> int:
    """Bytes of the block of a process: it is made once, before any worker starts.

    Args:
        count: rows of each batch of this process.
        row_bytes: of one row, all entries.
        workers: processes that fill them.
    """
    return steps_held(count, workers) * count * row_bytes
