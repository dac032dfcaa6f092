"""Work by several processes: order, errors, the death of a worker, and of the run."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers import ROOT, small_work, trees
from voxseq.base import watch
from voxseq.base.errors import DataError, ResourceError
from voxseq.base.processes import in_order
from voxseq.config.runs import ExamineRun, PrepareRun
from voxseq.data import examine as download
from voxseq.data import journal as staging
from voxseq.data import prepare as preprocess
from voxseq.data.index import read_index
from voxseq.plan.context import RunContext

NAMES = [f"spleen_{n}" for n in range(8)]
TASK = {"window": [-100, 100], "spacing": [2, 2, 2]}


def test_results_come_in_order_whoever_makes_them() -> None:
    found = list(in_order(small_work.slow_square, range(10), 2, small_work.WORK))
    assert [square for square, _ in found] == [n * n for n in range(10)]
    assert os.getpid() not in {process for _, process in found}
    alone = list(in_order(small_work.slow_square, range(10), 0, small_work.WORK))
    assert {process for _, process in alone} == {os.getpid()}


@pytest.mark.parametrize("workers", [0, 2])
def test_the_first_error_in_order_is_raised_whole(workers: int) -> None:
    results = in_order(small_work.fail, range(6), workers, small_work.WORK)
    done = []
    with pytest.raises(DataError) as caught:
        done += [next(results), next(results)]
        next(results)
    assert done == [0, 1]
    assert (caught.value.what, caught.value.hint) == ("item 2: bad", "do something else")


def test_the_death_of_a_worker_names_what_it_worked_on_and_the_next_step() -> None:
    with pytest.raises(ResourceError) as caught:
        list(in_order(small_work.end_abruptly, range(20), 2, small_work.WORK))
    assert "counting: a worker process ended abruptly at one of" in caught.value.what
    assert "item 3" in caught.value.what
    assert "SIGKILL" in caught.value.what
    assert "execution.preprocess.mem_mb" in caught.value.hint
    assert "execution.preprocess.workers" in caught.value.hint
    # The processes that were left are gone, and new ones work.
    assert list(in_order(small_work.need_memory, [0, 2], 2, small_work.WORK)) == [0, 2]


def test_a_stopped_worker_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "LOOK", 0.05)
    with pytest.raises(ResourceError) as caught:
        list(in_order(small_work.stop, range(20), 2, small_work.WORK))
    assert "counting: worker process " in caught.value.what
    assert ": stopped for " in caught.value.what
    assert "item 3" in caught.value.what
    assert "execution.preprocess.workers" in caught.value.hint
    assert list(in_order(small_work.need_memory, [0, 2], 2, small_work.WORK)) == [0, 2]


@pytest.mark.parametrize("workers", [0, 2])
def test_too_little_memory_names_the_item(workers: int) -> None:
    with pytest.raises(ResourceError, match="out of memory at item 1"):
        list(in_order(small_work.need_memory, range(4), workers, small_work.WORK))


def _bytes(folder: Path) -> dict[str, bytes]:
    files = (p for p in sorted(folder.rglob("*")) if p.is_file())
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}


@pytest.mark.slow
def test_the_number_of_workers_changes_no_byte(tmp_path: Path) -> None:
    folder = trees.msd(tmp_path / "data", NAMES)
    (folder / "imagesTr" / "spleen_3.nii.gz").write_bytes(b"damaged")
    found = {}
    for workers in (0, 2):
        out = tmp_path / str(workers)
        common = (tmp_path / "data", out, "task09_spleen")
        trees.run_download(*common, trees.SEGMENTATION, workers)
        trees.run_preprocess(*common, TASK, workers=workers)
        trees.run_preprocess(*common, workers=workers)
        found[workers] = _bytes(out)
    assert sum(name.endswith("/volumes-000.bin") for name in found[0]) == 2
    assert found[0] == found[2]


def _context(folder: Path, data: Path, stage: str, workers: int) -> RunContext[Any]:
    """The run of a stage as the runner calls it."""
    content = {"dataset": "task09_spleen", "task": trees.SEGMENTATION}
    config: ExamineRun | PrepareRun
    if stage == "preprocess":
        store = {**trees.STORE, "chunk_shape": [16, 16, 16]}
        preparation = {**trees.SEGMENTATION, "data": TASK, "native_labels": True}
        config = PrepareRun.model_validate({**content, "store": store, "task": preparation})
    else:
        own = {"split": trees.SPLIT, "min_valid_fraction": 0.1}
        config = ExamineRun.model_validate({**content, **own})
    out = folder / stage
    out.mkdir(parents=True)
    inputs = {"download/task09_spleen": folder / "download"}
    return RunContext(stage, config, out, folder / f"state-{stage}", inputs, data, workers)


def _execute(stage: str, folder: Path, data: Path, workers: int) -> None:
    module = download if stage == "download" else preprocess
    module.execute(_context(folder, data, stage, workers))


_CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from tests.base import test_processes
stage, folder, data, workers = sys.argv[1:]
if __name__ == "__main__":
    test_processes._execute(stage, Path(folder), Path(data), int(workers))
"""


