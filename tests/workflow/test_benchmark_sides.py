"""Both sides of a comparison make the same; nothing is timed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from benchmarks import nnunet
from benchmarks.demo_step import Training, before, demo_sampler, now
from benchmarks.earlier import Reader
from benchmarks.harness import Unmeasured, timed
from benchmarks.material import demo_config
from voxseq.config import Config
from voxseq.config.registry import pretrained
from voxseq.sequences.sampler import SequenceSampler

Sides = tuple[Config, SequenceSampler, Reader]


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Sides:
    folder: Path = tmp_path_factory.mktemp("demo")
    config = demo_config()
    sampler = demo_sampler(folder, config)
    return config, sampler, Reader(sampler, folder / "files", config.store.chunk_shape)


@pytest.mark.parametrize("sequences", [False, True])
def test_the_way_before_reads_the_same_items(sides: Sides, sequences: bool) -> None:
    _, sampler, reader = sides
    kinds = set()
    for number in range(0, len(sampler), 29):
        old = reader.item(number, np.random.default_rng(number), sequences=sequences)
        raw = sampler.raw(number, np.random.default_rng(number), sequences=sequences)
        assert np.array_equal(sampler.volume(raw), old.volume)
        assert raw.ct == (old.modality == "CT")
        kinds.add(old.kind)
    assert kinds == {"contrast", "semantic", "spatial"}


@pytest.mark.parametrize("method", pretrained())
def test_the_way_before_makes_batches_of_the_same_shapes(sides: Sides, method: str) -> None:
    config, sampler, reader = sides
    of_now, of_before = Training(config, method, sampler).method, reader
    ours = next(now(of_now, sampler, 4, 0))
    other = next(before(of_now, of_before, 4, 0))
    assert {name: (v.shape, v.dtype) for name, v in ours.items() if name != "ids"} == {
        name: (v.shape, v.dtype) for name, v in other.items()
    }
    for name, values in other.items():
        if name == "volume":
            # Boxes and mirrored axes are drawn from other streams; the intensities are alike.
            assert float(values.mean()) == pytest.approx(float(ours[name].mean()), abs=0.05)


def test_a_training_takes_its_batches_from_either_side(sides: Sides) -> None:
    config, sampler, reader = sides
    for given in (None, reader):
        training = Training(config, "simclr", sampler, given)
        weights = [p.detach().clone() for p in training.method.parameters() if p.requires_grad]
        training()
        changed = [p for p in training.method.parameters() if p.requires_grad]
        assert any(not p.equal(w) for p, w in zip(changed, weights, strict=True))
        assert training.step == 1


def test_without_nnu_net_its_rows_are_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    rows = list(nnunet.run())
    assert len(rows) == 2
    assert all(isinstance(row, Unmeasured) and "[bench]" in row.needs for row in rows)


def test_a_clock_can_be_given() -> None:
    ticks = iter([3.0, 10.0])
    assert timed(lambda: None, lambda: next(ticks)) == 7.0
