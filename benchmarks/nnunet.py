"""Training crops and sliding windows against nnU-Net's (``pip install '.[bench]'``)."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import inference, segmentation
from benchmarks.flops import prepare
from benchmarks.harness import ROUNDS, Row, Unmeasured, alternate, faster, peaks, smaller
from voxseq.data.store import VolumeStore
from voxseq.evaluation.inference import iterate_logits, largest

#: Where nnU-Net looks for its folders; it warns of those that are not named.
_FOLDERS = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
#: Crops that must have foreground, as nnU-Net trains.
_FOREGROUND = 0.33
#: Most voxels of a class whose places nnU-Net keeps.
_PLACES = 10_000
NEEDS = "nnunetv2: pip install '.[bench]'"


def run() -> Iterator[Row | Unmeasured]:
    """All rows of this module."""
    if importlib.util.find_spec("nnunetv2") is None:
        for name in ("segmentation crops", "sliding windows to classes"):
            yield Unmeasured(f"{name}, nnU-Net", NEEDS)
        return
    prepare()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ |= dict.fromkeys(_FOLDERS, name)
        segmentation.write_cases(folder)
        _write_preprocessed(folder / "store", folder / "nnunet")
        yield from _crops(folder)
    yield from _windows()


def _write_preprocessed(store: Path, out: Path) -> None:
    """The store's cases as nnU-Net's own preprocessing writes them."""
    from nnunetv2.training.dataloading.nnunet_dataset import (
        comp_blosc2_params,
        nnUNetDatasetBlosc2,
    )

    out.mkdir()
    cases = VolumeStore(store)
    for row in range(len(cases)):
        image, label = cases.image(row)[None], cases.label(row)[None].astype(np.int8)
        blocks, chunks = comp_blosc2_params(image.shape, segmentation.ROI)
        places = np.argwhere(label == 1)
        chosen = np.random.default_rng(row).choice(len(places), min(_PLACES, len(places)), False)
        nnUNetDatasetBlosc2.save_case(
            image.astype(np.float32),
            label,
            {"class_locations": {1: places[chosen]}},
            str(out / f"case{row:02}"),
            chunks=chunks,
            blocks=blocks,
        )


class Loader:
    """nnU-Net's data loader: the crops of a batch, one of each case, without augmentation."""

    def __init__(self, folder: Path) -> None:
        from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
        from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

        self._loader = nnUNetDataLoader(
            nnUNetDatasetBlosc2(str(folder)),
            segmentation.CROPS * segmentation.BATCH,
            segmentation.ROI,
            segmentation.ROI,
            SimpleNamespace(all_labels=[1], has_ignore_label=False),
            _FOREGROUND,
        )

    def __call__(self) -> None:
        """Make a batch."""
        next(self._loader)


def _crops(folder: Path) -> Iterator[Row]:
    epoch = segmentation.VOLUMES // segmentation.BATCH

    def ours() -> None:
        batches = segmentation.Batches(folder / "store")
        for _ in range(epoch):
            batches()

    def other() -> None:
        loader = Loader(folder / "nnunet")
        for _ in range(epoch):
            loader()

    crops, against = segmentation.CROPS * segmentation.BATCH, "nnUNetDataLoader"
    # What the first call imports counts for neither side.
    Loader(folder / "nnunet")()
    note = (
        f"{segmentation.VOLUMES} volumes of 256×256×128, an epoch of {epoch} batches of {crops} "
        "crops of 96³, no augmentation, one core, page cache warm"
    )
    memory = peaks({"ours": ours, "other": other})
    yield smaller("memory of segmentation crops, nnU-Net", against, memory, 1.0, "MiB", note)
    sides: dict[str, Callable[[], object]] = {
        "ours": segmentation.Batches(folder / "store"),
        "other": Loader(folder / "nnunet"),
    }
    for side in sides.values():
        for _ in range(epoch):
            side()
    seconds = alternate(sides, 3 * ROUNDS, time.process_time)
    note += "; processor time"
    yield faster("segmentation crops, nnU-Net", against, seconds, 1.0, note, crops)


def _windows() -> Iterator[Row]:
    image = np.random.default_rng(0).random((1, *inference.SHAPE), dtype=np.float32)
    network = inference.Cheap().eval()
    predictor = _predictor(network)
    given = torch.from_numpy(image)

    def ours() -> NDArray[np.uint8]:
        classes = np.empty(inference.SHAPE, np.uint8)
        for planes, logits in iterate_logits(network, image, inference.ROI, inference.OVERLAP):
            classes[planes] = largest(logits)
        return classes

    def other() -> NDArray[Any]:
        logits = predictor.predict_sliding_window_return_logits(given)
        found: NDArray[Any] = predictor.label_manager.convert_logits_to_segmentation(logits).numpy()
        return found

    sides: dict[str, Callable[[], object]] = {"ours": ours, "other": other}
    memory = peaks(sides)
    agree = float((ours() == other()).mean())
    note = (
        f"224×224×160 voxels, {inference.CLASSES} classes, windows of 96³, overlap "
        f"{inference.OVERLAP}, Gaussian weights in nnU-Net and equal ones in ours, no mirroring; "
        f"{100 * agree:.2f} % of the classes are the same"
    )
    against = "nnUNetPredictor"
    yield faster("sliding windows to classes, nnU-Net", against, alternate(sides), 1.0, note)
    yield smaller("memory of it", against, memory, 0.7, "MiB", note)


def _predictor(network: torch.nn.Module) -> Any:
    """nnU-Net's predictor for a network, on the CPU."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.utilities.label_handling.label_handling import LabelManager

    with contextlib.redirect_stdout(io.StringIO()):
        predictor = nnUNetPredictor(
            tile_step_size=1 - inference.OVERLAP,
            use_gaussian=True,
            use_mirroring=False,
            perform_everything_on_device=False,
            device=torch.device("cpu"),
            allow_tqdm=False,
        )
    labels = {"background": 0, **{f"organ {n}": n for n in range(1, inference.CLASSES)}}
    predictor.network = network
    predictor.configuration_manager = SimpleNamespace(patch_size=list(inference.ROI))
    predictor.label_manager = LabelManager(labels, None)
    return predictor
