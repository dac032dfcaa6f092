"""A trained model, or an ensemble of several, that predicts images as they are stored."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any, Self, TypeAlias, cast

import nibabel
import numpy as np
import torch
from torch import nn

from voxseq.base.errors import ConfigError, DataError, NotFiniteError
from voxseq.config.execution import DeviceConfig
from voxseq.data.grid import to_file_grid, values_to_file_grid
from voxseq.data.prepared import PreparedImage, prepare_image
from voxseq.data.volume import Array, Volume
from voxseq.evaluation.inference import iterate_logits
from voxseq.models.bundle import ModelCard, Standard
from voxseq.models.bundle import load_model as read_model
from voxseq.models.networks import channels_last
from voxseq.predict.files import Place
from voxseq.predict.inputs import find_cases, read_channels, require_channels
from voxseq.predict.results import Classification, Prediction, Regression, Segmentation
from voxseq.training.device import accelerator, autocast_of
from voxseq.training.finite import is_finite

#: An image: its file or its channels' files, a folder of one DICOM series, or what nibabel has
#: loaded.
Image: TypeAlias = (
    str | Path | Sequence[str | Path] | Volume | Sequence[Volume] | nibabel.Nifti1Image
)


@dataclass(frozen=True)
class Options:
    """How an image is predicted.

    Attributes:
        overlap: share of a window that its neighbour covers too; None: as in training.
        gaussian: whether the middle of a window counts more than its edges.
        flips: whether the predictions of the image and of its seven mirror images are averaged.
        probabilities: whether the probabilities of a segmentation are wanted.
        uncertainty: whether its uncertainty is wanted, and the spread of an ensemble.
    """

    overlap: float | None = None
    gaussian: bool = False
    flips: bool = False
    probabilities: bool = False
    uncertainty: bool = False

    def __post_init__(self) -> None:
        if self.overlap is not None and not 0 <= self.overlap < 1:
            raise ConfigError(
                f"overlap {self.overlap}: expected a number from 0 to below 1",
                "usual are 0.25 to 0.75",
            )


@dataclass(frozen=True)
class _Member:
    """One network on its device."""

    network: nn.Module
    card: ModelCard
    device: torch.device
    precision: Callable[[], AbstractContextManager[Any]]

    @torch.no_grad()
    def outputs(self, image: Array) -> Array:
        """Outputs (K,) of a whole image (C, X, Y, Z): logits, or a standardised number."""
        volume = torch.from_numpy(np.ascontiguousarray(image))[None].to(self.device)
        with self.precision():
            given = self.network(volume).float().cpu()
        _require_finite(given)
        return cast(Array, given[0].numpy())

    def probabilities(self, image: Array, options: Options) -> Array:
        """Class probabilities (K, X, Y, Z) float32 of a prepared image (C, X, Y, Z)."""
        recipe = self.card.recipe
        assert recipe.type == "segmentation"
        overlap = recipe.overlap if options.overlap is None else options.overlap
        whole = np.empty((self.card.outputs, *image.shape[1:]), np.float32)
        walk = iterate_logits(
            self.network, image, recipe.roi, overlap, self.precision, options.gaussian
        )
        for planes, logits in walk:
            _require_finite(logits)
            whole[:, planes] = logits.softmax(dim=0).cpu().numpy()
        return whole


class TrainedModel:
    """One trained model, or several for one task whose predictions are averaged.

    Attributes:
        cards: description of each.
    """

    def __init__(self, members: Sequence[_Member]) -> None:
        self._members = tuple(members)
        self.cards = tuple(member.card for member in members)

    @classmethod
    def load(cls, *folders: str | Path, device: str = "auto") -> Self:
        """Load models from folders with ``model.json`` and ``model.safetensors``.

        Args:
            folders: of fine-tuning runs, or of exported models; several make an ensemble.
            device: "auto" (a CUDA GPU, else the CPU), "cpu", "cuda" or "mps".

        Raises:
            ConfigError: models of an ensemble that differ in task, preparation or channels, or a
                device that is not there.
            DataError, IntegrityError: as :func:`voxseq.models.bundle.load_model`.
        """
        if not folders:
            raise ConfigError("no model is named", "name the folder of a fine-tuning run")
        kind = accelerator(DeviceConfig.model_validate({"device": device}))
        loaded = [read_model(Path(folder).expanduser()) for folder in folders]
        _require_one_task([card for _, card in loaded], folders)
        members = []
        for network, card in loaded:
            if kind == "cpu":
                # As in training: other kernels would round in other places.
                channels_last(network)
            precision = autocast_of(card.precision, kind)
            members.append(_Member(network.to(kind), card, torch.device(kind), precision))
        return cls(members)

    @property
    def card(self) -> ModelCard:
        """Description of the first model; task, preparation and channels are those of all."""
        return self.cards[0]

    def predict(self, image: Image, options: Options | None = None) -> Prediction:
        """Predict one image.

        Args:
            image: a file; one file for each channel; the folder of a DICOM series; volumes; or an
                image of nibabel.
            options: see :class:`Options`.

        Returns:
            :class:`Segmentation` on the grid of the file, :class:`Classification` or
            :class:`Regression`, as the task is.

        Raises:
            DataError: the image cannot be read, has another number of channels, or shows nothing
                as it is prepared.
            NotFiniteError: a network's outputs are infinite or undefined.
        """
        volumes, path = volumes_of(image, self.card.counts)
        return self.predict_prepared(self.prepare(volumes), Place.of(volumes[0], path), options)

    def prepare(self, volumes: Sequence[Volume]) -> PreparedImage:
        """Prepare an image as in training.

        Raises:
            DataError: as :meth:`predict`.
        """
        return prepare(volumes, self.card)

    def predict_prepared(
        self, prepared: PreparedImage, place: Place, options: Options | None = None
    ) -> Prediction:
        """Predict an image that :meth:`prepare` has prepared; ``place`` is that of its file."""
        options = options or Options()
        if self.card.recipe.type == "segmentation":
            return self._segment(prepared, place, options)
        if self.card.recipe.type == "regression":
            return self._measure(prepared.image, options)
        return self._classify(prepared.image, options)

    def _segment(self, prepared: PreparedImage, place: Place, options: Options) -> Segmentation:
        row = prepared.columns
        total = _Mean(options.uncertainty and len(self._members) > 1)
        for member in self._members:
            one = _Mean()
            for axes in _flips(options):
                mirrored = np.flip(prepared.image, axes)
                one.add(np.flip(member.probabilities(mirrored, options), axes))
            total.add(one.mean)
        mean = total.mean
        labels, _ = to_file_grid(mean, row)
        found: dict[str, Any] = {}
        if options.probabilities:
            parts = [values_to_file_grid(p, row, float(k == 0)) for k, p in enumerate(mean)]
            found["probabilities"] = np.stack(parts)
        if options.uncertainty:
            found["uncertainty"] = values_to_file_grid(_entropy(mean), row, 0.0)
            if total.deviation is not None:
                found["spread"] = values_to_file_grid(total.deviation.max(axis=0), row, 0.0)
        return Segmentation(self.card.recipe.labels, labels, place, **found)

    def _classify(self, image: Array, options: Options) -> Classification:
        total = _Mean(len(self._members) > 1)
        for member in self._members:
            one = _Mean()
            for axes in _flips(options):
                logits = member.outputs(np.flip(image, axes))
                one.add(torch.from_numpy(logits).softmax(dim=0).double().numpy())
            total.add(one.mean)
        deviation = total.deviation
        return Classification(
            self.card.recipe.labels,
            total.mean,
            float(_entropy(total.mean)),
            None if deviation is None else float(deviation.max()),
        )

    def _measure(self, image: Array, options: Options) -> Regression:
        recipe = self.card.recipe
        assert recipe.type == "regression"
        total = _Mean(len(self._members) > 1)
        for member in self._members:
            one, standard = _Mean(), member.card.standard or Standard(mean=0.0, sd=1.0)
            for axes in _flips(options):
                output = member.outputs(np.flip(image, axes)).astype(np.float64)
                one.add(output * standard.sd + standard.mean)
            total.add(one.mean)
        deviation = total.deviation
        return Regression(
            recipe.target,
            recipe.unit,
            float(total.mean[0]),
            None if deviation is None else float(deviation[0]),
        )


def load_model(*folders: str | Path, device: str = "auto") -> TrainedModel:
    """Load a trained model, or an ensemble of several; see :meth:`TrainedModel.load`."""
    return TrainedModel.load(*folders, device=device)


def prepare(volumes: Sequence[Volume], card: ModelCard) -> PreparedImage:
    """Prepare an image as in the training of a model.

    Args:
        volumes: the channels that the network sees, or all that images of its data set have.
        card: of the model.

    Raises:
        DataError: it has another number of channels, or shows nothing as it is prepared.
    """
    if len(volumes) == len(card.inputs) > len(card.channels):
        volumes = [volumes[card.inputs.index(name)] for name in card.channels]
    require_channels(volumes, card.channels)
    if not card.oriented:
        # As in training, where no file stated an orientation.
        volumes = [replace(volume, oriented=False) for volume in volumes]
    return prepare_image(volumes, card.data)


class _Mean:
    """Mean of arrays, and their standard deviation where it is wanted."""

    def __init__(self, spread: bool = False) -> None:
        self._count = 0
        self._sum: Array | None = None
        self._squares: Array | None = None
        self._spread = spread

    def add(self, array: Array) -> None:
        """Add one; of several it may be written to."""
        self._count += 1
        if self._spread:
            square = array.astype(np.float64) ** 2
            self._squares = square if self._squares is None else self._squares + square
        self._sum = array if self._sum is None else self._sum + array

    @property
    def mean(self) -> Array:
        """Of all; a single one comes back as it is."""
        assert self._sum is not None
        return self._sum if self._count == 1 else self._sum / self._count

    @property
    def deviation(self) -> Array | None:
        """Standard deviation over all (of the population)."""
        if self._squares is None:
            return None
        variance = self._squares / self._count - self.mean.astype(np.float64) ** 2
        return np.sqrt(np.maximum(variance, 0.0))


def _require_finite(outputs: torch.Tensor) -> None:
    """Refuse outputs that mean nothing.

    Raises:
        NotFiniteError: one is infinite or undefined.
    """
    if not is_finite(outputs):
        raise NotFiniteError(
            "the network's outputs are not finite",
            "look at the intensities of the image; a model trained in 16 bits may overflow",
        )


def _flips(options: Options) -> Iterator[tuple[int, ...]]:
    """Axes of (C, X, Y, Z) along which an image is mirrored, none first."""
    for count in range(4 if options.flips else 1):
        yield from combinations((1, 2, 3), count)


def _entropy(probabilities: Array) -> Array:
    """Entropy over the first axis, over its largest value."""
    terms = probabilities * np.log(np.maximum(probabilities, 1e-12))
    entropy: Array = (-terms.sum(axis=0) / np.log(len(probabilities))).clip(0.0, 1.0)
    return entropy


def _require_one_task(cards: Sequence[ModelCard], folders: Sequence[str | Path]) -> None:
    first = cards[0]
    for card, folder in zip(cards[1:], folders[1:], strict=True):
        pairs = {
            "type": (first.recipe.type, card.recipe.type),
            "classes": (first.recipe.labels, card.recipe.labels),
            "target": (getattr(first.recipe, "target", ""), getattr(card.recipe, "target", "")),
            "preparation": (first.data, card.data),
            "channels": (first.channels, card.channels),
        }
        for what, (one, other) in pairs.items():
            if one != other:
                raise ConfigError(
                    f"{folder}: another {what} than {folders[0]}: {other} and {one}",
                    "models of an ensemble are for one task, prepared in one way",
                )


def volumes_of(image: Image, channels: Collection[int]) -> tuple[list[Volume], Path | None]:
    """Channels of an image, and its file where it is one.

    Args:
        image: in any form.
        channels: numbers of channels that fit.
    """
    if isinstance(image, Volume):
        return [image], None
    if isinstance(image, nibabel.Nifti1Image):
        return _of_nibabel(image), None
    if isinstance(image, str | Path):
        cases = find_cases([image], channels)
        if len(cases) > 1:
            raise DataError(
                f"{image}: {len(cases)} images, expected one",
                "predict one after the other, or use `voxseq predict`",
            )
        volumes = read_channels(cases[0])
        return volumes, None if cases[0].is_series else cases[0].paths[0]
    if all(isinstance(part, Volume) for part in image):
        return [cast(Volume, part) for part in image], None
    paths = [Path(cast(str | Path, part)) for part in image]
    found = [volume for path in paths for volume in read_channels(find_cases([path])[0])]
    return found, paths[0]


def _of_nibabel(image: nibabel.Nifti1Image) -> list[Volume]:
    values, header = np.asanyarray(image.dataobj), image.header
    oriented = int(header["qform_code"]) > 0 or int(header["sform_code"]) > 0
    affine = np.asarray(image.affine, np.float64)
    if values.ndim == 3:
        values = values[..., None]
    if values.ndim != 4:
        raise DataError(f"an image of shape {values.shape}: expected three axes, or four")
    return [Volume(values[..., n], affine, oriented) for n in range(values.shape[-1])]
