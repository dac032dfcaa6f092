"""What all configuration models share: frozen, and strict about unknown keys."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

#: No count, size or seed here is larger; more is a slip of the hand.
LARGEST = 2**31 - 1


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


#: For tuples whose values become names of runs.
Distinct = AfterValidator(_distinct)
_Number = BeforeValidator(_no_bool)
Positive = Annotated[int, _Number, Field(gt=0, le=LARGEST)]
NonNegative = Annotated[int, _Number, Field(ge=0, le=LARGEST)]
Fraction = Annotated[float, _Number, Field(gt=0.0, le=1.0)]
Probability = Annotated[float, _Number, Field(ge=0.0, le=1.0)]
PositiveFloat = Annotated[float, _Number, Field(gt=0.0)]
NonNegativeFloat = Annotated[float, _Number, Field(ge=0.0)]
#: Decay of a moving average.
Momentum = Annotated[float, _Number, Field(ge=0.0, lt=1.0)]
#: Three numbers along the voxel axes (x, y, z), the last one varying fastest in memory.
Shape3 = tuple[Positive, Positive, Positive]
Spacing3 = tuple[PositiveFloat, PositiveFloat, PositiveFloat]
#: Names become folder names, table rows and wildcards: plain characters only.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_]*$", max_length=64)]


class Model(BaseModel):
    """Base of every configuration model."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=False, allow_inf_nan=False, validate_default=True
    )
