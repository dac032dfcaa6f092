"""The rehearsal buffer of MedCoSS."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.helpers.methods import ENCODER, move
from tests.helpers.several import note, noted, together
from tests.helpers.training import (
    PhantomSampler,
    phantom_sampler,
)
from tests.pretrain.test_medcoss import (
    make,
)
from voxseq.base.errors import NotFiniteError
from voxseq.models.encoder import build_encoder
from voxseq.pretrain.base import StageWork
from voxseq.pretrain.batching import ItemRows, listed_image, read_volumes, volumes_of
from voxseq.pretrain.parts import rehearsal
from voxseq.pretrain.parts.kmeans import kmeans
from voxseq.pretrain.parts.rehearsal import (
    EMPTY,
    FEATURE_BATCH,
    BufferSize,
    choose_candidates,
    mean_features,
    nearest_to_centroids,
)

BF16 = torch.bfloat16


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
    features = torch.from_numpy(np.random.default_rng(0).normal(0, 3, (100, 2))).float()
    chosen = nearest_to_centroids(features, BufferSize(4, 5), 0)
    found = kmeans(features, 4, 0)
    expected = []
    for label, centroid in enumerate(found.centroids):
        members = (found.labels == label).nonzero()[:, 0]
        distance = (features[members] - centroid).square().sum(dim=1)
        expected += members[distance.argsort()[:5]].tolist()
    assert len(expected) == 20
    assert chosen.tolist() == sorted(expected)


def test_a_small_cluster_gives_what_it_has():
    features = torch.cat([torch.linspace(0, 1, 20), torch.tensor([100.0, 101.0])])[:, None]
    chosen = nearest_to_centroids(features, BufferSize(2, 5), 0)
    assert {20, 21} <= set(chosen.tolist())
    assert len(chosen) == 7
    same = nearest_to_centroids(torch.ones(6, 3), BufferSize(4, 1), 0)
    assert len(same) == 1


def test_features_are_the_mean_of_all_tokens_of_the_whole_image():
    method, data = make().train(), phantom_sampler(40)
    numbers = np.arange(1, 40)
    features = mean_features(method.backbone, read_volumes(data, numbers, FEATURE_BATCH), numbers)
    assert method.backbone.training
    assert features.shape == (39, 24)
    with torch.no_grad():
        for row, number in ((0, 1), (38, 39)):
            encoded = method.backbone(torch.from_numpy(data.items[number].volume)[None, None])
            states = torch.cat([encoded.start, encoded.tokens[0]]).mean(dim=0)
            torch.testing.assert_close(features[row], states, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("precision", "seen"), [("32-true", torch.float32), ("bf16-mixed", BF16)])
def test_features_are_computed_as_the_training_computes(precision, seen):
    method, data = make(), phantom_sampler(4)
    kinds = []
    method.backbone.blocks[0].mlp.linear1.register_forward_hook(
        lambda _, inputs, output: kinds.append(output.dtype)
    )
    numbers = np.arange(4)
    features = mean_features(
        method.backbone, read_volumes(data, numbers, FEATURE_BATCH), numbers, precision
    )
    assert kinds == [seen]
    assert features.dtype == torch.float32


class Counted:
    """Reads items and notes them; it is stopped at one of its batches."""

    def __init__(self, data, stop_at=None):
        self.data, self.stop_at, self.read = data, stop_at, []

    def __call__(self, numbers, size):
        for batch, volumes in enumerate(read_volumes(self.data, numbers, size)):
            if batch == self.stop_at:
                raise KeyboardInterrupt
            self.read += numbers[batch * FEATURE_BATCH :][: len(volumes)].tolist()
            yield volumes


@pytest.fixture
def small_parts(monkeypatch):
    """Parts of one batch, so that a few items have several."""
    monkeypatch.setattr(rehearsal, "PART", FEATURE_BATCH)


@pytest.mark.usefixtures("small_parts")
def test_a_stopped_choice_goes_on_with_the_features_that_are_left(tmp_path):
    data = phantom_sampler(200)
    straight = make(data)
    straight.begin_stage(1, data)
    method = make(data)
    first, second = Counted(data, stop_at=2), Counted(data)
    with pytest.raises(KeyboardInterrupt):
        method.begin_stage(1, data, StageWork(tmp_path, read=first))
    assert method.rehearsal.eq(EMPTY).all()
    method.begin_stage(1, data, StageWork(tmp_path, read=second))
    # All CT items, each once.
    assert first.read + second.read == list(range(0, 200, 2))
    assert len(first.read) == 2 * FEATURE_BATCH
    assert torch.equal(method.rehearsal, straight.rehearsal)


@pytest.mark.usefixtures("small_parts")
def test_after_the_features_nothing_is_encoded_again(tmp_path, monkeypatch):
    data, method = phantom_sampler(200), make(phantom_sampler(200))
    encoded = []
    method.backbone.norm.register_forward_hook(lambda *_: encoded.append(1))
    with monkeypatch.context() as patched:
        patched.setattr(rehearsal, "kmeans", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            method.begin_stage(1, data, StageWork(tmp_path))
    assert len(encoded) == 4
    method.begin_stage(1, data, StageWork(tmp_path))
    chosen = method.rehearsal.clone()
    assert len(encoded) == 4
    assert not [*tmp_path.rglob("features-*")]
    # A run that is killed later and begins the stage again finds the choice itself.
    monkeypatch.setattr(rehearsal, "kmeans", None)
    method.begin_stage(1, data, StageWork(tmp_path))
    assert len(encoded) == 4
    assert torch.equal(method.rehearsal, chosen)


def choose_together(folder):
    """One of several processes: note what it read, and the buffer that it ends with."""
    rehearsal.PART = FEATURE_BATCH
    data = phantom_sampler(200)
    method, reader = make(data), Counted(data)
    method.begin_stage(1, data, StageWork(folder, read=reader))
    note(folder / "noted", json.dumps([reader.read, method.rehearsal.tolist()]))


@pytest.mark.slow
@pytest.mark.usefixtures("small_parts")
def test_each_process_encodes_its_share_and_all_get_the_same_buffer(tmp_path):
    together(2, choose_together, tmp_path)
    (first, buffer), (second, other) = (json.loads(text) for text in noted(tmp_path / "noted"))
    assert [len(first), len(second)] == [2 * FEATURE_BATCH, 100 - 2 * FEATURE_BATCH]
    assert sorted(first + second) == list(range(0, 200, 2))
    data = phantom_sampler(200)
    alone = make(data)
    alone.begin_stage(1, data)
    assert buffer == other == alone.rehearsal.tolist()


def test_what_other_weights_left_is_not_used(tmp_path):
    data, method = phantom_sampler(40), make(phantom_sampler(40))
    method.begin_stage(1, data, StageWork(tmp_path))
    move(method)
    reader = Counted(data)
    method.begin_stage(1, data, StageWork(tmp_path, read=reader))
    assert reader.read == list(range(0, 40, 2))
    assert len([*(tmp_path / "rehearsal").iterdir()]) == 1


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
    known = {n: data.volume(data.raw(*listed_image(data.seed, n))) for n in (2, 4)}
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
        mean_features(
            encoder, read_volumes(data, data.numbers("CT"), FEATURE_BATCH), data.numbers("CT")
        )
