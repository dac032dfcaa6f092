"""Training steps of the demo's size, data included.

Ours against the rate of a matrix product, and every method against the same step whose batches are
made the way before.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.earlier import Reader
from benchmarks.earlier_views import views
from benchmarks.flops import counted, prepare, share_of_product
from benchmarks.harness import Row, alternate, faster
from benchmarks.material import demo_config, typical_step
from benchmarks.sources import Scan, entries, noise, sampler_of
from voxseq.base.random import numpy_generator, torch_generator
from voxseq.config import Config
from voxseq.config.registry import METHODS, pretrained
from voxseq.pretrain.base import PretrainMethod
from voxseq.pretrain.batching import Batch, ItemRows, views_of, volumes_of
from voxseq.pretrain.methods.ours import AutoregressiveMethod
from voxseq.pretrain.run import method_class
from voxseq.sequences.sampler import SequenceSampler
from voxseq.training.batches import stepwise
from voxseq.training.optimiser import adamw

#: Share of the matrix product's rate that is to be reached.
TARGET = 0.6
#: Rounds, and steps of each: the product between them empties the caches, and a training has none.
_ROUNDS, _CALLS = 10, 10
#: Images of a spatial source, subjects of the contrast source and lesions of a category.
_COUNTS = {"spatial": 1, "contrast": 2, "semantic": 12}
#: How many times as fast a step has to be as with batches that are made the way before.
_CONTRASTIVE, _ANY = 1.3, 1.0
_FASTER = {"simclr": _CONTRASTIVE, "moco_v3": _CONTRASTIVE}
_FASTER |= {"dino": _CONTRASTIVE, "pcrlv2": _CONTRASTIVE}
_STEPS = 1000


def run() -> Iterator[Row]:
    """All rows of this module."""
    prepare()
    with tempfile.TemporaryDirectory() as name:
        folder, config = Path(name), demo_config()
        sampler = demo_sampler(folder, config)
        training = Training(config, "ours", sampler)
        flops = counted(training)
        tokens = config.encoder.tokens(config.sequences.volume_shape)
        note = (
            f"width {config.encoder.width}, depth {config.encoder.depth}, {tokens} tokens, batch "
            f"{config.pretrain.batch_size}, {flops / 1e9:.2f} GFLOP a step, "
            f"{_ROUNDS * _CALLS} steps"
        )
        yield share_of_product(
            "demo-size step, data included", training, flops, TARGET, note, _ROUNDS, _CALLS
        )
        reader = Reader(sampler, folder / "files", config.store.chunk_shape)
        for method in pretrained():
            yield _beside_earlier(config, method, sampler, reader)


def _beside_earlier(config: Config, method: str, sampler: SequenceSampler, reader: Reader) -> Row:
    sides = {
        "ours": Training(config, method, sampler),
        "other": Training(config, method, sampler, reader),
    }
    works: dict[str, Callable[[], object]] = {
        name: lambda side=side: [side() for _ in range(_CALLS)]  # type: ignore[misc]
        for name, side in sides.items()
    }
    seconds = alternate(works, _ROUNDS, time.process_time)
    note = f"the demo's configuration; processor time, {_ROUNDS * _CALLS} steps"
    target = _FASTER.get(method, _ANY)
    return faster(f"demo step: {method}", "batches the way before", seconds, target, note, _CALLS)


class Training:
    """Training of a method, step after step: drawing, reading, views, loss, gradients, update.

    Args:
        config: of the study.
        method: name of the method.
        sampler: of the items.
        reader: makes batches the way before; None: the way of now.
    """

    def __init__(
        self, config: Config, method: str, sampler: SequenceSampler, reader: Reader | None = None
    ) -> None:
        row = METHODS[method]
        assert row.settings is not None
        settings = row.settings.model_validate(config.pretrain.methods[method])
        self.method = method_class(method)(settings, config.encoder, config.sequences, 0)
        self.method.begin(_STEPS, sampler)
        self.optimiser = adamw(self.method.parameter_groups(settings.optimiser), settings.optimiser)
        size, self.step = config.pretrain.batch_size, 0
        if isinstance(self.method, AutoregressiveMethod):
            # The first step is the one whose operations are counted.
            self.step = typical_step(self.method, size)
        self._batches = (
            now(self.method, sampler, size, self.step)
            if reader is None
            else before(self.method, reader, size, self.step)
        )

    def __call__(self) -> None:
        """One step."""
        generator = torch_generator(0, "method", self.step)
        self.method(next(self._batches), self.step, generator)["loss"].backward()
        self.method.before_update(self.step, self.optimiser.param_groups)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.method.after_step(self.step, _STEPS)
        self.step += 1


def now(method: PretrainMethod, sampler: SequenceSampler, size: int, first: int) -> Iterator[Batch]:
    """The batches of a training from a step on, as a training without workers makes them."""
    rows = ItemRows(method.batching, sampler, 0, size)
    for batch in stepwise(rows, first, _STEPS):
        volumes = volumes_of(batch, sampler.header, sampler.config)
        yield views_of(batch, volumes, sampler.header, method.batching)


def before(method: PretrainMethod, reader: Reader, size: int, first: int) -> Iterator[Batch]:
    """The same the way before."""
    batching, sampler = method.batching, reader.sampler
    sequences = batching.needs == "sequence"
    for step in range(first, _STEPS):
        chosen = [batching.choose(sampler, step, size, slot) for slot in range(size)]
        items = [reader.item(*one, sequences=sequences) for one in chosen]
        volumes = [item.volume for item in items]
        is_ct = np.array([item.modality == "CT" for item in items])
        yield views(batching, volumes, is_ct, numpy_generator(0, "views", step))


def demo_sampler(folder: Path, config: Config) -> SequenceSampler:
    """The demo's sources with fewer volumes; the kinds have nearly the same shares."""
    shape = config.data.phantoms.volume_shape
    contrasts = config.sequences.contrast.contrasts

    def scans(kind: str, number: int) -> Iterator[Scan]:
        depth = 8 if kind == "semantic" else shape[2]
        seeds = np.random.default_rng(number).integers(2**31, size=100)
        found: Any = entries(kind, contrasts, (16, 16), _COUNTS[kind])
        for entry, seed in zip(found, seeds, strict=False):
            yield entry, noise((*shape[:2], depth), int(seed))

    sources = {
        source.dataset: scans(source.kind, number)
        for number, source in enumerate(config.sequences.sources)
    }
    return sampler_of(folder, config, sources, 1 / 12)
