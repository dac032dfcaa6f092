"""Default settings are those of the sources at the paper's scale."""

from __future__ import annotations

from typing import Any

import pytest

from voxseq.config.registry import METHODS

#: Learning rates of the sources are for 256 items; the paper's batch has 288.
SCALED = 288 / 256
LARGE, SMALL = (96, 96, 96), (48, 48, 48)
DEFAULTS: dict[str, dict[str, Any]] = {
    "simclr": {
        **{"view_shape": LARGE, "scale": (0.2, 1.0), "temperature": 0.1, "output_width": 128},
        **{"lr": 1.5e-4 * SCALED, "weight_decay": 0.1, "decay_one_dimensional": False},
    },
    "moco_v3": {
        **{"view_shape": LARGE, "scale": (0.08, 1.0), "temperature": 0.2, "momentum": 0.99},
        **{"hidden_width": 4096, "output_width": 256, "lr": 1.5e-4 * SCALED, "weight_decay": 0.1},
    },
    "dino": {
        **{"global_shape": LARGE, "global_scale": (0.4, 1.0)},
        **{"local_shape": SMALL, "local_scale": (0.05, 0.4), "local_views": 8},
        **{"hidden_width": 2048, "bottleneck_width": 256, "output_width": 65_536},
        **{"lr": 5e-4 * SCALED, "last_lr": 1e-6, "decay_one_dimensional": False},
    },
    "mae3d": {
        **{"crop_shape": LARGE, "mask_ratio": 0.75, "lr": 3e-4, "last_lr": 1e-4},
        **{"decoder_width": 512, "decoder_depth": 8, "decoder_heads": 8, "weight_decay": 0.05},
    },
    "medcoss": {
        **{"mask_ratio": 0.75, "buffer_share": 0.05, "cluster_share": 0.01},
        **{"decoder_width": 512, "decoder_depth": 8, "decoder_heads": 16},
        **{"lr": 1.5e-4 * SCALED, "betas": (0.9, 0.95), "decay_one_dimensional": False},
    },
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_defaults_are_those_of_the_source(name: str) -> None:
    model = METHODS[name].settings
    assert model is not None
    settings = model()
    optimiser = settings.optimiser
    found = {**settings.model_dump(), **optimiser.model_dump()}
    found["last_lr"] = optimiser.lr * optimiser.final_lr_factor
    for key, value in DEFAULTS[name].items():
        assert found[key] == pytest.approx(value, rel=1e-3), key


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("simclr", {"scale": (0.9, 0.2)}),
        ("simclr", {"scale": (0, 1)}),
        ("simclr", {"temperture": 0.1}),
        ("mae3d", {"mask_ratio": 0.0}),
        ("mae3d", {"mask_ratio": 1.0}),
        ("mae3d", {"decoder_heads": 5}),
        ("medcoss", {"buffer_share": 0.01, "cluster_share": 0.02}),
    ],
)
def test_impossible_settings_are_refused(name: str, wrong: dict[str, Any]) -> None:
    model = METHODS[name].settings
    assert model is not None
    with pytest.raises(ValueError, match=list(wrong)[-1]):
        model.model_validate(wrong)
