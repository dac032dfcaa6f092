"""Statistics that show a collapse."""

import pytest
import torch

from voxseq.base.errors import NotFiniteError
from voxseq.models.features import feature_statistics


def test_collapsed_features_have_no_spread():
    found = feature_statistics(torch.full((8, 5), 0.3))
    assert found["feature_sd"] < 1e-6
    assert found["effective_rank"] == 0.0


def test_effective_rank_counts_equal_directions():
    basis = torch.eye(4, 6)
    features = torch.cat([basis, -basis])
    assert feature_statistics(features)["effective_rank"] == pytest.approx(4.0)
    alike = features[:, :1].expand(8, 6)
    assert feature_statistics(alike)["effective_rank"] == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("shape", [(1, 4), (4,), (2, 3, 4)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="two samples"):
        feature_statistics(torch.zeros(shape))


def test_features_that_are_not_finite_are_refused():
    features = torch.randn(4, 6)
    features[1, 2] = float("nan")
    with pytest.raises(NotFiniteError, match="features"):
        feature_statistics(features)
