"""Part 7: fine-tuning, whole volumes, and a small network with and without a CUDA graph."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, cast
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.gpu.material import Clock, config_of, device_config, free_memory, seconds_of
from benchmarks.gpu.report import Report
from benchmarks.gpu.sizes import Setting
from voxseq.config import Config
from voxseq.config.base import Shape3
from voxseq.config.finetune import SegmentationRecipe
from voxseq.config.model import OptimiserConfig
from voxseq.evaluation import inference
from voxseq.evaluation.inference import Precision, iterate_logits, largest
from voxseq.finetune.segmentation import SegmentationTraining
from voxseq.finetune.training import build_optimiser
from voxseq.models.networks import build_network
from voxseq.training.device import autocast_of
from voxseq.training.loop import Batch, LoopConfig, fit

_TASK, _IMAGES = "task09_spleen", "nodule"
_AGREEMENT = 0.999
#: A high rate: classes of a network that has learned nothing are decided by rounding.
_RECIPE = OptimiserConfig(lr=2e-3, weight_decay=1e-5)
#: Name, memory format, and whether cuDNN tries its ways first.
_FORMATS = (
    ("as stored", torch.contiguous_format, False),
    ("as stored, tried", torch.contiguous_format, True),
    ("channels last, tried", torch.channels_last_3d, True),
)
_TIMED, _WARM_UP = 20, 3
_LOSS = 1e-2


class _Segmentation(SegmentationTraining):
    """Training on crops that are there already; whole volumes are a measurement of their own."""

    def validate(self) -> dict[str, float]:
        return {self.select: 0.0}


def measure(setting: Setting, report: Report) -> None:
    """The small network first, and the longest last."""
    config = config_of(setting.size, "large")
    with report.guard("resnet"):
        _resnet(setting, report, config)
    recipe = cast(SegmentationRecipe, config.finetune.tasks[_TASK].recipe())
    networks = {}
    for name in ("unetr", "unet3d"):
        with report.guard(name):
            networks[name] = _learned(setting, report, config, recipe, name)
        free_memory(setting.device)
    volume, _ = _phantom(setting.size.scored, 0)
    for name, network in networks.items():
        with report.guard(f"{name}, whole volume"):
            _scored(setting, report, network, recipe, volume, name)
        free_memory(setting.device)


def _learned(
    setting: Setting, report: Report, config: Config, recipe: SegmentationRecipe, name: str
) -> nn.Module:
    """Time the training of a network in each memory format, and return it with what it learned."""
    size = setting.size
    task = config.finetune.tasks[_TASK]
    network = build_network(
        name,
        config.encoder,
        classes=len(recipe.labels) + 1,
        features=recipe.decoder_features,
        seed=0,
        settings=task.network_settings(name),
    )
    count = recipe.crops_per_volume * recipe.volumes_per_batch
    images, labels = zip(*(_phantom(recipe.roi, n) for n in range(count)), strict=True)
    image = torch.from_numpy(np.stack(images))[:, None]
    label = torch.from_numpy(np.stack(labels))[:, None]
    steps = size.warm_up + size.timed + 1
    for number, (kind, memory_format, tries) in enumerate(_FORMATS):
        network = network.to(memory_format=memory_format)  # type: ignore[call-overload]
        batch = {"image": image.contiguous(memory_format=memory_format), "label": label}
        # The last one learns longer.
        extra = size.learned if number + 1 == len(_FORMATS) else 0
        clock = Clock(setting.device)
        with _tried(tries):
            _train(setting, network, config, recipe, batch, clock, f"{name}, {kind}", steps + extra)
        seconds = clock.steps[size.warm_up : size.warm_up + size.timed]
        report.spread(f"{name}, {kind}: step, ms", [1000 * s for s in seconds])
    report.value(f"{name}: crops of a step", count)
    return network


def _train(
    setting: Setting,
    network: nn.Module,
    config: Config,
    recipe: SegmentationRecipe,
    batch: Batch,
    clock: Clock,
    folder: str,
    steps: int,
) -> None:
    precision = config.finetune.tasks[_TASK].precision or config.finetune.precision
    trainable = _Segmentation(network, recipe, cast(Any, None), ())
    out = setting.scratch / folder / "out"
    out.mkdir(parents=True)
    fit(
        trainable,
        clock.repeated(trainable, lambda: batch),
        build_optimiser(network, _RECIPE, config.encoder.depth, precision),
        lambda _: 1.0,
        LoopConfig(
            steps=steps,
            select=trainable.select,
            mode="last",
            validate_every=steps,
            checkpoint_every=steps,
            precision=precision,
            threads=config.finetune.threads,
            device=device_config(setting),
        ),
        state=setting.scratch / folder / "state",
        out=out,
        run_config={},
    )


@contextmanager
def _tried(tries: bool) -> Iterator[None]:
    """Let cuDNN try all of its ways with each shape, or not."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = tries
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def _scored(
    setting: Setting,
    report: Report,
    network: nn.Module,
    recipe: SegmentationRecipe,
    volume: NDArray[np.float32],
    name: str,
) -> None:
    """Seconds of a whole volume, window by window in fp32 and many at once in 16 bits."""
    network.eval()
    half = autocast_of("bf16-mixed", "cuda" if setting.is_gpu else "cpu")
    small = volume[: recipe.roi[0], : recipe.roi[1], : recipe.roi[2]]
    classes = {}
    ways: dict[str, tuple[Precision, int]] = {
        f"bf16, {setting.size.windows} windows": (half, setting.size.windows),
        "fp32, 1 window": (nullcontext, 1),
    }
    for kind, (precision, windows) in ways.items():
        with patch.object(inference, "most_windows", lambda *_, most=windows: most):
            _classes(network, small, recipe, precision)
            began = time.perf_counter()
            classes[kind] = _classes(network, volume, recipe, precision)
        report.value(f"{name}, {kind}: s a volume", time.perf_counter() - began)
    one, other = classes.values()
    report.value(f"{name}: share of foreground", float((one > 0).mean()))
    report.at_least(f"{name}: classes that agree", float((one == other).mean()), _AGREEMENT)


