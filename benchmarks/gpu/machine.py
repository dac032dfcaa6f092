"""Part 0: the machine, its copies, and its matrix products."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from benchmarks.gpu.material import seconds_of
from benchmarks.gpu.report import Report
from benchmarks.gpu.sizes import Setting

_ASKED = "name,driver_version,clocks.sm,clocks.mem,clocks.max.sm,power.limit"
_ROUNDS = 5
#: Operations a second of products in bf16 without sparsity, by the makers' data sheets.
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12}
#: Arithmetic of a product: type, and whether a GPU may use TensorFloat-32.
PRODUCTS = {
    "bf16": (torch.bfloat16, False),
    "TF32": (torch.float32, True),
    "fp32": (torch.float32, False),
}


def measure(setting: Setting, report: Report) -> None:
    """Describe the machine."""
    shared = os.statvfs("/dev/shm")  # noqa: S108 - read, not written
    report.value("cores", len(os.sched_getaffinity(0)))
    report.value("shared memory free, GB", round(shared.f_bavail * shared.f_frsize / 1e9, 2))
    if setting.is_gpu:
        _driver(report)
        free, whole = torch.cuda.mem_get_info()
        report.value("device", torch.cuda.get_device_name())
        report.value("memory free of all, GB", [round(free / 1e9, 1), round(whole / 1e9, 1)])
    for name in PRODUCTS:
        if name == "TF32" and not setting.is_gpu:
            report.skip("product in TF32", "a CPU has none")
            continue
        rates = [rate / 1e12 for rate in product_rates(setting, name)]
        report.spread(f"product of {setting.size.side}³ in {name}, TFLOP/s", rates)
    _copies(setting, report)


def _driver(report: Report) -> None:
    """What the driver says of the GPU: names, clocks, power."""
    query = ["nvidia-smi", f"--query-gpu={_ASKED}", "--format=csv,noheader"]
    try:
        said = subprocess.run(query, capture_output=True, text=True, check=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError) as error:
        report.skip(_ASKED, str(error))
        return
    report.value(_ASKED, said.stdout.strip())


def product_rates(setting: Setting, name: str) -> list[float]:
    """Operations a second of products of two square matrices, in each round."""
    dtype, allowed = PRODUCTS[name]
    side = setting.size.side
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = allowed
    try:
        left, right = (torch.randn(side, side, device=setting.device).to(dtype) for _ in range(2))
        seconds = seconds_of(setting.device, partial(torch.matmul, left, right), _ROUNDS)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    return [2 * side**3 / taken for taken in seconds]


def peak(setting: Setting) -> float | None:
    """Operations a second in bf16 by the data sheet; None where it is not known."""
    if not setting.is_gpu:
        return None
    name = torch.cuda.get_device_name()
    return next((rate for key, rate in PEAKS.items() if key in name), None)


def _copies(setting: Setting, report: Report) -> None:
    """Rates from the host's memory to the device's."""
    there = torch.empty(setting.size.copied, dtype=torch.uint8, device=setting.device)

    def rate(here: Tensor) -> Callable[[], Tensor]:
        return lambda: there.copy_(here, non_blocking=True)

    pageable = torch.zeros(setting.size.copied, dtype=torch.uint8)
    taken = seconds_of(setting.device, rate(pageable), _ROUNDS)
    report.spread("copy of pageable memory, GB/s", [len(there) / 1e9 / t for t in taken])
    if not setting.is_gpu:
        report.skip("copy of pinned memory", "a CPU has no other memory to copy to")
        return
    taken = seconds_of(setting.device, rate(pageable.pin_memory()), _ROUNDS)
    report.spread("copy of pinned memory, GB/s", [len(there) / 1e9 / t for t in taken])
