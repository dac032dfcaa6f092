"""Data sets, their preparation, and patch sequences."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from voxseq.config.base import (
    LARGEST_AXIS,
    LARGEST_INTENSITY,
    Axis,
    Distinct,
    Fraction,
    Model,
    Moderate,
    Name,
    NonNegative,
    NonNegativeFloat,
    Positive,
    Quantity,
    Shape3,
    Spacing3,
    Title,
)

Intensity = Annotated[float, Field(ge=-LARGEST_INTENSITY, le=LARGEST_INTENSITY)]
Window = tuple[Intensity, Intensity]
#: Values of a stored segmentation.
LabelValue = Annotated[int, Field(ge=0, le=255)]
#: Share of a kind of sequence, relative to the others.
Share = Annotated[NonNegativeFloat, Field(le=1e6)]
Codec = Literal["lz4", "lz4hc", "zstd"]


#: Voxels of a phantom along an axis: in fewer no anatomy is left.
Side = Annotated[Axis, Field(ge=8, le=512)]


class PhantomConfig(Model):
    """Size of the generated phantoms that stand for the data sets (demo and smoke scale)."""

    seed: NonNegative = 0
    volume_shape: tuple[Side, Side, Side] = (32, 32, 32)
    source_volumes: Quantity = Field(12, description="volumes of each spatial source")
    contrast_subjects: Quantity = 24
    lesions_per_category: Quantity = 12
    segmentation_cases: Quantity = Field(40, description="labelled cases of each MSD task and LA")
    classification_cases: tuple[Quantity, Quantity, Quantity] = (160, 60, 120)


class DataConfig(Model):
    """Where the volumes come from.

    ``root`` is the folder that holds the data sets in their public layouts; without it the
    phantoms are generated. The environment variable ``VOXSEQ_DATA`` overrides it. The folder's
    place is no part of any fingerprint; ``release`` is: change it when the files change.
    """

    root: str | None = Field(None, min_length=1)
    release: Title = "1"
    phantoms: PhantomConfig = PhantomConfig()
    fetch_at_most_gb: NonNegativeFloat = Field(
        0.0,
        le=1e6,
        description="a data set up to this size that the folder lacks and that needs no account is "
        "fetched; 0: none is",
    )
    min_valid_fraction: Fraction = Field(
        0.8, description="a data set with a smaller share of usable volumes stops the run"
    )
    split_seed: NonNegative = 0
    split_ratio: tuple[Fraction, Fraction, Fraction] = (0.7, 0.1, 0.2)
    validation_fraction: Fraction = Field(
        0.1, description="share of a published training list that is held out for validation"
    )

    @model_validator(mode="after")
    def _ratios_sum_to_one(self) -> DataConfig:
        if abs(sum(self.split_ratio) - 1.0) > 1e-6:
            raise ValueError(f"split_ratio sums to {sum(self.split_ratio):g}, expected 1")
        return self


#: Voxels of a chunk. Each is packed by itself, which takes longer than a few voxels are worth; a
#: gigabyte is half of what Blosc2 compresses at a time.
LEAST_CHUNK, LARGEST_CHUNK = 64, 2**28


class StoreConfig(Model):
    """Layout of the volume store."""

    chunk_shape: Shape3 = (16, 16, 16)
    codec: Codec = "lz4hc"
    compression_level: NonNegative = Field(5, le=9)
    locations_per_class: Quantity = Field(10_000, description="voxel positions kept per class")

    @model_validator(mode="after")
    def _chunk_is_sensible(self) -> StoreConfig:
        voxels = math.prod(self.chunk_shape)
        if not LEAST_CHUNK <= voxels <= LARGEST_CHUNK:
            raise ValueError(
                f"chunk_shape {self.chunk_shape} has {voxels} voxels, expected "
                f"{LEAST_CHUNK} to {LARGEST_CHUNK}"
            )
        return self


class SourceConfig(Model):
    """One pre-training source."""

    dataset: Name
    kind: Literal["spatial", "contrast", "semantic"]
    optional: bool = Field(
        False,
        description="whether pre-training does without it where the data root lacks it and it is "
        "not fetched; other sources must be left",
    )


class SpatialConfig(Model):
    """Patches along a sliding window over one volume (paper, section 3.1)."""

    crops_per_volume: Quantity = 50
    crop_shape: Shape3 = Field(
        (24, 24, 24), description="source voxels of a crop; a shorter axis is taken whole"
    )
    window_shape: Shape3 = Field(
        (16, 16, 16), description="voxels a crop is resized to; the window slides along the last"
    )
    stride: Positive = Field(2, description="step of the sliding window, in resized voxels")
    max_start: NonNegative | None = Field(
        None, description="largest start of the window (published: 63); null: as far as it fits"
    )
    weight: Share | None = None


class ContrastConfig(Model):
    """The same place in four MRI contrasts."""

    crops_per_subject: Quantity = 100
    crop_shape: Shape3 = (24, 24, 6)
    contrasts: Annotated[tuple[str, ...], Distinct] = ("t1n", "t1c", "t2w", "t2f")
    weight: Share | None = None


class SemanticConfig(Model):
    """Lesions of one category."""

    window: tuple[Axis, Axis] = Field(
        (32, 32), description="in-plane source voxels around the box centre"
    )
    draws_per_category: Quantity = 2000
    weight: Share | None = None


class SequencesConfig(Model):
    """Patch sequences. ``weight`` null everywhere: kinds are mixed by their number of sequences,
    as published; otherwise every used kind needs a weight."""

    volume_shape: Shape3 = Field(
        (16, 16, 16),
        description="voxels of a sequence: its patches joined along the last axis",
    )
    length: Axis = 4
    percentiles: tuple[float, float] = (1.0, 99.9)
    sources: tuple[SourceConfig, ...] = ()
    exclude: dict[Name, str] = Field(
        default_factory=dict,
        description="data set → file of subjects that are kept out of pre-training: one a line, "
        "or a CSV file with a column subject",
    )
    spatial: SpatialConfig = SpatialConfig()
    contrast: ContrastConfig = ContrastConfig()
    semantic: SemanticConfig = SemanticConfig()
    validation_every: Positive = Field(
        500, ge=2, description="every n-th sequence is for validation"
    )
    seed: NonNegative = 0

    @property
    def patch_shape(self) -> Shape3:
        """Voxels of one patch of the sequence."""
        x, y, z = self.volume_shape
        return (x, y, z // self.length)

    @model_validator(mode="after")
    def _geometry(self) -> SequencesConfig:
        x, y, z = self.volume_shape
        if z % self.length:
            raise ValueError(
                f"volume_shape: last axis {z} is not a multiple of length {self.length}"
            )
        check_stride(self.spatial.stride, self)
        if self.spatial.window_shape[:2] != (x, y):
            raise ValueError(
                f"spatial.window_shape {self.spatial.window_shape} and volume_shape "
                f"{self.volume_shape} must agree in the first two axes"
            )
        if len(self.contrast.contrasts) != self.length:
            raise ValueError(
                f"contrast.contrasts names {len(self.contrast.contrasts)} contrasts, "
                f"expected length = {self.length}"
            )
        low, high = self.percentiles
        if not 0 <= low < high <= 100:
            raise ValueError(f"percentiles {self.percentiles}: expected 0 <= low < high <= 100")
        repeated = sorted({s.dataset for s in self.sources if self.sources.count(s) > 1})
        if repeated:
            raise ValueError(f"sources names {', '.join(repeated)} more than once")
        strange = sorted(set(self.exclude) - {s.dataset for s in self.sources})
        if strange:
            raise ValueError(f"exclude names {', '.join(strange)}, which sources lacks")
        weights = {k: getattr(self, k).weight for k in {s.kind for s in self.sources}}
        given = [k for k, w in weights.items() if w is not None]
        if given and len(given) != len(weights):
            missing = sorted(set(weights) - set(given))
            raise ValueError(f"weight is given for {sorted(given)} but not for {missing}")
        return self


def check_stride(stride: int, sequences: SequencesConfig) -> None:
    """Raise ``ValueError`` when the last patch of a spatial sequence would leave the crop."""
    depth = sequences.spatial.window_shape[2]
    thickness = sequences.patch_shape[2]
    reach = stride * (sequences.length - 1) + thickness
    if reach > depth:
        most = (depth - thickness) // max(sequences.length - 1, 1)
        raise ValueError(
            f"spatial.stride {stride} overruns the crop: {sequences.length} patches of "
            f"{thickness} voxels reach {reach} of {depth}; expected a stride of at most {most}"
        )


#: Width of the narrowest window of intensities.
LEAST_WINDOW = 1e-3


class TaskDataConfig(Model):
    """How the volumes of a downstream task are prepared (published recipes)."""

    spacing: Spacing3 | None = Field(None, description="mm; null: as stored")
    resize: Shape3 | None = Field(None, description="voxels; whole volume resized to this shape")
    window: Window | None = Field(None, description="intensities mapped to 0..1 and clipped")
    normalise: Literal["window", "zscore", "none"] = "window"
    foreground_crop: bool = True
    crop_margin: NonNegative = Field(0, le=LARGEST_AXIS)
    merge_labels: dict[LabelValue, LabelValue] = Field(default_factory=dict)
    scale: Moderate = Field(1.0, description="intensities are divided by this first")

    @model_validator(mode="after")
    def _window_fits(self) -> TaskDataConfig:
        if self.normalise == "window":
            if self.window is None:
                raise ValueError("normalise: window needs window: [low, high]")
            if not self.window[1] - self.window[0] >= LEAST_WINDOW:
                raise ValueError(f"window {self.window}: expected low < high")
        if self.spacing is not None and self.resize is not None:
            raise ValueError("give spacing or resize, not both")
        return self
