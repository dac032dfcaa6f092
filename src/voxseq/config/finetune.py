"""The downstream tasks, studies and the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, model_validator

from voxseq.config.base import (
    Channels,
    Cores,
    Distinct,
    Millimetres,
    Model,
    Moderate,
    Name,
    Positive,
    Quantity,
    Shape3,
    Title,
)
from voxseq.config.data import IGNORED, TaskDataConfig
from voxseq.config.model import OptimiserConfig, Precision
from voxseq.config.outside import OutsideEncoder
from voxseq.config.overlay import merge
from voxseq.config.task_types import TaskType

Names = Annotated[tuple[Name, ...], Distinct]


#: On the way up each level has half of the channels of the one below.
_Level = Annotated[Channels, Field(ge=2)]
Features = tuple[_Level, _Level, _Level, _Level, _Level, _Level]
#: Halvings of the resolution in the 3D UNet.
UNET_LEVELS = 4


class UNet3DSettings(Model):
    """3D UNet: MONAI's ``BasicUNet``."""

    features: Features = (32, 64, 128, 256, 512, 32)
    """channels of the five levels, from full resolution down, and of the last block"""
    norm: Literal["instance", "batch"] = "instance"
    """instance norm needs more than one voxel at a sixteenth of the roi"""
    optimiser: OptimiserConfig | None = None
    """in place of the task's recipe for random weights"""


class ResNetSettings(Model):
    """ResNet-18 in 3D, by MONAI."""

    stem: Literal["large", "small"] = "large"
    """large: 7³ convolution and max-pooling; small: 3³ convolution alone, for inputs of about 28³
    (MedMNIST v2)"""
    width: float = Field(1.0, ge=1 / 16, le=4.0)
    """factor of all channels, which are 64 to 512"""
    input_shape: Shape3 | None = None
    """voxels to which prepared images are resized trilinearly; null: as they are"""
    optimiser: OptimiserConfig | None = None
    """in place of the task's recipe for random weights"""


class NetworksConfig(Model):
    """Networks without the shared encoder; those with it take its geometry."""

    unet3d: UNet3DSettings = UNet3DSettings()
    """3D UNet, for segmentation"""
    resnet: ResNetSettings = ResNetSettings()
    """ResNet-18, for classification and regression"""


