"""A large CT passes both stages in bounded memory."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import ROOT
from tests.helpers.large import SHAPES, SHRUNK

#: Bytes per voxel that may be held: an int16 image and 32-bit prepared voxels, or 64-bit ones.
WHOLE, FRACTIONS = 7, 11
#: What slabs and their intermediate results take, whatever the size of the image.
SLABS = 160 * 2**20
#: Bytes that a worker may take for a CT of 512 x 512 x 1000 voxels.
LIMIT = 3 * 2**30

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not Path("/proc/self/status").exists(), reason="the peak is read from /proc"
    ),
]


def _peaks(folder: Path, *words: str) -> list[int]:
    command = [sys.executable, "-m", "tests.helpers.large", str(folder), *words]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    peaks: list[int] = json.loads(result.stdout.splitlines()[-1])
    return peaks


@pytest.mark.parametrize(
    ("role", "slope", "each"),
    [("source", "1.0", WHOLE), ("task", "1.0", WHOLE), ("task", "0.5", FRACTIONS)],
)
def test_memory_grows_with_the_voxels_and_little_more(
    role: str, slope: str, each: int, tmp_path: Path
) -> None:
    """Slabs are shrunk with the images, so that the bounds are those of large CTs."""
    before, *peaks = _peaks(tmp_path, role, slope)
    for peak, shape in zip(peaks, SHAPES, strict=True):
        assert peak - before < each * math.prod(shape) + SLABS / SHRUNK


def test_a_ct_of_a_thousand_slices_takes_less_than_three_gigabytes(tmp_path: Path) -> None:
    """The hardest of the cases above: values that are no whole numbers, resampled."""
    assert max(_peaks(tmp_path, "task", "0.5", "whole")) < LIMIT
