"""MedCoSS: CT then MRI, the rehearsal buffer, the frozen teacher, mixed rehearsal batches."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from tests.helpers import methods
from tests.helpers.methods import ENCODER, copies, equal, generator, move
from tests.helpers.sequence_store import sampler
from tests.helpers.training import (
    PhantomSampler,
    make_optimiser,
    phantom_items,
    phantom_sampler,
    train,
    views,
)
from voxseq.base.errors import DataError
from voxseq.config.model import OptimiserConfig
from voxseq.models.patches import patchify
from voxseq.pretrain.methods.medcoss import MedCoSSMethod, mix
from voxseq.pretrain.parts.masked import draw_mask

OPTIMISER = OptimiserConfig(lr=3e-3, betas=(0.9, 0.95), decay_one_dimensional=False)
STEPS = 12
SMALL = {"buffer_share": 0.5, "cluster_share": 0.25}


def make(data=None, seed=0, steps=STEPS, **changed):
    return methods.make("medcoss", seed, steps=steps, data=data, **SMALL | changed)


def trained(steps=STEPS, until=None, size=16, **changed):
    """A method after some steps, and its data."""
    data = phantom_sampler(size)
    method = make(data, steps=steps, **changed)
    until = steps if until is None else until
    train(method, make_optimiser(method, OPTIMISER), data, range(until), steps, batch_size=4)
    return method, data


def in_second_stage(**changed):
    """A method at the beginning of the second stage; the first one has trained it."""
    method, data = trained(until=STEPS // 2, **changed)
    method.begin_stage(1, data)
    return method, data


def volumes(count=4):
    return torch.from_numpy(np.stack([item.volume for item in phantom_items(count)]))[:, None]


def chosen(method, data, step, size=4):
    """List numbers of a batch."""
    return [method.batching.choose(data, step, size, slot)[0] for slot in range(size)]


@pytest.mark.parametrize(("missing", "left"), [("MRI", 0), ("CT", 1)])
def test_a_missing_modality_is_named(missing, left):
    data = PhantomSampler(8)
    data.items = data.items[left::2]
    with pytest.raises(DataError, match=f"has no {missing}") as error:
        make(data)
    assert "sequences.sources" in error.value.hint


# Stages and batches


@pytest.mark.parametrize("steps", [2, 7, 12])
def test_two_stages_of_equal_length(steps):
    first, second = make().stages(steps)
    assert [*first, *second] == list(range(steps))
    assert 0 <= len(first) - len(second) <= 1


def test_ct_then_mri_and_the_buffer_in_batches_of_one_source():
    data = phantom_sampler(48)
    method = make(data, steps=40)
    train(method, make_optimiser(method, OPTIMISER), data, range(20), 40, batch_size=4)
    for step in range(20):
        assert {data.items[n].modality for n in chosen(method, data, step)} == {"CT"}
    method.begin_stage(1, data)
    buffered = set(method.batching.rehearsed.tolist())
    assert 0 < len(buffered) <= 12
    rehearsed = 0
    for step in range(20, 40):
        numbers = chosen(method, data, step)
        # Whatever was asked for before.
        assert method.batching.choose(data, step, 4, 2)[0] == numbers[2]
        (modality,) = {data.items[number].modality for number in numbers}
        rehearsal = method.batching.source(step, 4) == "rehearsal"
        assert modality == ("CT" if rehearsal else "MRI")
        if rehearsal:
            assert set(numbers) <= buffered
            rehearsed += 1
    assert rehearsed > 2


def test_an_epoch_has_a_batch_for_every_size_items_of_each_source_and_at_least_one():
    batching = make(phantom_sampler(48), steps=200).batching
    batching.rehearsed = np.arange(8) * 2
    epochs = [[batching.source(100 + 8 * e + i, 4) for i in range(8)] for e in range(10)]
    # 24 MRI and a buffer of 8, by 4.
    assert all(Counter(epoch) == {"MRI": 6, "rehearsal": 2} for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 5
    batching = make(steps=100).batching
    batching.rehearsed = np.array([0, 2])
    assert Counter(batching.source(50 + i, 16) for i in range(2)) == {"MRI": 1, "rehearsal": 1}
    assert Counter(batching.source(50 + i, 4) for i in range(3)) == {"MRI": 2, "rehearsal": 1}


def test_items_are_drawn_with_replacement():
    method, data = in_second_stage()
    drawn = [tuple(chosen(method, data, step)) for step in range(6)]
    assert len(set(drawn)) == 6
    assert any(len(set(batch)) < 4 for batch in drawn)


def test_half_of_the_items_are_mirrored():
    method = make()
    item = phantom_items(1)[0]
    batch = views(method, [item] * 400)
    assert batch["ct"].all()
    flips = {
        np.flip(item.volume, [a for a in range(3) if which >> a & 1]).tobytes(): which
        for which in range(8)
    }
    seen = Counter(flips[volume[0].numpy().tobytes()] for volume in batch["volume"])
    assert set(seen) == set(range(8))
    # Of those that are mirrored, one in eight is mirrored along no axis.
    assert seen[0] / 400 == pytest.approx(0.5 + 0.5 / 8, abs=0.08)


# Buffer


# Teacher and decoder


def test_the_second_stage_begins_with_a_copied_teacher_and_a_new_decoder():
    method, data = trained(until=STEPS // 2)
    student, decoder = copies(method.backbone), copies(method.decoder)
    optimised = {name: id(parameter) for name, parameter in method.named_parameters()}
    assert not equal(student, copies(method.teacher))
    method.begin_stage(1, data)
    assert equal(student, copies(method.backbone))
    assert equal(student, copies(method.teacher))
    renewed = copies(method.decoder)
    for former in (decoder, copies(make().decoder)):
        assert not torch.equal(renewed["positions"], former["positions"])
        assert not torch.equal(renewed["head.weight"], former["head.weight"])
    assert {name: id(parameter) for name, parameter in method.named_parameters()} == optimised
    again, _ = in_second_stage()
    assert equal(copies(again.decoder), renewed)


def test_the_second_stage_has_a_fresh_optimiser():
    data, method = phantom_sampler(16), make()
    optimiser = make_optimiser(method, OPTIMISER)
    train(method, optimiser, data, range(STEPS), STEPS, batch_size=4)
    sources = [method.batching.source(step, 4) for step in range(STEPS // 2, STEPS)]
    assert set(sources) == {"MRI", "rehearsal"}
    counted = {
        n: int(optimiser.state[p]["step"])
        for n, p in method.named_parameters()
        if p in optimiser.state
    }
    assert counted["backbone.start_token"] == STEPS // 2
    assert counted["decoder.head.weight"] == sources.count("MRI")


def test_the_teacher_is_frozen_in_evaluation_and_the_student_is_transferred():
    method, data = in_second_stage()
    assert method.encoder is method.backbone
    teacher, student = copies(method.teacher), copies(method.backbone)
    assert not any(parameter.requires_grad for parameter in method.teacher.parameters())
    optimiser = make_optimiser(method, OPTIMISER)
    train(method, optimiser, data, range(STEPS // 2, STEPS), STEPS, batch_size=4)
    assert method.backbone.training
    assert not any(part.training for part in method.teacher.modules())
    assert equal(teacher, copies(method.teacher))
    assert not equal(student, copies(method.backbone))


# Losses


def batch(method, count=4, ct=True):
    return {"volume": volumes(count), "ct": torch.full((count,), ct)}


def kinds(method, step, ct):
    return set(method.training_loss(batch(method, ct=ct), step, generator()))


def test_only_ct_in_the_second_stage_is_distilled():
    method, _ = in_second_stage()
    assert kinds(method, 0, True) == {"loss", "reconstruction"}
    assert kinds(method, STEPS // 2, False) == {"loss", "reconstruction"}
    assert kinds(method, STEPS // 2, True) == {"loss", "distillation"}
    assert kinds(method, STEPS - 1, True) == {"loss", "distillation"}


def test_teacher_and_student_see_the_same_visible_tokens():
    method, _ = in_second_stage()
    seen = {"backbone": [], "teacher": []}

    def keep(inputs_seen):
        return lambda _, inputs: inputs_seen.append(inputs[0].detach())

    for name, inputs_seen in seen.items():
        encoder = getattr(method, name)
        encoder.patch_embedding.register_forward_pre_hook(keep(inputs_seen))
        encoder.blocks[0].register_forward_pre_hook(keep(inputs_seen))
    method.training_loss(batch(method), STEPS - 1, generator())
    assert [tuple(part.shape) for part in seen["backbone"]] == [(4, 16, 64), (4, 17, 24)]
    for student, teacher in zip(seen["backbone"], seen["teacher"], strict=True):
        # Of equal weights at this point, so positions are the same as well.
        assert torch.equal(student, teacher)


def test_distillation_by_hand():
    """Visible tokens and the start token, squared differences in float64."""
    method, _ = in_second_stage()
    given = volumes()
    assert float(method.distillation_loss(given, generator()).detach()) == 0
    with torch.no_grad():
        move(method)
        loss = method.distillation_loss(given, generator())
        mask = draw_mask(patchify(given, (4, 4, 4)), 0.75, generator())
        errors = []
        for sample in range(4):
            outputs = []
            for encoder in (method.backbone, method.teacher):
                tokens = encoder.embed(given[sample : sample + 1])[:, mask.visible[sample]]
                encoded = encoder.encode_tokens(tokens)
                outputs.append(torch.cat([encoded.start, encoded.tokens[0]]).double())
            errors.append((outputs[0] - outputs[1]).square())
    assert errors[0].shape == (17, 24)
    assert float(loss) == pytest.approx(float(torch.stack(errors).mean()), rel=1e-4)
    assert float(loss) > 0.01


def test_rehearsal_moves_the_student_alone():
    method, _ = in_second_stage()
    with torch.no_grad():
        method.backbone.start_token.add_(1.0)
    method.training_loss(batch(method), STEPS - 1, generator())["loss"].backward()
    assert all(parameter.grad is None for parameter in method.teacher.parameters())
    assert all(parameter.grad is None for parameter in method.decoder.parameters())
    assert method.backbone.patch_embedding.weight.grad.any()
    assert method.backbone.start_token.grad.any()


def test_mixed_values():
    given = volumes(6)
    mixed = mix(given, generator(3))
    stream = generator(3)
    other = torch.randperm(6, generator=stream).tolist()
    shares = torch.rand(6, 1, 1, 1, 1, generator=stream).flatten().tolist()
    for sample in range(6):
        share = shares[sample]
        expected = share * given[sample].double() + (1 - share) * given[other[sample]].double()
        torch.testing.assert_close(mixed[sample].double(), expected, rtol=1e-6, atol=1e-6)


def test_shares_are_uniform_and_of_each_sample():
    """Volumes of a constant value each: the mixed value tells the share."""
    given = torch.arange(2.0)[:, None, None, None, None].expand(2, 1, 4, 4, 4)
    shares = []
    for seed in range(600):
        mixed = mix(given, generator(seed))
        if mixed[0, 0, 0, 0, 0] != 0:
            shares.append([1 - float(mixed[0].mean()), float(mixed[1].mean())])
    first, second = np.array(shares).T
    assert len(shares) == pytest.approx(300, abs=60)
    for share in (first, second):
        assert share.min() < 0.03
        assert share.max() > 0.97
        np.testing.assert_allclose(
            np.quantile(share, [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=0.1
        )
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.2


def test_rehearsal_batches_are_mixed_and_current_ones_are_not(monkeypatch):
    method, _ = in_second_stage()
    shown = []
    for name in ("distillation_loss", "reconstruction_loss"):
        monkeypatch.setattr(
            method, name, lambda volume, generator: (shown.append(volume), volume.sum())[1]
        )
    for step, ct in ((STEPS - 1, True), (STEPS - 1, False), (0, True)):
        method.training_loss(batch(method, ct=ct), step, generator())
    assert torch.equal(shown[0], mix(volumes(), generator()))
    assert not torch.equal(shown[0], volumes())
    assert torch.equal(shown[1], volumes())
    assert torch.equal(shown[2], volumes())


def test_reconstruction_by_hand():
    """Squared errors of hidden voxels, normalised by their token, in float64."""
    method = make()
    given = volumes()
    shown = {}
    method.decoder.register_forward_hook(lambda _, inputs, output: shown.update(p=output.detach()))
    loss = method.reconstruction_loss(given, generator())
    patches = patchify(given, (4, 4, 4)).double().numpy()
    mask = draw_mask(patchify(given, (4, 4, 4)), 0.75, generator())
    errors = []
    for sample in range(4):
        for place, token in enumerate(mask.hidden[sample].tolist()):
            voxels = patches[sample, token]
            target = (voxels - voxels.mean()) / np.sqrt(voxels.var(ddof=1) + 1e-6)
            errors.append((shown["p"][sample, place].double().numpy() - target) ** 2)
    assert len(errors) == 4 * 48
    assert float(loss.detach()) == pytest.approx(float(np.mean(errors)), rel=1e-5)


# Training


@pytest.mark.slow
def test_loss_falls_on_32_phantoms():
    """In both stages, each by its own modality; and rehearsal keeps CT close to the teacher.

    Predicting 0, the mean of every token, gives 63/64, since the variance is unbiased.
    """
    data, steps = phantom_sampler(32), 320
    method = make(data, steps=steps)
    losses = np.array(
        train(method, make_optimiser(method, OPTIMISER), data, range(steps), steps, batch_size=16)
    )
    sources = np.array([method.batching.source(step, 16) for step in range(steps)])
    for modality in ("CT", "MRI"):
        own = losses[sources == modality]
        assert own[-16:].mean() < own[:16].mean() - 0.05, modality
    assert losses[sources == "MRI"][-16:].mean() < 0.95 * 63 / 64
    assert (losses[sources == "rehearsal"] < losses[sources == "MRI"].min()).all()


def test_real_sequences(tmp_path):
    """Stored volumes: CT crops and lesions first, then BraTS with a buffer."""
    data = sampler(tmp_path)
    encoder = ENCODER.model_copy(update={"patch_size": (2, 2, 2)})
    method = MedCoSSMethod(methods.small_settings("medcoss", **SMALL), encoder, data.config, 0)
    method.begin(6, data)
    sizes = [len(method.batching.numbers[modality]) for modality in ("CT", "MRI")]
    assert min(sizes) > 0
    assert sum(sizes) == len(data)
    losses = train(method, make_optimiser(method, OPTIMISER), data, range(6), 6, batch_size=4)
    assert np.isfinite(losses).all()
    assert 0 < len(method.batching.rehearsed) <= method.buffer_size.total
    assert set(method.batching.rehearsed.tolist()) <= set(method.batching.numbers["CT"].tolist())
