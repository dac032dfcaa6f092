"""Statistics slab by slab are those of numpy, to the bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from voxseq.data import slabs

TYPES = ("int8", "uint8", "int16", "uint16", ">i2", "int32", "uint64", "float32", "float64", ">f4")
shapes = hnp.array_shapes(min_dims=3, max_dims=3, max_side=9)


def _values(dtype: str) -> st.SearchStrategy[object]:
    kind = np.dtype(dtype)
    if kind.kind == "f":
        # The sign of a zero is a matter of chance in a partial sort.
        width = 8 * kind.itemsize
        return st.floats(-1e6, 1e6, width=width).map(lambda x: x + 0.0)
    # Steps between neighbours must fit the type, in numpy as here.
    low, high = (int(n) // 4 for n in (np.iinfo(kind).min, np.iinfo(kind).max))
    return st.integers(low, high)


@pytest.fixture
def small_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slabs, "VOXELS", 16)


@pytest.mark.usefixtures("small_slabs")
@pytest.mark.parametrize("dtype", TYPES)
def test_percentiles_are_those_of_numpy(dtype: str) -> None:
    @given(hnp.arrays(dtype, shapes, elements=_values(dtype)), st.permutations(range(3)))
    def check(array: np.ndarray, order: list[int]) -> None:
        view = array.transpose(order)[::-1]
        found = slabs.percentiles(view, (0.0, 1.0, 50.0, 99.9, 100.0))
        expected = np.percentile(view, (0.0, 1.0, 50.0, 99.9, 100.0))
        assert found.tobytes() == np.asarray(expected, dtype=np.float64).tobytes()

    check()


@pytest.mark.parametrize("kind", ["int16", "float32", "float64"])
def test_percentiles_of_a_large_array(kind: str) -> None:
    array = np.random.default_rng(0).normal(0, 300, (90, 101, 110)).astype(kind)
    array[:30] = -1000
    found = slabs.percentiles(array, (1.0, 99.9))
    assert found.tobytes() == np.percentile(array, (1.0, 99.9)).tobytes()


@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 3, 5), (37, 41, 53), (130, 150, 111)])
@pytest.mark.parametrize("voxels", [128, 1000, 1 << 22])
def test_the_standard_deviation_is_that_of_numpy(
    shape: tuple[int, int, int], voxels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slabs, "VOXELS", voxels)
    values = np.random.default_rng(1).normal(40, 300, shape).astype(np.float32)
    assert slabs.standard_deviation(values) == values.std(dtype=np.float64)


@given(shapes, st.integers(1, 40), st.sampled_from([None, 0, 1, 2]))
def test_slabs_cover_every_voxel_once(
    shape: tuple[int, int, int], voxels: int, axis: int | None
) -> None:
    count = np.zeros(shape, int)
    for box in slabs.slabs(count, axis, voxels):
        assert count[box].size <= max(voxels, count.size // count.shape[len(box) - 1])
        count[box] += 1
    assert (count == 1).all()
