"""Memory of a training on its device, counted in the real modules with PyTorch's fake tensors.

Fake tensors have shapes, types and a device, and compute no values, so that a step of any size runs
on any machine. Counted are the bytes of all storages that live at the same time, gradients and
what is kept for the backward pass included. Attention is the fused one, which keeps no scores.
Autocast follows the rules of the CPU; those of a GPU differ in operations that weigh nothing here.
Not counted: what an operation allocates inside itself, and what the allocator cannot use.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from voxseq.config.base import Shape3
from voxseq.config.runs import PretrainRun
from voxseq.estimate.count import META, Numbers, batch_of, fed_shape
from voxseq.estimate.work import StepMemory
from voxseq.pretrain.base import PretrainMethod
from voxseq.pretrain.batching import Batch
from voxseq.pretrain.run import build_method
from voxseq.sequences.sampler import SequenceSampler
from voxseq.training.distributed import BatchShard, shard_of

_LOG = logging.getLogger("voxseq.estimate")
#: Elements above which a tensor that was computed loses its values. Smaller ones keep them, for
#: shapes depend on indices that are drawn: those of the scored tokens.
_LARGE = 2**22
_SIXTEEN_BIT = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


class Ledger(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all tensors that are made while it is active, and of those handed in.

    A storage that several tensors share counts once, until the last of them is gone.

    Attributes:
        fake: makes tensors without values.
        live: bytes now.
        peak: the most at any time.
    """

    def __init__(self, fake: FakeTensorMode) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.fake = fake
        self.live = self.peak = 0
        self._known: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        made = tree_map_only(Tensor, self._emptied, func(*args, **(kwargs or {})))
        tree_map_only(Tensor, self._count, made)
        return made

    def hold(self, tensors: Iterable[Tensor]) -> None:
        """Count tensors that were made before."""
        for tensor in tensors:
            self._count(tensor)

    def restart(self) -> None:
        """Forget the peak."""
        self.peak = self.live

    def _emptied(self, made: Tensor) -> Tensor:
        if isinstance(made, FakeTensor) or made.numel() <= _LARGE:
            return made
        return self.fake.from_tensor(made)

    def _count(self, made: Tensor) -> None:
        storage = made.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key not in self._known:
            self._known[key] = weakref.ref(storage, partial(self._freed, key, size))
            self.live += size
            self.peak = max(self.peak, self.live)

    def _freed(self, key: int, size: int, _: object) -> None:
        del self._known[key]
        self.live -= size


def pretraining(run: PretrainRun, rows: int, parts: int, recompute: bool) -> StepMemory:
    """Memory of one process of a pre-training.

    A method whose shapes depend on voxels cannot be counted, and is marked as such.

    Args:
        run: configuration of the run.
        rows: items of a batch that this process has.
        parts: how many parts it computes one after the other.
        recompute: as ``execution.pretrain.recompute``.
    """
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    with META:
        method = build_method(run)
    shape = fed_shape(method)
    try:
        method.begin(run.steps, cast(SequenceSampler, Numbers()))
        if recompute:
            method.recompute()
        without_values(method, fake)
        ledger = Ledger(fake)
        ledger.hold([*method.parameters(), *method.buffers()])
        weights = ledger.live
        batch = _batch(method, shape, rows, fake)
        ledger.hold(batch.values())
        inputs = (ledger.live - weights) / rows
        training = _step(method, run, batch, parts, ledger)
        del batch
        validation = _validation(method, run, min(rows, run.validation_sequences), ledger)
    except (RuntimeError, AttributeError) as error:
        _LOG.warning(
            "%s: its memory is not counted, because it does not run on PyTorch's fake tensors (%s)",
            run.method,
            str(error).partition("\n")[0],
        )
        return StepMemory(is_counted=False)
    takes_sequences = method.batching.needs == "sequence"
    return StepMemory(weights, inputs, training, validation, takes_sequences)


def _batch(method: PretrainMethod, shape: Shape3, rows: int, fake: FakeTensorMode) -> Batch:
    def empty(*size: int, dtype: torch.dtype) -> Tensor:
        with fake:
            return torch.empty(*size, dtype=dtype)

    return batch_of(method, shape, "MRI", rows, empty)


def without_values(module: nn.Module, fake: FakeTensorMode) -> None:
    """Turn all parameters and buffers into fake tensors."""
    for part in module.modules():
        for name, weight in part.named_parameters(recurse=False):
            part.register_parameter(
                name, nn.Parameter(_like(weight.detach(), fake), weight.requires_grad)
            )
        for name, buffer in part.named_buffers(recurse=False):
            part._buffers[name] = _like(buffer, fake)


def _like(tensor: Tensor, fake: FakeTensorMode) -> Tensor:
    with fake:
        return torch.empty_like(tensor, device="cpu")


def _autocast(precision: str) -> AbstractContextManager[Any]:
    dtype = _SIXTEEN_BIT.get(precision)
    return nullcontext() if dtype is None else torch.autocast("cpu", dtype)


def _step(
    method: PretrainMethod, run: PretrainRun, batch: Batch, parts: int, ledger: Ledger
) -> float:
    """The most during a training step. Of several parts the second finds the gradients there."""
    method.train()
    generator = torch.Generator().manual_seed(0)
    ledger.restart()
    for number in range(min(parts, 2)):
        part = shard_of(batch, BatchShard(number, parts))
        with ledger:
            with _autocast(run.precision):
                loss = method.training_loss(part, 0, generator)["loss"]
            loss.backward()  # type: ignore[no-untyped-call]
        # Its graph would stay while the next one is made.
        del loss
    method.zero_grad(set_to_none=True)
    return float(ledger.peak)


def _validation(method: PretrainMethod, run: PretrainRun, rows: int, ledger: Ledger) -> float:
    """The most during a validation: the loss, and the features of the plain images."""
    method.eval()
    fake = ledger.fake
    batch = _batch(method, fed_shape(method), rows, fake)
    with fake:
        images = torch.empty(rows, 1, *run.sequences.image_shape)
    ledger.hold([*batch.values(), images])
    ledger.restart()
    with ledger, torch.no_grad(), _autocast(run.precision):
        method.validation_loss(batch, torch.Generator().manual_seed(0))
        method.encoder(images).tokens.mean(dim=1)
    return float(ledger.peak)
