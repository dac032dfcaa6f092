"""CT or MRI: what names and intensities tell."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

#: First words of the names of channels in a dataset.json.
_CT = re.compile(r"ct(?![a-z])")
_MRI = re.compile(r"(?:mri?|t[12][a-z*]{0,3}|flair|adc|dwi|pd|swi|lge)(?![a-z])")
#: Hounsfield units: the least of any scanner's padding, and the most of lung and of air in bowels.
_PADDING, _AIR = -3100.0, -500.0
#: Half of the voxels of a body are fat, water or soft tissue.
_TISSUE = (-200.0, 200.0)
#: The darkest voxels where there is no air: fat and noise. Whole numbers are believed sooner than
#: others, which an MRI without its mean has as well.
_DARK, _DARK_OF_WHOLE = (-250.0, -60.0), (_AIR, -10.0)
#: The brightest voxels of soft tissue are above the first, and those of metal below the second.
_BRIGHT = (50.0, 4000.0)


def of_names(names: Sequence[str]) -> Literal["CT", "MRI", ""]:
    """Modality that the name of the first channel tells; "" where it tells none.

    Args:
        names: of the channels, as a dataset.json has them.
    """
    first = names[0].strip().casefold() if names else ""
    if _CT.match(first):
        return "CT"
    return "MRI" if _MRI.match(first) else ""


def looks_like_ct(quantiles: Sequence[float], *, is_whole: bool) -> bool:
    """Whether intensities look like Hounsfield units.

    Either there is air, far below zero; or there is none, as in a crop of soft tissue, but half of
    the voxels have the values of tissue, and the darkest those of fat or of noise. MRI has no
    negative values, or few and small ones; standardised, its values are below ten.

    Args:
        quantiles: 0.5, 50 and 99.5 % of an image.
        is_whole: whether all are whole numbers, as scanners store them.
    """
    low, middle, high = quantiles
    if not (low >= _PADDING and _BRIGHT[0] <= high <= _BRIGHT[1]):
        return False
    if low <= _AIR:
        return True
    least, most = _DARK_OF_WHOLE if is_whole else _DARK
    return least <= low <= most and _TISSUE[0] <= middle <= _TISSUE[1]
