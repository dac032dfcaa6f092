"""Every method: a training that diverges just before a validation says so."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.helpers.several import SETTINGS, Plan, train
from tests.helpers.training import phantom_sampler
from voxseq.base.errors import NotFiniteError, TrainingError
from voxseq.config.model import EncoderConfig
from voxseq.models.encoder import build_encoder
from voxseq.models.features import feature_statistics
from voxseq.pretrain.parts.rehearsal import mean_features


@pytest.mark.parametrize("method", SETTINGS)
@pytest.mark.parametrize(("rate", "steps"), [(1e6, 2), (1e12, 1), (3e38, 1)])
def test_it_ends_with_the_step_or_with_numbers(
    tmp_path: Path, method: str, rate: float, steps: int
) -> None:
    optimiser = {"lr": rate, "schedule": "constant", "warmup_steps": 0}
    plan = Plan(method, tmp_path, steps=steps, settings={"optimiser": optimiser})
    try:
        task = train(plan)
    except TrainingError as error:
        assert "at step" in str(error)
        assert "checkpoint" in str(error)
    else:
        # Norms may keep huge weights usable.
        assert rate < 3e38
        assert all(value.isfinite().all() for value in task.state_dict().values())


def test_features_that_are_not_finite_have_no_statistics() -> None:
    features = torch.randn(4, 6)
    features[1, 2] = float("nan")
    with pytest.raises(NotFiniteError, match="features"):
        feature_statistics(features)


def test_features_that_are_not_finite_are_not_clustered() -> None:
    config = EncoderConfig(width=24, depth=1, heads=2, mlp_width=24, patch_size=(4, 4, 4))
    encoder = build_encoder(config, 0, pretraining=True)
    with torch.no_grad():
        encoder.norm.weight[0] = float("inf")
    data = phantom_sampler(4)
    with pytest.raises(NotFiniteError, match="features of item 0"):
        mean_features(encoder, data, data.numbers("CT"))
