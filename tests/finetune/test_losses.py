from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.finetune_store import CLASSIFICATION, GEOMETRY, classification_store
from voxseq.config.finetune import ClassificationRecipe
from voxseq.data.task_volumes import Volumes
from voxseq.finetune.classification import (
    ClassificationTraining,
    class_balanced_cross_entropy,
    score_split,
)
from voxseq.finetune.segmentation import DiceCrossEntropy
from voxseq.models.networks import build_network


def batch(classes: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn((2, classes, 4, 3, 5), generator=generator) * 2
    label = torch.randint(0, classes, (2, 1, 4, 3, 5), generator=generator)
    return logits, label


def reference(
    logits: torch.Tensor, label: torch.Tensor, weights: list[float] | None
) -> tuple[float, float]:
    """Both terms in float64, written out."""
    z, y = logits.double().numpy(), label[:, 0].numpy()
    classes = z.shape[1]
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    terms = []
    for sample in range(len(z)):
        for c in range(classes):
            truth = (y[sample] == c).astype(np.float64)
            overlap = 2 * (p[sample, c] * truth).sum()
            terms.append(1 - overlap / ((p[sample, c] ** 2).sum() + truth.sum() + 1e-6))
    w = np.ones(classes) if weights is None else np.array(weights)
    picked = -np.log(np.take_along_axis(p, y[:, None], axis=1)[:, 0])
    return float(np.mean(terms)), float((w[y] * picked).sum() / w[y].sum())


@pytest.mark.parametrize("weights", [None, [0.2, 1.0, 3.0]])
def test_terms_in_double_precision(weights: list[float] | None) -> None:
    logits, label = batch(3)
    found = [float(term) for term in DiceCrossEntropy(weights)(logits, label)]
    np.testing.assert_allclose(found, reference(logits, label, weights), rtol=2e-6)


def test_labels_of_a_byte_and_logits_of_half_precision() -> None:
    logits, label = batch(3)
    of_bytes = DiceCrossEntropy()(logits, label.to(torch.uint8))
    assert torch.equal(torch.stack(of_bytes), torch.stack(DiceCrossEntropy()(logits, label)))
    dice, entropy = DiceCrossEntropy()(logits.bfloat16(), label)
    assert dice.dtype == entropy.dtype == torch.float32


@given(st.lists(st.integers(0, 1), min_size=1, max_size=8), st.integers(2, 4), st.integers(0, 99))
def test_class_balanced_loss_by_hand(targets: list[int], classes: int, seed: int) -> None:
    logits = torch.from_numpy(np.random.default_rng(seed).normal(size=(len(targets), classes)))
    z = logits.numpy()
    losses = [np.log(np.exp(row).sum()) - row[t] for row, t in zip(z, targets, strict=True)]
    means = [
        np.mean([loss for loss, t in zip(losses, targets, strict=True) if t == c])
        for c in set(targets)
    ]
    found = class_balanced_cross_entropy(logits, torch.tensor(targets))
    # Divided by the number of classes also when the batch lacks some.
    assert float(found) == pytest.approx(sum(means) / classes)


@pytest.mark.parametrize(
    ("balanced", "loss"),
    [(True, class_balanced_cross_entropy), (False, torch.nn.functional.cross_entropy)],
)
def test_recipe_chooses_the_loss(balanced: bool, loss: Callable[..., torch.Tensor]) -> None:
    logits = torch.tensor([[0.0, 1.0], [0.5, 0.0], [0.2, 0.1]])
    content = {"image": logits, "target": torch.tensor([1, 0, 0])}
    given = {**CLASSIFICATION, "class_balanced_loss": balanced}
    recipe = ClassificationRecipe.model_validate(given)
    trainable = ClassificationTraining(torch.nn.Flatten(), recipe, None, [])  # type: ignore[arg-type]
    assert torch.equal(trainable(content, 0)["loss"], loss(logits, content["target"]))


def test_scores_of_a_split_do_not_depend_on_the_batch_size(tmp_path: Path) -> None:
    volumes = Volumes(classification_store(tmp_path / "store"))
    network = build_network("vit", GEOMETRY, classes=2, features=1, seed=0).eval()
    rows = volumes.rows("test")
    one, many = (score_split(network, volumes, rows, size) for size in (1, 4))
    np.testing.assert_allclose(one.probability, many.probability, rtol=1e-5)
    assert one.loss == pytest.approx(many.loss, rel=1e-5)
    assert list(one.target) == [volumes.target(row) for row in rows]
    with torch.no_grad():
        image = torch.tensor(volumes.image(rows[0]))[None]
        expected = network(image).softmax(dim=1)[0, 1]
    assert one.probability[0, 1] == pytest.approx(float(expected), rel=1e-6)
