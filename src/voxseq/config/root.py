"""The whole configuration; :mod:`voxseq.config.checks` says which of its parts must agree."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from voxseq.config.base import Model, Name, Positive
from voxseq.config.data import SequencesConfig, StoreConfig, chosen_channels
from voxseq.config.datasets import DataConfig
from voxseq.config.execution import ExecutionConfig
from voxseq.config.finetune import FinetuneConfig
from voxseq.config.model import EncoderConfig, PretrainConfig
from voxseq.config.studies import AblationConfig, BeyondConfig, LabelRatioConfig, ReportConfig


class Config(Model):
    """One study: from volumes to tables."""

    scale: Name
    """name of this size of the study; artefacts are in artifacts/SCALE, logs in logs/SCALE"""
    results: str = Field("results", pattern=r"^results(/[A-Za-z0-9_]+)?$")
    """folder of tables, figures and the report; each scale needs its own"""
    seeds: Annotated[Positive, Field(le=100)] = 1
    """chains of the study, numbered from 0: each has its own phantoms, pre-trainings and
    fine-tunings; real images and their split are the same in all. More of them leave those that are
    done as they are"""
    data: DataConfig = DataConfig()
    """where volumes come from"""
    store: StoreConfig = StoreConfig()
    """layout of the volume store"""
    sequences: SequencesConfig = SequencesConfig()
    """patch sequences for pre-training"""
    encoder: EncoderConfig = EncoderConfig()
    """geometry of the encoder"""
    pretrain: PretrainConfig = PretrainConfig()
    """pre-training of every method"""
    finetune: FinetuneConfig = FinetuneConfig()
    """fine-tuning of every method on every task"""
    ablation: AblationConfig = AblationConfig()
    """Table 4"""
    label_ratio: LabelRatioConfig = LabelRatioConfig()
    """Table 3"""
    beyond: BeyondConfig = BeyondConfig()
    """rows beyond the paper: Table 5"""
    report: ReportConfig = ReportConfig()
    """tables and figures"""
    execution: ExecutionConfig = ExecutionConfig()
    """resources of jobs; no part of any fingerprint"""

    def channels(self, task: str) -> int:
        """Number of channels of a task's prepared images."""
        source = self.finetune.tasks[task]
        channels = self.data.dataset(source.dataset).channels
        return len(chosen_channels(channels, source.data.channels))
