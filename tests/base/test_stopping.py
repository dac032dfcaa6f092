"""Requests to stop: at once, after a held block, or when the block takes too long."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.toy import STEPS, Outcome, Toy, train
from voxseq.base import stopping
from voxseq.base.errors import DataError, Interrupted, ResourceError, VoxseqError
from voxseq.base.stopping import SIGNALS, stop_requests
from voxseq.training import checkpoint


def send(number: int = signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_request_takes_effect_at_once(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match=f"stopped by {number.name}"), stop_requests():
        send(number)
        pytest.fail("went on")
    assert signal.getsignal(number) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_held_block_ends_first() -> None:
    done = []
    with pytest.raises(Interrupted), stop_requests() as stop:
        with stop.held():
            with stop.held():
                send()
                send(signal.SIGUSR1)
                done.append("inner")
            pytest.fail("the request was not looked at")
        done.append("more")
    assert done == ["inner"]


def test_a_held_block_that_takes_too_long_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "GRACE", 0.1)
    began = time.monotonic()
    with pytest.raises(Interrupted), stop_requests() as stop, stop.held():
        send()
        while time.monotonic() < began + 30:
            time.sleep(0.01)
    assert time.monotonic() - began < 10


def test_a_request_that_got_lost_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python drops exceptions inside destructors; a library may swallow them as well."""
    monkeypatch.setattr(stopping, "_REPEAT", 0.1)
    with pytest.raises(Interrupted), stop_requests():
        # What such a library does.
        with contextlib.suppress(BaseException):
            send()
        time.sleep(5)
        pytest.fail("the request was lost")


def test_an_alarm_of_somebody_else_is_no_request() -> None:
    with stop_requests() as stop:
        send(signal.SIGALRM)
        assert not stop.requested


def test_an_error_that_follows_a_request_is_the_interruption() -> None:
    with pytest.raises(Interrupted, match="stopped by SIGTERM: a worker is gone"), stop_requests():
        try:
            send()
        except Interrupted:
            raise DataError("a worker is gone") from None
    with pytest.raises(DataError), stop_requests():
        raise DataError("without a request")


def test_readers_of_files_do_not_take_a_request_for_damage() -> None:
    assert not issubclass(Interrupted, Exception)
    with pytest.raises(Interrupted), stop_requests():
        try:
            send()
        except Exception:
            pytest.fail("taken for an error of a file")


def test_errors_keep_their_hint_between_processes() -> None:
    import pickle

    for error in (DataError("a", "b"), ResourceError("a"), VoxseqError("a", "b")):
        again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
        assert (type(again), again.what, again.hint) == (type(error), error.what, error.hint)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return train(tmp_path_factory.mktemp("straight"))


@pytest.mark.parametrize("which", [1, 2, 4])
def test_stopped_inside_a_validation_it_is_done_again(
    straight: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: int
) -> None:
    validate, count = Toy.validate, iter(range(1, 100))

    def stopped(self: Toy) -> dict[str, float]:
        scores = validate(self)
        if next(count) == which:
            send()
        return scores

    monkeypatch.setattr(Toy, "validate", stopped)
    with pytest.raises(Interrupted, match=f"stopped at step {min(3 * which, STEPS)}; checkpoint"):
        train(tmp_path)
    saved = checkpoint.load(tmp_path / "state", {"seed": 5, "optimiser": _optimiser()})
    assert saved is not None
    assert saved["progress"]["validation_due"]
    assert train(tmp_path, Toy(seed=9)).same_bits(straight)


def _optimiser() -> dict[str, object]:
    return {"lr": 0.05, "betas": [0.9, 0.99]}


def test_a_step_that_takes_too_long_is_left_out(
    straight: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopping, "GRACE", 0.05)
    after_step = Toy.after_step

    def slow(self: Toy, step: int) -> None:
        after_step(self, step)
        if step == 6:
            send()
            time.sleep(5)

    with monkeypatch.context() as patch:
        patch.setattr(Toy, "after_step", slow)
        with pytest.raises(Interrupted, match="took too long"):
            train(tmp_path)
    resumed = train(tmp_path, Toy(seed=9))
    # From the rolling checkpoint of step 4: that of the cut step would be of no step.
    assert resumed.toy.steps_done[0] == 4
    assert resumed.same_bits(straight)


def test_the_end_of_a_long_training_has_a_checkpoint(
    straight: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "LATE", -1.0)
    train(tmp_path)
    again = train(tmp_path, Toy(seed=9))
    assert again.toy.steps_done == []
    assert again.toy.validated == {}
    assert again.same_bits(straight)


def test_weights_that_are_no_numbers_reach_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from voxseq.base.errors import TrainingError

    after_step = Toy.after_step

    def spoil(self: Toy, step: int) -> None:
        after_step(self, step)
        if step == 7:
            self.layers[0].weight.data[0, 0] = float("nan")

    monkeypatch.setattr(Toy, "after_step", spoil)
    with pytest.raises(TrainingError, match=r"weight layers\.0\.weight .* at step 7, items \[56,"):
        train(tmp_path)
    saved = checkpoint.load(tmp_path / "state", {"seed": 5, "optimiser": _optimiser()})
    assert saved is not None
    assert saved["progress"]["step"] == 4


def test_the_state_of_the_precision_is_in_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 16-bit floats on a GPU the loss has a scale that adapts; a resumed run keeps it."""
    from lightning_fabric.plugins.precision.precision import Precision

    seen: list[dict[str, float]] = []
    monkeypatch.setattr(Precision, "state_dict", lambda self: {"scale": 8.0})
    monkeypatch.setattr(Precision, "load_state_dict", lambda self, state: seen.append(state))
    stopped = Toy()
    stopped.signal_at = 5
    with pytest.raises(Interrupted):
        train(tmp_path, stopped)
    assert seen == []
    train(tmp_path, Toy(seed=9))
    assert seen == [{"scale": 8.0}]


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_what_comes_from_a_terminal_stays_ignored_in_the_background(number: int) -> None:
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with stop_requests() as stop:
            send(number)
            assert not stop.requested
        assert signal.getsignal(number) is signal.SIG_IGN
        # A batch system's warnings are ignored by the workflow, and not by the work.
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        with pytest.raises(Interrupted, match="SIGUSR1"), stop_requests():
            send(signal.SIGUSR1)
    finally:
        signal.signal(number, before)
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)


SCRIPT = """
import signal, sys, time
from voxseq.base.stopping import stop_requests
from voxseq.base.errors import Interrupted
try:
    with stop_requests():
        print("ready", flush=True)
        time.sleep(60)
except Interrupted as error:
    print(error)
    sys.exit(75)
"""


def test_needs_no_heavy_import() -> None:
    """A signal that arrives while libraries are loaded is a request as well."""
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 75
    code = "import sys, voxseq.base.stopping; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
