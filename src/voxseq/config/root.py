"""The whole configuration and the checks that concern more than one part of it."""

from __future__ import annotations

from pydantic import Field, model_validator

from voxseq.config.base import Model, Name, Shape3
from voxseq.config.data import DataConfig, PhantomConfig, SequencesConfig, StoreConfig, check_stride
from voxseq.config.execution import ExecutionConfig
from voxseq.config.finetune import ClassificationTask, FinetuneConfig, SegmentationTask
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

    @model_validator(mode="after")
    def _agreement(self) -> Config:
        _check_grid("sequences.volume_shape", self.sequences.volume_shape, self.encoder)
        patch, token = self.sequences.patch_shape, self.encoder.patch_size
        if patch[2] % token[2]:
            raise ValueError(
                f"sequences: a patch is {patch[2]} voxels thick, which is not a multiple of "
                f"encoder.patch_size {token[2]}"
            )
        for name, task in self.finetune.tasks.items():
            _check_task(name, task, self.encoder)
            if self.data.root is None:
                _check_phantoms(name, task, self.data.phantoms)
        _check_studies(self)
        _check_division(self)
        kinds = {s.kind for s in self.sequences.sources}
        for name, variant in self.ablation.variants.items():
            if variant.stride is not None:
                try:
                    check_stride(variant.stride, self.sequences)
                except ValueError as error:
                    raise ValueError(f"ablation.variants.{name}: {error}") from None
            if variant.without is not None and kinds == {variant.without}:
                raise ValueError(
                    f"ablation.variants.{name}: without {variant.without} no source is left"
                )
        if self.ablation.variants and "ours" not in self.pretrain.methods:
            raise ValueError(
                "ablation.variants are variants of 'ours', which pretrain.methods lacks"
            )
        if self.pretrain.methods and not self.sequences.sources:
            raise ValueError("pretrain.methods need at least one entry in sequences.sources")
        return self


def _check_phantoms(
    name: str, task: SegmentationTask | ClassificationTask, phantoms: PhantomConfig
) -> None:
    """Refuse fewer phantoms than a task's training, validation and test parts need."""
    if task.type == "segmentation" and phantoms.segmentation_cases < 3:
        raise ValueError(
            f"data.phantoms.segmentation_cases is {phantoms.segmentation_cases}: "
            f"finetune.tasks.{name} needs at least 3, one each to train, validate and test"
        )
    if task.type == "classification" and min(phantoms.classification_cases) < 2:
        raise ValueError(
            f"data.phantoms.classification_cases are {list(phantoms.classification_cases)}: "
            f"finetune.tasks.{name} needs at least 2 each to train, validate and test, one of "
            "each class"
        )


def _check_studies(config: Config) -> None:
    for study in ("label_ratio", "ablation", "beyond"):
        for name in getattr(config, study).tasks:
            if name not in config.finetune.tasks:
                raise ValueError(
                    f"unknown task {name!r} in {study}; "
                    f"finetune.tasks has {', '.join(config.finetune.tasks) or 'none'}"
                )
    methods = (*config.finetune.scratch, *config.pretrain.methods)
    for name in config.label_ratio.methods or ():
        if name not in methods:
            raise ValueError(
                f"unknown method {name!r} in label_ratio.methods; the study has "
                f"{', '.join(methods) or 'none'}"
            )


def _check_division(config: Config) -> None:
    size, asked = config.pretrain.batch_size, config.execution.pretrain
    for name in ("", *asked.accumulate):
        parts = asked.processes * asked.accumulate.get(name, 1)
        if size % parts:
            key = f" and execution.pretrain.accumulate.{name}" if name else ""
            raise ValueError(
                f"pretrain.batch_size {size} does not divide into {parts} equal parts, which "
                f"execution.pretrain.processes{key} ask for"
            )


def _check_grid(key: str, shape: Shape3, encoder: EncoderConfig) -> None:
    if any(s % p for s, p in zip(shape, encoder.patch_size, strict=True)):
        raise ValueError(
            f"{key} {shape} is not a multiple of encoder.patch_size {encoder.patch_size}"
        )


def _check_task(
    name: str, task: SegmentationTask | ClassificationTask, encoder: EncoderConfig
) -> None:
    if isinstance(task, SegmentationTask):
        _check_grid(f"finetune.tasks.{name}.roi", task.roi, encoder)
        size = encoder.patch_size[0]
        if len(set(encoder.patch_size)) > 1 or size & (size - 1) or size < 2:
            raise ValueError(
                f"encoder.patch_size {encoder.patch_size}: the segmentation network needs a cube "
                "whose side is a power of two"
            )
    elif task.data.resize is None:
        raise ValueError(f"finetune.tasks.{name}.data.resize: a classification task needs a shape")
    else:
        _check_grid(f"finetune.tasks.{name}.data.resize", task.data.resize, encoder)
