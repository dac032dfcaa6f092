"""The training loop: exact resume, selection, and what stops it."""

from __future__ import annotations

import csv
import io
import signal
from pathlib import Path

import pytest
import torch

from tests.helpers.toy import RUN_CONFIG, STEPS, Killed, Outcome, Toy, equal, train
from voxseq.base import progress
from voxseq.base.errors import TrainingError
from voxseq.base.stopping import SIGNALS
from voxseq.config.execution import DeviceConfig
from voxseq.training import checkpoint
from voxseq.training.loop import Interrupted, LoopConfig
from voxseq.training.schedule import lr_factor


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return train(tmp_path_factory.mktemp("straight"))


def rows_of(outcome: Outcome) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(outcome.metrics.decode())))


def test_the_same_seed_gives_the_same_bits(straight: Outcome, tmp_path: Path) -> None:
    torch.manual_seed(99)  # the global stream must not matter
    assert train(tmp_path).same_bits(straight)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["metrics.csv"]
    left = sorted(p.name for p in (tmp_path / "state").iterdir())
    assert left == [checkpoint.FILE]
    assert not train(tmp_path / "other", Toy(seed=1)).same_bits(straight)


@pytest.mark.parametrize("step", range(STEPS))
@pytest.mark.parametrize("number", SIGNALS)
def test_stopped_at_any_step_and_resumed_ends_with_the_same_bits(
    straight: Outcome, tmp_path: Path, step: int, number: signal.Signals
) -> None:
    handlers = [signal.getsignal(n) for n in SIGNALS]
    stopped = Toy()
    stopped.signal_at, stopped.signal_number = step, number
    with pytest.raises(Interrupted, match=f"stopped at step {step + 1}"):
        train(tmp_path, stopped)
    assert stopped.steps_done == list(range(step + 1))
    assert [signal.getsignal(n) for n in SIGNALS] == handlers
    assert not (tmp_path / "out/metrics.csv").exists()
    resumed = train(tmp_path, Toy(seed=1))
    assert resumed.toy.steps_done == list(range(step + 1, STEPS))
    assert resumed.same_bits(straight)


@pytest.mark.parametrize("step", range(STEPS))
def test_killed_at_any_step_and_started_again_ends_with_the_same_bits(
    straight: Outcome, tmp_path: Path, step: int
) -> None:
    killed = Toy()
    killed.kill_at = step
    with pytest.raises(Killed):
        train(tmp_path, killed)
    resumed = train(tmp_path, Toy(seed=1 if step > 4 else 0))
    assert resumed.toy.steps_done[0] == step // 4 * 4
    assert resumed.same_bits(straight)


def test_stopped_many_times_ends_with_the_same_bits(straight: Outcome, tmp_path: Path) -> None:
    for step in range(STEPS):
        toy = Toy(seed=step)  # only the first one's own weights are used
        toy.signal_at = step
        with pytest.raises(Interrupted):
            train(tmp_path, toy)
        assert toy.steps_done == [step]
    assert train(tmp_path, Toy(seed=50)).same_bits(straight)


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_and_more_checkpoints_change_no_bit(
    straight: Outcome, tmp_path: Path, workers: int
) -> None:
    often = train(tmp_path / "a", workers=workers, checkpoint_every=1)
    assert often.same_bits(straight)
    stopped = Toy()
    stopped.signal_at = 5
    with pytest.raises(Interrupted):
        train(tmp_path / "b", stopped, workers=workers)
    assert train(tmp_path / "b", Toy(seed=3)).same_bits(straight)


def test_metrics_hold_what_was_asked_for(straight: Outcome) -> None:
    rows = rows_of(straight)
    assert list(rows[0]) == ["step", "split", "name", "value"]
    train_steps = [int(r["step"]) for r in rows if (r["split"], r["name"]) == ("train", "loss")]
    assert train_steps == [1, 3, 5, 7, 9, 11]
    assert [int(r["step"]) for r in rows if (r["split"], r["name"]) == ("val", "score")] == [
        *(3, 6, 9),
        STEPS,
    ]
    factor = lr_factor("cosine", 2, STEPS)
    rates = [float(r["value"]) for r in rows if r["name"] == "lr"]
    assert rates == pytest.approx([0.05 * factor(step - 1) for step in train_steps], rel=1e-6)
    losses = [float(r["value"]) for r in rows if (r["split"], r["name"]) == ("val", "loss")]
    assert straight.result.best_score == pytest.approx(min(losses))


