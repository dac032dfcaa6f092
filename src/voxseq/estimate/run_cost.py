"""Expected computation and output of one run."""

from __future__ import annotations

import math
from dataclasses import dataclass

from voxseq.config import Config, runs
from voxseq.config.amounts import (
    Content,
    cases,
    channels_of,
    content,
    items_of,
    prepared_shape,
    sequence_counts,
)
from voxseq.config.base import Shape3
from voxseq.config.data import TaskDataConfig
from voxseq.config.methods.medcoss import MedCoSSSettings
from voxseq.config.model import EncoderConfig
from voxseq.estimate.counts import Counts
from voxseq.estimate.work import FLOAT
from voxseq.plan.model import Run

SINGLE_PRECISION = "32-true"
#: Bytes of a voxel in an example slice: image, truth, prediction.
_SLICE_VOXEL = 6
#: Bytes of a row of metrics.csv, of predictions.csv and of scores.csv, and of a run's small files.
_METRIC, _ROW, _SMALL = 30, 80, 20_000
#: Bytes of a row of a store: strings, affine, 512 numbers of the thumbnail; of an index with the
#: packed detail, 10 to 30 kB, besides.
_STORE_ROW, _INDEX_ROW = 2_600, 22_600
#: Bytes of a row of the sequence index, measured on the simulated full index.
_SEQUENCE_ROW = 51
#: Tables, figures and report together, from the demo.
_REPORT = 5_000_000
#: Bytes of a voxel's position among the class locations: class and x, y, z as int32.
_LOCATION = 16
#: Rounds of k-means between two stages, at most.
_ITERATIONS = 300
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

    def of_source(self, dataset: str, found: Content) -> float:
        """Bytes of a stored voxel of a source."""
        if dataset == "brats23":
            return self.skull_stripped
        return self.ct if found.ct_share >= 0.5 else self.mri

    def of_task(self, data: TaskDataConfig) -> float:
        """Bytes of a prepared voxel of a task."""
        window = data.first_window
        if window is None:
            return self.mri
        return self.wide if window[1] - window[0] >= _WIDE_WINDOW else self.narrow


@dataclass(frozen=True)
class RunCost:
    """Expected cost of a run.

    Attributes:
        matrix: operations of matrix products in the precision of the run.
        convolution: operations of convolutions.
        scored_matrix: those of the matrix products that are for validation and final scoring.
        scored_convolution: those of the convolutions.
        encoded_matrix: those of the matrix products that are for features between two stages.
        clustered: operations of matrix products between two stages that have 32 bits always.
        downloaded: bytes over the network.
        written: bytes that stay on disk.
        checkpoint: bytes of a checkpoint, which is there while the run is under way.
        items: training items, to tell how fast they must be read.
        precision: of the arithmetic, as in the configuration.
        is_plain: whether one pass of the encoder stands for a method that cannot be counted.
    """

    matrix: float = 0.0
    convolution: float = 0.0
    scored_matrix: float = 0.0
    scored_convolution: float = 0.0
    encoded_matrix: float = 0.0
    clustered: float = 0.0
    downloaded: float = 0.0
    written: float = 0.0
    checkpoint: float = 0.0
    items: float = 0.0
    precision: str = ""
    is_plain: bool = False

    @property
    def operations(self) -> float:
        """Matrix products and convolutions together."""
        return self.matrix + self.convolution + self.clustered


