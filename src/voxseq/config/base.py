"""Base of all configuration models: frozen, and strict about unknown keys."""

from __future__ import annotations

import math
import struct
import unicodedata
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

#: No count, size or seed here is larger; more is a slip of the hand.
LARGEST = 2**31 - 1
#: Voxels along one axis, and of a whole box: four gigabytes in single precision.
LARGEST_AXIS, LARGEST_BOX = 4096, 2**30
LARGEST_WIDTH, LARGEST_DEPTH, LARGEST_MACHINE, LARGEST_QUANTITY = 2**17, 1024, 4096, 10**7
#: Single precision holds every whole number up to there.
LARGEST_INTENSITY = 2**24
#: These limits are far from all honest values; the reference does not list them.
SLIPS = frozenset(
    {
        *(LARGEST, LARGEST_AXIS, LARGEST_WIDTH, LARGEST_DEPTH, LARGEST_MACHINE),
        *(LARGEST_QUANTITY, LARGEST_INTENSITY, -LARGEST_INTENSITY),
    }
)


def _no_bool(value: Any) -> Any:
    """Refuse true and false, which would count as 1 and 0."""
    if isinstance(value, bool):
        raise ValueError("expected a number, not true or false")
    return value


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    repeated = sorted({str(v) for v in values if values.count(v) > 1})
    if repeated:
        raise ValueError(f"{', '.join(repeated)} occurs more than once; expected distinct values")
    return values


def _single(value: float) -> float:
    """Refuse what single precision, in which all is computed, holds as infinite or as 0."""
    try:
        (held,) = struct.unpack("f", struct.pack("f", value))
    except OverflowError:
        held = math.inf
    if math.isinf(held) or (value and not held):
        raise ValueError("expected a number that single precision holds, 1e-45 to 3.4e38")
    return value


def _bounded_box(shape: tuple[int, int, int]) -> tuple[int, int, int]:
    if math.prod(shape) > LARGEST_BOX:
        raise ValueError(f"{math.prod(shape)} voxels; expected at most {LARGEST_BOX}")
    return shape


def fault_of(text: str) -> str:
    """Problem of a text, which becomes a line of tables, files and logs; empty: nothing.

    Control characters, line and paragraph separators break the line; a lone surrogate has no
    encoding.
    """
    if text.isprintable():
        return ""
    for character in text:
        if unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}:
            kind = "lone surrogate" if character > "\ud7ff" else "control character"
            return f"the {kind} U+{ord(character):04X} stands in it; expected printable text"
    return ""


def _title(text: str) -> str:
    if not text.strip():
        raise ValueError("expected a text that is not blank")
    found = fault_of(text)
    if found:
        raise ValueError(found)
    return text


#: For tuples whose values become names of runs.
Distinct = AfterValidator(_distinct)
_Number = BeforeValidator(_no_bool)
_Single = AfterValidator(_single)
Positive = Annotated[int, _Number, Field(gt=0, le=LARGEST)]
NonNegative = Annotated[int, _Number, Field(ge=0, le=LARGEST)]
#: Channels of a layer, blocks of a network, cores of a machine, images or places that are drawn.
Channels = Annotated[int, _Number, Field(gt=0, le=LARGEST_WIDTH)]
Depth = Annotated[int, _Number, Field(gt=0, le=LARGEST_DEPTH)]
Cores = Annotated[int, _Number, Field(gt=0, le=LARGEST_MACHINE)]
Quantity = Annotated[int, _Number, Field(gt=0, le=LARGEST_QUANTITY)]
Fraction = Annotated[float, _Number, Field(gt=0.0, le=1.0)]
Probability = Annotated[float, _Number, Field(ge=0.0, le=1.0)]
PositiveFloat = Annotated[float, _Number, Field(gt=0.0), _Single]
NonNegativeFloat = Annotated[float, _Number, Field(ge=0.0), _Single]
#: Standard deviations, weights of a mean and other numbers of everyday size.
Moderate = Annotated[float, _Number, Field(gt=0.0, ge=1e-6, le=1e6)]
#: Divides cosines or logits of a softmax.
Temperature = Annotated[float, _Number, Field(ge=1e-3, le=100.0)]
#: Decay of a moving average.
Momentum = Annotated[float, _Number, Field(ge=0.0, lt=1.0)]
#: Three numbers along the voxel axes (x, y, z), the last one varying fastest in memory.
Axis = Annotated[int, _Number, Field(gt=0, le=LARGEST_AXIS)]
Shape3 = Annotated[tuple[Axis, Axis, Axis], AfterValidator(_bounded_box)]
Millimetres = Annotated[float, _Number, Field(ge=0.01, le=1000.0)]
Spacing3 = tuple[Millimetres, Millimetres, Millimetres]
#: Names become folder names, table rows and wildcards: plain characters only.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_]*$", max_length=64)]

#: Printed in tables, figures and pages; one line.
Title = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_title)]


class Model(BaseModel):
    """Base of every configuration model."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=False,
        allow_inf_nan=False,
        validate_default=True,
        # A text below a field describes it: docs/configuration.md is made of these.
        use_attribute_docstrings=True,
    )
