"""The block of shared memory that workers fill: its size, and whether there is room for it."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers import ROOT
from tests.helpers.rows import MadeRows
from voxseq.base.errors import ResourceError
from voxseq.training import batches, shared
from voxseq.training.batches import stepwise
from voxseq.training.held import block_bytes, steps_held
from voxseq.training.memory import memory_limit
from voxseq.training.rows import Field, row_bytes
from voxseq.training.shared import pinned, shared_block

#: 408 bytes a row, four rows a batch.
ROWS = MadeRows(
    lambda step, row: {"ids": step},
    {"image": Field((4, 5, 5), "float32"), "ids": Field((), "int64")},
    count=4,
)
WORKERS = 2
#: Two steps: one in use, one ahead.
NEEDED = 2 * 4 * 408


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_the_block_has_the_counted_bytes_and_zeros(workers: int) -> None:
    block = shared_block(ROWS, workers, here=1)
    assert row_bytes(ROWS) == 408
    counted = block_bytes(ROWS.count, row_bytes(ROWS), workers)
    assert sum(values.untyped_storage().nbytes() for values in block.values()) == counted
    for name, field in ROWS.layout.items():
        assert block[name].shape == (steps_held(4, workers), 4, *field.shape)
        assert block[name].is_shared()
        assert not block[name].any()


@pytest.mark.parametrize("field", [Field((3,), t) for t in ("uint8", "int64", "float64")])
def test_fields_of_every_type(field: Field) -> None:
    (values,) = shared_block(MadeRows(dict, {"x": field}), 1, here=1).values()
    assert values.numpy().dtype == field.dtype
    assert values.nbytes == steps_held(1, 1) * field.bytes


@pytest.fixture
def no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where a loader is made."""

    def made(*_: Any, **__: Any) -> None:
        pytest.fail("workers are about to start")

    monkeypatch.setattr(batches, "DataLoader", made)


SMALL_FOLDER = r"shared memory \(/dev/shm\) has 0\.0 MB free, and the batches .* take 0\.0 MB"
SMALL_JOB = r"the job may have 0\.0 MB of memory, and the batches in use and ahead take 0\.0 MB"


@pytest.mark.parametrize(
    ("name", "said", "hint"),
    [("_free", SMALL_FOLDER, "--shm-size"), ("memory_limit", SMALL_JOB, "mem_mb")],
)
def test_a_block_without_room_is_refused_before_any_worker_starts(
    monkeypatch: pytest.MonkeyPatch, no_worker: None, name: str, said: str, hint: str
) -> None:
    monkeypatch.setattr(shared, "_LOCKS", 0)
    monkeypatch.setattr(shared, name, lambda: NEEDED - 1)
    before = multiprocessing.active_children()
    with pytest.raises(ResourceError, match=said) as caught:
        next(stepwise(ROWS, 0, 50, WORKERS))
    assert hint in caught.value.hint
    assert multiprocessing.active_children() == before


@pytest.mark.parametrize("name", ["_free", "memory_limit"])
def test_a_block_that_just_fits_is_taken(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(shared, "_LOCKS", 0)
    monkeypatch.setattr(shared, name, lambda: NEEDED)
    assert [int(batch["ids"][3]) for batch in stepwise(ROWS, 0, 9, WORKERS)] == [*range(9)]
    # Two processes of a node make a block each.
    with pytest.raises(ResourceError):
        shared_block(ROWS, WORKERS, here=2)


@pytest.mark.parametrize(
    ("free", "limit", "said"),
    [
        (64e6, 120e9, r"has 64\.0 MB free, and .* take 3052\.8 MB"),
        (16e9, 2e9, r"may have 2000\.0 MB of memory, and .* take 3052\.8 MB"),
    ],
)
def test_both_numbers_are_named(
    monkeypatch: pytest.MonkeyPatch, free: float, limit: float, said: str
) -> None:
    """Items of the paper's size, which are never allocated."""
    rows = MadeRows(dict, {"voxels": Field((5_300_000,), "uint8")}, count=288)
    monkeypatch.setattr(shared, "_free", lambda: int(free))
    monkeypatch.setattr(shared, "memory_limit", lambda: int(limit))
    with pytest.raises(ResourceError, match=said):
        shared_block(rows, 16, here=1)


def test_shared_memory_that_is_full_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before any row is made, and when others fill it in the meantime."""

    def full(size: int, **_: Any) -> None:
        raise RuntimeError("unable to allocate shared memory(shm) for file <x>: No space left (28)")

    with monkeypatch.context() as patch:
        patch.setattr(torch.UntypedStorage, "_new_shared", full)
        with pytest.raises(ResourceError, match=r"took no block of rows \(unable to allocate"):
            next(stepwise(ROWS, 0, 50, 1))
    monkeypatch.setattr(shared, "_free", lambda: 4096)
    with pytest.raises(ResourceError, match=r"shared memory \(/dev/shm\) is full"):
        next(stepwise(ROWS, 0, 50, 1))


IN_SMALL_MEMORY = """
from tests.helpers.rows import MadeRows
from voxseq.base.errors import ResourceError
from voxseq.training.batches import stepwise
from voxseq.training.rows import Field
rows = MadeRows(lambda step, row: {"image": 0}, {"image": Field((20000,), "float32")})
try:
    list(stepwise(rows, 0, 50, 2))
except ResourceError as error:
    print(error)
"""


@pytest.mark.slow
def test_in_a_container_with_little_shared_memory() -> None:
    mounted = 'mount -t tmpfs -o size=64k none /dev/shm && exec "$@"'
    alone = ["unshare", "--mount", "--map-root-user", "sh", "-c", mounted, "sh"]
    if subprocess.run([*alone, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this system gives no file system of one's own")
    words = [*alone, sys.executable, "-c", IN_SMALL_MEMORY]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    ended = subprocess.run(
        words,
        check=False,
        timeout=60,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    )
    assert ended.stdout.startswith("shared memory (/dev/shm) has 0.1 MB free, and the batches")
    assert ended.stderr == ""


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/a/b\n", {"a/b/memory.max": "max\n", "a/memory.max": "7000\n"}, 7000),
        ("0::/\n", {"memory.max": "9000\n"}, 9000),
        ("3:memory:/job\n", {"memory/job/memory.limit_in_bytes": "5000\n"}, 5000),
        ("3:cpu,cpuacct:/\n0::/a\n", {"b/memory.max": "1\n"}, None),
    ],
)
def test_the_memory_of_the_job_is_that_of_its_control_groups(
    tmp_path: Path, groups: str, files: dict[str, str], expected: int | None
) -> None:
    own = tmp_path / "own"
    own.write_text(groups)
    for name, text in files.items():
        path = tmp_path / "all" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert memory_limit(own, tmp_path / "all") == expected
    assert memory_limit(tmp_path / "missing") is None


class Runtime:
    """Stands for CUDA's: notes what is locked, and refuses the second."""

    def __init__(self) -> None:
        self.locked: dict[int, int] = {}

    def cudaHostRegister(self, place: int, size: int, flags: int) -> int:
        if self.locked:
            return 1
        self.locked[place] = size
        return flags

    def cudaHostUnregister(self, place: int) -> None:
        del self.locked[place]


def test_the_block_is_pinned_while_batches_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    runtime, block = Runtime(), {"image": torch.zeros(4), "ids": torch.zeros(2)}
    with pinned(block):
        assert not runtime.locked
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "cudart", lambda: runtime)
    with pinned(block):
        assert runtime.locked == {block["image"].data_ptr(): 16}
        assert "cannot be pinned" in caplog.text
    assert not runtime.locked
