"""Batches and parameter groups of the base class, and the stages of a run."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.helpers.methods import make
from voxseq.base.errors import ConfigError
from voxseq.config.model import OptimiserConfig
from voxseq.pretrain.batching import Batching
from voxseq.transforms.spatial import Item

OPTIMISER = OptimiserConfig(lr=1e-3, weight_decay=0.1)


def test_default_batch_stacks_the_volumes():
    items = [Item(np.full((2, 3, 4), i, dtype=np.float32)) for i in range(2)]
    volume = Batching.collate(make("ours").batching, items, np.random.default_rng(0))["volume"]
    assert volume.shape == (2, 1, 2, 3, 4)
    assert volume.dtype == torch.float32
    assert float(volume[1].min()) == 1.0


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
