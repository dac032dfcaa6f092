"""The slices of one test case side by side in one picture, which a page shows one at a time."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from voxseq.config.data import PHANTOMS
from voxseq.report.figures.drawing import ALPHA, ENDS, class_colour, grey_range, scale_length
from voxseq.report.figures.style import WARNING
from voxseq.report.slices import Slices, Strip, window_of

#: Pixels of the side of a panel, between panels and frames, of the text, and of a line of it.
PANEL, GAP = 192, 4
_TEXT, _LINE = 11, 15
_QUALITY = 70
_WHITE = (255, 255, 255)
Pixels = NDArray[np.uint8]


def make_strip(item: Slices, *, phantoms: bool) -> Strip:
    """Draw the slices of a case; the same slices give the same bytes.

    A frame has the image and, of a segmentation, the image again with the predicted classes filled
    and the true ones outlined in white; both are cropped to what is labelled in any slice.

    Args:
        item: the slices.
        phantoms: whether a line above each frame says that the data are generated.
    """
    is_mask = item.truth.ndim == 3
    if is_mask:
        marked = np.any((item.truth > 0) | (item.prediction > 0), axis=2)
        item = item.part(window_of(marked))
    width = (2 if is_mask else 1) * (PANEL + GAP) - GAP
    head = _head(width) if phantoms else None
    top = 0 if head is None else head.height
    whole = Image.new("RGB", (item.count * (width + GAP) - GAP, top + PANEL), _WHITE)
    limits = grey_range(item.image)
    for index in range(item.count):
        left = index * (width + GAP)
        if head is not None:
            whole.paste(head, (left, 0))
        image = _grey(item, index, limits)
        whole.paste(_panel(image, item, index, sides=True), (left, top))
        if is_mask:
            filled = _filled(image, item, index)
            whole.paste(_panel(filled, item, index, sides=False), (left + PANEL + GAP, top))
    drawn = io.BytesIO()
    whole.save(drawn, format="WEBP", quality=_QUALITY, method=4)
    return Strip(drawn.getvalue(), item, width, whole.width, whole.height)


def _size(item: Slices) -> tuple[int, int]:
    """Width and height in pixels of a slice in a panel, in proportion to its millimetres."""
    sides = [n * mm for n, mm in zip(item.image.shape[:2], item.spacing[:2], strict=True)]
    width, height = (max(1, round(PANEL * side / max(sides))) for side in sides)
    return width, height


def _upright(plane: NDArray[np.generic], item: Slices) -> NDArray[np.generic]:
    """A slice (X, Y) as rows from the top: y upwards, the patient's right on the left."""
    turned = plane.T[::-1]
    return turned[:, ::-1] if item.oriented else turned


def _grey(item: Slices, index: int, limits: tuple[float, float]) -> Pixels:
    """The image in grey, (height, width, 3)."""
    low, high = limits
    shares = np.clip((np.nan_to_num(item.image[..., index]) - low) / (high - low), 0.0, 1.0)
    pixels = np.ascontiguousarray(_upright(shares, item) * 255).astype(np.uint8)
    resized = Image.fromarray(pixels).resize(_size(item), Image.Resampling.BILINEAR)
    return np.asarray(resized.convert("RGB"))


def _filled(image: Pixels, item: Slices, index: int) -> Pixels:
    """The image with the predicted classes filled and the borders of the true ones in white."""
    drawn = image.astype(np.float64)
    guess, truth = (_classes(a[..., index], item) for a in (item.prediction, item.truth))
    for label in (int(label) for label in np.unique(guess[guess > 0])):
        colour = 255 * np.array(to_rgb(class_colour(label)))
        inside = guess == label
        drawn[inside] = (1 - ALPHA) * drawn[inside] + ALPHA * colour
        drawn[_border(inside)] = colour
    for label in np.unique(truth[truth > 0]):
        drawn[_border(truth == label)] = _WHITE
    return drawn.round().astype(np.uint8)


def _classes(plane: NDArray[np.int64], item: Slices) -> Pixels:
    pixels = np.ascontiguousarray(_upright(plane, item)).astype(np.uint8)
    return np.asarray(Image.fromarray(pixels).resize(_size(item), Image.Resampling.NEAREST))


def _border(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels of a mask with a neighbour outside; the edge of the picture is no border."""
    padded = np.pad(inside, 1, mode="edge")
    around = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return inside & ~around


def _panel(pixels: Pixels, item: Slices, index: int, *, sides: bool) -> Image.Image:
    """A square with the slice in its middle; with sides, scale bar and number on the first one."""
    panel = Image.new("RGB", (PANEL, PANEL))
    height, width = pixels.shape[:2]
    panel.paste(Image.fromarray(pixels), ((PANEL - width) // 2, (PANEL - height) // 2))
    if not sides:
        return panel
    draw = ImageDraw.Draw(panel)
    if item.oriented:
        _write(draw, (8, PANEL // 2), ENDS[0][1], "mm")
        _write(draw, (PANEL - 8, PANEL // 2), ENDS[0][0], "mm")
        _write(draw, (PANEL // 2, 9), ENDS[1][1], "mm")
    millimetres = item.image.shape[0] * item.spacing[0]
    length = scale_length(millimetres)
    bar = round(width * length / millimetres)
    draw.rectangle((6, PANEL - 8, 6 + bar, PANEL - 6), fill=_WHITE, outline=(0, 0, 0))
    _write(draw, (6, PANEL - 11), f"{length} mm", "lb")
    _write(draw, (PANEL - 5, PANEL - 5), f"{item.numbers[index] + 1} of {item.depth}", "rb")
    return panel


def _write(draw: ImageDraw.ImageDraw, place: tuple[int, int], text: str, anchor: str) -> None:
    """White letters with a black edge, readable on any image."""
    black = (0, 0, 0)
    draw.text(place, text, _WHITE, _font(), anchor, stroke_width=1, stroke_fill=black)


def _head(width: int) -> Image.Image:
    """The line that says what the data are, in as many lines as it takes."""
    lines, font = [""], _font()
    for word in PHANTOMS.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    head = Image.new("RGB", (width, len(lines) * _LINE + 2), _WHITE)
    draw = ImageDraw.Draw(head)
    for index, line in enumerate(lines):
        draw.text((width // 2, index * _LINE + 1), line, font=font, fill=WARNING, anchor="ma")
    return head


@cache
def _font() -> ImageFont.FreeTypeFont:
    """The font of the figures, which comes with Matplotlib."""
    return ImageFont.truetype(Path(mpl.get_data_path()) / "fonts/ttf/DejaVuSans.ttf", _TEXT)
