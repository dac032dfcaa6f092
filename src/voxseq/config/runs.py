"""Configuration of each kind of run: the part that its fingerprint covers.

The plan makes these models and stages receive them as they are; ``config.json`` of a run's folder
holds the same as JSON values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, SerializeAsAny

from voxseq.config.base import Model, Shape3
from voxseq.config.data import (
    ChosenChannels,
    PhantomConfig,
    SequencesConfig,
    SourceConfig,
    StoreConfig,
    TaskDataConfig,
)
from voxseq.config.finetune import (
    ClassificationRecipe,
    Recipe,
    RegressionRecipe,
    ResNetSettings,
    UNet3DSettings,
)
from voxseq.config.methods.base import MethodSettings
from voxseq.config.model import EncoderConfig, OptimiserConfig, PretrainTraining
from voxseq.config.outside import OutsideFacts
from voxseq.config.task_types import TaskType

NetworkSettings = UNet3DSettings | ResNetSettings

if TYPE_CHECKING:
    from voxseq.config.datasets import DataConfig


def _is_empty(value: object) -> bool:
    """Whether a field is left out of the JSON of a run: most have none."""
    return not value


class SplitSettings(Model):
    """How the images of a task are divided where no lists are published.

    Attributes:
        pictures: whether images that show the same picture are looked for, which takes longer than
            all the rest for hundreds of images that are alike.
    """

    seed: int
    ratio: tuple[float, float, float]
    validation_fraction: float
    pictures: bool = True

    @classmethod
    def of(cls, data: DataConfig) -> SplitSettings:
        """Those of a configuration."""
        return cls(
            seed=data.split_seed,
            ratio=data.split_ratio,
            validation_fraction=data.validation_fraction,
        )


class OwnFacts(Model):
    """One of a user's own data sets, as :func:`voxseq.config.sets.own_facts` makes it.

    Attributes:
        facts: those that decide about results.
        place: its folder, its title and the path of its split: no part of a fingerprint.
    """

    facts: dict[str, Any]
    place: dict[str, str] = Field(exclude=True)


class TaskNeeds(Model):
    """Requirements of a task on the images of its data set.

    Attributes:
        labels: number of foreground classes of a segmentation, of classes of a classification;
            0 for a regression.
        splits: parts that must suffice for the task.
        ignore_label: value in label files of voxels without a known class, if any.
    """

    type: TaskType
    labels: int
    splits: tuple[str, ...] = ()
    ignore_label: int | None = None


class ExamineRun(Model):
    """Finding and checking the images of one data set.

    Attributes:
        optional: whether pre-training does without the data set where it is absent.
        phantoms: what is generated; ``None`` for real data.
        task: the task that uses the data set, if any.
        own: facts of a data set of the user; ``None`` for one of the catalogue.
        lists: one word for the content of the lists that a data set of the user is read by.
    """

    dataset: str
    own: OwnFacts | None = Field(None, exclude_if=_is_empty)
    lists: str = Field("", exclude_if=_is_empty)
    release: str = "1"
    optional: bool = False
    phantoms: PhantomConfig | None = None
    min_valid_fraction: float
    split: SplitSettings
    task: TaskNeeds | None = None


class TaskPreparation(TaskNeeds):
    """How the images of a task are prepared."""

    data: TaskDataConfig
    native_labels: bool = False


class PrepareRun(Model):
    """Writing the store of one data set.

    Attributes:
        task: the recipe; ``None`` for a source of pre-training.
        own: as in :class:`ExamineRun`.
        channels: of a source, those of its images that become volumes; ``None``: all. A task's are
            part of its recipe.
    """

    dataset: str
    own: OwnFacts | None = Field(None, exclude_if=_is_empty)
    store: StoreConfig
    channels: ChosenChannels | None = None
    task: TaskPreparation | None = None


class SpatialCrops(Model):
    """Which crops of a volume the window slides along."""

    crops_per_volume: int
    crop_shape: Shape3
    window_shape: Shape3


class ContrastCrops(Model):
    """Which places of a subject are read in all contrasts."""

    crops_per_subject: int
    crop_shape: Shape3
    contrasts: tuple[str, ...]


class SemanticDraws(Model):
    """Which lesions of a category form sequences."""

    window: tuple[int, int]
    draws_per_category: int


class SequencesRun(Model):
    """Building the sequence index.

    Strides and mixing weights act when a sequence is read, so they belong to pre-training. The
    shapes that crops are resized to, and the percentiles, are those of the ranges in the index.

    Attributes:
        exclude: data set → subjects that are left out by name.
        exclude_files: data set → file of that list, for messages: no part of the fingerprint.
    """

    sources: tuple[SourceConfig, ...]
    exclude: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    exclude_files: dict[str, str] = Field(default_factory=dict, exclude=True)
    spatial: SpatialCrops
    contrast: ContrastCrops
    semantic: SemanticDraws
    length: int
    patch_shape: Shape3
    percentiles: tuple[float, float]
    validation_every: int
    seed: int


class PretrainRun(PretrainTraining):
    """Pre-training of one method.

    Attributes:
        seed: of initial weights, draws and augmentation.
        kinds: kinds of sequence that are drawn from.
        licences: data set → licence of its images, for the encoder's record: no part of the
            fingerprint.
    """

    licences: dict[str, str] = Field(default_factory=dict, exclude=True)
    method: str
    seed: int = 0
    settings: SerializeAsAny[MethodSettings]
    encoder: EncoderConfig
    sequences: SequencesConfig
    kinds: tuple[str, ...]


class AdoptRun(Model):
    """Turning the file of an encoder that was trained elsewhere into an encoder of the study.

    Attributes:
        method: name of its row.
        file: its place, for reading and for messages: no part of the fingerprint.
        sha256: of the file.
        encoder: geometry of the study, which it must have.
    """

    method: str
    file: str = Field(exclude=True)
    sha256: str
    facts: OutsideFacts
    encoder: EncoderConfig


class TaskRun(Model):
    """Settings of all runs on a downstream task."""

    task: str
    recipe: Annotated[Recipe, Field(discriminator="type")]
    method: str
    seed: int
    ratio: float
    threads: int


class BaselineRun(TaskRun):
    """Scoring the baseline that ``method`` names."""


class EncoderRun(TaskRun):
    """A run on a downstream task that starts from an encoder.

    Attributes:
        pretrained: id of the run whose encoder is loaded; ``None``: random initialisation.
        channels: number of channels of the task's images.
    """

    encoder: EncoderConfig
    channels: int = 1
    pretrained: str | None


class ProbeRun(EncoderRun):
    """A linear probe of an encoder."""

    recipe: Annotated[ClassificationRecipe | RegressionRecipe, Field(discriminator="type")]


class ModelFacts(Model):
    """Facts that a kept network is written with, beside those of its run.

    Attributes:
        title: of the task.
        dataset: name of its data set.
        licence: of its images, which is no part of the fingerprint.
        inputs: names of all channels of an image of the data set.
        channels: names of those that the network sees, in its order.
        data: preparation of an image.
    """

    title: str
    dataset: str
    licence: str = Field("", exclude=True)
    inputs: tuple[str, ...] = ("image",)
    channels: tuple[str, ...] = ("image",)
    data: TaskDataConfig


class FinetuneRun(EncoderRun):
    """Fine-tuning of one network.

    Attributes:
        network_settings: of a network without the shared encoder.
        trained: "decoder" with a frozen encoder.
        kept: facts to write with the selected network; ``None``: it is not kept.
    """

    network: str
    network_settings: NetworkSettings | None
    trained: Literal["all", "decoder"]
    optimiser: OptimiserConfig
    precision: str
    log_every: int
    checkpoint_every: int
    kept: ModelFacts | None = None
