"""Transformer blocks as compiled code."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from voxseq.base.errors import ConfigError
from voxseq.models.encoder import Block


def compile_blocks(module: nn.Module) -> None:
    """Compile every transformer block inside ``module``, in place, one by one.

    Blocks of one shape share their code, so it is made once and not once a block. The code is made
    when a block first meets a shape; rounding differs from that of plain PyTorch.

    Args:
        module: on the device that will compute, or to be moved there later.

    Raises:
        ConfigError: there is no compiler.
    """
    _require_compiler()
    for block in module.modules():
        if isinstance(block, Block):
            compiled = torch.compile(block.compute, dynamic=False)
            block.compute = compiled  # type: ignore[method-assign]


def _require_compiler() -> None:
    """Compile something small: what is missing shows here, and not in the first step."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.compile(_sum)(torch.ones(2, device=device))
    # Dynamo, Triton and the compiler of C++ each have errors of their own.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".strip().splitlines()[0]
        raise ConfigError(
            f"execution.compile true: PyTorch {torch.__version__} cannot compile for {device.type}"
            f" here ({reason})",
            "install Triton (a GPU) or a C++ compiler (the CPU), or set it to false",
        ) from error


def _sum(values: Tensor) -> Tensor:
    return values.exp().sum()
