"""PCRLv2: views, decoder, stop of gradients, losses, and a training that works."""

from __future__ import annotations

import dataclasses
import math
from functools import partial

import numpy as np
import pytest
import torch

from tests.helpers import methods
from tests.helpers.live import LiveBytes
from tests.helpers.methods import generator
from tests.helpers.training import loss_falls, phantom_items, views
from voxseq.base.random import numpy_generator
from voxseq.config.data import SequencesConfig, SpatialConfig
from voxseq.config.methods.pcrlv2 import PCRLv2Settings
from voxseq.pretrain.methods.pcrlv2 import (
    Decoder,
    PCRLv2Batching,
    agreement,
    restoration_weight,
)

SMALL = {
    **{"global_shape": (12, 12, 12), "local_shape": (8, 8, 8)},
    **{"local_views": 3, "local_side": (0.3, 0.6)},
    **{"decoder_channels": (16, 8, 4), "swap_block": (2, 1, 2), "swaps": 100},
}


def method(**changes):
    return methods.make("pcrlv2", steps=100, **SMALL | changes)


def batch(made, size=4):
    return views(made, phantom_items(size), 3)


def test_views_have_their_shapes_and_the_target_is_clean():
    made = method()
    views = batch(made)
    assert views["first"].shape == views["second"].shape == (4, 1, 12, 12, 12)
    assert views["local"].shape == (4, 3, 1, 8, 8, 8)
    assert 0.0 <= float(views["target"].min()) < float(views["target"].max()) <= 1.0
    # The network's input is corrupted and standardised, the target is neither.
    assert abs(float(views["first"][0].mean())) < 1e-5
    assert float(views["first"][0].std()) == pytest.approx(1.0, abs=0.01)
    standard = (views["target"][0] - views["target"][0].mean()) / views["target"][0].std()
    assert float((standard - views["first"][0]).abs().mean()) > 0.05


def standardised(volumes):
    flat = volumes.flatten(1)
    return (flat - flat.mean(dim=1, keepdim=True)) / flat.std(dim=1, keepdim=True, correction=0)


def test_the_target_is_the_first_view_before_its_corruption(monkeypatch):
    monkeypatch.setattr("voxseq.transforms.pcrlv2._LOG_GAMMA", 0.0)
    made = method(blur=0.0, noise=0.0)
    swapped = batch(made)
    made.batching.corrupt_global = dataclasses.replace(made.batching.corrupt_global, swaps=0)
    plain = batch(made)
    target = standardised(plain["target"])
    torch.testing.assert_close(plain["first"].flatten(1), target, atol=1e-4, rtol=0)
    assert float((plain["second"].flatten(1) - target).abs().mean()) > 0.1
    # With blocks exchanged the voxels are the same at other places.
    assert torch.equal(swapped["target"], plain["target"])
    moved = (swapped["first"].flatten(1) - target).abs() > 1e-3
    assert 0.2 < float(moved.float().mean()) < 0.9
    ordered = swapped["first"].flatten(1).sort(dim=1).values
    torch.testing.assert_close(ordered, target.sort(dim=1).values, atol=1e-4, rtol=0)


@pytest.mark.parametrize("count", [4, 16])
def test_no_volume_is_repeated_for_its_views(monkeypatch, count):
    """Shapes of a quarter of the paper's sides: 6 small views of each volume."""
    monkeypatch.setattr("voxseq.transforms.pcrlv2.PIECE", 2)
    settings = PCRLv2Settings(
        global_shape=(24, 24, 24), local_shape=(12, 12, 12), swap_block=(3, 2, 3)
    )
    # The data side alone looks at nothing but their shape.
    crops = SpatialConfig(window_shape=(32, 32, 32))
    batching = PCRLv2Batching(settings, SequencesConfig.model_construct(spatial=crops), 0)
    volumes = torch.rand(count, 1, 32, 32, 32, generator=generator())
    streams = [partial(numpy_generator, 0, number) for number in range(count)]
    drawn = np.stack([batching.draw(stream) for stream in streams])
    with LiveBytes(volumes) as live:
        made = batching.views(volumes, drawn, np.zeros(count, bool))
    size = sum(values.nbytes for values in made.values())
    assert live.peak < 1.5 * (volumes.nbytes + size)
    assert live.largest <= max(volumes.nbytes, *(values.nbytes for values in made.values()))


