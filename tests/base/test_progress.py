"""Progress: what the record, the log and the terminal say, and that the work is left alone."""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import Any

import pytest

from voxseq.base import progress
from voxseq.base.errors import DataError, Interrupted
from voxseq.base.progress import duration, in_words, read_record, recorded, track


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(progress, "RECORD_INTERVAL", 0.0)
    return tmp_path / "state/progress.json"


def test_the_record_follows_the_work(path: Path) -> None:
    seen = []
    with recorded(path):
        seen.append(read_record(path))
        for number in track("abc", "letters", 5, 2, lambda: {"loss": 0.5, "best": None}):
            assert number in "abc"
            seen.append(read_record(path))
    assert [one.get("done") for one in seen] == [None, None, 3, 4]
    assert {one["state"] for one in seen} == {"running"}
    last = read_record(path)
    expected = {"state": "finished", "doing": "letters", "done": 5, "total": 5, "loss": 0.5}
    assert expected.items() <= last.items()
    assert "best" not in last
    assert seen[-1]["seconds_left"] == pytest.approx(seen[-1]["seconds"] / 2, abs=0.2)


@pytest.mark.parametrize(
    ("error", "state", "reason"),
    [
        (DataError("a file is bad", "mend it"), "failed", "a file is bad\n  next: mend it"),
        (KeyError("x"), "failed", "KeyError: 'x'"),
        (Interrupted("stopped at step 3"), "stopped", "stopped at step 3"),
        (KeyboardInterrupt(), "stopped", "KeyboardInterrupt"),
    ],
)
def test_the_record_says_how_the_work_ended(
    path: Path, error: BaseException, state: str, reason: str
) -> None:
    with pytest.raises(type(error)), recorded(path):
        for _ in track("abc", "letters", 3):
            raise error
    assert read_record(path)["state"] == state
    assert read_record(path)["reason"] == reason


def test_a_record_that_cannot_be_written_or_read_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with recorded(tmp_path / "file/progress.json"):
        assert list(track("abc", "letters", 3)) == ["a", "b", "c"]
    for content in ("[1]", "{", ""):
        (tmp_path / "damaged").write_text(content)
        assert read_record(tmp_path / "damaged") == {}
    assert read_record(tmp_path / "nothing") == {}


def test_numbers_that_are_not_finite_are_left_out(path: Path) -> None:
    with recorded(path):
        list(track("abc", "letters", 3, 0, lambda: {"loss": float("nan"), "best_score": 2.0}))
    assert read_record(path)["best_score"] == 2.0
    assert "loss" not in read_record(path)


def test_without_a_block_nothing_is_recorded(tmp_path: Path) -> None:
    assert list(track("abc", "letters", 3)) == ["a", "b", "c"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("terminal", [False, True])
def test_log_and_terminal_show_loss_and_speed(
    terminal: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: terminal)
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(progress, "LINE_INTERVAL", 0.0)
    with caplog.at_level(logging.INFO, "voxseq"):
        list(track("abc", "training", 3, 0, lambda: {"loss": 0.25, "samples_per_second": 41.2}))
    said = stream.getvalue() if terminal else caplog.text
    assert "training" in said
    assert "loss 0.25, 41.2 samples/s" in said


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({}, ""),
        ({"done": 3, "total": 9}, "3 of 9"),
        (
            {"done": 3, "total": 9, "loss": 0.123456, "samples_per_second": 7, "seconds_left": 40},
            "3 of 9, loss 0.1235, 7 samples/s, 40 s left",
        ),
    ],
)
def test_a_record_in_words(record: dict[str, Any], words: str) -> None:
    assert in_words(record) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (98, "98 s"), (100, "2 min"), (12_000, "3 h 20 min"), (187_200, "2 d 4 h")],
)
def test_durations_have_the_units_that_matter(seconds: float, words: str) -> None:
    assert duration(seconds) == words