@dataclass(frozen=True)
class RunCosts:
    """Expected cost of any run of a configuration.

    Attributes:
        config: the whole configuration, of which each run has a part.
        packing: bytes of stored voxels.
        counts: operations of networks and methods.
    """

    config: Config
    packing: Packing
    counts: Counts

    def __call__(self, run: Run) -> RunCost:
        """Expected cost of a run."""
        match run.action:
            case "sequences":
                return RunCost(written=_SEQUENCE_ROW * sum(sequence_counts(self.config).values()))
            case "adopt":
                return RunCost(written=FLOAT * self._encoder_weights(run.config.encoder))
            case "baseline":
                return RunCost(written=_SMALL)
            case "scores" | "tables" | "figures":
                return RunCost(written=_REPORT)
        own: RunCost = getattr(self, f"_{run.action}")(run.config)
        return own

    def _encoder_weights(self, encoder: EncoderConfig) -> float:
        smallest = tuple(2 * side for side in encoder.patch_size)
        return self.counts.work("encoder", encoder, smallest).parameters

    def _download(self, own: runs.ExamineRun) -> RunCost:
        found = content(own.dataset, self.config)
        written = found.volumes * _INDEX_ROW
        if self.config.data.is_phantom(own.dataset):
            # Phantoms are generated as int16 files.
            written += int(2 * found.voxels)
        return RunCost(downloaded=found.download or 0.0, written=written)

    def _preprocess(self, own: runs.PrepareRun) -> RunCost:
        found, packing = content(own.dataset, self.config), self.packing
        table = found.volumes * _STORE_ROW
        if own.task is None:
            stored = packing.of_source(own.dataset, found) * found.voxels
            used = channels_of(self.config.data.dataset(own.dataset), own.channels)
            return RunCost(written=used * (table + stored))
        voxels = math.prod(prepared_shape(found, own.task.data, packing.foreground))
        written = voxels * packing.of_task(own.task.data)
        written *= channels_of(self.config.data.dataset(own.dataset), own.task.data.channels)
        if own.task.type == "segmentation":
            places = _LOCATION * own.store.locations_per_class * (own.task.labels + 1)
            written += voxels * packing.label + min(places, _LOCATION * voxels)
        return RunCost(written=table + found.volumes * written)

    def _pretrain(self, own: runs.PretrainRun) -> RunCost:
        steps, batch = own.steps, own.batch_size
        # Runs that differ in the kinds of their sequences alone cost the same.
        step = own.model_copy(update={"kinds": ()})
        work = self.counts.work("pretraining", step, "MRI", 0)
        plain = self.counts.work("encoder", own.encoder, own.sequences.image_shape)
        # Each validation scores the loss, and encodes the plain images to watch for collapse.
        scored = math.ceil(steps / own.validate_every) * own.validation_sequences
        candidates, clusters = 0.0, 0.0
        if isinstance(own.settings, MedCoSSSettings):
            rehearsal = self.counts.work("pretraining", step, "CT", steps - 1)
            work = work.mixed(rehearsal, rehearsed(own.settings, self.config))
            candidates = buffer_candidates(own.settings, self.config)
            clusters = own.settings.cluster_share * items_of("CT", self.config)
        scored_matrix = scored * (work.matrix + plain.matrix)
        scored_convolution = scored * work.convolution
        encoded_matrix = candidates * plain.matrix
        # What is not kept is computed again, which is the forward pass at most.
        passes = steps * batch * float(self.config.execution.pretrain.recomputes(own.method))
        rows = steps / own.log_every * 4
        return RunCost(
            matrix=steps * batch * work.matrix_training
            + passes * work.matrix
            + scored_matrix
            + encoded_matrix,
            convolution=steps * batch * work.convolution_training
            + passes * work.convolution
            + scored_convolution,
            scored_matrix=scored_matrix,
            scored_convolution=scored_convolution,
            encoded_matrix=encoded_matrix,
            clustered=_ITERATIONS * 2 * candidates * clusters * own.encoder.width,
            written=FLOAT * plain.parameters + _METRIC * rows + _SMALL,
            checkpoint=work.checkpoint,
            items=float(steps) * batch,
            precision=own.precision,
            is_plain=work.plain > 0,
        )

    def _probe(self, own: runs.ProbeRun) -> RunCost:
        sizes, shape = self._images(own)
        work = self.counts.work("encoder", own.encoder, shape, own.channels)
        # A probe computes its features in single precision.
        features = sum(sizes) * work.matrix
        return RunCost(
            matrix=features,
            scored_matrix=features,
            written=_SMALL + _ROW * sizes[2],
            precision=SINGLE_PRECISION,
        )

    def _finetune(self, own: runs.FinetuneRun) -> RunCost:
        sizes, shape = self._images(own)
        recipe = own.recipe
        # Crops or images that are only scored: each validation, then validation and test once.
        validations = math.ceil(recipe.steps / recipe.validate_every)
        scored = (validations + 1) * sizes[1] + sizes[2]
        if recipe.type == "segmentation":
            window, features = recipe.roi, recipe.decoder_features
            batch = recipe.volumes_per_batch * recipe.crops_per_volume
            scored *= windows(shape, recipe.roi, recipe.overlap)
        else:
            window, features = shape, 1
            batch = recipe.batch_size
        frozen = own.trained == "decoder"
        question = (
            own.network,
            own.encoder,
            window,
            recipe.outputs,
            features,
            own.network_settings,
        )
        work = self.counts.work("network", *question, frozen, own.channels)
        items = float(recipe.steps) * batch
        scored_matrix = scored * work.matrix
        scored_convolution = scored * work.convolution
        written = _SMALL + _METRIC * 4 * recipe.steps / own.log_every
        written += FLOAT * work.parameters if own.kept is not None else 0
        return RunCost(
            matrix=items * work.matrix_training + scored_matrix,
            convolution=items * work.convolution_training + scored_convolution,
            scored_matrix=scored_matrix,
            scored_convolution=scored_convolution,
            written=written + 2 * _SLICE_VOXEL * shape[0] * shape[1] + _ROW * sum(sizes[1:]),
            checkpoint=work.checkpoint,
            items=items,
            precision=own.precision,
        )

    def _images(self, own: runs.TaskRun) -> tuple[tuple[int, int, int], Shape3]:
        """Number of a task's images in each split, and their shape after preparation."""
        task = self.config.finetune.tasks[own.task]
        found = content(task.dataset, self.config)
        shape = prepared_shape(found, task.data, self.packing.foreground)
        return cases(task.dataset, self.config), shape


def buffer_candidates(settings: MedCoSSSettings, config: Config) -> float:
    """Items of the first stage that may enter MedCoSS's buffer."""
    items = items_of("CT", config)
    return min(settings.buffer_candidates or items, items)


def rehearsed(settings: MedCoSSSettings, config: Config) -> float:
    """Share of MedCoSS's steps that are rehearsal.

    Half of the steps see MRI and, for each batch that the buffer fills, one of rehearsal.
    """
    buffer = settings.buffer_share * items_of("CT", config)
    return 0.5 * buffer / max(buffer + items_of("MRI", config), 1.0)


def windows(shape: Shape3, roi: Shape3, overlap: float) -> int:
    """Windows that slide over a volume (MONAI)."""
    count = 1
    for side, window in zip(shape, roi, strict=True):
        interval = max(int(window * (1 - overlap)), 1)
        count *= max(math.ceil((side - window) / interval), 0) + 1
    return count
