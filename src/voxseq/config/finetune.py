"""The downstream tasks, studies and the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from voxseq.config.base import (
    Channels,
    Cores,
    Distinct,
    Model,
    Moderate,
    Name,
    NonNegative,
    Positive,
    Quantity,
    Shape3,
    Title,
)
from voxseq.config.data import TaskDataConfig
from voxseq.config.merging import merge
from voxseq.config.model import OptimiserConfig

Seeds = Annotated[tuple[NonNegative, ...], Field(min_length=1), Distinct]
Names = Annotated[tuple[Name, ...], Distinct]


#: On the way up each level has half of the channels of the one below.
_Level = Annotated[Channels, Field(ge=2)]
Features = tuple[_Level, _Level, _Level, _Level, _Level, _Level]
#: Halvings of the resolution in the 3D UNet.
UNET_LEVELS = 4


class UNet3DSettings(Model):
    """3D UNet: MONAI's ``BasicUNet``."""

    features: Features = Field(
        (32, 64, 128, 256, 512, 32),
        description="channels of the five levels, from full resolution down, and of the last block",
    )
    norm: Literal["instance", "batch"] = Field(
        "instance", description="instance norm needs more than one voxel at a sixteenth of the roi"
    )
    optimiser: OptimiserConfig | None = Field(
        None, description="in place of the task's recipe for random weights"
    )


class ResNetSettings(Model):
    """ResNet-18 in 3D, by MONAI."""

    stem: Literal["large", "small"] = Field(
        "large",
        description="large: 7³ convolution and max-pooling; small: 3³ convolution alone, for "
        "inputs of about 28³ (MedMNIST v2)",
    )
    width: float = Field(
        1.0, ge=1 / 16, le=4.0, description="factor of all channels, which are 64 to 512"
    )
    input_shape: Shape3 | None = Field(
        None,
        description="voxels to which prepared images are resized trilinearly; null: as they are",
    )
    optimiser: OptimiserConfig | None = Field(
        None, description="in place of the task's recipe for random weights"
    )


class NetworksConfig(Model):
    """Networks without the shared encoder; those with it take its geometry."""

    unet3d: UNet3DSettings = Field(UNet3DSettings(), description="3D UNet, for segmentation")
    resnet: ResNetSettings = Field(ResNetSettings(), description="ResNet-18, for classification")


class TaskSource(Model):
    """What a task is called, where its volumes come from, and how networks are trained on it."""

    title: Title
    dataset: Name
    data: TaskDataConfig
    pretrained: OptimiserConfig = Field(description="recipe from a pre-trained encoder")
    scratch: OptimiserConfig = Field(description="recipe from random weights")
    networks: NetworksConfig = Field(
        NetworksConfig(), description="laid over finetune.networks for this task"
    )
    precision: str | None = Field(
        None,
        pattern="^(32-true|bf16-mixed|16-mixed)$",
        description="arithmetic on this task; null: finetune.precision",
    )

    def network_settings(self, network: str) -> UNet3DSettings | ResNetSettings | None:
        """Settings of a network but its optimiser; none for those on the shared encoder."""
        settings: UNet3DSettings | ResNetSettings | None = getattr(self.networks, network, None)
        return settings and settings.model_copy(update={"optimiser": None})

    def optimiser_of(
        self, network: str, recipe: Literal["pretrained", "scratch"]
    ) -> OptimiserConfig:
        """The network's own recipe where it has one, else the task's."""
        own: OptimiserConfig | None = getattr(
            getattr(self.networks, network, None), "optimiser", None
        )
        return own or (self.pretrained if recipe == "pretrained" else self.scratch)


