"""Generated volumes, the index of their sequences, and what is expected of each method.

All of it is made on a CPU before the GPU is taken, and travels with the check.
"""

from __future__ import annotations

import shutil
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu.material import Which, config_of, plan_path, run_of
from benchmarks.gpu.sizes import TINY, Size
from benchmarks.material import ct_like
from tests.helpers.sequence_store import CONTRASTS, Image, build_index
from voxseq.base.files import write_json
from voxseq.config.base import Shape3
from voxseq.config.registry import pretrained
from voxseq.config.runs import PretrainRun
from voxseq.estimate import count

#: Brightness of each contrast, as a share of that of a CT: their noise is small, and packs well.
_GAINS = (0.15, 0.2, 0.1, 0.25)
_LESIONS = 6
#: Bytes of a weight, and of the optimiser's moments for one.
_FLOAT, _MOMENTS = 4, 2


def prepare(folder: Path, size: Size) -> None:
    """Write the data of a check.

    Args:
        folder: new or empty.
        size: of the volumes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    scales: tuple[tuple[Which, Size], ...] = (("small", TINY), ("large", size))
    for which, volumes in scales:
        if which == "large" and size is TINY:
            # The steps have the configuration of the demo, too.
            shutil.copytree(folder / "small", folder / "large")
            continue
        config = config_of(size, which)
        chunk = config.store.chunk_shape
        build_index(folder / which, config.sequences, _sources(volumes), chunk_shape=chunk)
        for used in ("download", "state"):
            shutil.rmtree(folder / which / used, ignore_errors=True)
    config = config_of(size, "large")
    plan = {}
    for name in pretrained():
        rows = size.batches.get(name, size.batch)
        run = run_of(config, name).model_copy(update={"batch_size": rows})
        plan[name] = _expected(run)
    write_json(plan_path(folder), plan)


def _sources(size: Size) -> dict[str, list[Image]]:
    """A CT, an examination in four contrasts, and volumes with a lesion each."""
    contrasts = [
        Image("p0", _mri(size.contrast, number, gain), image=name, contrast=name, group="p0")
        for number, (name, gain) in enumerate(zip(CONTRASTS, _GAINS, strict=True))
    ]
    middle = size.lesion[0] // 2
    lesions = [
        Image(f"l{n}", ct_like(size.lesion, 20 + n), label=1, centre=(middle + n, middle - n))
        for n in range(_LESIONS)
    ]
    return {
        "amos22": [Image("s0", ct_like(size.volume, 1))],
        "brats23": contrasts,
        "deeplesion": lesions,
    }


def _mri(shape: Shape3, number: int, gain: float) -> NDArray[np.int16]:
    bright: NDArray[np.int16] = np.rint((ct_like(shape, 10 + number) + 1024.0) * gain).astype("i2")
    return bright


def _expected(run: PretrainRun) -> dict[str, Any]:
    """Operations of an item, and bytes of a step on a device, as ``voxseq plan`` counts them."""
    work = count.pretraining(run, "MRI", 0)
    found = {"operations": work.matrix_training + work.convolution_training, "bytes": None}
    # An estimate without memory leaves the comparison out.
    if find_spec("voxseq.estimate.memory") is None:
        return found
    memory = import_module("voxseq.estimate.memory")
    step = memory.pretraining(run, run.batch_size, 1, False)
    if step.is_counted:
        found["bytes"] = step.training + _MOMENTS * _FLOAT * work.trained
    return found
