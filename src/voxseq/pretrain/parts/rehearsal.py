"""The rehearsal buffer of MedCoSS: typical items of an earlier stage (Ye et al. 2024)."""

from __future__ import annotations

import hashlib
import logging
import math
import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voxseq.base.failures import read_named
from voxseq.base.files import atomic_path, named
from voxseq.base.progress import track
from voxseq.base.random import numpy_generator
from voxseq.models.encoder import Encoder
from voxseq.pretrain.base import StageWork
from voxseq.pretrain.batching import read_volumes
from voxseq.pretrain.parts.kmeans import kmeans
from voxseq.sequences.sampler import SequenceSampler
from voxseq.training.distributed import processes
from voxseq.training.finite import require_finite_rows

_LOG = logging.getLogger("voxseq.pretrain")
Integers = NDArray[np.int64]

#: Items that the encoder is given at a time when features are computed; part of the result.
FEATURE_BATCH = 32
#: Items whose features are kept together: whole batches.
PART = 8 * FEATURE_BATCH
#: Stands in the rehearsal buffer where a cluster had too few items.
EMPTY = -1


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


def choose_buffer(
    encoder: Encoder,
    data: SequenceSampler,
    candidates: Integers,
    size: BufferSize,
    seed: int,
    work: StageWork,
) -> Tensor:
    """Choose typical items: from each cluster of features the members nearest to its centroid.

    Each rank encodes its share of the candidates; rank 0 clusters and tells the others. Features
    and the choice are kept in ``work.state``, tied to the weights, so that a stopped run goes on
    from them.

    Args:
        encoder: whose features are clustered.
        data: all training items.
        candidates: their list numbers.
        size: numbers of clusters and of items of each.
        seed: of k-means.
        work: folder, precision and reader.

    Returns:
        (size.total,) int64 list numbers on the CPU, in rising order, then :data:`EMPTY`.

    Raises:
        NotFiniteError: features that are infinite or undefined.
    """
    here = processes()
    key = _key(encoder, candidates, size, seed, work.precision)
    kept = KeptArrays.of(work.state, key, is_cleaner=here.is_first)
    buffer = torch.full((size.total,), EMPTY, dtype=torch.int64)
    chosen = kept.load("chosen") if here.is_first else None
    # Another rank might not see a file of rank 0 yet.
    if not here.broadcast(chosen is not None):
        features = here.sum(_own_features(encoder, data, candidates, work, kept))
        if here.is_first:
            on_device = features.to(next(encoder.parameters()).device)
            chosen = candidates[nearest_to_centroids(on_device, size, seed)]
            kept.save("chosen", chosen)
    if chosen is not None:
        kept.remove("features-*")
        buffer[: len(chosen)] = torch.from_numpy(chosen)
    return here.broadcast_tensor(buffer)


def _own_features(
    encoder: Encoder,
    data: SequenceSampler,
    candidates: Integers,
    work: StageWork,
    kept: KeptArrays,
) -> Tensor:
    """Features (N, C) of all candidates; zeros where another rank computes them."""
    here = processes()
    features = torch.zeros(len(candidates), encoder.config.width)
    starts = range(here.rank * PART, len(candidates), here.world_size * PART)
    found = {first: kept.load(f"features-{first:08d}") for first in starts}
    left = [first for first in starts if found[first] is None]
    done = len(starts) - len(left)
    if done:
        _LOG.info("features of %d of %d parts were computed before", done, len(starts))
    numbers = [candidates[first : first + PART] for first in left]
    read = work.read or partial(read_volumes, data)
    with closing(read(np.concatenate([*numbers, candidates[:0]]), FEATURE_BATCH)) as volumes:
        parts = zip(left, numbers, strict=True)
        for first, part in track(parts, "features of the buffer's candidates", len(starts), done):
            own = mean_features(encoder, volumes, part, work.precision).numpy()
            kept.save(f"features-{first:08d}", own)
            found[first] = own
    for first, values in found.items():
        features[first : first + PART] = torch.from_numpy(values)
    return features


