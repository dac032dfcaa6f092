"""CT or MRI, by names and by intensities as real images have them."""

from __future__ import annotations

import numpy as np
import pytest

from voxseq.study.look import QUANTILES
from voxseq.study.modality import looks_like_ct, of_names


@pytest.mark.parametrize(
    ("names", "modality"),
    [
        (["CT"], "CT"),
        (["ct_portal", "PET"], "CT"),
        (["MRI"], "MRI"),
        (["MR"], "MRI"),
        (["T1w", "CT"], "MRI"),
        (["T2*"], "MRI"),
        (["FLAIR", "T1"], "MRI"),
        (["cta"], ""),
        (["0"], ""),
        (["mrs"], ""),
        ([], ""),
    ],
)
def test_the_first_channel_tells_where_its_name_is_known(names: list[str], modality: str) -> None:
    assert of_names(names) == modality


@pytest.mark.parametrize(
    ("quantiles", "is_whole", "is_ct"),
    [
        pytest.param((-1024, -60, 631), True, True, id="abdomen"),
        pytest.param((-3024, -500, 631), True, True, id="padded"),
        pytest.param((-1000.3, -850.2, 120.5), False, True, id="lung, resampled"),
        pytest.param((-43, 91, 141), True, True, id="inside a spleen"),
        pytest.param((-456, 150, 632), True, True, id="around a spleen"),
        pytest.param((-160, -29, 240), True, True, id="clipped to a window"),
        pytest.param((-110.5, 35.2, 180.1), False, True, id="soft tissue, resampled"),
        pytest.param((100, 995, 1468), True, False, id="CT without its offset"),
        pytest.param((0, 83, 255), True, False, id="bytes"),
        pytest.param((7, 63, 109), True, False, id="hippocampus"),
        pytest.param((-447.0, 0.0, 370.0), False, False, id="hippocampus without its mean"),
        pytest.param((0.0, 0.0, 714.6), False, False, id="brain without skull"),
        pytest.param((-2.3, 0.0, 1.9), False, False, id="standardised"),
        pytest.param((-0.7, 1.0, 4.6), False, False, id="left atrium"),
        pytest.param((-4096, 0, 4090), True, False, id="phase"),
    ],
)
def test_intensities_tell_hounsfield_units(
    quantiles: tuple[float, ...], is_whole: bool, is_ct: bool
) -> None:
    assert looks_like_ct(quantiles, is_whole=is_whole) is is_ct


@pytest.mark.parametrize(("fat", "noise"), [(0.25, 15), (0.25, 40), (0.0, 25), (0.0, 40)])
def test_crops_of_soft_tissue_are_ct(fat: float, noise: float) -> None:
    rng = np.random.default_rng(0)
    tissue = np.where(rng.random(20_000) < fat, -100, 50)
    image = np.rint(tissue + rng.normal(0, noise, tissue.size))
    assert looks_like_ct(np.quantile(image, QUANTILES), is_whole=True)
