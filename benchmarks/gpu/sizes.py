"""Sizes of the check: those of the paper, and toy ones with which a CPU runs every part."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.material import demo_config, paper_config
from voxseq.config import Config
from voxseq.config.base import Shape3


@dataclass(frozen=True)
class Size:
    """Sizes of all parts.

    Attributes:
        large: configuration of the measured steps; the comparisons have that of the demo.
        volume: voxels of the generated CT.
        contrast: voxels of the four contrasts.
        lesion: voxels of the volumes with lesions.
        batch: items of a measured step.
        batches: the same for methods of which one device does not hold as many.
        warm_up: steps before those that are timed.
        timed: steps that are timed.
        side: of the matrices of a product.
        copied: bytes of a copy between host and device.
        steps: of a training that is stopped and resumed.
        resumed: methods of which that is tried.
        workers: numbers of processes that fill rows.
        fed: steps of a round of the data path, of which there are three.
        scored: voxels of the volume that a network segments.
        windows: of a forward pass in 16 bits.
        learned: steps after which a network's classes are compared.
        resnet_batch: images of a step of the ResNet.
    """

    name: str
    large: Callable[[], Config]
    volume: Shape3
    contrast: Shape3
    lesion: Shape3
    batch: int
    warm_up: int
    timed: int
    side: int
    copied: int
    steps: int
    workers: tuple[int, ...]
    fed: int
    scored: Shape3
    windows: int
    learned: int
    resnet_batch: int
    batches: Mapping[str, int] = field(default_factory=dict)
    resumed: tuple[str, ...] | None = None


FULL = Size(
    "full",
    large=paper_config,
    volume=(256, 256, 200),
    contrast=(160, 160, 160),
    lesion=(256, 256, 40),
    batch=288,
    # Its activations at 288 fit no GPU.
    batches={"pcrlv2": 36},
    warm_up=3,
    timed=5,
    side=8192,
    copied=2**30,
    steps=20,
    workers=(8, 16),
    fed=4,
    scored=(335, 335, 200),
    windows=8,
    learned=40,
    resnet_batch=16,
)
TINY = Size(
    "tiny",
    large=demo_config,
    volume=(40, 40, 32),
    contrast=(32, 32, 32),
    lesion=(40, 40, 8),
    batch=4,
    batches={"pcrlv2": 2},
    warm_up=1,
    timed=2,
    side=256,
    copied=2**22,
    steps=4,
    resumed=("ours", "simclr"),
    workers=(1, 2),
    fed=2,
    scored=(30, 30, 24),
    windows=8,
    learned=20,
    resnet_batch=4,
)


@dataclass(frozen=True)
class Setting:
    """What a part is given.

    Attributes:
        data: folder that :mod:`benchmarks.gpu.prepare` has written.
        size: of everything.
        device: "cuda" or "cpu".
        scratch: empty folder of the part.
    """

    data: Path
    size: Size
    device: str
    scratch: Path

    @property
    def is_gpu(self) -> bool:
        """Whether times mean something: targets of time hold on a GPU only."""
        return self.device == "cuda"
