"""Worker processes that are forked, forked by a server, or started afresh."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from multiprocessing import context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.helpers import ROOT
from tests.helpers.finetune_store import (
    CLASSIFICATION,
    SEGMENTATION,
    classification_store,
    segmentation_store,
)
from tests.helpers.methods import NAMES, SEQUENCES, small_settings
from tests.helpers.rows import kept
from tests.helpers.sequence_store import sampler
from tests.helpers.several import Plan, train_plan
from tests.helpers.toy import equal
from tests.training.test_stepwise import await_end
from voxseq.config.finetune import SegmentationRecipe
from voxseq.data.task_volumes import Volumes
from voxseq.finetune.batches import CropRows, ImageRows
from voxseq.pretrain.batching import Batch, Batching, ItemRows, headers_of
from voxseq.pretrain.run import method_class
from voxseq.sequences.raw import header_type
from voxseq.training.batches import stepwise
from voxseq.transforms.augment import build_augmentation

METHODS = ("fork", "forkserver", "spawn")


@pytest.fixture(params=METHODS)
def start_method(request: pytest.FixtureRequest) -> Iterator[str]:
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method(request.param, force=True)
    yield request.param
    multiprocessing.set_start_method(before, force=True)


def crops(folder: Path) -> CropRows:
    recipe = SegmentationRecipe.model_validate(SEGMENTATION)
    volumes = Volumes(segmentation_store(folder / "store"))
    chain = build_augmentation(recipe.augmentation, recipe.roi)
    return CropRows(volumes, volumes.rows("train"), recipe, chain, seed=0)


def images(folder: Path) -> ImageRows:
    volumes = Volumes(classification_store(folder / "store"))
    rows = volumes.rows("train")
    chain = build_augmentation(CLASSIFICATION["augmentation"], volumes.shape(rows[0]))
    return ImageRows(volumes, rows, CLASSIFICATION["batch_size"], chain, seed=0)


def sequences(folder: Path) -> ItemRows:
    return ItemRows(Batching(small_settings("ours"), SEQUENCES, 0), sampler(folder), 0, 4)


def used(batch: Batch) -> Batch:
    """A batch without what lies behind the voxels of an item, in the room of larger ones."""
    if "voxels" in batch:
        sizes = headers_of(batch, header_type(SEQUENCES.length))["used"]
        for row, size in zip(batch["voxels"], sizes.tolist(), strict=True):
            row[size:] = 0
    return batch


@pytest.mark.slow
@pytest.mark.parametrize("made", [crops, sequences])
def test_the_batches_are_those_of_one_process(
    start_method: str, tmp_path: Path, made: Callable[[Path], Any]
) -> None:
    make = made(tmp_path)
    found = kept(islice(stepwise(make, 0, 4, workers=1), 3))
    assert equal([used(b) for b in found], [used(make(step)) for step in range(3)])


def metrics(folder: Path, workers: int) -> bytes:
    """Of a training through two stages."""
    train_plan(Plan("medcoss", folder, steps=4, workers=workers))
    return (folder / "out/metrics.csv").read_bytes()


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return metrics(tmp_path_factory.mktemp("alone"), 0)


@pytest.mark.slow
def test_a_training_through_two_stages_has_the_same_bytes(
    start_method: str, tmp_path: Path, alone: bytes
) -> None:
    assert metrics(tmp_path, 1) == alone


def pickled(made: object, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """As it is handed to a process that is about to start."""
    starting = SimpleNamespace(DupFd=lambda fd: fd, duplicate_for_child=lambda fd: fd)
    monkeypatch.setattr(context._tls, "spawning_popen", starting, raising=False)
    return bytes(multiprocessing.reduction.ForkingPickler.dumps(made))


@pytest.mark.parametrize("name", NAMES)
def test_workers_of_a_pretraining_get_no_module(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batching = method_class(name).batching_type(small_settings(name), SEQUENCES, 0)
    data = sampler(tmp_path)
    data.validation(9)
    sent = pickled(ItemRows(batching, data, 0, 4), monkeypatch)
    assert len(sent) < 2**14
    assert b"torch.nn" not in sent


@pytest.mark.parametrize("made", [crops, images])
def test_workers_of_a_finetuning_get_little(
    made: Callable[[Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(pickled(made(tmp_path), monkeypatch)) < 2**16


WAITING = """
import multiprocessing, sys, time
from tests.helpers.toy import ToyRows
from voxseq.training.batches import stepwise

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    before = set(multiprocessing.active_children())
    batches = stepwise(ToyRows(), 0, 1000, 1)
    next(batches)
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    time.sleep(600)
"""


SIGNALLED = """
import multiprocessing, os
from multiprocessing.forkserver import _forkserver
from tests.helpers.toy import ToyRows
from voxseq.base.stopping import SIGNALS
from voxseq.training.batches import stepwise

if __name__ == "__main__":
    multiprocessing.set_start_method("forkserver")
    batches = stepwise(ToyRows(), 0, 40, 1)
    next(batches)
    for number in SIGNALS:
        os.kill(_forkserver._forkserver_pid, number)
    assert len(list(batches)) == 39
    assert os.waitpid(_forkserver._forkserver_pid, os.WNOHANG) == (0, 0)
"""


def script(folder: Path, text: str, *words: str) -> subprocess.Popen[str]:
    path = folder / "script.py"
    path.write_text(text)
    paths = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    return subprocess.Popen(
        [sys.executable, path, *words],
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_a_request_to_stop_leaves_the_server_of_workers_alone(tmp_path: Path) -> None:
    """A scheduler signals all processes; the training may need one more batch."""
    assert script(tmp_path, SIGNALLED).wait() == 0


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_worker_ends_with_the_main_process(method: str, tmp_path: Path) -> None:
    process = script(tmp_path, WAITING, method)
    assert process.stdout is not None
    worker = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    process.wait()
    await_end(worker)
