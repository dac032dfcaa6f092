"""What one run is expected to compute and to write."""

from __future__ import annotations

import math
from dataclasses import dataclass

from voxseq.config import Config
from voxseq.config.amounts import cases, content, items_of, prepared_shape, sequence_counts
from voxseq.config.base import Shape3
from voxseq.config.data import TaskDataConfig
from voxseq.config.methods.medcoss import MedCoSSSettings
from voxseq.config.runs import ExamineRun, PrepareRun, PretrainRun, Recipe
from voxseq.estimate.network_work import network_work
from voxseq.estimate.operations import encoder, tokens_of
from voxseq.estimate.pretrain_work import pretrain_work
from voxseq.plan.model import Run

SINGLE_PRECISION = "32-true"
#: Bytes of a float32, and of a voxel in an example slice: image, truth, prediction.
_FLOAT = 4
_SLICE_VOXEL = 6
#: Bytes of a row of metrics.csv, of predictions.csv and of scores.csv, and of a run's small files.
_METRIC, _ROW, _SMALL = 30, 60, 20_000
#: Bytes of an index row: strings, affine, 512 numbers of the thumbnail.
_INDEX_ROW = 2_600
#: Bytes of a row of the sequence index, measured on the simulated full index.
_SEQUENCE_ROW = 4
#: Tables, figures and report together, from the demo.
_REPORT = 5_000_000
#: Bytes of a voxel's position among the class locations: class and x, y, z as int32.
_LOCATION = 16
#: A window wider than this, in HU, keeps the noise of the whole body.
_WIDE_WINDOW = 500.0


@dataclass(frozen=True)
class Packing:
    """Bytes that a stored voxel takes after compression (LZ4HC, level 5), all measured.

    Attributes:
        ct: int16 CT: 0.9 for whole slices with air, 1.2 inside the body.
        mri: float32 MRI.
        skull_stripped: MRI that is mostly zero (BraTS).
        narrow: float32 after a soft-tissue window: 1.2 to 2.1.
        wide: float32 after a window of 500 HU or more.
        label: classes.
        foreground: share of each in-plane side that the crop to the foreground leaves.
    """

    ct: float = 1.2
    mri: float = 3.2
    skull_stripped: float = 0.3
    narrow: float = 1.6
    wide: float = 3.2
    label: float = 0.03
    foreground: float = 0.85


@dataclass(frozen=True)
class RunCost:
    """Expected cost of a run.

    Attributes:
        matrix: operations of matrix products.
        convolution: operations of convolutions.
        downloaded: bytes over the network.
        written: bytes that stay on disk.
        checkpoint: bytes of a checkpoint, which is there while the run is under way.
        items: training items, to tell how fast they must be read.
        precision: of the arithmetic, as in the configuration.
    """

    matrix: float = 0.0
    convolution: float = 0.0
    downloaded: float = 0.0
    written: float = 0.0
    checkpoint: float = 0.0
    items: float = 0.0
    precision: str = ""


def run_cost(run: Run, config: Config, packing: Packing) -> RunCost:
    """Expected cost of ``run``, whose configuration is a part of ``config``."""
    if run.action == "download":
        return _download(run.config, config)
    if run.action == "preprocess":
        return _preprocess(run.config, config, packing)
    if run.action == "pretrain":
        return _pretrain(run.config, config)
    if run.action in ("finetune", "probe"):
        return _finetune(run, config, packing)
    rows = sum(sequence_counts(config).values())
    written = {"sequences": _SEQUENCE_ROW * rows, "baseline": _SMALL}
    return RunCost(written=written.get(run.action, _REPORT))


def _download(own: ExamineRun, config: Config) -> RunCost:
    found = content(own.dataset, config)
    written = found.volumes * _INDEX_ROW
    if config.data.root is None:
        # Phantoms are generated as int16 files.
        written += int(2 * found.voxels)
    return RunCost(downloaded=found.download or 0.0, written=written)


def _preprocess(own: PrepareRun, config: Config, packing: Packing) -> RunCost:
    found = content(own.dataset, config)
    table = found.volumes * _INDEX_ROW
    if own.task is None:
        row_bytes = packing.ct if found.ct_share >= 0.5 else packing.mri
        if own.dataset == "brats23":
            row_bytes = packing.skull_stripped
        return RunCost(written=table + row_bytes * found.voxels)
    data = own.task.data
    shape = prepared_shape(found, data, packing.foreground)
    voxels = math.prod(shape)
    written = voxels * _task_bytes(data, packing)
    if own.task.type == "segmentation":
        classes = own.task.labels + 1
        places = _LOCATION * own.store.locations_per_class * classes
        written += voxels * packing.label + min(places, _LOCATION * voxels)
    return RunCost(written=table + found.volumes * written)


