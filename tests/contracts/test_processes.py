"""Two processes, parts of batches and both give the losses and gradients of one process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.helpers.methods import NAMES, equal, generator, make
from tests.helpers.rows import kept
from tests.helpers.several import (
    BATCH,
    STEPS,
    Plan,
    curve,
    gradient,
    setup,
    together,
    train_plans,
)
from tests.helpers.training import PhantomSampler, phantom_items, views
from voxseq.base.errors import ConfigError
from voxseq.config import load_config
from voxseq.config.registry import METHODS
from voxseq.pretrain import run
from voxseq.pretrain.base import PretrainMethod
from voxseq.training.batches import stepwise
from voxseq.training.distributed import IDS, WHOLE, BatchShard, shard_of
from voxseq.training.held import block_bytes
from voxseq.training.rows import row_bytes
from voxseq.training.shared import shared_block

TOLERANCE = 1e-5
ACCUMULATING = [n for n in NAMES if (own := METHODS[n].settings) is not None and own.accumulates]
#: Ways of dividing the batches of a method.
WAYS = [
    *((name, "two") for name in NAMES),
    *((name, f"{count}_divided") for name in ACCUMULATING for count in ("one", "two")),
    # Its decoder is then computed in pieces, batch norms over both processes included.
    ("pcrlv2", "two_recomputed"),
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All trainings: folders one, two, one_divided, two_divided, two_recomputed.

    In double precision: in single precision Adam makes a step of the learning rate out of the
    rounding of a gradient that is zero, such as that of a bias before a batch norm.
    """
    base = tmp_path_factory.mktemp("several")
    one, two = (
        [Plan(name, base / folder / name, precision="64-true") for name in NAMES]
        for folder in ("one", "two")
    )
    parts = [plan for plan in one if plan.method in ACCUMULATING]
    divided = {
        folder: [
            replace(p, folder=base / folder / p.method, accumulate=2, recompute=True) for p in parts
        ]
        for folder in ("one_divided", "two_divided")
    }
    train_plans([*one, *divided["one_divided"]])
    recomputed = [
        replace(p, folder=base / "two_recomputed" / p.method, recompute=True)
        for p in one
        if p.method == "pcrlv2"
    ]
    together(2, train_plans, [*two, *divided["two_divided"], *recomputed])
    return base


@pytest.mark.slow
@pytest.mark.parametrize(("name", "way"), WAYS)
def test_losses_are_those_of_one_process(trained: Path, name: str, way: str) -> None:
    for split, count in (("train", STEPS), ("val", 2)):
        expected = curve(trained / "one" / name, split)
        assert len(expected) == count
        # Equal curves of trainings that stand still would say nothing.
        assert max(expected) - min(expected) > 10 * TOLERANCE
        found = curve(trained / way / name, split)
        assert found == pytest.approx(expected, rel=0, abs=TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "way"), WAYS)
def test_gradients_are_those_of_the_whole_batch(trained: Path, name: str, way: str) -> None:
    one, two = gradient(trained / "one" / name), gradient(trained / way / name)
    assert set(one) == set(two)
    largest = max(one.values())
    assert largest > 0
    for weight, expected in one.items():
        assert two[weight] == pytest.approx(expected, rel=1e-4, abs=1e-6 * largest), weight


@pytest.fixture(params=NAMES)
def begun(request: pytest.FixtureRequest) -> tuple[str, PretrainMethod, PhantomSampler]:
    """A method in its last stage, and its data."""
    name: str = request.param
    data = PhantomSampler(24)
    method = run.build_method(setup(Plan(name, Path())))
    method.begin(STEPS, data)
    stages = method.stages(STEPS)
    method.begin_stage(len(stages) - 1, data)
    return name, method, data


def task(begun: tuple[str, PretrainMethod, PhantomSampler], shard: BatchShard) -> run.PretrainTask:
    name, method, data = begun
    return run.PretrainTask(method, data, setup(Plan(name, Path())), shard)


#: Of the first stage, and two of the last one.
SHARED_STEPS = (3, STEPS - 2, STEPS - 1)


