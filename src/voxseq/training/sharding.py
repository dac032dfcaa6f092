"""Weights, gradients and moments divided among the processes of a training (FSDP).

Each process keeps a part of every tensor. The weights of one unit, such as a transformer block, are
put together while the unit computes and let go again. What leaves a training (checkpoints, results)
is whole, so that it does not depend on how a training was divided.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor


def strategy(units: tuple[type[nn.Module], ...], processes: int) -> ModelParallelStrategy:
    """What makes Fabric divide a module among all processes.

    Args:
        units: kinds of modules whose weights are put together at a time; the rest of the module is
            a unit as well.
        processes: all of the training.
    """
    return ModelParallelStrategy(_divider(units), processes, 1)


def _divider(units: tuple[type[nn.Module], ...]) -> Callable[[nn.Module, DeviceMesh], nn.Module]:
    def divide(module: nn.Module, mesh: DeviceMesh) -> nn.Module:
        along = mesh["data_parallel"]
        for unit in [m for m in module.modules() if isinstance(m, units)]:
            fully_shard(unit, mesh=along)
        fully_shard(module, mesh=along)
        # Validation computes with the weights as well.
        register_fsdp_forward_method(module, "validate")
        return module

    return divide


def is_divided(fabric: Fabric) -> bool:
    """Whether the weights that it has set up, or will, are divided among the processes."""
    return isinstance(fabric.strategy, ModelParallelStrategy)


def set_up(
    fabric: Fabric, module: nn.Module, optimiser: torch.optim.Optimizer
) -> tuple[Any, torch.optim.Optimizer]:
    """``fabric.setup``, also where the strategy divides the weights.

    Args:
        fabric: with its strategy.
        module: as it was built; equal in all processes.
        optimiser: over the module's weights, before its first step.

    Returns:
        Module and optimiser as Fabric wraps them.
    """
    if not is_divided(fabric):
        wrapped, wrapped_optimiser = fabric.setup(module, optimiser)
        return wrapped, wrapped_optimiser
    names = {id(weight): name for name, weight in module.named_parameters()}
    wrapped = fabric.setup_module(module)
    # Divided weights are other objects: the optimiser has to learn of them.
    divided = dict(module.named_parameters())
    for group in optimiser.param_groups:
        group["params"] = [divided[names[id(weight)]] for weight in group["params"]]
    return wrapped, fabric.setup_optimizers(optimiser)  # type: ignore[return-value]


def postponed(fabric: Fabric, module: Any) -> AbstractContextManager[None]:
    """Where gradients wait in each process, to be averaged with those of a later part of the batch.

    Divided ones are averaged at once: those that wait are whole in every process.
    """
    if is_divided(fabric):
        return nullcontext()
    waiting: AbstractContextManager[None] = fabric.no_backward_sync(module)
    return waiting


def whole(value: Any, *, kept: bool = True) -> Any:
    """The same nest of dicts and lists with whole tensors, in the host's memory where divided.

    All processes call it at the same point. What is not divided is returned as it is.

    Args:
        value: tensors, or what contains them.
        kept: False: this process takes part, and gets None for what is divided. The processes of a
            machine share its memory, and one of them writes.
    """
    if isinstance(value, DTensor):
        together = value.full_tensor()
        return together.cpu() if kept else None
    if isinstance(value, Mapping):
        return {key: whole(entry, kept=kept) for key, entry in value.items()}
    if isinstance(value, list):
        return [whole(entry, kept=kept) for entry in value]
    return value


def divided_as(state: Mapping[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """Whole tensors of a state, divided as those of the module are; the inverse of :func:`whole`.

    All processes call it at the same point.
    """
    own = module.state_dict()
    return {name: _as(value, own[name]) if name in own else value for name, value in state.items()}


def moments_as(state: Mapping[str, Any], optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """A whole state of an optimiser, whose moments are divided as the weights they belong to.

    They are divided one by one before the optimiser loads them: all of them whole may be more than
    a device holds. All processes call it at the same point.
    """
    numbers = [number for group in state["param_groups"] for number in group["params"]]
    weights = [weight for group in optimiser.param_groups for weight in group["params"]]
    of = dict(zip(numbers, weights, strict=True))
    moments = {
        number: {name: _moment_as(value, of[number]) for name, value in entries.items()}
        for number, entries in state["state"].items()
    }
    return {**state, "state": moments}


def _moment_as(value: Any, weight: Tensor) -> Any:
    is_moment = isinstance(value, Tensor) and value.shape == weight.shape
    return _as(value, weight) if is_moment else value


def _as(value: Tensor, reference: Tensor) -> Tensor:
    if not isinstance(reference, DTensor) or isinstance(value, DTensor):
        return value
    on_device = value.to(reference.device)
    return distribute_tensor(on_device, reference.device_mesh, reference.placements)


def make_whole(module: nn.Module) -> None:
    """Give a module that has been trained whole weights again; it is not to be trained further.

    All processes call it at the same point.
    """
    for part in module.modules():
        for name, weight in list(part.named_parameters(recurse=False)):
            if isinstance(weight, DTensor):
                setattr(part, name, nn.Parameter(whole(weight.detach()), weight.requires_grad))