def test_blocks_are_exchanged_in_large_views_only():
    made = method()
    assert (made.batching.corrupt_global.swaps, made.batching.corrupt_global.block) == (
        100,
        (2, 1, 2),
    )
    assert made.batching.corrupt_local.swaps == 0
    assert (made.batching.corrupt_global.side, made.batching.corrupt_local.side) == (64, 16)


def test_nothing_passes_the_bottleneck_but_the_last_tokens():
    """With tokens that no longer depend on the volume, neither does anything that is decoded."""
    made = method().eval()
    views = batch(made)
    open_way = [made.features(views[name], 3) for name in ("first", "second")]
    assert not torch.equal(open_way[0][-1], open_way[1][-1])
    torch.nn.init.zeros_(made.backbone.norm.weight)
    closed = [made.features(views[name], 3) for name in ("first", "second")]
    for one, other in zip(*closed, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(("stages", "sizes"), [(2, [3, 6, 12]), (4, [6, 12, 24]), (3, [6, 12, 24])])
def test_the_three_deepest_scales_carry_the_heads(stages, sizes):
    decoder = Decoder(12, stages, (8, 6, 4, 2))
    features = decoder(torch.rand(2, 12, 3, 3, 3), len(decoder.channels))
    assert [f.shape[2] for f in features] == sizes
    assert decoder.channels == (8, 6, 4)
    assert decoder.restore(features[-1]).shape == (2, 1, *(3 * 2**stages,) * 3)


def test_the_predicted_projection_gets_no_gradient():
    z1, p1, z2, p2 = (torch.randn(5, 4, requires_grad=True) for _ in range(4))
    agreement((z1, p1), (z2, p2)).backward()
    assert z1.grad is None
    assert z2.grad is None
    assert float(p1.grad.abs().sum()) > 0
    assert float(p2.grad.abs().sum()) > 0


def test_agreement_is_the_mean_of_both_negative_cosines():
    rng = np.random.default_rng(0)
    z1, p1, z2, p2 = (rng.normal(size=(5, 4)) for _ in range(4))

    def cosine(a, b):
        return (a * b).sum(1) / np.sqrt((a**2).sum(1) * (b**2).sum(1))

    expected = -(cosine(p1, z2).mean() + cosine(p2, z1).mean()) / 2
    tensors = [torch.from_numpy(a) for a in (z1, p1, z2, p2)]
    ours = agreement((tensors[0], tensors[1]), (tensors[2], tensors[3]))
    assert float(ours) == pytest.approx(expected, abs=1e-12)
    swapped = agreement((tensors[2], tensors[3]), (tensors[0], tensors[1]))
    assert float(swapped) == pytest.approx(expected, abs=1e-12)
    same = agreement((tensors[0], tensors[0]), (tensors[0], tensors[0]))
    assert float(same) == pytest.approx(-1.0)


def test_losses_are_computed_in_full_precision():
    made = method()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = made.training_loss(batch(made), 0, generator(5))
        features = made.features(batch(made)["first"], 3)
        restored = made.decoder.restore(features[-1])
        coarse = made.scale_heads[0].restore(features[0], (12, 12, 12))
    assert features[0].dtype == torch.bfloat16
    assert restored.dtype == coarse.dtype == torch.float32
    assert all(value.dtype == torch.float32 for value in losses.values())
    pair = tuple(torch.randn(6, 40, generator=generator(seed)) for seed in (1, 2))
    other = tuple(torch.randn(6, 40, generator=generator(seed)) for seed in (3, 4))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = agreement(pair, other)
    assert torch.equal(mixed, agreement(pair, other))


def test_losses_equal_a_plain_recomputation_in_float64():
    made = method().double().eval()
    views = {name: value.double() for name, value in batch(made).items()}
    step = 30
    losses = {
        name: float(value.detach())
        for name, value in made.training_loss(views, step, generator(5)).items()
    }
    scale, pairs = made.draw_scales(generator(5))

    def embed(volume, s):
        features = made.features(volume, s + 1)[s].detach().numpy()
        head = made.scale_heads[s]
        pooled = torch.from_numpy(features.reshape(*features.shape[:2], -1).mean(2))
        z = head.projection(pooled)
        return z.detach().numpy(), head.predictor(z).detach().numpy()

    def agree(one, other):
        cosine = [
            (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
            for a, b in ((one[1], other[0]), (other[1], one[0]))
        ]
        return -(cosine[0].mean() + cosine[1].mean()) / 2

    large = agree(embed(views["first"], scale), embed(views["second"], scale))
    small = np.mean(
        [
            agree(embed(views["local"][:, i], s), embed(views[name], s))
            for i, pair in enumerate(pairs)
            for name, s in zip(("first", "second"), pair, strict=True)
        ]
    )
    assert losses["large"] == pytest.approx(large, abs=1e-9)
    assert losses["small"] == pytest.approx(small, abs=1e-9)
    features = made.features(views["first"], 3)
    full = 1 / (1 + np.exp(-made.decoder.out(features[-1]).detach().numpy()))
    restoration = ((full - views["target"].numpy()) ** 2).mean()
    assert losses["restoration"] == pytest.approx(restoration, abs=1e-12)
    beta = (1 + math.cos(math.pi * step / 100)) / 2
    coarse = made.scale_heads[scale].restore(features[scale], (12, 12, 12)).detach().numpy()
    assert losses["coarse"] == pytest.approx(((coarse - views["target"].numpy()) ** 2).mean())
    total = restoration + large + small + beta * losses["coarse"]
    assert losses["loss"] == pytest.approx(total, abs=1e-9)


def test_scales_are_drawn_for_each_step_and_each_pair():
    made = method()
    draws = [made.draw_scales(generator(seed)) for seed in range(60)]
    assert {whole for whole, _ in draws} == {0, 1, 2}
    assert all(np.shape(pairs) == (3, 2) for _, pairs in draws)
    assert any(len({s for pair in pairs for s in pair}) > 1 for _, pairs in draws)
    assert made.draw_scales(generator(4)) == made.draw_scales(generator(4))


def test_only_the_drawn_scale_restores():
    made = method()
    scale, _ = made.draw_scales(generator(5))
    made.training_loss(batch(made), 0, generator(5))["coarse"].backward()
    for number, head in enumerate(made.scale_heads):
        got = any(p.grad is not None for p in head.restoration.parameters())
        assert got == (number == scale)


def test_the_weight_of_the_coarse_restoration_falls_from_one_to_zero():
    assert restoration_weight(0, 100) == 1.0
    assert restoration_weight(50, 100) == pytest.approx(0.5)
    assert restoration_weight(100, 100) == pytest.approx(0.0)
    values = [restoration_weight(step, 100) for step in range(101)]
    assert values == sorted(values, reverse=True)


def test_one_encoder_sees_all_views_and_is_transferred():
    made = method()
    assert made.encoder is made.backbone
    names = {name.split(".")[0] for name, _ in made.named_parameters()}
    assert names == {"backbone", "decoder", "heads"}
    assert all(p.requires_grad for p in made.parameters())


def stepped(recompute, monkeypatch, precision=torch.float64):
    """Losses, gradients and statistics of a step."""
    made = method().to(precision)
    if recompute:
        made.recompute()
        monkeypatch.setattr("voxseq.training.pieces.PIECE", 2000)
    views = {name: value.to(precision) for name, value in batch(made).items()}
    losses = made.training_loss(views, 30, generator(5))
    losses["loss"].backward()
    gradients = {f"{n} grad": p.grad for n, p in made.named_parameters() if p.grad is not None}
    return {name: value.detach() for name, value in losses.items()} | gradients | made.state_dict()


def test_a_recomputed_decoder_gives_the_same_losses_gradients_and_statistics(monkeypatch):
    expected, found = (stepped(again, monkeypatch) for again in (False, True))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-7, atol=1e-9)


def test_a_recomputed_decoder_keeps_few_activations():
    def saved(recompute):
        made = method(decoder_channels=(64, 32, 16))
        if recompute:
            made.recompute()
        views, kept = batch(made), {}

        def keep(tensor):
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            made.training_loss(views, 0, generator(5))
        return sum(kept.values())

    assert saved(True) < 0.6 * saved(False)


def test_validation_sees_few_rows_at_a_time(monkeypatch):
    made = method().double().eval()
    views = {name: value.double() for name, value in batch(made, 5).items()}
    seen = []
    made.decoder.register_forward_pre_hook(lambda module, given: seen.append(len(given[0])))
    with torch.no_grad():
        whole = made.validation_loss(views, generator(5))
        monkeypatch.setattr("voxseq.pretrain.methods.pcrlv2.VALIDATION_ROWS", 2)
        pieces = made.validation_loss(views, generator(5))
    # Large views twice, and three small ones of each item.
    assert seen == [5, 5, 15, *[2, 2, 6] * 2, 1, 1, 3]
    for name, value in whole.items():
        torch.testing.assert_close(pieces[name], value, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
def test_loss_falls_on_32_phantoms():
    first, last = loss_falls(method(), steps=40)
    assert last < first - 0.1
