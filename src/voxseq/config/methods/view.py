"""Types of the settings that describe random views."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

from voxseq.config.base import Fraction


def _ordered(scale: tuple[float, float]) -> tuple[float, float]:
    if scale[0] > scale[1]:
        raise ValueError(f"{list(scale)}: expected the smallest share first")
    return scale


#: Smallest and largest share of a volume that a view covers, of its voxels or of its sides.
CropScale = Annotated[tuple[Fraction, Fraction], AfterValidator(_ordered)]
