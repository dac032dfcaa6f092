"""How many images each data set gives, and how large they are, before any of them is here.

Counts and sizes of downloads are the catalogue's. What it leaves open, and the shapes, which no
publisher states as one number, stand below as assumptions. A scale with phantoms knows its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from voxseq import catalogue
from voxseq.catalogue.splits import part_sizes
from voxseq.config import Config
from voxseq.config.base import Shape3, Spacing3
from voxseq.config.data import TaskDataConfig

#: Typical shape and spacing in mm. BraTS and nodules: as published. LA, Hippocampus: medians of
#: volumes that were measured. RSNA: published slices over studies. MSD: medians over the task.
#: All others: rough. A factor of two moves disk and preparation, not the training.
SHAPES: Mapping[str, tuple[Shape3, Spacing3]] = {
    "ribfrac": ((512, 512, 350), (0.75, 0.75, 1.2)),
    "tcia_covid19": ((512, 512, 70), (0.75, 0.75, 5.0)),
    "amos22": ((512, 512, 120), (0.7, 0.7, 5.0)),
    "isles2022": ((230, 230, 230), (1.0, 1.0, 1.0)),
    "abdomenct1k": ((512, 512, 190), (0.8, 0.8, 2.5)),
    "totalsegmentator": ((240, 240, 260), (1.5, 1.5, 1.5)),
    "verse20": ((400, 400, 300), (0.9, 0.9, 1.0)),
    "rsna2022_csfd": ((512, 512, 352), (0.4, 0.4, 0.8)),
    "rsna2020_ped": ((512, 512, 246), (0.7, 0.7, 1.25)),
    "stoic": ((512, 512, 430), (0.75, 0.75, 0.8)),
    "flare22": ((512, 512, 200), (0.8, 0.8, 2.5)),
    "flare23": ((512, 512, 250), (0.8, 0.8, 2.0)),
    "brats23": ((240, 240, 155), (1.0, 1.0, 1.0)),
    "deeplesion": ((512, 512, 40), (0.8, 0.8, 1.5)),
    "dicom_ct": ((512, 512, 200), (0.8, 0.8, 2.5)),
    "task03_liver": ((512, 512, 432), (0.77, 0.77, 1.0)),
    "task04_hippocampus": ((36, 51, 35), (1.0, 1.0, 1.0)),
    "task06_lung": ((512, 512, 252), (0.79, 0.79, 1.24)),
    "task07_pancreas": ((512, 512, 93), (0.8, 0.8, 2.5)),
    "task08_hepaticvessel": ((512, 512, 49), (0.8, 0.8, 5.0)),
    "task09_spleen": ((512, 512, 90), (0.79, 0.79, 5.0)),
    "task10_colon": ((512, 512, 95), (0.78, 0.78, 5.0)),
    "la": ((195, 143, 88), (0.625, 0.625, 0.625)),
    "ricord": ((512, 512, 160), (0.75, 0.75, 2.0)),
    "nodule": ((28, 28, 28), (1.0, 1.0, 1.0)),
}
#: Images where the catalogue states none: those of the publication; typed lesions; Hippocampus'
#: labelled files.
VOLUMES: Mapping[str, int] = {"abdomenct1k": 1112, "deeplesion": 9816, "task04_hippocampus": 260}
#: Bytes of a download where the catalogue states none; "about" in every source.
DOWNLOADS: Mapping[str, float] = {
    "tcia_covid19": 20e9,
    "abdomenct1k": 100e9,
    "verse20": 60e9,
    "rsna2022_csfd": 344e9,
    "rsna2020_ped": 950e9,
    "stoic": 240e9,
    "flare23": 400e9,
    "brats23": 40e9,
    "task04_hippocampus": 0.03e9,
    "task06_lung": 9e9,
    "task07_pancreas": 12e9,
    "task08_hepaticvessel": 9e9,
    "task09_spleen": 1.6e9,
    "task10_colon": 6e9,
    "nodule": 0.03e9,
}
#: Training, validation and test cases of published lists; the other tasks are divided by ratio.
PUBLISHED: Mapping[str, tuple[int, int, int]] = {
    "la": (80, 0, 20),
    "ricord": (194, 52, 84),
    "nodule": (1158, 165, 310),
}
#: Share of CT where a data set holds both.
_CT_SHARES: Mapping[str, float] = {"amos22": 5 / 6}
#: Images of a subject: ISLES has three.
_PHANTOM_IMAGES: Mapping[str, int] = {"isles2022": 3}
_CONTRASTS = 4
_CATEGORIES = 8
_PHANTOM_SPACING = 3.0


@dataclass(frozen=True)
class Content:
    """What a data set is expected to hold.

    Attributes:
        volumes: images, or the lesions of DeepLesion.
        shape: voxels of a typical one.
        spacing: mm.
        ct_share: share of the images that are CT.
        download: bytes over the network; None where nothing is known.
        assumed: what of this the catalogue does not state.
    """

    volumes: int
    shape: Shape3
    spacing: Spacing3
    ct_share: float
    download: float | None
    assumed: tuple[str, ...] = ()

    @property
    def voxels(self) -> float:
        """Voxels of all images."""
        return float(self.volumes) * math.prod(self.shape)


def content(dataset: str, config: Config) -> Content:
    """What ``dataset`` holds: by the catalogue, or the phantoms where no data root is set."""
    row = catalogue.get(dataset)
    ct_share = _CT_SHARES.get(dataset, float(row.modality == "CT"))
    if config.data.root is None:
        # The files of LA state no spacing; the catalogue does.
        x, y, z = row.options.get("spacing", (_PHANTOM_SPACING,) * 3)
        shape = config.data.phantoms.volume_shape
        return Content(_phantoms(dataset, config), shape, (x, y, z), ct_share, 0.0)
    shape, spacing = SHAPES.get(dataset, ((512, 512, 200), (0.8, 0.8, 2.0)))
    assumed = [] if row.volumes is not None else ["images"]
    volumes = row.volumes if row.volumes is not None else VOLUMES.get(dataset, 0)
    size = float(row.size) if row.size is not None else DOWNLOADS.get(dataset)
    if row.size is None:
        assumed.append("download")
    return Content(volumes, shape, spacing, ct_share, size, tuple(assumed))


def _phantoms(dataset: str, config: Config) -> int:
    phantoms = config.data.phantoms
    if catalogue.get(dataset).role != "source":
        # Written with the sizes of a task, also where it serves as a source.
        if _is_classification(dataset, config):
            return sum(phantoms.classification_cases)
        return phantoms.segmentation_cases
    kinds = {s.dataset: s.kind for s in config.sequences.sources}
    kind = kinds.get(dataset)
    if kind == "contrast":
        return phantoms.contrast_subjects * _CONTRASTS
    if kind == "semantic":
        return phantoms.lesions_per_category * _CATEGORIES
    if kind == "spatial":
        return phantoms.source_volumes * _PHANTOM_IMAGES.get(dataset, 1)
    return phantoms.segmentation_cases


def _is_classification(dataset: str, config: Config) -> bool:
    tasks = config.finetune.tasks.values()
    return any(t.dataset == dataset and t.type == "classification" for t in tasks)


def cases(dataset: str, config: Config) -> tuple[int, int, int]:
    """Training, validation and test cases of a task, one image a subject."""
    count = content(dataset, config).volumes
    if dataset not in PUBLISHED:
        return part_sizes(count, config.data.split_ratio)
    train, val, test = PUBLISHED[dataset]
    if config.data.root is None:
        train, val, test = _phantom_cases(dataset, config, count)
    if not val:
        val = max(round(config.data.validation_fraction * train), 1)
        train -= val
    return train, val, test


def _phantom_cases(dataset: str, config: Config, count: int) -> tuple[int, int, int]:
    if _is_classification(dataset, config):
        return config.data.phantoms.classification_cases
    test = count // 5
    return count - test, 0, test


def prepared_shape(found: Content, data: TaskDataConfig, foreground: float) -> Shape3:
    """Voxels of a typical case on a task's prepared grid.

    Args:
        found: the data set.
        data: preparation of the task.
        foreground: share of each in-plane side that the crop to the foreground leaves.
    """
    if data.resize is not None:
        return data.resize
    factors = (foreground, foreground, 1.0) if data.foreground_crop else (1.0, 1.0, 1.0)
    wanted = data.spacing or found.spacing
    x, y, z = (
        max(round(n * f * s / w), 1)
        for n, f, s, w in zip(found.shape, factors, found.spacing, wanted, strict=True)
    )
    return (x, y, z)


def sequence_counts(config: Config) -> dict[str, int]:
    """Sequences of each kind, training and validation together."""
    counts = {"spatial": 0, "contrast": 0, "semantic": 0}
    for source in config.sequences.sources:
        counts[source.kind] += _of_source(source.dataset, source.kind, config)
    if any(s.kind == "semantic" for s in config.sequences.sources):
        counts["semantic"] = _CATEGORIES * config.sequences.semantic.draws_per_category
    return counts


def _of_source(dataset: str, kind: str, config: Config) -> int:
    found = content(dataset, config)
    s = config.sequences
    if kind == "contrast":
        return found.volumes // len(s.contrast.contrasts) * s.contrast.crops_per_subject
    if kind == "semantic":
        return 0
    is_thin = found.shape[2] < s.spatial.crop_shape[2]
    crops = max(int(s.spatial.crops_per_volume / 1.5), 1) if is_thin else s.spatial.crops_per_volume
    return found.volumes * crops


def items_of(modality: str, config: Config) -> float:
    """Training items of one modality, "CT" or "MRI"."""
    items = 0.0
    for source in config.sequences.sources:
        share = content(source.dataset, config).ct_share
        of_modality = share if modality == "CT" else 1 - share
        if source.kind == "semantic":
            items += of_modality * _CATEGORIES * config.sequences.semantic.draws_per_category
        else:
            items += of_modality * _of_source(source.dataset, source.kind, config)
    return items * (1 - 1 / config.sequences.validation_every)
