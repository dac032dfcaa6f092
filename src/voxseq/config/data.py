"""Data sets, their preparation, and patch sequences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal, cast

from pydantic import Discriminator, Field, Tag, model_validator

from voxseq.config.base import (
    LARGEST_AXIS,
    LARGEST_INTENSITY,
    Axis,
    Distinct,
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
#: One window, or one for each channel; the tags are no levels of a file.
Windows = Annotated[
    Annotated[Window, Tag("_one")]
    | Annotated[Annotated[tuple[Window, ...], Field(min_length=1)], Tag("_each")],
    Discriminator(lambda value: "_each" if _is_nested(value) else "_one"),
]
#: Channels of an image by number, from 0, or by name.
ChosenChannels = Annotated[tuple[NonNegative | Title, ...], Distinct, Field(min_length=1)]


def _is_nested(value: object) -> bool:
    return isinstance(value, list | tuple) and any(isinstance(one, list | tuple) for one in value)


#: Values of a stored segmentation.
LabelValue = Annotated[int, Field(ge=0, le=255)]
#: Value of voxels without a known class, in prepared labels: they carry neither loss nor score.
IGNORED = 255
#: Share of a kind of sequence, relative to the others.
Share = Annotated[NonNegativeFloat, Field(le=1e6)]
Codec = Literal["lz4", "lz4hc", "zstd"]


#: First line of everything that is made of generated data: tables, figures, pages, logs.
PHANTOMS = "Data: generated phantoms, not real volumes."
#: Voxels of a phantom along an axis: in fewer no anatomy is left.
Side = Annotated[Axis, Field(ge=8, le=512)]


class PhantomConfig(Model):
    """Size of the generated phantoms that stand for the data sets (demo and smoke scale)."""

    seed: NonNegative = 0
    """seed of all phantoms"""
    volume_shape: tuple[Side, Side, Side] = (32, 32, 32)
    """voxels of a whole phantom"""
    source_volumes: Quantity = 12
    """volumes of each spatial source"""
    contrast_subjects: Quantity = 24
    """subjects with four aligned MRI contrasts"""
    lesions_per_category: Quantity = 12
    """lesions of each of the eight types"""
    segmentation_cases: Quantity = 40
    """labelled cases of each MSD task and LA"""
    classification_cases: tuple[Quantity, Quantity, Quantity] = (160, 60, 120)
    """training, validation and test cases of each classification task"""


def listed_test(cases: int) -> int:
    """Phantoms of LA that its test.list names: two fifths, where the published list has a fifth,
    so that the test tells methods apart; of one case none."""
    return max(1, round(0.4 * cases)) if cases > 1 else 0


#: Voxels of a chunk. Each is packed by itself, which takes longer than a few voxels are worth; a
#: gigabyte is half of what Blosc2 compresses at a time.
LEAST_CHUNK, LARGEST_CHUNK = 64, 2**28


class StoreConfig(Model):
    """Layout of the volume store."""

    chunk_shape: Shape3 = (16, 16, 16)
    """voxels that are compressed, and read, together"""
    codec: Codec = "lz4hc"
    """lz4hc: fastest to read; lz4: as fast to read, faster to write, larger files; zstd: smallest
    files, twice as slow to read"""
    compression_level: NonNegative = Field(5, le=9)
    """0: none, 9: smallest files"""
    locations_per_class: Quantity = 10_000
    """voxel positions kept per class"""

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
    """a data set of data.sets or of the catalogue, see docs/datasets.md"""
    kind: Literal["spatial", "contrast", "semantic"]
    """kind of sequence that is made of it"""
    channels: ChosenChannels | None = None
    """of images of several channels, those that are used, by number from 0 or by name; each is a
    volume of its own; null: all"""
    optional: bool = False
    """whether pre-training does without it where the data root lacks it and it is not fetched;
    other sources must be left"""


class SpatialConfig(Model):
    """Patches along a sliding window over one volume (paper, section 3.1)."""

    crops_per_volume: Quantity = 50
    """two thirds of it for a volume thinner than the crop (published)"""
    crop_shape: Shape3 = (24, 24, 24)
    """source voxels of a crop; a shorter axis is taken whole"""
    window_shape: Shape3 = (16, 16, 16)
    """voxels a crop is resized to; the window slides along the last. Also the voxels of the single
    images of methods without sequences"""
    stride: Positive = 2
    """step of the sliding window, in resized voxels"""
    max_start: NonNegative | None = None
    """largest start of the window (published: 63); null: as far as it fits"""
    weight: Share | None = None
    """share of these sequences in a batch, relative to the other kinds"""


class ContrastConfig(Model):
    """The same place in four MRI contrasts."""

    crops_per_subject: Quantity = 100
    """places of each subject"""
    crop_shape: Shape3 = (24, 24, 6)
    """source voxels of a crop, the same in every contrast"""
    contrasts: Annotated[tuple[str, ...], Distinct] = ("t1n", "t1c", "t2w", "t2f")
    """in the order of the sequence; as many as its length"""
    weight: Share | None = None
    """share of these sequences in a batch, relative to the other kinds"""


class SemanticConfig(Model):
    """Lesions of one category."""

    window: tuple[Axis, Axis] = (32, 32)
    """in-plane source voxels around the box centre"""
    draws_per_category: Quantity = 2000
    """sequences of each lesion category (published: 20000)"""
    weight: Share | None = None
    """share of these sequences in a batch, relative to the other kinds"""


class SequencesConfig(Model):
    """Patch sequences. ``weight`` null everywhere: kinds are mixed by their number of sequences,
    as published; otherwise every used kind needs a weight."""

    volume_shape: Shape3 = (16, 16, 16)
    """voxels of a sequence: its patches joined along the last axis"""
    length: Axis = 4
    """patches of a sequence (paper: 4)"""
    percentiles: tuple[float, float] = (1.0, 99.9)
    """of each crop, mapped to 0 and 1"""
    sources: tuple[SourceConfig, ...] = ()
    """data sets and the kind of sequence that each gives"""
    exclude: dict[Name, str] = Field(default_factory=dict)
    """data set → file of subjects that are kept out of pre-training: one per line, or a CSV file
    with a column subject"""
    spatial: SpatialConfig = SpatialConfig()
    """sequences along space"""
    contrast: ContrastConfig = ContrastConfig()
    """sequences along MRI contrast"""
    semantic: SemanticConfig = SemanticConfig()
    """sequences of lesions of one category"""
    validation_every: Positive = Field(500, ge=2)
    """every n-th sequence is for validation"""
    seed: NonNegative = 0
    """seed of the places of crops and of the draws of lesions"""

    @property
    def patch_shape(self) -> Shape3:
        """Voxels of one patch of the sequence."""
        x, y, z = self.volume_shape
        return (x, y, z // self.length)

    @property
    def image_shape(self) -> Shape3:
        """Voxels of a single image, for methods without sequences: a crop, undistorted."""
        return self.spatial.window_shape

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

    spacing: Spacing3 | None = None
    """mm; null: as stored"""
    resize: Shape3 | None = None
    """voxels; whole volume resized to this shape"""
    channels: ChosenChannels | None = None
    """channels of the images that are used, by number from 0 or by name, in this order; null: all
    of the data set"""
    window: Windows | None = None
    """intensities mapped to 0..1 and clipped; one window, or one for each channel that is used"""
    normalise: Literal["window", "zscore", "none"] = "window"
    """window: map the window to 0..1; zscore: whole-volume mean 0 and sd 1; none: values as they
    are; each channel by itself"""
    foreground_crop: bool = True
    """cut to the box of voxels above the window's lower end; without window, above the minimum; of
    any channel"""
    crop_margin: NonNegative = Field(0, le=LARGEST_AXIS)
    """voxels kept around that box"""
    merge_labels: dict[LabelValue, LabelValue] = Field(default_factory=dict)
    """label value: value it becomes, before training and scoring"""
    scale: Moderate = 1.0
    """intensities are divided by this first"""

    @model_validator(mode="after")
    def _window_fits(self) -> TaskDataConfig:
        if self.normalise == "window":
            if self.window is None:
                raise ValueError("normalise: window needs window: [low, high]")
            for low, high in self._windows:
                if not high - low >= LEAST_WINDOW:
                    raise ValueError(f"window {(low, high)}: expected low < high")
        if self.spacing is not None and self.resize is not None:
            raise ValueError("give spacing or resize, not both")
        return self

    @property
    def _windows(self) -> tuple[Window, ...]:
        """The windows as they are given: none, one, or one for each channel."""
        if self.window is None or _is_nested(self.window):
            return cast(tuple[Window, ...], self.window or ())
        return (cast(Window, self.window),)

    @property
    def first_window(self) -> Window | None:
        """The window of the first channel; None where intensities are not mapped by one."""
        return self._windows[0] if self.normalise == "window" and self._windows else None

    def windows(self, channels: int) -> list[Window | None]:
        """The window of each channel; None where intensities are not mapped by one.

        Raises:
            ValueError: another number of windows is given.
        """
        if self.first_window is None or not _is_nested(self.window):
            return [self.first_window] * channels
        if len(self._windows) != channels:
            raise ValueError(
                f"window has {len(self._windows)} entries, but {channels} channels are used"
            )
        return [*self._windows]


def chosen_channels(names: Sequence[str], chosen: Sequence[int | str] | None) -> list[int]:
    """Numbers, from 0, of chosen channels.

    Args:
        names: of all channels of a data set.
        chosen: numbers or names; None: all.

    Raises:
        ValueError: there is no such channel, or one is chosen twice.
    """
    if chosen is None:
        return list(range(len(names)))
    held = f"it has {len(names)}" + (f": {', '.join(names)}" if len(names) > 1 else "")
    numbers = []
    for one in chosen:
        number = names.index(one) if one in names else one
        if isinstance(number, str) or number >= len(names):
            raise ValueError(f"there is no channel {one!r}; {held}")
        if number in numbers:
            raise ValueError(f"the channel {one!r} is chosen twice")
        numbers.append(number)
    return numbers
