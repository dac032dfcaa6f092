"""Figure 1: one sequence of each kind with its token order, and the prefix-causal mask."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from voxseq.catalogue import CATALOGUE
from voxseq.config.report_run import ReportRun
from voxseq.report.figures.style import bare, missing, new_figure, outlined
from voxseq.report.reading import read_record

_PREFIX = "#56B4E9"
_SCORED = "#E69F00"
_MASKED = "#F4F4F4"
_CAUSAL = "#0072B2"
_SEQUENCES = "sequences/"
_SOURCE = "preprocess/source/"
#: Inches below which the texts of the mask would lie upon each other.
_MASK_HEIGHT = 4.7
_TITLES = {"spatial": "Spatial", "contrast": "Contrast", "semantic": "Semantic"}


@dataclass(frozen=True)
class Example:
    """One sequence: ``volume`` has shape (X, Y, Z), values 0..1, patches joined along z."""

    kind: str
    volume: NDArray[np.float32]
    caption: str


@dataclass(frozen=True)
class Geometry:
    """How a sequence is cut into tokens.

    Attributes:
        length: number of patches that are joined along z.
        grid: number of tokens along x, y and z of the whole sequence.
        order: raster index (x-major, z fastest) of each token in sequence order, shape (L,).
    """

    length: int
    grid: tuple[int, int, int]
    order: tuple[int, ...]

    @property
    def numbers(self) -> NDArray[np.int64]:
        """Number 1..L of each token in the sequence, shape ``grid``; 0 is the start token."""
        numbers = np.empty(len(self.order), dtype=np.int64)
        numbers[np.asarray(self.order)] = np.arange(1, len(self.order) + 1)
        return numbers.reshape(self.grid)


def first_figure(study: ReportRun, inputs: Mapping[str, Path]) -> Figure | None:
    """Figure 1 from the study's own sequences; ``None`` where it has none.

    A kind of which no optional source is here is left out, as in pre-training.

    Args:
        study: gives geometry and token order.
        inputs: run id → folder, for the sequence index and the stores of its sources.
    """
    settings, encoder = study.sequences, study.encoder
    run = next((run for run in inputs if run.startswith(_SEQUENCES)), None)
    if settings is None or encoder is None or run is None:
        return None
    # The only part of the report that needs torch.
    from voxseq.models.patches import token_order
    from voxseq.sequences.example import example
    from voxseq.sequences.table import LEFT_OUT

    sources = {name: p for name, p in inputs.items() if name.startswith(_SOURCE)}
    stores = {name.removeprefix(_SOURCE).split("/")[0]: p for name, p in sources.items()}
    index, seed = inputs[run], study.report.figure_seed
    absent = read_record(inputs, run, LEFT_OUT).get("kinds", [])
    used = {source.kind for source in settings.sources} - {*absent}
    chosen = {k: example(index, stores, settings, k, seed) for k in _TITLES if k in used}
    examples = [Example(k, volume, _title(name)) for k, (volume, name) in chosen.items()]
    sizes = zip(settings.volume_shape, encoder.patch_size, strict=True)
    x, y, z = (size // patch for size, patch in sizes)
    order = token_order((x, y, z), settings.length, study.token_order)
    geometry = Geometry(settings.length, (x, y, z), tuple(map(int, order)))
    return figure1(examples, geometry, prefix=3 * len(geometry.order) // 8)


def _title(name: str) -> str:
    """A data set as readers know it; one of the user's own has its name alone."""
    return CATALOGUE[name].title if name in CATALOGUE else name


def visibility(prefix: int, length: int) -> NDArray[np.int64]:
    """The prefix-causal mask as classes: 0 hidden, 1 visible as earlier, 2 visible as prefix.

    Args:
        prefix: number p of image tokens that every position sees.
        length: number L of image tokens.

    Returns:
        Shape (L+1, L+1): row = query position, column = key position; 0 = start.
    """
    rows, columns = np.indices((length + 1, length + 1))
    # What plain causal attention already allows keeps its own colour below the prefix block.
    return np.where(columns <= prefix, 2, np.where(columns <= rows, 1, 0)).astype(np.int64)


