"""The device of a training: which one, how it computes, and what it cost."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Literal

import torch
from lightning_fabric.plugins import MixedPrecision

from voxseq.base.devices import Kind, peak
from voxseq.base.errors import ConfigError
from voxseq.config.execution import DeviceConfig

Accelerator = Literal["cpu", "cuda", "mps"]


def accelerator(config: DeviceConfig) -> Accelerator:
    """The kind of device that a configuration asks for; a CUDA GPU or the CPU by default.

    Raises:
        ConfigError: it is asked for by name and not there.
    """
    is_there = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if config.device == "auto":
        return "cuda" if is_there["cuda"] else "cpu"
    if not is_there[config.device]:
        raise ConfigError(
            f"execution.device {config.device}: PyTorch {torch.__version__} finds no such device",
            "see its driver and that this PyTorch was built for it, or use auto or cpu",
        )
    return config.device


def set_arithmetic(config: DeviceConfig) -> None:
    """Set how a CUDA GPU computes; by default PyTorch's convolutions alone would be in TF32."""
    torch.backends.cuda.matmul.allow_tf32 = config.tf32
    torch.backends.cudnn.allow_tf32 = config.tf32
    torch.backends.cudnn.deterministic = config.deterministic
    torch.use_deterministic_algorithms(config.deterministic)
    if config.deterministic:
        # cuBLAS reads it when it is first used.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


class Autocast(MixedPrecision):  # type: ignore[misc]
    """Mixed precision in which a module gets its batch as it is.

    Fabric's own rounds the voxels to 16 bits before the module is called, and targets are made of
    them in the module. What is to be computed in 16 bits is left to autocast.
    """

    def convert_input(self, data: Any) -> Any:
        """The batch, unchanged."""
        return data


def autocast_of(precision: str, device: str) -> Callable[[], AbstractContextManager[Any]]:
    """Makes the context in which a training of this precision computes, for work outside its loop.

    Args:
        precision: as Fabric names it; all but ``bf16-mixed`` and ``16-mixed`` compute as they are.
        device: kind of the device that computes.
    """
    dtype = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(precision)
    return nullcontext if dtype is None else partial(torch.autocast, device, dtype=dtype)


def device_peak(device: torch.device, precision: str, config: DeviceConfig) -> float | None:
    """Operations per second that a training's device is made for; None where that is not known.

    Args:
        device: that computes.
        precision: as Fabric names it.
        config: whether single precision is TF32, and blocks are compiled, in which no operation
            can be counted.
    """
    if device.type != "cuda" or config.compile:
        return None
    single: Kind = "TF32" if config.tf32 else "32 bits"
    return peak(torch.cuda.get_device_name(device), "16 bits" if "16" in precision else single)


def costs() -> dict[str, Any]:
    """Peak memory of this process in MB, and of its GPU where it used one, for ``cost.json``."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # In bytes on macOS, in kB elsewhere.
    found: dict[str, Any] = {
        "peak_memory_mb": round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)
    }
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        found |= {
            "device": torch.cuda.get_device_name(),
            "device_allocated_mb": round(torch.cuda.max_memory_allocated() / 2**20, 1),
            "device_reserved_mb": round(torch.cuda.max_memory_reserved() / 2**20, 1),
            "tf32": torch.backends.cuda.matmul.allow_tf32,
            "deterministic": torch.are_deterministic_algorithms_enabled(),
        }
    return found
