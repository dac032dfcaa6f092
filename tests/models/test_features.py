"""Statistics that show a collapse."""

import pytest
import torch

from voxseq.models.features import effective_rank, feature_standard_deviation, feature_statistics


def test_collapsed_features_have_no_spread():
    same = torch.full((8, 5), 0.3)
    assert feature_standard_deviation(same) < 1e-6
    assert effective_rank(same) == 0.0


def test_effective_rank_counts_equal_directions():
    basis = torch.eye(4, 6)
    features = torch.cat([basis, -basis])
    assert effective_rank(features) == pytest.approx(4.0)
    assert effective_rank(features[:, :1].expand(8, 6)) == pytest.approx(1.0, abs=1e-5)
    assert feature_statistics(features).keys() == {"feature_sd", "effective_rank"}


@pytest.mark.parametrize("shape", [(1, 4), (4,), (2, 3, 4)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="two samples"):
        feature_standard_deviation(torch.zeros(shape))