def figure1(examples: Sequence[Example], geometry: Geometry, prefix: int) -> Figure:
    """Draw one row of slices for each example, and the mask beside them.

    Args:
        examples: one per kind, all of the same shape; without any a cell says "missing".
        geometry: tokens of a sequence and their order.
        prefix: number of tokens that are the given start, 0..L−1.

    Raises:
        ValueError: a volume that the token grid does not divide, or an order that is none.
    """
    total = math.prod(geometry.grid)
    if sorted(geometry.order) != list(range(total)):
        raise ValueError(f"order is no permutation of the {total} tokens of grid {geometry.grid}")
    shapes = [example.volume.shape for example in examples]
    if any(size % n for shape in shapes for size, n in zip(shape, geometry.grid, strict=True)):
        raise ValueError(f"volumes of {shapes}: no multiple of the grid {geometry.grid}")
    rows, side = max(len(examples), 1), 1.75
    # The mask with its labels and legend needs the height of two rows.
    height = max(rows * (side + 0.22) + 0.35, _MASK_HEIGHT)
    figure = new_figure(geometry.length * side + 4.9, height)
    widths = [geometry.length * side, 4.6]
    left, right = figure.subfigures(1, 2, width_ratios=widths, wspace=0.02, squeeze=False)[0]
    grid = left.subplots(rows, geometry.length if examples else 1, squeeze=False)
    if not examples:
        missing(grid[0, 0])
    for line, example in zip(grid, examples, strict=False):
        for index, axes in enumerate(line):
            _patch(axes, example, geometry, index, prefix)
        caption = wrap(example.caption, 26, max_lines=2, placeholder="…")
        line[0].set_ylabel("\n".join([_TITLES[example.kind], *caption]), fontsize=7.5)
    handles = [
        Patch(facecolor=_PREFIX, alpha=0.6, label=f"given prefix: tokens 1–{prefix}"),
        Patch(facecolor=_SCORED, alpha=0.6, label=f"predicted: tokens {prefix + 1}–{total}"),
    ]
    if prefix == 0:
        handles = [Patch(facecolor=_SCORED, alpha=0.6, label=f"predicted: tokens 1–{total}")]
    left.legend(handles=handles, loc="outside lower center", ncols=min(2, geometry.length))
    _mask(right, prefix, total)
    return figure


def _patch(axes: Axes, example: Example, geometry: Geometry, index: int, prefix: int) -> None:
    """The middle slice of one patch, its tokens outlined, numbered and coloured."""
    size_x, size_y, size_z = example.volume.shape
    thickness = size_z // geometry.length
    z = index * thickness + thickness // 2
    step_x, step_y = size_x // geometry.grid[0], size_y // geometry.grid[1]
    layer = z // (size_z // geometry.grid[2])
    axes.imshow(
        example.volume[:, :, z].T, cmap="gray", vmin=0.0, vmax=1.0, origin="lower",
        extent=(0, size_x, 0, size_y), interpolation="nearest",
    )  # fmt: skip
    numbers = geometry.numbers[:, :, layer]
    size = float(np.clip(30.0 / max(numbers.shape), 3.0, 8.5))
    for (i, j), number in np.ndenumerate(numbers):
        colour = _PREFIX if number <= prefix else _SCORED
        corner = (i * step_x, j * step_y)
        axes.add_patch(
            Rectangle(corner, step_x, step_y, facecolor=(*to_rgb(colour), 0.13), linewidth=0.6,
                      edgecolor=(*to_rgb(colour), 0.9))
        )  # fmt: skip
        centre = (corner[0] + step_x / 2, corner[1] + step_y / 2)
        outlined(axes, *centre, str(number), 1.4, ha="center", va="center", fontsize=size)
    axes.set_title(f"patch {index + 1}", fontsize=8)
    bare(axes)


def _mask(figure: Figure, prefix: int, length: int) -> None:
    axes = figure.subplots()
    axes.imshow(
        visibility(prefix, length), cmap=ListedColormap([_MASKED, _CAUSAL, _PREFIX]),
        vmin=0, vmax=2,
        interpolation="nearest", extent=(-0.5, length + 0.5, length + 0.5, -0.5),
    )  # fmt: skip
    axes.axhline(prefix - 0.5, color=_SCORED, linewidth=1.6)
    axes.text(
        length, prefix - 0.5 - 0.012 * length, "loss is computed from this row on", color="#9A5B00",
        ha="right", va="bottom", fontsize=7.5,
    )  # fmt: skip
    axes.set_title("Prefix-causal attention mask")
    axes.set_xlabel("key position (0 = start token) →")
    axes.set_ylabel("← query position; position j predicts token j + 1")
    axes.grid(visible=False)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(8, integer=True))
    handles = [
        Patch(facecolor=_PREFIX, label=f"start and prefix, seen by all (p = {prefix})"),
        Patch(facecolor=_CAUSAL, label="own and earlier positions"),
        Patch(facecolor=_MASKED, edgecolor="#BBBBBB", label="hidden"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=1)
