"""Hours of cores that trainings wait for: hashing, ranges of intensities, a rehearsal buffer."""

from __future__ import annotations

import math
from dataclasses import dataclass

from voxseq.config import Config
from voxseq.config.amounts import content, sequences_of
from voxseq.config.methods.medcoss import MedCoSSSettings
from voxseq.estimate.estimate import Estimate
from voxseq.estimate.reading import boxes_of, voxel_bytes
from voxseq.estimate.run_cost import buffer_candidates

#: Bytes per second that one core hashes (SHA-256 with its instructions), measured.
HASHING = 1.8e9
#: Seconds of one core to read a byte of voxels and find its percentiles: 8 ms for a crop of 128³
#: of int16, measured. Resizing thin crops and lesions comes on top.
RANGING = 2e-9


@dataclass(frozen=True)
class Chore:
    """Work that has no training step in it.

    Attributes:
        name: what is done.
        core_hours: of one core.
        cores: that share it.
        gpu_hours: of a GPU that computes or waits for it.
    """

    name: str
    core_hours: float
    cores: int
    gpu_hours: float = 0.0

    @property
    def hours(self) -> float:
        """Hours on its cores."""
        return self.core_hours / max(self.cores, 1)


def chores(config: Config, found: Estimate) -> list[Chore]:
    """Everything besides the steps that takes cores for long."""
    asked = config.execution
    stored = sum(
        found.costs[run.id].written for run in found.runs("preprocess") if run.config.task is None
    )
    ranging = _ranging(config) * len(found.runs("sequences"))
    listed = [
        Chore("hash all sources", stored / HASHING / 3600, asked.preprocess.threads),
        Chore("ranges of all sequences", ranging / 3600, max(asked.sequences.workers, 1)),
    ]
    for run in found.runs("pretrain"):
        settings, cost = run.config.settings, found.costs[run.id]
        if isinstance(settings, MedCoSSSettings):
            items = buffer_candidates(settings, config)
            cores = max(asked.pretrain.workers * asked.pretrain.processes, 1)
            reading = items * found.needs[run.id].reading.core_seconds / 3600
            encoding = found.assumptions.staging_hours(cost)
            hours = max(encoding, reading / cores)
            listed.append(Chore(f"{run.id}: change of stage", reading, cores, hours))
    return listed


def _ranging(config: Config) -> float:
    """Seconds of one core for the ranges of all crops: as a part of a sequence, and as an image."""
    seconds = 0.0
    sequences = config.sequences
    for source in sequences.sources:
        held = content(source.dataset, config)
        rows = sequences_of(source, config)
        if source.kind == "contrast":
            rows *= len(sequences.contrast.contrasts)
        elif source.kind == "semantic":
            # Draws share their lesions.
            rows = held.volumes
        voxels = boxes_of(source.kind, held, sequences, sequences=False).voxels
        if source.kind != "spatial":
            voxels += math.prod(boxes_of(source.kind, held, sequences, sequences=True).shape)
        seconds += rows * voxels * RANGING * voxel_bytes(source.dataset, held, config)[0]
    return seconds