@torch.no_grad()
def mean_features(
    encoder: Encoder, volumes: Iterator[Tensor], numbers: Integers, precision: str = "32-true"
) -> Tensor:
    """Mean over all tokens, start token included, of whole images (published code).

    Args:
        encoder: set to evaluation for the time of the call.
        volumes: (B, 1, X, Y, Z) each, :data:`FEATURE_BATCH` items at a time; as many are taken as
            there are numbers.
        numbers: N list numbers of the items, for messages.
        precision: of the training: a 16-bit mixed one computes in 16 bits here too.

    Returns:
        (N, C) float32 on the CPU.

    Raises:
        NotFiniteError: features that are infinite or undefined.
    """
    training = encoder.training
    encoder.eval()
    weight = next(encoder.parameters())
    mixed = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(precision)
    parts = []
    for first in range(0, len(numbers), FEATURE_BATCH):
        names = [f"item {number}" for number in numbers[first : first + FEATURE_BATCH]]
        with torch.autocast(weight.device.type, mixed, enabled=mixed is not None):
            encoded = encoder(next(volumes).to(weight))
        states = torch.cat([encoded.start[:, None], encoded.tokens], dim=1)
        means = states.float().mean(dim=1)
        require_finite_rows("the features", names, means)
        parts.append(means.cpu())
    encoder.train(training)
    return torch.cat(parts)


def nearest_to_centroids(features: Tensor, size: BufferSize, seed: int) -> Integers:
    """Choose from each k-means cluster the members nearest to its centroid (published code).

    A cluster with fewer members gives those that it has.

    Args:
        features: (N, C) float32, on the device that clusters.
        size: numbers of clusters and of items of each.
        seed: of k-means.

    Returns:
        Rising indices of the chosen rows.
    """
    found = kmeans(features, size.clusters, seed)
    labels, distances = found.labels.cpu().numpy(), found.distances.cpu().numpy()
    order = np.lexsort((distances, labels))
    # Place of each row among the members of its cluster, the nearest first.
    firsts = np.searchsorted(labels[order], labels[order])
    places = np.arange(len(order)) - firsts
    return np.sort(order[places < size.per_cluster])


@dataclass(frozen=True)
class KeptArrays:
    """Arrays in a folder of a run's state, for one choice of a buffer.

    Attributes:
        folder: ``None`` keeps nothing.
    """

    folder: Path | None

    @classmethod
    def of(cls, state: Path | None, key: str, *, is_cleaner: bool) -> KeptArrays:
        """Those of a key; those of other keys are removed by the process that cleans."""
        if state is None:
            return cls(None)
        folder = state / "rehearsal"
        for other in named(folder, "*") if is_cleaner else []:
            if other.name != key:
                shutil.rmtree(other, ignore_errors=True)
        return cls(folder / key)

    def load(self, name: str) -> NDArray[Any] | None:
        """An array that was saved; ``None`` where it was not."""
        path = self._path(name)
        if path is None or not path.exists():
            return None
        with read_named(path):
            array: NDArray[Any] = np.load(path, allow_pickle=False)
        return array

    def save(self, name: str, array: NDArray[Any]) -> None:
        """Keep an array."""
        path = self._path(name)
        if path is not None:
            with atomic_path(path) as temporary, temporary.open("wb") as file:
                np.save(file, array, allow_pickle=False)

    def remove(self, pattern: str) -> None:
        """Remove arrays by name."""
        for path in named(self.folder, f"{pattern}.npy") if self.folder is not None else []:
            path.unlink()

    def _path(self, name: str) -> Path | None:
        return None if self.folder is None else self.folder / f"{name}.npy"


def _key(
    encoder: Encoder, candidates: Integers, size: BufferSize, seed: int, precision: str
) -> str:
    """Digest of all that the choice depends on but the voxels."""
    hashed = hashlib.sha256(f"{size} {seed} {precision} {FEATURE_BATCH}".encode())
    hashed.update(candidates.tobytes())
    for name, value in encoder.state_dict().items():
        hashed.update(name.encode())
        hashed.update(value.cpu().numpy().tobytes())
    return hashed.hexdigest()[:16]
