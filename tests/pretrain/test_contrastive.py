"""Contrastive losses against plain float64 sums, and the structure of the heads."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.losses import ContrastiveLoss
from torch import nn

from voxseq.models.initialise import seeded
from voxseq.pretrain.parts.contrastive import (
    cosines,
    matching_accuracy,
    nt_xent,
    projection_head,
    query_key_loss,
)


def vectors(count, width, seed):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(count, width, generator=generator) for _ in range(2))


def cosine(a, b):
    return float(a @ b / math.sqrt(float(a @ a) * float(b @ b)))


def plain_nt_xent(first, second, temperature):
    """Equation 1 of Chen et al. 2020, pair by pair, in float64."""
    everything = np.concatenate([first.numpy(), second.numpy()]).astype(np.float64)
    total, half = 0.0, len(first)
    for i, anchor in enumerate(everything):
        scores = {
            k: math.exp(cosine(anchor, other) / temperature)
            for k, other in enumerate(everything)
            if k != i
        }
        total -= math.log(scores[(i + half) % (2 * half)] / sum(scores.values()))
    return total / (2 * half)


def plain_query_key(queries, keys, temperature):
    """Algorithm 1 of Chen et al. 2021, one query after the other, in float64."""
    queries, keys = (v.numpy().astype(np.float64) for v in (queries, keys))
    total = 0.0
    for i, query in enumerate(queries):
        scores = [math.exp(cosine(query, key) / temperature) for key in keys]
        total -= math.log(scores[i] / sum(scores))
    return 2 * temperature * total / len(queries)


cases = {
    "count": st.integers(2, 9),
    "width": st.integers(2, 16),
    "seed": st.integers(0, 1000),
    "temperature": st.sampled_from([0.1, 0.2, 0.5, 1.0]),
}


@given(**cases)
def test_nt_xent_is_that_of_the_paper(count, width, seed, temperature):
    first, second = vectors(count, width, seed)
    expected = plain_nt_xent(first, second, temperature)
    assert float(nt_xent(first, second, temperature)) == pytest.approx(expected, rel=2e-5, abs=1e-6)
    monai = ContrastiveLoss(temperature)(first, second)
    assert float(monai) == pytest.approx(expected, rel=2e-5, abs=1e-6)


@given(**cases)
def test_the_loss_of_moco_v3_is_that_of_the_paper(count, width, seed, temperature):
    queries, keys = vectors(count, width, seed)
    expected = plain_query_key(queries, keys, temperature)
    actual = float(query_key_loss(queries, keys, temperature))
    assert actual == pytest.approx(expected, rel=2e-5, abs=1e-6)


@pytest.mark.parametrize("loss", [nt_xent, query_key_loss])
def test_neither_length_nor_order_of_the_vectors_matters(loss):
    first, second = vectors(6, 5, 0)
    reference = float(loss(first, second, 0.2))
    lengths = torch.linspace(0.1, 9, 6)[:, None]
    assert float(loss(first * lengths, second / lengths, 0.2)) == pytest.approx(reference, rel=1e-5)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    assert float(loss(first[order], second[order], 0.2)) == pytest.approx(reference, rel=1e-5)
    assert abs(float(loss(first, second[order], 0.2)) - reference) > 0.05
    if loss is nt_xent:
        assert float(loss(second, first, 0.2)) == pytest.approx(reference, rel=1e-6)


def test_temperature_decides_how_much_a_wrong_order_costs():
    """Of matching pairs the loss vanishes as the temperature falls; of swapped ones it grows."""
    one, two = torch.eye(4), torch.eye(4)[[1, 0, 3, 2]]
    matched = [float(nt_xent(one, one, t)) for t in (1.0, 0.5, 0.1)]
    swapped = [float(nt_xent(one, two, t)) for t in (1.0, 0.5, 0.1)]
    assert matched == sorted(matched, reverse=True)
    assert swapped == sorted(swapped)
    assert matched[-1] < 1e-3
    # One positive of cosine 0 against a cosine of 1 and five of 0: ln(e^10 + 6).
    assert swapped[-1] == pytest.approx(math.log(math.exp(10) + 6), rel=1e-5)
    assert matched[0] == pytest.approx(math.log((math.e + 6) / math.e), rel=1e-5)
    for temperature in (0.1, 1.0):
        expected = 2 * temperature * math.log(math.exp(1 / temperature) + 3)
        swapped_keys = float(query_key_loss(one, two, temperature))
        assert swapped_keys == pytest.approx(expected, rel=1e-5)


def test_collapsed_vectors_give_the_loss_of_chance():
    same = torch.ones(8, 5)
    assert float(nt_xent(same, same, 0.1)) == pytest.approx(math.log(15), rel=1e-5)
    assert float(query_key_loss(same, same, 0.2)) == pytest.approx(0.4 * math.log(8), rel=1e-5)
    assert float(matching_accuracy(same, same)) == pytest.approx(1 / 8)


def test_accuracy_counts_the_views_that_find_each_other():
    first = torch.eye(4)
    assert float(matching_accuracy(first, first)) == 1
    assert float(matching_accuracy(first, first[[0, 1, 3, 2]])) == 0.5
    assert cosines(first[:2], -first[:3]).tolist() == [[-1, 0, 0], [0, -1, 0]]


def test_keys_receive_no_gradient_and_both_views_do():
    queries, keys = (v.requires_grad_() for v in vectors(4, 3, 0))
    query_key_loss(queries, keys, 0.2).backward()
    assert keys.grad is None
    assert queries.grad.any()
    first, second = (v.requires_grad_() for v in vectors(4, 3, 0))
    nt_xent(first, second, 0.2).backward()
    assert first.grad.any()
    assert second.grad.any()


@pytest.mark.parametrize("loss", [nt_xent, query_key_loss])
def test_half_precision_is_left_for_the_loss(loss):
    first, second = vectors(8, 16, 0)
    exact = float(loss(first, second, 0.1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = loss(first, second, 0.1)
    assert inside.dtype == torch.float32
    assert float(inside) == exact


def test_a_head_is_free_of_biases_and_ends_in_batch_norm():
    with seeded(0):
        head = projection_head((6, 10, 10, 4), last_norm="plain")
        scaled = projection_head((6, 10, 4), last_norm="scale")[-1]
    # SimCLR's last norm learns a scale and no shift.
    assert scaled.weight.requires_grad
    assert not scaled.bias.requires_grad
    assert not scaled.bias.any()
    kinds = [type(part) for part in head]
    inner = [nn.Linear, nn.BatchNorm1d, nn.ReLU]
    assert kinds == [*inner, *inner, nn.Linear, nn.BatchNorm1d]
    linears = [part for part in head if isinstance(part, nn.Linear)]
    assert [tuple(part.weight.shape) for part in linears] == [(10, 6), (10, 10), (4, 10)]
    assert all(part.bias is None for part in linears)
    assert [part.affine for part in head if isinstance(part, nn.BatchNorm1d)] == [True, True, False]
    out = head(torch.randn(64, 6, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(out.mean(dim=0), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.std(dim=0, unbiased=False), torch.ones(4), atol=1e-2, rtol=0)
