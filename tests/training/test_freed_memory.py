"""Freed memory is reused."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

_FAULTS = """
import resource
import sys

import numpy as np

from voxseq.training.memory import keep_freed_memory

if sys.argv[1] == "kept":
    assert keep_freed_memory()


def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def step():
    arrays = [np.ones(2**21, np.float32) for _ in range(3)]
    return sum(array[-1] for array in arrays)


step()
before = faults()
for _ in range(10):
    step()
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_the_arrays_of_a_step_get_the_memory_of_the_last_one() -> None:
    counted = {}
    for way in ("default", "kept"):
        command = [sys.executable, "-c", _FAULTS, way]
        finished = subprocess.run(command, capture_output=True, text=True, check=True)
        counted[way] = int(finished.stdout)
    # 24 MiB a step; pages may be of 2 MiB.
    assert counted["default"] >= 10 * 12
    assert counted["kept"] < counted["default"] / 10
