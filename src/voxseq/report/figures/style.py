"""One style for all figures: fonts, a colour-blind safe palette, deterministic PNG files."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from matplotlib import patheffects, style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, FigureBase
from matplotlib.layout_engine import ConstrainedLayoutEngine

from voxseq.base.files import atomic_path
from voxseq.config.data import PHANTOMS
from voxseq.config.report_run import REFERENCE

#: Okabe and Ito's palette without black and yellow, which is too light on white; then Tol's.
OURS = "#D55E00"
_OTHERS = (
    *("#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#E69F00"),
    *("#555555", "#8C6D31", "#5E4FA2", "#882255", "#999933"),
)
_DASHES: tuple[tuple[float, ...], ...] = ((), (4, 1.5), (1, 1.2), (5, 1.5, 1, 1.5))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h", "<", ">", "p")
#: Up to this number of other series, lines are drawn at full width.
FEW = 4
MISSING_FACE = "#EEEEEE"
MISSING_TEXT = "#595959"
#: Of the line that says what the data are; dark enough for small letters (WCAG AA).
WARNING = "#A84300"
_STYLE = Path(__file__).with_name("voxseq.mplstyle")
#: Height in inches of the line that says of what a figure's data are.
_STRIP = 0.22


class Palette:
    """Colour, dash pattern and marker of each series, the same in every figure.

    Ten series besides ours differ in colour; further ones repeat a colour with other dashes.
    """

    def __init__(self, names: Sequence[str]) -> None:
        others = [name for name in dict.fromkeys(names) if name != REFERENCE]
        self._index = {name: i for i, name in enumerate(others)}

    def colour(self, name: str) -> str:
        """Colour of a series; ours always has the same one."""
        return _OTHERS[self._index[name] % len(_OTHERS)] if name in self._index else OURS

    def marker(self, name: str) -> str:
        """Marker of a series."""
        return "o" if name not in self._index else _MARKERS[(self._index[name] + 1) % len(_MARKERS)]

    def line(self, name: str) -> dict[str, Any]:
        """Colour, dashes and width of a line; thinner where many series share a panel."""
        if name not in self._index:
            return {"color": OURS, "linestyle": "-", "linewidth": 2.4}
        index = self._index[name]
        pattern = _DASHES[(index + 1 + index // len(_OTHERS)) % len(_DASHES)]
        return {
            "color": self.colour(name),
            "linestyle": (0.0, pattern) if pattern else "-",
            "linewidth": 1.5 if len(self._index) <= FEW else 1.1,
        }

    def order(self, name: str) -> float:
        """Drawing order: ours lies above the others."""
        return 3.0 if name not in self._index else 2.0


@contextmanager
def styled() -> Iterator[None]:
    """Draw with this module's settings whatever the user's own are; they are restored after."""
    with style.context(["default", _STYLE]), warnings.catch_warnings():
        # A character that the font lacks is drawn as a box.
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        yield


def new_figure(width: float, height: float, pad: float = 3 / 72) -> Figure:
    """An empty figure of the given size in inches, laid out without overlaps.

    Args:
        width: in inches.
        height: in inches.
        pad: space around each panel in inches.
    """
    engine = ConstrainedLayoutEngine(w_pad=pad, h_pad=pad)
    figure = Figure(figsize=(width, height), layout=engine)
    FigureCanvasAgg(figure)
    return figure


def panels(figure: FigureBase, count: int, columns: int, **options: Any) -> list[Axes]:
    """The first ``count`` axes of a grid of that many columns; the others are hidden."""
    grid = figure.subplots(-(-count // columns), columns, squeeze=False, **options)
    flat: list[Axes] = [axes for line in grid for axes in line]
    for axes in flat[count:]:
        axes.set_visible(False)
    return flat[:count]


def method_title(axes: Axes, title: str, size: float = 9.0, *, ours: bool) -> None:
    """The name of a method above its panel, bold for ours."""
    axes.set_title(title, fontsize=size, fontweight="bold" if ours else "normal")


def bare(axes: Axes) -> None:
    """Take ticks, grid and frame away: a cell that holds an image or a number."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def missing(axes: Axes, *, square: bool = False) -> None:
    """Fill axes with grey and the word "missing"."""
    axes.set_facecolor(MISSING_FACE)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    if square:
        axes.set_box_aspect(1)
    axes.text(
        0.5, 0.5, "missing", transform=axes.transAxes, ha="center", va="center", fontsize=9,
        color=MISSING_TEXT,
    )  # fmt: skip


def nothing() -> Figure:
    """A figure of which nothing has run yet: it says "missing"."""
    figure = new_figure(4.0, 2.0)
    missing(figure.subplots())
    return figure


def outlined(axes: Axes, x: float, y: float, text: str, edge: float, **options: Any) -> None:
    """White text with a black edge, readable on any image."""
    label = axes.text(x, y, text, color="white", **options)
    label.set_path_effects([patheffects.withStroke(linewidth=edge, foreground="black")])


def save(figure: Figure, path: Path, dpi: int, *, phantoms: bool = False) -> None:
    """Write a PNG file whose bytes depend on nothing but the figure.

    Args:
        figure: as :func:`new_figure` made it.
        path: of the file.
        dpi: resolution.
        phantoms: whether a line above the figure, and the file's title, say that its data are
            generated.
    """
    _say_phantoms(figure, phantoms)
    metadata = {"Software": None, **({"Title": PHANTOMS} if phantoms else {})}
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=dpi, format="png", facecolor="white", metadata=metadata)


def _say_phantoms(figure: Figure, phantoms: bool) -> None:
    """Make room for one more line above everything, and write it."""
    engine = figure.get_layout_engine()
    if not phantoms or not isinstance(engine, ConstrainedLayoutEngine):
        return
    width, height = figure.get_size_inches()
    share = _STRIP / (height + _STRIP)
    figure.set_size_inches(width, height + _STRIP)
    engine.set(rect=(0, 0, 1, 1 - share))
    figure.text(
        0.5, 1 - share / 2, PHANTOMS, ha="center", va="center", fontsize=8, fontweight="bold",
        color=WARNING,
    )  # fmt: skip
