"""The whole configuration; :mod:`voxseq.config.checks` says which of its parts must agree."""

from __future__ import annotations

from pydantic import Field

from voxseq.config.base import Model, Name
from voxseq.config.data import DataConfig, SequencesConfig, StoreConfig
from voxseq.config.execution import ExecutionConfig
from voxseq.config.finetune import FinetuneConfig
from voxseq.config.model import EncoderConfig, PretrainConfig
from voxseq.config.studies import AblationConfig, BeyondConfig, LabelRatioConfig, ReportConfig


class Config(Model):
    """One study: from volumes to tables."""

    scale: Name
    results: str = Field("results", pattern=r"^results(/[A-Za-z0-9_]+)?$")
    data: DataConfig = DataConfig()
    store: StoreConfig = StoreConfig()
    sequences: SequencesConfig
    encoder: EncoderConfig = EncoderConfig()
    pretrain: PretrainConfig
    finetune: FinetuneConfig
    ablation: AblationConfig = AblationConfig()
    label_ratio: LabelRatioConfig = LabelRatioConfig()
    beyond: BeyondConfig = BeyondConfig()
    report: ReportConfig = ReportConfig()
    execution: ExecutionConfig = ExecutionConfig()