def _task_bytes(data: TaskDataConfig, packing: Packing) -> float:
    if data.normalise != "window" or data.window is None:
        return packing.mri
    is_wide = data.window[1] - data.window[0] >= _WIDE_WINDOW
    return packing.wide if is_wide else packing.narrow


def _pretrain(own: PretrainRun, config: Config) -> RunCost:
    geometry, sequences = own.encoder, own.sequences
    steps, batch = own.steps, own.batch_size
    work = pretrain_work(
        own.method, own.settings.model_dump(), geometry, sequences, rehearsed(own, config)
    )
    plain = encoder(geometry, [tokens_of(sequences.volume_shape, geometry)])
    validations = math.ceil(steps / own.validate_every)
    # Each validation scores the loss, and encodes the plain images to watch for collapse.
    scored = validations * own.validation_sequences
    seen = _buffer_candidates(own, config)
    matrix = steps * batch * work.matrix_training + scored * work.matrix
    rows = steps / own.log_every * 4
    return RunCost(
        matrix=matrix + (scored + seen) * plain.matrix,
        convolution=steps * batch * work.convolution_training + scored * work.convolution,
        written=_FLOAT * plain.parameters + _METRIC * rows + _SMALL,
        # Weights, the best weights, and two moments of what is trained.
        checkpoint=2 * _FLOAT * (work.parameters + work.trained),
        items=float(steps) * batch,
        precision=own.precision,
    )


def rehearsed(own: PretrainRun, config: Config) -> float:
    """Share of MedCoSS's steps that are rehearsal; 0 for other methods.

    Half of the steps see MRI and, for each batch that the buffer fills, one of rehearsal.
    """
    if not isinstance(own.settings, MedCoSSSettings):
        return 0.0
    buffer = own.settings.buffer_share * items_of("CT", config)
    return 0.5 * buffer / max(buffer + items_of("MRI", config), 1.0)


def _buffer_candidates(own: PretrainRun, config: Config) -> float:
    if not isinstance(own.settings, MedCoSSSettings):
        return 0.0
    most = own.settings.buffer_candidates
    items = items_of("CT", config)
    return items if most is None else min(items, most)


def _finetune(run: Run, config: Config, packing: Packing) -> RunCost:
    own = run.config
    task = config.finetune.tasks[own.task]
    sizes = cases(task.dataset, config)
    shape = prepared_shape(content(task.dataset, config), task.data, packing.foreground)
    recipe = own.recipe
    is_segmentation = recipe.type == "segmentation"
    window: Shape3 = recipe.roi if is_segmentation else shape
    if run.action == "probe":
        geometry = own.encoder
        work = encoder(geometry, [tokens_of(shape, geometry)])
        # A probe computes its features in single precision.
        return RunCost(
            matrix=sum(sizes) * work.matrix,
            written=_SMALL + _ROW * sizes[2],
            precision=SINGLE_PRECISION,
        )
    work = network_work(
        own.network,
        own.encoder,
        window,
        classes=len(recipe.labels) + is_segmentation,
        features=recipe.decoder_features if is_segmentation else 1,
        settings=own.network_settings.model_dump() if own.network_settings else {},
        frozen_encoder=own.trained == "decoder",
    )
    steps = recipe.steps
    passes = _forward_passes(recipe, sizes, shape)
    items = float(steps) * _batch_of(recipe)
    written = _SMALL + _METRIC * 4 * steps / own.log_every
    return RunCost(
        matrix=items * work.matrix_training + passes * work.matrix,
        convolution=items * work.convolution_training + passes * work.convolution,
        written=written + 2 * _SLICE_VOXEL * shape[0] * shape[1] + _ROW * sum(sizes[1:]),
        checkpoint=2 * _FLOAT * (work.parameters + work.trained),
        items=items,
        precision=own.precision,
    )


def _batch_of(recipe: Recipe) -> int:
    if recipe.type == "segmentation":
        return recipe.volumes_per_batch * recipe.crops_per_volume
    return recipe.batch_size


def _forward_passes(recipe: Recipe, sizes: tuple[int, int, int], shape: Shape3) -> float:
    """Crops or images that are only scored: each validation, then validation and test once."""
    validations = math.ceil(recipe.steps / recipe.validate_every)
    scored = (validations + 1) * sizes[1] + sizes[2]
    if recipe.type != "segmentation":
        return scored
    return scored * windows(shape, recipe.roi, recipe.overlap)


def windows(shape: Shape3, roi: Shape3, overlap: float) -> int:
    """Windows that slide over a volume (MONAI)."""
    count = 1
    for side, window in zip(shape, roi, strict=True):
        interval = max(int(window * (1 - overlap)), 1)
        count *= max(math.ceil((side - window) / interval), 0) + 1
    return count