class TaskSource(Model):
    """Name of a task, source of its volumes, and training of networks on it."""

    title: Title
    """name in the tables"""
    dataset: Name
    """a data set of data.sets or of the catalogue, see docs/datasets.md"""
    data: TaskDataConfig
    """preparation of the volumes; classification and regression need resize"""
    pretrained: OptimiserConfig
    """recipe from a pre-trained encoder"""
    scratch: OptimiserConfig
    """recipe from random weights"""
    networks: NetworksConfig = NetworksConfig()
    """laid over finetune.networks for this task"""
    precision: Precision | None = None
    """arithmetic on this task; null: finetune.precision"""

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
    """Settings of training and scoring of a segmentation task."""

    type: Literal["segmentation"] = "segmentation"
    """kind of task"""
    labels: Annotated[tuple[Title, ...], Distinct] = Field(max_length=IGNORED - 1)
    """names of the foreground classes 1, 2, …"""
    ignore_label: int | None = Field(None, gt=0, le=IGNORED)
    """value in the label files of voxels without a known class: no loss, no score, no centre of a
    crop; null: none"""
    roi: Shape3
    """voxels of a training crop and of the sliding window; multiples of the token"""
    crops_per_volume: Quantity = 4
    """crops of each volume of a batch"""
    volumes_per_batch: Quantity = 4
    """volumes of a step"""
    crop_sampling: Literal["uniform", "class_balanced"] = "class_balanced"
    """class_balanced: centred on a voxel of a class drawn with equal chances; uniform: anywhere"""
    augmentation: Literal["msd", "la", "unflipped", "none"] = "msd"
    """chain of random transforms: that of the MSD tasks, that of LA, the latter without its flips
    (for structures that their side tells apart, such as spleen and liver), or none"""
    class_weights: tuple[Moderate, ...] | None = None
    """cross-entropy weights, background first"""
    decoder_features: Channels = 16
    """channels of the decoder at full resolution"""
    overlap: float = Field(0.75, ge=0.0, lt=1.0)
    """share of a sliding window that its neighbour covers too"""
    score_grid: Literal["stored", "native"] = "stored"
    """Dice on the prepared grid (published) or on the file's own grid"""
    surface: bool = False
    """also score normalised surface Dice and the 95 % Hausdorff distance (mm), on the file's own
    grid"""
    surface_tolerance: Millimetres | tuple[Millimetres, ...] = 2.0
    """mm within which a surface counts as met, of all classes or of each; usual are 1 mm for small
    structures such as the hippocampus to 7 mm for the liver: about as far as readers differ"""
    steps: Positive
    """optimiser steps"""
    validate_every: Positive
    """steps between validations; the weights with the best mean Dice are kept"""

    @model_validator(mode="after")
    def _labels_and_weights(self) -> Self:
        if not self.labels:
            raise ValueError("labels: expected at least one foreground class")
        if self.class_weights is not None and len(self.class_weights) != len(self.labels) + 1:
            raise ValueError(
                f"class_weights has {len(self.class_weights)} entries, expected "
                f"{len(self.labels) + 1}: the background and {', '.join(self.labels)}"
            )
        if self.ignore_label is not None and self.ignore_label <= len(self.labels):
            raise ValueError(
                f"ignore_label {self.ignore_label} is the value of "
                f"{self.labels[self.ignore_label - 1]!r}; expected one above {len(self.labels)}"
            )
        tolerance = self.surface_tolerance
        if isinstance(tolerance, tuple) and len(tolerance) != len(self.labels):
            raise ValueError(
                f"surface_tolerance has {len(tolerance)} entries, expected one number or "
                f"{len(self.labels)}: {', '.join(self.labels)}"
            )
        return self

    @property
    def outputs(self) -> int:
        """Output channels of the network: the background and the classes."""
        return len(self.labels) + 1

    @property
    def tolerances(self) -> tuple[float, ...]:
        """Tolerance in mm of each class."""
        given = self.surface_tolerance
        return given if isinstance(given, tuple) else (given,) * len(self.labels)

    @property
    def needs_native_labels(self) -> bool:
        """Whether scores are taken on the files' own grid."""
        return self.surface or self.score_grid == "native"


class ClassificationRecipe(Model):
    """Settings of training and scoring of a classification task."""

    type: Literal["classification"] = "classification"
    """kind of task"""
    labels: Annotated[tuple[Title, ...], Distinct] = Field(min_length=2, max_length=255)
    """names of the classes 0, 1, …"""
    batch_size: Positive = 16
    """images of a step"""
    augmentation: Literal["la", "unflipped", "nodule", "none"] = "nodule"
    """chain of random transforms: that of LA and RICORD, the same without its flips, flips only,
    or none"""
    class_balanced_loss: bool = False
    """mean cross-entropy of each class in the batch, summed and divided by the number of classes
    (RICORD, published code)"""
    select_by: Literal["auc", "accuracy_plus_auc"] = "auc"
    """validation score by which the weights are chosen; auc: of more than two classes the mean of
    each one against the rest"""
    steps: Positive
    """optimiser steps"""
    validate_every: Positive
    """steps between validations"""

    @property
    def outputs(self) -> int:
        """Outputs of the network: the classes."""
        return len(self.labels)