def _start(tmp_path: Path, stage: str, folder: Path, data: Path, workers: int) -> subprocess.Popen:
    script = tmp_path / "child.py"
    script.write_text(_CHILD.format(tests=str(ROOT)))
    command = [sys.executable, str(script), stage, str(folder), str(data), str(workers)]
    return subprocess.Popen(command)


def _done(folder: Path, stage: str) -> int:
    """Number of volumes whose results are kept."""
    if stage == "download":
        journal = folder / "state-download" / "checked.jsonl"
        return journal.read_bytes().count(b"\n") if journal.exists() else 0
    return len(list((folder / "state-preprocess" / "volumes").glob("??????")))


def _empty(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "workers"), [("download", 0), ("preprocess", 0), ("preprocess", 2)]
)
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(
    stage: str, workers: int, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    names = [f"spleen_{n}" for n in range(16)]
    folder = trees.msd(data, names)
    rng = np.random.default_rng(0)
    for name in names:
        big = rng.integers(-900, 900, (64, 64, 64)).astype(np.int16)
        trees.write_nifti(folder / f"imagesTr/{name}.nii.gz", big)
        trees.write_nifti(folder / f"labelsTr/{name}.nii.gz", trees.label((64, 64, 64)))
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    for place in (undisturbed, killed):
        if stage == "preprocess":
            _execute("download", place, data, 0)
    _execute(stage, undisturbed, data, 0)
    child = _start(tmp_path, stage, killed, data, workers)
    while _done(killed, stage) < 2 and child.poll() is None:
        time.sleep(0.002)
    child.kill()
    child.wait()
    assert 2 <= _done(killed, stage) < len(names)
    assert not list((killed / stage).glob("*.parquet"))
    # The runner starts with an empty folder of results, and the state as it was left.
    _empty(killed / stage)
    _execute(stage, killed, data, workers)
    assert _bytes(killed / stage) == _bytes(undisturbed / stage)
    assert len(_bytes(killed / stage)) >= 3


def test_a_restart_prepares_only_what_is_missing_or_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    trees.msd(data, NAMES)
    download.execute(_context(tmp_path, data, "download", 0))
    context = _context(tmp_path, data, "preprocess", 0)
    preprocess.execute(context)
    expected = _bytes(context.out)
    places = sorted((context.state / "volumes").iterdir())
    assert len(places) == len(NAMES)
    image = places[1] / "volumes-000.bin"
    image.write_bytes(image.read_bytes()[:-1] + b"x")
    (places[2] / staging.RECORD).write_text('{"source": ')
    (places[4] / "volumes-000.bin").unlink()
    (context.state / "volumes" / "000005-abc.partial").mkdir()
    prepared = []
    original = preprocess._prepare

    def counting(job: preprocess._Job, item: preprocess._Item) -> None:
        prepared.append(item.key)
        original(job, item)

    monkeypatch.setattr(preprocess, "_prepare", counting)
    _empty(context.out)
    preprocess.execute(context)
    assert prepared == [1, 2, 4]
    assert _bytes(context.out) == expected
    assert not list((context.state / "volumes").glob("*.partial"))


def test_an_image_that_changed_after_a_stop_is_checked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    folder = trees.msd(data, NAMES)
    context = _context(tmp_path, data, "download", 0)
    download.execute(context)
    first = read_index(context.out)
    path = folder / "imagesTr" / "spleen_5.nii.gz"
    trees.write_nifti(path, trees.image(seed=77))
    checked = []
    original = download._usable_row

    def counting(job: download._Job, entry: object) -> dict[str, object]:
        checked.append(entry.subject)  # type: ignore[attr-defined]
        return original(job, entry)  # type: ignore[arg-type]

    monkeypatch.setattr(download, "_usable_row", counting)
    with (context.state / "checked.jsonl").open("ab") as journal:
        journal.write(b'["cut off", {"row"')
    download.execute(context)
    assert checked == ["spleen_5"]
    second = read_index(context.out)
    changed = first["content_hash"] != second["content_hash"]
    assert first["subject"][changed].tolist() == ["spleen_5"]
    lines = (context.state / "checked.jsonl").read_text().splitlines()
    assert len({json.loads(line)[0] for line in lines}) == len(NAMES) + 1


def test_nothing_half_done_is_left_of_a_volume_that_failed(tmp_path: Path) -> None:
    with pytest.raises(DataError), staging.staged(tmp_path / "000000") as folder:
        (folder / "image").write_bytes(gzip.compress(b"half"))
        raise DataError("bad")
    assert list(tmp_path.iterdir()) == []


def test_of_two_that_make_the_same_volume_one_counts(tmp_path: Path) -> None:
    with staging.staged(tmp_path / "000000") as first, staging.staged(tmp_path / "000000") as other:
        for folder in (first, other):
            (folder / "image").write_bytes(b"voxels")
            staging.write_record(folder, "source", {})
    assert [p.name for p in tmp_path.iterdir()] == ["000000"]
    assert staging.finished(tmp_path / "000000", "source")
    expected = hashlib.sha256(b"voxels").hexdigest()
    record = json.loads((tmp_path / "000000" / staging.RECORD).read_text())
    assert record["files"]["image"] == {"bytes": 6, "sha256": expected}
    assert not staging.finished(tmp_path / "000000", "another source")


ODD = ["[" * 100_000, "3", "[]", "{}", '{"source": "source", "files": {}}', "null", "\x00"]


@pytest.mark.parametrize("text", ODD)
def test_a_damaged_record_of_a_volume_counts_as_not_done(tmp_path: Path, text: str) -> None:
    with staging.staged(tmp_path / "000000") as folder:
        (folder / staging.RECORD).write_text(text)
    assert not staging.finished(tmp_path / "000000", "source")
    assert not (tmp_path / "000000").exists()


@pytest.mark.parametrize("text", [*ODD, '["key", 3]', '["key"]'])
def test_a_damaged_line_of_the_journal_counts_as_not_written(tmp_path: Path, text: str) -> None:
    path = tmp_path / "checked.jsonl"
    path.write_text(f'["a", {{"row": 1}}]\n{text}\n')
    journal = staging.Journal(path)
    assert journal.get("a") == {"row": 1}
    assert journal.get("key") is None
    journal.add("key", {"row": 2})
    assert staging.Journal(path).get("key") == {"row": 2}


@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES, errno.ESTALE])
def test_a_volume_whose_record_cannot_be_read_now_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    with staging.staged(tmp_path / "000000") as folder:
        (folder / "image").write_bytes(b"voxels")
        staging.write_record(folder, "source", {})
    real, left = io.open, [staging.RECORD]

    def fail_once(path: Any, *args: Any, **kwargs: Any) -> Any:
        if left and str(path).endswith(left[0]):
            left.clear()
            raise OSError(code, os.strerror(code), str(path))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(io, "open", fail_once)
    with pytest.raises(ResourceError, match=r"record\.json: cannot be read"):
        staging.finished(tmp_path / "000000", "source")
    assert staging.finished(tmp_path / "000000", "source")
