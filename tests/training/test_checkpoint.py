"""Checkpoints: atomic, without unpickling, tied to one configuration."""

from __future__ import annotations

import copy
import errno
import os
import pickle
import random
from pathlib import Path
from typing import IO, Any

import pytest
import torch

from tests.helpers.toy import RUN_CONFIG, Toy, equal, train
from voxseq.base.errors import IntegrityError, ResourceError
from voxseq.base.failures import failures_named
from voxseq.training import checkpoint
from voxseq.training.loop import Interrupted


def stopped(folder: Path) -> Path:
    toy = Toy()
    toy.signal_at = 5
    with pytest.raises(Interrupted):
        train(folder, toy)
    return folder / "state" / checkpoint.FILE


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    assert checkpoint.load(tmp_path, {}) is None
    content = {"model": {"a": torch.arange(3)}, "progress": {"rows": [(1, "train", "loss", 0.5)]}}
    path = checkpoint.save(tmp_path, content, {"a": {"b": (1, 2), "c": None}, "d": "x"})
    assert path == tmp_path / checkpoint.FILE
    loaded = checkpoint.load(tmp_path, {"a": {"b": [1, 2], "c": None}, "d": "x"})
    assert loaded is not None
    assert torch.equal(loaded["model"]["a"], torch.arange(3))
    assert loaded["progress"] == content["progress"]
    assert loaded["config"] == {"a.b": "[1, 2]", "a.c": "None", "d": "'x'"}


def test_another_configuration_is_refused_with_the_differing_keys(tmp_path: Path) -> None:
    path = stopped(tmp_path)
    other = copy.deepcopy(RUN_CONFIG)
    other["optimiser"]["lr"] = 0.1
    other["new"] = None
    del other["seed"]
    with pytest.raises(IntegrityError) as caught:
        train(tmp_path, run_config=other)
    message = str(caught.value)
    assert "optimiser.lr: 0.05 there, 0.1 now" in message
    assert "seed: 5 there, None now" in message
    assert "new: " in message
    assert "betas" not in message
    assert str(path) in caught.value.hint


@pytest.mark.parametrize("change", [{"lr": 0.1}, {"lr": 0.05, "more": 1}, {}])
def test_every_difference_counts(tmp_path: Path, change: dict[str, float]) -> None:
    checkpoint.save(tmp_path, {}, {"optimiser": {"lr": 0.05}})
    with pytest.raises(IntegrityError, match=r"another configuration \(optimiser"):
        checkpoint.load(tmp_path, {"optimiser": change})
    assert checkpoint.load(tmp_path, {"optimiser": {"lr": 0.05}}) is not None


