"""Layers in pieces of the batch: the same values and statistics, and little that is kept."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from voxseq.training import pieces
from voxseq.training.pieces import in_pieces, normalised

ROWS, SHAPE = 7, (7, 3, 4, 4, 4)


def network(affine: bool = True) -> nn.Sequential:
    torch.manual_seed(0)
    made = nn.Sequential(
        *(nn.ConvTranspose3d(3, 4, 2, stride=2), nn.Conv3d(4, 4, 3, padding=1, bias=False)),
        *(nn.BatchNorm3d(4, affine=affine), nn.ReLU(inplace=True)),
        *(nn.Conv3d(4, 5, 3, padding=1, bias=False), nn.BatchNorm3d(5, momentum=None)),
        nn.ReLU(inplace=True),
    )
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    return made


def trained(
    made: nn.Module, compute: Callable[[Tensor], Tensor], inputs: Tensor
) -> dict[str, Tensor]:
    """Outputs, gradients and statistics after one step."""
    given = inputs.clone().requires_grad_()
    # A leaf may not be changed in place, and here the first layer may be an activation.
    out = compute(given * 1)
    pull = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out.dtype)
    (out * pull).sum().backward()
    assert given.grad is not None
    found = {"out": out.detach(), "inputs": given.grad, **made.state_dict()}
    return found | {f"{n} grad": p.grad for n, p in made.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("rows", [1, 2, 3, ROWS])
@pytest.mark.parametrize("affine", [True, False])
def test_pieces_give_the_values_of_the_layers(
    rows: int, affine: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, divided = network(affine).double(), network(affine).double()
    inputs = torch.randn(SHAPE, dtype=torch.float64) + 2.0
    sizes: list[int] = []
    divided[1].register_forward_hook(lambda module, given, out: sizes.append(len(out)))
    monkeypatch.setattr(pieces, "PIECE", rows * inputs[0].numel())
    expected = trained(whole, whole, inputs)
    found = trained(divided, lambda given: in_pieces(list(divided), given), inputs)
    assert max(sizes) == rows
    assert found.keys() == expected.keys()
    # Among them the statistics, which are updated once.
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-9)


def test_mixed_precision_is_that_of_the_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the backward pass too, whatever the precision around it."""
    monkeypatch.setattr(pieces, "PIECE", 2 * 3 * 4**3)
    inputs = torch.randn(SHAPE)

    def result(divided: bool) -> dict[str, Tensor]:
        made = network()

        def compute(given: Tensor) -> Tensor:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return in_pieces(list(made), given) if divided else made(given)

        return trained(made, compute, inputs)

    expected, found = result(False), result(True)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype, name
        difference = (found[name].double() - value.double()).norm()
        assert difference <= 2e-2 * value.double().norm() + 1e-3, name


def test_frozen_layers_get_no_gradient() -> None:
    made = network().double()
    made[1].requires_grad_(False)
    found = trained(
        made, lambda given: in_pieces(list(made), given), torch.randn(SHAPE, dtype=torch.float64)
    )
    assert "1.weight grad" not in found
    assert "4.weight grad" in found


def saved_bytes(compute: Callable[[Tensor], Tensor], inputs: Tensor) -> int:
    """Bytes of the storages that are kept for the backward pass, each counted once."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = compute(inputs.requires_grad_())
    assert result.requires_grad
    return sum(kept.values())


def test_a_norm_keeps_what_pytorchs_own_keeps() -> None:
    """Its input in 16 bits; and not its differences from the mean in single precision."""
    norm = nn.BatchNorm3d(4)
    inputs = torch.randn(8, 4, 8, 8, 8, dtype=torch.bfloat16)
    native = saved_bytes(copy.deepcopy(norm), inputs.clone())
    assert native >= inputs.nbytes
    assert saved_bytes(lambda given: normalised(norm, given), inputs.clone()) <= 1.1 * native


def test_pieces_keep_the_inputs_of_norms_alone() -> None:
    made = network()
    inputs = torch.randn(SHAPE)
    outputs = 8 * ROWS * 4**3 * (4 + 5) * 4
    found = saved_bytes(lambda given: in_pieces(list(made), given * 1), inputs.clone())
    assert found <= 1.1 * (inputs.nbytes + outputs)
    assert found < 0.5 * saved_bytes(lambda given: made(given * 1), inputs.clone())