def _classes(
    network: nn.Module,
    volume: NDArray[np.float32],
    recipe: SegmentationRecipe,
    precision: Precision,
) -> NDArray[np.uint8]:
    found = np.empty(volume.shape, np.uint8)
    slabs = iterate_logits(network, volume[None], recipe.roi, recipe.overlap, precision)
    for planes, logits in slabs:
        found[planes] = largest(logits)
    return found


def _resnet(setting: Setting, report: Report, config: Config) -> None:
    """Steps of the small network one operation after the other, and as one graph."""
    settings = config.finetune.tasks[_IMAGES].network_settings("resnet")
    shape = getattr(settings, "input_shape", None) or config.sequences.volume_shape
    network = build_network(
        "resnet", config.encoder, classes=2, features=1, seed=0, settings=settings
    ).to(setting.device)
    count = setting.size.resnet_batch
    images = np.stack([_phantom(shape, number)[0] for number in range(count)])
    image = torch.from_numpy(images)[:, None].to(setting.device)
    target = (torch.arange(count) % 2).to(setting.device)
    plain = _Stepping(copy.deepcopy(network), image, target)
    seconds_of(setting.device, plain.step, _WARM_UP)
    seconds = seconds_of(setting.device, plain.step, _TIMED)
    report.spread("resnet, plain: step, ms", [1000 * s for s in seconds])
    if not setting.is_gpu:
        report.skip("resnet, graph", "a CPU has no CUDA graphs")
        return
    graphed = _Stepping(network, image, target)
    replay = graphed.captured()
    seconds = seconds_of(setting.device, replay, _TIMED)
    report.spread("resnet, graph: step, ms", [1000 * s for s in seconds])
    # As many steps of each: the batch is the same one.
    while graphed.steps < plain.steps:
        replay()
    while plain.steps < graphed.steps:
        plain.step()
    away = abs(float(graphed.loss) - float(plain.loss)) / max(abs(float(plain.loss)), _LOSS)
    report.at_most("resnet, graph: loss after as many steps", away, _LOSS)


class _Stepping:
    """Steps of a classifier on one batch.

    Attributes:
        loss: of the step that was done last, before its update.
        steps: done so far.
    """

    def __init__(self, network: nn.Module, image: Tensor, target: Tensor) -> None:
        self.network = network.train()
        self.image, self.target = image, target
        self.optimiser = torch.optim.AdamW(
            network.parameters(), lr=1e-4, capturable=image.is_cuda, fused=True
        )
        self.loss = torch.zeros((), device=image.device)
        self.steps = 0

    def step(self) -> None:
        """Loss, gradients and update."""
        self._compute()
        self.steps += 1

    def captured(self) -> Callable[[], None]:
        """The same as one graph, after steps that are none of it."""
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP):
                self.step()
        torch.cuda.current_stream().wait_stream(stream)
        self.optimiser.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._compute()

        def replay() -> None:
            graph.replay()
            self.steps += 1

        return replay

    def _compute(self) -> None:
        self.optimiser.zero_grad(set_to_none=True)
        loss = nn.functional.cross_entropy(self.network(self.image), self.target)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.loss = loss.detach()


def _phantom(shape: Shape3, number: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Bright ellipsoids in noise, and which voxels are in them."""
    rng = np.random.default_rng(number)
    x, y, z = np.meshgrid(
        *[np.linspace(-1, 1, n, dtype=np.float32) for n in shape], indexing="ij", sparse=True
    )
    label = np.zeros(shape, np.uint8)
    for _ in range(3):
        (a, b, c), radius = rng.uniform(-0.6, 0.6, 3), rng.uniform(0.3, 0.6)
        label[(x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2 < radius**2] = 1
    noise = rng.normal(0.0, 0.02, shape).astype(np.float32)
    return 0.2 + 0.6 * label.astype(np.float32) + noise, label
