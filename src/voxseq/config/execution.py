"""Resources that jobs request; no part of any result."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from voxseq.config.base import LARGEST_MACHINE, Cores, Model, Name, NonNegative, Positive

_LOG = logging.getLogger("voxseq.config")
LARGEST_WORKERS = 256


class Resources(Model):
    """Resources of one job, as the workflow hands them to its executor."""

    threads: Cores = Field(1, description="cores that Snakemake reserves for a job")
    mem_mb: Positive = Field(2000, description="memory in MB")
    runtime: Positive = Field(60, description="minutes")
    gpu: NonNegative = Field(0, le=LARGEST_MACHINE, description="GPUs")
    workers: NonNegative = Field(
        0,
        le=LARGEST_WORKERS,
        description="processes that prepare batches ahead; they change no batch",
    )


class TrainingResources(Resources):
    """Resources of one pre-training, and how its batches are divided.

    The batch and the random numbers stay those of one process: only the order of sums changes,
    and with it the last digits.
    """

    processes: Cores = Field(
        1,
        description="processes of one training, which share each batch equally; every one has "
        "a GPU of its own where `gpu` is not 0",
    )
    nodes: Cores = Field(1, description="machines that these processes are spread over")
    accumulate: dict[Name, Positive] = Field(
        default_factory=dict,
        description="method → parts of a batch that a process computes one after the other, to "
        "save memory; only for methods whose loss is a mean over items (ours, mae3d)",
    )
    recompute: bool = Field(
        False,
        description="whether activations of transformer blocks are computed again in the backward "
        "pass instead of kept: less memory, a third more time, the same values",
    )

    @model_validator(mode="before")
    @classmethod
    def _without_sharding(cls, content: Any) -> Any:
        """Ignore ``sharded``, which earlier versions had."""
        if not isinstance(content, Mapping) or "sharded" not in content:
            return content
        _LOG.warning(
            "execution.pretrain.sharded is ignored: every process keeps all weights, and "
            "recompute: true saves memory; delete the key"
        )
        return {key: value for key, value in content.items() if key != "sharded"}

    @model_validator(mode="after")
    def _agreement(self) -> TrainingResources:
        if self.gpu not in (0, self.processes):
            raise ValueError(
                f"gpu {self.gpu} with {self.processes} processes: give each process one GPU, or 0"
            )
        if self.processes % self.nodes:
            raise ValueError(f"{self.processes} processes cannot be spread over {self.nodes} nodes")
        return self


class DeviceConfig(Model):
    """The device of trainings and its arithmetic; see docs/reliability.md for what each promises.

    No part of a fingerprint, as the number of processes is none: they change how sums are rounded,
    and the record of a run on a GPU says what they were.
    """

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """where trainings compute; auto: a CUDA GPU where there is one, else the CPU, also on macOS"""
    tf32: bool = False
    """whether 32-true on a CUDA GPU multiplies in TensorFloat-32 (10 bits of mantissa), in matrix
    products and in convolutions alike"""
    deterministic: bool = False
    """whether a CUDA GPU uses only operations that give the same bits each time: slower, and an
    error where there is none"""


class ExecutionConfig(DeviceConfig):
    """Resources by kind of work."""

    start_method: Literal["auto", "fork", "forkserver", "spawn"] = "auto"
    """how worker processes of trainings are started; auto: as Python does it on this system"""

    download: Resources = Resources()
    """getting or generating and checking a data set"""
    preprocess: Resources = Resources()
    """preparing the volumes of a data set"""
    sequences: Resources = Resources()
    """building the sequence index"""
    pretrain: TrainingResources = TrainingResources()
    """one pre-training"""
    finetune: Resources = Resources()
    """one job of fine-tunings"""
    report: Resources = Resources()
    """tables, and figures"""
