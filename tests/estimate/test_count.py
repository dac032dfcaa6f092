"""Counts on the meta device against counts of the same step on the CPU, and against arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests.helpers import ROOT
from tests.helpers.training import views
from voxseq.config import load_config, read_yaml
from voxseq.config.base import Shape3
from voxseq.config.finetune import ResNetSettings, UNet3DSettings
from voxseq.config.model import EncoderConfig
from voxseq.config.registry import pretrained
from voxseq.config.runs import NetworkSettings, PretrainRun
from voxseq.estimate import count
from voxseq.estimate.counts import Counts
from voxseq.estimate.work import Work
from voxseq.models.networks import build_network, freeze_encoder
from voxseq.plan import build_plan
from voxseq.pretrain.base import PretrainMethod
from voxseq.pretrain.methods.ours import AutoregressiveMethod
from voxseq.pretrain.run import build_method
from voxseq.transforms.spatial import Item


def trainings(scale: str) -> dict[str, PretrainRun]:
    """Configuration of each pre-training of a scale."""
    overlay = read_yaml(ROOT / f"workflow/scales/{scale}.yaml")
    plan = build_plan(load_config(ROOT / "params.yaml", [overlay]))
    return {run.id: run.config for run in plan.runs.values() if run.action == "pretrain"}


SMOKE = trainings("smoke")
METHODS = {own.method: own for own in SMOKE.values()}
SMALL = EncoderConfig(width=48, depth=3, heads=4, mlp_width=192, patch_size=(8, 8, 8))
WIDE = EncoderConfig(width=96, depth=2, heads=6, mlp_width=192, patch_size=(16, 16, 16))


def on_cpu(loss: Callable[[], Tensor], items: int) -> tuple[float, float]:
    """Operations of an item: forward, and forward with backward."""
    # The counter does not know the fused attention of the CPU.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        value = loss()
        forward = counter.get_total_flops()
        value.backward()  # type: ignore[no-untyped-call]
    return forward / items, counter.get_total_flops() / items


def agrees(work: Work, found: tuple[float, float]) -> None:
    forward, training = found
    assert work.matrix + work.convolution == pytest.approx(forward)
    assert work.matrix_training + work.convolution_training == pytest.approx(training)


def test_the_smoke_scale_has_every_method() -> None:
    assert set(METHODS) == set(pretrained())


@pytest.mark.parametrize(
    ("own", "modality", "step"),
    [
        *(pytest.param(own, "MRI", 0, id=run) for run, own in SMOKE.items()),
        pytest.param(METHODS["medcoss"], "CT", -1, id="rehearsal of medcoss"),
    ],
)
def test_a_step_of_every_method(own: PretrainRun, modality: str, step: int) -> None:
    step %= own.steps
    method, rng = build_method(own), np.random.default_rng(0)
    method.total_steps = own.steps
    shape, size = count.fed_shape(method), own.batch_size
    items = [Item(rng.random(shape, np.float32), modality=modality) for _ in range(size)]
    batch = views(method, items)
    draws = torch.Generator().manual_seed(0)
    found = on_cpu(lambda: method.training_loss(batch, step, draws)["loss"], size)
    work = count.pretraining(own, modality, step)
    agrees(work, found)
    assert not work.plain
    learning = [p.numel() for p in method.parameters() if p.requires_grad]
    assert work.parameters == sum(p.numel() for p in method.parameters())
    assert work.trained == sum(learning)


NETWORKS: list[tuple[str, EncoderConfig, Shape3, NetworkSettings | None, bool]] = [
    ("unetr", SMALL, (32, 32, 16), None, False),
    ("unetr", SMALL, (32, 32, 32), None, True),
    ("unetr", WIDE, (32, 32, 32), None, False),
    ("vit", SMALL, (32, 32, 24), None, False),
    ("vit", SMALL, (32, 32, 32), None, True),
    ("unet3d", SMALL, (32, 48, 32), UNet3DSettings(features=(4, 8, 16, 24, 32, 6)), False),
    ("resnet", SMALL, (30, 29, 31), ResNetSettings(stem="large", width=0.125), False),
    (
        *("resnet", SMALL, (32, 32, 32)),
        *(ResNetSettings(stem="small", width=0.125, input_shape=(14, 15, 14)), False),
    ),
]


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(("name", "geometry", "shape", "settings", "is_frozen"), NETWORKS)
def test_a_step_of_every_network(
    name: str,
    geometry: EncoderConfig,
    shape: Shape3,
    settings: NetworkSettings | None,
    is_frozen: bool,
    channels: int,
) -> None:
    network = build_network(
        *(name, geometry),
        **{"classes": 3, "features": 8, "seed": 0, "settings": settings, "in_channels": channels},
    )
    if is_frozen:
        freeze_encoder(network)
    found = on_cpu(lambda: network(torch.randn(2, channels, *shape)).sum(), 2)
    work = count.network(name, geometry, shape, 3, 8, settings, is_frozen, channels)
    agrees(work, found)
    assert (work.trained < work.parameters) == is_frozen
    convolutions = {"unetr": True, "unet3d": True, "resnet": True, "vit": False}
    assert (work.convolution > 0) == convolutions[name]


def test_the_paper_by_hand() -> None:
    """ViT-B: 86 million weights; 293 GFLOP for a sequence of 512 tokens, worked out in the docs."""
    own = trainings("paper")["pretrain/ours/s0"]
    plain = count.encoder(own.encoder, (128, 128, 128))
    weights = 4096 * 768 + 12 * (4 * 768**2 + 2 * 768 * 3072)
    assert plain.parameters == pytest.approx(weights, rel=0.002)
    with_start = 12 * (2 * 513 * 7_077_888 + 4 * 513**2 * 768)
    assert plain.matrix == with_start + 2 * 512 * 4096 * 768
    assert plain.matrix_training == 3 * with_start + 2 * 2 * 512 * 4096 * 768
    assert plain.convolution == 0
    blocks = 12.0 * (2 * 512 * 7_077_888 + 4 * 512**2 * 768)
    # Of 512 tokens 256.5 are scored, on average over all prefixes.
    blocks -= 2 * 255.5 * (768**2 + 2 * 768 * 3072)
    tokens, head = 2 * 511 * 4096 * 768, 2 * 256.5 * 768 * 4096
    by_hand = 3 * blocks + 2 * tokens + 3 * head
    work = count.pretraining(own, "MRI", 0)
    # 288 prefixes are drawn.
    assert work.matrix_training == pytest.approx(by_hand, rel=0.002)
    assert by_hand == pytest.approx(293e9, rel=0.01)


def test_a_method_that_cannot_be_counted_is_taken_for_its_encoder(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def loss(self: PretrainMethod, batch: dict[str, Tensor], *_: object) -> dict[str, Tensor]:
        volume = batch["volume"]
        return {"loss": self.backbone(volume[volume.amax(dim=(1, 2, 3, 4)) > 0]).tokens.mean()}

    monkeypatch.setattr(AutoregressiveMethod, "training_loss", loss)
    own = METHODS["ours"]
    work = count.pretraining(own, "MRI", 0)
    plain = count.encoder(own.encoder, own.sequences.volume_shape)
    assert work.plain
    assert work.matrix_training == plain.matrix_training > plain.matrix > 0
    assert "ours: not counted" in caplog.text


def test_kinds_of_steps_are_mixed_by_their_share() -> None:
    one = Work(1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
    other = Work(5.0, 2.0, 7.0, 0.0, 5.0, 6.0, plain=1.0)
    assert one.mixed(other, 0.25) == Work(2.0, 2.0, 4.0, 3.0, 5.0, 6.0, plain=0.25)


def test_counts_are_kept_until_the_code_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    counted = count.encoder

    def encoder(*question: Any) -> Work:
        asked.append(question)
        return counted(*question)

    def work() -> Work:
        counts = Counts(path)
        found = counts.work("encoder", SMALL, (16, 16, 16))
        counts.keep()
        return found

    monkeypatch.setattr(count, "encoder", encoder)
    path = tmp_path / "made/counts.json"
    first = work()
    assert work() == first
    assert len(asked) == 1
    path.write_text(path.read_text().replace('"code": "', '"code": "another'))
    assert work() == first
    assert len(asked) == 2
    for damaged in ("{", "[]", "{}", path.read_text().replace("matrix", "matrices")):
        path.write_text(damaged)
        assert work() == first
    assert len(asked) == 6
    path = tmp_path / "made/counts.json/below a file"
    assert work() == first