@pytest.mark.parametrize("parts", [2, 8])
def test_the_shards_of_all_processes_are_the_batch(
    begun: tuple[str, PretrainMethod, PhantomSampler], parts: int
) -> None:
    """Rows and views, bit for bit; each process reads the items of its own rows and no others."""
    data = begun[2]
    whole = task(begun, WHOLE)
    shards = [task(begun, BatchShard(index, parts)) for index in range(parts)]
    for step in SHARED_STEPS:
        batch = whole.prepare(whole.rows(step))
        assert all(len(values) == BATCH for values in batch.values())
        joined = []
        for number, shard in enumerate(shards):
            data.read_numbers.clear()
            joined.append(shard.prepare(shard.rows(step)))
            own = BatchShard(number, parts).local(batch[IDS]).tolist()
            assert data.read_numbers == own
        assert equal(batch, {n: torch.cat([part[n] for part in joined]) for n in batch})


def test_accumulated_parts_are_the_batch(
    begun: tuple[str, PretrainMethod, PhantomSampler],
) -> None:
    whole = task(begun, WHOLE)
    rows = whole.rows(3)
    parts = [whole.prepare(shard_of(rows, BatchShard(index, 4))) for index in range(4)]
    batch = whole.prepare(rows)
    for name in batch.keys() - {IDS}:
        assert torch.equal(torch.cat([part[name] for part in parts]), batch[name]), name


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("begun", ["dino", "medcoss", "pcrlv2"], indirect=True)
def test_workers_fill_the_rows_of_their_process(
    begun: tuple[str, PretrainMethod, PhantomSampler], workers: int
) -> None:
    own = task(begun, BatchShard(1, 2))
    first = STEPS - 4
    found = kept(stepwise(own.rows, first, STEPS, workers))
    assert [equal(rows, own.rows(step)) for step, rows in enumerate(found, first)] == [True] * 4
    block = shared_block(own.rows, workers, 1)
    held = sum(values.untyped_storage().nbytes() for values in block.values())
    assert held == block_bytes(BATCH // 2, row_bytes(own.rows), workers)


def test_recomputing_keeps_fewer_activations() -> None:
    def saved(recompute: bool) -> int:
        method = make("ours")
        if recompute:
            method.recompute()
        batch = views(method, phantom_items(BATCH))
        counted: list[int] = []

        def count(tensor: torch.Tensor) -> torch.Tensor:
            counted.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            method.training_loss(batch, 0, generator())
        return sum(counted)

    assert saved(True) < saved(False) / 2


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"accumulate": {"simclr": 2}}, "accumulate.simclr: its items meet"),
        ({"accumulate": {"nothing": 2}}, "no such pre-training method"),
        ({"processes": 3}, "does not divide into 3 equal parts"),
        ({"processes": 2, "accumulate": {"ours": 3}}, "accumulate.ours"),
        ({"recompute": ["nothing"]}, "execution.pretrain.recompute: nothing: there is no such"),
        ({"processes": 2, "nodes": 3}, "cannot be spread over 3 nodes"),
        ({"processes": 2, "gpu": 1}, "give each process one GPU"),
    ],
)
def test_impossible_divisions_are_refused(root: Path, asked: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(root / "params.yaml", [{"execution": {"pretrain": asked}}])
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("asked", "found"), [(False, set()), (True, set(NAMES)), (["pcrlv2"], {"pcrlv2"})]
)
def test_methods_recompute_where_they_are_asked_to(
    root: Path, asked: object, found: set[str]
) -> None:
    overlay = {"execution": {"pretrain": {"recompute": asked}}}
    training = load_config(root / "params.yaml", [overlay]).execution.pretrain
    assert {name for name in NAMES if training.recomputes(name)} == found


def test_sharded_weights_of_earlier_versions_are_ignored(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    overlay = {"execution": {"pretrain": {"sharded": ["ours"]}}}
    config = load_config(root / "params.yaml", [overlay])
    assert config == load_config(root / "params.yaml")
    assert "execution.pretrain.sharded is ignored" in caplog.text
    assert "recompute: true" in caplog.text
