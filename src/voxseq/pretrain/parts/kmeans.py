"""K-means on any device, with the same sums each time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from voxseq.base.random import numpy_generator

#: Rows whose distances to all centroids are computed at a time. Sums are in the order of these
#: blocks, so their size is part of the result; with 13,000 clusters one takes 210 MB.
BLOCK = 4096
#: As in scikit-learn.
MOST_ITERATIONS = 300


@dataclass(frozen=True)
class Clusters:
    """Outcome of k-means.

    Attributes:
        labels: (N,) int64 cluster of each row.
        centroids: (K, C) mean of the rows of each cluster.
        distances: (N,) from each row to the centroid of its cluster.
    """

    labels: Tensor
    centroids: Tensor
    distances: Tensor


def kmeans(rows: Tensor, most: int, seed: int) -> Clusters:
    """Lloyd's algorithm, from rows drawn by seed until no row changes its cluster.

    A cluster that loses all its rows begins again at one of those farthest from their centroids.

    Args:
        rows: (N, C) float32, on the device that computes.
        most: clusters, if so many rows differ; one for each different row otherwise.
        seed: of the draw.
    """
    _, distinct = np.unique(rows.cpu().numpy(), axis=0, return_index=True)
    generator = numpy_generator(seed, "k-means")
    drawn = generator.choice(distinct, min(most, len(distinct)), replace=False)
    # Products of vectors far from zero would cancel.
    centre = rows.mean(dim=0)
    rows = rows - centre
    centroids = rows[torch.from_numpy(drawn).to(rows.device)]
    labels = _nearest(rows, centroids)
    for _ in range(MOST_ITERATIONS):
        centroids = _means(rows, labels, centroids)
        before, labels = labels, _nearest(rows, centroids)
        if torch.equal(before, labels):
            break
    else:
        centroids = _means(rows, labels, centroids)
    return Clusters(labels, centroids + centre, _distances(rows, labels, centroids))


def _blocks(count: int) -> Iterator[slice]:
    return (slice(first, first + BLOCK) for first in range(0, count, BLOCK))


def _nearest(rows: Tensor, centroids: Tensor) -> Tensor:
    """Number of the nearest centroid of each row (N,)."""
    # The row's own square is the same for all centroids.
    squares = centroids.square().sum(dim=1)
    found = [
        torch.addmm(squares, rows[block], centroids.T, alpha=-2).argmin(dim=1)
        for block in _blocks(len(rows))
    ]
    return torch.cat(found)


def _means(rows: Tensor, labels: Tensor, centroids: Tensor) -> Tensor:
    """Mean of the rows of each cluster (K, C); a cluster without rows gets one of the farthest."""
    numbers = torch.arange(len(centroids), device=rows.device)
    sums = torch.zeros_like(centroids)
    # As a product: adding rows in place is in another order each time on a GPU.
    for block in _blocks(len(rows)):
        sums.addmm_((labels[block] == numbers[:, None]).to(rows), rows[block])
    counts = torch.bincount(labels, minlength=len(centroids))
    means = sums / counts.clamp(min=1)[:, None]
    empty = (counts == 0).nonzero()[:, 0]
    if len(empty):
        farthest = _distances(rows, labels, centroids).argsort(descending=True, stable=True)
        means[empty] = rows[farthest[: len(empty)]]
    return means


def _distances(rows: Tensor, labels: Tensor, centroids: Tensor) -> Tensor:
    """Distance of each row to the centroid of its cluster (N,)."""
    found = [
        torch.linalg.vector_norm(rows[block] - centroids[labels[block]], dim=1)
        for block in _blocks(len(rows))
    ]
    return torch.cat(found)
