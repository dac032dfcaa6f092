"""Two processes, parts of batches and both give the losses and gradients of one process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import torch

from tests.helpers.methods import NAMES, generator, make
from tests.helpers.several import (
    BATCH,
    STEPS,
    Phantoms,
    Plan,
    curve,
    gradient,
    setup,
    together,
    train_plans,
)
from voxseq.base.errors import ConfigError
from voxseq.config import load_config
from voxseq.config.registry import METHODS
from voxseq.pretrain import run
from voxseq.sequences.sampler import SequenceSampler
from voxseq.training.batches import stepwise
from voxseq.training.distributed import IDS, WHOLE, BatchShard

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


@pytest.mark.parametrize("name", NAMES)
def test_the_shards_of_all_processes_are_the_batch(tmp_path: Path, name: str) -> None:
    """A method with ``per_sample`` reads the items of its own rows and no others."""
    made = setup(Plan(name, tmp_path))
    data = Phantoms(24)
    method = run.build_method(made)
    method.begin(STEPS, cast(SequenceSampler, data))
    read: list[int] = []
    draw = method.batching.draw

    def counted(*args: object) -> object:
        items = draw(*args)  # type: ignore[arg-type]
        read.append(len(items))
        return items

    method.batching.draw = counted  # type: ignore[method-assign, assignment]
    whole, first, second = (
        run.PretrainTask(method, cast(SequenceSampler, data), made, shard).batches(3)
        for shard in (WHOLE, BatchShard(0, 2), BatchShard(1, 2))
    )
    for entry in whole.keys() - {IDS}:
        assert torch.equal(torch.cat([first[entry], second[entry]]), whole[entry])
    own = BATCH // 2 if method.batching.per_sample else BATCH
    assert read == [BATCH, own, own]
    if method.batching.per_sample:
        assert torch.equal(torch.cat([first[IDS], second[IDS]]), whole[IDS])


def test_rows_of_one_process_own_their_storage(tmp_path: Path) -> None:
    """A view of the whole batch would carry all of it from the worker to the main process."""
    made = setup(Plan("simclr", tmp_path))
    data = cast(SequenceSampler, Phantoms(24))
    method = run.build_method(made)
    method.begin(STEPS, data)
    task = run.PretrainTask(method, data, made, BatchShard(1, 4))
    (batch,) = stepwise(task.batches, 3, 4, workers=1)
    assert len(batch["first"]) == BATCH // 4
    for name, rows in batch.items():
        assert rows.untyped_storage().nbytes() == rows.nbytes, name


def test_recomputing_keeps_fewer_activations() -> None:
    def saved(recompute: bool) -> int:
        method = make("ours")
        if recompute:
            method.recompute()
        batch = method.batching.collate(Phantoms(BATCH).items, None)
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
