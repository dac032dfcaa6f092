"""A trained network on disk: ``model.safetensors`` and its description, ``model.json``.

Nothing in either file is ever executed. The description holds all that a prediction needs: the
network, how an image is prepared for it, and what its outputs mean; and where it comes from.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from voxseq.base.errors import DataError, IntegrityError
from voxseq.base.failures import read_named
from voxseq.base.files import atomic_path, read_json, sha256, size_of, write_json
from voxseq.config.base import Model
from voxseq.config.data import TaskDataConfig
from voxseq.config.finetune import Recipe
from voxseq.config.model import EncoderConfig
from voxseq.config.runs import NetworkSettings
from voxseq.models.networks import build_network

WEIGHTS_FILE = "model.safetensors"
CARD_FILE = "model.json"
#: Folder of both inside a MONAI bundle.
BUNDLED = "models"
#: Problems with tensors that a message names.
_SHOWN = 5


class Validation(Model):
    """The score by which the weights were selected.

    Attributes:
        score: its name.
        value: on the validation split.
        step: at which the weights were taken.
    """

    score: str
    value: float | None
    step: int


class Standard(Model):
    """What a regression's target was standardised by: the network gives (target - mean) / sd."""

    mean: float
    sd: float


class Weights(Model):
    """The file of the weights that a description belongs to."""

    sha256: str
    size: int


class ModelCard(Model):
    """Description of a trained network.

    Attributes:
        format: of this description.
        network: key of :data:`voxseq.models.networks.NETWORKS`.
        network_settings: of a network without the shared encoder.
        encoder: geometry of the encoder.
        inputs: names of all channels of an image of the data set that it was trained on.
        channels: names of those that the network sees, in its order.
        recipe: type of task, its classes or its target, window and overlap.
        data: how an image is prepared.
        oriented: whether the axes of an image are turned to right, anterior, superior before that,
            where its file states an orientation. Those of data sets without one stay as stored.
        standard: of a regression; None otherwise.
        precision: of the arithmetic.
        task: title of the task.
        dataset: name of the data set that it was trained on.
        licence: of its images; "" where none is known.
        run: id of the run.
        fingerprint: of the run.
        method: row of the tables.
        seed: of the training.
        ratio: share of the labelled cases.
        pretraining: record of the encoder that the training started from; None: random weights.
        validation: the score by which the weights were selected.
        versions: of the packages that trained it.
        weights: the file of the weights.
    """

    format: Literal[1] = 1
    network: str
    network_settings: NetworkSettings | None
    encoder: EncoderConfig
    inputs: tuple[str, ...] = Field(("image",), min_length=1)
    channels: tuple[str, ...] = Field(("image",), min_length=1)
    recipe: Annotated[Recipe, Field(discriminator="type")]
    data: TaskDataConfig
    oriented: bool = True
    standard: Standard | None = None
    precision: str
    task: str
    dataset: str
    licence: str = ""
    run: str
    fingerprint: str
    method: str
    seed: int
    ratio: float
    pretraining: dict[str, Any] | None
    validation: Validation
    versions: dict[str, str]
    weights: Weights | None = None

    @property
    def outputs(self) -> int:
        """Number of the network's outputs, the background of a segmentation included."""
        return self.recipe.outputs

    @property
    def counts(self) -> tuple[int, ...]:
        """Numbers of channels that an image may have."""
        return (len(self.channels), len(self.inputs))

    @property
    def name(self) -> str:
        """The run and its fingerprint, for messages and journals."""
        return f"{self.run} ({self.fingerprint})"


def network_of(card: ModelCard) -> nn.Module:
    """The network that a card describes, with random weights."""
    return build_network(
        card.network,
        card.encoder,
        classes=card.outputs,
        features=getattr(card.recipe, "decoder_features", 1),
        seed=card.seed,
        settings=card.network_settings,
        in_channels=len(card.channels),
    )


