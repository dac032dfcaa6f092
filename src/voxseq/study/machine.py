"""The machine of a study: cores, device and memory, and how fast it computes.

Rates are measured in half a second by the two kinds of operation of which nearly all of a training
consists; :mod:`voxseq.estimate` counts how many of each a study has.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional

from voxseq.base.words import several
from voxseq.estimate.run_cost import RunCost

#: Seconds for which an operation is repeated.
_SECONDS = 0.3
#: Share of the rate of a bare operation that whole steps reach: 0.9 was measured on a CPU (UNETR,
#: crops of 32 voxels); for GPUs, whose memory limits norms and activations, it is a guess.
_REACHED, _REACHED_GPU = 0.8, 0.3
#: Seconds that a run takes besides: start of the process, reading, pictures of the worst cases.
_START = 12.0


@dataclass(frozen=True)
class Machine:
    """What a study can use.

    Attributes:
        cores: CPU cores that this process may use.
        gpu: name of the GPU; empty where there is none.
        memory: bytes of the GPU, else of the machine.
        products: operations per second that one training sustains in matrix products.
        convolutions: the same in 3D convolutions.
        has_bf16: whether the GPU computes in bfloat16.
    """

    cores: int
    gpu: str
    memory: int
    products: float
    convolutions: float
    has_bf16: bool = False

    @property
    def trainings(self) -> int:
        """Trainings side by side: one per GPU, one per core without."""
        return 1 if self.gpu else self.cores

    def seconds(self, cost: RunCost) -> float:
        """Expected time of a run on its own."""
        products = (cost.matrix + cost.clustered) / self.products
        reached = _REACHED_GPU if self.gpu else _REACHED
        return _START + (products + cost.convolution / self.convolutions) / reached

    def __str__(self) -> str:
        memory = f"{self.memory / 2**30:.0f} GiB"
        if self.gpu:
            return f"{self.gpu} with {memory}, {several(self.cores, 'core')}"
        return f"no GPU, {several(self.cores, 'core')}, {memory} of memory"


def this_machine() -> Machine:
    """The present machine; takes about a second."""
    # What `execution.device: auto` takes.
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        products, convolutions = _products(device), _convolutions(device)
    finally:
        torch.set_num_threads(threads)
    if device.type == "cuda":
        found = torch.cuda.get_device_properties(device)
        gpu, memory = str(found.name), int(found.total_memory)
        # Older ones emulate it, slowly.
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        gpu, has_bf16 = "", False
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Machine(usable_cores(), gpu, memory, products, convolutions, has_bf16)


def usable_cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _products(device: torch.device) -> float:
    side = 512 if device.type == "cpu" else 4096
    one = torch.rand(side, side, device=device)
    return 2.0 * side**3 / _time(lambda: one @ one, device)


def _convolutions(device: torch.device) -> float:
    """Rate of a training's convolution: forward, and both gradients."""
    batch, channels, side = 4, 16, 32 if device.type == "cpu" else 96
    image = torch.rand(batch, channels, side, side, side, device=device, requires_grad=True)
    kernel = torch.rand(channels, channels, 3, 3, 3, device=device, requires_grad=True)

    def step() -> None:
        functional.conv3d(image, kernel, padding=1).sum().backward()  # type: ignore[no-untyped-call]

    return 3 * 2.0 * batch * side**3 * channels**2 * 27 / _time(step, device)


def _time(operation: Callable[[], object], device: torch.device) -> float:
    """Seconds of an operation, after one that warms up."""
    is_gpu = device.type == "cuda"
    # Other work on this machine does not count: it will not be there all the time.
    clock = time.perf_counter if is_gpu else time.process_time
    operation()
    if is_gpu:
        torch.cuda.synchronize()
    began, count = clock(), 0
    while clock() - began < _SECONDS:
        operation()
        count += 1
        if is_gpu:
            torch.cuda.synchronize()
    return (clock() - began) / count
