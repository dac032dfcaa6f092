"""One look for all figures: fonts, a colour-blind safe palette, deterministic PNG files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from voxseq.files import atomic_path
from voxseq.report.study import REFERENCE

#: Okabe and Ito's palette without black and yellow, which is too light on white.
_OURS = "#D55E00"
_OTHERS = ("#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#555555", "#8C6D31", "#5E4FA2")
_DASHES: tuple[tuple[float, ...], ...] = ((), (4, 1.5), (1, 1.2), (5, 1.5, 1, 1.5))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h")
#: Colours of the foreground classes 1, 2, … of a segmentation.
CLASS_COLOURS = ("#E69F00", "#56B4E9", "#CC79A7", "#009E73", "#D55E00", "#F0E442")
MISSING_FACE = "#EEEEEE"
MISSING_TEXT = "#666666"
_RC: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 8.0,
    "axes.titlesize": 9.0,
    "axes.labelsize": 8.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "xtick.labelsize": 7.0,
    "ytick.labelsize": 7.0,
    "legend.fontsize": 8.0,
    "legend.frameon": False,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "image.interpolation": "nearest",
}


class Look:
    """Colour, dash pattern and marker of each series, the same in every figure."""

    def __init__(self, names: Sequence[str]) -> None:
        others = [name for name in dict.fromkeys(names) if name != REFERENCE]
        self._index = {name: i for i, name in enumerate(others)}

    def colour(self, name: str) -> str:
        """Colour of a series; ours always has the same one."""
        if name not in self._index:
            return _OURS
        return _OTHERS[self._index[name] % len(_OTHERS)]

    def dashes(self, name: str) -> Literal["-"] | tuple[float, tuple[float, ...]]:
        """Line style of a series."""
        if name not in self._index:
            return "-"
        pattern = _DASHES[(self._index[name] + 1) % len(_DASHES)]
        return (0.0, pattern) if pattern else "-"

    def marker(self, name: str) -> str:
        """Marker of a series."""
        return "o" if name not in self._index else _MARKERS[(self._index[name] + 1) % len(_MARKERS)]

    def width(self, name: str) -> float:
        """Line width in points."""
        return 1.5 if name in self._index else 2.2


@contextmanager
def styled() -> Iterator[None]:
    """Draw with this module's settings whatever the user's own are; they are restored after."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_RC)
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of the given size in inches, laid out without overlaps."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: Path, dpi: int) -> None:
    """Write a PNG file whose bytes depend on nothing but the figure."""
    with atomic_path(path) as temporary:
        figure.savefig(
            temporary, dpi=dpi, format="png", facecolor="white", metadata={"Software": None}
        )
