"""Autoregressive pre-training: who sees whom, the loss, and that it falls."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.methods import generator, unpatchify
from tests.helpers.training import views
from tests.models.test_attention import flash
from voxseq.config.data import SequencesConfig
from voxseq.config.methods import OursSettings
from voxseq.config.model import EncoderConfig
from voxseq.models.attention import prefix_mask, prefix_segments
from voxseq.models.features import feature_statistics
from voxseq.models.patches import normalised_targets, row_capacity, scored_rows
from voxseq.models.published import PublishedPretrainingModel
from voxseq.pretrain.methods import ours
from voxseq.pretrain.methods.ours import AutoregressiveMethod
from voxseq.training.distributed import BatchShard
from voxseq.transforms.spatial import Item

#: Grid of tokens, number of patches, voxels of a token: never a cube.
GEOMETRIES = [
    ((2, 3, 4), 2, (2, 1, 3)),
    ((1, 2, 4), 4, (3, 2, 1)),
    ((3, 1, 6), 3, (1, 2, 2)),
    ((2, 2, 5), 1, (2, 2, 2)),
]


def method(
    geometry=GEOMETRIES[0], order="patch_major", attention="prefix", seed=0, loss="squared"
) -> AutoregressiveMethod:
    grid, length, patch = geometry
    shape = tuple(g * p for g, p in zip(grid, patch, strict=True))
    sequences = SequencesConfig(
        volume_shape=shape,
        length=length,
        contrast={"contrasts": [f"c{i}" for i in range(length)]},
        spatial={"window_shape": shape, "stride": 1}
        if length == 1
        else {"window_shape": (*shape[:2], shape[2] + length), "stride": 1},
    )
    config = EncoderConfig(width=24, depth=2, heads=2, mlp_width=32, patch_size=patch)
    chosen = OursSettings(attention=attention, token_order=order, loss=loss)
    return AutoregressiveMethod(chosen, config, sequences, seed)


def random_volumes(model: AutoregressiveMethod, count: int, seed: int) -> torch.Tensor:
    return torch.rand(count, 1, *model.sequences.volume_shape, generator=generator(seed))


def as_volume(model: AutoregressiveMethod, patches: torch.Tensor) -> torch.Tensor:
    """Volume whose tokens, in the order of the sequence, are ``patches``."""
    raster = torch.empty_like(patches)
    raster[:, model.order] = patches
    return unpatchify(raster, model.grid, model.patch_size)


@torch.no_grad()
def predictions(model: AutoregressiveMethod, patches: torch.Tensor, prefix: int) -> torch.Tensor:
    """Predict through a real volume, so that the whole way from voxels on is under test."""
    sequence = model.sequence(as_volume(model, patches))
    assert torch.equal(sequence, patches)
    return of_all(model, sequence, torch.full((len(patches),), prefix))


def of_all(
    model: AutoregressiveMethod, sequence: torch.Tensor, prefix: torch.Tensor
) -> torch.Tensor:
    """Outputs (B, L, V) of all tokens, also of those that are not scored."""
    every = torch.arange(sequence.shape[0] * sequence.shape[1])
    return model.predict(sequence, prefix, every).unflatten(0, sequence.shape[:2])


def changed_from(patches: torch.Tensor, first: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
    """Other voxels in tokens ``first..last`` (exclusive) of each sample."""
    index = torch.arange(patches.shape[1])
    touched = (index >= first[:, None]) & (index < last[:, None])
    return torch.where(touched[..., None], patches * -3.0 + 7.0, patches)


cases = {
    "geometry": st.sampled_from(GEOMETRIES),
    "order": st.sampled_from(["patch_major", "raster"]),
    "seed": st.integers(0, 50),
}


@settings(max_examples=25, deadline=None)
@given(**cases, data=st.data())
def test_scored_tokens_see_neither_themselves_nor_later_ones(geometry, order, seed, data):
    """Bit for bit, for every scored token at once: sample j changes token j and all after it."""
    model = method(geometry, order, seed=seed)
    count = model.length
    prefix = data.draw(st.integers(0, count - 1))
    same = model.sequence(random_volumes(model, 1, seed)).expand(count, -1, -1).contiguous()
    every = torch.arange(count)
    before = predictions(model, same, prefix)[every, every]
    for last in (every + 1, torch.full_like(every, count)):
        after = predictions(model, changed_from(same, every, last), prefix)[every, every]
        assert torch.equal(after[prefix:], before[prefix:])
    later = predictions(model, changed_from(same, every + 1, torch.full_like(every, count)), prefix)
    assert torch.equal(later[every, every][prefix:], before[prefix:])


@settings(max_examples=25, deadline=None)
@given(**cases, data=st.data())
def test_scored_tokens_see_the_whole_prefix_and_their_past(geometry, order, seed, data):
    model = method(geometry, order, seed=seed)
    count = model.length
    prefix = data.draw(st.integers(0, count - 1))
    same = model.sequence(random_volumes(model, 1, seed)).expand(count, -1, -1).contiguous()
    every = torch.arange(count)
    before = predictions(model, same, prefix)
    after = predictions(model, changed_from(same, every, every + 1), prefix)
    differs = (before != after).any(dim=-1)
    for token in range(count):
        for scored in range(max(prefix, token + 1), count):
            assert differs[token, scored]
        if token < prefix - 1:
            # Within the prefix attention goes both ways: an earlier output changes too.
            later = predictions(model, changed_from(same, every[1:2], every[2:3]), prefix)
            assert (later[:, 0] != before[:, 0]).any()


@settings(max_examples=15, deadline=None)
@given(**cases)
def test_causal_attention_hides_the_future_from_every_token(geometry, order, seed):
    model = method(geometry, order, attention="causal", seed=seed)
    count = model.length
    drawn = model.draw_prefix(5, generator(seed))
    assert drawn.tolist() == [0] * 5
    same = model.sequence(random_volumes(model, 1, seed)).expand(count, -1, -1).contiguous()
    every = torch.arange(count)
    before = predictions(model, same, 0)[every, every]
    changed = changed_from(same, every, torch.full_like(every, count))
    assert torch.equal(predictions(model, changed, 0)[every, every], before)


@pytest.mark.parametrize("attention", ["prefix", "causal"])
def test_nothing_leaks_in_long_sequences(attention):
    """Attention kernels work in blocks; 768 tokens span several in both directions."""
    model = method(((8, 8, 12), 4, (2, 1, 1)), "patch_major", attention)
    prefix = 100 if attention == "prefix" else 0
    first = torch.tensor([prefix, 127, 300, 511, 512, 767])
    rows = torch.arange(len(first))
    same = model.sequence(random_volumes(model, 1, 0)).expand(len(first), -1, -1).contiguous()
    changed = changed_from(same, first, torch.full_like(first, model.length))
    before, after = predictions(model, same, prefix), predictions(model, changed, prefix)
    assert torch.equal(before[rows, first], after[rows, first])
    for row, token in enumerate(first.tolist()):
        assert torch.equal(before[row, prefix : token + 1], after[row, prefix : token + 1])


@pytest.mark.parametrize("order", ["patch_major", "raster"])
def test_loss_is_the_mean_over_all_scored_voxels_of_the_batch(order):
    model = method(order=order)
    volumes = random_volumes(model, 6, 3)
    prefix = model.draw_prefix(6, generator(9))
    assert len(set(prefix.tolist())) > 1
    loss = model.training_loss({"volume": volumes}, 0, generator(9))["loss"]
    patches = model.sequence(volumes)
    errors = (of_all(model, patches, prefix) - normalised_targets(patches)).square()
    scored = torch.cat([errors[i, int(p) :].flatten() for i, p in enumerate(prefix)])
    torch.testing.assert_close(loss, scored.mean())
    validation = model.validation_loss({"volume": volumes}, generator(9))
    assert torch.equal(validation["loss"], loss)


def test_only_scored_tokens_pass_the_last_mlp_and_the_head():
    model = method()
    seen = {}
    for name, part in (("mlp", model.backbone.blocks[-1].mlp), ("head", model.head)):
        part.register_forward_hook(lambda _, inputs, out, name=name: seen.update({name: len(out)}))
    model.training_loss({"volume": random_volumes(model, 6, 3)}, 0, generator(9))
    prefix = model.draw_prefix(6, generator(9))
    scored = int((model.length - prefix).sum())
    assert seen == {"mlp": scored, "head": scored}
    assert scored < 6 * model.length


def test_prefix_is_uniform_over_all_starts():
    model = method()
    drawn = model.draw_prefix(24_000, generator(0))
    counts = torch.bincount(drawn, minlength=24)
    assert len(counts) == model.length == 24
    assert 850 < int(counts.min()) <= int(counts.max()) < 1150


@pytest.mark.parametrize("order", ["patch_major", "raster"])
def test_order_decides_who_sees_whom_and_not_where_a_token_is(order):
    """Predictions equal those of the whole encoder, whose tokens keep their own positions."""
    model = method(order=order)
    volumes, prefix = random_volumes(model, 3, 0), torch.tensor([0, 5, 23])
    encoded = model.backbone(volumes, prefix_mask(prefix, model.length), model.order)
    states = torch.cat([encoded.start[:, None], encoded.tokens[:, :-1]], dim=1)
    predicted = of_all(model, model.sequence(volumes), prefix)
    torch.testing.assert_close(predicted, model.head(states), rtol=1e-4, atol=1e-5)
    in_place = model.backbone.embed(volumes)[:, model.order]
    torch.testing.assert_close(model.backbone.embed(volumes, model.order), in_place)


def test_in_raster_order_loss_and_gradients_are_those_of_the_published_model():
    """The last token and the end token, which are left out here, change nothing."""
    model = method(order="raster")
    published = PublishedPretrainingModel(model.backbone.config, model.sequences.volume_shape)
    published.encoder.load_state_dict(model.backbone.state_dict())
    published.head.load_state_dict(model.head.state_dict())
    volumes = random_volumes(model, 4, 2)
    loss = model.training_loss({"volume": volumes}, 0, generator(5))["loss"]
    prefix = model.draw_prefix(4, generator(5))
    expected = published(volumes[:, 0], prefix).loss
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    theirs = dict(published.named_parameters())
    for name, parameter in model.named_parameters():
        twin = theirs[name.replace("backbone.", "encoder.")]
        torch.testing.assert_close(parameter.grad, twin.grad, rtol=1e-4, atol=1e-6)
    assert not published.end_token.grad.any()


def test_the_norm_is_averaged_within_each_sequence_first():
    """Equation 2 token by token; padded steps and shares of a batch agree with it."""
    model = method(loss="norm")
    volumes = random_volumes(model, 4, 2)
    sequence, prefix = model.sequence(volumes), model.draw_prefix(4, generator(5))
    assert len(set(prefix.tolist())) > 1
    errors = of_all(model, sequence, prefix) - normalised_targets(sequence)
    norms = [
        each[first:].square().sum(-1).sqrt() for each, first in zip(errors, prefix, strict=True)
    ]
    expected = torch.stack([of_one.mean() for of_one in norms]).mean()
    for own in (model, padded(model)):
        loss = own.training_loss({"volume": volumes}, 0, generator(5))["loss"]
        torch.testing.assert_close(loss, expected)
    shares = []
    for number in range(2):
        model.shard = BatchShard(number, 2)
        batch = {"volume": model.shard.local(volumes)}
        shares.append(model.training_loss(batch, 0, generator(5))["loss"])
    torch.testing.assert_close(torch.stack(shares).mean(), expected)


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="voxels"):
        method().sequence(torch.zeros(1, 1, 4, 3, 15))


def test_without_sequences_it_is_fed_single_images():
    grid, length, patch = GEOMETRIES[0]
    base = method((grid, length, patch))
    window = (4, 3, 15)
    spatial = base.sequences.spatial.model_copy(update={"window_shape": window})
    sequences = base.sequences.model_copy(update={"spatial": spatial})
    single = AutoregressiveMethod(OursSettings(sequences=False), base.backbone.config, sequences, 0)
    assert (base.batching.needs, single.batching.needs) == ("sequence", "image")
    # Raster order of the crop, as in AIM.
    assert torch.equal(single.order, torch.arange(single.length))
    assert single.grid == tuple(n // p for n, p in zip(window, patch, strict=True)) != base.grid


@pytest.mark.parametrize("share", [0.0, 1.0, None])
def test_attention_without_a_mask_gives_the_same_loss_and_gradients(share, monkeypatch):
    """The prefix is 0, all but the last token, or drawn."""
    found = []
    for is_packed in (False, True):
        model = method().double()
        volumes = random_volumes(model, 5, 0).double()
        if share is not None:
            fixed = torch.full((5,), round(share * (model.length - 1)))
            monkeypatch.setattr(model, "draw_prefix", lambda batch, generator, fixed=fixed: fixed)
        if is_packed:
            monkeypatch.setattr("voxseq.models.attention.varlen_attn", flash)
            monkeypatch.setattr(ours, "prefix_visible", lambda p, n, dtype: prefix_segments(p, n))
        loss = model.training_loss({"volume": volumes}, 0, generator(3))["loss"]
        loss.backward()
        found.append([loss.detach(), *(p.grad for p in model.parameters())])
    for masked, packed in zip(*found, strict=True):
        torch.testing.assert_close(packed, masked, rtol=1e-6, atol=1e-9)


def padded(model: AutoregressiveMethod) -> AutoregressiveMethod:
    model.has_static_shapes = True
    return model


@pytest.mark.parametrize("attention", ["prefix", "causal"])
def test_padded_rows_change_neither_loss_nor_gradients(attention):
    volumes = random_volumes(method(), 6, 0).double()
    for step in range(4):
        plain = method(attention=attention).double()
        even = padded(method(attention=attention).double())
        losses = [
            model.training_loss({"volume": volumes}, step, generator(step))["loss"]
            for model in (plain, even)
        ]
        torch.testing.assert_close(losses[1], losses[0], rtol=1e-6, atol=0)
        for loss in losses:
            loss.backward()
        for own, other in zip(even.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(own.grad, other.grad, rtol=1e-6, atol=1e-9)


def rows_of_steps(model: AutoregressiveMethod, batch: int, steps: int) -> list[int]:
    """Numbers of rows that the head is given."""
    counts = []
    for step in range(steps):
        prefix = model.draw_prefix(batch, generator(step))
        rows, is_scored = model.rows(prefix, torch.device("cpu"))
        assert len(set(rows.tolist())) == len(rows)
        if is_scored is not None:
            assert torch.equal(rows[is_scored], scored_rows(prefix, model.length))
        counts.append(len(rows))
    return counts


def test_padded_steps_have_at_most_two_shapes():
    grid = (8, 4, 4), 2, (2, 2, 2)
    assert len(set(rows_of_steps(method(grid), 32, 50))) > 20
    counts = rows_of_steps(padded(method(grid)), 32, 50)
    assert len(set(counts)) <= 2
    # Of 4096 rows half are scored on average.
    assert max(counts) < 0.75 * 32 * 128


def test_a_batch_beyond_the_capacity_takes_all_rows():
    model = padded(method(((8, 4, 4), 2, (2, 2, 2))))
    rows, is_scored = model.rows(torch.zeros(32, dtype=torch.int64), torch.device("cpu"))
    assert len(rows) == 32 * 128
    assert is_scored.all()


def test_capacity_at_the_papers_size():
    assert row_capacity(288, 512) == 83_968


def structured(count: int, rng: np.random.Generator) -> list[Item]:
    """Soft balls, bright or dark: which of the two, only earlier tokens can tell."""
    axes = np.meshgrid(*[np.linspace(-1, 1, 8)] * 3, indexing="ij")
    items = []
    for _ in range(count):
        centre, sign = rng.uniform(-0.3, 0.3, size=3), rng.choice([-1, 1])
        distance = sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True))
        ball = 0.5 + 0.5 * sign * np.exp(-distance)
        items.append(Item(ball.astype(np.float32), "spatial", "balls"))
    return items


@pytest.mark.parametrize("attention", ["prefix", "causal"])
def test_loss_falls_on_structured_volumes(attention):
    sequences = SequencesConfig(
        volume_shape=(8, 8, 8), spatial={"window_shape": (8, 8, 8), "stride": 2}
    )
    config = EncoderConfig(width=48, depth=2, heads=4, mlp_width=96, patch_size=(4, 4, 2))
    chosen = OursSettings(attention=attention, optimiser={"lr": 2e-3})
    model = AutoregressiveMethod(chosen, config, sequences, 0)
    optimiser = torch.optim.AdamW(model.parameter_groups(chosen.optimiser))
    rng = np.random.default_rng(0)
    held_out = views(model, structured(64, rng))

    def score() -> float:
        with torch.no_grad():
            loss = model.validation_loss(held_out, generator(0))["loss"]
        return float(loss)

    before = score()
    for step in range(60):
        batch = views(model, structured(16, rng))
        loss = model.training_loss(batch, step, generator(step))["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    # Predicting zeros scores (V - 1) / V, just under 1.
    assert score() < 0.8 < before
    statistics = feature_statistics(model.encoder(held_out["volume"]).tokens.mean(dim=1))
    assert statistics["feature_sd"] > 0.01
    assert statistics["effective_rank"] > 1.2
