"""The rehearsal buffer of MedCoSS: typical items of an earlier stage (Ye et al. 2024)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from voxseq.base.random import numpy_generator
from voxseq.models.encoder import Encoder
from voxseq.sequences.sampler import SequenceSampler
from voxseq.training.finite import require_finite_rows

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]

#: Items that the encoder is given at a time when features are computed; part of the result.
FEATURE_BATCH = 32


@dataclass(frozen=True)
class BufferSize:
    """How many items a buffer holds (published code).

    Attributes:
        clusters: number of k-means clusters.
        per_cluster: most items that each of them gives.
    """

    clusters: int
    per_cluster: int

    @classmethod
    def of(cls, items: int, cluster_share: float, buffer_share: float) -> BufferSize:
        """Size for a number of items: whole parts, at least one cluster and one item of each."""
        clusters = max(_whole(items * cluster_share), 1)
        return cls(clusters, max(_whole(items * buffer_share) // clusters, 1))

    @property
    def total(self) -> int:
        """Most items of the buffer."""
        return self.clusters * self.per_cluster


def _whole(value: float) -> int:
    """Whole part; 700 * 0.01 counts as 7, not as 7.000000000000001 or 6.999…"""
    return math.floor(round(value, 6))


def choose_candidates(numbers: Integers, most: int | None, seed: int) -> Integers:
    """The items that may enter the buffer, in rising order: all, or ``most`` drawn by seed."""
    if most is None or most >= len(numbers):
        return numbers
    generator = numpy_generator(seed, "buffer candidates")
    return np.sort(generator.choice(numbers, most, replace=False))


def rehearsal_generator(seed: int, number: int) -> np.random.Generator:
    """Generator with which an item is read, as its features are: always the same image of it.

    Args:
        seed: of the sampler.
        number: in the training list.
    """
    return numpy_generator(seed, "rehearsal item", number)


@torch.no_grad()
def mean_features(encoder: Encoder, data: SequenceSampler, numbers: Integers) -> Floats:
    """Mean over all tokens, start token included, of whole images (published code).

    Args:
        encoder: set to evaluation for the time of the call.
        data: all training items.
        numbers: N list numbers.

    Returns:
        (N, C).

    Raises:
        NotFiniteError: features that are infinite or undefined.
    """
    training = encoder.training
    encoder.eval()
    weight = next(encoder.parameters())
    parts = []
    for first in range(0, len(numbers), FEATURE_BATCH):
        chosen = numbers[first : first + FEATURE_BATCH]
        raws = [data.raw(int(n), rehearsal_generator(data.seed, int(n))) for n in chosen]
        volumes = torch.from_numpy(np.stack([data.volume(raw) for raw in raws]))[:, None]
        encoded = encoder(volumes.to(weight))
        states = torch.cat([encoded.start[:, None], encoded.tokens], dim=1)
        means = states.mean(dim=1).double()
        require_finite_rows("the features", [f"item {number}" for number in chosen], means)
        parts.append(means.cpu().numpy())
    encoder.train(training)
    features: Floats = np.concatenate(parts)
    return features


def nearest_to_centroids(features: Floats, size: BufferSize, seed: int) -> Integers:
    """Choose from each k-means cluster the members nearest to its centroid (published code).

    A cluster with fewer members gives those that it has.

    Args:
        features: (N, C).
        size: numbers of clusters and of items of each.
        seed: of k-means.

    Returns:
        Rising indices of the chosen rows.
    """
    state = int(numpy_generator(seed, "k-means").integers(2**31))
    clusters = min(size.clusters, len(np.unique(features, axis=0)))
    # Sums over several threads are not the same from run to run.
    with threadpool_limits(1):
        fitted = KMeans(clusters, n_init=1, random_state=state).fit(features)
    distance = np.linalg.norm(features - fitted.cluster_centers_[fitted.labels_], axis=1)
    chosen = []
    for cluster in range(clusters):
        members = np.flatnonzero(fitted.labels_ == cluster)
        chosen.append(members[np.argsort(distance[members], kind="stable")[: size.per_cluster]])
    return np.sort(np.concatenate(chosen)).astype(np.int64)
