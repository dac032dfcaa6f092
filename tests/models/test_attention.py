"""Masks."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from voxseq.models.attention import prefix_mask


@settings(max_examples=40, deadline=None)
@given(st.data(), st.integers(1, 9))
def test_each_row_sees_its_past_and_the_prefix(data, length):
    prefix = data.draw(st.lists(st.integers(0, length - 1), min_size=1, max_size=3))
    mask = prefix_mask(torch.tensor(prefix), length)
    assert mask.shape == (len(prefix), 1, length + 1, length + 1)
    for sample, p in enumerate(prefix):
        for row in range(length + 1):
            for column in range(length + 1):
                # Column 0 is the start token, column i + 1 image token i.
                assert bool(mask[sample, 0, row, column]) == (column <= row or column <= p)


def test_prefix_zero_is_causal():
    mask = prefix_mask(torch.zeros(1, dtype=torch.int64), 5)[0, 0]
    assert torch.equal(mask, torch.ones(6, 6, dtype=torch.bool).tril())