def save_model(folder: Path, network: nn.Module, card: ModelCard) -> None:
    """Write a network and its description; the same ones give the same bytes.

    The description comes last, with the checksum of the weights: without it there is no model.

    Args:
        folder: of the two files.
        network: parameters and buffers are written as they are, in float32 where they are floats.
        card: its ``weights`` are filled in.
    """
    path = folder / WEIGHTS_FILE
    with atomic_path(path) as temporary:
        save_file({k: _plain(v) for k, v in network.state_dict().items()}, temporary)
    written = Weights(sha256=sha256(path), size=path.stat().st_size)
    card = card.model_copy(update={"weights": written})
    write_json(folder / CARD_FILE, card.model_dump(mode="json"))


def _plain(tensor: Tensor) -> Tensor:
    kind = torch.float32 if tensor.is_floating_point() else tensor.dtype
    return tensor.detach().to("cpu", kind).contiguous().clone()


def is_model(folder: Path) -> bool:
    """Whether a folder holds a model, as a run, an exported model or a bundle does."""
    return size_of(_place(folder) / CARD_FILE) is not None


def _place(folder: Path) -> Path:
    """Where the two files are: of a bundle in a folder of it."""
    bundled = folder / BUNDLED
    return bundled if size_of(bundled / CARD_FILE) is not None else folder


def read_card(folder: Path) -> ModelCard:
    """Read the description of a trained network.

    Args:
        folder: of a run, of an exported model, or of a bundle.

    Raises:
        DataError: there is none.
        IntegrityError: it is damaged, or of another version.
        ResourceError: the machine failed.
    """
    path = _place(folder) / CARD_FILE
    if size_of(path) is None:
        raise DataError(
            f"{folder}: no {CARD_FILE} there",
            "name the folder of a fine-tuning run whose network was kept (finetune.keep_models), "
            "or of an exported model",
        )
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        raise IntegrityError(f"{path}: not readable ({error})", _again(path)) from None
    if not isinstance(content, dict) or content.get("format") != 1:
        found = content.get("format") if isinstance(content, dict) else None
        raise IntegrityError(
            f"{path}: not a model of this version of voxseq (format {found!r}, expected 1)",
            "name the folder of a model that `voxseq` trained; of an exported bundle the folder "
            "that holds model.json",
        )
    try:
        return ModelCard.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise IntegrityError(f"{path}: {place}: {first['msg']}", _again(path)) from None


def load_model(folder: Path) -> tuple[nn.Module, ModelCard]:
    """Load a trained network, strictly, on the CPU and in evaluation mode.

    Raises:
        DataError: the folder holds no model.
        IntegrityError: a file is damaged, the two do not belong together, or the tensors are not
            exactly the network's, or not finite.
        ResourceError: the machine failed.
    """
    card = read_card(folder)
    path = _place(folder) / WEIGHTS_FILE
    if size_of(path) is None:
        raise IntegrityError(f"{path}: no such file beside {CARD_FILE}", _again(path))
    if card.weights is not None and sha256(path) != card.weights.sha256:
        raise IntegrityError(
            f"{path}: damaged, or not the weights that {CARD_FILE} describes (SHA-256 differs)",
            _again(path),
        )
    try:
        with read_named(path), safe_open(path, framework="pt", device="cpu") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise IntegrityError(f"{path}: not readable as weights: {error}", _again(path)) from error
    network = network_of(card)
    _check(path, state, network.state_dict())
    network.load_state_dict(state, strict=True)
    return network.eval(), card


def _check(path: Path, saved: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    problems = [f"missing {key}" for key in wanted if key not in saved]
    problems += [f"unexpected {key}" for key in saved if key not in wanted]
    for key in saved.keys() & wanted.keys():
        if saved[key].shape != wanted[key].shape:
            shapes = f"{tuple(saved[key].shape)}, expected {tuple(wanted[key].shape)}"
            problems.append(f"{key} has shape {shapes}")
        elif saved[key].is_floating_point() and not bool(saved[key].isfinite().all()):
            problems.append(f"{key} is not finite")
    if problems:
        shown = "; ".join(sorted(problems)[:_SHOWN])
        more = f" and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise IntegrityError(f"{path}: weights do not fit {CARD_FILE}: {shown}{more}", _again(path))


def _again(path: Path) -> str:
    return f"restore {path.name} from where it was copied, or train the model again"
