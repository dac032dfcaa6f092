"""Head and loss of DINO."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from voxseq.models.initialise import seeded
from voxseq.pretrain.parts.dino_head import DINOHead, dino_loss, mean_entropy, teacher_distribution


def generator():
    return torch.Generator().manual_seed(0)


def plain_loss(student, outputs, centre, student_temperature, teacher_temperature):
    """Pair by pair in float64, as the paper's pseudo-code has it."""
    student, outputs, centre = (
        np.asarray(x.detach(), np.float64) for x in (student, outputs, centre)
    )
    terms = []
    for t, given_outputs in enumerate(outputs):
        sharp = np.exp((given_outputs - centre) / teacher_temperature)
        sharp /= sharp.sum(-1, keepdims=True)
        for s, other in enumerate(student):
            if s == t:
                continue
            exponentials = np.exp(other / student_temperature)
            log_p = np.log(exponentials / exponentials.sum(-1, keepdims=True))
            terms.append(-(sharp * log_p).sum(-1).mean())
    assert len(terms) == len(outputs) * (len(student) - 1)
    return float(np.mean(terms))


def test_head_has_three_layers_without_batch_norm():
    head = DINOHead(24, 32, 16, 64)
    kinds = [type(part) for part in head.layers]
    assert kinds == [nn.Linear, nn.GELU, nn.Linear, nn.GELU, nn.Linear]
    assert [tuple(part.weight.shape) for part in head.layers if isinstance(part, nn.Linear)] == [
        (32, 24),
        (32, 32),
        (16, 32),
    ]
    assert head.last.bias is None


def test_activations_of_a_narrow_head_are_as_large_as_those_of_the_published_one():
    with seeded(0):
        published, narrow = DINOHead(768, 2048, 256, 8), DINOHead(96, 256, 64, 8)
    assert float(published.layers[0].weight.detach().std()) == pytest.approx(0.02, rel=0.01)
    sizes = []
    for head, width in ((published, 768), (narrow, 96)):
        features = torch.randn(16, width, generator=generator())
        sizes.append(float(head.layers(features).detach().std()))
    assert sizes[0] == pytest.approx(sizes[1], rel=0.2)


def test_outputs_are_cosines():
    head = DINOHead(24, 32, 16, 64)
    features = torch.randn(5, 24, generator=generator())
    inner = head.layers(features)
    expected = nn.functional.cosine_similarity(inner[:, None], head.last.weight[None], dim=-1)
    torch.testing.assert_close(head(features), expected)


@given(
    views=st.integers(2, 6),
    teachers=st.integers(1, 2),
    samples=st.integers(1, 4),
    seed=st.integers(0, 2**16),
)
def test_loss_against_float64(views, teachers, samples, seed):
    random = torch.Generator().manual_seed(seed)
    student = torch.rand(views, samples, 12, generator=random) * 2 - 1
    outputs = torch.rand(teachers, samples, 12, generator=random) * 2 - 1
    centre = torch.rand(12, generator=random) * 0.2
    targets = teacher_distribution(outputs, centre, 0.05)
    expected = plain_loss(student, outputs, centre, 0.1, 0.05)
    assert float(dino_loss(student, targets, 0.1)) == pytest.approx(expected, rel=1e-5)


def test_no_view_is_compared_with_itself():
    """The gradient of a student's global view comes from the other teacher view alone."""
    student = torch.zeros(3, 1, 4, requires_grad=True)
    targets = torch.eye(4)[None, :2].transpose(0, 1)  # one-hot at 0 and at 1
    dino_loss(student, targets, 1.0).backward()
    gradient = student.grad[:, 0]
    # Four pairs: teacher 0 with views 1 and 2, teacher 1 with views 0 and 2.
    expected = torch.tensor(
        [[0.25, -0.75, 0.25, 0.25], [-0.75, 0.25, 0.25, 0.25], [-0.5, -0.5, 0.5, 0.5]]
    )
    torch.testing.assert_close(gradient, expected / 4)


def test_loss_is_computed_in_full_precision():
    random = generator()
    student = torch.rand(4, 2, 512, generator=random)
    targets = torch.softmax(torch.rand(2, 2, 512, generator=random) * 9, dim=-1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = dino_loss(student, targets, 0.1)
    assert mixed.dtype == torch.float32
    assert torch.equal(mixed, dino_loss(student, targets, 0.1))


@pytest.mark.parametrize(
    ("student", "targets"),
    [
        ((1, 2, 4), (1, 2, 4)),
        ((2, 2, 4), (3, 2, 4)),
        ((3, 2, 4), (2, 1, 4)),
        ((3, 2, 4), (0, 2, 4)),
    ],
)
def test_loss_refuses_shapes_that_do_not_match(student, targets):
    with pytest.raises(ValueError, match="expected"):
        dino_loss(torch.zeros(student), torch.zeros(targets), 0.1)


def test_entropy_of_the_teacher_tells_both_kinds_of_collapse():
    one_hot, uniform = torch.eye(8), torch.full((3, 8), 1 / 8)
    assert float(mean_entropy(one_hot)) == 0
    assert float(mean_entropy(uniform)) == pytest.approx(math.log(8))
    assert float(mean_entropy(torch.tensor([[0.5, 0.5], [1.0, 0.0]]))) == pytest.approx(
        math.log(2) / 2
    )


def test_centring_undoes_a_dominant_dimension():
    dominated = torch.tensor([[0.9, 0.1, 0.1], [0.8, 0.0, 0.2]])
    without = teacher_distribution(dominated, torch.zeros(3), 0.04)
    assert without.argmax(dim=1).tolist() == [0, 0]
    centred = teacher_distribution(dominated, dominated.mean(dim=0), 0.04)
    assert centred[0].argmax() != centred[1].argmax()
    assert float(mean_entropy(centred)) > float(mean_entropy(without)) + 0.5
