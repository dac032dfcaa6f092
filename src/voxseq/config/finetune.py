"""The downstream tasks, studies and the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from voxseq.config.base import (
    Distinct,
    Model,
    Name,
    NonNegative,
    Positive,
    PositiveFloat,
    Shape3,
)
from voxseq.config.data import TaskDataConfig
from voxseq.config.merging import merge
from voxseq.config.model import OptimiserConfig

Seeds = Annotated[tuple[NonNegative, ...], Field(min_length=1), Distinct]
Names = Annotated[tuple[Name, ...], Distinct]


class TaskSource(Model):
    """What a task is called, where its volumes come from, and its two optimiser recipes."""

    title: str
    dataset: Name
    data: TaskDataConfig
    pretrained: OptimiserConfig = Field(description="recipe from a pre-trained encoder")
    scratch: OptimiserConfig = Field(description="recipe from random weights")


class SegmentationRecipe(Model):
    """What training and scoring of a segmentation task read."""

    type: Literal["segmentation"] = "segmentation"
    labels: tuple[str, ...] = Field(description="names of the foreground classes 1, 2, …")
    roi: Shape3
    crops_per_volume: Positive = 4
    volumes_per_batch: Positive = 4
    crop_sampling: Literal["uniform", "class_balanced"] = "class_balanced"
    augmentation: Literal["msd", "la", "none"] = "msd"
    class_weights: tuple[PositiveFloat, ...] | None = Field(
        None, description="cross-entropy weights, background first"
    )
    decoder_features: Positive = 16
    overlap: float = Field(0.75, ge=0.0, lt=1.0)
    score_grid: Literal["stored", "native"] = Field(
        "stored", description="Dice on the prepared grid (published) or on the file's own grid"
    )
    steps: Positive
    validate_every: Positive

    @model_validator(mode="after")
    def _labels_and_weights(self) -> Self:
        if not self.labels:
            raise ValueError("labels: expected at least one foreground class")
        if self.class_weights is not None and len(self.class_weights) != len(self.labels) + 1:
            raise ValueError(
                f"class_weights has {len(self.class_weights)} entries, expected "
                f"{len(self.labels) + 1}: the background and {', '.join(self.labels)}"
            )
        return self


class ClassificationRecipe(Model):
    """What training and scoring of a classification task read."""

    type: Literal["classification"] = "classification"
    labels: tuple[str, str]
    batch_size: Positive = 16
    augmentation: Literal["la", "nodule", "none"] = "nodule"
    class_balanced_loss: bool = False
    select_by: Literal["auc", "accuracy_plus_auc"] = "auc"
    steps: Positive
    validate_every: Positive


class SegmentationTask(TaskSource, SegmentationRecipe):
    """One segmentation task: UNETR on the encoder, scored by Dice."""

    def recipe(self) -> SegmentationRecipe:
        """The part that a training run reads."""
        fields = set(SegmentationRecipe.model_fields)
        return SegmentationRecipe.model_validate(self.model_dump(include=fields))


class ClassificationTask(TaskSource, ClassificationRecipe):
    """One classification task: mean-pooled tokens and a linear head, scored by AUC and accuracy."""

    def recipe(self) -> ClassificationRecipe:
        """The part that a training run reads."""
        fields = set(ClassificationRecipe.model_fields)
        return ClassificationRecipe.model_validate(self.model_dump(include=fields))


Task = Annotated[SegmentationTask | ClassificationTask, Field(discriminator="type")]


class FinetuneConfig(Model):
    """Fine-tuning of every method on every task."""

    seeds: Seeds = (0, 1, 2)
    precision: str = Field("32-true", pattern="^(32-true|bf16-mixed|16-mixed)$")
    threads: Positive = Field(1, description="CPU threads of one training; part of the result")
    log_every: Positive = 20
    checkpoint_every: Positive = 100
    runs_per_job: Positive = Field(12, description="runs that one workflow job does in turn")
    scratch: Names = Field(("unetr", "vit"), description="networks trained from random weights")
    tasks: dict[Name, Task] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _with_defaults(cls, content: Any) -> Any:
        """Lay each task over ``defaults.<its type>``, which saves repeating what tasks share."""
        if not isinstance(content, Mapping) or not isinstance(content.get("tasks"), Mapping):
            return content
        content = dict(content)
        defaults = content.pop("defaults", {})
        if not isinstance(defaults, Mapping) or set(defaults) - {"segmentation", "classification"}:
            raise ValueError("defaults: expected the keys segmentation and classification")
        if not all(isinstance(shared, Mapping) for shared in defaults.values()):
            raise ValueError("defaults: expected a mapping below segmentation and classification")
        content["tasks"] = {
            name: merge(defaults.get(str(task.get("type")), {}), task)
            if isinstance(task, Mapping)
            else task
            for name, task in content["tasks"].items()
        }
        return content
