"""K-means: Lloyd's algorithm against a plain one, the same sums, clusters that lose their rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from voxseq.base.random import numpy_generator
from voxseq.pretrain.parts import kmeans as module
from voxseq.pretrain.parts.kmeans import kmeans


def rows(count: int = 300, width: int = 5, offset: float = 0.0) -> torch.Tensor:
    values = np.random.default_rng(1).normal(offset, 1, (count, width))
    return torch.from_numpy(values).float()


def plain_lloyd(values: np.ndarray, clusters: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """In float64, all distances at once."""
    drawn = numpy_generator(seed, "k-means").choice(
        np.unique(values, axis=0, return_index=True)[1], clusters, replace=False
    )
    values = values.astype(np.float64)
    centroids, labels = values[drawn], None
    while True:
        new = ((values[:, None] - centroids) ** 2).sum(axis=2).argmin(axis=1)
        if labels is not None and np.array_equal(new, labels):
            return labels, centroids
        labels = new
        centroids = np.stack([values[labels == k].mean(axis=0) for k in range(clusters)])


@pytest.mark.parametrize("offset", [0.0, 100.0])
@pytest.mark.parametrize("block", [7, module.BLOCK])
def test_it_is_lloyds_algorithm(offset: float, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    values = rows(offset=offset)
    labels, centroids = plain_lloyd(values.numpy(), 6, 0)
    found = kmeans(values, 6, 0)
    assert found.labels.tolist() == labels.tolist()
    np.testing.assert_allclose(found.centroids.numpy(), centroids, rtol=1e-5, atol=1e-5)
    away = np.linalg.norm(values.numpy() - centroids[labels], axis=1)
    np.testing.assert_allclose(found.distances.numpy(), away, rtol=1e-3, atol=1e-4)


def test_the_same_twice_and_another_for_another_seed() -> None:
    one, again, other = (kmeans(rows(), 6, seed) for seed in (0, 0, 1))
    assert torch.equal(one.labels, again.labels)
    assert torch.equal(one.centroids, again.centroids)
    assert not torch.equal(one.labels, other.labels)


@pytest.mark.parametrize("different", [1, 3, 9])
def test_equal_rows_are_in_one_cluster(different: int) -> None:
    values = rows(different).repeat_interleave(4, dim=0)
    found = kmeans(values, 20, 0)
    assert len(found.centroids) == different
    assert len(set(found.labels.tolist())) == different
    assert (found.labels.reshape(different, 4) == found.labels[::4, None]).all()


def test_a_cluster_without_rows_gets_the_farthest() -> None:
    values = torch.tensor([0.0, 1.0, 2.0, 50.0])[:, None]
    centroids = torch.tensor([1.0, 999.0])[:, None]
    labels = module._nearest(values, centroids)
    assert labels.tolist() == [0, 0, 0, 0]
    assert module._means(values, labels, centroids).flatten().tolist() == [13.25, 50.0]


def test_it_ends_where_rows_keep_changing_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    """The centroids are the means of the rows that are returned with them in any case."""
    monkeypatch.setattr(module, "MOST_ITERATIONS", 1)
    values = rows()
    found = kmeans(values, 6, 0)
    for label in range(6):
        torch.testing.assert_close(
            found.centroids[label], values[found.labels == label].mean(dim=0)
        )
