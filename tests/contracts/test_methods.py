"""Properties of every pre-training method; a new one is tested by being registered."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers.methods import ENCODER, NAMES, STEPS, copies, equal, generator, losses, make
from tests.helpers.several import Plan, train_plan
from tests.helpers.training import (
    PhantomSampler,
    loss_falls,
    make_optimiser,
    phantom_items,
    phantom_sampler,
    resumes_exactly,
    train,
    views,
)
from voxseq.base.errors import TrainingError
from voxseq.base.random import numpy_generator
from voxseq.models.encoder import build_encoder
from voxseq.models.networks import TokenClassifier
from voxseq.models.transfer import load_encoder, save_encoder
from voxseq.models.unetr import UNETR
from voxseq.pretrain.base import PretrainMethod
from voxseq.pretrain.batching import ItemRows, views_of, volumes_of
from voxseq.transforms.spatial import Item

pytestmark = pytest.mark.parametrize("name", NAMES)


def test_the_seed_decides_everything_and_global_generators_stay(name: str) -> None:
    runs = []
    for noise, seed in ((1, 3), (2, 3), (1, 4)):
        torch.manual_seed(noise)
        np.random.seed(noise)  # noqa: NPY002
        method = make(name, seed)
        found = [float(step["loss"].detach()) for step in losses(method)]
        runs.append((copies(method), found))
        assert torch.initial_seed() == noise
        drawn = torch.rand(1), np.random.rand()  # noqa: NPY002
        torch.manual_seed(noise)
        np.random.seed(noise)  # noqa: NPY002
        assert drawn == (torch.rand(1), np.random.rand())  # noqa: NPY002
    assert equal(runs[0][0], runs[1][0])
    assert runs[0][1] == runs[1][1] != runs[2][1]
    assert not equal(runs[0][0], runs[2][0])


def test_gradients_reach_all_that_is_optimised_and_nothing_else(name: str) -> None:
    method = make(name)
    groups = method.parameter_groups(method.settings.optimiser)
    listed = [id(p) for group in groups for p in group["params"]]
    trained = {n: p for n, p in method.named_parameters() if p.requires_grad}
    assert sorted(listed) == sorted(id(p) for p in trained.values())
    for step in losses(method):
        step["loss"].backward()
        assert not any(value.requires_grad for key, value in step.items() if key == "accuracy")
    reached = {n for n, p in method.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached == trained.keys()


def test_views_are_functions_of_their_streams(name: str) -> None:
    """Each stream is asked for once; nothing else is random, and rows are made one by one."""
    method, count = make(name), 5
    items = phantom_items(count)
    states = torch.random.get_rng_state(), np.random.get_state()[1].tobytes()  # noqa: NPY002
    first, again, other = (views(method, items, seed) for seed in (0, 0, 1))
    assert equal(first, again)
    draws = bool(method.batching.drawn.itemsize)
    assert equal(first, other) == (not draws)
    asked: list[int] = []

    def stream(view: int) -> np.random.Generator:
        asked.append(view)
        return numpy_generator(0, view)

    record = method.batching.draw(stream)
    assert record.dtype == method.batching.drawn
    assert record.shape == ()
    assert len(asked) == len(set(asked))
    assert bool(asked) == draws
    assert torch.equal(torch.random.get_rng_state(), states[0])
    assert np.random.get_state()[1].tobytes() == states[1]  # noqa: NPY002


def test_each_view_of_a_batch_is_the_one_made_alone(name: str) -> None:
    method, items = make(name), phantom_items(9)
    batching = method.batching
    volumes = torch.from_numpy(np.stack([item.volume for item in items]))[:, None]
    before = volumes.clone()
    streams = [partial(numpy_generator, 0, number) for number in range(len(items))]
    drawn = np.stack([batching.draw(stream) for stream in streams])
    is_ct = np.array([item.modality == "CT" for item in items])
    whole = batching.views(volumes, drawn, is_ct)
    assert torch.equal(volumes, before)
    rows = [slice(row, row + 1) for row in range(len(items))]
    alone = [batching.views(volumes[row], drawn[row], is_ct[row]) for row in rows]
    assert equal(whole, {key: torch.cat([part[key] for part in alone]) for key in whole})
    for key, values in whole.items():
        assert values.dtype == (torch.bool if key == "ct" else torch.float32)


def test_rows_and_views_are_made_without_the_weights_or_buffers(name: str) -> None:
    """As in a worker process, which may not touch those on a device."""
    data = phantom_sampler(16)
    here, elsewhere = make(name, data=data), make(name, data=data)
    for number, steps in enumerate(here.stages(STEPS)):
        here.begin_stage(number, data)
        elsewhere.begin_stage(number, data)
        away = elsewhere.to("meta").batching
        for step in steps:
            rows, expected = (ItemRows(b, data, 0, 4)(step) for b in (away, here.batching))
            assert equal(rows, expected)
            volumes = volumes_of(rows, data.header, data.config)
            made, expected = (
                views_of(rows, volumes, data.header, b) for b in (away, here.batching)
            )
            assert equal(made, expected)
        elsewhere.to_empty(device="cpu").load_state_dict(here.state_dict())


def test_validation_is_the_same_each_time_and_changes_nothing(name: str) -> None:
    method = make(name)
    method.train()
    list(losses(method))
    before = copies(method)
    method.eval()
    batch = views(method, phantom_items(4))
    with torch.no_grad():
        first, again = (method.validation_loss(batch, generator()) for _ in range(2))
    assert equal(first, again)
    assert all(value.isfinite().all() for value in first.values())
    assert equal(copies(method), before)


def test_a_cut_run_ends_as_the_straight_one(name: str) -> None:
    resumes_exactly(partial(make, name), steps=6)


def test_the_encoder_is_transferred_strictly(name: str, tmp_path: Path) -> None:
    method = make(name, steps=2)
    loss_falls(method, steps=2, size=4, batch_size=4)
    save_encoder(tmp_path / "encoder", method.encoder, ENCODER, {})
    other = build_encoder(ENCODER, 5, pretraining=False)
    assert not equal(copies(other), copies(method.encoder))
    for network in (UNETR(other, classes=2, feature_size=4), TokenClassifier(other, classes=2)):
        report = load_encoder(tmp_path / "encoder", network.encoder)
        assert report.loaded == len(method.encoder.state_dict())
        assert equal(copies(network.encoder), copies(method.encoder))


def test_half_precision_changes_losses_a_little_and_their_type_not_at_all(name: str) -> None:
    exact, rounded = (make(name) for _ in range(2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = list(losses(rounded))
    for one, other in zip(losses(exact), found, strict=True):
        assert one.keys() == other.keys()
        assert {value.dtype for value in other.values()} == {torch.float32}
        loss, expected = (float(value["loss"].detach()) for value in (other, one))
        assert loss == pytest.approx(expected, rel=0.5, abs=0.05)


def test_recomputed_activations_change_no_bit(name: str) -> None:
    """Of a method that recomputes more than blocks, nothing but the last digits."""
    kept, again = make(name), make(name)
    again.recompute()
    is_exact = type(again).recompute is PretrainMethod.recompute
    rtol, atol = (0, 0) if is_exact else (1e-3, 1e-4)
    close = partial(torch.testing.assert_close, rtol=rtol, atol=atol)
    for one, other in zip(losses(kept), losses(again), strict=True):
        close(other, one)
        one["loss"].backward()
        other["loss"].backward()
    for first, second in zip(kept.parameters(), again.parameters(), strict=True):
        assert (first.grad is None) == (second.grad is None)
        close(second.grad, first.grad)
    close(dict(again.named_buffers()), dict(kept.named_buffers()))


def test_the_smallest_batch_has_finite_losses_and_gradients(name: str) -> None:
    method = make(name)
    for step in losses(method, size=method.settings.least_batch):
        step["loss"].backward()
        assert all(value.isfinite().all() for value in step.values())
    assert all(p.grad.isfinite().all() for p in method.parameters() if p.grad is not None)


def test_constant_volumes_stay_finite(name: str) -> None:
    data = PhantomSampler(8)
    data.items = [
        Item(np.full_like(item.volume, item.id % 3 / 2), "spatial", "", item.id, item.modality)
        for item in data.items
    ]
    method = make(name, steps=4, data=data)
    optimiser = make_optimiser(method, method.settings.optimiser)
    found = train(method, optimiser, data, range(4), 4, batch_size=4)
    assert np.isfinite(found).all()
    assert all(value.isfinite().all() for value in method.state_dict().values())


@pytest.mark.parametrize(("rate", "steps"), [(1e6, 2), (1e12, 1), (3e38, 1)])
def test_a_divergence_before_a_validation_ends_with_the_step_or_with_numbers(
    name: str, tmp_path: Path, rate: float, steps: int
) -> None:
    optimiser = {"lr": rate, "schedule": "constant", "warmup_steps": 0}
    plan = Plan(name, tmp_path, steps=steps, settings={"optimiser": optimiser})
    try:
        task = train_plan(plan)
    except TrainingError as error:
        assert "at step" in str(error)
        assert "checkpoint" in str(error)
    else:
        # Norms may keep huge weights usable.
        assert rate < 3e38
        assert all(value.isfinite().all() for value in task.state_dict().values())