@pytest.mark.parametrize(
    ("mode", "scores", "best"),
    [
        ("max", {3: 0.2, 6: 0.9, 9: 0.5, 11: 0.4}, 6),
        ("min", {3: 0.2, 6: 0.1, 9: 0.5, 11: 0.4}, 6),
        ("max", {3: 0.7, 6: 0.7, 9: 0.7, 11: 0.7}, 3),
        ("max", {3: float("nan"), 6: 0.1, 9: float("nan"), 11: float("nan")}, 6),
        ("max", {3: 0.1, 6: 0.2, 9: 0.3, 11: 0.4}, 11),
    ],
)
def test_the_best_weights_are_kept_not_the_last(
    tmp_path: Path, mode: str, scores: dict[int, float], best: int
) -> None:
    toy = Toy()
    toy.scores = scores
    chosen = train(tmp_path, toy, select="score", mode=mode)
    assert chosen.result.best_step == best
    assert chosen.result.best_score == scores[best]
    assert sorted(toy.validated) == [3, 6, 9, STEPS]
    for step, weights in toy.validated.items():
        assert equal(toy.state_dict(), weights) == (step == best)


def test_the_selected_weights_survive_a_stop_after_them(tmp_path: Path) -> None:
    scores = {3: 0.9, 6: 0.1, 9: 0.1, 11: 0.1}
    straight, stopped, resumed = Toy(), Toy(), Toy(seed=4)
    for toy in (straight, stopped, resumed):
        toy.scores = scores
    stopped.signal_at = 7
    one = train(tmp_path / "one", straight, select="score", mode="max")
    with pytest.raises(Interrupted):
        train(tmp_path / "two", stopped, select="score", mode="max")
    two = train(tmp_path / "two", resumed, select="score", mode="max")
    assert two.result.best_step == 3
    assert two.same_bits(one)


def test_no_finite_score_is_an_error_with_metrics_to_look_at(tmp_path: Path) -> None:
    toy = Toy()
    toy.scores = dict.fromkeys((3, 6, 9, 11), float("nan"))
    with pytest.raises(TrainingError, match=r"no validation gave a finite score in 11 steps"):
        train(tmp_path, toy, select="score", mode="max")
    assert "val,score,nan" in (tmp_path / "out/metrics.csv").read_text()


@pytest.mark.parametrize("step", [0, 2, 5])
def test_a_loss_that_is_not_finite_names_step_items_and_checkpoint(
    tmp_path: Path, step: int
) -> None:
    toy = Toy()
    toy.bad_at = step
    with pytest.raises(TrainingError) as caught:
        train(tmp_path, toy)
    message = str(caught.value)
    assert f"the loss is nan at step {step}" in message
    assert f"items {list(range(8 * step, 8 * step + 8))}" in message
    path = tmp_path / "state" / checkpoint.FILE
    assert path.exists() == (step >= 4)
    assert (str(path) if step >= 4 else "no checkpoint yet") in message
    if step >= 4:
        saved = checkpoint.load(tmp_path / "state", RUN_CONFIG)
        assert saved is not None
        assert saved["progress"]["step"] == 4
        assert all(v.isfinite().all() for v in saved["model"].values())


def test_a_gradient_that_is_not_finite_is_our_own_error(tmp_path: Path) -> None:
    toy = Toy()
    toy.bad_gradient_at = 5
    with pytest.raises(TrainingError, match=r"the gradient norm is nan at step 5, items \[40,"):
        train(tmp_path, toy)


def test_the_gradient_is_clipped(tmp_path: Path) -> None:
    loose, tight = (
        train(tmp_path / str(n), clip_norm=n, steps=1, validate_every=1) for n in (1e9, 1e-9)
    )
    moments = [
        [float(state["exp_avg"].abs().max()) for state in o.optimiser.state.values()]
        for o in (loose, tight)
    ]
    assert max(moments[0]) > 1e-3
    assert max(moments[1]) < 1e-9


def test_progress_can_be_read_while_training_runs_and_changes_no_bit(
    straight: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "RECORD_INTERVAL", 0.0)
    path, toy = tmp_path / "state/progress.json", Toy()
    toy.kill_at = 7
    toy.scores = {3: 0.1, 6: 0.2}
    with pytest.raises(Killed), progress.recorded(path):
        train(tmp_path, toy, select="score", mode="max")
    found = progress.read_record(path)
    assert (found["done"], found["total"], found["best_step"]) == (7, STEPS, 6)
    assert found["loss"] > 0
    assert found["samples_per_second"] > 0
    with progress.recorded(path):
        assert train(tmp_path / "anew").same_bits(straight)
    assert progress.read_record(path)["done"] == STEPS


@pytest.mark.parametrize("minutes", [1e-9, 1e9, None])
def test_checkpoints_by_minutes_resume_with_the_same_bits(
    straight: Outcome, tmp_path: Path, minutes: float | None
) -> None:
    killed, device = Toy(), DeviceConfig(checkpoint_minutes=minutes)
    killed.kill_at = 7
    with pytest.raises(Killed):
        train(tmp_path, killed, device=device)
    resumed = train(tmp_path, device=device)
    assert resumed.toy.steps_done[0] == (7 if minutes == 1e-9 else 4)
    assert resumed.same_bits(straight)


def test_of_equal_scores_the_earlier_stays() -> None:
    config = LoopConfig(1, "x", "max")
    assert config.is_better(0.1, None)
    assert config.is_better(0.2, 0.1)
    assert not config.is_better(0.1, 0.1)
    assert LoopConfig(1, "x", "min").is_better(0.1, 0.2)
