"""Cost of one item in a method or network, and memory of a step."""

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


@dataclass(frozen=True)
class StepMemory:
    """Bytes on the device of one process that trains; those of an optimiser not included.

    Attributes:
        weights: parameters and buffers, teachers included.
        inputs: of one item, as the method gets it: its views.
        training: the most during a step: weights, gradients, batch and what is kept between.
        validation: the most during a validation.
        takes_sequences: whether an item is a patch sequence; otherwise a single image.
        is_counted: False for a method that does not run without values; then all is 0.
    """

    weights: float = 0.0
    inputs: float = 0.0
    training: float = 0.0
    validation: float = 0.0
    takes_sequences: bool = False
    is_counted: bool = True

    @property
    def peak(self) -> float:
        """The most of both."""
        return max(self.training, self.validation)
