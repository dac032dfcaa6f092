"""DINO: multi-crop, teacher, centre, head, schedules, and a training that works."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from tests.helpers import methods
from tests.helpers.methods import copies, equal, generator, move
from tests.helpers.training import OPTIMISER, loss_falls, make_optimiser, phantom_items, views
from tests.pretrain.test_dino_head import plain_loss
from voxseq.models.features import feature_statistics
from voxseq.pretrain.methods.dino import clip_each
from voxseq.transforms import views as transforms
from voxseq.transforms.views import ViewRecipe

SMALL = {
    **{"global_shape": (12, 12, 12), "local_shape": (8, 8, 8), "local_views": 8},
    **{"output_width": 64, "optimiser": {}},
}
STEPS = 100


def make(steps=STEPS, **changed):
    return methods.make("dino", steps=steps, **SMALL | changed)


def batch_of(method, count=3, seed=0):
    return views(method, phantom_items(count), seed)


def test_two_global_and_eight_local_views_by_their_recipes():
    method = make(global_scale=(0.5, 0.9), local_scale=(0.1, 0.3))
    batch = batch_of(method)
    assert batch.keys() == {"global", "local"}
    assert batch["global"].shape == (3, 2, 1, 12, 12, 12)
    assert batch["local"].shape == (3, 8, 1, 8, 8, 8)
    flat = batch["local"].flatten(2)
    for i in range(8):
        for j in range(i):
            assert (flat[:, i] != flat[:, j]).any(dim=1).all()
    recipes = [(r.jitter, r.blur, r.solarise, r.scale) for r in method.batching.recipes]
    assert recipes[:2] == [(0.8, 1.0, 0.0, (0.5, 0.9)), (0.8, 0.1, 0.2, (0.5, 0.9))]
    assert recipes[2:] == [(0.8, 0.5, 0.0, (0.1, 0.3))] * 8


def test_global_views_come_from_their_own_recipes():
    """Only the second is solarised, for which a white volume turns black."""
    method = make()
    method.batching.recipes = [
        type(r)(r.shape, r.scale, jitter=0.0, blur=0.0, solarise=float(r.solarise > 0))
        for r in method.batching.recipes
    ]
    items = [type(i)(np.ones_like(i.volume), i.kind, i.source, i.id) for i in phantom_items(2)]
    batch = views(method, items)
    assert (batch["global"][:, 0] == 1).all()
    assert (batch["global"][:, 1] == 0).all()


def test_the_teacher_never_sees_local_views():
    method = make()
    seen: dict[str, list[tuple[int, ...]]] = {"student": [], "teacher": []}
    method.backbone.register_forward_pre_hook(lambda _, x: seen["student"].append(x[0].shape))
    method.teacher_backbone.register_forward_pre_hook(
        lambda _, x: seen["teacher"].append(x[0].shape)
    )
    batch = batch_of(method)
    method.training_loss(batch, 0, generator())
    assert seen["teacher"] == [(6, 1, 12, 12, 12)]
    # One pass for each size of view.
    assert seen["student"] == [(6, 1, 12, 12, 12), (24, 1, 8, 8, 8)]
    spoilt = batch | {"local": torch.rand(batch["local"].shape, generator=generator())}
    assert torch.equal(method.teacher_outputs(batch), method.teacher_outputs(spoilt))


def test_outputs_are_ordered_by_view_then_sample():
    method = make()
    batch = batch_of(method)
    with torch.no_grad():
        outputs = method.student_outputs(batch)
        assert outputs.shape == (10, 3, 64)
        for view, (name, number) in enumerate([("global", 0), ("global", 1), ("local", 0)]):
            for sample in range(3):
                volume = batch[name][sample, number][None]
                alone = method.head(method.backbone(volume).start)[0]
                torch.testing.assert_close(outputs[view, sample], alone, rtol=1e-4, atol=1e-5)
        teacher = method.teacher_outputs(batch)
        torch.testing.assert_close(teacher, outputs[:2])  # equal weights at the beginning


@pytest.mark.parametrize("shape", [(4, 4, 4), (8, 4, 12)])
def test_local_views_of_any_grid_pass_the_same_encoder(shape):
    method = make(local_shape=shape, local_views=2)
    losses = method.training_loss(batch_of(method), 0, generator())
    assert torch.isfinite(losses["loss"])


def test_last_layer_has_unit_weight_vectors_that_stay_so():
    method = make()
    optimiser = make_optimiser(method, OPTIMISER)
    direction = method.head.direction.detach().clone()
    for step in (50, 51):
        method.training_loss(batch_of(method), step, generator())["loss"].backward()
        method.before_update(step, optimiser.param_groups)
        optimiser.step()
    assert not torch.equal(method.head.direction, direction)
    assert not method.head.gain.requires_grad
    assert (method.head.gain == 1).all()
    norms = method.head.last.weight.norm(dim=1)
    torch.testing.assert_close(norms, torch.ones(64))
    lengths = method.head.direction.norm(dim=1, keepdim=True)
    torch.testing.assert_close(method.head.last.weight, method.head.direction / lengths)


def test_centre_by_hand():
    method = make(output_width=2, centre_momentum=0.9)
    outputs = torch.tensor([[[1.0, 0.0], [0.0, 0.4]], [[0.6, 0.0], [0.0, 0.0]]])  # mean 0.4, 0.1
    method.update_centre(outputs)
    torch.testing.assert_close(method.centre, torch.tensor([0.04, 0.01]))
    method.update_centre(outputs)
    torch.testing.assert_close(method.centre, torch.tensor([0.076, 0.019]))


def test_training_moves_the_centre_after_its_use_and_validation_does_not():
    method = make()
    move(method)
    with torch.no_grad():
        method.centre.copy_(torch.linspace(-0.2, 0.2, 64))
    batch = batch_of(method)
    student, outputs = method.student_outputs(batch), method.teacher_outputs(batch)
    expected = plain_loss(student, outputs, method.centre, 0.1, 0.05)
    before = method.centre.clone()
    assert method.teacher_temperature(10) == pytest.approx(0.05)
    loss = method.training_loss(batch, 10, generator())["loss"]
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(method.centre, 0.9 * before + 0.1 * outputs.mean(dim=(0, 1)))
    expected = plain_loss(student, outputs, method.centre, 0.1, 0.07)
    with torch.no_grad():
        losses = method.validation_loss(batch, generator())
    assert losses.keys() == {"loss", "teacher_entropy"}
    assert float(losses["loss"]) == pytest.approx(expected, rel=1e-5)


def test_teacher_by_hand():
    """After the step, with momentum 0.6 at first, 0.8 half-way and 1 at the end."""
    method = make(teacher_momentum=0.6)
    student = {"backbone": method.backbone, "head": method.head}
    teacher = {"backbone": method.teacher_backbone, "head": method.teacher_head}
    assert all(equal(copies(module), copies(teacher[name])) for name, module in student.items())
    for step, momentum in ((0, 0.6), (50, 0.8), (100, 1.0)):
        move(method)
        before = {name: copies(module) for name, module in teacher.items()}
        method.after_step(step, STEPS)
        for name, module in student.items():
            for key, value in module.state_dict().items():
                expected = momentum * before[name][key] + (1 - momentum) * value
                torch.testing.assert_close(teacher[name].state_dict()[key], expected)
    assert teacher["head"].gain.eq(1).all()


def test_the_teacher_is_frozen_and_transferred():
    method = make()
    assert method.encoder is method.teacher_backbone
    fixed = "head.last.parametrizations.weight.original0"
    for name, parameter in method.named_parameters():
        trained = not name.startswith("teacher_") and name != fixed
        assert parameter.requires_grad == trained, name


def test_schedules_at_their_ends():
    method = make()
    assert [method.teacher_temperature(s) for s in (0, 15, 30, 99)] == pytest.approx(
        [0.04, 0.055, 0.07, 0.07]
    )
    assert [method.momentum(s) for s in (0, 50, 100)] == pytest.approx([0.996, 0.998, 1.0])
    assert [method.weight_decay(s) for s in (0, 50, 100)] == pytest.approx([0.04, 0.22, 0.4])
    assert method.momentum(100) == 1
    without = make(teacher_temperature_warmup=0.0)
    assert without.teacher_temperature(0) == 0.07


def test_weight_decay_acts_on_matrices_only():
    method = make()
    optimiser = make_optimiser(method, method.settings.optimiser)
    for step in (0, 50, 100):
        method.before_update(step, optimiser.param_groups)
        decays = {group["name"]: group["weight_decay"] for group in optimiser.param_groups}
        expected = method.weight_decay(step)
        assert decays == {
            "encoder.decay": expected,
            "encoder.no_decay": 0.0,
            "head.decay": expected,
            "head.no_decay": 0.0,
        }
    decayed = [p for g in optimiser.param_groups if g["weight_decay"] for p in g["params"]]
    assert any(parameter is method.head.direction for parameter in decayed)
    assert min(parameter.ndim for parameter in decayed) == 2


def test_each_gradient_is_clipped_by_itself():
    large, small, idle = (nn.Parameter(torch.zeros(2)) for _ in range(3))
    large.grad, small.grad = torch.tensor([30.0, 40.0]), torch.tensor([0.3, 0.4])
    clip_each([large, small, idle], 3.0)
    torch.testing.assert_close(large.grad, torch.tensor([1.8, 2.4]))
    assert torch.equal(small.grad, torch.tensor([0.3, 0.4]))
    assert idle.grad is None


def test_clipping_reaches_every_trained_parameter():
    method = make()
    optimiser = make_optimiser(method, OPTIMISER)
    trained = [p for p in method.parameters() if p.requires_grad]
    for parameter in trained:
        parameter.grad = torch.ones_like(parameter) * 10
    method.before_update(STEPS - 1, optimiser.param_groups)
    norms = torch.stack([parameter.grad.norm() for parameter in trained])
    torch.testing.assert_close(norms, torch.full_like(norms, 3.0))


def test_the_last_layer_is_frozen_at_first():
    method = make(frozen_last_layer=0.02)
    optimiser = make_optimiser(method, OPTIMISER)
    direction = method.head.direction
    moved = []
    for step in range(4):
        before, inner = direction.detach().clone(), method.head.layers[0].weight.detach().clone()
        method.training_loss(batch_of(method), step, generator())["loss"].backward()
        method.before_update(step, optimiser.param_groups)
        optimiser.step()
        optimiser.zero_grad()
        moved.append(not torch.equal(before, direction))
        assert not torch.equal(inner, method.head.layers[0].weight)
    assert moved == [False, False, True, True]


def test_collapse_is_visible():
    method = make()
    batch = batch_of(method, count=4)
    volumes = batch["global"][:, 0]
    healthy = feature_statistics(method.encoder(volumes).tokens.mean(dim=1))
    with torch.no_grad():
        for module in (method.backbone, method.teacher_backbone):
            module.norm.weight.zero_()
            module.norm.bias.fill_(0.5)
        outputs = method.teacher_outputs(batch)
        method.centre.copy_(outputs.mean(dim=(0, 1)))
        losses = method.validation_loss(batch, generator())
    # The centre takes all that a constant teacher says: only the uniform distribution is left.
    assert float(losses["teacher_entropy"]) == pytest.approx(math.log(64), abs=1e-4)
    collapsed = feature_statistics(method.encoder(volumes).tokens.mean(dim=1))
    assert collapsed["feature_sd"] == collapsed["effective_rank"] == 0
    assert healthy["feature_sd"] > 0.01


def settled(steps, recipes=None, **changed):
    """A method whose centre has settled, as it does in the first steps of any training."""
    method = make(steps=steps, bottleneck_width=64, **changed)
    if recipes is not None:
        large, small = recipes
        method.batching.recipes = [large, large, *[small] * 8]
    method.centre.copy_(method.teacher_outputs(batch_of(method, 32)).mean(dim=(0, 1)))
    return method


@pytest.mark.slow
def test_loss_falls_on_32_phantoms():
    """The student learns to say what its teacher says."""
    before, after = loss_falls(settled(60, final_teacher_temperature=0.04), steps=60)
    assert after < before - 0.15


@pytest.mark.slow
def test_the_uniform_solution_is_left_when_views_differ_in_place_alone(monkeypatch):
    """Centring and sharpening are enough to tell volumes apart: the loss falls below ln 64."""
    monkeypatch.setattr(transforms, "turned", lambda view, drawn: view)
    recipes = (
        ViewRecipe((12, 12, 12), (0.8, 1.0), jitter=0.0, blur=0.0),
        ViewRecipe((8, 8, 8), (0.5, 0.8), jitter=0.0, blur=0.0),
    )
    cold = {"teacher_temperature": 0.02, "final_teacher_temperature": 0.02}
    method = settled(100, recipes, teacher_momentum=0.99, **cold)
    before, after = loss_falls(method, steps=100)
    assert after < before - 0.2
    assert after < math.log(64) - 0.15
