"""The rehearsal buffer of MedCoSS."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.helpers.methods import ENCODER
from tests.helpers.training import (
    PhantomSampler,
    phantom_sampler,
)
from tests.pretrain.test_medcoss import (
    make,
)
from voxseq.base.errors import NotFiniteError
from voxseq.models.encoder import build_encoder
from voxseq.pretrain.batching import ItemRows, volumes_of
from voxseq.pretrain.methods.medcoss import EMPTY
from voxseq.pretrain.parts.rehearsal import (
    BufferSize,
    choose_candidates,
    mean_features,
    nearest_to_centroids,
    rehearsal_generator,
)


@pytest.mark.parametrize(
    ("items", "clusters", "per_cluster"),
    [(1000, 10, 5), (700, 7, 5), (2900, 29, 5), (9600, 96, 5), (150, 1, 7), (20, 1, 1), (3, 1, 1)],
)
def test_size_of_the_buffer(items, clusters, per_cluster):
    assert BufferSize.of(items, 0.01, 0.05) == BufferSize(clusters, per_cluster)


def test_the_buffer_holds_a_twentieth_of_the_ct_items():
    """400 CT items; their features are so many that no cluster is smaller than its share."""
    data = phantom_sampler(800)
    method = make(data, buffer_share=0.05, cluster_share=0.01)
    assert method.rehearsal.shape == (20,)
    assert method.rehearsal.eq(EMPTY).all()
    method.begin_stage(1, data)
    buffered = method.batching.rehearsed
    assert len(set(buffered.tolist())) == len(buffered) == 20
    assert {data.items[number].modality for number in buffered} == {"CT"}


def test_the_members_nearest_to_each_centroid_are_chosen():
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(4), [30, 20, 25, 25]))
    centres = np.array([[0, 0], [100, 0], [0, 100], [100, 100]], dtype=float)
    features = centres[labels] + rng.normal(0, 3, (100, 2))
    chosen = nearest_to_centroids(features, BufferSize(4, 5), 0)
    expected = []
    for label in range(4):
        members = np.flatnonzero(labels == label)
        centroid = features[members].mean(axis=0)
        distance = ((features[members] - centroid) ** 2).sum(axis=1)
        expected += members[np.argsort(distance)[:5]].tolist()
    assert chosen.tolist() == sorted(expected)


def test_a_small_cluster_gives_what_it_has():
    features = np.concatenate([np.linspace(0, 1, 20), [100.0, 101.0]])[:, None]
    chosen = nearest_to_centroids(features, BufferSize(2, 5), 0)
    assert {20, 21} <= set(chosen.tolist())
    assert len(chosen) == 7
    same = nearest_to_centroids(np.ones((6, 3)), BufferSize(4, 1), 0)
    assert len(same) == 1


def test_features_are_the_mean_of_all_tokens_of_the_whole_image():
    method, data = make().train(), phantom_sampler(40)
    numbers = np.arange(1, 40)
    features = mean_features(method.backbone, data, numbers)
    assert method.backbone.training
    with torch.no_grad():
        for row, number in ((0, 1), (38, 39)):
            encoded = method.backbone(torch.from_numpy(data.items[number].volume)[None, None])
            states = torch.cat([encoded.start, encoded.tokens[0]]).double().mean(dim=0)
            np.testing.assert_allclose(features[row], states.numpy(), rtol=1e-4, atol=1e-6)


def test_candidates_are_drawn_by_seed():
    numbers = np.arange(0, 200, 2)
    assert choose_candidates(numbers, None, 0) is numbers
    assert choose_candidates(numbers, 500, 0) is numbers
    drawn = choose_candidates(numbers, 30, 0)
    assert len(set(drawn.tolist())) == 30
    assert set(drawn.tolist()) <= set(numbers.tolist())
    assert (np.diff(drawn) > 0).all()
    assert drawn.tolist() == choose_candidates(numbers, 30, 0).tolist()
    assert drawn.tolist() != choose_candidates(numbers, 30, 1).tolist()
    method, data = make(phantom_sampler(32), buffer_candidates=5), phantom_sampler(32)
    method.begin_stage(1, data)
    kept = choose_candidates(method.batching.numbers["CT"], 5, method.seed)
    assert set(method.batching.rehearsed.tolist()) <= set(kept.tolist())


class NoisySampler(PhantomSampler):
    """Each reading of an item looks another way, as the choice of a contrast does."""

    def raw(self, number, generator, *, sequences=False):
        raw = super().raw(number, generator)
        return replace(raw, boxes=[replace(raw.boxes[0], high=1 + generator.random())])


def read(method, data, step, size=4):
    """Numbers and volumes of a batch, before any of its views are made."""
    rows = ItemRows(method.batching, data, 0, size)(step)
    return rows["ids"].tolist(), volumes_of(rows, data.header, data.config)[:, 0].numpy()


def test_an_item_of_the_buffer_looks_the_same_each_time():
    data = NoisySampler(8)
    known = {
        number: data.volume(data.raw(number, rehearsal_generator(data.seed, number)))
        for number in (2, 4)
    }
    assert not np.array_equal(known[2], known[4])
    method = make(data)
    method.batching.rehearsed = np.array([2, 4])
    steps = [s for s in range(6, 12) if method.batching.source(s, 4) == "rehearsal"]
    assert len(steps) > 1
    for step in steps:
        for number, volume in zip(*read(method, data, step), strict=True):
            np.testing.assert_array_equal(volume, known[number])


def test_an_item_outside_the_buffer_looks_another_way_each_time():
    data = NoisySampler(2)
    method = make(data)
    seen = {
        (number, volume.tobytes())
        for step in range(6)
        for number, volume in zip(*read(method, data, step), strict=True)
    }
    assert {number for number, _ in seen} == {0}
    assert len(seen) == 24


def test_features_that_are_not_finite_are_not_clustered():
    encoder = build_encoder(ENCODER, 0, pretraining=True)
    with torch.no_grad():
        encoder.norm.weight[0] = float("inf")
    data = phantom_sampler(4)
    with pytest.raises(NotFiniteError, match="features of item 0"):
        mean_features(encoder, data, data.numbers("CT"))
