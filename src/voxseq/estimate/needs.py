"""What a pre-training needs: memory of its devices and of the host, and whether it fits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from voxseq.config import Config
from voxseq.config.runs import PretrainRun
from voxseq.estimate.counts import Counts
from voxseq.estimate.rates import Assumptions
from voxseq.estimate.reading import Reading, reading
from voxseq.estimate.work import FLOAT, StepMemory
from voxseq.training.held import block_bytes

#: Batches on the device in the store's type: the one that is computed, and the one that travels.
_ON_DEVICE = 2
#: Rows that are counted at least: a norm over the batch refuses one, without the other processes'.
_LEAST_ROWS = 2
#: Bytes of a main process: libraries take 0.55 GB, measured; a GPU's context and its kernels some
#: 3 GB, assumed.
_LIBRARIES, _CONTEXT = 0.6e9, 3.0e9
#: Bytes of a worker: libraries, the index, and the item that it reads.
_WORKER = 0.6e9


@dataclass(frozen=True)
class Needs:
    """Needs of a pre-training.

    Attributes:
        step: what was counted of one process.
        reading: what an item takes.
        rows: items of a batch in each process.
        device: bytes of a device, all in all.
        shared: bytes of /dev/shm on each machine.
        host: bytes of memory on each machine, shared ones included.
        remedies: keys that make it fit a device; none where it fits already.
    """

    step: StepMemory
    reading: Reading
    rows: int
    device: float
    shared: float
    host: float
    remedies: tuple[str, ...] = ()


def divisors(batch: int) -> list[int]:
    """Numbers of processes over which a batch divides, rising."""
    return [n for n in range(1, batch + 1) if batch % n == 0]


@dataclass(frozen=True)
class Division:
    """How a batch is divided, as keys of ``execution.pretrain`` say.

    Attributes:
        processes: that share it.
        parts: that each process computes one after the other.
        recompute: whether activations of blocks are computed again.
    """

    processes: int
    parts: int
    recompute: bool


def needs(run: PretrainRun, config: Config, counts: Counts, used: Assumptions) -> Needs:
    """Needs of a pre-training as ``execution.pretrain`` divides it.

    Args:
        run: the pre-training.
        config: the whole configuration.
        counts: counted steps.
        used: device, and bytes of stored voxels.
    """
    asked = config.execution.pretrain
    parts = asked.accumulate.get(run.method, 1)
    division = Division(asked.processes, parts, asked.recomputes(run.method))
    measured = _Measured(run, counts)
    step = measured.step(division)
    own = reading(run, config, used.packing, sequences=step.takes_sequences)
    device = measured.device(division, own.row)
    rows = run.batch_size // division.processes
    here = division.processes // asked.nodes
    shared = here * block_bytes(rows, own.row, asked.workers) if asked.workers else 0
    # Held-out samples are kept by each process.
    each = _LIBRARIES + run.validation_sequences * own.row + asked.workers * _WORKER
    each += _CONTEXT if asked.gpu else device

    def fits(other: Division) -> bool:
        return measured.device(other, own.row) <= used.usable

    remedies: tuple[str, ...] = ()
    if asked.gpu and device > used.usable:
        remedies = _remedies(run, division, device / used.usable, fits)
    return Needs(step, own, rows, device, shared, here * each + shared, remedies)


class _Measured:
    """Memory of a pre-training for any way of dividing it."""

    def __init__(self, run: PretrainRun, counts: Counts) -> None:
        # Runs that differ in the kinds of their sequences alone have the same steps.
        self._run = run.model_copy(update={"kinds": ()})
        self._counts = counts
        self._trained = counts.work("pretraining", self._run, "MRI", 0).trained

    def step(self, way: Division) -> StepMemory:
        """Memory of a step on one of the processes."""
        rows = max(self._run.batch_size // way.processes, _LEAST_ROWS)
        return self._counts.memory("pretraining", self._run, rows, way.parts, way.recompute)

    def device(self, way: Division, row: int) -> float:
        """Bytes of a device: beside a step's, moments, the best weights, and batches as read.

        Args:
            way: of dividing the batch.
            row: bytes of an item as read.
        """
        step = self.step(way)
        # Several processes exchange gradients through buffers of the same size.
        copies = 2 + (way.processes > 1)
        batches = _ON_DEVICE * (self._run.batch_size // way.processes) * row
        return step.peak + step.weights + copies * FLOAT * self._trained + batches


def _remedies(
    run: PretrainRun, now: Division, excess: float, fits: Callable[[Division], bool]
) -> tuple[str, ...]:
    """Keys below ``execution.pretrain`` each of which makes a training fit its device.

    Args:
        run: the pre-training.
        now: its division.
        excess: what it needs over what the device has. A part of the memory does not shrink with
            the batch, so that fewer than so many times the parts cannot do.
        fits: whether another division fits.
    """
    found = []
    more = [n for n in divisors(run.batch_size) if n >= excess * now.processes]
    processes = next((n for n in more if fits(replace(now, processes=n))), None)
    if processes is not None:
        found.append(f"processes and gpu: {processes}")
    if not now.recompute and fits(replace(now, recompute=True)):
        found.append(f"recompute: [{run.method}]")
    if run.settings.accumulates:
        more = [n for n in divisors(run.batch_size // now.processes) if n >= excess * now.parts]
        parts = next((n for n in more if fits(replace(now, parts=n))), None)
        if parts is not None:
            found.append(f"accumulate: {{{run.method}: {parts}}}")
    return tuple(found)
