"""How many images each data set gives, and how large they are, before any of them is here.

They are what the catalogue states, else assumes, as it does all shapes; phantoms are counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from voxseq.catalogue import DataSet
from voxseq.catalogue.splits import part_sizes
from voxseq.config import Config
from voxseq.config.base import Shape3, Spacing3
from voxseq.config.data import SourceConfig, TaskDataConfig, chosen_channels, listed_test

#: Of phantoms: contrasts of a subject, types of lesions, mm of a voxel.
_CONTRASTS, _CATEGORIES, _SPACING = 4, 8, 3.0
#: Images of a user's own data set that does not say how many it has.
_OWN_VOLUMES = 100


@dataclass(frozen=True)
class Content:
    """Expected contents of a data set.

    Attributes:
        volumes: images, or the lesions of DeepLesion.
        shape: voxels of a typical one.
        spacing: mm.
        ct_share: share of the images that are CT.
        download: bytes over the network; None where nothing is known.
        assumed: what of this the catalogue assumes: "images", "download".
    """

    volumes: int
    shape: Shape3
    spacing: Spacing3
    ct_share: float
    download: int | None
    assumed: tuple[str, ...] = ()

    @property
    def voxels(self) -> float:
        """Voxels of all images."""
        return float(self.volumes) * math.prod(self.shape)


def content(dataset: str, config: Config) -> Content:
    """Contents of ``dataset``: by its facts, or the phantoms that stand for it."""
    row = config.data.dataset(dataset)
    ct_share = float(row.modality == "CT")
    if row.ct_volumes is not None and row.volumes:
        ct_share = row.ct_volumes / row.volumes
    # Where files state no spacing, the row does.
    own = row.options.get("spacing")
    if config.data.is_phantom(dataset):
        shape = config.data.phantoms.volume_shape
        return Content(_phantoms(row, config), shape, own or (_SPACING,) * 3, ct_share, 0)
    guess = row.assumed
    spacing = guess.spacing or own or (0.8, 0.8, 2.0)
    assumed_volumes = guess.volumes or (_OWN_VOLUMES if row.own else 0)
    volumes = assumed_volumes if row.volumes is None else row.volumes
    size = guess.size if row.size is None else row.size
    stated = {"images": row.volumes, "download": row.size}
    if row.own:
        # It is here already.
        size, stated = 0, {"images": row.volumes}
    assumed = tuple(name for name, value in stated.items() if value is None)
    return Content(volumes, guess.shape, spacing, ct_share, size, assumed)


def channels_of(dataset: DataSet, chosen: Sequence[int | str] | None) -> int:
    """Channels of an image of ``dataset`` that are used; ``chosen`` as in a configuration."""
    return len(chosen_channels(dataset.channels, chosen))


def _phantoms(row: DataSet, config: Config) -> int:
    phantoms = config.data.phantoms
    if row.role != "source":
        # Written with the sizes of a task, also where it serves as a source.
        if _is_classification(row.name, config):
            return sum(phantoms.classification_cases)
        return phantoms.segmentation_cases
    of_kind = {
        "contrast": phantoms.contrast_subjects * _CONTRASTS,
        "semantic": phantoms.lesions_per_category * _CATEGORIES,
        "spatial": phantoms.source_volumes * row.images_per_subject,
    }
    counts = {s.dataset: of_kind[s.kind] for s in config.sequences.sources}
    return counts.get(row.name, phantoms.segmentation_cases)


def _is_classification(dataset: str, config: Config) -> bool:
    tasks = config.finetune.tasks.values()
    return any(t.dataset == dataset and t.type == "classification" for t in tasks)


def cases(dataset: str, config: Config) -> tuple[int, int, int]:
    """Training, validation and test cases of a task, one image a subject."""
    count = content(dataset, config).volumes
    parts, is_phantom = config.data.dataset(dataset).parts, config.data.is_phantom(dataset)
    if parts is None:
        return part_sizes(count, config.data.split_ratio)
    train, val, test = parts
    if is_phantom and _is_classification(dataset, config):
        train, val, test = config.data.phantoms.classification_cases
    elif is_phantom:
        test = listed_test(count)
        train, val = count - test, 0
    if not val:
        val = max(round(config.data.validation_fraction * train), 1)
        train -= val
    return train, val, test


def prepared_shape(found: Content, data: TaskDataConfig, foreground: float) -> Shape3:
    """Voxels of a typical case on a task's prepared grid.

    Args:
        found: the data set.
        data: preparation of the task.
        foreground: share of each in-plane side that the crop to the foreground leaves.
    """
    if data.resize is not None:
        return data.resize
    wanted = data.spacing or found.spacing
    factors = (foreground, foreground, 1.0) if data.foreground_crop else (1.0, 1.0, 1.0)
    axes = zip(found.shape, factors, found.spacing, wanted, strict=True)
    x, y, z = (max(round(n * f * s / w), 1) for n, f, s, w in axes)
    return (x, y, z)


def sequence_counts(config: Config) -> dict[str, int]:
    """Sequences of each kind, training and validation together."""
    counts = {"spatial": 0, "contrast": 0, "semantic": 0}
    for source in config.sequences.sources:
        # The draws of a category are from all sources together.
        before = 0 if source.kind == "semantic" else counts[source.kind]
        counts[source.kind] = before + sequences_of(source, config)
    return counts


def sequences_of(source: SourceConfig, config: Config) -> int:
    """Sequences that one source gives; of lesions, those of all sources together."""
    found, s = content(source.dataset, config), config.sequences
    volumes = found.volumes * channels_of(config.data.dataset(source.dataset), source.channels)
    if source.kind == "contrast":
        return volumes // len(s.contrast.contrasts) * s.contrast.crops_per_subject
    if source.kind == "semantic":
        return _CATEGORIES * s.semantic.draws_per_category
    is_thin = found.shape[2] < s.spatial.crop_shape[2]
    crops = max(int(s.spatial.crops_per_volume / 1.5), 1) if is_thin else s.spatial.crops_per_volume
    return volumes * crops


def items_of(modality: str, config: Config) -> float:
    """Training items of one modality, "CT" or "MRI"."""
    items = 0.0
    for source in config.sequences.sources:
        share = content(source.dataset, config).ct_share
        of_modality = share if modality == "CT" else 1 - share
        items += of_modality * sequences_of(source, config)
    return items * (1 - 1 / config.sequences.validation_every)
