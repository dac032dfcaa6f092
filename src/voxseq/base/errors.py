"""Errors that a user can act on."""

from __future__ import annotations


class VoxseqError(Exception):
    """An error that names its place, its reason and the next step.

    Args:
        what: the file or key concerned and the reason, in one sentence.
        hint: the next step for the user; empty when ``what`` already says it.
    """

    def __init__(self, what: str, hint: str = "") -> None:
        self.what = what
        self.hint = hint
        super().__init__(f"{what}\n  next: {hint}" if hint else what)

    def __reduce__(self) -> tuple[type[VoxseqError], tuple[str, str]]:
        # Worker processes hand their errors over; the default would lose the hint.
        return type(self), (self.what, self.hint)


class ConfigError(VoxseqError):
    """A configuration that names an unknown key or an impossible value."""


class DataError(VoxseqError):
    """An input file that cannot be used as it is."""


class IntegrityError(VoxseqError):
    """An artefact that is incomplete or differs from its record."""


class ResourceError(VoxseqError):
    """A disk, memory or device that is exhausted or fails; the same work can succeed later."""


class Interrupted(BaseException):
    """The run was asked to stop; the same command resumes it.

    Not an ``Exception``: readers of files turn whatever their libraries raise into "this file is
    damaged", which a request to stop must not become.
    """


class TrainingError(VoxseqError):
    """A training that cannot continue, such as after a non-finite loss."""


class NotFiniteError(TrainingError):
    """Weights, or values computed with them, became infinite or undefined (NaN).

    The training loop adds the step and the last good checkpoint.
    """

    def __init__(self, what: str, hint: str = "lower the learning rate") -> None:
        super().__init__(what, hint)
