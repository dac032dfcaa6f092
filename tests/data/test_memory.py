"""A large CT passes both stages in bounded memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import ROOT

#: Bytes a voxel that may be held: an int16 image and 32-bit prepared voxels, or 64-bit ones.
WHOLE, FRACTIONS = 7, 11
#: What slabs and their intermediate results take, whatever the size of the image.
SLABS = 160 * 2**20
#: Bytes that a worker may take for a CT of 512 x 512 x 1000 voxels.
LIMIT = 3 * 2**30

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="the peak is read from /proc"
)


def _run(folder: Path, shape: tuple[int, int, int], slope: float, role: str) -> dict[str, int]:
    command = [
        sys.executable,
        "-m",
        "tests.helpers.large",
        str(folder),
        *map(str, shape),
        str(slope),
        role,
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    found: dict[str, int] = json.loads(result.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("role", "slope", "each"),
    [("source", 1.0, WHOLE), ("task", 1.0, WHOLE), ("task", 0.5, FRACTIONS)],
)
def test_memory_grows_with_the_voxels_and_little_more(
    role: str, slope: float, each: int, tmp_path: Path
) -> None:
    found = _run(tmp_path, (400, 400, 250), slope, role)
    bound = each * 400 * 400 * 250 + SLABS
    assert found["checking"] - found["before"] < bound
    assert found["preparing"] - found["before"] < bound
    assert found["before"] + each * 512 * 512 * 1000 + SLABS < LIMIT


@pytest.mark.slow
def test_a_ct_of_a_thousand_slices_takes_less_than_three_gigabytes(tmp_path: Path) -> None:
    """The hardest of the cases above: values that are no whole numbers, resampled."""
    found = _run(tmp_path, (512, 512, 1000), 0.5, "task")
    assert max(found.values()) < LIMIT
