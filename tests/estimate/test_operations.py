"""Operations by formula against PyTorch's counter, for every method and network."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from voxseq.config.base import Shape3
from voxseq.config.data import SequencesConfig
from voxseq.config.model import EncoderConfig
from voxseq.config.registry import METHODS, pretrained
from voxseq.estimate import pretrain_work as formulas
from voxseq.estimate.network_work import network_work
from voxseq.estimate.operations import Work, encoder, matrix, tokens_of
from voxseq.estimate.pretrain_work import METHOD_WORK, pretrain_work
from voxseq.models.encoder import Encoder
from voxseq.models.networks import build_network, freeze_encoder
from voxseq.pretrain.base import PretrainMethod
from voxseq.pretrain.methods.ours import AutoregressiveMethod
from voxseq.pretrain.parts import masked
from voxseq.transforms.spatial import Item

SMALL = EncoderConfig(width=48, depth=3, heads=4, mlp_width=192, patch_size=(8, 8, 8))
WIDE = EncoderConfig(width=96, depth=2, heads=6, mlp_width=192, patch_size=(16, 16, 16))
SIDE = {8: 32, 16: 64}
BATCH = 4
#: Settings small enough for a test, in voxels of tokens.
SETTINGS: Mapping[str, Callable[[int], dict[str, Any]]] = {
    "simclr": lambda t: {"view_shape": (3 * t,) * 3, "output_width": 16},
    "moco_v3": lambda t: {"view_shape": (3 * t,) * 3, "hidden_width": 64, "output_width": 16},
    "dino": lambda t: {
        "global_shape": (3 * t,) * 3,
        "local_shape": (2 * t,) * 3,
        "local_views": 3,
        "hidden_width": 64,
        "bottleneck_width": 16,
        "output_width": 256,
    },
    "pcrlv2": lambda t: {
        "global_shape": (2 * t,) * 3,
        "local_shape": (t,) * 3,
        "decoder_channels": (16, 8, 8, 4),
        "swap_block": (4, 2, 4),
    },
    "mae3d": lambda t: {
        "crop_shape": (3 * t,) * 3,
        "decoder_width": 32,
        "decoder_depth": 2,
        "decoder_heads": 4,
    },
    "medcoss": lambda t: {"decoder_width": 32, "decoder_depth": 2, "decoder_heads": 4},
    "ours": lambda t: {},
}


def sequences_of(config: EncoderConfig) -> SequencesConfig:
    side = SIDE[config.patch_size[0]]
    spatial = {"window_shape": (side,) * 3, "crop_shape": (side,) * 3, "stride": 1}
    return SequencesConfig.model_validate({"volume_shape": (side,) * 3, "spatial": spatial})


def counted(loss: Callable[[], Tensor]) -> tuple[int, int]:
    """Operations of the forward pass, and of forward and backward."""
    # The counter does not know the fused attention of the CPU.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        value = loss()
        forward = counter.get_total_flops()
        value.backward()
    return forward, counter.get_total_flops()


def build(name: str, config: EncoderConfig, **more: Any) -> tuple[PretrainMethod, dict[str, Any]]:
    module, cls = METHODS[name].implementation.split(":")
    model = METHODS[name].settings
    assert model is not None
    settings = model.model_validate(SETTINGS[name](config.patch_size[0]) | more)
    made = getattr(importlib.import_module(module, "voxseq.pretrain.methods"), cls)
    method: PretrainMethod = made(settings, config, sequences_of(config), 0)
    method.total_steps = 10
    return method, settings.model_dump(mode="json")


def batch_of(method: PretrainMethod, modality: str = "MRI") -> dict[str, Tensor]:
    rng = np.random.default_rng(0)
    shape = method.sequences.volume_shape
    items = [Item(rng.random(shape, np.float32), modality=modality) for _ in range(BATCH)]
    return method.collate(items, rng)


def agrees(work: Work, samples: int, forward: int, training: int) -> None:
    assert work.forward * samples == pytest.approx(forward, rel=0.02)
    assert work.training * samples == pytest.approx(training, rel=0.02)


def test_every_formula_is_that_of_a_method_and_has_a_case() -> None:
    assert set(METHOD_WORK) == set(SETTINGS) <= set(pretrained())


def test_a_method_without_a_formula_counts_as_one_pass_of_the_encoder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sequences = SequencesConfig()
    monkeypatch.delitem(METHOD_WORK, "mae3d")  # type: ignore[arg-type]
    found = pretrain_work("mae3d", {}, SMALL, sequences)
    assert found == encoder(SMALL, [tokens_of(sequences.volume_shape, SMALL)])
    assert found.training > found.forward > 0


@pytest.mark.parametrize("config", [SMALL, WIDE], ids=["tokens of 8", "tokens of 16"])
@pytest.mark.parametrize("name", list(METHOD_WORK))
def test_a_step_of_every_method(name: str, config: EncoderConfig) -> None:
    method, settings = build(name, config)
    batch = batch_of(method)
    if isinstance(method, AutoregressiveMethod):
        last = method.length - 1
        # Their mean is that of all prefixes.
        method.draw_prefix = lambda *_: torch.tensor([0, last, 3, last - 3])  # type: ignore[method-assign]
    found = counted(
        lambda: method.training_loss(batch, 0, torch.Generator().manual_seed(0))["loss"]
    )
    work = pretrain_work(name, settings, config, sequences_of(config))
    agrees(work, BATCH, *found)
    weights = sum(p.numel() for p in method.parameters())
    learning = sum(p.numel() for p in method.parameters() if p.requires_grad)
    # Biases, norms and positions are left out.
    assert work.parameters == pytest.approx(weights, rel=0.06)
    assert work.trained == pytest.approx(learning, rel=0.06)


def test_without_a_prefix_every_token_is_computed() -> None:
    method, settings = build("ours", SMALL, attention="causal")
    batch = batch_of(method)
    found = counted(lambda: method.training_loss(batch, 0, torch.Generator())["loss"])
    agrees(pretrain_work("ours", settings, SMALL, sequences_of(SMALL)), BATCH, *found)


def test_a_rehearsal_step_of_medcoss_and_their_mixture() -> None:
    method, settings = build("medcoss", SMALL)
    batch = batch_of(method, "CT")
    found = counted(
        lambda: method.training_loss(batch, 9, torch.Generator().manual_seed(0))["loss"]
    )
    kinds = [
        pretrain_work("medcoss", settings, SMALL, sequences_of(SMALL), r) for r in (0, 1, 0.25)
    ]
    agrees(kinds[1], BATCH, *found)
    assert kinds[0].training != pytest.approx(kinds[1].training, rel=0.1)
    mixed = 0.75 * kinds[0].training + 0.25 * kinds[1].training
    assert kinds[2].training == pytest.approx(mixed)
    assert kinds[2].parameters == kinds[1].parameters


NETWORKS: list[tuple[str, dict[str, Any] | None, Shape3]] = [
    ("unetr", None, (32, 32, 16)),
    ("vit", None, (32, 32, 24)),
    ("unet3d", {"features": (4, 8, 16, 24, 32, 6)}, (32, 48, 32)),
    ("resnet", {"stem": "large", "width": 0.125}, (30, 29, 31)),
    ("resnet", {"stem": "small", "width": 0.125, "input_shape": (14, 15, 14)}, (32, 32, 32)),
]


def network_of(name: str, settings: dict[str, Any] | None, config: EncoderConfig) -> nn.Module:
    return build_network(name, config, classes=3, features=8, seed=0, settings=settings)


@pytest.mark.parametrize(("name", "settings", "shape"), NETWORKS)
def test_a_step_of_every_network(name: str, settings: dict[str, Any] | None, shape: Shape3) -> None:
    network = network_of(name, settings, SMALL)
    found = counted(lambda: network(torch.randn(2, 1, *shape)).sum())
    work = network_work(name, SMALL, shape, classes=3, features=8, settings=settings)
    agrees(work, 2, *found)
    weights = sum(p.numel() for p in network.parameters())
    assert work.parameters == pytest.approx(weights, rel=0.05)


@pytest.mark.parametrize("name", ["unetr", "vit"])
def test_a_frozen_encoder_has_no_backward_pass(name: str) -> None:
    shape = (32, 32, 32)
    network = network_of(name, None, SMALL)
    freeze_encoder(network)
    found = counted(lambda: network(torch.randn(2, 1, *shape)).sum())
    work = network_work(name, SMALL, shape, classes=3, features=8, frozen_encoder=True)
    agrees(work, 2, *found)
    assert work.trained < 0.7 * work.parameters


def test_tokens_of_16_voxels_in_the_segmentation_network() -> None:
    network = network_of("unetr", None, WIDE)
    found = counted(lambda: network(torch.randn(1, 1, 32, 32, 32)).sum())
    agrees(network_work("unetr", WIDE, (32, 32, 32), classes=3, features=8), 1, *found)


def test_the_paper_by_hand() -> None:
    """ViT-B: 86 million weights; 293 GFLOP for a sequence of 512 tokens, worked out in the docs."""
    vit = EncoderConfig(width=768, depth=12, heads=12, mlp_width=3072, patch_size=(16, 16, 16))
    assert tokens_of((128, 128, 128), vit) == 512
    assert encoder(vit, [512]).parameters == 4096 * 768 + 12 * (4 * 768**2 + 2 * 768 * 3072)
    sequences = SequencesConfig.model_validate(
        {
            "volume_shape": (128, 128, 128),
            "spatial": {"window_shape": (128, 128, 128), "stride": 8},
        }
    )
    work = pretrain_work("ours", {}, vit, sequences)
    blocks = 12 * (2 * 512 * 7_077_888 + 4 * 512**2 * 768)
    # Of 512 tokens 256.5 are scored, on average over all prefixes.
    blocks -= 2 * 255.5 * (768**2 + 2 * 768 * 3072)
    tokens, head = 2 * 511 * 4096 * 768, 2 * 256.5 * 768 * 4096
    assert work.training == 3 * blocks + 2 * tokens + 3 * head
    assert work.training == pytest.approx(293e9, rel=0.01)
    with torch.device("meta"):
        weights = sum(p.numel() for p in Encoder(vit).parameters())
    assert encoder(vit, [512]).parameters == pytest.approx(weights, rel=0.002)


@given(st.integers(2, 600), st.floats(0.01, 0.99))
def test_visible_tokens_are_those_of_the_methods(length: int, ratio: float) -> None:
    assert formulas.visible_count(length, ratio) == masked.visible_count(length, ratio)


@given(st.integers(1, 50), st.integers(1, 50), st.integers(1, 50), st.integers(1, 9))
def test_costs_add_up(rows: int, inside: int, outside: int, count: int) -> None:
    one = matrix(rows, inside, outside)
    many = one.times(count)
    assert (many.training, many.parameters) == (count * one.training, one.parameters)
    both = one + many
    assert both.training == (count + 1) * one.training
    assert both.parameters == 2 * one.parameters
    assert one.frozen().training == one.forward
    assert one.frozen().trained == 0
