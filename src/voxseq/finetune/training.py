"""The training of all types of task: frozen parts, and learning rates by depth."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, Self, TypeVar

import torch
from torch import nn

from voxseq.config.finetune import Recipe
from voxseq.config.model import OptimiserConfig
from voxseq.data.task_volumes import Volumes
from voxseq.evaluation.inference import Precision
from voxseq.training.loop import Trainable
from voxseq.training.optimiser import adamw

if TYPE_CHECKING:
    from voxseq.finetune.recipe import Splits

_ENCODER = "encoder."
_BLOCKS = f"{_ENCODER}blocks."
_INPUT = (f"{_ENCODER}patch_embedding.", f"{_ENCODER}start_token")
SomeRecipe = TypeVar("SomeRecipe", bound=Recipe)
#: Numbers for summary.json.
Numbers = dict[str, Any]


class TaskTraining(Trainable, Generic[SomeRecipe]):
    """A network that is trained on a task, and the rows of the cases by which it is validated.

    Its frozen parts stay in evaluation mode. It validates in the context that ``precision`` makes.
    A subclass has ``forward`` and ``validate``, see :class:`voxseq.training.loop.Trainable`, and
    ``select`` and ``score``.
    """

    def __init__(
        self,
        network: nn.Module,
        recipe: SomeRecipe,
        volumes: Volumes,
        validation: Sequence[int],
        precision: Precision = nullcontext,
    ) -> None:
        super().__init__()
        self.precision = precision
        self.network = network
        self.recipe: SomeRecipe = recipe
        self.volumes, self.validation = volumes, validation

    @classmethod
    def of(
        cls,
        network: nn.Module,
        recipe: SomeRecipe,
        volumes: Volumes,
        splits: Splits,
        precision: Precision = nullcontext,
    ) -> Self:
        """The training on the splits of a run."""
        return cls(network, recipe, volumes, splits.val, precision)

    @property
    @abstractmethod
    def select(self) -> str:
        """Name of the validation score by which weights are selected."""

    @property
    def mode(self) -> Literal["min", "max"]:
        """Whether the least or the greatest score is best."""
        return "max"

    @abstractmethod
    def score(self, out: Path, splits: Splits) -> Numbers:
        """Score validation and test split as the validation did: in the training's precision.

        Args:
            out: folder that gets validation.csv, scores.csv, worst.npz and what else the type has.
            splits: the cases.

        Returns:
            Further numbers for summary.json.
        """

    def facts(self) -> Numbers:
        """Numbers that turn the network's outputs into predictions, beside its weights."""
        return {}

    def train(self, mode: bool = True) -> Self:
        """Set the mode, unless it is set: walking through hundreds of modules takes its time."""
        # The loop's wrapper sets this module's own flag ahead of the call; the network's is true.
        if self.network.training is mode:
            self.training = mode
            return self
        super().train(mode)
        for part in self.network.children():
            parameters = list(part.parameters())
            if parameters and not any(p.requires_grad for p in parameters):
                part.eval()
        return self


def layer_id(name: str, depth: int) -> int:
    """Depth of a parameter: 0 the patch embedding and the start token, k block k of 1..depth,
    depth + 1 the final norm and all that follows the encoder (published code)."""
    if name.startswith(_INPUT):
        return 0
    if name.startswith(_BLOCKS):
        return int(name[len(_BLOCKS) :].split(".", 1)[0]) + 1
    return depth + 1


def parameter_groups(
    network: nn.Module, config: OptimiserConfig, depth: int
) -> list[dict[str, Any]]:
    """Group the trainable parameters by learning rate and weight decay.

    A parameter of layer id i learns at lr · layer_decay^(depth + 1 − i); the decoder or head at
    ``decoder_lr`` where one is given. A network without the shared encoder learns at lr throughout.

    Args:
        network: a module whose attribute ``encoder``, if any, is the shared encoder.
        config: the recipe.
        depth: blocks of the encoder.

    Returns:
        AdamW groups with ``params``, ``lr``, ``weight_decay`` and ``name``, in a fixed order.
    """
    groups: dict[str, dict[str, Any]] = {}
    has_encoder = any(name.startswith(_ENCODER) for name, _ in network.named_parameters())
    head_lr = config.decoder_lr if has_encoder and config.decoder_lr else config.lr
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        identity = layer_id(name, depth)
        in_encoder = name.startswith(_ENCODER)
        is_vector = parameter.ndim <= 1 or name.endswith("start_token")
        is_exempt = is_vector and not config.decay_one_dimensional
        base = config.lr if in_encoder else head_lr
        key = f"{'encoder' if in_encoder else 'head'} {identity}{' no decay' if is_exempt else ''}"
        settings = {
            "lr": base * (config.layer_decay or 1.0) ** (depth + 1 - identity),
            "weight_decay": 0.0 if is_exempt else config.weight_decay,
            "name": key,
        }
        groups.setdefault(key, {"params": [], **settings})["params"].append(parameter)
    return list(groups.values())


def build_optimiser(
    network: nn.Module, config: OptimiserConfig, depth: int, precision: str = "32-true"
) -> torch.optim.Optimizer:
    """AdamW over :func:`parameter_groups`."""
    return adamw(parameter_groups(network, config, depth), config, precision)
