"""Errors that a user can act on."""

from __future__ import annotations


class VoxseqError(Exception):
    """What went wrong, where, and what to do next.

    Args:
        what: the file or key concerned and the reason, in one sentence.
        hint: the next step for the user; empty when ``what`` already says it.
    """

    def __init__(self, what: str, hint: str = "") -> None:
        self.what = what
        self.hint = hint
        super().__init__(f"{what}\n  next: {hint}" if hint else what)


class ConfigError(VoxseqError):
    """A configuration that names an unknown key or an impossible value."""


class DataError(VoxseqError):
    """An input file that cannot be used as it is."""


class IntegrityError(VoxseqError):
    """An artefact that is incomplete or not what its record says."""


class Interrupted(Exception):  # noqa: N818 - a request, not an error
    """The run was asked to stop; its checkpoint is written."""


class TrainingError(VoxseqError):
    """A training run that cannot go on, such as a non-finite loss."""
