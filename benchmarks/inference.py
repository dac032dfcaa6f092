"""Segmentation of whole volumes by sliding windows, against MONAI's."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from torch import Tensor, nn

from benchmarks.harness import Row, alternate, faster, peaks, smaller
from voxseq.evaluation.inference import iterate_logits, largest, predict_logits

SHAPE = (224, 224, 160)
ROI = (96, 96, 96)
CLASSES = 14
OVERLAP = 0.5
#: Windows that MONAI is given at a time, as in the published code.
WINDOWS = 4


class Cheap(nn.Module):
    """A network that costs next to nothing: the walk over the windows is what is measured."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.linspace(-1, 1, CLASSES)[:, None, None, None])

    def forward(self, windows: Tensor) -> Tensor:
        """Map (B, 1, X, Y, Z) to (B, C, X, Y, Z)."""
        return windows * self.scale


def run() -> Iterator[Row]:
    """Time and memory of classes, and of logits."""
    torch.set_num_threads(1)
    image = np.random.default_rng(0).random((1, *SHAPE), dtype=np.float32)
    network = Cheap().eval()

    def our_logits() -> Tensor:
        return predict_logits(network, image, ROI, OVERLAP)

    def their_logits() -> Tensor:
        with torch.no_grad():
            made = sliding_window_inference(
                torch.from_numpy(image)[None], ROI, WINDOWS, network, OVERLAP, "constant"
            )
        assert isinstance(made, Tensor)
        return made[0]

    def our_classes() -> None:
        classes = np.empty(SHAPE, np.uint8)
        for planes, logits in iterate_logits(network, image, ROI, OVERLAP):
            classes[planes] = largest(logits)

    def their_classes() -> None:
        their_logits().argmax(dim=0)

    # Memory first: a fork shall not inherit what the timed calls have freed.
    classes = {"ours": our_classes, "other": their_classes}
    logits = {"ours": our_logits, "other": their_logits}
    memory = {name: peaks(sides) for name, sides in (("classes", classes), ("logits", logits))}
    difference = float((our_logits() - their_logits()).abs().max())
    note = (
        f"224×224×160 voxels, {CLASSES} classes, windows of 96³, overlap {OVERLAP}; "
        f"logits differ by {difference:.0e} at most"
    )
    if difference > 1e-5:
        raise RuntimeError(f"the logits differ by {difference}")
    against = "MONAI's, and argmax"
    yield faster("sliding windows to classes", against, alternate(classes), 1.0, note)
    yield smaller("memory of it", against, memory["classes"], 0.5, "MiB", note)
    note = "the same; all logits are kept, as MONAI does"
    yield faster("sliding windows to logits", "MONAI's", alternate(logits), 1.0, note)
    yield smaller("memory of it", "MONAI's", memory["logits"], None, "MiB", note)
