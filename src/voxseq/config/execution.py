"""What jobs ask of the machine; no part of any result."""

from __future__ import annotations

from pydantic import Field

from voxseq.config.base import Model, NonNegative, Positive


class Resources(Model):
    """Resources of one job, as the workflow hands them to its executor."""

    threads: Positive = 1
    mem_mb: Positive = 2000
    runtime: Positive = Field(60, description="minutes")
    gpu: NonNegative = 0
    workers: NonNegative = Field(
        0, description="processes that prepare batches ahead; they change no batch"
    )


class ExecutionConfig(Model):
    """Resources by kind of work."""

    download: Resources = Resources()
    preprocess: Resources = Resources()
    sequences: Resources = Resources()
    pretrain: Resources = Resources()
    finetune: Resources = Resources()
    report: Resources = Resources()
