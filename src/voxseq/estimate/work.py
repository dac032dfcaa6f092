"""Cost of one item in a method or network."""

from __future__ import annotations

from dataclasses import astuple, dataclass

#: Bytes of a weight.
FLOAT = 4


@dataclass(frozen=True)
class Work:
    """Cost of one item; matrix products and convolutions apart, for they run at different rates.

    Attributes:
        matrix: operations of matrix products in a forward pass.
        convolution: those of convolutions.
        matrix_training: operations of matrix products, forward and backward.
        convolution_training: those of convolutions.
        parameters: weights.
        trained: those of them that learn.
        plain: share of the steps that could not be counted, for which one pass of the encoder
            stands.
    """

    matrix: float
    convolution: float
    matrix_training: float
    convolution_training: float
    parameters: float
    trained: float
    plain: float = 0.0

    @property
    def checkpoint(self) -> float:
        """Bytes of the weights, the best weights, and two moments of those that are trained."""
        return 2 * FLOAT * (self.parameters + self.trained)

    def mixed(self, other: Work, share: float) -> Work:
        """The mean of both, in which ``other`` has a share of the steps."""
        pairs = zip(astuple(self), astuple(other), strict=True)
        return Work(*(one + share * (another - one) for one, another in pairs))
