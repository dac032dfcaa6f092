"""Compiled blocks: the same values, one by one, and an error where there is no compiler."""

from __future__ import annotations

import pytest
import torch

from tests.helpers.methods import generator
from tests.pretrain.test_ours import method, random_volumes
from voxseq.base.errors import ConfigError
from voxseq.models import compiled
from voxseq.models.compiled import compile_blocks
from voxseq.models.encoder import Block

_compile = torch.compile


def traced(function, **options):
    """Trace and differentiate as a compiler does, without making code, which takes minutes."""
    return _compile(function, backend="aot_eager", **options)


@pytest.mark.slow
@pytest.mark.parametrize("recompute", [False, True])
def test_compiled_blocks_give_the_same_loss_and_gradients(monkeypatch, recompute):
    monkeypatch.setattr(torch, "compile", traced)
    found = []
    for is_compiled in (False, True):
        made = method()
        if is_compiled:
            made.compile_blocks()
        if is_compiled and recompute:
            made.recompute()
        batch = {"volume": random_volumes(made, 4, 0)}
        loss = made.training_loss(batch, 0, generator(1))["loss"]
        loss.backward()
        found.append([loss.detach(), *(p.grad for p in made.parameters())])
        blocks = [part for part in made.modules() if isinstance(part, Block)]
        assert all(("compute" in vars(block)) is is_compiled for block in blocks)
    for plain, other in zip(*found, strict=True):
        torch.testing.assert_close(other, plain, rtol=1e-6, atol=1e-6)


def test_names_of_weights_stay(monkeypatch):
    monkeypatch.setattr(torch, "compile", traced)
    made = method()
    names = list(made.state_dict())
    made.compile_blocks()
    assert list(made.state_dict()) == names


def test_without_a_compiler_the_key_is_named(monkeypatch):
    def refused(function, **options):
        raise RuntimeError("Failed to find C compiler. Please specify via CC.\nmore")

    monkeypatch.setattr(compiled.torch, "compile", refused)
    with pytest.raises(
        ConfigError, match=r"execution\.compile true: .*Failed to find C compiler"
    ) as e:
        compile_blocks(method())
    assert "set it to false" in str(e.value)
