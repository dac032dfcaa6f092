"""Draw docs/overview.png: a scan, a sequence of its patches, and a prediction.

`make quick && python docs/draw_overview.py` draws the scan and the prediction of `make quick`, a
generated phantom, and says so in the picture.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nibabel as nib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from voxseq.config import Config, load_config, read_yaml
from voxseq.report.figures.drawing import show_scale, show_slice
from voxseq.report.figures.style import bare, new_figure, save, styled

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs/overview.png"
RAW = ROOT / "artifacts/quick/download/task09_spleen/s0/raw"
CASE = "spleen_004.nii.gz"
FILES = (RAW / "imagesTr" / CASE, RAW / "labelsTr" / CASE, ROOT / "results/quick/prediction" / CASE)
GIVEN, PREDICTED = "#56B4E9", "#E69F00"
#: Share of the tokens that every position sees; a training draws it anew for each sample.
PREFIX = 3 / 8


class Overview:
    """Scan, true and predicted classes of one case on axes to the right, front and top."""

    def __init__(self, image: Path, truth: Path, prediction: Path) -> None:
        scan = nib.as_closest_canonical(nib.load(image))
        self.scan = np.asarray(scan.dataobj, dtype=np.float32)
        self.spacing = scan.header.get_zooms()[:3]
        self.truth, self.prediction = (
            np.asarray(nib.as_closest_canonical(nib.load(path)).dataobj).astype(np.int64)
            for path in (truth, prediction)
        )
        rests = ((1, 2), (0, 2), (0, 1))
        self.middle = [int(np.argmax((self.truth > 0).sum(axis=rest))) for rest in rests]

    def patches(self, config: Config) -> list[tuple[slice, slice, slice]]:
        """Patches of a spatial sequence around the middle, in voxels of the file."""
        sequences = config.sequences
        spatial = sequences.spatial
        zoom = [a / b for a, b in zip(spatial.crop_shape, spatial.window_shape, strict=True)]
        thick = round(sequences.volume_shape[2] / sequences.length * zoom[2])
        step = round(spatial.stride * zoom[2])
        sizes = (*spatial.crop_shape[:2], thick + (sequences.length - 1) * step)
        ends = zip(self.middle, sizes, self.scan.shape, strict=True)
        x, y, z = (min(max(m - size // 2, 0), max(full - size, 0)) for m, size, full in ends)
        return [
            (
                slice(x, x + sizes[0]),
                slice(y, y + sizes[1]),
                slice(z + i * step, z + i * step + thick),
            )
            for i in range(sequences.length)
        ]

    def draw(self, config: Config) -> Figure:
        """The picture."""
        figure = new_figure(10.2, 2.75)
        left, centre, right = figure.subfigures(1, 3, width_ratios=[2.45, 5.3, 2.45])
        patches = self.patches(config)
        self._scan(left, patches)
        sizes = zip(config.sequences.volume_shape, config.encoder.patch_size, strict=True)
        grid = [side // token for side, token in sizes]
        self._sequence(centre, patches, grid)
        self._prediction(right)
        return figure

    def _scan(self, figure: SubFigure, patches: list[tuple[slice, slice, slice]]) -> None:
        axes = figure.subplots()
        show_slice(axes, self.scan[:, self.middle[1]])
        for number, (x, _, z) in enumerate(patches):
            # Side by side, so that each of the overlapping windows is seen.
            shift = number * 0.03 * (x.stop - x.start)
            box = (x.start - 0.5 + shift, z.start - 0.5), x.stop - x.start, z.stop - z.start
            axes.add_patch(Rectangle(*box, fill=False, edgecolor=GIVEN, linewidth=1.3))
        self._finish(axes, (0, 2))
        figure.suptitle("1. A scan, no labels:\na window slides through it", fontsize=9)

    def _sequence(
        self, figure: SubFigure, patches: list[tuple[slice, slice, slice]], grid: list[int]
    ) -> None:
        low, high = np.percentile(self.scan, (1, 99))
        # Tokens of one patch come before those of the next.
        of_patch = grid[0] * grid[1] * grid[2] // len(patches)
        given = PREFIX * of_patch * len(patches)
        for number, (axes, place) in enumerate(
            zip(figure.subplots(1, len(patches)), patches, strict=True)
        ):
            patch = self.scan[place]
            shown = patch[:, :, patch.shape[2] // 2]
            axes.imshow(shown.T, cmap="gray", vmin=low, vmax=high, origin="lower")
            wide, tall = shown.shape[0] / grid[0], shown.shape[1] / grid[1]
            for (i, j), token in np.ndenumerate(_numbers(grid, number, len(patches))):
                colour = GIVEN if token <= given else PREDICTED
                corner = (i * wide - 0.5, j * tall - 0.5)
                box = Rectangle(corner, wide, tall, facecolor=(*_rgb(colour), 0.16), linewidth=0.9,
                                edgecolor=colour)  # fmt: skip
                axes.add_patch(box)
            axes.set_title(f"patch {number + 1}", fontsize=8)
            bare(axes)
            axes.invert_xaxis()
        figure.suptitle("2. Its patches become one sequence of tokens", fontsize=9)
        figure.supxlabel(
            "The transformer predicts each orange token from all before it; blue ones are given.",
            fontsize=8,
        )

    def _prediction(self, figure: SubFigure) -> None:
        axes = figure.subplots()
        z = self.middle[2]
        show_slice(axes, self.scan[:, :, z], self.prediction[:, :, z], self.truth[:, :, z])
        self._finish(axes, (0, 1))
        figure.suptitle("3. The encoder, fine-tuned:\na mask (white: the truth)", fontsize=9)

    def _finish(self, axes: Axes, plane: tuple[int, int]) -> None:
        right, up = plane
        axes.set_aspect(self.spacing[up] / self.spacing[right])
        bare(axes)
        # As radiologists look at it: the patient's right is on the left.
        axes.invert_xaxis()
        show_scale(axes, self.scan.shape[right] * self.spacing[right])


def _numbers(grid: list[int], patch: int, patches: int) -> NDArray[np.int64]:
    """Numbers in the sequence of the tokens in the middle layer of a patch, shape (X, Y)."""
    thick = grid[2] // patches
    x, y = np.indices(grid[:2])
    within = (x * grid[1] + y) * thick + thick // 2
    return patch * grid[0] * grid[1] * thick + within + 1


def _rgb(colour: str) -> tuple[float, ...]:
    return tuple(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))


def main(*paths: str) -> None:
    """Draw the case of `make quick`, or an image with its true and its predicted classes."""
    files = tuple(map(Path, paths)) or FILES
    missing = [str(path) for path in files if not path.is_file()]
    if missing:
        sys.exit(f"{missing[0]} does not exist: `make quick` makes it")
    config = load_config(ROOT / "params.yaml", [read_yaml(ROOT / "workflow/scales/quick.yaml")])
    with styled():
        save(Overview(*files).draw(config), PICTURE, 100, phantoms=True)
    print(PICTURE.relative_to(ROOT))


if __name__ == "__main__":
    main(*sys.argv[1:])
