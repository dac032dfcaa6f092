"""Resources that jobs request; no part of any result."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from voxseq.config.base import (
    LARGEST_MACHINE,
    Cores,
    Distinct,
    Model,
    Name,
    NonNegative,
    Positive,
)

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

    @property
    def on_a_node(self) -> dict[str, int]:
        """``threads`` and ``mem_mb`` on each node: Slurm's requests of cores and memory are so."""
        nodes = self.node_count
        return {"threads": -(-self.threads // nodes), "mem_mb": -(-self.mem_mb // nodes)}

    @property
    def node_count(self) -> int:
        """Machines of one job."""
        return 1

    @property
    def placement(self) -> dict[str, int | str]:
        """Snakemake's resources that say on how many nodes a job is, with how many GPUs each.

        On one node Slurm may not spread the GPUs. On several the job has a task on each, and each
        has equally many GPUs; the launcher calls srun itself, so the plugin must not.
        """
        nodes = self.node_count
        if nodes == 1:
            return {"gpu": self.gpu, "nodes": 1}
        tasks: dict[str, int | str] = {"tasks": nodes, "tasks_per_gpu": 0, "mpi": "srun"}
        gpus: dict[str, int | str] = {"gres": f"gpu:{self.gpu // nodes}"} if self.gpu else {}
        return {"nodes": nodes, **tasks, **gpus}


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
    recompute: bool | tuple[Name, ...] = Field(
        False,
        description="whether, or for which methods, activations of transformer blocks and of "
        "PCRLv2's decoder are computed again in the backward pass instead of kept: less memory, a "
        "third more time, the same values (of the decoder but for rounding)",
    )

    def recomputes(self, method: str) -> bool:
        """Whether a method computes activations again."""
        chosen = self.recompute
        return chosen if isinstance(chosen, bool) else method in chosen

    @property
    def node_count(self) -> int:
        """Machines that the processes are spread over."""
        return self.nodes

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
    """The machine of trainings: its device and arithmetic, for whose promises see
    docs/reliability.md, its local disk, and what is kept while they run.

    No part of a fingerprint, as the number of processes is none: the first ones change how sums are
    rounded, and the record of a run on a GPU says what they were.
    """

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """where trainings compute; auto: a CUDA GPU where there is one, else the CPU, also on macOS"""
    tf32: bool = False
    """whether 32-true on a CUDA GPU multiplies in TensorFloat-32 (10 bits of mantissa), in matrix
    products and in convolutions alike"""
    deterministic: bool = False
    """whether a CUDA GPU uses only operations that give the same bits each time: slower, and an
    error where there is none"""
    compile: bool = False
    """whether transformer blocks are compiled in pre-training: faster on a GPU once minutes of
    compiling are over; other rounding"""
    staging: str | None = Field(None, min_length=1)
    """folder on a local disk, such as $TMPDIR, to which a training copies the volumes it reads, as
    many as fit; jobs of one machine share the copies; null: volumes are read where they are"""
    checkpoint_minutes: float | None = Field(15.0, gt=0, allow_inf_nan=False)
    """minutes after which a training writes a checkpoint, besides those every `checkpoint_every`
    steps; null: by steps alone"""
    loggers: Annotated[tuple[Literal["tensorboard", "mlflow", "wandb"], ...], Distinct] = ()
    """programs that follow trainings, each installed by an extra of the same name; they write below
    logs/SCALE and send nothing anywhere (docs/while-it-runs.md)"""


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
