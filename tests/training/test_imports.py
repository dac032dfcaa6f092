"""What a process that trains imports: every one of them pays for it before its first step."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import finetune_store, sequence_store
from tests.helpers.methods import ENCODER, NAMES, small_settings
from voxseq.config.runs import PretrainRun
from voxseq.plan.context import RunContext

#: Libraries for reading images and for reports, and those that import all of themselves at once.
HEAVY = (
    *("monai", "sklearn", "pandas", "scipy.stats", "matplotlib"),
    *("nibabel", "pydicom", "SimpleITK", "h5py", "requests"),
)
PROGRAM = """
import pickle, sys
from importlib import import_module
from voxseq.cli import main
from voxseq.plan.actions import ACTIONS

for action, context in pickle.load(open(sys.argv[1], "rb")):
    module, name = ACTIONS[action].split(":")
    getattr(import_module(module), name)(context)
print(*(name for name in sys.argv[2:] if name in sys.modules))
"""


def pretrainings(root: Path) -> list[RunContext[Any]]:
    """Two steps of every method."""
    sequences = sequence_store.config()
    index, stores = sequence_store.build_index(root, sequences, sequence_store.SOURCES)
    inputs = {f"preprocess/source/{name}": folder for name, folder in stores.items()}
    inputs["sequences/all"] = index
    found = []
    for method in NAMES:
        config = PretrainRun(
            method=method,
            settings=small_settings(method),
            encoder=ENCODER.model_copy(update={"patch_size": (2, 2, 2)}),
            sequences=sequences,
            kinds=sequence_store.KINDS,
            steps=2,
            batch_size=4,
            seed=0,
            validate_every=2,
            validation_sequences=2,
            log_every=1,
            checkpoint_every=2,
        )
        out, state = root / method / "out", root / method / "state"
        out.mkdir(parents=True)
        state.mkdir()
        found.append(RunContext(f"pretrain/{method}", config, out, state, inputs, None))
    return found


def finetunings(root: Path) -> list[RunContext[Any]]:
    """A segmentation and a classification with the longest chain of augmentations."""
    stores = finetune_store.make_stores(root)
    return [
        finetune_store.context(
            root / kind,
            stores[kind],
            {**finetune_store.TASKS[kind], "augmentation": "la"},
            kept=finetune_store.KEPT,
        )
        for kind in ("segmentation", "classification")
    ]


@pytest.mark.slow
def test_a_training_does_without_what_only_images_and_reports_need(tmp_path: Path) -> None:
    work = [("pretrain", one) for one in pretrainings(tmp_path / "pretrain")]
    work += [("finetune", one) for one in finetunings(tmp_path / "finetune")]
    (tmp_path / "work").write_bytes(pickle.dumps(work))
    # PyTorch is there: what is looked for would be found.
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "work"), *HEAVY, "torch"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["torch"]
    assert all((one.out / "metrics.csv").exists() for _, one in work)