@pytest.mark.parametrize("damage", ["empty", "cut", "noise", "text", "flipped", "other file"])
def test_a_damaged_checkpoint_is_refused_by_name(tmp_path: Path, damage: str) -> None:
    path = stopped(tmp_path)
    content = bytearray(path.read_bytes())
    if damage == "other file":
        torch.save({"weights": torch.zeros(2)}, path)
    else:
        path.write_bytes(
            {
                "empty": b"",
                "cut": bytes(content[: len(content) // 2]),
                "noise": os.urandom(500),
                "text": b"step: 5\n",
                "flipped": bytes(content[:30]) + b"\xff" * 200 + bytes(content[230:]),
            }[damage]
        )
    with pytest.raises(IntegrityError, match="cannot be read") as caught:
        train(tmp_path)
    assert str(path) in str(caught.value)
    assert f"delete {path}" in caught.value.hint
    path.unlink()
    train(tmp_path)


def test_nothing_is_executed_from_a_checkpoint(tmp_path: Path) -> None:
    witness, path = tmp_path / "witness", tmp_path / "state" / checkpoint.FILE
    path.parent.mkdir()

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return (Path.touch, (witness,))

    for said, write in (
        ("could run code", lambda: torch.save({"config": {}, "model": Evil()}, path)),
        ("not a zip file", lambda: path.write_bytes(pickle.dumps(Evil(), protocol=2))),
        ("code", lambda: torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)),
    ):
        write()
        with pytest.raises(IntegrityError, match=rf"cannot be read.*{said}") as caught:
            checkpoint.load(path.parent, {})
        assert not witness.exists()
        # Torch advises to read such a file all the same.
        assert "weights_only" not in str(caught.value)
        assert "trust" not in str(caught.value)


#: Torch's words where memory ends: the host's, for a mapped file, a device's, in a library.
NO_MEMORY = (
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you "
    "tried to allocate 4503599627370496 bytes. Error code 12 (Cannot allocate memory)",
    "DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes.",
    "unable to mmap 4096 bytes from file <x>: Cannot allocate memory (12)",
    "CUDA error: out of memory",
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
)


@pytest.mark.parametrize("said", NO_MEMORY)
def test_a_checkpoint_for_which_there_was_no_memory_is_not_condemned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    checkpoint.save(tmp_path, {}, {})

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError(said)

    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(ResourceError, match="out of memory"):
        checkpoint.load(tmp_path, {})
    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(ResourceError, match="out of memory"), failures_named(tmp_path):
        checkpoint.save(tmp_path, {}, {})


def test_no_memory_for_a_tensor_is_said_in_plain_words(tmp_path: Path) -> None:
    with pytest.raises(ResourceError) as caught, failures_named(tmp_path):
        torch.empty(2**50)
    assert caught.value.what == "out of memory (tried to allocate 4503599627370496 bytes)"
    assert "more memory" in caught.value.hint


def test_every_flipped_bit_is_found_or_harmless(tmp_path: Path) -> None:
    tensors = {"a": torch.randn(400), "b": torch.arange(30)}
    content = {"model": tensors, "progress": {"step": 3, "rows": [(1, "train", "loss", 0.5)]}}
    path = checkpoint.save(tmp_path, content, {"a": 1})
    sound, chance = path.read_bytes(), random.Random(0)
    found = 0
    for _ in range(150):
        place = chance.randrange(8 * len(sound))
        damaged = bytearray(sound)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(bytes(damaged))
        try:
            loaded = checkpoint.load(tmp_path, {"a": 1})
        except IntegrityError as error:
            assert str(path) in str(error)
            found += 1
        else:
            assert loaded is not None
            assert equal(loaded["model"], tensors)
            assert loaded["progress"] == content["progress"]
    assert found > 50


def test_the_checkpoint_before_survives_a_failed_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint.save(tmp_path, {"step": 1}, {})
    before = (tmp_path / checkpoint.FILE).read_bytes()

    def full(_: object, file: IO[bytes]) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(ResourceError, match=rf"{tmp_path}: the disk is full, .* MB are free"):
        checkpoint.save(tmp_path, {"step": 2}, {})
    assert (tmp_path / checkpoint.FILE).read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [checkpoint.FILE]


class Failing:
    """A file whose n-th call fails."""

    def __init__(self, handle: IO[bytes], n: int, code: int) -> None:
        self.handle, self.left, self.code = handle, n, code

    def __enter__(self) -> Failing:
        return self

    def __exit__(self, *_: object) -> None:
        self.handle.close()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.handle, name)

        def call(*args: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                raise OSError(self.code, os.strerror(self.code))
            return method(*args)

        return call


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.EACCES, errno.EMFILE])
def test_a_failure_of_the_machine_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """At every call on the file, by us, by zipfile and by torch."""
    path = checkpoint.save(tmp_path, {"model": {"a": torch.arange(3000)}}, {})
    failed, real = 0, Path.open
    for n in range(1, 10**6):
        opened = []

        def open_failing(self: Path, *args: Any, n: int = n, held: Any = opened) -> Failing:
            held.append(Failing(real(self, *args), n, code))
            return held[-1]

        monkeypatch.setattr(Path, "open", open_failing)
        try:
            loaded = checkpoint.load(tmp_path, {})
        except ResourceError as error:
            assert f"{path}: cannot be read ({os.strerror(code)})" in error.what
            assert "start again" in error.hint
        else:
            assert loaded is not None
            if opened[0].left > 0:
                break
        failed += 1
    assert failed > 10