class RegressionRecipe(Model):
    """Settings of training and scoring of a regression task.

    The loss is smooth L1 of the target, standardised by the training cases' mean and standard
    deviation.
    """

    type: Literal["regression"] = "regression"
    """kind of task"""
    target: Title
    """name of the number that is predicted"""
    unit: Annotated[str, Field(max_length=20)] = ""
    """its unit"""
    batch_size: Positive = 16
    """images of a step"""
    augmentation: Literal["la", "unflipped", "nodule", "none"] = "nodule"
    """chain of random transforms: that of LA and RICORD, the same without its flips, flips only,
    or none"""
    select_by: Literal["mae", "r2"] = "mae"
    """validation score by which the weights are chosen: least mean absolute error, or greatest
    share of the variance that is explained"""
    steps: Positive
    """optimiser steps"""
    validate_every: Positive
    """steps between validations"""

    @property
    def labels(self) -> tuple[str, ...]:
        """No classes."""
        return ()

    @property
    def outputs(self) -> int:
        """Outputs of the network: one number."""
        return 1


class SegmentationTask(TaskSource, SegmentationRecipe):
    """One segmentation task: UNETR on the encoder, scored by Dice."""

    def recipe(self) -> SegmentationRecipe:
        """The part that a training run reads."""
        fields = set(SegmentationRecipe.model_fields)
        return SegmentationRecipe.model_validate(self.model_dump(include=fields))


class ClassificationTask(TaskSource, ClassificationRecipe):
    """One classification task: mean-pooled tokens and a linear head, scored by AUC and accuracy.

    More than two classes are scored by the mean AUC of each class against the rest.
    """

    def recipe(self) -> ClassificationRecipe:
        """The part that a training run reads."""
        fields = set(ClassificationRecipe.model_fields)
        return ClassificationRecipe.model_validate(self.model_dump(include=fields))


class RegressionTask(TaskSource, RegressionRecipe):
    """One regression task: mean-pooled tokens and a linear head, scored by the mean absolute error.

    R² and the correlation are reported too.
    """

    def recipe(self) -> RegressionRecipe:
        """The part that a training run reads."""
        fields = set(RegressionRecipe.model_fields)
        return RegressionRecipe.model_validate(self.model_dump(include=fields))


Recipe = SegmentationRecipe | ClassificationRecipe | RegressionRecipe
Task = Annotated[
    SegmentationTask | ClassificationTask | RegressionTask, Field(discriminator="type")
]


class FinetuneConfig(Model):
    """Fine-tuning of every method on every task."""

    precision: Precision = "32-true"
    """arithmetic of forward and backward passes"""
    threads: Cores = 1
    """CPU threads of one training; part of the result"""
    log_every: Positive = 20
    """steps between entries of metrics.csv"""
    checkpoint_every: Positive = 100
    """steps between checkpoints"""
    runs_per_job: Positive = 12
    """runs that one workflow job does in turn"""
    keep_models: Literal["one_seed", "all", "none"] = "one_seed"
    """trained networks that are kept, for `voxseq predict`. one_seed: of every method and task
    the one of seed 0; all: those of all seeds, for ensembles; none. Runs on a share of the
    labels, of the ablation and of rows beyond the paper keep none"""
    scratch: Names = ("unetr", "unet3d", "resnet", "vit")
    """networks trained from random weights"""
    encoders: dict[Name, OutsideEncoder] = Field(default_factory=dict)
    """encoders trained elsewhere: name of the row: its file, see docs/exporting.md"""
    tasks: dict[Name, Task] = Field(default_factory=dict)
    """the downstream tasks; none: the study ends with pre-training"""
    networks: NetworksConfig = NetworksConfig()
    """settings of networks without the shared encoder, all tasks"""

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
        types = get_args(TaskType)
        if not isinstance(defaults, Mapping) or set(defaults) - set(types):
            raise ValueError(f"defaults: expected the keys {', '.join(types)}")
        if not all(isinstance(part, Mapping) for part in defaults.values()):
            raise ValueError(f"defaults: expected a mapping below each of {', '.join(types)}")
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
            if not isinstance(task, SegmentationTask) and "resnet" in self.scratch:
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


def check_resnet(key: str, recipe: ClassificationRecipe | RegressionRecipe) -> None:
    """Refuse single images, of which batch norm has no statistics worth the name.

    Raises:
        ValueError: ``batch_size`` is 1.
    """
    if recipe.batch_size < 2:
        raise ValueError(f"{key}.batch_size 1: the batch norm of the ResNet needs 2 or more")
