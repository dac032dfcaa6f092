"""What every pre-training method offers, and what the later ones need."""

import copy
from typing import cast

import numpy as np
import pytest
import torch
from torch import nn

from voxseq.base.errors import ConfigError
from voxseq.config.data import SequencesConfig
from voxseq.config.methods import MethodSettings
from voxseq.config.model import EncoderConfig, OptimiserConfig
from voxseq.models.encoder import Encoder
from voxseq.pretrain.base import PretrainMethod
from voxseq.sequences.sampler import SequenceSampler
from voxseq.transforms.spatial import Item

CONFIG = EncoderConfig(width=12, depth=1, heads=2, mlp_width=12, patch_size=(2, 2, 2))
SEQUENCES = SequencesConfig(
    volume_shape=(4, 4, 8), spatial={"window_shape": (4, 4, 8), "stride": 1}
)
OPTIMISER = OptimiserConfig(lr=1e-3, weight_decay=0.1)


class TwoViews(PretrainMethod):
    """A method with two views of other sizes, a frozen projection, a teacher and clipping."""

    def __init__(self, settings, encoder_config, sequences, seed):
        super().__init__(settings, encoder_config, sequences, seed)
        self.backbone.patch_embedding.requires_grad_(False)
        self.head = nn.Linear(encoder_config.width, 3)
        self.teacher = copy.deepcopy(self.backbone).requires_grad_(False)

    @property
    def encoder(self) -> Encoder:
        return self.teacher

    def collate(self, items, rng):
        whole = super().collate(items, rng)["volume"]
        start = int(rng.integers(0, 3))
        return {"global": whole, "local": whole[..., start : start + 4]}

    def training_loss(self, batch, step, generator):
        target = self.head(self.teacher(batch["global"]).start)
        return {"loss": (self.head(self.backbone(batch["local"]).start) - target).square().sum()}

    def validation_loss(self, batch, generator):
        return self.training_loss(batch, 0, generator)

    def before_update(self, step, groups):
        for group in groups:
            for parameter in group["params"]:
                nn.utils.clip_grad_norm_([parameter], 1e-3)

    @torch.no_grad()
    def after_step(self, step, total):
        pairs = zip(self.teacher.parameters(), self.backbone.parameters(), strict=True)
        for slow, fast in pairs:
            slow.lerp_(fast, 1.0 if step + 1 == total else 0.1)


def two_views() -> TwoViews:
    return TwoViews(MethodSettings(optimiser=OPTIMISER), CONFIG, SEQUENCES, 0)


def test_a_method_with_views_teacher_and_hooks_runs():
    method = two_views()
    method.begin(2, cast(SequenceSampler, None))
    assert method.total_steps == 2
    rng = np.random.default_rng(0)
    items = [Item(rng.random((4, 4, 8)).astype(np.float32)) for _ in range(3)]
    optimiser = torch.optim.AdamW(method.parameter_groups(OPTIMISER))
    for step in range(2):
        batch = method.collate(items, rng)
        method(batch, step, torch.Generator())["loss"].backward()
        method.before_update(step, optimiser.param_groups)
        trained = [p for group in optimiser.param_groups for p in group["params"]]
        assert max(float(p.grad.norm()) for p in trained) <= 1.001e-3
        optimiser.step()
        optimiser.zero_grad()
        method.after_step(step, 2)
    assert method.encoder is method.teacher
    assert torch.equal(method.teacher.start_token, method.backbone.start_token)


def test_default_batch_stacks_the_volumes():
    items = [Item(np.full((2, 3, 4), i, dtype=np.float32)) for i in range(2)]
    volume = PretrainMethod.collate(two_views(), items, np.random.default_rng(0))["volume"]
    assert volume.shape == (2, 1, 2, 3, 4)
    assert volume.dtype == torch.float32
    assert float(volume[1].min()) == 1.0


def test_groups_cover_each_trained_parameter_once():
    method = two_views()
    chosen = OPTIMISER.model_copy(update={"decay_one_dimensional": False, "decoder_lr": 0.5})
    groups = {group["name"]: group for group in method.parameter_groups(chosen)}
    assert groups.keys() == {"encoder.decay", "encoder.no_decay", "head.decay", "head.no_decay"}
    listed = [id(p) for group in groups.values() for p in group["params"]]
    assert sorted(listed) == sorted(id(p) for p in method.parameters() if p.requires_grad)
    assert all(p.ndim == 1 for p in groups["encoder.no_decay"]["params"])
    assert (groups["head.decay"]["lr"], groups["encoder.decay"]["lr"]) == (0.5, 1e-3)
    assert (groups["head.no_decay"]["weight_decay"], groups["head.decay"]["weight_decay"]) == (
        0.0,
        0.1,
    )


def test_weight_decay_on_everything_is_the_published_default():
    groups = two_views().parameter_groups(OPTIMISER)
    assert {group["weight_decay"] for group in groups} == {0.1}


def test_layer_decay_is_refused():
    with pytest.raises(ConfigError, match=r"layer_decay 0\.75"):
        two_views().parameter_groups(OPTIMISER.model_copy(update={"layer_decay": 0.75}))
