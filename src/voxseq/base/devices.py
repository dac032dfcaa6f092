"""GPUs by their data sheets, and the shares of these figures that a training reaches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["16 bits", "TF32", "32 bits"]
KINDS: tuple[Kind, ...] = ("16 bits", "TF32", "32 bits")


@dataclass(frozen=True)
class Device:
    """A GPU, by its maker's data sheet.

    Attributes:
        name: as the maker calls it.
        peaks: kind of arithmetic → dense peak in 10^12 operations per second.
        memory: bytes.
        bandwidth: of the memory, bytes per second.
        source: the data sheet.
    """

    name: str
    peaks: Mapping[Kind, float]
    memory: float
    bandwidth: float
    source: str


#: Peaks of data sheets that count on sparse matrices are halved.
DEVICES = {
    "a100": Device(
        "NVIDIA A100 80GB SXM",
        {"16 bits": 312.0, "TF32": 156.0, "32 bits": 19.5},
        80e9,
        2.039e12,
        "NVIDIA A100 Tensor Core GPU, data sheet, June 2021",
    ),
    "h200": Device(
        "NVIDIA H200 SXM",
        {"16 bits": 989.0, "TF32": 494.0, "32 bits": 67.0},
        141e9,
        4.8e12,
        "NVIDIA H200 Tensor Core GPU, data sheet, 2024",
    ),
}
USUAL = "h200"

#: Share of the peak that matrix products reach over a whole step. Well-tuned training in 16 bits
#: reaches 35 to 40 %: the products alone some 70 %, and norms, activations, the update and what
#: else moves memory take as long again. That part takes twice as long in 32 bits; beside products
#: in TF32, of half the peak, it weighs as much as before, beside those in plain float32 little.
PRODUCTS: Mapping[Kind, float] = {"16 bits": 0.35, "TF32": 0.35, "32 bits": 0.75}
#: The same of 3D convolutions with 16 to 256 channels, which memory limits: a guess. In float32
#: twice as many bytes are moved, at a peak that is a sixteenth of that in 16 bits.
CONVOLUTIONS: Mapping[Kind, float] = {"16 bits": 0.10, "TF32": 0.10, "32 bits": 0.40}
#: Share of a device's memory that a training can use: the rest is for the workspaces of
#: operations, for the context of CUDA, and for pieces that the allocator cannot join.
USABLE = 0.9


def peak(name: str, kind: Kind) -> float | None:
    """Peak in operations per second of a GPU; None for one that is not in the table.

    Args:
        name: as its driver calls it.
        kind: of arithmetic.
    """
    found = (device for key, device in DEVICES.items() if key in name.lower())
    device = next(found, None)
    return None if device is None else device.peaks[kind] * 1e12
