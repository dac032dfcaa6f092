"""The building blocks of the phantoms: distances, random fields, lesions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxseq.phantoms import shapes as sh
from voxseq.phantoms.lesions import LESION_TYPES, typed_lesion
from voxseq.phantoms.torso import CtStyle, torso


@pytest.mark.parametrize("kind", LESION_TYPES)
def test_lesion_types_have_their_density(kind: int) -> None:
    rng = sh.case_rng(1, "lesion", kind)
    lesion_type = LESION_TYPES[kind]
    canvas = torso(rng, (32, 32, 8), (6.0, 6.0, 5.0), lesion_type.region, CtStyle())
    lesion = typed_lesion(canvas, kind)
    assert lesion is not None
    inside = canvas.values[0][lesion].mean()
    low, high = lesion_type.values
    assert low - 120 < inside < high + 120


def test_no_host_tissue_no_lesion() -> None:
    points = sh.grid_points((6, 6, 6), (3.0, 3.0, 3.0), (0, 0, 0))
    canvas = sh.Canvas.blank(sh.case_rng(0, "x"), points, (3.0, 3.0, 3.0), (-1000.0,))
    assert typed_lesion(canvas, 4) is None


@settings(max_examples=25, deadline=None)
@given(
    radius=st.floats(2, 12),
    centre=st.tuples(*[st.floats(-4, 4)] * 3),
    edge=st.floats(0.5, 4),
)
def test_a_round_ellipsoid_is_a_sphere(
    radius: float, centre: tuple[float, float, float], edge: float
) -> None:
    points = sh.grid_points((9, 9, 9), (2.0, 2.0, 2.0), (0, 0, 0))
    away = np.sqrt(((points - np.asarray(centre)[:, None, None, None]) ** 2).sum(0))
    distance = sh.ellipsoid(points, centre, (radius,) * 3)
    np.testing.assert_allclose(distance, away - radius, atol=1e-3 * radius + 1e-3)
    share = sh.coverage(distance, edge)
    assert (share >= 0).all()
    assert (share <= 1).all()
    straight = sh.tube(points, [centre, centre], (radius, radius)).distance
    np.testing.assert_allclose(straight, away - radius, atol=1e-2)


def test_noise_is_smooth_and_standardised() -> None:
    fields = [sh.noise(sh.case_rng(0, "noise"), (24, 24, 24), s) for s in (1.0, 4.0)]
    for field in fields:
        assert abs(float(field.mean())) < 1e-4
        assert float(field.std()) == pytest.approx(1.0, abs=1e-3)
    rough = [float(np.abs(np.diff(f, axis=0)).mean()) for f in fields]
    assert rough[1] < 0.5 * rough[0]


def test_a_path_of_one_corner_is_refused() -> None:
    points = sh.grid_points((3, 3, 3), (1.0, 1.0, 1.0), (0, 0, 0))
    with pytest.raises(ValueError, match="two corners"):
        sh.tube(points, [(0, 0, 0)], (1.0,))
