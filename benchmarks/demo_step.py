"""A training step of the demo's size, data included, against the rate of a matrix product."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.flops import counted, prepare, share_of_product
from benchmarks.harness import Row
from benchmarks.large_index import with_draws
from benchmarks.material import demo_config, in_ras, table_row, typical_step
from voxseq.base.random import numpy_generator, torch_generator
from voxseq.config import Config
from voxseq.config.methods.ours import OursSettings
from voxseq.data.index import INDEX, SCHEMA, write_table
from voxseq.data.store import StoreWriter
from voxseq.data.volume import Entry
from voxseq.plan.context import RunContext
from voxseq.pretrain.methods.ours import AutoregressiveMethod
from voxseq.sequences import build
from voxseq.sequences.sampler import SequenceSampler
from voxseq.training.optimiser import adamw

#: Share of the matrix product's rate that is to be reached.
TARGET = 0.6
#: Rounds, and steps of each: the product between them empties the caches, and a training has none.
_ROUNDS, _CALLS = 10, 10
#: Volumes of a spatial source, subjects of the contrast source and lesions of a category.
_VOLUMES, _SUBJECTS, _LESIONS = 1, 2, 12


def run() -> Iterator[Row]:
    """The one row of this module."""
    prepare()
    with tempfile.TemporaryDirectory() as name:
        config = demo_config()
        training = Training(config, _sampler(Path(name), config))
        flops = counted(training)
        note = (
            f"width {config.encoder.width}, depth {config.encoder.depth}, 64 tokens of 4³, batch "
            f"{config.pretrain.batch_size}, {flops / 1e9:.2f} GFLOP a step, "
            f"{_ROUNDS * _CALLS} steps"
        )
        yield share_of_product(
            "demo-size step, data included", training, flops, TARGET, note, _ROUNDS, _CALLS
        )


class Training:
    """Training of our method, step after step: drawing, reading, loss, gradients, update."""

    def __init__(self, config: Config, sampler: SequenceSampler) -> None:
        settings = OursSettings.model_validate(config.pretrain.methods["ours"])
        self.sampler, self.size = sampler, config.pretrain.batch_size
        self.method = AutoregressiveMethod(settings, config.encoder, config.sequences, 0)
        self.method.begin(1000, sampler)
        self.optimiser = adamw(self.method.parameter_groups(settings.optimiser), settings.optimiser)
        # The first step is the one whose operations are counted.
        self.step = typical_step(self.method, self.size)

    def batch(self) -> dict[str, Any]:
        """The batch of the step."""
        items = self.method.batching.draw(self.sampler, self.step, self.size)
        return self.method.batching.collate(items, numpy_generator(0, "views", self.step))

    def __call__(self) -> None:
        """One step."""
        generator = torch_generator(0, "method", self.step)
        self.method(self.batch(), self.step, generator)["loss"].backward()
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.step += 1


def _sampler(folder: Path, config: Config) -> SequenceSampler:
    """The demo's sources with fewer volumes; the kinds have nearly the same shares."""
    shape = config.data.phantoms.volume_shape
    inputs = {}
    for number, source in enumerate(config.sequences.sources):
        rng = np.random.default_rng(number)
        entries = _entries(source.kind, config.sequences.contrast.contrasts)
        store, download = folder / "store" / source.dataset, folder / "download" / source.dataset
        store.mkdir(parents=True)
        download.mkdir(parents=True)
        writer = StoreWriter(store, config.store)
        rows = []
        for key, entry in enumerate(entries):
            depth = 8 if source.kind == "semantic" else shape[2]
            noise = rng.normal(0, 300, (*shape[:2], depth))
            volume = in_ras(np.rint(noise).astype(np.int16))
            row = table_row(volume, entry)
            row["volume_id"] = f"{source.dataset}/{entry.subject}/{entry.image}"
            writer.add(key, volume.array, None, row)
            rows.append(row)
        writer.close()
        write_table(download / INDEX, [{k: r[k] for k in SCHEMA.names} for r in rows], SCHEMA)
        inputs[f"preprocess/source/{source.dataset}"] = store
        inputs[f"download/{source.dataset}"] = download
    index = folder / "index"
    index.mkdir()
    settings = with_draws(config.sequences, 1 / 12)
    build.execute(RunContext("sequences/all", settings, index, folder / "state", inputs, None))
    stores = {s.dataset: folder / "store" / s.dataset for s in config.sequences.sources}
    kinds = tuple(sorted({s.kind for s in config.sequences.sources}))
    return SequenceSampler(index, stores, config.sequences, kinds, 0)


def _entries(kind: str, contrasts: tuple[str, ...]) -> list[Entry]:
    if kind == "contrast":
        return [
            Entry(f"s{n}", contrast, "", modality="MRI", contrast=contrast, group=f"s{n}")
            for n in range(_SUBJECTS)
            for contrast in contrasts
        ]
    if kind == "semantic":
        return [
            Entry(f"c{category}n{n}", "0", "", modality="CT", label=category, centre=(16, 16))
            for category in range(1, 9)
            for n in range(_LESIONS)
        ]
    return [Entry(f"s{n}", "0", "", modality="CT") for n in range(_VOLUMES)]
