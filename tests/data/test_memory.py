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


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
@pytest.mark.parametrize(
    ("role", "slope", "each"),
    [("source", 1.0, WHOLE), ("task", 1.0, WHOLE), ("task", 0.5, FRACTIONS)],
)
def test_memory_grows_with_the_voxels_and_little_more(
    role: str, slope: float, each: int, tmp_path: Path
) -> None:
    """Slabs are shrunk with the images, so that the bounds are those of large CTs."""
    words = ("-m", "tests.helpers.large", str(tmp_path), role, str(slope))
    result = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert result.returncode == 0, result.stderr
    before, smaller, larger = json.loads(result.stdout.splitlines()[-1])
    few, many = (math.prod(shape) for shape in SHAPES)
    assert smaller - before < each * few + SLABS / SHRUNK
    assert larger - before < each * many + SLABS / SHRUNK
    assert larger - smaller < each * (many - few)
    assert before + each * 512 * 512 * 1000 + SLABS < LIMIT
