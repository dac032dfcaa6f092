"""Batches and parameter groups of the base class, and the stages of a run."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.helpers.methods import SEQUENCES, make, small_settings
from voxseq.base.errors import ConfigError
from voxseq.config.model import OptimiserConfig
from voxseq.pretrain.batching import Batching

OPTIMISER = OptimiserConfig(lr=1e-3, weight_decay=0.1)


def test_by_default_nothing_is_drawn_and_a_batch_is_its_volumes():
    volumes = torch.rand(2, 1, 2, 3, 4)
    batching = Batching(small_settings("ours"), SEQUENCES, 0)
    drawn = batching.draw(nothing_random)
    assert drawn.nbytes == 0
    made = batching.views(volumes, np.stack([drawn] * 2), np.zeros(2, bool))
    assert made.keys() == {"volume"}
    assert made["volume"] is volumes


def nothing_random(view: int) -> np.random.Generator:
    raise AssertionError(f"stream {view} was asked for")


def test_rates_and_decays_of_the_groups():
    method = make("moco_v3")
    method.head = torch.nn.Linear(2, 2)
    chosen = OPTIMISER.model_copy(update={"decay_one_dimensional": False, "decoder_lr": 0.5})
    groups = {group["name"]: group for group in method.parameter_groups(chosen)}
    found = {name: (group["lr"], group["weight_decay"]) for name, group in groups.items()}
    assert found == {
        **{"encoder.decay": (1e-3, 0.1), "encoder.no_decay": (1e-3, 0.0)},
        **{"head.decay": (0.5, 0.1), "head.no_decay": (0.5, 0.0)},
    }
    for name, group in groups.items():
        assert all((p.ndim > 1) == (not name.endswith("no_decay")) for p in group["params"])
    # The published default decays everything.
    assert {group["weight_decay"] for group in method.parameter_groups(OPTIMISER)} == {0.1}


def test_layer_decay_is_refused():
    with pytest.raises(ConfigError, match=r"layer_decay 0\.75"):
        make("ours").parameter_groups(OPTIMISER.model_copy(update={"layer_decay": 0.75}))