class SegmentationRecipe(Model):
    """What training and scoring of a segmentation task read."""

    type: Literal["segmentation"] = "segmentation"
    labels: Annotated[tuple[Title, ...], Distinct] = Field(
        max_length=255, description="names of the foreground classes 1, 2, …"
    )
    roi: Shape3
    crops_per_volume: Quantity = 4
    volumes_per_batch: Quantity = 4
    crop_sampling: Literal["uniform", "class_balanced"] = "class_balanced"
    augmentation: Literal["msd", "la", "none"] = "msd"
    class_weights: tuple[Moderate, ...] | None = Field(
        None, description="cross-entropy weights, background first"
    )
    decoder_features: Channels = 16
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
    labels: Annotated[tuple[Title, Title], Distinct]
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
    threads: Cores = Field(1, description="CPU threads of one training; part of the result")
    log_every: Positive = 20
    checkpoint_every: Positive = 100
    runs_per_job: Positive = Field(12, description="runs that one workflow job does in turn")
    scratch: Names = Field(
        ("unetr", "unet3d", "resnet", "vit"), description="networks trained from random weights"
    )
    tasks: dict[Name, Task] = Field(
        description="the downstream tasks; none: the study ends with pre-training"
    )
    networks: NetworksConfig = Field(
        NetworksConfig(), description="settings of networks without the shared encoder, all tasks"
    )

    @model_validator(mode="before")
    @classmethod
    def _with_defaults(cls, content: Any) -> Any:
        """Lay each task over ``defaults.<its type>``, and its networks over ``networks``.

        This saves repeating what tasks share.
        """
        if not isinstance(content, Mapping) or not isinstance(content.get("tasks"), Mapping):
            return content
        content = dict(content)
        defaults = content.pop("defaults", {})
        if not isinstance(defaults, Mapping) or set(defaults) - {"segmentation", "classification"}:
            raise ValueError("defaults: expected the keys segmentation and classification")
        if not all(isinstance(part, Mapping) for part in defaults.values()):
            raise ValueError("defaults: expected a mapping below segmentation and classification")
        networks = content.get("networks", {})
        shared = {"networks": networks} if isinstance(networks, Mapping) else {}
        content["tasks"] = {
            name: merge(merge(shared, defaults.get(str(task.get("type")), {})), task)
            if isinstance(task, Mapping)
            else task
            for name, task in content["tasks"].items()
        }
        return content

    @model_validator(mode="after")
    def _networks_fit(self) -> Self:
        for name, task in self.tasks.items():
            if isinstance(task, SegmentationTask) and "unet3d" in self.scratch:
                check_unet3d(f"tasks.{name}", task, task.networks.unet3d)
            if isinstance(task, ClassificationTask) and "resnet" in self.scratch:
                check_resnet(f"tasks.{name}", task)
        return self


def check_unet3d(key: str, recipe: SegmentationRecipe, settings: UNet3DSettings) -> None:
    """Refuse a roi that the 3D UNet cannot be trained on.

    Raises:
        ValueError: an axis is gone after four halvings, or too little is left for the norm.
    """
    bottom = [size // 2**UNET_LEVELS for size in recipe.roi]
    if min(bottom) < 1:
        raise ValueError(
            f"{key}.roi {recipe.roi}: the 3D UNet halves the resolution {UNET_LEVELS} times, "
            f"every axis needs {2**UNET_LEVELS} voxels or more"
        )
    crops = recipe.crops_per_volume * recipe.volumes_per_batch
    values = max(bottom) * (crops if settings.norm == "batch" else 1)
    if values < 2:
        raise ValueError(
            f"{key}.roi {recipe.roi}: at the bottom of the 3D UNet one voxel is left, which "
            f"{settings.norm} norm maps to zero; use a roi with an axis of {2**UNET_LEVELS * 2} "
            "or more, or networks.unet3d.norm: batch with several crops in a batch"
        )


def check_resnet(key: str, recipe: ClassificationRecipe) -> None:
    """Refuse single images, of which batch norm has no statistics worth the name.

    Raises:
        ValueError: ``batch_size`` is 1.
    """
    if recipe.batch_size < 2:
        raise ValueError(f"{key}.batch_size 1: the batch norm of the ResNet needs 2 or more")
