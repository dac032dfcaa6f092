"""Trainings whose numbers overflow end with an error that says where, and never with a result."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from tests.helpers.toy import RUN_CONFIG, STEPS, Toy, ToyRows, train
from voxseq.base.errors import Interrupted, NotFiniteError, TrainingError
from voxseq.training import checkpoint
from voxseq.training.loop import Batch, LoopConfig

Spoil = Callable[[Toy, float], None]


def weight(toy: Toy, value: float) -> None:
    toy.layers[3].bias.data[0] = value


def running_statistics(toy: Toy, value: float) -> None:
    toy.layers[1].running_var[2] = value


def moving_average(toy: Toy, value: float) -> None:
    toy.average[1, 2] = value


@pytest.mark.parametrize(
    ("spoil", "name"),
    [
        (weight, r"layers\.3\.bias"),
        (running_statistics, r"layers\.1\.running_var"),
        (moving_average, "average"),
    ],
)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("step", [2, STEPS - 1])
def test_the_update_before_a_validation(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Spoil,
    name: str,
    value: float,
    step: int,
) -> None:
    """The very last one too, after which nothing would compute a loss any more."""
    after_step = Toy.after_step

    def spoilt(self: Toy, at: int) -> None:
        after_step(self, at)
        if at == step:
            spoil(self, value)

    monkeypatch.setattr(Toy, "after_step", spoilt)
    toy = Toy()
    with pytest.raises(
        TrainingError, match=rf"{name} after its update is not finite at step {step}, items"
    ) as e:
        train(tmp_path, toy)
    assert step + 1 not in toy.validated
    path = tmp_path / "state" / checkpoint.FILE
    assert (str(path) if step > 4 else "no checkpoint yet") in str(e.value)
    if step > 4:
        saved = checkpoint.load(tmp_path / "state", RUN_CONFIG)
        assert saved is not None
        assert saved["progress"]["step"] == 8


def test_a_stop_after_a_bad_update_writes_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoilt(self: Toy, at: int) -> None:
        weight(self, float("nan"))
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Toy, "after_step", spoilt)
    with pytest.raises(Interrupted, match=r"layers\.3\.bias after .* at step 0, items"):
        train(tmp_path)
    assert not (tmp_path / "state" / checkpoint.FILE).exists()


def test_a_moment_that_overflows_is_no_silent_end_of_learning(tmp_path: Path) -> None:
    """The weight would stay finite, and for ever where it is."""

    class Steep(Toy):
        def forward(self, batch: Batch, step: int) -> dict[str, torch.Tensor]:
            losses = super().forward(batch, step)
            steep = self.layers[0].weight[0, 0]
            # A gradient of 1e25, whose square is no float.
            return {**losses, "loss": losses["loss"] + (steep - steep.detach()) * 1e25}

    with pytest.raises(TrainingError, match=r"exp_avg_sq of layers\.0\.weight .* at step 2"):
        train(tmp_path, Steep(), clip_norm=None)


def test_what_overflows_in_a_validation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    validate = Toy.validate

    def overflow(self: Toy) -> dict[str, float]:
        if int(self.done) == 6:
            raise NotFiniteError("the features are not finite")
        return validate(self)

    monkeypatch.setattr(Toy, "validate", overflow)
    with pytest.raises(TrainingError, match="the features are not finite at step 5") as caught:
        train(tmp_path)
    assert str(tmp_path / "state" / checkpoint.FILE) in str(caught.value)


def test_what_overflows_while_a_batch_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stepwise(rows: ToyRows, start: int, *_: int) -> Iterator[Batch]:
        yield from map(rows, range(start, 6))
        raise NotFiniteError("the features are not finite")

    monkeypatch.setattr("tests.helpers.toy.stepwise", stepwise)
    with pytest.raises(TrainingError, match=r"the features are not finite at step 5, items \[40"):
        train(tmp_path)


def test_an_infinite_score_is_never_the_best() -> None:
    for mode in ("max", "min", "last"):
        config = LoopConfig(1, "x", mode)  # type: ignore[arg-type]
        for score in (float("inf"), -float("inf"), float("nan")):
            assert not config.is_better(score, None)
