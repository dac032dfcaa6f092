"""Prepared data, runs and trainings that the parts share."""

from __future__ import annotations

import gc
import itertools
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

from benchmarks.gpu.sizes import Setting, Size
from benchmarks.material import demo_config
from voxseq.config import Config
from voxseq.config.data import SequencesConfig
from voxseq.config.execution import DeviceConfig
from voxseq.config.model import PretrainTraining
from voxseq.config.registry import METHODS
from voxseq.config.runs import PretrainRun
from voxseq.pretrain.run import PretrainTask, build_method, loop_config
from voxseq.sequences.sampler import SequenceSampler
from voxseq.training.loop import Batch, FitResult, Trainable, fit
from voxseq.training.optimiser import adamw
from voxseq.training.pace import Pace

Which = Literal["small", "large"]
#: Source of each kind of sequence. Shares of the kinds are those of the paper's lists.
SOURCES = {"amos22": "spatial", "brats23": "contrast", "deeplesion": "semantic"}
_SHARES = {"spatial": 0.709, "contrast": 0.19, "semantic": 0.101}
_PLAN = "plan.json"


def plan_path(data: Path) -> Path:
    """File of what is expected of each method; see :mod:`benchmarks.gpu.prepare`."""
    return data / _PLAN


def config_of(size: Size, which: Which) -> Config:
    """Configuration of the demo, or of the measured steps, over the generated sources."""
    config = demo_config() if which == "small" else size.large()
    content = config.sequences.model_dump()
    content["sources"] = [{"dataset": name, "kind": kind} for name, kind in SOURCES.items()]
    content["validation_every"] = 10
    for kind, share in _SHARES.items():
        content[kind]["weight"] = share
    # Few boxes: each needs its intensity range, and the steps do not depend on how many there are.
    content["contrast"]["crops_per_subject"] = 20
    content["semantic"]["draws_per_category"] = 60
    return config.model_copy(update={"sequences": SequencesConfig.model_validate(content)})


def run_of(config: Config, method: str, *, changed: dict[str, Any] | None = None) -> PretrainRun:
    """A pre-training of a method, with few held-out items.

    Args:
        config: of :func:`config_of`.
        method: its name.
        changed: settings of the method that differ.
    """
    model = METHODS[method].settings
    assert model is not None
    settings = {**config.pretrain.methods[method], **(changed or {})}
    given = {name: getattr(config.pretrain, name) for name in PretrainTraining.model_fields}
    return PretrainRun(
        **{**given, "validation_sequences": 2},
        method=method,
        settings=model.model_validate(settings),
        encoder=config.encoder,
        sequences=config.sequences,
        kinds=tuple(sorted(SOURCES.values())),
    )


def task_of(setting: Setting, which: Which, run: PretrainRun) -> PretrainTask:
    """The training of a run on the prepared data, as :func:`voxseq.pretrain.run.execute` has it."""
    folder = setting.data / which
    stores = {name: folder / "store" / name for name in SOURCES}
    sampler = SequenceSampler(folder / "index", stores, run.sequences, run.kinds, run.seed)
    method = build_method(run)
    method.begin(run.steps, sampler)
    return PretrainTask(method, sampler, run)


def optimiser_of(task: PretrainTask, run: PretrainRun) -> torch.optim.Optimizer:
    """The optimiser of a run."""
    recipe = run.settings.optimiser
    return adamw(task.method.parameter_groups(recipe), recipe, run.precision)


def device_config(setting: Setting, **changed: Any) -> DeviceConfig:
    """Where everything is computed."""
    return DeviceConfig.model_validate({"device": setting.device, **changed})


def trained(
    setting: Setting,
    task: PretrainTask,
    run: PretrainRun,
    batches: Callable[[int], Generator[Batch, None, None]],
    optimiser: torch.optim.Optimizer,
    *,
    folder: str,
    device: DeviceConfig | None = None,
    **loop: Any,
) -> FitResult:
    """Train with the real loop, at a constant learning rate.

    Args:
        setting: of the part.
        task: what is trained.
        run: its configuration.
        batches: as :func:`voxseq.training.loop.fit` takes them.
        optimiser: of the task.
        folder: name of the folder of the training, by which it resumes.
        device: where and how it computes, where not as usual.
        loop: settings of the loop that differ.
    """
    here = device_config(setting) if device is None else device
    settings = loop_config(run, task.method.selection, device=here)
    out = setting.scratch / folder / "out"
    out.mkdir(parents=True, exist_ok=True)
    return fit(
        task,
        batches,
        optimiser,
        lambda _: 1.0,
        replace(settings, **loop),
        state=setting.scratch / folder / "state",
        out=out,
        run_config=run.model_dump(mode="json"),
    )


@dataclass
class Clock:
    """Times of steps, read whenever a training asks for its next batch.

    Attributes:
        device: which is waited for before the time is read.
        moments: seconds.
        allocated, reserved: most bytes of a GPU up to each.
    """

    device: str
    moments: list[float] = field(default_factory=list)
    allocated: list[int] = field(default_factory=list)
    reserved: list[int] = field(default_factory=list)

    def tick(self) -> None:
        """A step begins, and the one before has ended."""
        synchronise(self.device)
        self.moments.append(time.perf_counter())
        if self.device == "cuda":
            self.allocated.append(torch.cuda.max_memory_allocated())
            self.reserved.append(torch.cuda.max_memory_reserved())

    @property
    def steps(self) -> list[float]:
        """Seconds of each step but the last."""
        return [later - sooner for sooner, later in itertools.pairwise(self.moments)]

    def repeated(
        self, task: Trainable, make: Callable[[], Batch]
    ) -> Callable[[int], Generator[Batch, None, None]]:
        """The same batch at every step, on the device beforehand: the loop without its data."""

        def batches(_: int) -> Generator[Batch, None, None]:
            batch = task.transfer(make(), next(task.parameters()).device)
            if self.device == "cuda":
                torch.cuda.synchronize()
                torch.cuda.reset_peak_memory_stats()
            while True:
                self.tick()
                yield batch

        return batches


def observed(
    source: Generator[Batch, None, None], pace: Pace, first: int
) -> Generator[Batch, None, None]:
    """The batches of a source, whose pace is measured from step ``first`` on.

    The loop's own pace has the start of the workers and the first step's preparations in it.
    """
    with closing(source):
        for number in itertools.count():
            here = pace if number >= first else Pace()
            with here.waiting():
                batch = next(source)
            yield batch
            here.done(len(next(iter(batch.values()))))


def synchronise(device: str) -> None:
    """Wait until the device has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()


def seconds_of(device: str, work: Callable[[], object], rounds: int) -> list[float]:
    """Seconds of each of some calls, after one that is not timed."""
    work()
    found = []
    for _ in range(rounds):
        synchronise(device)
        began = time.perf_counter()
        work()
        synchronise(device)
        found.append(time.perf_counter() - began)
    return found


def free_memory(device: str) -> None:
    """Give back what the allocator keeps of trainings that are over."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()


def cases(setting: Setting) -> Iterator[tuple[Which, Config]]:
    """The prepared scales that differ."""
    yield "small", config_of(setting.size, "small")
    if setting.size.large is not demo_config:
        yield "large", config_of(setting.size, "large")
